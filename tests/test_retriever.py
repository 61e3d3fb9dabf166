"""The retriever: what it learns and leaves, whose reports it never finds, its baseline, its faults."""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretraining_faults import change_fields, cut_weights, pretrain_until_killed
from safetensors.torch import load_file, save_file
from tiny import tiny_store

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.result import Evaluation
from radscribe.layers.contrastive import ImageTextMatching
from radscribe.parts.part import content_hash as part_hash
from radscribe.parts.report_index import IndexedStudy, ReportIndex
from radscribe.parts.retriever import FILES, Retriever
from radscribe.parts.retriever_towers import TextEncoder
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.retriever import RetrieverTask, by_chance, measures, own_ranks
from radscribe.pretraining.settings import RetrieverSettings
from radscribe.runs.retrieved_reports import RETRIEVED
from radscribe.studies.store import PreparedStore
from radscribe.studies.store_files import MANIFEST, SPLITS_FILE, STUDIES, content_hash
from radscribe.studies.study import View
from radscribe.vision.transforms import evaluation_view, stack_views

TINY = {"short_side": 64, "crop": 56, "width": 32, "maximum_length": 48, "batch": 8, "learning_rate": 3e-3}


def settings_of(**options):
    return RetrieverSettings(**TINY | {"epochs": 1, "threads": 1, "device": "cpu"} | options)


def train_tiny(store, out, *, resume=False, **options):
    return pretrain(
        RetrieverTask, PreparedStore(store), out, settings_of(**options), resume=resume, progress=False
    )


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """The directory of a retriever that learnt the train split of `store`."""
    out = tmp_path_factory.mktemp("parts") / "retriever"
    train_tiny(store, out, epochs=2)
    return out


@pytest.fixture(scope="module")
def retriever(trained):
    return Retriever.load(trained, "cpu")


def changed_store(store, out, change) -> Path:
    """A copy of a store, with its lines of studies changed in place."""
    shutil.copytree(store, out)
    records = [json.loads(line) for line in (out / STUDIES).read_text().splitlines()]
    change(records)
    (out / STUDIES).write_text("".join(json.dumps(record) + "\n" for record in records))
    return resealed(out)


def resealed(out) -> Path:
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["content_hash"] = content_hash(out)
    (out / MANIFEST).write_text(json.dumps(manifest))
    return out


def without_val(store, out) -> Path:
    """A copy of a store whose val studies are of the test split."""
    shutil.copytree(store, out)
    rows = (out / SPLITS_FILE).read_text()
    (out / SPLITS_FILE).write_text(rows.replace(",val", ",test"))
    return resealed(out)


def own_reports(retriever, studies) -> list[str]:
    return [study.report(retriever.config.section) for study in studies]


def batch_of(retriever, studies):
    """Views and mask of studies, prepared by the retriever's own transform."""
    transform = retriever.transform
    return stack_views(
        [[evaluation_view(view.source().pixels, transform) for view in study.views] for study in studies]
    )


# --- training ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_which_report_belongs_to_which_images(store, tmp_path):
    """Of the studies that it saw. Without a val split no early epoch is taken for the best one."""
    train_tiny(without_val(store, tmp_path / "store"), tmp_path / "part", epochs=15)
    retriever = Retriever.load(tmp_path / "part", "cpu")
    studies = PreparedStore(store).studies("train")
    ranks = [
        [report.text for report in reports].index(own) + 1
        for reports, own in zip(
            retriever.retrieve(studies, len(retriever.index), exclude_own=False),
            own_reports(retriever, studies),
            strict=True,
        )
    ]
    name = "mean reciprocal rank"
    assert measures(np.array(ranks))[name] > 2.5 * by_chance(len(retriever.index))[name]


