"""The reader of CheXpert Plus, on small trees in its layout with odd cases."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from archives import (
    CHEXPERT_PLUS_COLUMNS,
    chexpert_plus,
    chexpert_plus_row,
    csv_text,
    pictures,
    save,
)

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.registry import open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study

TABLE = "df_chexpert_plus_240401.csv"
LABELS = "chexbert_labels/impression_fixed.json"


def read(source: Path, **options: object) -> tuple[dict[str, Study], set[tuple[str, str]]]:
    found = list(open_source(source, "chexpert-plus", **options))
    rejections = [record for record in found if isinstance(record, Rejection)]
    return (
        {record.id: record for record in found if isinstance(record, Study)},
        {(rejection.study_id, rejection.reason) for rejection in rejections},
    )


def append(source: Path, *rows: list[object]) -> None:
    """Add rows to the table."""
    with open(source / TABLE, "a") as file:
        file.write(csv_text(rows[0], rows[1:]))


@pytest.fixture
def tree(tmp_path) -> Path:
    chexpert_plus(tmp_path / "plus")
    return tmp_path / "plus"


def test_every_record_is_used_or_rejected(tree):
    studies, rejections = read(tree)
    assert list(studies) == ["patient1_study1", "patient1_study2", "patient1_study3", "patient4_study1"]
    assert rejections == {
        ("patient1_study3", f"another report: that of {tree / TABLE}, line 8 is taken"),
        ("patient2_study1", "empty report: no findings and no impression"),
        ("patient3_study1", "no image file"),
        ("patient32368_study1", "damaged: its image is known to be corrupt"),
        ("patient5_study1", "bad record: its split is 'test', not train or valid"),
    }


def test_studies(tree):
    studies, _ = read(tree)
    first, second, third, _ = studies.values()
    folder = tree / "PNG/PNG/train/patient1/study1"
    assert [(view.source, view.projection) for view in first.views] == [
        (folder / "view1_frontal.png", "frontal"),
        (folder / "view2_lateral.png", "lateral"),
    ]
    assert (first.patient_id, first.split) == ("patient1", "train")
    assert first.sections == {
        "findings": "Clear\nlungs.",
        "impression": "NO ACUTE DISEASE.",
        "indication": "Cough.",
    }
    assert second.sections["indication"] == "Pain."
    assert second.sections["comparison"] == "None."
    assert third.sections == {"impression": "STABLE."}
    # In time, 9 is before 10.
    assert [study.prior for study in (first, third, second)] == [None, "patient1_study1", "patient1_study3"]
    assert first.observations == dict.fromkeys(OBSERVATIONS, "not_mentioned") | {
        "Edema": "present",
        "Fracture": "uncertain",
        "Pneumonia": "absent",
    }


def test_the_count_of_differing_reports_reaches_the_store(tree, tmp_path):
    summary = prepare(tree, tmp_path / "store", short_side=16, workers=1, progress=False, test="valid")
    assert summary.store.rejected["another report"] == 1
    store = PreparedStore(tmp_path / "store")
    assert store.manifest["reader_options"]["test"] == "valid"
    assert store.manifest["reader_options"]["seed"] == 0


def test_the_test_split_is_a_choice(tmp_path):
    rows = [
        chexpert_plus_row(f"{split}/patient{number}/study{study}/v.jpg", section_findings="Clear.")
        for split, numbers in (("train", range(40)), ("valid", range(40, 45)))
        for number in numbers
        for study in (1, 2)
    ]
    (tmp_path / TABLE).write_text(csv_text(CHEXPERT_PLUS_COLUMNS, rows))
    image = next(pictures())[:8, :8]
    for row in rows:
        save((tmp_path / "PNG" / str(row[0])).with_suffix(".png"), image)

    def counts(**options: object) -> Counter:
        return Counter(study.split for study in read(tmp_path, **options)[0].values())

    assert counts() == {"train": 80, "val": 10}
    assert counts(test="valid") == {"train": 72, "val": 8, "test": 10}
    assert counts(test="patients") == {"train": 72, "val": 10, "test": 8}

    def drawn(seed: int) -> set[str]:
        studies, _ = read(tmp_path, test="patients", seed=seed)
        return {study.patient_id for study in studies.values() if study.split == "test"}

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(drawn(0)) == 4
    with pytest.raises(RadScribeError, match="unknown value of --test 'train'"):
        counts(test="train")


def test_options(tree):
    studies, rejections = read(tree, sections="findings", frontal_only=True)
    assert list(studies) == ["patient1_study1", "patient1_study2", "patient4_study1"]
    assert ("patient1_study1", "not frontal: Lateral") in rejections
    assert ("patient1_study3", "empty report: no findings") in rejections
    studies, _ = read(tree, unit="images", complete=True)
    assert list(studies) == [
        "train/patient1/study1/view2_lateral",
        "train/patient1/study1/view1_frontal",
        "train/patient1/study2/view1_frontal",
        "valid/patient4/study1/view1_frontal",
    ]
    assert studies["train/patient1/study2/view1_frontal"].prior == "train/patient1/study1/view1_frontal"


def test_labels(tree):
    other = tree / "chexbert_labels/report_fixed.json"
    line = {"path_to_image": "train/patient1/study2/view1_frontal.jpg", **dict.fromkeys(OBSERVATIONS)}
    other.write_text(json.dumps(line | {"Edema": 0.0}) + "\n")
    studies, _ = read(tree, labels="report")
    assert studies["patient1_study1"].observations == {}
    assert studies["patient1_study2"].observations["Edema"] == "absent"
    with pytest.raises(RadScribeError, match="findings_fixed.json: missing"):
        read(tree, labels="findings")
    with pytest.raises(RadScribeError, match="unknown value of --labels 'chexpert'"):
        read(tree, labels="chexpert")
    lines = (tree / LABELS).read_text().splitlines()
    bad = ["{", json.dumps(line | {"Edema": 7}), json.dumps({"path_to_image": "a/b.jpg"}), lines[0]]
    unlisted = json.dumps(line | {"path_to_image": "train/patient99/study1/a.jpg"})
    (tree / LABELS).write_text("\n".join([*lines, *bad, unlisted]))
    _, rejections = read(tree)
    assert rejections >= {
        ("line 11", "bad record: 'Edema' is '7', not 1, 0, -1, blank or a state"),
        ("line 12", "bad record: it has no 'No Finding'"),
        ("train/patient1/study1/view2_lateral", "duplicate id"),
        ("train/patient99/study1/a", f"no image: {TABLE} does not list it"),
    }
    (tree / LABELS).unlink()
    assert read(tree)[0]["patient1_study1"].observations == {}


def test_files_and_rows_that_belong_to_nothing(tree):
    images = pictures()
    save(tree / "PNG/PNG/train/patient9/study1/view1_frontal.png", next(images))
    save(tree / "PNG/PNG/train/patient1/study1/view1_frontal.jpg", next(images))
    (tree / "PNG/PNG/train/notes.txt").write_text("x")
    append(
        tree,
        chexpert_plus_row("train/patient1/study1/view1_frontal.jpg"),
        chexpert_plus_row("train/patient1/study2/view2_lateral.jpg", patient_report_date_order="first"),
        chexpert_plus_row("train/patient1/here/view1.jpg"),
        ["train/patient1/study1/view1_frontal.jpg"],
    )
    studies, rejections = read(tree)
    assert len(studies["patient1_study2"].views) == 1
    assert rejections >= {
        ("train/patient9/study1/view1_frontal", f"no report: {TABLE} does not list it"),
        ("train/patient1/study1/view1_frontal", "duplicate id"),
        ("train/notes", "no image: a text"),
        ("patient1_study2", "missing"),
        ("line 22", "bad record: 1 fields, and the header has 27 columns"),
    }
    assert any(reason.endswith("not like train/patient1/study1/a.jpg") for _, reason in rejections)
    assert any(reason.endswith("view1_frontal.jpg is taken") for _, reason in rejections)


@pytest.mark.parametrize("place", ["PNG", "PNGs", "."])
def test_where_the_images_are(tree, place):
    target = tree / place
    (tree / "PNG/PNG").rename(tree / "moved")
    (tree / "PNG").rmdir()
    target.mkdir(exist_ok=True)
    for split in ("train", "valid"):
        (tree / "moved" / split).rename(target / split)
    assert len(read(tree)[0]) == 4
    with pytest.raises(RadScribeError, match="no folder train or valid of images.*--images"):
        read(tree, images=tree / "moved")


def test_what_is_missing_is_named(tree):
    text = (tree / TABLE).read_text()
    (tree / TABLE).write_text(text.replace("section_findings", "findings", 1))
    with pytest.raises(RadScribeError, match="has no column 'section_findings'"):
        read(tree)
    (tree / TABLE).write_text(text[: text.index("Clear") + 3])
    with pytest.raises(RadScribeError, match="line 2.*Is it cut off there"):
        read(tree)
    (tree / TABLE).unlink()
    with pytest.raises(RadScribeError, match=f"has no {TABLE}"):
        read(tree)
