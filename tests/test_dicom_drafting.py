"""Drafting from DICOM: the draft is that of the same picture in PNG, and what is no chest costs itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from dicom_files import DX, ROOT, content, dataset_of, dicom_file, phantom_pixels, twelve_bits
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from tiny_parts import tiny_parts

import radscribe
from radscribe.cli import main
from radscribe.runs.draft_file import DraftFile
from radscribe.runs.drafts import DraftReport
from radscribe.runs.trained_system import TrainedSystem
from radscribe.studies.opening import Opening
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.registry import open_source
from radscribe.studies.store import PreparedStore

pytestmark = pytest.mark.usefixtures("without_java")

CT, MR, SR = (f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2", "4", "88.33"))
#: A file that cannot be drafted, by the name of each, and the reason.
REFUSED = {
    "ct.dcm": "no chest radiograph: SOP class CT Image Storage",
    "hand.dcm": "no chest radiograph: BodyPartExamined says HAND",
    "mr.dcm": "no chest radiograph: SOP class MR Image Storage",
    "report.dcm": "no chest radiograph: SOP class Comprehensive SR Storage",
    "text.dcm": "not an image",
    "truncated.dcm": "truncated",
}


@pytest.fixture(scope="module")
def trained(finished_run) -> TrainedSystem:
    return radscribe.load(finished_run, "cpu")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """A folder with one chest radiograph, and files that cannot be drafted."""
    folder = tmp_path_factory.mktemp("scans")
    good = dicom_file(phantom_pixels(), ViewPosition="PA", BurnedInAnnotation="YES")
    files = {
        "good.dcm": good,
        "ct.dcm": other(1, SOPClassUID=CT, Modality="CT"),
        "hand.dcm": other(2, BodyPartExamined="HAND"),
        "mr.dcm": other(3, SOPClassUID=MR, Modality="MR"),
        "report.dcm": other(4, SOPClassUID=SR, Modality="SR", PixelData=None),
        "text.dcm": b"Findings: the lungs are clear.\n" * 20,
        "truncated.dcm": other(5)[:-20_000],
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def other(number: int, **tags: object) -> bytes:
    """A file of another study."""
    uids = {"StudyInstanceUID": f"{ROOT}7{number}", "SOPInstanceUID": f"{ROOT}8{number}"}
    return dicom_file(phantom_pixels(), **uids, **tags)


def table(entries: np.ndarray, first: int = 0, bits: int = 8) -> Dataset:
    """A VOI lookup table."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return item


