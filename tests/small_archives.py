"""Small trees in layouts of other data sets than `archives` has: phantom images and made-up records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archives import csv_text, pictures, save

REXGRADIENT_METADATA = "metadata/train_metadata_view_position.json"


def rexgradient_id(patient: int, study: int) -> str:
    """A study id like those of ReXGradient: patient, accession number and study."""
    return f"pGRDN{patient:04d}_aGRDN{study:04d}_s1.2.826.{study}"


def rexgradient_path(patient: int, study: int, image: int) -> str:
    """The path of an image below `deid_png`."""
    inside = f"series/1.2.826.{study}.1/instances/1.2.826.{study}.1.{image}.png"
    return f"GRDN{patient:04d}/GRDN{study:04d}/studies/1.2.826.{study}/{inside}"


def rexgradient_entry(patient: int, study: int, views: list[Any], **fields: Any) -> dict[str, Any]:
    """An entry of the metadata, with an image for each view."""
    return {
        "StudyInstanceUid": f"1.2.826.{study}",
        "AccessionNumber": f"aGRDN{study:04d}",
        "PatientID": f"pGRDN{patient:04d}",
        "EthnicGroup": None,
        "StudyDate": 20180101,
        "StudyDescription": "XR CHEST 2 VIEWS",
        "PatientSex": "F",
        "PatientAge": "036Y",
        "Indication": "Cough.",
        "Comparison": "None.",
        "Findings": "The lungs\nare clear.",
        "Impression": "No acute disease.",
        "ImagePath": [
            f"../deid_png/{rexgradient_path(patient, study, image)}" for image in range(len(views))
        ],
        "ImageViewPosition": views,
        "ImageShape": [[3056, 2544]] * len(views),
        **fields,
    }


def rexgradient(folder: Path) -> str:
    """A tree of ReXGradient-160K, with odd cases; returns the id of a study with two views."""
    nothing = float("nan")
    entries = {
        "train": {
            rexgradient_id(1, 12): rexgradient_entry(1, 12, ["LATERAL", "POSTERO_ANTERIOR"]),
            # The study with the smaller number is the later one; a third is of the same day.
            rexgradient_id(1, 11): rexgradient_entry(
                1, 11, ["AP"], StudyDate="20190203", Findings=nothing, Comparison=None
            ),
            rexgradient_id(1, 13): rexgradient_entry(1, 13, [None], StudyDate=20190203),
            rexgradient_id(2, 20): rexgradient_entry(2, 20, ["PA"], Findings=None, Impression=nothing),
            rexgradient_id(2, 21): rexgradient_entry(2, 21, []),
            rexgradient_id(2, 22): rexgradient_entry(2, 22, ["PA", "LL"], ImageViewPosition=["PA"]),
            rexgradient_id(2, 23): rexgradient_entry(2, 23, ["PA"], Findings=["Clear."]),
            rexgradient_id(2, 24): None,
        },
        "test": {
            rexgradient_id(3, 30): rexgradient_entry(3, 30, ["N/A", "PA"], StudyDate=nothing),
            rexgradient_id(3, 31): rexgradient_entry(3, 31, ["PA"]),
        },
    }
    images = pictures()
    for prefix, of_split in entries.items():
        path = folder / f"metadata/{prefix}_metadata_view_position.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(of_split))
        for entry in (entry for entry in of_split.values() if entry):
            for name in entry["ImagePath"]:
                if "/GRDN0031/" not in name and not name.endswith("30.1.0.png"):
                    save(folder / "metadata" / name, next(images))
    for prefix in ("train", "valid"):
        table = folder / f"metadata/{prefix}_metadata.csv"
        table.write_text(csv_text(["id", "Findings"], [["pGRDN1_aGRDN1", "Clear."]]))
    save(folder / "deid_png" / rexgradient_path(9, 90, 0), next(images))
    (folder / "deid_png/list.txt").write_text("x")
    (folder / "README.md").write_text("x")
    return rexgradient_id(1, 12)
