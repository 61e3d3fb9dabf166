"""Deflated DICOM files: they are read, and none fills the memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_files import content, dataset_of, dicom_file, phantom_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian

from radscribe.studies.dicom import parse
from radscribe.studies.dicom_inflation import check_inflated_size
from radscribe.studies.image_error import MAX_BYTES, ImageError
from radscribe.studies.images import read_content
from radscribe.studies.readers.registry import open_source
from radscribe.studies.rejection import Rejection


def deflated(**tags: object) -> bytes:
    dataset = dataset_of(phantom_pixels(), **tags)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return content(dataset)


def head() -> bytes:
    """The preamble and the file meta information of a deflated file."""
    data = deflated()
    (length,) = struct.unpack("<L", data[140:144])
    return data[: 144 + length]


def bomb(size: int) -> bytes:
    """A deflated file with `size` bytes, or more, of zeros."""
    piece = 10_000_000
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = stream.compress(bytes(piece)) + stream.flush(zlib.Z_FULL_FLUSH)
    return head() + block * (size // piece + 1) + stream.flush(zlib.Z_FINISH)


def test_a_deflated_file_has_the_pixels_of_a_plain_one():
    data = deflated()
    assert len(data) < len(dicom_file(phantom_pixels()))
    np.testing.assert_array_equal(read_content(data, "scan").pixels, phantom_pixels())
    assert parse(io.BytesIO(data), "scan", pixels=False).Modality == "CR"


def test_the_limit_is_that_of_what_it_inflates_to():
    data, inflated = deflated(), zlib.decompress(deflated()[len(head()) :], -zlib.MAX_WBITS)
    check_inflated_size(io.BytesIO(data), "scan", len(inflated))
    with pytest.raises(ImageError, match=rf"scan: too large.*more than {len(inflated) - 1:,} bytes"):
        check_inflated_size(io.BytesIO(data), "scan", len(inflated) - 1)
    check_inflated_size(io.BytesIO(dicom_file()), "scan", 1)  # not deflated


@pytest.mark.slow
def test_a_bomb_is_refused_without_being_inflated_as_a_whole(tmp_path: Path):
    data = bomb(MAX_BYTES)
    assert len(data) < MAX_BYTES / 500
    tracemalloc.start()
    with pytest.raises(ImageError, match="bomb: too large"):
        read_content(data, "bomb")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    (tmp_path / "bomb.dcm").write_bytes(data)
    (tmp_path / "good.dcm").write_bytes(dicom_file())
    records = list(open_source(tmp_path, keep_ids=True))
    rejected = [record.reason for record in records if isinstance(record, Rejection)]
    assert rejected == ["too large"]
    assert len(records) == 2


@pytest.mark.parametrize("disguise", ["implicit", "without preamble", "behind a command"])
def test_disguises_do_not_help(disguise):
    """Forms of the file meta information that pydicom is tolerant of."""
    start, rest = head(), bomb(20_000_000)[len(head()) :]
    uid = DeflatedExplicitVRLittleEndian.encode()
    if disguise == "implicit":
        start = start[:132] + struct.pack("<HHL", 2, 0x10, len(uid)) + uid
    elif disguise == "without preamble":
        start = start[132:]
    else:
        start += struct.pack("<HHL", 0, 0x0002, 2) + b"1\0"
    harmless = io.BytesIO(start + deflated()[len(head()) :])
    assert parse(harmless, "scan", pixels=False).file_meta.TransferSyntaxUID == uid.decode()
    with pytest.raises(ImageError, match="too large"):
        check_inflated_size(io.BytesIO(start + rest), "scan", 1_000_000)


def test_a_truncated_stream_and_meta_information_without_end():
    with pytest.raises(ImageError, match="truncated"):
        read_content(deflated()[:-3000], "scan")
    endless = head() + struct.pack("<HH2s2xL", 2, 0x0102, b"SQ", 0xFFFFFFFF)
    with pytest.raises(ImageError, match="an element before the data set has no end"):
        read_content(endless, "scan")
