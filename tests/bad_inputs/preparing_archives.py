"""Bad inputs to `prepare` on MIMIC-CXR-JPG and CheXpert Plus, in small trees of their layouts."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from archives import chexpert_plus, dicom_id, mimic_cxr, mimic_cxr_dicom, packed

from bad_inputs.rows import Row, Workshop
from bad_inputs.sources import OUT, ids, rejected

METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
SPLIT = "mimic-cxr-2.0.0-split.csv.gz"
TABLE = "df_chexpert_plus_240401.csv"


def mimic(
    then: Callable[[Path], object] = lambda tree: None, reports: str = "beside"
) -> Callable[[Workshop], object]:
    """A tree of MIMIC-CXR-JPG in the folder `m`, of which something changes."""

    def arrange(workshop: Workshop) -> None:
        mimic_cxr(workshop.path / "m", reports)
        then(workshop.path / "m")

    return arrange


def mimic_dicom(then: Callable[[Path], object]) -> Callable[[Workshop], object]:
    """The DICOM tree of MIMIC-CXR in the folder `m`, of which something changes."""

    def arrange(workshop: Workshop) -> None:
        mimic_cxr_dicom(workshop.path / "m")
        then(workshop.path / "m")

    return arrange


def plus(then: Callable[[Path], object] = lambda tree: None) -> Callable[[Workshop], object]:
    """A tree of CheXpert Plus in the folder `c`, of which something changes."""

    def arrange(workshop: Workshop) -> None:
        chexpert_plus(workshop.path / "c")
        then(workshop.path / "c")

    return arrange


def repacked(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    """Changes the text of a table that gzip compressed."""
    return lambda tree: packed(tree / name, change(gzip.decompress((tree / name).read_bytes()).decode()))


def cut(name: str, size: int) -> Callable[[Path], object]:
    """Keeps the first bytes of a file only."""
    return lambda tree: (tree / name).write_bytes((tree / name).read_bytes()[:size])


MIMIC = [
    Row(
        "MIMIC-CXR without its splits",
        f"prepare m {OUT}",
        (f"m has no {SPLIT}", "wget", f"mimic-cxr-jpg/2.1.0/{SPLIT}"),
        arrange=mimic(lambda tree: (tree / SPLIT).unlink()),
    ),
    Row(
        "MIMIC-CXR with metadata that are cut off",
        f"prepare m {OUT}",
        (f"m/{METADATA} is truncated", "Fetch it again"),
        arrange=mimic(cut(METADATA, 200)),
    ),
    Row(
        "MIMIC-CXR with a table that is no gzip data",
        f"prepare m {OUT}",
        (f"{METADATA} is damaged", "Fetch it again"),
        arrange=mimic(lambda tree: (tree / METADATA).write_bytes(b"\x1f\x8b" + b"x" * 40)),
    ),
    Row(
        "MIMIC-CXR with a page of the server in place of a table",
        f"prepare m {OUT}",
        (f"{SPLIT} has no column 'dicom_id'", "<html>"),
        arrange=mimic(lambda tree: (tree / SPLIT).write_text("<html>\nlog in\n")),
    ),
    Row(
        "MIMIC-CXR without a column",
        f"prepare m {OUT}",
        (f"{METADATA} has no column 'StudyTime'", "Its columns: dicom_id"),
        arrange=mimic(repacked(METADATA, lambda text: text.replace("StudyTime", "Time"))),
    ),
    Row(
        "MIMIC-CXR without reports",
        f"prepare m {OUT}",
        ("m holds no report of MIMIC-CXR", "--reports: mimic-cxr-reports.zip"),
        arrange=mimic(reports="root"),
    ),
    Row(
        "MIMIC-CXR with an archive of reports that is not there",
        f"prepare m {OUT} --reports absent.zip",
        ("cannot read absent.zip: missing", "--reports"),
        arrange=mimic(reports="root"),
    ),
    Row(
        "MIMIC-CXR with an archive of reports that is cut off",
        f"prepare m {OUT}",
        ("mimic-cxr-reports.zip is damaged or cut off", "Fetch it again"),
        arrange=mimic(cut("mimic-cxr-reports.zip", 500), reports="zip"),
    ),
    Row(
        "MIMIC-CXR with labels that it does not have",
        f"prepare m {OUT} --labels findings",
        ("unknown value of --labels 'findings'", "chexpert, negbio, test-set"),
        arrange=mimic(),
    ),
    Row(
        "hand-ruled studies from a table of sections",
        f"prepare m {OUT} --hand_ruled",
        ("--hand_ruled needs the texts", "--reports mimic-cxr-reports.zip"),
        arrange=mimic(
            lambda tree: (tree / "mimic_cxr_sectioned.csv").write_text(
                "study,impression,findings,last_paragraph,comparison\n"
            )
        ),
    ),
    Row(
        "the DICOM tree of MIMIC-CXR without splits",
        f"prepare m {OUT}",
        (f"m has no {SPLIT}", "wget", f"mimic-cxr-jpg/2.1.0/{SPLIT}"),
        arrange=mimic_dicom(lambda tree: (tree / SPLIT).unlink()),
    ),
    Row(
        "the DICOM tree of MIMIC-CXR with a list that is cut off",
        f"prepare m {OUT}",
        ("m/cxr-record-list.csv.gz is truncated", "Fetch it again"),
        arrange=mimic_dicom(cut("cxr-record-list.csv.gz", 100)),
    ),
    Row(
        "MIMIC-CXR with odd records",
        f"prepare m {OUT}",
        ("studies    4", "no report: 2", "duplicate id: 1"),
        code=0,
        arrange=mimic(repacked(METADATA, lambda text: f"{text}{dicom_id(1)},10000032,50414267{',' * 9}\n")),
        check=lambda workshop: (
            ids("50414267", "51777247", "52822559", "55000006")(workshop),
            rejected("--hand_ruled takes it", "--last_paragraph takes", "missing", "no image file")(workshop),
        ),
    ),
    Row(
        "units for a folder of images",
        f"prepare images {OUT} --unit images",
        ("the reader folder takes no --unit", "mimic-cxr, chexpert-plus"),
        arrange=Workshop.images,
    ),
    Row(
        "a section that is no report",
        f"prepare images {OUT} --sections history",
        "--sections needs one of findings, impression, both",
        arrange=Workshop.images,
    ),
]

PLUS = [
    Row(
        "CheXpert Plus with a table that is cut off",
        f"prepare c {OUT}",
        (f"c/{TABLE}, line", "Is it cut off there? Fetch the file again"),
        arrange=plus(lambda tree: cut(TABLE, (tree / TABLE).read_bytes().index(b"Clear") + 3)(tree)),
    ),
    Row(
        "CheXpert Plus without a column",
        f"prepare c {OUT}",
        f"{TABLE} has no column 'deid_patient_id'",
        arrange=plus(lambda tree: (tree / TABLE).write_text("path_to_image,split\n")),
    ),
    Row(
        "CheXpert Plus without images",
        f"prepare c {OUT}",
        ("no folder train or valid of images in c/PNG/PNG", "--images"),
        arrange=plus(lambda tree: (tree / "PNG").rename(tree / "moved")),
    ),
    Row(
        "CheXpert Plus without the labels that are asked for",
        f"prepare c {OUT} --labels report",
        "c/chexbert_labels/report_fixed.json: missing",
        arrange=plus(),
    ),
    Row(
        "a test split that CheXpert Plus does not have",
        f"prepare c {OUT} --test test",
        "--test needs one of valid, patients",
        arrange=plus(),
    ),
    Row(
        "CheXpert Plus with odd records",
        f"prepare c {OUT} --test valid",
        ("studies    4", "another report: 1"),
        code=0,
        arrange=plus(),
        check=rejected("known to be corrupt", "is 'test', not train or valid", "no image file"),
    ),
]

ROWS: list[Row] = [*MIMIC, *PLUS]
