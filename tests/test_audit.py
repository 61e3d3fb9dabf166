"""Audits: what they find in stores with known leaks, what they count, and what they say."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_near_duplicates import as_jpeg, pictures, shingles, similarity
from tiny_language_models import tiny_language_model

from radscribe.audit.audit import audit
from radscribe.audit.images import NEAR
from radscribe.audit.report_texts import CUTS, ODD_REPORTS, odd_reports
from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import RenderedView, Study, View
from radscribe.text.language_model_files import LanguageModelFiles
from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
from radscribe.text.protocols import PROTOCOLS

# --- odd reports -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "kinds"),
    [
        ("", ["empty"]),
        (" \n", ["empty"]),
        (". - ,", ["no words"]),
        ("xxxx. 3", ["no words"]),
        ("Normal chest.", ["short"]),
        ("Normal chest today.", []),
        ("El corazón es de tamaño normal. Los pulmones están limpios.", ["not English"]),
        ("The lungs are clear. The heart is normal. The lungs are  clear.", ["repeats itself"]),
        ("Clear. The heart is normal. Clear.", []),
    ],
)
def test_odd_reports(report, kinds):
    others = ["The heart is enlarged.", "There is no effusion."]
    found = odd_reports([others[0], report, others[1]])
    assert found.keys() == ODD_REPORTS.keys()
    assert {kind: places for kind, places in found.items() if places} == {kind: [1] for kind in kinds}


def test_repeated_reports():
    found = odd_reports(["No acute disease.", "Clear lungs today.", "No  acute\ndisease."])
    assert found["repeated"] == [0, 2]


# --- stores ------------------------------------------------------------------------------------------------


def drawn(pixels):
    return View(lambda: RenderedView(pixels), "frontal")


def study(name, split, report, *views, patient="", **more):
    return Study(name, patient or f"patient of {name}", views, split, {"findings": report}, **more)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """A store with one leak of each kind but of ids of studies, which one store cannot have twice."""
    one, two, three, four, five, six, seven = pictures(7)
    words = [f"word{number}" for number in range(40)]
    other = [*words[:20], "else", *words[21:]]
    out = tmp_path_factory.mktemp("stores") / "leaky"
    studies = [
        study("a", "train", "The lungs are clear.", drawn(one), patient="p1"),
        study("b", "train", " ".join(words), drawn(two), drawn(three)),
        study("c", "val", "The heart is large.", drawn(four), patient="p1"),
        study("d", "val", "The  lungs are clear.", drawn(five)),
        study("e", "test", " ".join(other), drawn(six), drawn(three)),
        study("f", "test", "There is an effusion.", drawn(as_jpeg(two, 50))),
        study("g", "test", "", drawn(seven)),
    ]
    prepare(studies, out, workers=1, progress=False)
    return out


@pytest.fixture(scope="module")
def audited(leaky):
    return audit([leaky], progress=False)


def test_leaks_are_found_the_worst_first(leaky, audited):
    found = [
        (
            leak.kind,
            leak.later.split,
            leak.earlier.split,
            leak.total,
            [each.to_json() for each in leak.matches],
        )
        for leak in audited.leaks
    ]
    one, two = ({"study": study, "earlier_study": earlier} for study, earlier in (("c", "a"), ("d", "a")))
    identical, near = (leak.matches[0] for leak in audited.leaks[1:3])
    assert [
        ("patients", "val", "train", 2, [one | {"patient": "p1"}]),
        ("identical images", "test", "train", 4, [identical.to_json()]),
        ("nearly identical images", "test", "train", 4, [near.to_json()]),
        ("verbatim reports", "val", "train", 2, [two]),
        (
            "near-verbatim reports",
            "test",
            "train",
            2,
            [{"study": "e", "earlier_study": "b", "similarity": 0.854}],
        ),
    ] == found
    assert (identical.study, identical.earlier_study) == ("e", "b")
    assert (near.study, near.earlier_study) == ("f", "b")
    assert near.distance <= NEAR


def test_the_similarity_is_that_of_the_definition(audited):
    words = [f"word{number}" for number in range(40)]
    other = [*words[:20], "else", *words[21:]]
    (match,) = audited.leaks[-1].matches
    assert match.similarity == round(similarity(shingles(" ".join(words)), shingles(" ".join(other))), 3)


def test_what_a_split_has(audited):
    train, val, test = (split.contents for split in audited.splits)
    assert [(each.studies, each.patients, each.images, each.reports) for each in (train, val, test)] == [
        (2, 2, 3, 2),
        (2, 2, 2, 2),
        (3, 3, 4, 2),
    ]
    assert (train.words.mean, train.words.median, train.words.shortest, train.words.longest) == (
        22,
        22,
        4,
        40,
    )
    assert train.projections == {"frontal": 3, "lateral": 0, "unknown": 0}
    assert test.images_per_study == {1: 2, 2: 1}
    # No source labels this store, so reports are labelled by rules.
    assert {split.labels for split in audited.splits} == {"rules"}
    assert test.observations["Pleural Effusion"]["present"] == 1
    assert val.observations["Cardiomegaly"]["present"] == 1
    assert audited.splits[2].odd["empty"] == ["g"]


def test_observations_of_the_source(store):
    (train, *_) = audit([store], progress=False).splits
    assert train.labels == "source"
    studies = PreparedStore(store).studies("train")
    for name, counts in train.contents.observations.items():
        for state, count in counts.items():
            assert count == sum(each.observations.get(name) == state for each in studies)


def test_what_protocols_cut(tmp_path):
    rng = np.random.default_rng(3)
    reports = {59: "a " * 58 + "a", 60: "b " * 59 + "b", 99: "c " * 98 + "c", 100: "d " * 99 + "d"}
    studies = [
        study(f"s{count}", "train", text, drawn(rng.integers(0, 256, (32, 32), np.uint8)))
        for count, text in reports.items()
    ]
    prepare(studies, tmp_path / "store", short_side=32, workers=1, progress=False)
    (train,) = audit([tmp_path / "store"], progress=False).splits
    cut = dict(zip(map(str, CUTS), train.cut, strict=True))
    # The full stop that cleaning sets is a token too.
    assert cut["r2gen, iu_xray, 60"] == 1.0
    assert cut["r2gen, mimic_cxr, 100"] == 0.5
    assert cut["r2gengpt, iu_xray, 60"] is None
    assert (cut["clean_full"], cut["raw"]) == (0, 0)
    assert {rules.protocol for rules in CUTS} == set(PROTOCOLS)
    for rules in CUTS[:2]:
        rate = PROTOCOLS["r2gen"].truncation_rate(
            reports.values(), cleaning=rules.cleaning, maximum_length=rules.maximum_length
        )
        assert cut[str(rules)] == rate


# --- several stores, and the command -----------------------------------------------------------------------


def run(*words):
    """The exit code of `radscribe audit`."""
    try:
        main(["audit", *map(str, words), "--no_progress"])
    except SystemExit as end:
        return end.code
    return 0


def test_a_patient_in_two_splits_exits_with_1(leaky, tmp_path, capsys):
    assert run(leaky, "--json", tmp_path / "audit.json") == 1
    printed = capsys.readouterr()
    assert "1 of 2 patients of val in" in printed.err
    assert "such as 'p1'" in printed.err
    assert "splits by patient" in printed.err
    lines = printed.out.splitlines()
    assert lines[0] == f"AUDIT of {leaky}: findings"
    first = lines.index(next(line for line in lines if line.startswith("patients")))
    assert lines[first].endswith("val <- train: 1 of 2 patients (50.0%)")
    assert "patient p1: c and a" in lines[first + 1]
    assert "studies                  none" in lines
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content["leaks"][0]["kind"] == "patients"
    assert content["splits"][0]["studies"] == 2
    assert "diagnosis" in content["notice"]


def test_stores_are_compared_with_each_other(tmp_path, capsys):
    first, second, third = pictures(3)
    prepare(
        [
            study("a", "train", "The lungs are clear.", drawn(first), patient="7"),
            study("b", "test", "There is an effusion.", drawn(second), patient="8"),
        ],
        tmp_path / "one",
        workers=1,
        progress=False,
    )
    prepare(
        [
            study("a", "test", "The  lungs are clear.", drawn(first), patient="7"),
            study("c", "train", "The heart is large.", drawn(third), patient="9"),
        ],
        tmp_path / "two",
        workers=1,
        progress=False,
    )
    for alone in ("one", "two"):
        assert run(tmp_path / alone) == 0
    capsys.readouterr()
    assert run(tmp_path / "one", tmp_path / "two") == 1
    printed = capsys.readouterr().out
    assert "two test <- one train: 1 of 1 patients (100.0%)" in printed
    assert f"1 studies have one id in {tmp_path}/one and in {tmp_path}/two;\n  1 of them have" in printed
    found = audit([tmp_path / "one", tmp_path / "two"], progress=False)
    assert [leak.kind for leak in found.leaks] == [
        "patients",
        "studies",
        "identical images",
        "verbatim reports",
    ]
    assert {(Path(leak.later.store).name, leak.later.split) for leak in found.leaks} == {("two", "test")}
    # A split has no leak from the same split of another store, nor from a later one.
    assert run(tmp_path / "two", tmp_path / "one") == 1


def test_ids_that_stand_for_different_studies_in_two_stores(store, tmp_path, capsys):
    prepare("phantom", tmp_path / "other", studies=10, seed=1, short_side=64, workers=1, progress=False)
    assert run(store, tmp_path / "other") == 1
    printed = capsys.readouterr().out
    assert f"10 studies have one id in {store} and in {tmp_path}/other;\n  0 of them have" in printed
    assert "a leak of patients may be none" in printed


def test_what_a_language_model_reads(store):
    name = str(tiny_language_model())
    (train, *_) = audit([store], tokenizer=name, progress=False).splits
    reports = [study.report("findings") for study in PreparedStore(store).studies("train")]
    tokenizer = LanguageModelTokenizer(LanguageModelFiles.find(name, tokenizer_only=True))
    for rules, share in zip(CUTS[2:4], train.cut[2:4], strict=True):
        rates = {"cleaning": rules.cleaning, "maximum_length": rules.maximum_length}
        assert share == PROTOCOLS["r2gengpt"].truncation_rate(reports, tokenizer=tokenizer, **rates)
    assert train.cut[2] > 0


def test_a_store_without_leaks(store, capsys):
    assert run(store, "--section", "impression + findings") == 0
    printed = capsys.readouterr().out
    assert "patients                 none" in printed
    assert "research use" in printed


def test_the_same_store_twice(store):
    with pytest.raises(RadScribeError, match="is given twice"):
        audit([store, store / ".." / store.name], progress=False)


def real_annotation(shared, folder):
    """A copy of R2Gen's annotation of IU X-Ray beside pictures of a few pixels in place of its images."""
    rng = np.random.default_rng(0)
    text = (shared / "data/iu_xray/annotation.json").read_text()
    (folder / "annotation.json").write_text(text)
    for entry in (entry for split in json.loads(text).values() for entry in split):
        for name in entry["image_path"]:
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(path)
    return json.loads(text)


@pytest.mark.slow
def test_verbatim_reports_of_the_benchmark(shared, tmp_path):
    real_annotation(shared, tmp_path)
    prepare(tmp_path, tmp_path / "store", short_side=16, workers=1, progress=False)
    found = audit([tmp_path / "store"], progress=False)
    verbatim = {
        (leak.later.split, leak.earlier.split): (len(leak.matches), leak.total)
        for leak in found.leaks
        if leak.kind == "verbatim reports"
    }
    assert verbatim["test", "train"] == (274, 590)
    assert found.leaked_patients == []
    test = found.splits[2]
    # docs/protocols.md: 29 of 590 references lose words.
    assert test.cut[0] == pytest.approx(29 / 590)
