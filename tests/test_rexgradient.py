"""The reader of ReXGradient-160K, on small trees in its layout with odd cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from archives import save
from small_archives import (
    REXGRADIENT_METADATA,
    rexgradient,
    rexgradient_entry,
    rexgradient_id,
    rexgradient_path,
)

from radscribe.errors import RadScribeError
from radscribe.studies.readers.registry import open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import Study


def read(source: Path, **options: object) -> tuple[dict[str, Study], set[tuple[str, str]]]:
    found = list(open_source(source, "rexgradient", **options))
    rejections = [record for record in found if isinstance(record, Rejection)]
    return (
        {record.id: record for record in found if isinstance(record, Study)},
        {(rejection.study_id, rejection.reason) for rejection in rejections},
    )


@pytest.fixture
def tree(tmp_path) -> Path:
    rexgradient(tmp_path / "rex")
    return tmp_path / "rex"


def test_every_record_and_file_is_used_or_rejected(tree):
    studies, rejections = read(tree)
    assert list(studies) == [rexgradient_id(1, study) for study in (12, 11, 13)] + [rexgradient_id(3, 30)]
    assert rejections == {
        (rexgradient_id(2, 20), "empty report: no findings and no impression"),
        (rexgradient_id(2, 21), "no view"),
        (rexgradient_id(2, 22), "bad record: its 'ImageViewPosition' has not one value for each image"),
        (rexgradient_id(2, 23), "bad record: its 'Findings' is no text"),
        (rexgradient_id(2, 24), "bad record: not a JSON object"),
        (rexgradient_id(3, 30), "missing"),
        (rexgradient_id(3, 31), "no image file"),
        (
            "valid",
            "no image: this table names none, and valid_metadata_view_position.json is not there",
        ),
        ("list.txt", "no image: a text"),
        *(
            (rexgradient_path(*numbers), "no report: no file of metadata names it")
            for numbers in [(2, 22, 0), (2, 22, 1), (2, 23, 0), (9, 90, 0)]
        ),
    }


def test_studies(tree):
    first, later, same_day, test = read(tree)[0].values()
    folder = tree / "deid_png"
    assert [(view.source, view.projection) for view in first.views] == [
        (folder / rexgradient_path(1, 12, 1), "frontal"),
        (folder / rexgradient_path(1, 12, 0), "lateral"),
    ]
    assert (first.patient_id, first.split) == ("pGRDN0001", "train")
    assert first.sections == {
        "findings": "The lungs\nare clear.",
        "impression": "No acute disease.",
        "indication": "Cough.",
        "comparison": "None.",
    }
    assert later.sections == {"impression": "No acute disease.", "indication": "Cough."}
    assert [study.prior for study in (first, later, same_day)] == [None, first.id, first.id]
    assert same_day.views[0].projection == "unknown"
    assert (test.split, test.prior, len(test.views)) == ("test", None, 1)


def test_options(tree):
    studies, rejections = read(tree, frontal_only=True, complete=True)
    assert {study.id: len(study.views) for study in studies.values()} == {
        rexgradient_id(1, 12): 1,
        rexgradient_id(3, 30): 1,
    }
    assert (rexgradient_id(1, 12), "not frontal: LATERAL") in rejections
    assert (rexgradient_id(1, 13), "not frontal: its view is not stated") in rejections
    assert (rexgradient_id(1, 11), "incomplete report: no findings") in rejections
    studies, _ = read(tree, unit="images", sections="impression")
    assert list(studies)[:2] == [rexgradient_path(1, 12, 0), rexgradient_path(1, 12, 1)]
    assert studies[rexgradient_path(1, 11, 0)].prior == rexgradient_path(1, 12, 1)
    with pytest.raises(RadScribeError, match="unknown value of --unit 'image'"):
        read(tree, unit="image")


@pytest.mark.parametrize("images", ["moved", "moved/deid_png"])
def test_images_elsewhere(tree, images):
    (tree / "moved").mkdir()
    (tree / "deid_png").rename(tree / "moved/deid_png")
    assert len(read(tree, images=tree / images)[0]) == 4
    with pytest.raises(RadScribeError, match=r"no folder of images.*cat deid_png\.part\* \| tar --zstd"):
        read(tree)


def test_the_folder_of_metadata_is_a_source_too(tree):
    assert read(tree / "metadata") == read(tree)


def test_the_value_that_pandas_writes_for_a_missing_one_is_read(tree):
    assert "NaN" in (tree / REXGRADIENT_METADATA).read_text()


def test_images_outside_of_the_folder_are_refused(tree):
    entry = rexgradient_entry(5, 50, ["PA"], ImagePath=["../other/1.png"])
    (tree / REXGRADIENT_METADATA).write_text(json.dumps({rexgradient_id(5, 50): entry}))
    _, rejections = read(tree)
    reason = "bad record: its image '../other/1.png' is not in deid_png"
    assert (rexgradient_id(5, 50), reason) in rejections


def test_what_is_missing_or_damaged_is_named(tree, tmp_path):
    for text, message in (("{", "is not valid JSON"), ("[]", "does not map ids to studies")):
        (tree / REXGRADIENT_METADATA).write_text(text)
        with pytest.raises(RadScribeError, match=f"train_metadata_view_position.json {message}"):
            read(tree)
    save(tmp_path / "only/deid_png/a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(RadScribeError, match="has no metadata/train_metadata_view_position.json"):
        read(tmp_path / "only")
