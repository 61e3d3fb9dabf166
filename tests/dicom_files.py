"""DICOM files for tests, written from phantom views and plain arrays."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from radscribe.studies.images import original_view
from radscribe.studies.phantom.reader import read_phantom

ROOT = "1.2.826.0.1.3680043.10.999."
#: The test files that pydicom's own wheel ships; none is downloaded.
PACKAGED = Path(pydicom.__file__).parent / "data/test_files"
CR = ComputedRadiographyImageStorage
DX = DigitalXRayImageStorageForPresentation


@functools.cache
def phantom_pixels(projection: str = "frontal") -> np.ndarray:
    """A phantom view at its own size, uint8 [height, width]."""
    (study,) = (study for study in read_phantom(studies=1, seed=3))
    (view,) = (view for view in study.views if view.projection == projection)
    pixels = original_view(view).pixels
    pixels.flags.writeable = False
    return pixels


def twelve_bits(pixels: np.ndarray) -> np.ndarray:
    """The pixels as 12 bits in 16, without loss."""
    return pixels.astype(np.uint16) * 16


def dataset_of(values: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> FileDataset:
    """A radiograph of the chest with these stored values, [frames, height, width] or [height, width].

    Args:
        values: Stored values of any integer type.
        syntax: Transfer syntax; a compressed one is applied by pydicom's encoders.
        tags: Tags by keyword, over those of an ordinary file; None leaves a tag out.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    signed = values.dtype.kind == "i"
    ordinary = {
        "SOPClassUID": CR,
        "SOPInstanceUID": ROOT + "3",
        "StudyInstanceUID": ROOT + "1",
        "SeriesInstanceUID": ROOT + "2",
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "PatientName": "Quirrel^Zebulon",
        "PatientID": "PID-778899",
        "PatientBirthDate": "19340712",
        "StudyDate": "20210304",
        "StudyTime": "101112",
        "AccessionNumber": "ACC-445566",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": values.shape[-2],
        "Columns": values.shape[-1],
        "BitsAllocated": values.itemsize * 8,
        "BitsStored": values.itemsize * 8,
        "HighBit": values.itemsize * 8 - 1,
        "PixelRepresentation": int(signed),
    }
    if values.ndim == 3:
        ordinary["NumberOfFrames"] = len(values)
    if "BitsStored" in tags:
        ordinary["HighBit"] = tags["BitsStored"] - 1
    for keyword, value in (ordinary | tags).items():
        if value is not None:
            setattr(dataset, keyword, value)
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CR)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", ROOT + "9")
    if "PixelData" not in tags:
        dataset.PixelData = values.tobytes()
        dataset["PixelData"].VR = "OW" if values.itemsize > 1 else "OB"
    if syntax != ExplicitVRLittleEndian and pydicom.uid.UID(syntax).is_compressed:
        dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def code(value: str, meaning: str = "", scheme: str = "SCT") -> Dataset:
    """An item of a sequence of codes."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def content(dataset: FileDataset) -> bytes:
    """The bytes of a DICOM file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicom_file(values: np.ndarray | None = None, **tags: Any) -> bytes:
    """The bytes of a DICOM file; see `dataset_of`. Without values, a small frontal phantom of 12 bits."""
    if values is None:
        values, tags = twelve_bits(phantom_pixels()), {"BitsStored": 12, **tags}
    return content(dataset_of(values, **tags))
