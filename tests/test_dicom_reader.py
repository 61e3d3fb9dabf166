"""DICOM files as studies: the gate, projections, grouping, ids, archives, and what goes into a store."""

from __future__ import annotations

import csv
import io
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_files import DX, PACKAGED, ROOT, code, content, dataset_of, dicom_file, phantom_pixels, twelve_bits
from PIL import Image
from pydicom.dataset import Dataset

from radscribe.errors import RadScribeError
from radscribe.studies.dicom_gate import WAY_OUT, gate_by_tags
from radscribe.studies.dicom_tags import projection_in
from radscribe.studies.given import given_studies
from radscribe.studies.image_error import ImageError
from radscribe.studies.images import read_file, read_view
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.registry import find_reader, open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study

LATERAL = twelve_bits(phantom_pixels("lateral"))
#: What must not be in a store: name, id, dates of birth and study, accession number, the root of all UIDs.
IDENTIFYING = re.compile(rb"(?i)quirrel|zebulon|778899|19340712|20210304|20200101|445566|1\.2\.826\.")


def tags(**given: object) -> Dataset:
    return dataset_of(np.zeros((4, 4), np.uint8), **given)


def split(records: list[Study | Rejection]) -> tuple[list[Study], dict[str, str]]:
    rejected = {record.source: record.reason for record in records if isinstance(record, Rejection)}
    return [record for record in records if isinstance(record, Study)], rejected