def variants() -> dict[str, bytes]:
    """The frontal phantom in DICOM, in forms that a screen shows alike."""
    pixels = phantom_pixels()
    deep, bits = twelve_bits(pixels), {"BitsStored": 12}
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    deflated = dataset_of(pixels)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return {
        "8 bits": dicom_file(pixels),
        "DX": dicom_file(pixels, SOPClassUID=DX, Modality="DX", PresentationIntentType="FOR PRESENTATION"),
        "MONOCHROME1": dicom_file(255 - pixels, **inverted),
        "window": dicom_file(deep, WindowCenter="2040.5", WindowWidth="4081", **bits),
        "exact window": dicom_file(
            deep, WindowCenter="2040", WindowWidth="4080", VOILUTFunction="LINEAR_EXACT", **bits
        ),
        "inverted window": dicom_file(
            4080 - deep, WindowCenter="2040.5", WindowWidth="4081", **bits, **inverted
        ),
        "lookup table": dicom_file(deep, VOILUTSequence=[table(np.arange(4096) // 16)], **bits),
        "rescaled": dicom_file(
            deep, RescaleSlope="2", RescaleIntercept="-100", WindowCenter="3980.5", WindowWidth="8161", **bits
        ),
        "RLE": dicom_file(pixels, syntax=RLELossless),
        "deflated": content(deflated),
        "without tags": dicom_file(pixels, BodyPartExamined=None, Modality=None),
    }


def same(ours: DraftReport, theirs: DraftReport) -> bool:
    """Whether two drafts are equal token for token, with their log-probabilities."""
    return (ours.text, ours.token_logprobs, ours.unlikeness) == (
        theirs.text,
        theirs.token_logprobs,
        theirs.unlikeness,
    )


class TestSameDraft:
    @pytest.mark.parametrize("name", variants())
    def test_the_draft_is_that_of_the_png(self, trained, tmp_path, name):
        Image.fromarray(phantom_pixels()).save(tmp_path / "scan.png")
        (tmp_path / "scan.dcm").write_bytes(variants()[name])
        of_png, of_dicom = (
            next(trained.generate(tmp_path / file, beams=3)) for file in ("scan.png", "scan.dcm")
        )
        assert of_png.text
        assert same(of_dicom, of_png)
        assert (of_dicom.id, of_png.id) == (str(tmp_path / "scan"),) * 2

    def test_real_radiographs_in_dicom(self, trained, shared, tmp_path):
        """Pictures of IU X-Ray, written as DICOM of 8 bits, inverted, and in 12 bits with a window."""
        pictures = sorted((shared / "data/iu_xray/images").glob("*.png"))[:3]
        assert pictures
        for picture in pictures:
            pixels = np.asarray(Image.open(picture).convert("L"))
            Image.fromarray(pixels).save(tmp_path / "scan.png")
            of_png = next(trained.generate(tmp_path / "scan.png"))
            for data in (
                dicom_file(pixels),
                dicom_file(255 - pixels, PhotometricInterpretation="MONOCHROME1"),
                dicom_file(twelve_bits(pixels), WindowCenter="2040.5", WindowWidth="4081", BitsStored=12),
            ):
                (tmp_path / "scan.dcm").write_bytes(data)
                assert same(next(trained.generate(tmp_path / "scan.dcm")), of_png), picture

    @pytest.mark.parametrize("form", ["file", "folder", "zip", "DICOMDIR"])
    def test_however_the_file_is_given(self, trained, tmp_path, form):
        tags = {"StudyID": "1", "SeriesNumber": 1, "InstanceNumber": 1, "ViewPosition": "PA"}
        folder = tmp_path / "disc"
        folder.mkdir()
        (folder / "scan.dcm").write_bytes(dicom_file(phantom_pixels(), **tags))
        (of_file,) = trained.generate(folder / "scan.dcm")
        given, study_id = folder / "scan.dcm", str(folder / "scan")
        if form != "file":
            given, study_id = folder, ROOT + "1"
        if form == "zip":
            given = Path(shutil.make_archive(str(tmp_path / "disc"), "zip", folder))
        elif form == "DICOMDIR":
            disc = FileSet()
            disc.add(folder / "scan.dcm")
            disc.write(tmp_path / "written")
            given = tmp_path / "written/DICOMDIR"
        (draft,) = trained.generate(given)
        assert same(draft, of_file)
        assert draft.id == study_id

    def test_the_views_of_a_study_are_seen_together(self, trained, tmp_path):
        views = {"frontal": {"ViewPosition": "PA"}, "lateral": {"ViewPosition": "LL", "InstanceNumber": 1}}
        folder = tmp_path / "scans"
        folder.mkdir()
        for number, (projection, tags) in enumerate(views.items()):
            pixels = phantom_pixels(projection)
            Image.fromarray(pixels).save(tmp_path / f"{projection}.png")
            data = dicom_file(pixels, SOPInstanceUID=f"{ROOT}9{number}", **tags)
            (folder / f"IM{1 - number}").write_bytes(data)
        (of_png,) = trained.generate([tuple(tmp_path / f"{projection}.png" for projection in views)])
        (draft,) = trained.generate(folder)
        assert same(draft, of_png)
        assert [Path(image).name for image in draft.images] == ["IM1", "IM0"]


class TestRefused:
    def test_generate_goes_on_and_names_each(self, finished_run, scans, capsys):
        main(["generate", str(finished_run), str(scans)])
        printed = capsys.readouterr()
        (line,) = [json.loads(line) for line in printed.out.splitlines()]
        assert (line["id"], line["notes"]) == (ROOT + "1", ["burned-in text"])
        rejected = [text for text in printed.err.splitlines() if text.startswith("rejected ")]
        assert len(rejected) == len(REFUSED)
        for reason in REFUSED.values():
            assert sum(reason in text for text in rejected) == 1, reason
        assert f"note on {ROOT}1: burned-in text" in printed.err

    def test_single_files_are_named(self, finished_run, scans, capsys):
        files = [str(path) for path in sorted(scans.iterdir())]
        main(["generate", str(finished_run), *files])
        printed = capsys.readouterr()
        assert [json.loads(line)["id"] for line in printed.out.splitlines()] == [str(scans / "good")]
        for name, reason in REFUSED.items():
            said = f"rejected {(scans / name).with_suffix('')}: cannot read {scans / name}: {reason}"
            assert said in printed.err

    def test_explain_and_observe_go_on_too(self, finished_run, scans, tmp_path, capsys):
        out = tmp_path / "where"
        main(["explain", str(finished_run), "--images", str(scans), "--out", str(out)])
        printed = capsys.readouterr().err
        assert all(reason in printed for reason in REFUSED.values())
        assert f"note on {ROOT}1: burned-in text" in printed
        page = (out / "index.html").read_text()
        assert page.count('<article class="study"') == 1
        assert "Note: burned-in text." in page
        main(["observe", tiny_parts()["observation-classifier"], str(scans), "--json"])
        printed = capsys.readouterr()
        (line,) = [json.loads(line) for line in printed.out.splitlines()]
        assert (line["id"], line["notes"]) == (ROOT + "1", ["burned-in text"])
        assert all(reason in printed.err for reason in REFUSED.values())
        assert f"note on {ROOT}1: burned-in text" in printed.err

    @pytest.mark.parametrize("name", sorted(REFUSED))
    def test_nothing_but_such_a_file_is_an_error(self, finished_run, scans, name, capsys):
        with pytest.raises(SystemExit, match="^2$"):
            main(["generate", str(finished_run), str(scans / name)])
        assert REFUSED[name] in capsys.readouterr().err.splitlines()[-1]


class TestWithoutTheGate:
    def test_the_switch_takes_what_the_gate_refuses(self, scans, tmp_path, trained):
        options = {"short_side": 64, "workers": 1, "progress": False}
        prepare(scans, tmp_path / "store", chest_only=False, keep_ids=True, **options)
        store = PreparedStore(tmp_path / "store")
        assert sorted(study.id for study in store.studies()) == sorted(
            [ROOT + "1", *(f"{ROOT}7{n}" for n in (1, 2, 3))]
        )
        assert store.manifest["reader_options"]["chest_only"] is False
        rejected = (tmp_path / "store/rejected.csv").read_text()
        assert "no chest radiograph" not in rejected
        assert "no pixel data" in rejected
        (good,) = (study for study in store.studies() if study.id == ROOT + "1")
        (draft,) = trained.generate([good])
        assert same(draft, next(trained.generate(scans / "good.dcm")))

    def test_on_the_command_line(self, scans, tmp_path, capsys):
        main(["prepare", str(scans), "--out", str(tmp_path / "store"), "--no_chest_only", "--workers", "1"])
        assert "studies    4" in capsys.readouterr().out

    def test_pixels_are_not_looked_at_either(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
        (tmp_path / "noise.dcm").write_bytes(dicom_file(noise, BodyPartExamined=None))
        for options in ({"keep_ids": True}, {}):
            (study,) = open_source(tmp_path, "dicom", chest_only=False, **options)
            np.testing.assert_array_equal(study.views[0].source().pixels, noise)

    def test_drafting_has_the_same_switch(self, finished_run, scans, tmp_path, capsys):
        """For folders, single files and tables alike."""
        taken = [ROOT + "1", *(f"{ROOT}7{number}" for number in (1, 2, 3))]
        run, off = str(finished_run), "--no_chest_only"
        main(["generate", run, str(scans), off])
        printed = capsys.readouterr()
        assert sorted(json.loads(line)["id"] for line in printed.out.splitlines()) == sorted(taken)
        assert "no chest radiograph" not in printed.err
        (tmp_path / "table.csv").write_text(f"image\n{scans / 'hand.dcm'}\n")
        for source in (scans / "hand.dcm", tmp_path / "table.csv"):
            main(["observe", tiny_parts()["observation-classifier"], str(source), "--json", off])
            (line,) = capsys.readouterr().out.splitlines()
            assert json.loads(line)["images"] == [str(scans / "hand.dcm")]
        out = tmp_path / "where"
        main(["explain", run, "--images", str(scans / "hand.dcm"), "--out", str(out), off])
        assert (out / "index.html").read_text().count('<article class="study"') == 1
        capsys.readouterr()
        main(["unlike", run, str(scans), "--json", off])
        assert json.loads(capsys.readouterr().out)[1]["studies"] == len(taken)

    def test_a_file_of_drafts_is_resumed_with_the_same_switch(self, finished_run, scans, tmp_path, capsys):
        out = tmp_path / "drafts.jsonl"
        given = ["generate", str(finished_run), str(scans / "good.dcm"), "--out", str(out), "--resume"]
        trained = radscribe.load(finished_run, "cpu")
        with DraftFile(out) as file:
            settings = {"run": trained.origin.sha256, **asdict(trained.decoding()), **asdict(Opening())}
            file.begin(settings, [str(scans / "good")], 16)
        with pytest.raises(SystemExit, match="^2$"):
            main([*given, "--no_chest_only"])
        assert "was begun with another run" in capsys.readouterr().err
        main(given)
        assert json.loads(out.read_text())["id"] == str(scans / "good")
