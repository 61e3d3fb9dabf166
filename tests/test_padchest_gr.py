"""The reader of PadChest-GR, on small trees in its layout with odd cases; boxes become masks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_archives import (
    PADCHEST_GR_REPORTS,
    padchest_gr,
    padchest_gr_finding,
    padchest_gr_study,
)

from radscribe.errors import RadScribeError
from radscribe.runs.localisation import localise
from radscribe.runs.trained_system import load
from radscribe.studies.images import original_view
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.boxes import BoxedImage, box_of, mask_of
from radscribe.studies.readers.registry import open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study

IMAGES = "Padchest_GR_files/PadChest_GR"
TABLE = "master_table.csv"


def read(source: Path, **options: object) -> tuple[dict[str, Study], set[tuple[str, str]]]:
    found = list(open_source(source, "padchest-gr", **options))
    rejections = [record for record in found if isinstance(record, Rejection)]
    return (
        {record.id: record for record in found if isinstance(record, Study)},
        {(rejection.study_id, rejection.reason) for rejection in rejections},
    )


def rewrite(tree: Path, *studies: object) -> None:
    """Write other studies; the table has a row for those from 1 to 9."""
    (tree / PADCHEST_GR_REPORTS).write_text(json.dumps(studies))


@pytest.fixture
def tree(tmp_path) -> Path:
    padchest_gr(tmp_path / "gr")
    return tmp_path / "gr"


def test_every_record_and_file_is_used_or_rejected(tree):
    studies, rejections = read(tree)
    assert list(studies) == ["1", "2", "3"]
    assert rejections == {
        ("line 21", "bad record: its StudyID or PatientID is blank"),
        ("line 22", "bad record: 1 fields, and the header has 6 columns"),
        ("3", "bad record: another patient or split: that of line 6 is taken"),
        ("4", "empty report"),
        ("5", "bad record: its box [0.3, 0.5, 0.9] is not [x1, y1, x2, y2] with four numbers"),
        ("6", "bad record: a finding has no 'sentence_en'"),
        ("7", "no image file"),
        ("8", "bad record: the master table has no row of it, or an earlier study has this id"),
        ("9", "bad record: unknown split 'holdout'"),
        ("10", "bad record: it has no 'ImageID'"),
        ("study 11", "bad record: it has no 'StudyID'"),
        ("11", f"no report: {PADCHEST_GR_REPORTS} does not list it"),
        ("12_dln48o", f"no report: {PADCHEST_GR_REPORTS} does not list it"),
        ("notes.txt", "no image: a text"),
    }


def test_studies(tree):
    first, second, third = read(tree)[0].values()
    assert first.sections == {
        "findings": "Bilateral pleural effusion. No pneumothorax. Laminar tract in the right base. "
        "Dorsal scoliosis."
    }
    assert [(study.patient_id, study.split) for study in (first, second, third)] == [
        ("p1", "train"),
        ("p2", "val"),
        ("p3", "test"),
    ]
    (view,) = first.views
    assert (view.projection, view.name) == ("frontal", f"{IMAGES}/1_dln48o.png")
    assert view.source.notes == ("boxes of no observation",)
    assert second.views[0].source.notes == ("boxes that are empty or outside of the image",)
    assert third.views[0].source.notes == ()
    assert third.views[0].source.box_counts == {}


def test_boxes_become_masks(tree):
    view = original_view(read(tree)[0]["1"].views[0])
    height, width = view.pixels.shape
    assert view.masks.keys() == {"Pleural Effusion", "Atelectasis"}
    effusion = np.zeros((height, width), bool)
    effusion[int(0.625 * height) : int(np.ceil(0.9 * height)), int(0.1 * width) : round(0.3 * width)] = True
    effusion[int(0.5 * height) : round(0.90625 * height), round(0.7 * width) : round(0.9 * width)] = True
    differing = view.masks["Pleural Effusion"] ^ effusion
    # Sides that do not fall between two pixels take the pixel that they cut.
    assert differing.sum() <= 2 * (height + width)
    assert not differing[: int(0.5 * height)].any()
    rows, columns = np.nonzero(view.masks["Atelectasis"])
    assert (rows.min(), columns.min()) == (int(0.7 * height), int(0.6 * width))
    assert view.window is not None
    assert view.pixels.max() == 255


def test_a_box_touches_the_pixels_that_it_cuts():
    mask = mask_of([(0.25, 0.5, 0.5, 0.75), (0.99, 0.0, 1.0, 0.01), (1.0, 1.0, 1.0, 1.0)], 4, 8)
    expected = np.zeros((4, 8), bool)
    expected[2, 2:4] = expected[0, 7] = expected[3, 7] = True
    assert (mask == expected).all()


@pytest.mark.parametrize(
    ("value", "box", "fault"),
    [
        ([0.5, 0.25, 0.75, 1], (0.5, 0.25, 0.75, 1.0), ""),
        ([0.75, 1, 0.5, 0.25], (0.5, 0.25, 0.75, 1.0), ""),
        ([-0.0005, 0, 1.0005, 1], (0.0, 0.0, 1.0, 1.0), ""),
        ([0.5, 0.25, 0.5, 1], (0.5, 0.25, 0.5, 1.0), "empty"),
        ([1, 0.2, 1.0005, 0.3], (1.0, 0.2, 1.0, 0.3), "empty"),
        ([0, 0, 1, 120], (0.0, 0.0, 1.0, 1.0), "outside of the image"),
        ([-0.1, 0, 0.5, 0.5], (0.0, 0.0, 0.5, 0.5), "outside of the image"),
    ],
)
def test_box(value, box, fault):
    assert box_of(value) == (box, fault)


@pytest.mark.parametrize(
    "value", [[0, 0, 1], [0, 0, 1, 1, 1], [0, 0, True, 1], [0, 0, "1", 1], (0, 0, 1, 1), [0, 0, 1, None]]
)
def test_what_is_no_box(value):
    with pytest.raises(ValueError, match="is not"):
        box_of(value)
    with pytest.raises(ValueError, match="is not"):
        box_of([0, 0, float("nan"), 1])


def test_a_sentence_of_several_observations_and_one_that_denies(tree):
    both = padchest_gr_finding("Cardiomegaly with possible pulmonary edema.", [0.2, 0.2, 0.8, 0.8])
    none = padchest_gr_finding("No fracture.", [0.1, 0.1, 0.2, 0.2])
    rewrite(tree, padchest_gr_study(1, both, none))
    view = read(tree)[0]["1"].views[0]
    assert [name for name, _ in view.source.boxes] == ["Cardiomegaly", "Edema"]
    assert view.source.notes == ("boxes of no observation",)


def test_the_store_has_the_masks_and_counts_the_notes(tree, tmp_path):
    summary = prepare(tree, tmp_path / "store", short_side=64, workers=2, progress=False)
    assert summary.store.notes == {
        "boxes of no observation": 1,
        "boxes that are empty or outside of the image": 1,
    }
    assert "note       boxes of no observation: 1 views" in str(summary)
    assert summary.store.boxes == {
        "became masks": 4,
        "of the second reader, not asked for": 4,
        "of no observation": 1,
        "empty": 1,
        "outside of the image": 1,
    }
    assert (
        "boxes      11: 4 became masks · 4 of the second reader, not asked for · 1 of no observation · "
        "1 empty · 1 outside of the image"
    ) in str(summary)
    view = PreparedStore(tmp_path / "store").study("1").views[0]
    assert view.name == f"{IMAGES}/1_dln48o.png"
    stored = view.source()
    assert sum(stored.box_counts.values()) == 7
    original = original_view(read(tree)[0]["1"].views[0])
    for name, mask in original.masks.items():
        assert stored.masks[name].mean() == pytest.approx(mask.mean(), abs=0.02)


def test_a_box_that_moves_is_a_change_of_the_source(tree, tmp_path):
    prepare(tree, tmp_path / "store", short_side=16, workers=1, progress=False)
    path = tree / PADCHEST_GR_REPORTS
    path.write_text(path.read_text().replace("0.625", "0.6"))
    with pytest.raises(RadScribeError, match="1 changed .1: what the source says of it"):
        prepare(tree, tmp_path / "store", short_side=16, workers=1, progress=False)
    prepare(tree, tmp_path / "store", short_side=16, workers=1, progress=False, update=True)


def test_localisation_scores_on_boxes(tree, tmp_path, finished_run):
    trained = load(finished_run)
    short_side = trained.config.data.transform.store_short_side
    prepare(tree, tmp_path / "store", short_side=short_side, workers=1, progress=False)
    scored = localise(trained, PreparedStore(tmp_path / "store").studies(), progress=False)
    observations = {score.observation for scores in scored for score in scores}
    assert {"Pleural Effusion"} <= observations
    assert all(0 < score.energy_by_chance < 1 for scores in scored for score in scores)
    assert scored[2] == []


@pytest.mark.parametrize("name", ["master_table.csv.zip", "master_table.zip"])
def test_the_packed_table(tree, name):
    studies, _ = read(tree)
    with zipfile.ZipFile(tree / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tree / TABLE, TABLE)
        archive.writestr(f"__MACOSX/._{TABLE}", "x")
    (tree / TABLE).unlink()
    assert read(tree)[0] == studies
    with zipfile.ZipFile(tree / name, "a") as archive:
        archive.writestr("other.csv", "x")
    with pytest.raises(RadScribeError, match="should hold one CSV table, found: master_table.csv, other.csv"):
        read(tree)
    (tree / name).write_bytes((tree / name).read_bytes()[:100])
    with pytest.raises(RadScribeError, match=f"{name} is damaged"):
        read(tree)


def test_images_elsewhere_and_in_another_format(tree):
    (tree / "moved/a").mkdir(parents=True)
    for number in (1, 2):
        with Image.open(tree / IMAGES / f"{number}_dln48o.png") as image:
            Image.fromarray((np.asarray(image) // 16).astype(np.uint8)).save(
                tree / f"moved/a/{number}_dln48o.jpg"
            )
    studies, rejections = read(tree, images=tree / "moved")
    assert list(studies) == ["1", "2"]
    assert ("3", "no image file") in rejections
    assert isinstance(studies["1"].views[0].source, BoxedImage)
    (tree / "Padchest_GR_files").rename(tree / "elsewhere")
    with pytest.raises(RadScribeError, match=r"no folder of images.*--images .*PadChest_GR\.zip\.001"):
        read(tree)


def packed(tree: Path, parts: int) -> list[Path]:
    """Pack the images, cut their archive, and return its parts."""
    folder = tree / IMAGES
    archive = folder.with_name("PadChest_GR.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for number, file in enumerate(sorted(folder.iterdir())):
            # Images of the data set are stored or deflated.
            target.write(file, f"PadChest_GR/{file.name}", number % 2 * zipfile.ZIP_DEFLATED)
        target.mkdir("PadChest_GR/empty")
        target.writestr("__MACOSX/._1_dln48o.png", "x")
    shutil.rmtree(folder)
    content = archive.read_bytes()
    if parts == 1:
        return [archive]
    archive.unlink()
    size = -(-len(content) // parts)
    names = [archive.with_name(f"{archive.name}.{number + 1:03}") for number in range(parts)]
    for number, path in enumerate(names):
        path.write_bytes(content[number * size : (number + 1) * size])
    return names


@pytest.mark.parametrize("parts", [1, 3, 12])
def test_packed_images(tree, tmp_path, parts):
    studies, rejections = read(tree)
    views = {name: original_view(study.views[0]) for name, study in studies.items()}
    files = packed(tree, parts)
    again, rejected_again = read(tree)
    assert list(again) == list(studies)
    assert rejected_again == rejections | {("._1_dln48o.png", "hidden folder")}
    for name, study in again.items():
        view = study.views[0]
        assert view.name == f"{IMAGES}.zip/PadChest_GR/{name}_dln48o.png"
        assert view.source.path in files
        found = original_view(view)
        np.testing.assert_array_equal(found.pixels, views[name].pixels)
        assert found.masks.keys() == views[name].masks.keys()
    prepared = prepare(tree, tmp_path / "store", short_side=32, workers=2, progress=False)
    assert prepared.store.studies == {"train": 1, "val": 1, "test": 1}
    (tree / "Padchest_GR_files").rename(tree / "elsewhere")
    for images in (tree / "elsewhere", tree / "elsewhere" / files[-1].name):
        assert list(read(tree, images=images)[0]) == list(studies)


def test_unpacked_images_are_read_rather_than_their_archive(tree):
    (tree / "Padchest_GR_files/PadChest_GR.zip.001").write_bytes(b"x")
    assert list(read(tree)[0]) == ["1", "2", "3"]
    (tree / IMAGES).rename(tree / "Padchest_GR_files/unpacked")
    assert list(read(tree)[0]) == ["1", "2", "3"]


def test_a_part_that_is_damaged_costs_its_images_until_it_is_fetched_again(tree, tmp_path):
    second = packed(tree, 3)[1]
    whole = second.read_bytes()
    second.write_bytes(bytes(len(whole)))
    options = {"short_side": 16, "workers": 1, "progress": False}
    prepare(tree, tmp_path / "store", **options)
    held = list(PreparedStore(tmp_path / "store").studies())
    assert "damaged" in (tmp_path / "store/rejected.csv").read_text()
    assert len(held) < 3
    second.write_bytes(whole)
    with pytest.raises(RadScribeError, match="modification time of an image.*--update"):
        prepare(tree, tmp_path / "store", **options)
    prepare(tree, tmp_path / "store", update=True, **options)
    assert len(PreparedStore(tmp_path / "store").studies()) == 3


def test_parts_that_are_missing_or_of_another_form_are_named(tree):
    files = packed(tree, 3)
    last = files[2].read_bytes()
    files[2].unlink()
    with pytest.raises(RadScribeError, match=r"PadChest_GR\.zip: .*Fetch .*zip\.002 is the last one"):
        read(tree)
    files[2].write_bytes(last)
    files[1].unlink()
    with pytest.raises(
        RadScribeError, match=r"the part PadChest_GR\.zip\.002 is not in .*PadChest_GR\.zip\.003"
    ):
        read(tree)
    archive = files[0].with_name("PadChest_GR.zip")
    archive.write_bytes(last)
    archive.with_suffix(".z01").write_bytes(b"x")
    with pytest.raises(
        RadScribeError,
        match=r"begins in PadChest_GR\.z01.*zip -s 0 .*PadChest_GR\.zip --out .*joined-PadChest_GR\.zip",
    ):
        read(tree)


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs the program zip")
def test_an_archive_that_zip_split_is_read_after_the_command_of_the_error(tree):
    images = tree / IMAGES
    # The smallest parts that the program makes have 64 KiB.
    (images / "large.bin").write_bytes(np.random.default_rng(0).bytes(200_000))
    archive = tree / "split.zip"
    subprocess.run(["zip", "-q", "-r", "-s", "64k", archive, "."], cwd=images, check=True)
    assert archive.with_suffix(".z01").exists()
    with pytest.raises(RadScribeError) as raised:
        read(tree, images=archive)
    command = re.search(r"Join it with: (.*); and name that: --images (.*)", str(raised.value))
    assert command
    subprocess.run([*command[1].split(), "-q"], check=True)
    assert list(read(tree, images=command[2])[0]) == ["1", "2", "3"]


def test_boxes_of_both_readers(tree):
    both = padchest_gr_finding("Left pleural effusion.", [0.6, 0.6, 0.8, 0.9])
    both["extra_boxes"] = [[0.7, 0.5, 0.9, 0.8], [0, 0, 7, 7]]
    second = {**both, "boxes": [], "sentence_en": "Cardiomegaly."}
    rewrite(tree, padchest_gr_study(1, both, second))
    first, union = (read(tree, boxes=boxes)[0]["1"].views[0] for boxes in ("first", "both"))
    assert first.source == read(tree)[0]["1"].views[0].source
    assert first.source.box_counts == {"became masks": 1, "of the second reader, not asked for": 4}
    assert union.source.box_counts == {"became masks": 3, "outside of the image": 2}
    assert first.source.notes == ()
    assert union.source.notes == ("boxes that are empty or outside of the image",)
    alone, joined = original_view(first).masks, original_view(union).masks
    assert list(alone) == ["Pleural Effusion"]
    assert list(joined) == ["Cardiomegaly", "Pleural Effusion"]
    shape = alone["Pleural Effusion"].shape
    other = mask_of([(0.7, 0.5, 0.9, 0.8)], *shape)
    np.testing.assert_array_equal(joined["Pleural Effusion"], alone["Pleural Effusion"] | other)
    with pytest.raises(RadScribeError, match="unknown value of --boxes 'second'"):
        read(tree, boxes="second")


def test_what_is_missing_or_damaged_is_named(tree):
    (tree / TABLE).write_text("StudyID,split\n")
    with pytest.raises(RadScribeError, match="has no column 'PatientID'"):
        read(tree)
    (tree / TABLE).unlink()
    with pytest.raises(RadScribeError, match=f"has no {TABLE}"):
        read(tree)
    for text, message in (("{", "is not valid JSON"), ("{}", "is no list of studies")):
        (tree / PADCHEST_GR_REPORTS).write_text(text)
        with pytest.raises(RadScribeError, match=message):
            read(tree)
    (tree / "grounded_reports_2.json").write_text("[]")
    with pytest.raises(RadScribeError, match="should hold one .*found: grounded_reports_2.json, grounded"):
        read(tree)