def refused(folder: Path, data: bytes) -> str:
    (folder / "refused").write_bytes(data)
    with pytest.raises(ImageError) as caught:
        read_file(folder / "refused")
    return caught.value.reason


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A folder named after its patient, with two studies, of two views and of one, and five useless files."""
    folder = tmp_path / "source" / "Quirrel^Zebulon_PID-778899"
    folder.mkdir(parents=True)
    lateral = {"BitsStored": 12, "ViewPosition": "LL", "InstanceNumber": 1, "SOPInstanceUID": ROOT + "31"}
    earlier = {"StudyInstanceUID": ROOT + "12", "StudyDate": "20200101", "SOPInstanceUID": ROOT + "32"}
    for name, data in {
        "IM0": dicom_file(LATERAL, **lateral),
        "IM1": dicom_file(ViewPosition="PA", InstanceNumber=2, BurnedInAnnotation="YES"),
        "IM2.dcm": dicom_file(**earlier),
        "again.dcm": dicom_file(ViewPosition="PA", InstanceNumber=3),
        "cut.dcm": dicom_file(StudyInstanceUID=ROOT + "13", SOPInstanceUID=ROOT + "33")[:-5000],
        "knee.dcm": dicom_file(StudyInstanceUID=ROOT + "14", BodyPartExamined="KNEE"),
        "note.txt": b"Quirrel was here on 20210304",
        "junk.dcm": b"junk",
    }.items():
        (folder / name).write_bytes(data)
    return folder.parent


class TestGate:
    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ({}, ""),
            ({"SOPClassUID": DX, "Modality": "DX"}, ""),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"}, ""),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}, "SOP class CT Image Storage"),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "SOP class Basic Text SR Storage"),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2"}, "SOP class Digital Mammography"),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "CT"}, "modality CT"),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "raw detector data"),
            ({"SOPClassUID": DX, "PresentationIntentType": "FOR PROCESSING"}, "raw detector data"),
            ({"BodyPartExamined": "EXTREMETY"}, "BodyPartExamined says EXTREMETY"),
            ({"BodyPartExamined": "CHEST ABDOMEN"}, ""),
            ({"BodyPartExamined": "CHEST", "SeriesDescription": "Knee"}, ""),
            ({"BodyPartExamined": None, "SeriesDescription": "Doe: Knee"}, "SeriesDescription says KNEE"),
            ({"BodyPartExamined": "", "SeriesDescription": "Thorax ap"}, ""),
            ({"BodyPartExamined": None, "StudyDescription": "Pelvis"}, "StudyDescription says PELVIS"),
            ({"BodyPartExamined": None, "SeriesDescription": "Chest PA", "StudyDescription": "Pelvis"}, ""),
            ({"BodyPartExamined": None, "AnatomicRegionSequence": [code("51185008", "Brustkorb")]}, ""),
            (
                {"BodyPartExamined": None, "AnatomicRegionSequence": [code("69536005", "Head")]},
                "AnatomicRegionSequence says HEAD",
            ),
        ],
    )
    def test_by_tags(self, given, reason):
        found = gate_by_tags(tags(**given)).reason
        assert found.startswith(f"no chest radiograph: {reason}" if reason else "")
        assert bool(found) == bool(reason)
        assert "Doe" not in found

    @pytest.mark.parametrize("projection", ["frontal", "lateral"])
    def test_a_chest_without_tags_passes(self, tmp_path, projection):
        pixels = phantom_pixels(projection)
        (tmp_path / "scan").write_bytes(dicom_file(pixels, BodyPartExamined=None, Modality=None))
        np.testing.assert_array_equal(read_file(tmp_path / "scan").pixels, pixels)

    def test_what_is_no_radiograph_without_tags_is_refused(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
        screen = np.zeros((400, 500), np.uint8)
        screen[100:300:20, 50:450] = 200
        smooth = np.asarray(Image.radial_gradient("L"))
        for pixels, reason in (
            (noise, "neighbouring pixels have nothing in common"),
            (screen, "too few shades of grey"),
            (np.tile(smooth, (3, 1)), "a strip of 256 x 768 pixels"),
        ):
            assert refused(tmp_path, dicom_file(pixels, BodyPartExamined=None)).endswith(
                f"and {reason}{WAY_OUT}"
            )
            (tmp_path / "stated").write_bytes(dicom_file(pixels, BodyPartExamined="CHEST"))
            assert read_file(tmp_path / "stated").pixels.shape == pixels.shape
        colours = (PACKAGED / "SC_rgb_rle.dcm").read_bytes()
        assert refused(tmp_path, colours).endswith(f"and the picture has colours{WAY_OUT}")

    def test_the_packaged_files_are_no_chests(self):
        """CR of cervical spines, CT and MR, read by their DICOMDIR."""
        records = list(open_source(PACKAGED / "dicomdirtests/DICOMDIR", keep_ids=True))
        assert len(records) == 31
        reasons = {record.reason for record in records}
        assert reasons == {
            "no chest radiograph: BodyPartExamined says CSPINE" + WAY_OUT,
            "no chest radiograph: SOP class CT Image Storage" + WAY_OUT,
            "no chest radiograph: SOP class MR Image Storage" + WAY_OUT,
        }


class TestProjection:
    @pytest.mark.parametrize(
        ("given", "projection"),
        [
            ({"ViewPosition": "PA"}, "frontal"),
            ({"ViewPosition": "LL"}, "lateral"),
            ({"ViewPosition": "LL", "PatientOrientation": ["L", "F"]}, "lateral"),
            ({"ViewPosition": "RAO"}, "unknown"),
            ({"ViewCodeSequence": [code("R-10214", "pa", "SNM3")]}, "frontal"),
            ({"ViewCodeSequence": [code("399173006", "links")]}, "lateral"),
            ({"ViewCodeSequence": [code("x", "postero-anterior", "99X")]}, "frontal"),
            ({"ViewCodeSequence": [code("x", "antero-posterior oblique", "99X")]}, "unknown"),
            ({"PatientOrientation": ["L", "F"]}, "frontal"),
            ({"PatientOrientation": ["A", "F"]}, "lateral"),
            ({"PatientOrientation": ["P", "FL"]}, "lateral"),
            ({"PatientOrientation": ["L", "P"]}, "unknown"),
            ({"SeriesDescription": "W chest lat."}, "lateral"),
            ({"SeriesDescription": "RIBS L"}, "unknown"),
            ({"ProtocolName": "Chest AP portable"}, "frontal"),
            ({"StudyDescription": "Chest PA"}, "unknown"),
            ({"ViewPosition": "", "PatientOrientation": ["L", "F"], "SeriesDescription": "LAT"}, "frontal"),
        ],
    )
    def test_by_tags(self, given, projection):
        assert projection_in(tags(**given)) == projection


class TestReader:
    def test_groups_by_study_and_keeps_ids_when_asked(self, disc):
        assert find_reader(disc) == "dicom"
        studies, rejected = split(list(open_source(disc, keep_ids=True)))
        (inside,) = disc.iterdir()
        found = [
            (study.id, study.patient_id, [(Path(view.name).name, view.projection) for view in study.views])
            for study in studies
        ]
        assert found == [
            (ROOT + "12", "PID-778899", [("IM2.dcm", "unknown")]),
            (ROOT + "1", "PID-778899", [("IM1", "frontal"), ("IM0", "lateral")]),
            (ROOT + "13", "PID-778899", [("cut.dcm", "unknown")]),
            (f"{inside.name}/junk.dcm", f"{inside.name}/junk.dcm", [("junk.dcm", "unknown")]),
        ]
        assert {Path(source).name: reason for source, reason in rejected.items()} == {
            "again.dcm": "duplicate id: another file has the same SOPInstanceUID",
            "knee.dcm": f"no chest radiograph: BodyPartExamined says KNEE{WAY_OUT}",
            "note.txt": "not DICOM: a text, which --reader folder reads as a report",
        }

    def test_nothing_that_identifies_goes_into_a_store(self, disc, tmp_path, capsys):
        summary = prepare(disc, tmp_path / "store", short_side=64, workers=1, progress=False)
        assert summary.store.notes == {"burned-in text": 1}
        assert sum(summary.store.studies.values()) == 2
        for path in (tmp_path / "store").iterdir():
            assert not IDENTIFYING.search(path.read_bytes()), path.name
        with open(tmp_path / "store/rejected.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert sorted(row["reason"].split(":")[0] for row in rows) == [
            "duplicate id",
            "no chest radiograph",
            "not DICOM",
            "not an image",
            "truncated",
        ]
        assert all(re.fullmatch("file-[0-9a-f]{16}", row["source"]) for row in rows)
        key = tmp_path / "store.pseudonym_key"
        assert key.stat().st_mode & 0o777 == 0o600
        said = capsys.readouterr().err
        assert str(key) in said
        assert key.read_text().strip() not in said

    def test_the_same_key_gives_the_same_ids_and_no_key_other_ids(self, disc, tmp_path):
        def ids(**options: object) -> list[str]:
            return [study.id for study in split(list(open_source(disc, **options)))[0]]

        key = tmp_path / "keys/mine"
        assert ids(pseudonym_key=key) == ids(pseudonym_key=key)
        assert not set(ids(pseudonym_key=key)) & set(ids())
        assert not set(ids()) & set(ids())

    def test_a_store_is_resumed_and_updated_under_its_key(self, disc, tmp_path):
        options = {"short_side": 64, "workers": 1, "progress": False}
        prepare(disc, tmp_path / "store", limit=None, **options)
        assert not prepare(disc, tmp_path / "store", **options).changes
        (inside,) = disc.iterdir()
        later = dicom_file(StudyInstanceUID=ROOT + "15", SOPInstanceUID=ROOT + "35", StudyDate="20190101")
        (inside / "IM9").write_bytes(later)
        (inside / "IM2.dcm").touch()
        changes = prepare(disc, tmp_path / "store", update=True, **options).changes
        assert (len(changes.added), len(changes.changed), len(changes.removed)) == (1, 1, 0)
        (tmp_path / "store.pseudonym_key").unlink()
        with pytest.raises(RadScribeError, match="the key .* is gone"):
            prepare(disc, tmp_path / "store", **options)

    def test_an_archive_gives_what_its_folder_gives(self, disc, tmp_path):
        archive = Path(shutil.make_archive(str(tmp_path / "disc"), "zip", disc))
        key = tmp_path / "key"
        of_folder, rejected = split(list(open_source(disc, pseudonym_key=key)))
        of_archive, rejected_there = split(list(open_source(archive, pseudonym_key=key)))
        assert [(s.id, s.patient_id) for s in of_archive] == [(s.id, s.patient_id) for s in of_folder[:3]]
        assert len(rejected_there) == len(rejected) + 1  # junk.dcm is looked at here, and decoded there
        for here, there in zip(of_folder[:2], of_archive, strict=False):
            for one, other in zip(here.views, there.views, strict=True):
                copy = pickle.loads(pickle.dumps(other))
                np.testing.assert_array_equal(read_view(one, 64).pixels, read_view(copy, 64).pixels)

    def test_damaged_archives(self, disc, tmp_path):
        archive = Path(shutil.make_archive(str(tmp_path / "disc"), "zip", disc))
        folder = tmp_path / "archives"
        folder.mkdir()
        shutil.copy(archive, folder / "whole.zip")
        data = archive.read_bytes()
        (folder / "cut.zip").write_bytes(data[: len(data) // 2])
        studies, rejected = split(list(open_source(folder, keep_ids=True)))
        assert len(studies) == 3
        assert rejected[str(folder / "cut.zip")].startswith("damaged: ")
        encrypted = bytearray(data)
        for signature, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
            at = encrypted.find(signature)
            while at >= 0:
                encrypted[at + place] |= 1
                at = encrypted.find(signature, at + 1)
        (tmp_path / "locked.zip").write_bytes(encrypted)
        assert set(split(list(open_source(tmp_path / "locked.zip", "dicom")))[1].values()) == {
            "encrypted: unpack the archive first"
        }

    def test_a_directory_names_files_that_are_not_there(self, tmp_path):
        shutil.copy(PACKAGED / "dicomdirtests/DICOMDIR", tmp_path)
        (tmp_path / "IM1").write_bytes(dicom_file())
        studies, rejected = split(list(open_source(tmp_path, keep_ids=True)))
        assert [study.id for study in studies] == [ROOT + "1"]
        assert len(rejected) == 31
        assert set(rejected.values()) == {"missing: DICOMDIR names it"}

    def test_a_directory_that_leads_elsewhere_is_refused(self, tmp_path):
        data = (PACKAGED / "dicomdirtests/DICOMDIR").read_bytes()
        (tmp_path / "DICOMDIR").write_bytes(data.replace(b"77654033\\CR1", b"..\\..\\..\\CR1"))
        with pytest.raises(RadScribeError, match="names a file outside of its folder"):
            list(open_source(tmp_path / "DICOMDIR", keep_ids=True))

    def test_a_study_of_two_patients_and_one_of_too_many_views(self, tmp_path):
        (tmp_path / "a").write_bytes(dicom_file())
        (tmp_path / "b").write_bytes(dicom_file(PatientID="other", SOPInstanceUID=ROOT + "99"))
        for number in range(17):
            uids = {"StudyInstanceUID": ROOT + "20", "SOPInstanceUID": f"{ROOT}20.{number + 1}"}
            (tmp_path / f"c{number}").write_bytes(dicom_file(LATERAL[::8, ::8], BitsStored=12, **uids))
        studies, rejected = split(list(open_source(tmp_path)))
        assert studies == []
        assert sorted(rejected.values()) == [
            "bad record: its images are of 2 patients",
            "too many views: 17 images",
        ]


class TestOtherWays:
    def test_files_and_folders_to_draft_for(self, disc, tmp_path):
        (inside,) = disc.iterdir()
        (alone,) = given_studies(inside / "IM0")
        assert alone.id == (inside / "IM0").as_posix()
        assert [view.projection for view in alone.views] == ["lateral"]
        (pair,) = given_studies([(inside / "IM0", inside / "IM1")])
        assert [view.projection for view in pair.views] == ["lateral", "frontal"]
        rejected: list[Rejection] = []
        studies = list(given_studies(disc, rejected.append))
        assert [study.id for study in studies][:2] == [ROOT + "12", ROOT + "1"]
        assert len(rejected) == 3

    def test_a_table_takes_dicom(self, disc, tmp_path):
        (inside,) = disc.iterdir()
        rows = f"image,report,view\n{inside.name}/IM0,Clear.,\n{inside.name}/IM1,Clear.,lateral\n"
        (disc / "reports.csv").write_text(rows)
        studies, _ = split(list(open_source(disc / "reports.csv")))
        assert [view.projection for study in studies for view in study.views] == ["lateral", "lateral"]
        assert read_view(studies[0].views[0], 64).pixels.shape[1] >= 64

    def test_a_folder_with_other_images_is_read_by_its_paths(self, tmp_path):
        Image.fromarray(phantom_pixels()).save(tmp_path / "a.png")
        Image.fromarray(phantom_pixels()).save(tmp_path / "called.dcm", "PNG")
        (tmp_path / "1.2.3.4").write_bytes(dicom_file(ViewPosition="LL"))
        (tmp_path / "1.2.3.5").write_bytes(dicom_file(ViewPosition="PA"))
        assert find_reader(tmp_path) == "folder"
        studies, rejected = split(list(open_source(tmp_path)))
        assert {study.id: study.views[0].projection for study in studies} == {
            "1.2.3.4": "lateral",
            "1.2.3.5": "frontal",
            "a": "unknown",
            "called": "unknown",
        }
        assert rejected == {}
        for study in studies:
            read_view(study.views[0], 64)

    def test_options_that_contradict_each_other(self, disc, tmp_path):
        with pytest.raises(RadScribeError, match="Leave one of them out"):
            list(open_source(disc, keep_ids=True, pseudonym_key=tmp_path / "key"))
        with pytest.raises(RadScribeError, match="would lie in the store"):
            prepare(disc, tmp_path / "store", pseudonym_key=tmp_path / "store/key")
        (tmp_path / "bad").write_text("no key")
        with pytest.raises(RadScribeError, match="holds no key"):
            prepare(disc, tmp_path / "store", pseudonym_key=tmp_path / "bad")
        assert not (tmp_path / "store").exists()

    def test_views_in_a_store_keep_their_notes(self, tmp_path):
        frames = np.stack([LATERAL, LATERAL])
        (tmp_path / "scan").write_bytes(content(dataset_of(frames, BitsStored=12)))
        prepare(tmp_path / "scan", tmp_path / "store", short_side=64, workers=2, progress=False)
        (study,) = PreparedStore(tmp_path / "store").studies()
        assert study.views[0].source.notes == ("first of several frames",)
        assert study.views[0].source().notes == ("first of several frames",)


def test_a_zip_of_nothing_in_dicom_is_not_recognised(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(RadScribeError, match="cannot tell what"):
        find_reader(tmp_path / "x.zip")
    assert io.BytesIO((tmp_path / "x.zip").read_bytes()).read(2) == b"PK"