def test_the_figures_are_those_of_the_part(retriever, facts, store):
    studies = PreparedStore(store).studies("val")
    reports = list(dict.fromkeys(own_reports(retriever, studies)))
    assert facts["distinct_reports"]["val"] == len(reports)
    texts = retriever.towers.vectors_of_texts(reports)
    similarity = retriever.towers.vectors_of_views(*batch_of(retriever, studies)) @ texts.T
    ranks = own_ranks(similarity, [reports.index(own) for own in own_reports(retriever, studies)])
    measured = facts["validation"]["retriever"]
    assert measured["mean reciprocal rank"] == pytest.approx(np.mean(1 / ranks))
    assert measured["recall@1"] == pytest.approx(np.mean(ranks == 1))
    assert facts["validation"]["chance"]["recall@1"] == pytest.approx(1 / len(reports))
    assert facts["validation"]["chance"]["recall@10"] == 1
    best = max(1 - epoch["1 - mean reciprocal rank"] for epoch in facts["history"])
    assert measured["mean reciprocal rank"] == pytest.approx(best)


def test_equal_similarities_gain_nothing():
    assert own_ranks(torch.zeros(3, 5), [0, 2, 4]).tolist() == [5, 5, 5]
    assert own_ranks(torch.tensor([[0.1, 0.9, 0.5]]), [2]).tolist() == [2]


def test_studies_with_the_same_text_share_it():
    torch.manual_seed(0)
    images, texts = torch.randn(4, 8), torch.randn(4, 8)
    texts[1] = texts[0]
    same = torch.eye(4, dtype=torch.bool)
    matching = ImageTextMatching()
    assert matching(images, texts, same).item() == pytest.approx(matching(images, texts).item())
    same[0, 1] = same[1, 0] = True
    shared = matching(images, texts, same)
    assert shared.item() == pytest.approx(matching(images[[1, 0, 2, 3]], texts, same).item())


def test_the_temperature_is_clamped():
    matching = ImageTextMatching(lowest_temperature=0.01)
    with torch.no_grad():
        matching.log_scale.fill_(9.0)
    loss = matching(torch.randn(4, 8), torch.randn(4, 8))
    assert matching.log_scale.exp().item() == pytest.approx(100)
    loss.backward()
    assert matching.log_scale.grad is not None


def test_the_directory_says_what_it_contains(trained, store):
    assert {path.name for path in trained.iterdir()} == {
        *FILES,
        "part.json",
        "pretraining.json",
        "MODEL_CARD.md",
    }
    card = (trained / "MODEL_CARD.md").read_text()
    assert "research use, not for clinical diagnosis" in card
    assert "where these may not be passed on, neither may it" in card
    assert "| chance |" in card
    train = PreparedStore(store).studies("train")
    lines = [json.loads(line) for line in (trained / "index.jsonl").read_text().splitlines()]
    assert {study["id"] for line in lines for study in line["studies"]} == {study.id for study in train}


def test_the_test_split_is_never_asked_for(store, tmp_path, monkeypatch):
    asked = []
    studies = PreparedStore.studies
    monkeypatch.setattr(
        PreparedStore, "studies", lambda self, split="all": asked.append(split) or studies(self, split)
    )
    train_tiny(store, tmp_path / "part")
    assert set(asked) == {"train", "val"}


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(store, trained, tmp_path):
    """Killed in its second epoch."""
    pretrain_until_killed("retriever", store, tmp_path / "killed", settings_of(epochs=2), step=6)
    train_tiny(store, tmp_path / "killed", epochs=2, resume=True)
    for name in FILES:
        assert (trained / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert {path.name for path in trained.iterdir()} == {
        path.name for path in (tmp_path / "killed").iterdir()
    }


def test_without_a_val_split_the_last_weights_are_kept(store, tmp_path):
    facts = train_tiny(without_val(store, tmp_path / "store"), tmp_path / "part", epochs=2)
    assert facts["validation"] is None
    assert facts["epochs"] == 2
    assert "no study of the val split has a report" in RetrieverTask.summary(facts)
    assert "no study of the val split has a report" in (tmp_path / "part" / "MODEL_CARD.md").read_text()
    (found,) = Retriever.load(tmp_path / "part", "cpu").retrieve(PreparedStore(store).studies("test")[:1])
    assert len(found) == 1


def test_a_published_text_encoder_is_taken_with_its_tokenizer(store, tmp_path):
    from transformers import PreTrainedTokenizerFast

    texts = [study.report("findings") for study in PreparedStore(store).studies("train")]
    small = TextEncoder.from_scratch(texts, 40)
    small.model.save_pretrained(tmp_path / "encoder")
    PreTrainedTokenizerFast(tokenizer_object=small.tokenizer, pad_token="<pad>").save_pretrained(
        tmp_path / "encoder"
    )
    train_tiny(store, tmp_path / "part", text_encoder=str(tmp_path / "encoder"))
    shutil.rmtree(tmp_path / "encoder")
    found = Retriever.load(tmp_path / "part", "cpu")
    assert found.towers.maximum_length == 40  # the encoder has no more positions
    assert all(found.retrieve(PreparedStore(store).studies("val")))
    assert found.config.maximum_length == 40


def test_models_that_number_positions_from_the_padding_have_fewer_for_a_text():
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=20,
        pad_token_id=1,
    )
    model = RobertaModel(config).eval()
    longest = TextEncoder(model, None).longest(100)
    assert longest == 18
    model(input_ids=torch.full((1, longest), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 7))


