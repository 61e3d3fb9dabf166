"""`--no_chest_only`, for chests that the gate of DICOM files refuses: in every reader and command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from archives import mimic_cxr_dicom
from dicom_files import ROOT, dicom_file, phantom_pixels
from PIL import Image
from small_archives import IMAGE_TYPE, padchest_gr, write_arrow, write_parquet
from test_readers import openi_xml
from tiny_parts import tiny_parts

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.studies.images import original_view, read_file, read_view
from radscribe.studies.opening import Opening
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.dicom_files import DicomFile
from radscribe.studies.readers.registry import READERS, open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study, View

#: Where the files lie in each source.
GOOD, REFUSED = "images/CXR1_IM-0001", "images/CXR2_IM-0002"
OPTIONS = {"short_side": 32, "workers": 1, "progress": False}


def files(folder: Path, suffix: str) -> dict[str, bytes]:
    """Write a chest, and a chest whose tags say that it is a hand."""
    contents = {
        GOOD: dicom_file(phantom_pixels()),
        REFUSED: dicom_file(
            phantom_pixels(),
            BodyPartExamined="HAND",
            StudyInstanceUID=ROOT + "8",
            SOPInstanceUID=ROOT + "9",
        ),
    }
    (folder / "images").mkdir(parents=True)
    for name, content in contents.items():
        (folder / f"{name}{suffix}").write_bytes(content)
    return contents


def folder_of_images(source: Path) -> None:
    files(source, ".dcm")


def table(source: Path) -> None:
    files(source, ".dcm")
    (source / "t.csv").write_text(f"image,report\n{GOOD}.dcm,Clear.\n{REFUSED}.dcm,Clear.\n")


def iu_xray_kaggle(source: Path) -> None:
    """The files on Kaggle are called PNG; content tells what a file is."""
    files(source, ".png")
    (source / "indiana_reports.csv").write_text("uid,findings,impression\n1,Clear.,\n2,Clear.,\n")
    rows = "".join(f"{n},{Path(name).name}.png,Frontal\n" for n, name in ((1, GOOD), (2, REFUSED)))
    (source / "indiana_projections.csv").write_text("uid,filename,projection\n" + rows)


def iu_xray_openi(source: Path) -> None:
    files(source, ".dcm")
    (source / "ecgen-radiology").mkdir()
    for number, name in ((1, GOOD), (2, REFUSED)):
        xml = openi_xml(number, {"FINDINGS": "Clear."}, [Path(name).name])
        (source / f"ecgen-radiology/{number}.xml").write_text(xml)


def r2gen_annotation(source: Path) -> None:
    files(source, ".png")
    entries = [
        {
            "id": Path(name).name,
            "report": "Clear.",
            "image_path": [f"{Path(name).name}.png"],
            "split": "train",
        }
        for name in (GOOD, REFUSED)
    ]
    (source / "annotation.json").write_text(json.dumps({"train": entries}))


def rexrank(source: Path) -> None:
    files(source, ".png")
    entries = {
        Path(name).name: {"image_path": [f"{Path(name).name}.png"], "section_findings": "Clear."}
        for name in (GOOD, REFUSED)
    }
    (source / "ReXRank_test.json").write_text(json.dumps(entries))


def image_folder_of_hugging_face(source: Path) -> None:
    files(source, ".dcm")
    lines = [json.dumps({"file_name": f"{name}.dcm", "findings": "Clear."}) for name in (GOOD, REFUSED)]
    (source / "metadata.jsonl").write_text("\n".join(lines))


def cells(source: Path, suffix: str) -> None:
    """A table of Hugging Face whose cells have the bytes of the files."""
    rows = [
        {"image": {"bytes": content, "path": f"{name}.dcm"}, "findings": "Clear."}
        for name, content in files(source / "elsewhere", "").items()
    ]
    schema = pyarrow.schema({"image": IMAGE_TYPE, "findings": pyarrow.string()})
    write = write_parquet if suffix == "parquet" else write_arrow
    write(source / f"data/train.{suffix}", pyarrow.Table.from_pylist(rows, schema=schema))


SOURCES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "folder": ("folder", folder_of_images),
    "table": ("table", table),
    "iu-xray-kaggle": ("iu-xray-kaggle", iu_xray_kaggle),
    "iu-xray-openi": ("iu-xray-openi", iu_xray_openi),
    "r2gen-annotation": ("r2gen-annotation", r2gen_annotation),
    "rexrank": ("rexrank", rexrank),
    "image folder": ("hugging-face", image_folder_of_hugging_face),
    "parquet": ("hugging-face", lambda source: cells(source, "parquet")),
    "arrow": ("hugging-face", lambda source: cells(source, "arrow")),
    "dicom": ("dicom", folder_of_images),
}
#: Readers of archives whose images are PNG files, and those without a gate.
OTHERS = {"chexpert-plus", "rexgradient", "mimic-cxr", "padchest-gr", "phantom"}


def test_every_reader_is_here():
    assert {reader for reader, _ in SOURCES.values()} | OTHERS == READERS.keys()
    assert {name for name, reader in READERS.items() if not reader.gated} == {
        "mimic-cxr",
        "padchest-gr",
        "phantom",
    }


@pytest.mark.parametrize("kind", SOURCES)
def test_the_switch_takes_what_the_gate_refuses(kind, tmp_path, capsys):
    reader, make = SOURCES[kind]
    source = tmp_path / "source"
    make(source)
    command = ["prepare", str(source), "--reader", reader, "--short_side", "32", "--workers", "1"]
    # The folder reader takes images in one sub-folder as one study.
    command += ["--study_pattern", "(.*)[.]"] if reader == "folder" else []
    command += ["--keep_ids"] if reader == "dicom" else []
    main([*command, "--out", str(tmp_path / "with")])
    with open(tmp_path / "with/rejected.csv", newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    (refused,) = (reason for reason in reasons if reason.startswith("no chest radiograph"))
    assert refused.endswith("BodyPartExamined says HAND; if it is one, --no_chest_only takes it")
    main([*command, "--out", str(tmp_path / "without"), "--no_chest_only"])
    assert "studies    2" in capsys.readouterr().out
    gated, taken = (PreparedStore(tmp_path / name) for name in ("with", "without"))
    assert (len(gated), len(taken)) == (1, 2)
    assert taken.manifest["reader_options"]["chest_only"] is False
    (before,) = gated.views()
    after = taken.views()
    assert before[1].file in [view.file for _, view in after]
    assert not any(Path(view.file).is_absolute() for _, view in after)
    for _, view in after:
        np.testing.assert_array_equal(view().pixels, before[1]().pixels)
    # The same command finds the store complete.
    main([*command, "--out", str(tmp_path / "without"), "--no_chest_only"])
    assert "2 of 2 studies were there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reader", "make"), [("mimic-cxr", mimic_cxr_dicom), ("padchest-gr", padchest_gr), ("phantom", None)]
)
def test_readers_without_a_gate_say_so(reader, make, tmp_path):
    source = tmp_path / "source" if make else Path("phantom")
    if make:
        make(source)
    with pytest.raises(RadScribeError, match=f"the reader {reader} takes no --no_chest_only. Leave it out"):
        open_source(source, reader, chest_only=False)
    given = list(open_source(source, reader, chest_only=True))
    assert not any("no chest" in record.reason for record in given if isinstance(record, Rejection))
    assert any(isinstance(record, Study) for record in given)


def test_a_dicom_file_among_boxed_images_meets_no_gate(tmp_path):
    padchest_gr(tmp_path)
    refused = dicom_file(phantom_pixels(), BodyPartExamined="HAND")
    (tmp_path / "Padchest_GR_files/PadChest_GR/1_dln48o.png").write_bytes(refused)
    (study,) = (record for record in open_source(tmp_path) if isinstance(record, Study) and record.id == "1")
    np.testing.assert_array_equal(original_view(study.views[0]).pixels, phantom_pixels())


def test_a_pseudonym_stays_without_the_gate(tmp_path):
    folder_of_images(tmp_path / "source")
    prepare(tmp_path / "source", tmp_path / "store", chest_only=False, **OPTIONS)
    store = PreparedStore(tmp_path / "store")
    assert all(view.file.startswith("file-") for _, view in store.views())


def test_a_large_jpeg_is_reduced_without_the_gate_too(tmp_path):
    """A folder of DICOM files may have JPEG files beside them."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (800, 900), np.uint8))
    picture.save(tmp_path / "0.jpg")
    reduced = read_file(tmp_path / "0.jpg", reduced_to=100)
    view = View(tmp_path / "0.jpg")
    study = Study("0", "0", (view,))
    for opening in (Opening(), Opening(chest_only=False)):
        (opened,) = opening.of(study).views
        found = original_view(opened, 100)
        np.testing.assert_array_equal(found.pixels, reduced.pixels)
        assert found.original_size == (800, 900)
        read = read_view(opened, 100, reduced_jpeg=True)
        np.testing.assert_array_equal(read.pixels, reduced.pixels)
    prepare(tmp_path, tmp_path / "store", chest_only=False, reduced_jpeg=True, **OPTIONS)
    ((_, stored),) = PreparedStore(tmp_path / "store").views()
    expected = read_view(view, 32, reduced_jpeg=True).pixels
    np.testing.assert_array_equal(stored().pixels, expected)


