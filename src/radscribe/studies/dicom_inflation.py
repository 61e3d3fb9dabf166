"""A guard against DICOM files that inflate to more bytes than a radiograph can have.

In the transfer syntax Deflated Explicit VR Little Endian (PS3.5, A.5) everything behind the file meta
information is compressed as in zlib, and pydicom inflates it at once. A file of one megabyte may inflate to a
gigabyte.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from radscribe.studies.image_error import MAX_BYTES, unreadable

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_TRANSFER_SYNTAX = 0x0010
#: Value representations with a length of 32 bits, behind two empty bytes.
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
#: Number of bytes that are read and inflated at a time.
_STEP = 1_000_000


def check_inflated_size(file: BinaryIO, name: object, limit: int = MAX_BYTES) -> None:
    """Check that a DICOM file does not inflate to more than `limit` bytes; the file is left at its start.

    Args:
        file: The file, opened to read bytes. Files of other transfer syntaxes pass.
        name: Name of the file in messages.
        limit: Largest number of bytes.

    Raises:
        ImageError: the file inflates to more, or its file meta information is damaged.
    """
    if _at_deflated(file, name):
        inflated = 0
        for size in _inflated_sizes(file):
            inflated += size
            if inflated > limit:
                raise unreadable(
                    name, "too large", f"It is deflated, and inflates to more than {limit:,} bytes"
                )
    file.seek(0)


def _at_deflated(file: BinaryIO, name: object) -> bool:
    """Go to the data set, behind the elements of group 2 and of commands; whether it is deflated."""
    file.seek(128)
    if file.read(4) != b"DICM":
        file.seek(0)
    deflated = False
    while len(head := file.read(8)) == 8:
        group, element, representation, length = struct.unpack("<HH2sH", head)
        if group not in (0, 2):
            file.seek(-8, 1)
            break
        if group == 0 or not b"AA" <= representation <= b"ZZ":  # implicit, of which pydicom is tolerant
            (length,) = struct.unpack("<L", head[4:])
        elif representation in _LONG:
            (length,) = struct.unpack("<L", file.read(4).ljust(4, b"\0"))
        if length > MAX_BYTES:
            raise unreadable(
                name, "damaged: an element before the data set has no end", "Fetch the file again"
            )
        value = file.read(length)
        deflated = deflated or (element == _TRANSFER_SYNTAX and value.startswith(_DEFLATED))
    return deflated


def _inflated_sizes(file: BinaryIO) -> Iterator[int]:
    """The sizes of the pieces to which the rest of a file inflates; damaged bytes end it."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    waiting = b""
    try:
        while not stream.eof and (waiting := waiting or file.read(_STEP)):
            yield len(stream.decompress(waiting, _STEP))
            waiting = stream.unconsumed_tail
    except zlib.error:  # pydicom says what is wrong
        return
