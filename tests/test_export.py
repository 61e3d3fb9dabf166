"""Exports: what each form holds, that what is written can be read again, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_audit import real_annotation

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.studies.exports.export import FORMS, export
from radscribe.studies.exports.images import FolderNames
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import RenderedView, Study, View

forms = pytest.mark.parametrize("form", FORMS)
tables = pytest.mark.parametrize(("form", "table"), [("csv", "studies.csv"), ("jsonl", "studies.jsonl")])


def exported(store, out, form, **options):
    return export(PreparedStore(store), out, form, progress=False, **options)


def drawn(seed, projection="unknown", **more):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 32), np.uint8)
    return View(lambda: RenderedView(pixels, **more), projection)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A store with every part that a study can have, and texts and ids that are hard to write."""
    out = tmp_path_factory.mktemp("stores") / "odd"
    mask = {"Edema": np.ones((40, 32), bool)}
    studies = [
        Study(
            "a/b c",
            "p;1",
            (drawn(0, "frontal", masks=mask, window=(0.0, 4095.0)), drawn(1, "lateral")),
            "train",
            {"findings": 'Clear, "very"; clear.\n\n- no\ttube\r\nÅ ≥ 3', "comparison": "None."},
            {"Edema": "present", "No Finding": "absent"},
        ),
        Study(
            "A/B C",
            "p;1",
            (drawn(2),),
            "train",
            {"impression": "[Normal].", "indication": "None", "findings": "Line\rreturn."},
            {"Edema": "uncertain", "No Finding": "not_mentioned"},
            prior="a/b c",
        ),
        Study("[1]", "2", (drawn(3, "lateral"),), "val", {"impression": "=1+1"}),
        Study("CXR7_IM-1", "7", (drawn(4), drawn(5)), "test", {"findings": "Fine."}),
    ]
    prepare(studies, out, short_side=32, workers=1, progress=False)
    return out


def content(store):
    """Everything of a store that an export as a table is to keep."""
    return {
        study.id: (
            study.patient_id,
            study.split,
            dict(study.sections),
            {name: state for name, state in study.observations.items() if state != "not_mentioned"},
            [(view.projection, view.source().pixels.tobytes(), view.source.shape) for view in study.views],
        )
        for study in PreparedStore(store).studies()
    }


def again(source, out, like, **options):
    side = PreparedStore(like).manifest["short_side"]
    summary = prepare(source, out, short_side=side, workers=1, progress=False, **options)
    assert not summary.store.rejected
    return out


# --- tables ------------------------------------------------------------------------------------------------


@tables
def test_a_table_is_read_again_with_the_same_content(form, table, store, odd, tmp_path):
    for number, original in enumerate((store, odd)):
        out = tmp_path / str(number)
        summary = exported(original, out, form)
        assert summary.files == [out / table]
        reread = again(out / table, tmp_path / f"again{number}", original)
        assert list(content(reread)) == list(content(original))
        assert content(reread) == content(original)


@tables
def test_a_table_without_images_names_those_of_the_source(form, table, tmp_path):
    folder = tmp_path / "source"
    for number in range(3):
        (folder / f"p{number}").mkdir(parents=True)
        for view in ("frontal", "lateral"):
            pixels = np.random.default_rng(number).integers(0, 256, (50, 40), np.uint8)
            Image.fromarray(pixels).save(folder / f"p{number}" / f"{view}.png")
        (folder / f"p{number}.txt").write_text(f"Report {number}.")
    prepare(folder, tmp_path / "store", short_side=32, workers=1, progress=False)
    summary = exported(tmp_path / "store", tmp_path / "out", form, images=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [table]
    assert summary.images_in == folder
    reread = again(tmp_path / "out" / table, tmp_path / "again", tmp_path / "store", images=folder)
    assert content(reread) == content(tmp_path / "store")


def test_a_csv_has_one_row_for_each_study(odd, tmp_path):
    exported(odd, tmp_path / "out", "csv")
    with (tmp_path / "out/studies.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["study"] for row in rows] == ["a/b c", "A/B C", "[1]", "CXR7_IM-1"]
    assert json.loads(rows[0]["images"]) == ["images/a-b-c/0.png", "images/a-b-c/1.png"]
    assert json.loads(rows[0]["view"]) == ["frontal", "lateral"]
    assert json.loads(rows[1]["images"]) == ["images/A-B-C-2/0.png"]
    assert rows[1]["prior"] == "a/b c"
    assert [name for name in OBSERVATIONS if name in rows[0]] == ["No Finding", "Edema"]
    for row in rows:
        for name in json.loads(row["images"]):
            assert min(Image.open(tmp_path / "out" / name).size) == 32


def test_a_cell_that_only_begins_with_a_bracket_is_a_name(tmp_path):
    for name in ("[1.png", '["a"].png'):
        Image.new("L", (32, 32), 7).save(tmp_path / name)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "study"), ("[1.png", "a"), ('["a"].png', "b")])
    summary = prepare(tmp_path / "t.csv", tmp_path / "store", short_side=16, workers=1, progress=False)
    assert sum(summary.store.studies.values()) == 2


