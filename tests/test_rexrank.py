"""The reader of ReXrank's JSON files, on small ones with odd cases, and on what an export writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_archives import rexrank, rexrank_entry
from test_export import content

from radscribe.errors import RadScribeError
from radscribe.studies.exports.export import export
from radscribe.studies.given import given_studies
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.registry import find_reader, open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study


def read(source: Path, **options: object) -> tuple[dict[str, Study], set[tuple[str, str]]]:
    found = list(open_source(source, "rexrank", **options))
    rejections = [record for record in found if isinstance(record, Rejection)]
    return (
        {record.id: record for record in found if isinstance(record, Study)},
        {(rejection.study_id, rejection.reason) for rejection in rejections},
    )


def write(path: Path, entries: object) -> Path:
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def tree(tmp_path) -> Path:
    rexrank(tmp_path / "rank")
    return tmp_path / "rank"


def test_every_entry_is_used_or_rejected(tree):
    studies, rejections = read(tree)
    assert list(studies) == [
        "CXR1_IM-0001",
        "patient7_study2",
        "50000001",
        "views",
        "CXR5_IM-0005",
        "CXR6_IM-0006",
    ]
    assert rejections == {
        ("empty", "empty report"),
        ("no image", "no view"),
        ("split", "bad record: unknown split 'fold3'"),
        ("paths", "bad record: its 'image_path' is no list of paths"),
        ("text", "bad record: its 'section_findings' is no text"),
        ("list", "bad record: not a JSON object"),
        ("CXR1_IM-0001", "duplicate id"),
    }


def test_studies(tree):
    studies, _ = read(tree)
    first = studies["CXR1_IM-0001"]
    assert [(view.source, view.projection) for view in first.views] == [
        (tree / "images/1/1.png", "frontal"),
        (tree / "images/1/0.png", "lateral"),
    ]
    # `None.` stands where a section is missing.
    assert first.sections == {"findings": "The lungs are clear.", "indication": "Cough, fever."}
    assert studies["patient7_study2"].sections["impression"] == "STABLE."
    assert {"indication", "comparison"}.isdisjoint(studies["50000001"].sections)
    assert {name: (study.patient_id, study.split) for name, study in studies.items()} == {
        "CXR1_IM-0001": ("1", "test"),
        "patient7_study2": ("patient7", "test"),
        "50000001": ("10000032", "test"),
        "views": ("views", "test"),
        "CXR5_IM-0005": ("5", "val"),
        "CXR6_IM-0006": ("6", "test"),
    }
    # There are three projections of two images.
    assert [(view.source.name, view.projection) for view in studies["views"].views] == [
        ("3.png", "frontal"),
        ("2.png", "unknown"),
    ]
    (view,) = studies["CXR5_IM-0005"].views
    assert (view.source, view.projection) == (tree / "images/5/0.png", "frontal")


@pytest.mark.parametrize(
    ("context", "sections"),
    [
        (
            "Age:77.0.Gender:F.Indication: Pain: left.\nComparison: Earlier. Comparison: 2.",
            {"indication": "Pain: left.", "comparison": "Earlier. Comparison: 2."},
        ),
        ("Comparison: XXXX", {"comparison": "XXXX"}),
        ("Indication: none Comparison: N/A.", {}),
        ("Age:50-60.", {}),
        (None, {}),
    ],
)
def test_context(tmp_path, context, sections):
    path = write(tmp_path / "a.json", {"s": rexrank_entry("a.png", context=context)})
    assert read(path)[0]["s"].sections == {"findings": "The lungs are clear.", **sections}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("ReXRank_CheXpertPlus", "test"),
        ("rexrank_train", "train"),
        ("ReXRank_IUXray_valid", "val"),
        ("val2", "val"),
        ("latest-trains", "test"),
    ],
)
def test_a_split_that_only_the_name_of_the_file_states(tmp_path, name, split):
    path = write(tmp_path / f"{name}.json", {"s": rexrank_entry("a.png", split=None)})
    assert read(path)[0]["s"].split == split


def test_studies_without_reports_serve_drafting(tmp_path):
    entries = {name: rexrank_entry(f"{name}.png", section_findings=None) for name in ("a", "b")}
    studies, rejections = read(write(tmp_path / "t.json", entries))
    assert [dict(study.sections) for study in studies.values()] == [{"indication": "Cough, fever."}] * 2
    assert not rejections


@pytest.mark.parametrize("place", ["PNG", "files", ".", "elsewhere"])
def test_where_the_images_are(tree, place):
    (tree / "images").rename(tree / "moved")
    if place == ".":
        for folder in (tree / "moved").iterdir():
            folder.rename(tree / folder.name)
    else:
        (tree / "moved").rename(tree / place)
    options = {"images": tree / place} if place == "elsewhere" else {}
    studies, _ = read(tree, **options)
    assert all(view.source.is_file() for view in studies["CXR1_IM-0001"].views)
    with pytest.raises(RadScribeError, match="no folder .*absent.*--images"):
        read(tree, images=tree / "absent")


def test_paths_that_begin_with_a_slash(tree, tmp_path):
    absolute = str(tree / "images/5/0.png")
    path = write(tree / "more.json", {"a": rexrank_entry("/1/0.png"), "b": rexrank_entry(absolute)})
    studies, _ = read(path)
    assert studies["a"].views[0].source == tree / "images/1/0.png"
    assert str(studies["b"].views[0].source) == absolute


def test_the_form_of_a_json_file_is_seen_in_its_content(tree, tmp_path):
    assert find_reader(tree / "ReXRank_test.json") == "rexrank"
    assert find_reader(write(tmp_path / "r2gen.json", {"train": [], "val": [], "test": []})) == (
        "r2gen-annotation"
    )
    assert find_reader(write(tmp_path / "empty.json", {})) == "r2gen-annotation"
    with pytest.raises(RadScribeError, match="holds no JSON file of ReXrank"):
        read(tmp_path)
    with pytest.raises(RadScribeError, match="r2gen.json is no JSON file of ReXrank"):
        read(write(tmp_path / "r2gen.json", []))
    with pytest.raises(RadScribeError, match="cut.json is not valid JSON"):
        read(Path(tmp_path / "cut.json").write_text('{"a": {') and tmp_path / "cut.json")


def test_a_file_can_be_drafted_from(tree):
    rejected = []
    studies = list(given_studies(tree / "ReXRank_test.json", rejected.append))
    assert [study.id for study in studies] == ["CXR1_IM-0001", "patient7_study2", "50000001", "views"]
    assert len(rejected) == 6


def test_an_export_is_read_again(store, tmp_path):
    export(PreparedStore(store), tmp_path / "out", "rexrank", progress=False)
    side = PreparedStore(store).manifest["short_side"]
    summary = prepare(tmp_path / "out", tmp_path / "again", short_side=side, workers=1, progress=False)
    assert summary.store.reader == "rexrank"
    assert not summary.store.rejected
    again, original = content(tmp_path / "again"), content(store)
    assert again.keys() == original.keys()
    for name, (patient, split, sections, _, views) in original.items():
        assert again[name] == (patient, split, sections, {}, views)
