"""A store follows its source: what has changed is said, what is unchanged stays, and no moment breaks it."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.studies.images import read_view
from radscribe.studies.prepare import prepare
from radscribe.studies.splits import assign_splits, extend_splits
from radscribe.studies.store import PreparedStore
from radscribe.studies.store_files import UPDATE
from radscribe.studies.study import RenderedView, Study, View


def draw(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50), np.uint8)).save(path)


def write_table(folder: Path, reports: dict[int, str]) -> None:
    """Study n belongs to patient n // 2."""
    with open(folder / "studies.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "report", "patient"))
        rows.writerows((f"{n}.png", report, f"p{n // 2}") for n, report in reports.items())


@pytest.fixture
def source(tmp_path) -> Path:
    """A table of 21 studies of eleven patients."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(21):
        draw(folder / f"{number}.png", number)
    write_table(folder, {number: f"Report {number}." for number in range(21)})
    return folder


def change(source: Path) -> None:
    """Study 3 gets another report, study 5 another image, study 7 goes, and six studies come."""
    draw(source / "5.png", 500)
    os.utime(source / "5.png", ns=(1, 1))
    for number in range(21, 27):
        draw(source / f"{number}.png", number)
    reports = {number: f"Report {number}." for number in range(27) if number != 7}
    write_table(source, reports | {3: "Another."})


def prepared(source: Path, out: Path, **options: object):
    return prepare(source, out, **{"short_side": 32, "workers": 1, "progress": False, **options})


def splits(store: Path) -> dict[str, str]:
    return {study.id: str(study.split) for study in PreparedStore(store).studies()}


def pixels(store: PreparedStore) -> dict[str, bytes]:
    return {study.id: read_view(study.views[0], 32).pixels.tobytes() for study in store.studies()}


def test_a_changed_source_is_named_and_an_update_follows_it(source, tmp_path):
    out = tmp_path / "store"
    prepared(source, out)
    before, opened = splits(out), PreparedStore(out)
    old_pixels = pixels(opened)
    assert "nothing has changed since the store was prepared" in str(prepared(source, out))
    change(source)
    with pytest.raises(
        RadScribeError, match=r"6 added \(21; 22; 23; \.\.\.\), 2 changed .*1 removed \(7\).*--update"
    ):
        prepared(source, out)
    assert splits(out) == before

    summary = prepared(source, out, update=True)
    assert summary.decoded == 8
    assert "3: what the source says of it; 5: modification time of an image" in str(summary)
    after = splits(out)
    assert after.keys() == {str(number) for number in range(27) if number != 7}
    assert {study: after[study] for study in before if study != "7"} == {
        study: split for study, split in before.items() if study != "7"
    }
    assert after["21"] == before["20"], "a new study of a known patient joins the patient's split"
    store = PreparedStore(out)
    assert all(len({after[s.id] for s in store.studies() if s.patient_id == p}) == 1 for p in ("p11", "p12"))
    assert store.study("3").sections["findings"] == "Another."
    assert [(r.study_id, r.kind) for r in store.rejections()] == [("7", "removed")]
    new_pixels = pixels(store)
    for number in range(27):
        if number != 7:
            expected = read_view(View(source / f"{number}.png"), 32).pixels.tobytes()
            assert new_pixels[str(number)] == expected
    # Who opened the store before reads on what it held.
    assert pixels(opened) == old_pixels
    assert prepared(source, out, update=True).decoded == 0
    assert not (out / UPDATE).exists()


def test_a_store_that_knows_no_reduced_jpegs_is_followed_with_whole_ones(source, tmp_path):
    """One of an earlier version; with --reduced_jpeg, two kinds of pixels would stand in it."""
    out = tmp_path / "store"
    prepared(source, out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest.pop("reduced_jpeg") is False
    (out / "manifest.json").write_text(json.dumps(manifest))
    change(source)
    with pytest.raises(RadScribeError, match="was prepared with reduced_jpeg False, not True"):
        prepared(source, out, update=True, reduced_jpeg=True)
    assert prepared(source, out, update=True).decoded == 8
    assert PreparedStore(out).manifest["reduced_jpeg"] is False


def test_a_store_of_the_same_images_at_another_time_has_the_same_content(source, tmp_path):
    prepared(source, tmp_path / "first")
    shutil.copytree(source, tmp_path / "copy", copy_function=shutil.copyfile)
    prepared(tmp_path / "copy", tmp_path / "second")
    first, second = (PreparedStore(tmp_path / name).manifest["content_hash"] for name in ("first", "second"))
    assert first == second


def test_an_interrupted_update_leaves_the_store_as_it_was_and_resumes(source, tmp_path):
    """A file size limit fails writes halfway, as a full disk does."""
    out = tmp_path / "store"
    prepared(source, out)
    before, old_pixels = splits(out), pixels(PreparedStore(out))
    change(source)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((out / "pixels.bin").stat().st_size + 3_000, hard))
    try:
        with pytest.raises(RadScribeError, match=r"no space left.*resumes"):
            prepared(source, out, update=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert splits(out) == before
    assert pixels(PreparedStore(out)) == old_pixels
    with pytest.raises(RadScribeError, match="has changed since"):
        prepared(source, out)

    interrupted = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-again"))
    assert prepared(source, out, update=True).decoded == 6
    assert len(splits(out)) == 26

    # Where the source changes once more, nothing of the interrupted update is taken for it.
    write_table(source, {number: f"Report {number}." for number in range(21)})
    shutil.rmtree(out)
    shutil.copytree(interrupted / "store", out)
    assert prepared(source, out, update=True).decoded == 1
    assert splits(out).keys() == before.keys()
    np.testing.assert_equal(
        pixels(PreparedStore(out))["5"], read_view(View(source / "5.png"), 32).pixels.tobytes()
    )


@pytest.mark.parametrize("moved", range(6))
def test_an_update_that_is_whole_is_finished_by_whoever_comes_next(source, tmp_path, moved):
    """The process may die after any of the files has taken its place."""
    out, new = tmp_path / "store", tmp_path / "new"
    prepared(source, out)
    shutil.copytree(out, new)
    change(source)
    prepared(source, new, update=True)
    names = ["studies.jsonl", "splits.csv", "rejected.csv", "sources.jsonl", "manifest.json"]
    (out / UPDATE).mkdir()
    for name in ("pixels.bin", "masks.bin", *names[:moved]):
        shutil.copy(new / name, out / name)
    for name in names[moved:]:
        shutil.copy(new / name, out / UPDATE / name)
    assert splits(out) == splits(new)
    assert pixels(PreparedStore(out)) == pixels(PreparedStore(new))
    assert prepared(source, out).decoded == 0


def test_two_updates_at_once_are_refused(source, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "store"
    prepared(source, out)
    change(source)
    with open(out / "pixels.bin", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RadScribeError, match="another process"):
            prepared(source, out, update=True)
    assert prepared(source, out, update=True).decoded == 8


def test_an_interrupted_preparation_notices_that_its_source_changed(source, tmp_path):
    out = tmp_path / "store"
    prepared(source, out)
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    draw(source / "30.png", 30)
    write_table(source, {number: f"Report {number}." for number in [*range(21), 30]})
    assert prepared(source, out).decoded == 1, "what is new is no hindrance"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    os.utime(source / "5.png", ns=(1, 1))
    with pytest.raises(RadScribeError, match=r"was interrupted: 1 changed \(5: modification time"):
        prepared(source, out)


patients = st.lists(st.integers(0, 30).map(str), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(patients, patients, st.integers(0, 3))
def test_new_patients_fill_the_splits_and_known_ones_stay(old, new, seed):
    before = assign_splits([(patient, None) for patient in old], seed=seed)
    known = dict(zip(old, before, strict=True))
    joined = extend_splits([(patient, None) for patient in new], known, Counter(before), seed=seed)
    of_patient: dict[str, set[str]] = {}
    for patient, split in [*zip(old, before, strict=True), *zip(new, joined, strict=True)]:
        of_patient.setdefault(patient, set()).add(split)
    assert all(len(found) == 1 for found in of_patient.values())
    assert all(known.get(patient, split) == split for patient, split in zip(new, joined, strict=True))


def test_patients_who_come_one_by_one_fill_every_split():
    known, counts = {}, Counter()
    for number in range(100):
        (split,) = extend_splits([(str(number), None)], known, counts)
        known[str(number)] = split
        counts[split] += 1
    assert counts == {"train": 70, "val": 10, "test": 20}


# Studies that were made in Python.


def given_studies(folder: Path, count: int) -> list[Study]:
    """Every third view is a function that cannot be pickled; the others are files."""
    found = []
    for number in range(count):
        draw(folder / f"{number}.png", number)
        pixels = np.full((40, 50), number, np.uint8)
        view = (
            View(folder / f"{number}.png") if number % 3 else View(lambda pixels=pixels: RenderedView(pixels))
        )
        found.append(Study(f"s{number}", f"p{number}", (view,), sections={"findings": f"Number {number}."}))
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_studies_made_in_python(tmp_path, workers):
    out = tmp_path / "store"
    studies = given_studies(tmp_path, 6)
    assert prepared(iter(studies), out, workers=workers).decoded == 6
    store = PreparedStore(out)
    assert [study.id for study in store.studies()] == [study.id for study in studies]
    assert read_view(store.study("s3").views[0], 32).pixels.mean() == 3
    assert prepared(studies, out).decoded == 0
    more = given_studies(tmp_path, 7)
    with pytest.raises(RadScribeError, match=r"1 added \(s6\)"):
        prepared(more[:5] + more[5:], out)
    assert prepared(more, out, update=True).decoded >= 1
    assert len(PreparedStore(out)) == 7


def test_bad_studies_made_in_python_cost_one_study_each(tmp_path):
    def fails() -> RenderedView:
        raise KeyError("no pixels")

    studies = given_studies(tmp_path, 3)
    bad = [
        Study("bytes", "p", (View(b"0.png"),)),
        Study("none", "p", ()),
        Study("fails", "p", (View(fails),)),
        Study("float", "p", (View(lambda: RenderedView(np.zeros((20, 20)))),)),
        studies[0],
    ]
    prepared([*studies, *bad], tmp_path / "store")
    reasons = {r.study_id: r.reason for r in PreparedStore(tmp_path / "store").rejections()}
    assert reasons == {
        "bytes": "bad record: the source of a view is a bytes, not a Path and not a function",
        "none": "no view",
        "fails": "not readable: KeyError: 'no pixels'",
        "float": "not 8-bit grey: float64 [20, 20]",
        "s0": "duplicate id",
    }
    with pytest.raises(RadScribeError, match="study number 2 is a dict, not a Study"):
        prepared([studies[0], {}], tmp_path / "other")
    with pytest.raises(RadScribeError, match="take no reader"):
        prepared(studies, tmp_path / "other", images=tmp_path)
    assert not (tmp_path / "other").exists()
