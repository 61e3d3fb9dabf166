"""Small trees in layouts of other data sets than `archives` has: phantom images and made-up records."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from archives import csv_text, pictures, save
from PIL import Image
from pyarrow import parquet

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


PADCHEST_GR_REPORTS = "grounded_reports_20240819.json"
PADCHEST_GR_COLUMNS = ["StudyID", "ImageID", "label_group", "PatientID", "PatientSex_DICOM", "split"]


def padchest_gr_study(number: int, *findings: Any, **fields: Any) -> dict[str, Any]:
    """A study of the reports of PadChest-GR."""
    name = f"{number}_dln48o.png"
    return {"StudyID": str(number), "ImageID": name, "findings": list(findings), **fields}


def padchest_gr_finding(sentence: str, *boxes: Any, labels: tuple[str, ...] = ()) -> dict[str, Any]:
    """A finding with boxes, or a sentence that says that something is not there, which has fewer keys."""
    if not boxes:
        return {"sentence_en": sentence, "sentence_es": "Frase.", "abnormal": False}
    return {
        "sentence_en": sentence,
        "sentence_es": "Frase.",
        "abnormal": True,
        "boxes": list(boxes),
        "extra_boxes": [[0, 0, 1, 1]],
        "labels": list(labels),
        "locations": ["right"],
        "progression": None,
    }


def padchest_gr(folder: Path) -> str:
    """A tree of PadChest-GR, with odd cases; no study has two views."""
    finding = padchest_gr_finding
    effusion = [0.1, 0.625, 0.3, 0.9], [0.7, 0.5, 0.9, 0.90625]
    studies = [
        padchest_gr_study(
            1,
            finding("Bilateral pleural effusion", *effusion),
            finding("No pneumothorax."),
            # The labels of PadChest say what the sentence does not.
            finding(
                "Laminar tract in the right base.", [0.9, 0.8, 0.6, 0.7], labels=("laminar atelectasis",)
            ),
            finding("Dorsal scoliosis.", [0.4, 0, 0.6, 1], labels=("scoliosis",)),
        ),
        # A nodule, a line without height, and a box in pixels.
        padchest_gr_study(
            2,
            finding(
                "Nodule in the left upper lobe.",
                [0.6, 0.2, 0.61, 0.21],
                [0.6, 0.2, 0.61, 0.2],
                [0.6, 0.2, 120, 0.3],
            ),
        ),
        padchest_gr_study(3, finding("Normal chest X-ray.")),
        padchest_gr_study(4),
        padchest_gr_study(5, finding("Cardiomegaly.", [0.3, 0.5, 0.9])),
        padchest_gr_study(6, {"sentence_es": "Derrame pleural.", "abnormal": True}),
        padchest_gr_study(7, finding("Normal.")),
        padchest_gr_study(8, finding("Normal.")),
        padchest_gr_study(9, finding("Normal.")),
        {"StudyID": "10", "findings": []},
        "not a study",
    ]
    splits = {1: "train", 2: "validation", 9: "holdout"}
    rows = [
        [number, f"{number}_dln48o.png", group, f"p{number % 5}", "F", splits.get(number, "test")]
        for number in (1, 2, 3, 4, 5, 6, 7, 9, 11)
        for group in ("Pleural effusion", "Scoliosis")
    ]
    rows += [[3, "3_dln48o.png", "Normal", "p4", "F", "train"], ["", "", "", "", "", ""], [1]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PADCHEST_GR_REPORTS).write_text(json.dumps(studies))
    (folder / "master_table.csv").write_text(csv_text(PADCHEST_GR_COLUMNS, rows))
    images = pictures()
    for number in (1, 2, 3, 4, 5, 6, 8, 9, 12):
        # Sixteen bits, of which some detectors use twelve.
        deep = next(images)[::4, ::4].astype(np.uint16) * 16
        save(folder / f"Padchest_GR_files/PadChest_GR/{number}_dln48o.png", deep)
    (folder / "Padchest_GR_files/PadChest_GR/notes.txt").write_text("x")
    return ""


def rexrank_entry(*images: str, **fields: Any) -> dict[str, Any]:
    """A study as ReXrank has those of IU X-Ray."""
    return {
        "key_image_path": images[0],
        "image_path": list(images),
        "report": "Findings: The lungs are clear. Impression: None.",
        "section_findings": "The lungs are clear.",
        "section_impression": "None.",
        "split": "test",
        "frontal_lateral": ["Frontal", "Lateral", "Unknown"][: len(images)],
        "context": "Indication: Cough, fever. Comparison: None.",
        **fields,
    }


def rexrank(folder: Path) -> str:
    """Two files of ReXrank and their images, with odd cases; returns the id of a study with two views."""
    entry, nothing = rexrank_entry, float("nan")
    test = {
        "CXR1_IM-0001": entry("1/0.png", "1/1.png", frontal_lateral=["Lateral", "Frontal"]),
        "patient7_study2": entry("7/0.png", section_findings=nothing, section_impression="STABLE."),
        "50000001": entry("8/0.png", subject_id=10000032, context="<context>Age:50-60.Gender:M.</context>"),
        "empty": entry("9/0.png", section_findings=nothing, section_impression=None),
        "no image": entry("9/0.png", image_path=[], key_image_path=""),
        "views": entry(
            "8/2.png",
            "8/3.png",
            key_image_path="8/3.png",
            frontal_lateral=["Lateral", "Frontal", "Lateral"],
        ),
        "split": entry("9/0.png", split="fold3"),
        "paths": entry("9/0.png", image_path=[7]),
        "text": entry("9/0.png", section_findings=["Clear."]),
        "list": [],
    }
    key_only = {"key_image_path": "5/0.png", "section_impression": "Normal.", "model_prediction": "x"}
    valid = {"CXR5_IM-0005": key_only, "CXR1_IM-0001": entry("1/0.png"), "CXR6_IM-0006": entry("6/0.png")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ReXRank_test.json").write_text(json.dumps(test, indent=4))
    (folder / "ReXRank_valid.json").write_text(json.dumps(valid))
    images = pictures()
    for name in ("1/0", "1/1", "5/0", "6/0", "7/0", "8/0", "8/2", "8/3"):
        save(folder / f"images/{name}.png", next(images))
    return "CXR1_IM-0001"


#: The type of an image in a Parquet or Arrow file of `datasets`.
IMAGE_TYPE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def png(pixels: np.ndarray) -> bytes:
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def hub_rows(numbers: Iterable[int]) -> pyarrow.Table:
    """Rows with two views each, as data sets of the hub have them."""
    images = pictures()
    rows = [
        {
            "images": [
                {"bytes": png(next(images)), "path": None},
                {"bytes": png(next(images)), "path": "b.png"},
            ],
            "findings": f"Findings {number}.",
            "impression": None if number % 2 else "Normal.",
            "images_path": ["a.png", "b.png"],
        }
        for number in numbers
    ]
    schema = pyarrow.schema(
        [
            ("images", pyarrow.list_(IMAGE_TYPE)),
            ("findings", pyarrow.string()),
            ("impression", pyarrow.large_string()),
            ("images_path", pyarrow.list_(pyarrow.string())),
        ]
    )
    return pyarrow.Table.from_pylist(rows, schema=schema)


def write_arrow(path: Path, table: pyarrow.Table) -> None:
    """Write a stream, as `save_to_disk` of `datasets` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)


def write_parquet(path: Path, table: pyarrow.Table, rows: int = 2) -> None:
    """Write row groups with some rows each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=rows)


def hugging_face(folder: Path) -> str:
    """Parquet files in the layout of the hub; returns the id of a study with two views."""
    write_parquet(folder / "data/train-00000-of-00002.parquet", hub_rows(range(3)))
    write_parquet(folder / "data/train-00001-of-00002.parquet", hub_rows([3]))
    write_parquet(folder / "data/validation-00000-of-00001.parquet", hub_rows([4]))
    write_parquet(folder / "data/test-00000-of-00001.parquet", hub_rows([5]))
    (folder / "README.md").write_text("x")
    (folder / ".cache/huggingface").mkdir(parents=True)
    (folder / ".cache/huggingface/train.parquet").write_text("x")
    return "data/train-00000-of-00002/1"
