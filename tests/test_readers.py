"""Every reader, through the registry, on small real files of its form; and each one's own rules."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archives import chexpert_plus, mimic_cxr
from dicom_files import ROOT, dicom_file, phantom_pixels, twelve_bits
from PIL import Image
from small_archives import hugging_face, padchest_gr, rexgradient, rexrank

from radscribe.errors import RadScribeError
from radscribe.studies.images import read_view
from radscribe.studies.prepare import prepare
from radscribe.studies.projections import projection_of
from radscribe.studies.readers.registry import READERS, find_reader, open_source
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study

OPEN_CXR_COLUMNS = {"report": "notes", "patient": "patient_id", "view": "view"}


def image(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 10), value, np.uint8)).save(path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def iu_xray_kaggle(folder: Path, image_folder: str = "images_normalized") -> str:
    """Studies 1 (lateral listed first), 2 (impression only) and 7 (one of two images is there)."""
    write(
        folder / "indiana_reports.csv",
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
        '1,normal,normal,Chest,Positive TB test,None.,"Clear lungs,\nnormal heart.",Normal.\n'
        "2,,,Chest,,,,No acute disease.\n"
        "3,,,Chest,Pain,,,\n"
        "4,,,Chest,,,No image of mine is there.,\n"
        "5,,,Chest,,,No image of mine is listed.,\n"
        "7,,,Chest,,,Small effusion.,\n",
    )
    write(
        folder / "indiana_projections.csv",
        "uid,filename,projection\n1,1_b.png,Lateral\n1,1_a.png,Frontal\n2,2_a.png,Frontal\n3,3_a.png,Frontal\n"
        "4,4_a.png,Frontal\n6,6_a.png,Frontal\n7,7_a.png,Frontal\n7,7_b.png,Lateral\n",
    )
    for name in ("1_a", "1_b", "2_a", "3_a", "6_a", "7_a"):
        image(folder / image_folder / f"{name}.png")
    return "CXR1"


def openi_xml(number: int, sections: dict[str, str], image_ids: list[str]) -> str:
    texts = "".join(f'<AbstractText Label="{name}">{text}</AbstractText>' for name, text in sections.items())
    images = "".join(f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in image_ids)
    article = f"<MedlineCitation><Article><Abstract>{texts}</Abstract></Article></MedlineCitation>"
    body = f'<meta type="rr"/><uId id="CXR{number}"/>{article}{images}'
    return f'<?xml version="1.0"?><eCitation>{body}</eCitation>'


def iu_xray_openi(folder: Path) -> str:
    report = {
        "COMPARISON": "None.",
        "INDICATION": "Cough &amp; fever",
        "FINDINGS": "Clear.",
        "IMPRESSION": "Normal.",
    }
    reports = folder / "ecgen-radiology"
    write(reports / "1.xml", openi_xml(1, report, ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"]))
    write(reports / "2.xml", openi_xml(2, report, ["CXR2_IM-0652-1001"]))
    write(reports / "10.xml", openi_xml(10, report, ["CXR10_absent"]))
    write(reports / "11.xml", openi_xml(11, report, []))
    write(reports / "12.xml", openi_xml(12, {"FINDINGS": ""}, ["CXR2_IM-0652-1001"]))
    write(reports / "13.xml", "<eCitation><uId id=")
    for name in ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001"):
        image(folder / "png" / f"{name}.png")
    return "CXR1"


def r2gen_annotation(folder: Path) -> str:
    def entry(identifier: str, split: str, report: str = "Clear.", **more: object) -> dict[str, object]:
        paths = [f"{identifier}/0.png", f"{identifier}/1.png"]
        return {"id": identifier, "report": report, "image_path": paths, "split": split, **more}

    annotation = {
        "train": [
            entry("CXR7_IM-1", "train"),
            entry("02aa804e", "train", subject_id=10000032, study_id=5),
            entry("CXR8_IM-1", "train", report=" "),
            {"report": "no id"},
        ],
        "val": [entry("CXR9_IM-1", "val")],
        "test": [entry("CXR7_IM-1", "test"), entry("CXR10_IM-2", "test")],
    }
    write(folder / "annotation.json", json.dumps(annotation))
    for identifier in ("CXR7_IM-1", "02aa804e", "CXR9_IM-1", "CXR10_IM-2"):
        image(folder / "images" / identifier / "0.png")
        image(folder / "images" / identifier / "1.png")
    return "CXR7_IM-1"


def table(folder: Path) -> str:
    write(
        folder / "studies.csv",
        "image,report,study,patient,view,split,Edema,Pleural Effusion\n"
        "a/1.png,Edema.,s1,p1,LATERAL,train,1,-1\n"
        "a/2.png,Edema.,s1,p1,AP Supine,train,1,-1\n"
        "a/3.png,Clear.,s2,p2,PA,validate,0,\n"
        "a/4.png,,s3,p3,PA,test,,\n"
        "a/5.png,Clear.,s4,p4,PA,fold3,,\n"
        "a/6.png,Clear.,s5,p5,PA,test,maybe,\n"
        "a/7.png,Clear.,s6,p6,PA,test,,\n"
        "a/8.png,Not clear.,s6,p6,PA,test,,\n",
    )
    for number in range(1, 9):
        image(folder / "a" / f"{number}.png")
    return "s1"


def folder_of_images(folder: Path) -> str:
    image(folder / "lone.png")
    image(folder / "patient7" / "study1" / "view1_frontal.jpg")
    image(folder / "patient7" / "study1" / "view2_lateral.jpg")
    image(folder / ".thumbnails" / "x.png")
    write(folder / "patient7" / "scan.dcm", "")
    return "patient7/study1"


def dicom(folder: Path) -> str:
    other = {"BitsStored": 12, "ViewPosition": "LL", "SOPInstanceUID": ROOT + "31"}
    (folder / "IM0").write_bytes(dicom_file())
    (folder / "IM1").write_bytes(dicom_file(twelve_bits(phantom_pixels("lateral")), **other))
    return ROOT + "1"


def phantom(folder: Path) -> str:
    if importlib.util.find_spec("radscribe.studies.phantom.reader") is None:
        pytest.skip("the phantom is not there yet")
    return ""


#: Writes a small source of each form into a folder; returns the id of a study with two views (or "").
FORMS: dict[str, Callable[[Path], str]] = {
    "iu-xray-kaggle": iu_xray_kaggle,
    "iu-xray-openi": iu_xray_openi,
    "r2gen-annotation": r2gen_annotation,
    "mimic-cxr": mimic_cxr,
    "chexpert-plus": chexpert_plus,
    "rexgradient": rexgradient,
    "padchest-gr": padchest_gr,
    "rexrank": rexrank,
    "hugging-face": hugging_face,
    "table": table,
    "dicom": dicom,
    "folder": folder_of_images,
    "phantom": phantom,
}


def records(
    source: Path | str, reader: str = "auto", **options: object
) -> tuple[dict[str, Study], dict[str, str]]:
    """Studies by id, and reasons of rejections by id."""
    found = list(open_source(source, reader, **options))
    return (
        {record.id: record for record in found if isinstance(record, Study)},
        {record.study_id: record.reason for record in found if isinstance(record, Rejection)},
    )


def test_every_reader_has_a_form_here():
    assert FORMS.keys() == READERS.keys()
    assert len(READERS) >= 13


@pytest.mark.parametrize("name", FORMS)
def test_reader_is_found_and_its_studies_can_be_prepared(name, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    two_views = FORMS[name](folder)
    source = "phantom" if name == "phantom" else folder
    assert find_reader(source) == name
    options = {"phantom": {"studies": 6}, "dicom": {"keep_ids": True}}.get(name, {})
    studies, rejected = records(source, **options)
    assert studies
    assert all(isinstance(study.patient_id, str) and study.patient_id for study in studies.values())
    assert pickle.loads(pickle.dumps(list(studies.values())))[0].id == next(iter(studies))

    summary = prepare(source, tmp_path / "store", short_side=16, workers=1, progress=False, **options)
    store = PreparedStore(tmp_path / "store")
    without_pixels = ["patient7"] if name == "folder" else []  # it has a DICOM file that is none
    assert [study.id for study in store.studies()] == [each for each in studies if each not in without_pixels]
    assert sum(summary.store.rejected.values()) >= len(rejected)
    for stored in store.studies():
        study = studies[stored.id]
        assert (stored.patient_id, stored.sections, stored.observations) == (
            study.patient_id,
            study.sections,
            study.observations,
        )
        assert stored.split == (study.split or stored.split)
        for view in stored.views:
            assert min(read_view(view, 16).pixels.shape) == 16
    if two_views:
        assert len(store.study(two_views).views) == 2


def test_iu_xray_kaggle(tmp_path):
    iu_xray_kaggle(tmp_path)
    studies, rejected = records(tmp_path)
    assert list(studies) == ["CXR1", "CXR2", "CXR7"]
    first = studies["CXR1"]
    assert first.patient_id == "1"
    assert [(view.source.name, view.projection) for view in first.views] == [
        ("1_a.png", "frontal"),
        ("1_b.png", "lateral"),
    ]
    assert first.sections == {
        "findings": "Clear lungs,\nnormal heart.",
        "impression": "Normal.",
        "indication": "Positive TB test",
        "comparison": "None.",
    }
    assert studies["CXR2"].sections == {"impression": "No acute disease."}
    assert rejected == {
        "CXR3": "empty report",
        "CXR4": "no image file",
        "CXR5": "no view",
        "CXR6": "no report",
    }


@pytest.mark.parametrize("image_folder", ["images", "images/images_normalized", "elsewhere"])
def test_iu_xray_kaggle_image_folders(tmp_path, image_folder):
    iu_xray_kaggle(tmp_path, image_folder)
    options = {"images": tmp_path / image_folder} if image_folder == "elsewhere" else {}
    assert len(records(tmp_path, **options)[0]) == 3
    if options:
        with pytest.raises(RadScribeError, match="images_normalized"):
            records(tmp_path)


def test_images_of_iu_xray_that_no_report_names_are_listed(tmp_path):
    iu_xray_kaggle(tmp_path / "kaggle")
    image(tmp_path / "kaggle/images_normalized/99_a.png")
    _, rejected = records(tmp_path / "kaggle")
    assert rejected["99_a.png"] == "no report: indiana_projections.csv does not list it"
    iu_xray_openi(tmp_path / "openi")
    image(tmp_path / "openi/png/CXR99.png")
    image(tmp_path / "openi/again/CXR2_IM-0652-1001.png")
    _, rejected = records(tmp_path / "openi")
    assert rejected["CXR99"] == "no report: no XML file names it"
    assert rejected["CXR2_IM-0652-1001"].startswith("duplicate id: ")


def test_iu_xray_openi(tmp_path):
    iu_xray_openi(tmp_path)
    studies, rejected = records(tmp_path)
    assert list(studies) == ["CXR1", "CXR2"]
    first = studies["CXR1"]
    assert first.patient_id == "1"
    assert [view.source.name for view in first.views] == [
        "CXR1_1_IM-0001-3001.png",
        "CXR1_1_IM-0001-4001.png",
    ]
    assert first.sections["indication"] == "Cough & fever"
    assert first.sections.keys() == {"findings", "impression", "indication", "comparison"}
    assert rejected.pop("13").startswith("bad record")
    assert rejected == {"CXR10": "no image file", "CXR11": "no view", "CXR12": "empty report"}


def test_iu_xray_openi_in_dicom(tmp_path):
    """The names of the DICOM files lack the letters in front, and the number that report 1 has twice."""
    iu_xray_openi(tmp_path)
    (tmp_path / "png/CXR1_1_IM-0001-4001.png").unlink()
    (tmp_path / "png/CXR2_IM-0652-1001.png").unlink()
    for name, position in (("1_IM-0001-4001", "LL"), ("1_IM-0001-3001", "PA"), ("2_IM-0652-1001", None)):
        path = tmp_path / f"NLMCXR_dcm/{name[0]}/{name}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dicom_file(phantom_pixels(), ViewPosition=position))
    write(tmp_path / "NLMCXR_dcm/3/3_IM-1384-1001.dcm", "not DICOM")
    studies, rejected = records(tmp_path)
    first = studies["CXR1"]
    assert [(view.source.name, view.projection) for view in first.views] == [
        ("CXR1_1_IM-0001-3001.png", "unknown"),
        ("1_IM-0001-4001.dcm", "lateral"),
    ]
    assert rejected["CXR1_IM-0001-3001"] == "no report: no XML file names it"
    assert rejected["CXR3_IM-1384-1001"] == "no report: no XML file names it"
    prepare(tmp_path, tmp_path / "store", short_side=16, workers=1, progress=False)
    view = PreparedStore(tmp_path / "store").study("CXR2").views[0]
    assert view.name == "NLMCXR_dcm/2/2_IM-0652-1001.dcm"


def test_r2gen_annotation(tmp_path):
    r2gen_annotation(tmp_path)
    for source in (tmp_path, tmp_path / "annotation.json"):
        studies, rejected = records(source)
        assert {identifier: (study.patient_id, study.split) for identifier, study in studies.items()} == {
            "CXR7_IM-1": ("7", "train"),
            "02aa804e": ("10000032", "train"),
            "CXR9_IM-1": ("9", "val"),
            "CXR10_IM-2": ("10", "test"),
        }
        assert studies["CXR7_IM-1"].views[1].source == tmp_path / "images/CXR7_IM-1/1.png"
        assert {view.projection for study in studies.values() for view in study.views} == {"unknown"}
        assert studies["02aa804e"].sections == {"findings": "Clear."}
        assert rejected == {
            "CXR8_IM-1": "empty report",
            "train[3]": "bad record: no 'id' or no 'report'",
            "CXR7_IM-1": "duplicate id",
        }


@pytest.mark.parametrize("text", ["{", "[]", '{"train": 3}'])
def test_r2gen_annotation_of_another_form(tmp_path, text):
    with pytest.raises(RadScribeError, match=r"notes\.json"):
        records(write(tmp_path / "notes.json", text))


def test_table(tmp_path):
    table(tmp_path)
    studies, rejected = records(tmp_path)
    assert list(studies) == ["s1", "s2"]
    first, second = studies.values()
    assert [(view.source, view.projection) for view in first.views] == [
        (tmp_path / "a/2.png", "frontal"),
        (tmp_path / "a/1.png", "lateral"),
    ]
    assert (first.patient_id, first.split, first.sections) == ("p1", "train", {"findings": "Edema."})
    assert first.observations == {"Edema": "present", "Pleural Effusion": "uncertain"}
    assert second.split == "val"
    assert second.observations == {"Edema": "absent", "Pleural Effusion": "not_mentioned"}
    assert rejected == {
        "s3": "empty report",
        "s4": "bad record: unknown split 'fold3'",
        "s5": "bad record: 'Edema' is 'maybe', not 1, 0, -1, blank or a state",
        "s6": "bad record: its rows differ in 'report'",
    }


def test_table_without_study_column_names_studies_by_image(tmp_path):
    path = write(tmp_path / "t.csv", "image,report\na/1.png,One.\nb/1.png,Two.\nb/2.png,Three.\n,Four.\n")
    studies, rejected = records(path)
    # Where stems repeat, the path tells the images apart.
    patients = {identifier: study.patient_id for identifier, study in studies.items()}
    assert patients == {"a/1": "a/1", "b/1": "b/1", "2": "2"}
    assert studies["b/1"].sections["findings"] == "Two."
    assert rejected == {"line 5": "no view"}
    again = "a/1.png,One.\na/1.jpg,Two.\na/1.png,Three.\n"
    studies, rejected = records(write(tmp_path / "again.csv", f"image,report\n{again}"))
    assert list(studies) == ["a/1.png", "a/1.jpg"]
    assert rejected == {"a/1.png": "duplicate id"}


def test_table_with_other_column_names(tmp_path):
    path = write(tmp_path / "t.tsv", "File\tnotes\tpatient_id\tView\n1.png\tClear.\t4\tL\n")
    columns = {"image": "File", "report": "notes", "patient": "patient_id"}
    (tmp_path / "pictures").mkdir()
    study = records(path, columns=columns, images=tmp_path / "pictures")[0]["1"]
    assert (study.patient_id, study.sections["findings"]) == ("4", "Clear.")
    assert study.views[0].projection == "lateral"
    assert study.views[0].source == tmp_path / "pictures/1.png"


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("file,report", {}, r"no column 'image'.*file, report.*--columns '\{\"image\""),
        ("image,notes", {"report": "note"}, r"no column 'note' to take as 'report'.*image, notes"),
        ("image,notes", {"reports": "notes"}, r"unknown column 'reports'.*Did you mean 'report'"),
    ],
)
def test_missing_columns_are_named_with_what_there_is(tmp_path, header, columns, message):
    path = write(tmp_path / "t.csv", f"{header}\n1.png,Clear.\n")
    with pytest.raises(RadScribeError, match=message):
        records(path, columns=columns)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_tables_as_people_save_them(tmp_path, encoding, newline, delimiter):
    rows = ["image,report", '1.png,"Röntgen, normal.', "", 'Said ""clear""."', "2.png,Clear."]
    text = newline.join(rows).replace(",", delimiter)
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    studies, _ = records(path)
    expected = f'Röntgen{delimiter} normal.{newline}{newline}Said "clear".'
    assert studies["1"].sections["findings"] == expected
    assert studies["2"].sections["findings"] == "Clear."


def test_broken_rows_cost_one_study(tmp_path):
    path = write(tmp_path / "t.csv", "image,report\n1.png,Clear, but unquoted.\n2.png,Clear.\n3.png\n")
    studies, rejected = records(path)
    assert list(studies) == ["2"]
    assert rejected == {"line 2": "bad record: more fields than the header has columns", "3": "empty report"}
    with pytest.raises(RadScribeError, match="quotation mark"):
        records(write(tmp_path / "u.csv", 'image,report\n1.png,"Never closed\n'))
    with pytest.raises(RadScribeError, match="no header"):
        records(write(tmp_path / "v.csv", ""))


def test_json_lines(tmp_path):
    lines = [
        {
            "images": ["1.png", "2.png"],
            "view": ["LL", "PA"],
            "report": "Clear.",
            "study": "s1",
            "Edema": "absent",
        },
        {"image": "3.png", "report": "Wet.", "study": "s2", "Edema": 1, "patient": 12},
        {"images": ["4.png"], "report": "Again.", "study": "s1"},
        {"images": ["5.png"], "report": None},
        {"images": ["6.png"], "report": "Dry.", "Edema": None},
        {"report": "Nothing to see."},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    studies, rejected = records(write(tmp_path / "t.jsonl", f"{text}\n\nnot json\n[1]\n"))
    assert list(studies) == ["s1", "s2", "6"]
    assert [(view.source.name, view.projection) for view in studies["s1"].views] == [
        ("2.png", "frontal"),
        ("1.png", "lateral"),
    ]
    assert studies["s1"].observations == {"Edema": "absent"}
    assert (studies["s2"].patient_id, studies["s2"].observations) == ("12", {"Edema": "present"})
    assert studies["6"].observations == {"Edema": "not_mentioned"}
    assert rejected.pop("line 8").startswith("bad record")
    assert rejected.pop("line 9") == "bad record: not a JSON object"
    assert rejected == {"s1": "duplicate id", "5": "empty report", "line 6": "no view"}


def test_folder_without_texts(tmp_path):
    folder_of_images(tmp_path)
    studies, rejected = records(tmp_path)
    assert {identifier: study.patient_id for identifier, study in studies.items()} == {
        "lone": "lone",
        "patient7": "patient7",
        "patient7/study1": "patient7",
    }
    assert [view.projection for view in studies["patient7/study1"].views] == ["frontal", "lateral"]
    assert rejected == {".thumbnails": "hidden folder"}


def test_folder_with_texts(tmp_path):
    folder_of_images(tmp_path)
    image(tmp_path / "silent.png")
    image(tmp_path / "blank.png")
    write(tmp_path / "blank.txt", " \n")
    write(tmp_path / "README.txt", "not a report")
    write(tmp_path / "patient7/study1.txt", "Clear.\n")
    write(tmp_path / "lone.txt", "Wet.")
    studies, rejected = records(tmp_path)
    assert {identifier: study.sections for identifier, study in studies.items()} == {
        "lone": {"findings": "Wet."},
        "patient7/study1": {"findings": "Clear."},
    }
    assert rejected["blank"] == "empty report"
    assert rejected["silent"] == "no report"


def test_studies_and_patients_by_pattern(tmp_path):
    for name in ("p1_s1_frontal", "p1_s1_lateral", "p1_s2_frontal", "p2_s1_frontal", "unnamed"):
        image(tmp_path / "scans" / f"{name}.png")
    write(tmp_path / "p1_s1.txt", "Clear.")
    write(tmp_path / "p2_s1.txt", "Wet.")
    patterns = {"study_pattern": "(p[0-9]+_s[0-9]+)_", "patient_pattern": "(p[0-9]+)_"}
    studies, rejected = records(tmp_path, **patterns)
    assert {study.id: (study.patient_id, len(study.views)) for study in studies.values()} == {
        "p1_s1": ("p1", 2),
        "p2_s1": ("p2", 1),
    }
    assert studies["p1_s1"].sections == {"findings": "Clear."}
    assert rejected.pop("scans/unnamed.png").startswith("no study: its path does not match")
    assert rejected == {"p1_s2": "no report"}

    names = ("p1_s1_frontal", "p1_s1_lateral", "p2_s1_frontal", "unnamed")
    text = "image,report\n" + "".join(f"scans/{name}.png,Clear.\n" for name in names)
    studies, rejected = records(write(tmp_path / "t.csv", text), **patterns)
    assert [(s.id, s.patient_id, len(s.views)) for s in studies.values()] == [
        ("p1_s1", "p1", 2),
        ("p2_s1", "p2", 1),
    ]
    assert rejected.keys() == {"line 5"}


def test_a_study_that_a_pattern_finds_is_its_own_patient(tmp_path):
    """The class folders of public collections are no patients."""
    for number in range(3):
        image(tmp_path / "NORMAL" / f"{number}.png")
    studies, _ = records(tmp_path, study_pattern="(.*)[.]")
    assert {study.id: study.patient_id for study in studies.values()} == {
        f"NORMAL/{number}": f"NORMAL/{number}" for number in range(3)
    }


def test_a_pile_of_images_is_no_study(tmp_path):
    for number in range(17):
        image(tmp_path / "NORMAL" / f"{number}.png")
    studies, rejected = records(tmp_path)
    assert not studies
    assert rejected["NORMAL"].startswith("too many views: 17 images")
    assert len(records(tmp_path / "NORMAL")[0]) == 17


def test_linked_folders_are_followed_once(tmp_path):
    image(tmp_path / "source" / "s1" / "1.png")
    (tmp_path / "source" / "loop").symlink_to(tmp_path / "source")
    image(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "source" / "s2").symlink_to(tmp_path / "elsewhere")
    assert list(records(tmp_path / "source")[0]) == ["s1", "s2"]


def test_sources_that_cannot_be_told(tmp_path):
    with pytest.raises(RadScribeError, match="no such file or folder"):
        open_source(tmp_path / "absent")
    with pytest.raises(RadScribeError, match=r"cannot tell.*indiana_reports.csv.*phantom"):
        open_source(tmp_path)
    with pytest.raises(RadScribeError, match=r"unknown reader 'tabel'. Did you mean 'table'"):
        open_source(tmp_path, "tabel")
    iu_xray_kaggle(tmp_path)
    r2gen_annotation(tmp_path)
    with pytest.raises(RadScribeError, match="more than one way: iu-xray-kaggle, r2gen-annotation"):
        open_source(tmp_path)
    assert len(records(tmp_path, "iu-xray-kaggle")[0]) == 3
    with pytest.raises(RadScribeError, match=r"unknown option of reader iu-xray-kaggle 'image'.*'images'"):
        open_source(tmp_path, "iu-xray-kaggle", image="x")


@pytest.mark.parametrize(
    ("words", "projection"),
    [
        ("PA", "frontal"),
        ("AP", "frontal"),
        ("AP Supine", "frontal"),
        ("ap erect", "frontal"),
        ("postero-anterior", "frontal"),
        ("ANTERO_POSTERIOR", "frontal"),
        ("Frontal", "frontal"),
        ("AP AXIAL", "frontal"),
        ("L", "lateral"),
        ("LL", "lateral"),
        ("LATERAL", "lateral"),
        ("XTABLE LATERAL", "lateral"),
        ("AP left lateral decubitus", "frontal"),
        ("lateral decubitus", "unknown"),
        ("PA and lateral", "unknown"),
        ("LPO", "unknown"),
        ("?", "unknown"),
        ("", "unknown"),
    ],
)
def test_projection_words(words, projection):
    assert projection_of(words) == projection


def test_real_r2gen_annotation(shared):
    studies, rejected = records(shared / "data/iu_xray", "r2gen-annotation")
    assert Counter(study.split for study in studies.values()) == {"train": 2069, "val": 296, "test": 590}
    assert not rejected
    patients = {
        split: {s.patient_id for s in studies.values() if s.split == split}
        for split in ("train", "val", "test")
    }
    assert not patients["train"] & patients["test"]
    assert not patients["train"] & patients["val"]
    assert not patients["val"] & patients["test"]


def test_real_iu_xray_kaggle(shared, tmp_path):
    source = shared / "data/iu_xray"
    summary = prepare(source, tmp_path, reader="iu-xray-kaggle", workers=1, progress=False)
    store = PreparedStore(tmp_path)
    assert sorted(int(study.patient_id) for study in store.studies()) == [
        3,
        54,
        303,
        1000,
        1001,
        1002,
        1003,
        1900,
    ]
    assert summary.store.projections == {"frontal": 9, "lateral": 5, "unknown": 0}
    assert summary.store.rejected["no image file"] == 3843
    # One image of a study that is otherwise there was not among the samples.
    assert summary.store.rejected["missing"] == 1
    for stored in store.studies():
        for view in stored.views:
            height, width = view.source.original_size
            assert min(height, width) > 300
            assert view.source.shape[0] / view.source.shape[1] == pytest.approx(height / width, abs=0.01)


def test_real_open_cxr(shared, tmp_path):
    source = shared / "data/open_cxr"
    summary = prepare(source, tmp_path, columns=OPEN_CXR_COLUMNS, workers=1, progress=False)
    assert sum(summary.store.studies.values()) == 217
    # The table lists three images twice, under two patients.
    assert summary.store.rejected == {"duplicate id": 3}
    assert summary.store.projections == {"frontal": 154, "lateral": 31, "unknown": 32}
    assert summary.store.shared_patients == 0