# --- R2Gen -------------------------------------------------------------------------------------------------


def annotation(folder, suffix="png"):
    """An annotation of both forms, with its images."""

    def entry(identifier, split, count, **more):
        paths = [f"{identifier}/{number}.{suffix}" for number in range(count)]
        return {
            "id": identifier,
            **more,
            "report": f"Report of {identifier}.",
            "image_path": paths,
            "split": split,
        }

    entries = {
        "train": [
            entry("CXR1_IM-0001-4001", "train", 2),
            entry("02aa804e-bde0afdd", "train", 1, subject_id=10000032),
            entry("lone", "train", 1),
        ],
        "val": [entry("CXR3_IM-1384", "val", 1)],
        "test": [entry("CXR4_IM-2050", "test", 2), entry("7f", "test", 1, subject_id="010")],
    }
    for each in (each for split in entries.values() for each in split):
        for number, name in enumerate(each["image_path"]):
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 30), 50 * number, np.uint8)).save(path)
    (folder / "annotation.json").write_text(json.dumps(entries))
    return entries


def by_id(annotation):
    return {split: {entry["id"]: entry for entry in entries} for split, entries in annotation.items()}


@pytest.mark.parametrize("images", [True, False], ids=["images", "no images"])
@pytest.mark.parametrize("source", ["", "annotation.json"], ids=["folder", "file"])
def test_the_annotation_is_the_one_it_was_prepared_from(images, source, tmp_path):
    entries = annotation(tmp_path)
    prepare(tmp_path / source, tmp_path / "store", short_side=16, workers=1, progress=False)
    summary = exported(tmp_path / "store", tmp_path / "out", "r2gen", images=images)
    written = json.loads((tmp_path / "out/annotation.json").read_text())
    assert by_id(written) == by_id(entries)
    assert not summary.left_out
    root = tmp_path / "out/images" if images else summary.images_in
    for each in (each for split in written.values() for each in split):
        assert all((root / name).is_file() for name in each["image_path"])


def test_images_of_an_annotation_that_lie_elsewhere(tmp_path):
    entries = annotation(tmp_path / "original", "jpg")
    (tmp_path / "original/images").rename(tmp_path / "elsewhere")
    options = {"short_side": 16, "workers": 1, "progress": False}
    prepare(tmp_path / "original", tmp_path / "store", images=tmp_path / "elsewhere", **options)
    exported(tmp_path / "store", tmp_path / "out", "r2gen", images=False)
    assert by_id(json.loads((tmp_path / "out/annotation.json").read_text())) == by_id(entries)


def test_an_exported_annotation_is_prepared_again(odd, tmp_path, capsys):
    main(["export", str(odd), "--format", "r2gen", "--out", str(tmp_path / "out"), "--no_progress"])
    printed = capsys.readouterr()
    assert "rejected [1]: no findings" in printed.err
    assert "left out   1 studies: no findings" in printed.out
    assert "impression of 1 studies" in printed.out
    assert "observations of 2 studies" in printed.out
    assert "priors of 1 studies" in printed.out
    assert "masks of 1 images, windows of 1 images" in printed.out
    reread = again(tmp_path / "out", tmp_path / "again", odd)
    original = {name: study for name, study in content(odd).items() if name != "[1]"}
    for name, study in content(reread).items():
        assert study[:2] == original[name][:2]
        assert study[2] == {"findings": original[name][2]["findings"]}
        assert [pixels for _, pixels, _ in study[4]] == [pixels for _, pixels, _ in original[name][4]]
    assert len(content(reread)) == len(original)


@pytest.mark.slow
def test_the_annotation_of_the_benchmark(shared, tmp_path):
    original = real_annotation(shared, tmp_path)
    prepare(tmp_path, tmp_path / "store", short_side=16, workers=1, progress=False)
    summary = exported(tmp_path / "store", tmp_path / "out", "r2gen")
    written = json.loads((tmp_path / "out/annotation.json").read_text())
    assert by_id(written) == by_id(original)
    assert summary.studies == 2955


# --- ReXrank and Hugging Face ------------------------------------------------------------------------------