def test_a_file_outside_of_the_source_keeps_its_path(tmp_path):
    files(tmp_path, ".dcm")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/t.csv").write_text(f"image\n{Path(GOOD).name}.dcm\n")
    for name, chest_only in (("with", True), ("without", False)):
        options = {**OPTIONS, "images": tmp_path / "images", "chest_only": chest_only}
        prepare(tmp_path / "tables", tmp_path / name, **options)
        ((_, view),) = PreparedStore(tmp_path / name).views()
        assert view.file == str(tmp_path / f"{GOOD}.dcm")


class TestCommands:
    """What the gate says to type is there in every command that opens images."""

    @pytest.fixture
    def hand(self, tmp_path) -> str:
        files(tmp_path, ".dcm")
        return str(tmp_path / f"{REFUSED}.dcm")

    def test_retrieve(self, hand, capsys):
        self.refused_and_taken(["retrieve", tiny_parts()["retriever"], hand], capsys)

    def test_regions(self, hand, tmp_path, capsys):
        command = ["regions", tiny_parts()["disease-queries"], hand, "--out", str(tmp_path / "page.html")]
        self.refused_and_taken([*command, "--patch", "14", "--observation", "Edema"], capsys)

    def test_observe(self, hand, capsys):
        self.refused_and_taken(["observe", tiny_parts()["observation-classifier"], hand], capsys)

    @staticmethod
    def refused_and_taken(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="^2$"):
            main(command)
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.endswith("BodyPartExamined says HAND; if it is one, --no_chest_only takes it")
        main([*command, "--no_chest_only"])
        assert "no chest radiograph" not in capsys.readouterr().err


def test_a_file_that_is_named_by_its_path_in_an_archive(tmp_path):
    """A view in an archive keeps the name that it has there."""
    view = View(DicomFile(tmp_path / "a.zip", "IM1", "a.zip/IM1"))
    (opened,) = Opening(chest_only=False).of(Study("1", "1", (view,))).views
    assert opened.name == "a.zip/IM1"
    assert isinstance(opened.source, DicomFile)
    assert not opened.source.chest_only
