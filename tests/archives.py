"""Small trees in the layouts of MIMIC-CXR-JPG and CheXpert Plus: phantom images and made-up records."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image

from radscribe.observations import OBSERVATIONS
from radscribe.studies.phantom.reader import read_phantom

HEADER = "                                 FINAL REPORT\n"
FULL_REPORT = (
    f"{HEADER} EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  Cough.\n \n COMPARISON:  None.\n \n"
    " FINDINGS: \n \n The lungs are\n clear.\n \n IMPRESSION:  No acute process.\n"
)
METADATA_COLUMNS = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
]
#: Patient, study, number of the image, view position, date, time, procedure, code of the view.
MIMIC_ROWS = [
    ("10000032", "50414267", 1, "LATERAL", "21800506", "213014.531", "CHEST (PA AND LAT)", "lateral"),
    ("10000032", "50414267", 2, "PA", "21800506", "213014.531", "CHEST (PA AND LAT)", "postero-anterior"),
    # The study with the smaller id is the later one, and its time has lost a zero in front.
    ("10003400", "51777247", 3, "", "21370224", "154200.0", "CHEST (PORTABLE AP)", "antero-posterior"),
    ("10003400", "52822559", 4, "AP", "21370224", "85509.218", "CHEST (PORTABLE AP)", ""),
    ("10003400", "55000003", 5, "", "21380101", "000001", "CHEST (PORTABLE AP)", ""),
    ("11000001", "55000004", 6, "PA", "21500101", "120000", "", ""),
    ("11000002", "55000005", 7, "PA", "21500101", "120000", "", ""),
    ("12000003", "50196495", 8, "LAO", "21500101", "120000", "", ""),
    ("12000004", "55000006", 9, "AP", "21500101", "120000", "", ""),
    ("12000004", "55000006", 10, "LL", "21500101", "", "", ""),
    ("12000005", "55000007", 11, "PA", "", "", "", ""),
    ("12000005", "55000007", 12, "PA", "", "", "", ""),
]
MIMIC_SPLITS = {6: "validate", 7: "test", 8: "test", 9: "test", 10: "test", 11: "train", 12: "test"}
MIMIC_REPORTS = {
    "50414267": FULL_REPORT,
    "51777247": f"{HEADER} HISTORY:  Fever.\n \n IMPRESSION:  Unchanged.\n",
    "52822559": f"{HEADER} CHEST, TWO VIEWS:  Mild edema.\n",
    "55000003": f"{HEADER} COMPARISON:  Yesterday.\n \n The tube has been\n removed.\n",
    "55000005": FULL_REPORT,
    "50196495": f"{'x' * 59}A tube without header.",
    "55000006": FULL_REPORT,
    "55000007": FULL_REPORT,
    "55999999": FULL_REPORT,
}


def dicom_id(number: int) -> str:
    """An image id like those of MIMIC-CXR."""
    return "-".join([f"{number:08x}", *["0123abcd"] * 4])


@cache
def _pictures() -> list[np.ndarray]:
    return [view.source().pixels for study in read_phantom(3) for view in study.views]


def pictures() -> Iterator[np.ndarray]:
    """Phantom images without end."""
    return cycle(_pictures())


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image, in folders that are made where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    return file.getvalue()


def packed(path: Path, text: str) -> None:
    """Write a text compressed by gzip."""
    path.write_bytes(gzip.compress(text.encode()))


def mimic_cxr(folder: Path, reports: str = "beside") -> str:
    """A tree of MIMIC-CXR-JPG, with odd cases; returns the id of a study with two views.

    Args:
        folder: Folder of the tree.
        reports: Where the texts are: `beside` the images, in the `zip` archive, or in another `root`, the
            folder `texts` beside the tree.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = [
        [dicom_id(number), patient, study, procedure, position, 3050, 2539, date, time, "", code, "Erect"]
        for patient, study, number, position, date, time, procedure, code in MIMIC_ROWS
    ]
    packed(folder / "mimic-cxr-2.0.0-metadata.csv.gz", csv_text(METADATA_COLUMNS, metadata))
    splits = [
        [dicom_id(number), study, patient, MIMIC_SPLITS.get(number, "train")]
        for patient, study, number, *_ in MIMIC_ROWS
    ]
    packed(
        folder / "mimic-cxr-2.0.0-split.csv.gz",
        csv_text(["dicom_id", "study_id", "subject_id", "split"], splits),
    )
    names = sorted(OBSERVATIONS)
    for name, value in (("chexpert", "1.0"), ("negbio", "-1.0")):
        cells = [value if observation == "Edema" else "" for observation in names]
        rows = [["10003400", "52822559", *cells], ["10000032", "50414267", *["0.0"] * 14]]
        packed(folder / f"mimic-cxr-2.0.0-{name}.csv.gz", csv_text(["subject_id", "study_id", *names], rows))
    (folder / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text(
        csv_text(["study_id", "Airspace Opacity", "Edema"], [["55000006", "1", "0"]])
    )
    (folder / "LICENSE.txt").write_text("The licence.")
    images = pictures()
    for patient, study, number, *_ in MIMIC_ROWS:
        if number not in (7, 10):
            save(mimic_study(folder, patient, study) / f"{dicom_id(number)}.jpg", next(images))
    (folder / "files/p10/index.html").write_text("a list")
    _write_reports(folder, reports)
    return "50414267"


def mimic_cxr_dicom(folder: Path) -> str:
    """The same studies as the DICOM tree of MIMIC-CXR, with the table of splits of MIMIC-CXR-JPG.

    What the metadata state stands in the tags: projection, date and time. Nothing says that it is a chest.
    """
    # pydicom takes a second to import, which other tests need not pay for.
    from dicom_files import ROOT, code, dicom_file

    identifier = mimic_cxr(folder)
    (folder / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    records = []
    for patient, study, number, position, date, time, procedure, view_code in MIMIC_ROWS:
        whole, _, fraction = time.partition(".")
        place = mimic_study(folder, patient, study) / f"{dicom_id(number)}.jpg"
        path = place.with_suffix(".dcm").relative_to(folder).as_posix()
        records.append([patient, study, dicom_id(number), path])
        if place.exists():
            with Image.open(place) as image:
                data = dicom_file(
                    np.asarray(image),
                    SOPInstanceUID=f"{ROOT}{number}",
                    BodyPartExamined="ABDOMEN",
                    ViewPosition=position,
                    StudyDate=date,
                    StudyTime=time and f"{whole.zfill(6)}.{fraction or 0}",
                    PerformedProcedureStepDescription=procedure,
                    ViewCodeSequence=[code("x", view_code, "99X")] if view_code else None,
                )
            place.with_suffix(".dcm").write_bytes(data)
            place.unlink()
    columns = ["subject_id", "study_id", "dicom_id", "path"]
    packed(folder / "cxr-record-list.csv.gz", csv_text(columns, records))
    return identifier


def mimic_study(folder: Path, patient: str, study: str) -> Path:
    """The folder of a study's images."""
    return folder / "files" / f"p{patient[:2]}" / f"p{patient}" / f"s{study}"


def _write_reports(folder: Path, where: str) -> None:
    patients = {study: patient for patient, study, *_ in MIMIC_ROWS}
    paths = {
        study: f"files/p{patients.get(study, '19')[:2]}/p{patients.get(study, '19999999')}/s{study}.txt"
        for study in MIMIC_REPORTS
    }
    if where == "zip":
        with zipfile.ZipFile(folder / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for study, path in paths.items():
                archive.writestr(path, MIMIC_REPORTS[study])
        return
    root = folder if where == "beside" else folder.parent / "texts"
    for study, path in paths.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(MIMIC_REPORTS[study])


CHEXPERT_PLUS_COLUMNS = [
    "path_to_image",
    "path_to_dcm",
    "frontal_lateral",
    "ap_pa",
    "deid_patient_id",
    "patient_report_date_order",
    "report",
    "section_narrative",
    "section_clinical_history",
    "section_history",
    "section_comparison",
    "section_technique",
    "section_procedure_comments",
    "section_findings",
    "section_impression",
    "section_end_of_impression",
    "section_summary",
    "section_accession_number",
    "age",
    "sex",
    "race",
    "ethnicity",
    "interpreter_needed",
    "insurance_type",
    "recent_bmi",
    "deceased",
    "split",
]


def chexpert_plus_row(path: str, **cells: object) -> list[object]:
    """A row of the table of CheXpert Plus; cells that are not given are blank."""
    split, patient, study, name = path.split("/")
    row: dict[str, object] = {
        "path_to_image": path,
        "path_to_dcm": path.replace(".jpg", ".dcm"),
        "frontal_lateral": "Lateral" if "lateral" in name else "Frontal",
        "deid_patient_id": patient,
        "patient_report_date_order": study.removeprefix("study"),
        "report": "NARRATIVE: ...",
        "split": split,
        **cells,
    }
    return [row.get(column, "") for column in CHEXPERT_PLUS_COLUMNS]


def chexpert_plus(folder: Path) -> str:
    """A tree of CheXpert Plus, with odd cases; returns the id of a study with two views."""
    both = {"section_findings": "Clear\nlungs.", "section_impression": "NO ACUTE DISEASE."}
    rows = [
        chexpert_plus_row("train/patient1/study1/view2_lateral.jpg", **both, section_history="Cough."),
        chexpert_plus_row("train/patient1/study1/view1_frontal.jpg", **both, section_history="Cough."),
        # Number 2 of the patient's studies is the third one in time.
        chexpert_plus_row(
            "train/patient1/study2/view1_frontal.jpg",
            **both,
            patient_report_date_order=10,
            section_clinical_history="Pain.",
            section_comparison="None.",
        ),
        chexpert_plus_row(
            "train/patient1/study3/view1_frontal.jpg",
            section_impression="STABLE.",
            patient_report_date_order=9,
        ),
        # A copy of the report with another date in it.
        chexpert_plus_row(
            "train/patient1/study3/view2_lateral.jpg",
            section_impression="STABLE.",
            patient_report_date_order=9,
            report="NARRATIVE: another date",
        ),
        chexpert_plus_row("train/patient2/study1/view1_frontal.jpg", report="only this"),
        chexpert_plus_row("train/patient3/study1/view1_frontal.jpg", **both),
        chexpert_plus_row("train/patient32368/study1/view1_frontal.jpg", **both),
        chexpert_plus_row("valid/patient4/study1/view1_frontal.jpg", **both),
        chexpert_plus_row("valid/patient5/study1/view1_frontal.jpg", **both, split="test"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "df_chexpert_plus_240401.csv").write_text(csv_text(CHEXPERT_PLUS_COLUMNS, rows))
    images = pictures()
    paths = [str(row[0]) for row in rows if "patient3/" not in str(row[0])]
    for path in paths:
        save((folder / "PNG/PNG" / path).with_suffix(".png"), next(images))
    states = dict.fromkeys(OBSERVATIONS) | {"Edema": 1.0, "Fracture": -1.0, "Pneumonia": 0.0}
    lines = [json.dumps({"path_to_image": path, **states}) for path in paths]
    labels = folder / "chexbert_labels/impression_fixed.json"
    labels.parent.mkdir()
    labels.write_text("\n".join(lines) + "\n")
    return "patient1_study1"