# --- retrieving --------------------------------------------------------------------------------------------


def test_a_study_finds_neither_its_own_report_nor_one_of_its_patient(retriever, store):
    studies = PreparedStore(store).studies("train")
    patients = {study.id: study.patient_id for study in studies}
    assert len(set(patients.values())) < len(patients), "no patient has two studies, so nothing is tested"
    found = retriever.retrieve(studies, len(retriever.index))
    for study, reports in zip(studies, found, strict=True):
        assert reports
        assert study.patient_id not in {patients[report.study_id] for report in reports}
    owned = retriever.retrieve(studies, len(retriever.index), exclude_own=False)
    assert all(len(reports) == len(retriever.index) for reports in owned)


def test_a_study_is_known_by_its_pixels(retriever, store, tmp_path):
    """Whoever gives an image of a training study as a file does not get its own report either."""
    study = next(study for study in PreparedStore(store).studies("train") if len(study.views) == 1)
    Image.fromarray(study.views[0].source().pixels).save(tmp_path / "image.png")
    given = replace(study, id="image", patient_id="image", views=(View(tmp_path / "image.png"),))
    everything = len(retriever.index)
    for exclude_own in (True, False):
        (found,) = retriever.retrieve([given], everything, exclude_own=exclude_own)
        assert (study.id in {report.study_id for report in found}) != exclude_own


def test_a_batch_of_views_finds_what_its_studies_find(retriever, store):
    """In a batch a patient is known by pixels, as a study of other ids is."""
    opened = PreparedStore(store)
    patients = {study.id: study.patient_id for study in opened.studies("train")}
    for studies in (opened.studies("train"), opened.studies("val")):
        renamed = [replace(study, id="elsewhere", patient_id="elsewhere") for study in studies]
        found = retriever.most_similar(*batch_of(retriever, studies))
        assert found == [reports[0] for reports in retriever.retrieve(renamed)]
        for study, report in zip(studies, found, strict=True):
            assert patients[report.study_id] != study.patient_id


def test_in_a_batch_each_study_has_its_own_exclusion(retriever, store):
    """What a study finds is excluded by its id; what the next one finds is not."""
    opened = PreparedStore(store)
    studies = opened.studies("val")
    batch = batch_of(retriever, studies)
    first = retriever.most_similar(*batch)
    assert retriever.most_similar(*batch, exclude=["elsewhere"] * len(studies)) == first
    some = [report.study_id if number % 2 else None for number, report in enumerate(first)]
    for name, before, after in zip(some, first, retriever.most_similar(*batch, exclude=some), strict=True):
        assert (after == before) == (name is None)
        assert after.similarity <= before.similarity
        assert after.text == opened.study(after.study_id).report("findings")
        patients = {opened.study(report.study_id).patient_id for report in (before, after)}
        assert len(patients) == (1 if name is None else 2)


