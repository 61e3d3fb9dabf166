"""The reader of MIMIC-CXR-JPG, on small trees in its layout with odd cases."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from archives import (
    FULL_REPORT,
    METADATA_COLUMNS,
    MIMIC_REPORTS,
    csv_text,
    dicom_id,
    mimic_cxr,
    mimic_cxr_dicom,
    mimic_study,
    packed,
    pictures,
    save,
)

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.registry import open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study, View

METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
SPLIT = "mimic-cxr-2.0.0-split.csv.gz"


def read(source: Path, **options: object) -> tuple[dict[str, Study], list[Rejection]]:
    found = list(open_source(source, "mimic-cxr", **options))
    studies = {record.id: record for record in found if isinstance(record, Study)}
    return studies, [record for record in found if isinstance(record, Rejection)]


def reasons(rejections: list[Rejection]) -> dict[str, str]:
    found = {rejection.study_id: rejection.reason for rejection in rejections}
    assert len(found) == len(rejections)
    return found


def append(path: Path, *rows: str) -> None:
    """Add lines to a table that gzip compressed."""
    packed(path, gzip.decompress(path.read_bytes()).decode() + "".join(f"{row}\n" for row in rows))


@pytest.fixture
def tree(tmp_path) -> Path:
    mimic_cxr(tmp_path / "jpg")
    return tmp_path / "jpg"


def test_every_record_is_used_or_rejected(tree):
    studies, rejections = read(tree)
    assert list(studies) == ["50414267", "51777247", "52822559", "55000006"]
    assert reasons(rejections) == {
        "55000003": "empty report: no findings and no impression; --last_paragraph takes its last paragraph",
        "55000004": "no report",
        "55000005": "no image file",
        "50196495": "no report: the standard sections leave this study out, --hand_ruled takes it",
        "55000006": "missing",
        "55000007": "bad record: its images are in the splits test, train",
        "55999999": f"no image: {METADATA} does not list it",
    }
    missing = next(rejection for rejection in rejections if rejection.reason == "missing")
    assert Path(missing.source) == mimic_study(tree, "12000004", "55000006") / f"{dicom_id(10)}.jpg"


def test_studies(tree):
    studies, _ = read(tree)
    first = studies["50414267"]
    folder = mimic_study(tree, "10000032", "50414267")
    assert [(view.source, view.projection) for view in first.views] == [
        (folder / f"{dicom_id(2)}.jpg", "frontal"),
        (folder / f"{dicom_id(1)}.jpg", "lateral"),
    ]
    assert (first.patient_id, first.split) == ("10000032", "train")
    assert first.sections == {
        "findings": "The lungs are\n clear.",
        "impression": "No acute process.",
        "indication": "Cough.",
        "comparison": "None.",
    }
    assert first.observations == dict.fromkeys(OBSERVATIONS, "absent")
    # An odd header of findings; the history as indication; a view by its code, as its position is blank.
    assert studies["52822559"].sections == {"findings": "Mild edema."}
    assert studies["51777247"].sections == {"impression": "Unchanged.", "indication": "Fever."}
    assert studies["51777247"].views[0].projection == "frontal"
    assert studies["52822559"].observations["Edema"] == "present"
    assert studies["52822559"].observations["Fracture"] == "not_mentioned"
    assert studies["55000006"].split == "test"
    assert studies["55000006"].observations == {}


def test_priors_follow_the_time_and_reach_the_store(tree, tmp_path):
    studies, _ = read(tree, last_paragraph=True)
    assert {study.id: study.prior for study in studies.values()} == {
        "50414267": None,
        "51777247": "52822559",
        "52822559": None,
        "55000003": "51777247",
        "55000006": None,
    }
    prepare(tree, tmp_path / "store", short_side=16, workers=1, progress=False, last_paragraph=True)
    stored = PreparedStore(tmp_path / "store").studies()
    assert {study.id: study.prior for study in stored} == {s.id: s.prior for s in studies.values()}
    again = prepare(tree, tmp_path / "store", short_side=16, workers=1, progress=False, last_paragraph=True)
    assert again.decoded == 0


def test_a_changed_prior_is_a_changed_study(tree, tmp_path):
    prepare(tree, tmp_path / "store", short_side=16, workers=1, progress=False)
    text = gzip.decompress((tree / METADATA).read_bytes()).decode()
    packed(tree / METADATA, text.replace("154200.0", "4200.0"))
    with pytest.raises(RadScribeError, match="2 changed .*51777247: what the source says"):
        prepare(tree, tmp_path / "store", short_side=16, workers=1, progress=False)


def test_studies_of_one_time_or_of_no_time_are_no_priors(tree):
    text = gzip.decompress((tree / METADATA).read_bytes()).decode()
    packed(tree / METADATA, text.replace("154200.0", "085509"))
    studies, _ = read(tree, last_paragraph=True)
    assert studies["51777247"].prior is studies["52822559"].prior is None
    assert studies["55000003"].prior == "51777247"
    packed(tree / METADATA, text.replace("154200.0", "noon").replace("21370224,85509", ",85509"))
    studies, _ = read(tree, last_paragraph=True)
    assert {study.prior for study in studies.values()} == {None}


@pytest.mark.parametrize("where", ["zip", "root", "beside"])
def test_reports_wherever_they_are(tmp_path, where):
    mimic_cxr(tmp_path / "jpg", where)
    options = {"reports": tmp_path / "texts"} if where == "root" else {}
    studies, rejections = read(tmp_path / "jpg", **options)
    assert list(studies) == ["50414267", "51777247", "52822559", "55000006"]
    assert studies["50414267"].sections["impression"] == "No acute process."
    assert reasons(rejections)["55999999"].startswith("no image")
    if where == "zip":
        archive = tmp_path / "jpg/mimic-cxr-reports.zip"
        archive.rename(tmp_path / "other.zip")
        with pytest.raises(RadScribeError, match="holds no report of MIMIC-CXR.*--reports"):
            read(tmp_path / "jpg")
        assert list(read(tmp_path / "jpg", reports=tmp_path / "other.zip")[0]) == list(studies)


def test_line_ends_of_windows(tree):
    path = tree / "files/p10/p10000032/s50414267.txt"
    path.write_bytes(FULL_REPORT.replace("\n", "\r\n").encode())
    assert read(tree)[0]["50414267"].sections["findings"] == "The lungs are\n clear."


def test_the_table_of_sections_is_taken_instead(tree):
    rows = [
        ["s50414267", "Fine.", "", "", "None."],
        ["s52822559", "", "", "Only a last paragraph.", ""],
        ["s55000006", "", "nan", "", ""],
        ["s55000006", "Fine.", "", "", ""],
        ["chest", "Fine.", "", "", ""],
    ]
    columns = ["study", "impression", "findings", "last_paragraph", "comparison"]
    (tree / "mimic_cxr_sectioned.csv").write_text(csv_text(columns, rows))
    studies, rejections = read(tree)
    assert {study.id: study.sections for study in studies.values()} == {
        "50414267": {"impression": "Fine.", "comparison": "None."}
    }
    found = [(rejection.study_id, rejection.reason) for rejection in rejections]
    assert ("51777247", "no report: mimic_cxr_sectioned.csv has no row for it") in found
    assert ("55000006", "duplicate id") in found
    assert ("55000006", "empty report: no findings and no impression") in found
    assert ("line 6", "bad record: its study is 'chest', not like s50414267") in found
    studies, _ = read(tree, last_paragraph=True)
    assert studies["52822559"].sections == {"findings": "Only a last paragraph."}
    assert read(tree, reports=tree / "mimic_cxr_sectioned.csv", last_paragraph=True)[0] == studies
    with pytest.raises(RadScribeError, match="--hand_ruled needs the texts.*--reports mimic-cxr-reports.zip"):
        read(tree, hand_ruled=True)
    more = [[*row, "Cough.", "Old."] for row in rows[:1]]
    (tree / "mimic_cxr_sectioned.csv").write_text(csv_text([*columns, "indication", "history"], more))
    assert read(tree)[0]["50414267"].sections["indication"] == "Cough."


def test_hand_ruled_studies(tree):
    studies, _ = read(tree, hand_ruled=True)
    assert studies["50196495"].sections == {"impression": "A tube without header."}
    assert studies["50196495"].views[0].projection == "unknown"


@pytest.mark.parametrize(
    ("options", "kept", "reason"),
    [
        ({"sections": "findings"}, {"50414267", "52822559", "55000006"}, "empty report: no findings"),
        ({"sections": "impression"}, {"50414267", "51777247", "55000006"}, None),
        ({"complete": True}, {"50414267", "55000006"}, "incomplete report: no findings"),
        ({"sections": "findings", "complete": True}, {"50414267", "52822559", "55000006"}, None),
    ],
)
def test_chosen_sections(tree, options, kept, reason):
    studies, rejections = read(tree, **options)
    assert studies.keys() == kept
    wanted = {options.get("sections", "findings")}
    assert all(wanted <= study.sections.keys() for study in studies.values())
    if options.get("sections"):
        left_out = {"findings", "impression"} - wanted
        assert not any(left_out & study.sections.keys() for study in studies.values())
    if reason:
        assert reasons(rejections)["51777247"] == reason


def test_frontal_views_only(tree):
    studies, rejections = read(tree, frontal_only=True)
    assert [len(study.views) for study in studies.values()] == [1, 1, 1, 1]
    assert {view.projection for study in studies.values() for view in study.views} == {"frontal"}
    assert reasons(rejections)["50414267"] == "not frontal: LATERAL"


def test_images_as_studies(tree):
    studies, rejections = read(tree, unit="images", last_paragraph=True)
    assert list(studies) == [dicom_id(number) for number in (1, 2, 3, 4, 5, 9)]
    assert all(len(study.views) == 1 for study in studies.values())
    assert studies[dicom_id(2)].sections == studies[dicom_id(1)].sections
    assert [studies[dicom_id(number)].prior for number in (3, 4, 5)] == [dicom_id(4), None, dicom_id(3)]
    assert reasons(rejections)[dicom_id(10)] == "missing"
    studies, rejections = read(tree, unit="images", frontal_only=True)
    assert dicom_id(1) not in studies
    assert reasons(rejections)[dicom_id(1)] == "not frontal: LATERAL"


def test_labels(tree):
    assert read(tree, labels="negbio")[0]["52822559"].observations["Edema"] == "uncertain"
    studies, _ = read(tree, labels="test-set")
    assert studies["55000006"].observations == {"Edema": "absent", "Lung Opacity": "present"}
    assert studies["50414267"].observations == {}
    (tree / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    assert read(tree)[0]["50414267"].observations == {}
    with pytest.raises(RadScribeError, match=r"has no mimic-cxr-2.0.0-chexpert.csv.gz. Fetch it: wget"):
        read(tree, labels="chexpert")
    with pytest.raises(RadScribeError, match="unknown value of --labels 'chexbert'. Did you mean 'chexpert'"):
        read(tree, labels="chexbert")


def test_files_and_rows_that_belong_to_nothing(tree):
    images = pictures()
    save(tree / "files/p19/p19999999/s55999999" / f"{dicom_id(99)}.jpg", next(images))
    save(tree / "files/p10/again" / f"{dicom_id(1)}.png", next(images))
    for name in ("notes.pdf", ".hidden", "summary.txt"):
        (tree / "files/p10" / name).write_text("x")
    append(tree / SPLIT, f"{dicom_id(98)},55999998,19999998,train", f"{dicom_id(1)},50414267,10000032,test")
    append(tree / "mimic-cxr-2.0.0-chexpert.csv.gz", f"19999998,55999998{',' * 14}")
    _, rejections = read(tree)
    found = {(rejection.study_id, rejection.reason) for rejection in rejections}
    assert found >= {
        (dicom_id(99), f"no report: {METADATA} does not list it"),
        (dicom_id(98), f"no image: {METADATA} does not list it"),
        ("55999998", f"no image: {METADATA} does not list it"),
        ("notes", "not an image: .pdf"),
        (".hidden", "hidden file"),
        ("summary", "no image: it is not named like a report"),
        (dicom_id(1), "duplicate id"),
    }
    assert any(name == dicom_id(1) and reason.endswith("is taken") for name, reason in found)
    assert not [name for name, _ in found if "index" in name or "LICENSE" in name]


def test_bad_rows_cost_themselves(tree):
    row = f"{dicom_id(20)},{{}},{{}},,PA,1,1,21500101,1,,,"
    append(
        tree / METADATA,
        f"{dicom_id(1)},10000032,50414267,,PA,1,1,21800506,1,,,",
        row.format("10000032", "x"),
        row.format("19999999", "50414267"),
        f"{dicom_id(21)},10000032",
    )
    append(tree / "mimic-cxr-2.0.0-chexpert.csv.gz", f"12000004,55000006,maybe{',' * 13}")
    studies, rejections = read(tree)
    found = {(rejection.study_id, rejection.reason) for rejection in rejections}
    assert found >= {
        (dicom_id(1), "duplicate id"),
        (dicom_id(20), "bad record: study 50414267 is also of another patient"),
        ("line 17", "bad record: 2 fields, and the header has 12 columns"),
        ("55000006", "bad record: 'Atelectasis' is 'maybe', not 1, 0, -1, blank or a state"),
    }
    assert [r.study_id for r in rejections if "which MIMIC-CXR has none like" in r.reason] == ["line 15"]
    assert "50414267" in studies


def test_images_elsewhere_and_unpacked_tables(tree, tmp_path):
    (tree / "files").rename(tmp_path / "small")
    for path in tree.glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    studies, _ = read(tree, images=tmp_path / "small")
    assert len(studies) == 4
    assert studies["50414267"].views[0].source.is_file()
    with pytest.raises(RadScribeError, match="no folder .*absent.*--images"):
        read(tree, images=tmp_path / "absent")


@pytest.mark.parametrize("size", [10, 60, 300])
def test_truncated_tables(tree, size):
    data = (tree / METADATA).read_bytes()
    (tree / METADATA).write_bytes(data[:size])
    with pytest.raises(RadScribeError, match=f"{METADATA} is truncated.*Fetch it again"):
        read(tree)


def test_what_is_missing_is_named(tree):
    (tree / SPLIT).rename(tree / "x")
    with pytest.raises(RadScribeError, match=f"has no {SPLIT}. Fetch it: wget .*{SPLIT}"):
        read(tree)
    packed(tree / SPLIT, "dicom_id,study_id\n")
    with pytest.raises(RadScribeError, match=f"{SPLIT} has no column 'split'"):
        read(tree)
    (tree / METADATA).unlink()
    with pytest.raises(RadScribeError, match=f"has no {METADATA}. Fetch it: wget"):
        read(tree)
    assert METADATA_COLUMNS[0] == "dicom_id"


def test_a_damaged_zip(tmp_path):
    mimic_cxr(tmp_path, "zip")
    path = tmp_path / "mimic-cxr-reports.zip"
    data = bytearray(path.read_bytes())
    data[60:90] = b"\0" * 30
    path.write_bytes(data)
    studies, rejections = read(tmp_path)
    assert "50414267" not in studies
    assert len(studies) == 3
    assert reasons(rejections)["50414267"].startswith("bad record: cannot be unpacked")
    path.write_bytes(data[:-100])
    with pytest.raises(RadScribeError, match="is damaged or cut off"):
        read(tmp_path)
    assert len(MIMIC_REPORTS) == 9


class TestDicom:
    """The DICOM tree of MIMIC-CXR gives what MIMIC-CXR-JPG gives."""

    @pytest.fixture
    def dicom_tree(self, tmp_path) -> Path:
        mimic_cxr_dicom(tmp_path / "dicom")
        return tmp_path / "dicom"

    @staticmethod
    def told(studies: dict[str, Study]) -> list[Study]:
        """The studies with views that are told apart by their names without folder and suffix."""
        return [
            replace(
                study, views=tuple(View(Path(Path(view.name).stem), view.projection) for view in study.views)
            )
            for study in studies.values()
        ]

    @pytest.mark.parametrize("options", [{}, {"unit": "images", "last_paragraph": True}], ids=str)
    def test_the_studies_are_those_of_the_jpg_tree(self, tree, dicom_tree, options):
        studies, rejections = read(dicom_tree, **options)
        ours, theirs = self.told(studies), self.told(read(tree, **options)[0])
        assert ours == theirs
        assert {Path(view.name).suffix for study in studies.values() for view in study.views} == {".dcm"}
        missing = next(rejection for rejection in rejections if rejection.reason == "missing")
        assert missing.source.endswith(f"{dicom_id(10)}.dcm")
        assert reasons(rejections)["55999999"] == "no image: cxr-record-list.csv.gz does not list it"

    def test_it_is_recognised_and_prepared(self, dicom_tree, tmp_path):
        """No gate looks at what the archive says is a chest radiograph."""
        prepare(dicom_tree, tmp_path / "store", short_side=16, workers=1, progress=False)
        stored = {study.id: study for study in PreparedStore(tmp_path / "store").studies()}
        assert list(stored) == ["50414267", "51777247", "52822559", "55000006"]
        assert stored["50414267"].split == "train"
        assert stored["51777247"].prior == "52822559"

    def test_metadata_are_taken_before_the_tags(self, tree, dicom_tree):
        """The DICOM files of an archive beside the tables of MIMIC-CXR-JPG."""
        shutil.rmtree(tree / "files")
        (dicom_tree / "cxr-record-list.csv.gz").unlink()
        text = gzip.decompress((tree / METADATA).read_bytes()).decode()
        packed(tree / METADATA, text.replace(",PA,", ",LATERAL,"))
        studies, _ = read(tree, images=dicom_tree, reports=dicom_tree)
        assert list(studies) == ["50414267", "51777247", "52822559", "55000006"]
        assert {view.projection for view in studies["50414267"].views} == {"lateral"}

    def test_a_file_that_cannot_be_read_costs_its_view(self, dicom_tree, tmp_path):
        path = mimic_study(dicom_tree, "10000032", "50414267") / f"{dicom_id(1)}.dcm"
        path.write_bytes(path.read_bytes()[:400])
        studies, _ = read(dicom_tree)
        assert [view.projection for view in studies["50414267"].views] == ["frontal", "unknown"]
        prepare(dicom_tree, tmp_path / "store", short_side=16, workers=1, progress=False)
        (study,) = (s for s in PreparedStore(tmp_path / "store").studies() if s.id == "50414267")
        assert len(study.views) == 1
        assert str(path) in (tmp_path / "store/rejected.csv").read_text()

    def test_without_splits(self, dicom_tree):
        (dicom_tree / SPLIT).unlink()
        with pytest.raises(RadScribeError, match=f"has no {SPLIT}. Fetch it: wget"):
            read(dicom_tree)
