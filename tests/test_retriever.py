"""The retriever: that it learns, what it leaves, whose reports it never finds, its baseline, its faults."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import tiny_store

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.evaluation.result import Evaluation
from radscribe.interruption import InterruptionError
from radscribe.layers.contrastive import ImageTextMatching
from radscribe.parts.report_index import IndexedReport, IndexedStudy, ReportIndex
from radscribe.parts.retriever import FILES, Retriever
from radscribe.parts.retriever_towers import TextEncoder
from radscribe.pretraining.loop import pretrain
from radscribe.pretraining.retriever import RetrieverTask, own_ranks
from radscribe.pretraining.settings import RetrieverSettings
from radscribe.runs.retrieved_reports import RETRIEVED
from radscribe.studies.store import PreparedStore
from radscribe.studies.store_files import MANIFEST, SPLITS_FILE, STUDIES, content_hash
from radscribe.studies.study import View

TINY = {"architecture": "test_resnet", "image_size": 56, "width": 32, "maximum_length": 48, "batch": 8}


def train_tiny(store, out, *, resume=False, **options):
    usual = TINY | {"epochs": 1, "learning_rate": 3e-3, "threads": 1, "device": "cpu"}
    settings = RetrieverSettings(**usual | options)
    opened = store if isinstance(store, PreparedStore) else PreparedStore(store)
    return pretrain(RetrieverTask, opened, out, settings, resume=resume, progress=False)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """The directory of a retriever that learnt the train split of `store`."""
    out = tmp_path_factory.mktemp("parts") / "retriever"
    train_tiny(store, out, epochs=2)
    return out


@pytest.fixture(scope="module")
def retriever(trained):
    return Retriever.load(trained, "cpu")


@pytest.fixture(scope="module")
def facts(trained):
    return json.loads((trained / "pretraining.json").read_text())


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
    """The texts of the index that the studies have."""
    return [study.report(retriever.config.section) for study in studies]


# --- training ----------------------------------------------------------------------------------------------


def test_it_learns_which_report_belongs_to_which_images(store, tmp_path):
    """Of the studies that it saw; `test_unseen_reports_are_found` measures others.

    Without a val split no early epoch is taken for the best one.
    """
    train_tiny(without_val(store, tmp_path / "store"), tmp_path / "part", epochs=15)
    retriever = Retriever.load(tmp_path / "part", "cpu")
    studies = PreparedStore(store).studies("train")
    texts = retriever.retrieve(studies, len(retriever.index), exclude_own=False).texts
    ranks = [found.index(own) + 1 for found, own in zip(texts, own_reports(retriever, studies), strict=True)]
    chance = np.mean([1 / rank for rank in range(1, len(retriever.index) + 1)])
    assert np.mean([1 / rank for rank in ranks]) > 2.5 * chance


def test_the_figures_are_those_of_the_part(retriever, facts, store):
    studies = PreparedStore(store).studies("val")
    reports = list(dict.fromkeys(own_reports(retriever, studies)))
    assert facts["distinct_reports"]["val"] == len(reports)
    texts = retriever.towers.vectors_of_texts(reports)
    similarity = retriever.towers.vectors_of_studies(studies) @ texts.T
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
    assert "where those may not be passed on, neither may it" in card
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


def test_a_resumed_training_ends_with_the_same_part(store, tmp_path, monkeypatch):
    train_tiny(store, tmp_path / "whole", epochs=2)
    steps = iter(range(100))
    loss = RetrieverTask.loss

    def stopped(self, batch):
        if next(steps) == 5:
            raise InterruptionError("stopped", "go on")
        return loss(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(RetrieverTask, "loss", stopped)
        with pytest.raises(InterruptionError):
            train_tiny(store, tmp_path / "cut", epochs=2)
    assert (tmp_path / "cut" / "checkpoint.pt").is_file()
    train_tiny(store, tmp_path / "cut", epochs=2, resume=True)
    parts = [json.loads((tmp_path / name / "part.json").read_text()) for name in ("whole", "cut")]
    assert parts[0] == parts[1]


def test_without_a_val_split_the_last_weights_are_kept(store, tmp_path, capsys):
    facts = train_tiny(without_val(store, tmp_path / "store"), tmp_path / "part", epochs=2)
    assert facts["validation"] is None
    assert facts["epochs"] == 2
    assert "no study of the val split has a report" in RetrieverTask.summary(facts)
    assert "no study of the val split has a report" in (tmp_path / "part" / "MODEL_CARD.md").read_text()
    assert Retriever.load(tmp_path / "part", "cpu").retrieve(PreparedStore(store).studies("test")[:1]).ids[0]


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
    assert found.retrieve(PreparedStore(store).studies("val")).ids


# --- retrieving --------------------------------------------------------------------------------------------


def test_a_study_finds_neither_its_own_report_nor_one_of_its_patient(retriever, store):
    studies = PreparedStore(store).studies("train")
    patients = {study.id: study.patient_id for study in studies}
    assert len(set(patients.values())) < len(patients), "no patient has two studies, so nothing is tested"
    found = retriever.retrieve(studies, len(retriever.index))
    for study, ids in zip(studies, found.ids, strict=True):
        assert ids
        assert study.patient_id not in {patients[name] for name in ids}
    owned = retriever.retrieve(studies, len(retriever.index), exclude_own=False)
    assert all(len(ids) == len(retriever.index) for ids in owned.ids)


def test_a_study_is_known_by_its_pixels(retriever, store, tmp_path):
    """Whoever gives a training study's image as a file does not get its own report either."""
    study = next(study for study in PreparedStore(store).studies("train") if len(study.views) == 1)
    Image.fromarray(study.views[0].source().pixels).save(tmp_path / "image.png")
    given = replace(study, id="image", patient_id="image", views=(View(tmp_path / "image.png"),))
    everything = len(retriever.index)
    assert study.id not in retriever.retrieve([given], everything).ids[0]
    assert study.id in retriever.retrieve([given], everything, exclude_own=False).ids[0]


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
    other = PreparedStore(changed_store(store, tmp_path / "store", change))
    facts = train_tiny(other, tmp_path / "part")
    found = Retriever.load(tmp_path / "part", "cpu")
    assert facts["distinct_reports"]["train"] == len(found.index)
    shared = [report for report in found.index.reports if len(report.studies) > 1]
    assert chosen in [{study.id for study in report.studies} for report in shared]
    ids = found.retrieve([other.study(first.id), other.study(second.id)], len(found.index)).ids
    assert second.id in ids[0]
    assert first.id not in ids[0]
    assert first.id in ids[1]
    assert second.id not in ids[1]