def test_with_one_patient_there_is_nothing_to_find(retriever, store):
    train = PreparedStore(store).studies("train")
    index = ReportIndex(
        [[IndexedStudy(study.id, "one", "text", [])] for study in train[:2]], retriever.index.embeddings[:2]
    )
    alone = Retriever(retriever.towers, retriever.config, index)
    assert alone.retrieve(train[:1]) == [[]]
    assert alone.most_similar(*batch_of(retriever, train[:2]), exclude=[train[0].id, None]) == [
        None,
        alone.retrieve(train[1:2], exclude_own=False)[0][0],
    ]


def test_reports_are_never_read_of_those_who_ask(retriever, store):
    studies = PreparedStore(store).studies("test")
    blind = [replace(study, sections={}, observations={}) for study in studies]
    assert retriever.retrieve(studies, 3) == retriever.retrieve(blind, 3)


def test_identical_texts_are_one_and_come_from_another_patient(store, tmp_path):
    def change(records):
        for record in records:
            if record["id"] in chosen:
                record["sections"]["findings"] = "The heart is normal ."

    train = PreparedStore(store).studies("train")
    first, second = train[0], next(study for study in train if study.patient_id != train[0].patient_id)
    chosen = {first.id, second.id}
    other = changed_store(store, tmp_path / "store", change)
    facts = train_tiny(other, tmp_path / "part")
    found = Retriever.load(tmp_path / "part", "cpu")
    assert facts["distinct_reports"]["train"] == len(found.index)
    shared = [studies for studies in found.index.reports if len(studies) > 1]
    assert chosen in [{study.id for study in studies} for studies in shared]
    prepared = PreparedStore(other)
    reports = found.retrieve([prepared.study(first.id), prepared.study(second.id)], len(found.index))
    of_first, of_second = ({report.study_id for report in its} for its in reports)
    assert second.id in of_first
    assert first.id not in of_first
    assert first.id in of_second
    assert second.id not in of_second


def index_of_vectors(vectors) -> ReportIndex:
    """An index with a report for each vector; patient `p0` has the first two, `p1` the next two."""
    reports = [[IndexedStudy(f"s{row}", f"p{row // 2}", f"text {row}", [])] for row in range(len(vectors))]
    return ReportIndex(reports, vectors)


