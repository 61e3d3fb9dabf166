"""Text that is burned into pixels: which of it could identify a patient, and reading it from views."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dicom_file, phantom_pixels
from PIL import Image, ImageDraw, ImageFont

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.studies import burned_in_text
from radscribe.studies.burned_in_text import BURNED_IN, may_identify, read_text
from radscribe.studies.given import given_studies
from radscribe.studies.images import original_view
from radscribe.studies.opening import Opening
from radscribe.studies.store import PreparedStore

NAME = "DOE^JOHN 1961-02-03"


@pytest.fixture
def reader() -> None:
    """Skip the test where the reader is not installed: it is no part of the extra `dev`, for it is large."""
    for package in ("rapidocr", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'radscribe[ocr]'")


def drawn(text: str, pixels: np.ndarray | None = None) -> np.ndarray:
    """A picture, by default the frontal phantom, with a text in its upper left corner."""
    image = Image.fromarray(phantom_pixels() if pixels is None else pixels)
    size = min(image.size) // 20
    ImageDraw.Draw(image).text((size, size), text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(image)


@pytest.mark.parametrize(
    ("line", "identifies"),
    [
        ("L", False),
        ("R AP", False),
        ("PORTABLE", False),
        ("Semi-Upright AP Portable", False),
        ("LT. LAT 72 in", False),
        ("110 kV", False),
        ("CH", False),
        ("", False),
        (NAME, True),
        ("Doe", True),
        ("MÜLLER", True),
        ("03.02.61", True),
        ("14:35", True),
        ("4711-08", True),
        ("St. Mary", True),
        ("L KIM", True),
    ],
)
def test_what_may_identify(line, identifies):
    assert may_identify([line]) == identifies
    assert may_identify(["L", line]) == identifies


@pytest.mark.usefixtures("reader")
class TestReading:
    def test_a_name_on_a_real_radiograph_is_noted_and_a_side_is_not(self, shared, tmp_path):
        picture = sorted((shared / "data/iu_xray/images").glob("1900_*.png"))[0]
        pixels = np.asarray(Image.open(picture).convert("L"))
        assert not may_identify(read_text(pixels))
        notes = {}
        for text in (NAME, "L"):
            (tmp_path / "scan.dcm").write_bytes(dicom_file(drawn(text, pixels)))
            (study,) = given_studies(tmp_path / "scan.dcm", opening=Opening(read_text=True))
            notes[text] = original_view(study.views[0]).notes
        assert notes == {NAME: (BURNED_IN,), "L": ()}

    def test_a_store_keeps_the_note_and_not_the_text(self, tmp_path, capsys):
        (tmp_path / "scans").mkdir()
        (tmp_path / "scans/name.dcm").write_bytes(dicom_file(drawn(NAME)))
        Image.fromarray(drawn("L")).save(tmp_path / "scans/side.png")
        out = tmp_path / "store"
        main(["prepare", str(tmp_path / "scans"), "--out", str(out), "--read_text", "--workers", "1"])
        assert "burned-in text: 1 views" in capsys.readouterr().out
        noted = {study.id: study.views[0].source.notes for study in PreparedStore(out).studies()}
        assert noted == {"name": (BURNED_IN,), "side": ()}
        assert not any(b"DOE" in path.read_bytes() for path in out.iterdir() if path.suffix != ".bin")
        with pytest.raises(SystemExit, match="^2$"):
            main(["prepare", str(tmp_path / "scans"), "--out", str(out), "--workers", "1"])
        assert "was prepared with read_text True, not False" in capsys.readouterr().err

    @pytest.mark.usefixtures("without_java")
    def test_a_draft_says_so(self, finished_run, tmp_path, capsys):
        Image.fromarray(drawn(NAME)).save(tmp_path / "scan.png")
        main(["generate", str(finished_run), str(tmp_path / "scan.png"), "--read_text"])
        printed = capsys.readouterr()
        line = json.loads(printed.out)
        assert (line["notes"], line["images"]) == ([BURNED_IN], [str(tmp_path / "scan.png")])
        assert f"note on {tmp_path / 'scan'}: burned-in text" in printed.err
        assert "DOE" not in printed.out + printed.err


def test_without_the_reader_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    burned_in_text._reader.cache_clear()
    (tmp_path / "scan.dcm").write_bytes(dicom_file())
    with pytest.raises(RadScribeError, match="needs rapidocr") as caught:
        list(given_studies(tmp_path / "scan.dcm", opening=Opening(read_text=True)))
    assert "pip install 'radscribe[ocr]'" in str(caught.value)
    with pytest.raises(SystemExit, match="^2$"):
        main(["prepare", str(tmp_path), "--out", str(tmp_path / "store"), "--read_text"])
    assert not Path(tmp_path / "store").exists()