def test_a_search_in_chunks_finds_the_same():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(50, 16, generator=generator), dim=-1)
    reports = [
        IndexedReport(str(row), [IndexedStudy(f"s{row}", f"p{row // 2}", f"text {row}", [])])
        for row in range(50)
    ]
    index = ReportIndex(reports, vectors)
    queries = torch.nn.functional.normalize(torch.randn(7, 16, generator=generator), dim=-1)
    without = [{f"p{number}"} for number in range(7)]
    whole = index.search(queries, 5, without)
    for chunk in (1, 3, 7, 49):
        found = index.search(queries, 5, without, chunk)
        assert [[row for row, _ in rows] for rows in found] == [[row for row, _ in rows] for rows in whole]
    by_hand = (queries @ vectors.T).masked_fill(
        torch.tensor([[row // 2 == query for row in range(50)] for query in range(7)]), -2
    )
    assert [[row for row, _ in rows] for rows in whole] == by_hand.topk(5).indices.tolist()
    # Fewer than asked for, where no more may be given.
    assert [len(rows) for rows in index.search(queries, 100, without)] == [48] * 7


def test_the_command_prints_the_nearest_reports(trained, store, capsys):
    main(["retrieve", str(trained), str(store), "--split", "test", "--count", "2", "--device", "cpu"])
    printed = capsys.readouterr().out
    tests = PreparedStore(store).studies("test")
    assert all(f"{study.id}\n" in printed for study in tests)
    assert len(printed.splitlines()) == 3 * len(tests) + 1
    assert "research use, not for clinical diagnosis" in printed
    main(["retrieve", str(trained), str(store), "--split", "test", "--count", "2", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [study.id for study in tests]
    assert all(len(line["reports"]) == 2 for line in lines)
    assert "research use, not for clinical diagnosis" in lines[0]["notice"]


def test_a_broken_image_costs_its_study_only(trained, tmp_path, capsys):
    Image.radial_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    main(["retrieve", str(trained), str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--count", "1"])
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{tmp_path.as_posix()}/a\n")
    assert "b.png" in printed.err


# --- the part ----------------------------------------------------------------------------------------------


def test_it_is_loaded_as_it_was_written(trained, retriever):
    weights = load_file(trained / "weights.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in retriever.towers.state_dict().items())
    texts = [report.studies[0].report for report in retriever.index.reports]
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
    values = json.loads((part / "part.json").read_text())
    (part / "part.json").write_text(json.dumps(values | {"kind": "view-classifier"}))
    with pytest.raises(RadScribeError, match="is of kind view-classifier"):
        Retriever.load(part)


# --- the baseline ------------------------------------------------------------------------------------------


def test_a_run_is_scored_beside_what_the_retriever_finds(finished_run, trained, retriever, store, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    before = Evaluation.read(run / "metrics.json", "")
    # METEOR is there where Java is, and without it the scores would not be all of those that are kept.
    main(["evaluate", str(run), "--retriever", str(trained), "--no_progress"])
    after = Evaluation.read(run / "metrics.json", "")
    assert list(after.rows) == [*before.rows, RETRIEVED]
    assert after.rows["system"].scores == before.rows["system"].scores
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
    """On 40 studies that it never saw, a ranking by chance has a recall@1 of .025."""
    store = tiny_store(tmp_path / "store", studies=400)
    facts = train_tiny(
        store, tmp_path / "part", epochs=12, batch=32, width=64, maximum_length=128, learning_rate=3e-3
    )
    found, chance = facts["validation"]["retriever"], facts["validation"]["chance"]
    assert found["recall@1"] > 4 * chance["recall@1"]
    assert found["recall@10"] > 1.8 * chance["recall@10"]
    assert found["mean reciprocal rank"] > 2 * chance["mean reciprocal rank"]