def test_the_search_is_exact():
    generator = torch.Generator().manual_seed(0)
    vectors, queries = (
        torch.nn.functional.normalize(torch.randn(number, 16, generator=generator), dim=-1)
        for number in (50, 7)
    )
    index = index_of_vectors(vectors)
    barred = [{f"p{query}"} for query in range(7)]
    found = index.search(queries, 5, barred)
    by_hand = (queries @ vectors.T).masked_fill(
        torch.tensor([[row // 2 == query for row in range(50)] for query in range(7)]), -2
    )
    expected = by_hand.topk(5)
    assert [[report.study_id for report in reports] for reports in found] == [
        [f"s{row}" for row in rows] for rows in expected.indices.tolist()
    ]
    values = torch.tensor([[report.similarity for report in reports] for reports in found])
    assert torch.allclose(values, expected.values, atol=1e-6)
    # There are fewer than asked for if no more may be given.
    assert [len(reports) for reports in index.search(queries, 100, barred)] == [48] * 7


@pytest.mark.parametrize("rows", [4, 3001])
def test_of_equal_reports_the_first_in_the_store_comes_first(rows):
    """Whatever the order in which sums are rounded in a part of the matrix."""
    generator = torch.Generator().manual_seed(0)
    vector, other = (
        torch.nn.functional.normalize(torch.randn(256, generator=generator), dim=-1) for _ in range(2)
    )
    vectors = vector.repeat(rows, 1)
    vectors[1] = other
    index = index_of_vectors(vectors)
    for queries in (vector.repeat(1, 1), vector.repeat(5, 1)):
        for reports in index.search(queries, 3, [set()] * len(queries)):
            assert [report.study_id for report in reports] == ["s0", "s2", "s3"]
            assert {report.similarity for report in reports} == {1.0}
    (reports,) = index.search(vector.repeat(1, 1), 1, [{"p0"}])
    assert reports[0].study_id == "s2"


def test_the_command_prints_the_most_similar_reports(trained, store, capsys):
    words = ["retrieve", str(trained), str(store), "--split", "test", "--count", "2", "--device", "cpu"]
    main(words)
    printed = capsys.readouterr()
    tests = PreparedStore(store).studies("test")
    assert all(f"{study.id}\n" in printed.out for study in tests)
    assert len(printed.out.splitlines()) == 3 * len(tests) + 1
    assert "research use, not for clinical diagnosis" in printed.out
    assert "the reports that it finds say nothing about real ones" in printed.err
    main([*words, "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [study.id for study in tests]
    assert all(len(line["reports"]) == 2 for line in lines)
    assert set(lines[0]["reports"][0]) == {"study_id", "text", "similarity"}
    assert lines[0]["notice"] == "research use, not for clinical diagnosis"
    assert lines[0]["trained_on"] == "synthetic images (phantom)"


def test_the_command_finds_own_reports_if_asked(trained, store, capsys):
    found = []
    for options in ([], ["--own"]):
        main(
            ["retrieve", str(trained), str(store), "--split", "train", "--count", "1000", "--json", *options]
        )
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        found.append([line["id"] in {report["study_id"] for report in line["reports"]} for line in lines])
    assert not any(found[0])
    assert sum(found[1]) > len(found[1]) / 2  # the others have the text of an earlier study


def test_a_broken_image_costs_its_study_only(trained, tmp_path, capsys):
    Image.radial_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    main(["retrieve", str(trained), str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--count", "1"])
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{tmp_path.as_posix()}/a\n")
    assert f"rejected {tmp_path.as_posix()}/b" in printed.err
    with pytest.raises(SystemExit, match="2"):
        main(["retrieve", str(trained), str(tmp_path / "b.png")])


def test_a_store_of_another_short_side_is_refused(retriever, trained, tmp_path, capsys):
    other = tiny_store(tmp_path / "store", studies=10, short_side=72)
    studies = PreparedStore(other).studies()
    with pytest.raises(RadScribeError, match="short side of 72 pixels, not of 64"):
        retriever.retrieve(studies)
    with pytest.raises(SystemExit, match="2"):
        main(["retrieve", str(trained), str(other)])
    printed = capsys.readouterr()
    assert "short side of 72 pixels, not of 64" in printed.err
    assert "rejected" not in printed.err  # the store is wrong, and not one of its studies
    words = files_to_score(other, tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--store", str(other), "--retriever", str(trained)])
    assert "short side of 72 pixels, not of 64" in capsys.readouterr().err


def test_a_study_without_a_view_is_refused(retriever, store):
    study = replace(PreparedStore(store).studies("test")[0], views=())
    with pytest.raises(RadScribeError, match=f"study '{study.id}' has no view"):
        retriever.retrieve([study])


# --- the part ----------------------------------------------------------------------------------------------


def test_it_is_loaded_as_it_was_written(trained, retriever):
    weights = load_file(trained / "weights.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in retriever.towers.state_dict().items())
    texts = [studies[0].report for studies in retriever.index.reports]
    assert torch.allclose(retriever.towers.vectors_of_texts(texts), retriever.index.embeddings, atol=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_another_file_is_refused(trained, tmp_path, name):
    part = shutil.copytree(trained, tmp_path / "part")
    content = bytearray((part / name).read_bytes())
    content[len(content) // 2] ^= 1
    (part / name).write_bytes(content)
    with pytest.raises(RadScribeError, match=rf"{name}' is not the file that was written"):
        Retriever.load(part)
    (part / name).unlink()
    with pytest.raises(RadScribeError, match=name):
        Retriever.load(part)


def test_no_part_and_another_part_are_refused(trained, tmp_path):
    with pytest.raises(RadScribeError, match="there is no retriever in") as error:
        Retriever.load(tmp_path)
    assert "radscribe pretrain retriever" in str(error.value)
    part = shutil.copytree(trained, tmp_path / "part")
    change_fields("part.json", kind="view-classifier")(part)
    with pytest.raises(RadScribeError, match="is of kind view-classifier"):
        Retriever.load(part)


def rehash(path):
    """Write `part.json` with the hashes of what is there."""
    part = json.loads((path / "part.json").read_text())
    files = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in part["files"]}
    change_fields("part.json", files=files, content_hash=part_hash("retriever", files))(path)


def without_a_weight(path):
    weights = load_file(path / "weights.safetensors")
    del weights["image_projection.bias"]
    save_file(weights, path / "weights.safetensors")


def without_a_report(path):
    lines = (path / "index.jsonl").read_text().splitlines(keepends=True)
    (path / "index.jsonl").write_text("".join(lines[1:]))


def without_a_patient(path):
    content = (path / "index.jsonl").read_text()
    (path / "index.jsonl").write_text(content.replace('"patient_id"', '"person"'))


change = partial(change_fields, "retriever.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, "weights.safetensors' cannot be read"),
        (without_a_weight, "missing image_projection.bias"),
        (lambda path: (path / "retriever.json").write_text("{"), "retriever.json' is damaged"),
        (change(transform={"crops": 3}), "retriever.json' is damaged .*crops"),
        (change(normalisation=[]), "retriever.json' is damaged"),
        (change(width="64"), "retriever.json' is damaged .*'width' needs"),
        (change(cleaning="thorough"), "retriever.json' is damaged .*'cleaning' needs"),
        (change(text_model={"model_type": "nothing"}), "retriever.json' is damaged"),
        (change(width=16), "does not fit"),
        (change(architecture="test_byobnet"), "does not fit"),
        (lambda path: (path / "tokenizer.json").write_text("{}"), "tokenizer.json' is damaged"),
        (without_a_report, "its vectors have the shape"),
        (without_a_patient, "the index in .* cannot be read .*person"),
    ],
    ids=[
        "cut",
        "weight",
        "json",
        "transform",
        "normalisation",
        "text",
        "cleaning",
        "model",
        "width",
        "architecture",
        "tokenizer",
        "report",
        "patient",
    ],
)
def test_a_damaged_retriever_with_fitting_hashes(trained, tmp_path, damage, message):
    path = shutil.copytree(trained, tmp_path / "part")
    damage(path)
    rehash(path)
    with pytest.raises(RadScribeError, match=message):
        Retriever.load(path, "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "test_vit"}, r"takes views of \d+ pixels only, and not of 56.*--crop"),
        ({"learning_rate": 1e30}, "the loss is .* at step"),
        ({"section": "comparison"}, "no two studies that differ in their section 'comparison'.*--section"),
    ],
    ids=["size", "loss", "section"],
)
def test_what_cannot_be_trained_leaves_nothing(store, tmp_path, options, message):
    with pytest.raises(RadScribeError, match=message):
        train_tiny(store, tmp_path / "part", epochs=2, **options)
    assert not (tmp_path / "part").exists()


# --- the baseline ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_is_scored_beside_what_the_retriever_finds(finished_run, trained, retriever, store, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    before = Evaluation.read(run / "metrics.json", "")
    main(["evaluate", str(run), "--retriever", str(trained), "--no_progress"])
    after = Evaluation.read(run / "metrics.json", "")
    assert list(after.rows) == [*before.rows, RETRIEVED]
    # METEOR is added where there is Java.
    assert before.rows["system"].scores.items() <= after.rows["system"].scores.items()
    assert RETRIEVED in after.differences
    assert after.provenance.retriever == retriever.part.content_hash
    for name in ("metrics.txt", "summary.txt", "MODEL_CARD.md"):
        assert RETRIEVED in (run / name).read_text()
    main(["page", str(run), "--out", str(tmp_path / "page.html"), "--studies", "1", "--no_progress"])
    assert RETRIEVED in (tmp_path / "page.html").read_text()
    # Scores with fewer rows leave those be.
    main(["evaluate", str(run), "--no_progress"])
    assert Evaluation.read(run / "metrics.json", "").provenance == after.provenance


def files_to_score(store, folder, split="test") -> list[str]:
    """Options that score the reference reports of a split against themselves."""
    lines = "".join(
        json.dumps({"id": study.id, "text": study.report("findings")}) + "\n"
        for study in PreparedStore(store).studies(split)
    )
    (folder / "texts.jsonl").write_text(lines)
    texts = str(folder / "texts.jsonl")
    words = f"evaluate --predictions {texts} --references {texts} --protocol clean_full"
    return f"{words} --json --no_meteor --resamples 10".split()


def test_files_are_scored_beside_what_the_retriever_finds(trained, store, tmp_path, capsys):
    words = files_to_score(store, tmp_path)
    main([*words, "--store", str(store), "--retriever", str(trained)])
    printed = capsys.readouterr()
    scores = json.loads(printed.out)["scores"]
    assert set(scores) == {"system", "constant report", "nearest neighbour", RETRIEVED}
    assert scores[RETRIEVED]["BLEU-4"]["value"] < scores["system"]["BLEU-4"]["value"]
    assert "warning" not in printed.err
    with pytest.raises(SystemExit):
        main([*words, "--retriever", str(trained)])
    assert "--retriever has no effect without --store" in capsys.readouterr().err


def test_a_retriever_of_another_store_is_used_with_a_warning(trained, store, tmp_path, capsys):
    """The reports of another data set are a fair question."""

    def change(records):
        records[-1]["observations"] = {}

    other = changed_store(store, tmp_path / "store", change)
    main([*files_to_score(store, tmp_path), "--store", str(other), "--retriever", str(trained)])
    printed = capsys.readouterr()
    assert RETRIEVED in json.loads(printed.out)["scores"]
    assert "was made from another store" in printed.err


def test_a_retriever_that_learnt_from_what_is_scored_is_refused(trained, store, tmp_path, capsys):
    """The same studies in other splits, and then under other names too."""
    other = shutil.copytree(store, tmp_path / "store")
    rows = (other / SPLITS_FILE).read_text().replace(",test", ",x").replace(",train", ",test")
    (other / SPLITS_FILE).write_text(rows.replace(",x", ",train"))
    resealed(other)
    with pytest.raises(SystemExit):
        main([*files_to_score(other, tmp_path), "--store", str(other), "--retriever", str(trained)])
    assert "learnt from" in capsys.readouterr().err
    manifest = json.loads((other / MANIFEST).read_text())
    (other / MANIFEST).write_text(json.dumps(manifest | {"source": "elsewhere"}))
    with pytest.raises(SystemExit):
        main([*files_to_score(other, tmp_path), "--store", str(other), "--retriever", str(trained)])
    assert "learnt from" in capsys.readouterr().err


def test_a_retriever_of_another_section_is_refused(store, tmp_path, capsys):
    train_tiny(store, tmp_path / "part", section="findings + impression")
    with pytest.raises(SystemExit):
        main([*files_to_score(store, tmp_path), "--store", str(store), "--retriever", str(tmp_path / "part")])
    assert "finds the section 'findings + impression', and 'findings' is scored" in capsys.readouterr().err


@pytest.mark.slow
def test_unseen_reports_are_found(tmp_path):
    """In the val split, of which it saw no study."""
    store = tiny_store(tmp_path / "store", studies=400)
    facts = train_tiny(
        store, tmp_path / "part", epochs=6, batch=16, width=64, maximum_length=128, learning_rate=3e-3
    )
    found, chance = facts["validation"]["retriever"], facts["validation"]["chance"]
    assert found["recall@1"] > 4 * chance["recall@1"]
    assert found["recall@10"] > 1.8 * chance["recall@10"]
    assert found["mean reciprocal rank"] > 2 * chance["mean reciprocal rank"]