def test_rexrank(odd, tmp_path):
    summary = exported(odd, tmp_path / "out", "rexrank")
    assert [path.name for path in summary.files] == [
        f"rexrank_{split}.json" for split in ("train", "val", "test")
    ]
    train, val, test = (json.loads(path.read_text()) for path in summary.files)
    assert list(train) == ["a/b c", "A/B C"]
    assert train["a/b c"] | {"section_findings": "", "report": ""} == {
        "key_image_path": "a-b-c/0.png",
        "image_path": ["a-b-c/0.png", "a-b-c/1.png"],
        "report": "",
        "section_findings": "",
        "section_impression": None,
        "split": "train",
        "subject_id": "p;1",
        "frontal_lateral": ["Frontal", "Lateral"],
        "context": "Indication: None. Comparison: None.",
    }
    assert val["[1]"]["report"] == "Findings: None. Impression: =1+1"
    assert val["[1]"]["section_findings"] is None
    assert test["CXR7_IM-1"]["report"] == "Findings: Fine. Impression: None."
    for entries in (train, val, test):
        for entry in entries.values():
            assert all((tmp_path / "out/images" / name).is_file() for name in entry["image_path"])


def test_a_lateral_first_view_is_not_the_key_image(tmp_path):
    views = (drawn(0, "lateral"), drawn(1, "frontal"))
    prepare([Study("s", "p", views, "test")], tmp_path / "store", short_side=32, workers=1, progress=False)
    exported(tmp_path / "store", tmp_path / "out", "rexrank")
    (entry,) = json.loads((tmp_path / "out/rexrank_test.json").read_text()).values()
    assert entry["key_image_path"] == entry["image_path"][entry["frontal_lateral"].index("Frontal")]


def test_hugging_face(odd, tmp_path):
    summary = exported(odd, tmp_path / "out", "hf")
    folders = ["train", "validation", "test"]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in summary.files] == [
        f"{folder}/metadata.jsonl" for folder in folders
    ]
    rows = {
        folder: [json.loads(line) for line in (tmp_path / "out" / folder / "metadata.jsonl").open()]
        for folder in folders
    }
    assert [row["study"] for row in rows["train"]] == ["a/b c", "A/B C"]
    # The columns and their types must be the same in all splits.
    types = {tuple((name, type(cell)) for name, cell in row.items()) for of in rows.values() for row in of}
    assert len(types) == 1
    for folder, of_split in rows.items():
        for row in of_split:
            assert all((tmp_path / "out" / folder / name).is_file() for name in row["file_names"])
    assert rows["validation"][0]["impression"] == "=1+1"
    assert rows["validation"][0]["findings"] == ""


def test_hugging_face_by_its_own_library(odd, tmp_path):
    datasets = pytest.importorskip("datasets")
    exported(odd, tmp_path / "out", "hf")
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")
    )
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 2, "validation": 1, "test": 1}
    original = content(odd)
    for row in (row for split in loaded.values() for row in split):
        _, _, sections, _, views = original[row["study"]]
        assert row["findings"] == sections.get("findings", "")
        assert [np.asarray(picture).tobytes() for picture in row["images"]] == [
            pixels for _, pixels, _ in views
        ]


# --- what is refused ---------------------------------------------------------------------------------------


@forms
def test_a_folder_with_files_is_left_as_it_is(form, store, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RadScribeError, match="is not empty"):
        exported(store, tmp_path, form)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@forms
def test_drawn_images_have_no_files_to_name(form, store, tmp_path):
    with pytest.raises(RadScribeError, match="Leave out --no_images"):
        exported(store, tmp_path / "out", form, images=False)
    assert not list((tmp_path / "out").glob("*"))


def test_ids_that_are_no_text(tmp_path):
    name = "s\udcff"
    prepare(
        [Study(name, name, (drawn(0),), "test")], tmp_path / "store", short_side=32, workers=1, progress=False
    )
    with pytest.raises(RadScribeError, match="bytes that are no text"):
        exported(tmp_path / "store", tmp_path / "csv", "csv")
    exported(tmp_path / "store", tmp_path / "jsonl", "jsonl")
    reread = again(tmp_path / "jsonl/studies.jsonl", tmp_path / "again", tmp_path / "store")
    assert content(reread) == content(tmp_path / "store")


def test_folder_names():
    names = FolderNames()
    ids = ["CXR1_IM-0001", "a/b", "a-b", "A/B", "../..", "ä", "x" * 200, "x" * 201]
    found = [names.of(Study(name, name, ())) for name in ids]
    assert found[:4] == ["CXR1_IM-0001", "a-b", "a-b-2", "A-B-3"]
    assert found[4:6] == ["study", "study-2"]
    assert len({name.lower() for name in found}) == len(ids)
    assert all(len(name) < 90 and Path(name).name == name for name in found)
