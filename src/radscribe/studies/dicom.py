"""DICOM files as 8-bit grey pixels, as a radiologist sees them on a screen.

The order is that of the standard (PS3.3, C.7.6.3.1.2, C.11.1 and C.11.2): stored values, of which only the
bits stored count; the modality lookup table, or rescale slope and intercept; the first VOI lookup table, or
the first window; inversion of MONOCHROME1. Then pixels that are not square are resampled.

pydicom is imported only when a DICOM file is met.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from radscribe.studies.burned_in_text import BURNED_IN
from radscribe.studies.dicom_gate import WAY_OUT, gate_by_pixels, gate_by_tags
from radscribe.studies.dicom_inflation import check_inflated_size
from radscribe.studies.dicom_tags import numbers, projection_in, text, value_of
from radscribe.studies.image_error import MAX_PIXELS, ImageError, unreadable
from radscribe.studies.study import Projection, RenderedView
from radscribe.studies.windowing import stretched, windowed

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

#: Number of bytes at the start of a file that `is_dicom` needs.
HEAD = 132
INSTALL = "pip install 'radscribe[dicom]'"
#: The one decoder of pydicom for each compressed transfer syntax: another decoder could give other pixels.
_DECODERS = {
    **dict.fromkeys(
        (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 90, 91, 201, 202, 203)), "pylibjpeg"
    ),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)), "pyjpegls"),
    "1.2.840.10008.1.2.5": "pylibjpeg",
}
#: Object identifier of enveloped data (RFC 5652), which a DICOM secure file (PS3.15) begins with.
_ENVELOPED = bytes.fromhex("06092a864886f70d010703")
#: Value representations that the first element of a file without preamble may have.
_FIRST_REPRESENTATIONS = (b"UL", b"UI", b"CS", b"SH", b"LO", b"DA", b"TM")
#: Pixels whose height and width differ by less than this share are square.
_SQUARE = 0.01
#: Tags with the distance of pixels down and across, or its ratio; the first that is there counts.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
#: Notes on a view.
SEVERAL_FRAMES = "first of several frames"
COLOURS = "colours"
#: A picture has colours if red, green and blue differ by more than this in more than this share of pixels.
_COLOURFUL = (16, 0.01)


def is_dicom(head: bytes) -> bool:
    """Whether the first `HEAD` bytes of a file are those of a DICOM file, with or without a preamble.

    A file without preamble begins with the first data element, which is of group 2 or 8.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    for order in "<>":
        group, element, length = struct.unpack(f"{order}HHL", head[:8])
        if group in (2, 8) and element <= 0x0100 and (length <= 0x100 or head[4:6] in _FIRST_REPRESENTATIONS):
            return True
    return False


def is_encrypted(head: bytes) -> bool:
    """Whether the first `HEAD` bytes of a file are those of an encrypted message (DICOM secure file)."""
    return head[:1] == b"\x30" and _ENVELOPED in head[:24]


def read_dicom(data: bytes, name: object, *, chest_only: bool = True) -> RenderedView:
    """Decode a chest radiograph in DICOM to grey.

    Args:
        data: Content of the file.
        name: Name of the file in messages.
        chest_only: Refuse what is no radiograph of the chest; see `dicom_gate`.

    Returns:
        pixels uint8 [height, width], the window as it stands in `grey`, and notes.

    Raises:
        ImageError: pydicom is not installed; the file is truncated, damaged, encrypted, without pixels, in a
            transfer syntax that is not read, too large, or no radiograph of the chest.
    """
    dataset = parse(data, name)
    if not chest_only:
        return grey(dataset, name)
    verdict = gate_by_tags(dataset)
    if verdict.reason:
        raise unreadable(name, verdict.reason + WAY_OUT)
    view = grey(dataset, name)
    if not verdict.states_chest and (reason := gate_by_pixels(view.pixels, COLOURS in view.notes)):
        raise unreadable(name, reason + WAY_OUT)
    return view


def parse(data: bytes | BinaryIO, name: object, *, pixels: bool = True) -> FileDataset:
    """The data set of a DICOM file.

    Args:
        data: Content of the file, or the file, opened to read bytes.
        name: Name of the file in messages.
        pixels: Whether pixels and all that follows them are wanted.

    Raises:
        ImageError: pydicom is not installed, or the file is truncated before its pixels, damaged, or inflates
            to more than `image_error.MAX_BYTES`.
    """
    try:
        from pydicom import dcmread
    except ImportError:
        raise unreadable(name, "DICOM needs pydicom", INSTALL) from None
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    check_inflated_size(file, name)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            dataset = dcmread(file, force=True, stop_before_pixels=not pixels)
    except Exception as error:  # damaged bytes may raise anything
        raise _damaged(name, error) from error
    # pydicom leaves out what it could not read to its end, and says so by a warning.
    cut = any("end of file" in str(warning.message).lower() for warning in said)
    if cut and not (pixels and _has_pixels(dataset)):
        raise unreadable(name, "truncated", "Fetch the file again")
    if not dataset:
        raise unreadable(name, "damaged: no data element of DICOM can be read", "Fetch the file again")
    return dataset


def projection_of_file(path: Path) -> Projection:
    """The projection that the tags of a file state; unknown also if it is no DICOM file that can be read."""
    try:
        if not path.is_file():
            return "unknown"
        with open(path, "rb") as file:
            if not is_dicom(file.read(HEAD)):
                return "unknown"
            file.seek(0)
            return projection_in(parse(file, path, pixels=False))
    except (OSError, ValueError, ImageError):  # decoding says what is wrong with it
        return "unknown"


def grey(dataset: FileDataset, name: object) -> RenderedView:
    """The first frame of any image in DICOM as grey, without a look at what it shows.

    - Of several lookup tables or windows the first is taken; of a table and a window, the table.
    - Without either, or if the window leaves a picture of one shade, values are stretched as those of a deep
      PNG; see `windowed`. A picture of 8 bits without rescaling stays as it is then.
    - Padding (PixelPaddingValue) is black, and does not count in stretching.
    - Colours become luma; colours of more than 8 bits are scaled by the bits stored.

    Args:
        dataset: Data set with pixels.
        name: Name of the file in messages.

    Returns:
        pixels uint8 [height, width]; as window, the two values after rescaling that became 0 and 255, or None
        for 8 bits that stayed, colours, a lookup table and a sigmoid; notes.

    Raises:
        ImageError: see `read_dicom`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_pixels(dataset, name)
            stored = _stored(dataset, name)
            window, colours = None, False
            if stored.ndim == 3 or text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
                pixels, colours = _luma(stored, dataset)
            else:
                pixels, window = _shown(stored, dataset)
            pixels = _with_square_pixels(pixels, dataset, name)
    except ImageError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise _damaged(name, error) from error
    several = (numbers(dataset, "NumberOfFrames") or [1])[0] > 1
    burned_in = text(dataset, "BurnedInAnnotation") == "YES"
    noted = {SEVERAL_FRAMES: several, BURNED_IN: burned_in, COLOURS: colours}
    return RenderedView(pixels, window=window, notes=tuple(note for note, holds in noted.items() if holds))


def _damaged(name: object, error: Exception) -> ImageError:
    # What an error quotes is a value of a tag, which may be a name where a file is damaged.
    said = re.sub(r"""(['"]).*?\1""", "...", " ".join(str(error).split()))
    cut = "less than expected" in said or "truncated" in said.lower() or isinstance(error, EOFError)
    return unreadable(name, "truncated" if cut else f"damaged: {said:.200}", "Fetch the file again")


def _has_pixels(dataset: Dataset) -> bool:
    return "PixelData" in dataset or "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset


def _check_pixels(dataset: FileDataset, name: object) -> None:
    """Raise ImageError if there are no pixels, too many, or in a form that cannot be decoded."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not _has_pixels(dataset):
        if "EncryptedAttributesSequence" in dataset:
            raise unreadable(name, "encrypted: its attributes are in a message that needs a key")
        raise unreadable(name, "no pixel data")
    size = [numbers(dataset, keyword) for keyword in ("Rows", "Columns")]
    if not all(size) or 0 in (height_width := [int(found[0]) for found in size]):
        raise unreadable(name, "damaged: no number of rows and columns")
    if math.prod(height_width) > MAX_PIXELS:
        raise unreadable(name, "too large", f"The limit is {MAX_PIXELS:,} pixels")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        implicit, little_endian = dataset.original_encoding
        plain = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
        syntax = dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    if syntax in _DECODERS:
        decoder = get_decoder(syntax)
        if _DECODERS[syntax] not in decoder.available_plugins:
            raise unreadable(name, f"DICOM needs a decoder of {UID(syntax).name}", INSTALL)
    elif UID(syntax).is_private or (UID(syntax).is_compressed and not UID(syntax).is_deflated):
        raise unreadable(name, f"transfer syntax not read: {UID(syntax).name}", "Decompress it first")


def _stored(dataset: FileDataset, name: object) -> np.ndarray:
    """The values of the first frame, [height, width] or [height, width, 3]; of their bits only the stored."""
    from pydicom.pixels import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    _require_whole_frames(dataset, name)
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    high = int((numbers(dataset, "HighBit") or [bits - 1])[0])
    if syntax in _DECODERS or bits == allocated:
        return pixel_array(dataset, index=0, decoding_plugin=_DECODERS.get(syntax, ""))
    # pydicom drops the upper bits even if they are those that are stored.
    values = pixel_array(dataset, index=0, bits_stored=allocated)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    above = allocated - 1 - high
    if values.dtype.kind not in "ui" or values.itemsize * 8 != allocated:
        return values
    if not 0 <= above <= allocated - bits:
        raise ValueError(f"bit {high} cannot be the highest of {bits} bits in {allocated}")
    # The other bits may hold an overlay. Shifting up drops those above; shifting down drops those below, and
    # extends the sign.
    raised = values.view(f"u{values.itemsize}") << np.array(above, f"u{values.itemsize}")
    return raised.view(values.dtype) >> (allocated - bits)


def _require_whole_frames(dataset: FileDataset, name: object) -> None:
    """Raise ImageError if the first frame of compressed pixels has no end, which decoders fill with grey."""
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in _DECODERS or syntax == RLELossless:
        return
    frames = (numbers(dataset, "NumberOfFrames") or [1])[0]
    frame = next(generate_frames(dataset.PixelData, number_of_frames=int(frames)), b"")
    # Every format of JPEG ends with this marker, which cannot occur within what its last scan marker begins.
    if frame.find(b"\xff\xd9", max(frame.rfind(b"\xff\xda"), 0)) < 0:
        raise unreadable(name, "truncated", "Fetch the file again")


def _luma(stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, bool]:
    """Grey pixels of a picture in colour or with a palette, and whether it has colours indeed."""
    from pydicom.pixels import apply_color_lut

    bits = int(dataset.BitsStored)
    if stored.ndim == 2:
        stored = apply_color_lut(stored, dataset)
        bits = stored.itemsize * 8
    if bits != 8:
        stored = stretched(stored, 0, 2**bits - 1)
    shades = stored.astype(np.uint8)
    colourful = np.mean(np.ptp(shades, axis=2) > _COLOURFUL[0]) > _COLOURFUL[1]
    return np.array(Image.fromarray(shades).convert("L")), bool(colourful)


def _shown(stored: np.ndarray, dataset: FileDataset) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Grey pixels of stored values [height, width], and their window."""
    padding = _padding(stored, dataset)
    values = _rescaled(stored, dataset)
    pixels, window = _by_table_or_window(values, dataset)
    if pixels is None or (np.ptp(pixels) == 0 and np.ptp(values) > 0):
        if values.dtype == np.uint8:
            pixels, window = values, None
        else:
            pixels, window = windowed(values, values[~padding] if padding.any() else None)
    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        pixels = 255 - pixels
    if padding.any():
        pixels = np.where(padding, np.uint8(0), pixels)
    return pixels, window


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Where padding lies, bool [height, width]; nowhere if all would be padding."""
    first = numbers(dataset, "PixelPaddingValue")
    if not first:
        return np.zeros(stored.shape, bool)
    last = numbers(dataset, "PixelPaddingRangeLimit") or first
    low, high = sorted((first[0], last[0]))
    padding = (stored >= low) & (stored <= high)
    return padding & ~padding.all()


def _rescaled(stored: np.ndarray, dataset: FileDataset) -> np.ndarray:
    """Values after the modality lookup table, or after slope and intercept."""
    if table := value_of(dataset, "ModalityLUTSequence"):
        return _looked_up(stored, *_entries(table[0], stored, dataset))
    slope = (numbers(dataset, "RescaleSlope") or [1.0])[0]
    intercept = (numbers(dataset, "RescaleIntercept") or [0.0])[0]
    if slope == 0 or (slope, intercept) == (1, 0):
        return stored
    return stored * np.float64(slope) + intercept


def _by_table_or_window(
    values: np.ndarray, dataset: FileDataset
) -> tuple[np.ndarray | None, tuple[float, float] | None]:
    """Pixels by the first VOI lookup table, or by the first window; None if there is neither."""
    if tables := value_of(dataset, "VOILUTSequence"):
        entries, first = _entries(tables[0], values, dataset)
        # Some tables state more bits than their entries have, which would leave the picture nearly black.
        top = 2 ** max(int(np.max(entries)).bit_length(), 1) - 1
        return stretched(_looked_up(values, entries, first), 0, top), None
    centre, width = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not (centre and width and width[0] > 0):
        return None, None
    function = text(dataset, "VOILUTFunction")
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - centre[0]) / width[0], -700, 700)
        return np.rint(255 / (1 + np.exp(exponent))).astype(np.uint8), None
    if function == "LINEAR_EXACT":
        low, high = centre[0] - width[0] / 2, centre[0] + width[0] / 2
    else:
        low, high = centre[0] - 0.5 - (width[0] - 1) / 2, centre[0] - 0.5 + (width[0] - 1) / 2
    if not low < high:
        return (values > low) * np.uint8(255), (low, low)
    return stretched(values, low, high), (low, high)


def _entries(table: Dataset, values: np.ndarray, dataset: FileDataset) -> tuple[np.ndarray, int]:
    """The entries of a lookup table, and the value that the first of them is for."""
    count, first, bits = (int(number) for number in numbers(table, "LUTDescriptor"))
    count = count or 2**16
    content = table.LUTData
    if isinstance(content, bytes):
        # Entries of 8 bits may stand in bytes, or in words of 16 bits.
        words = "<u2" if dataset.original_encoding[1] else ">u2"
        entries = np.frombuffer(content, "u1" if bits <= 8 and len(content) < 2 * count else words, count)
    else:
        entries = np.atleast_1d(np.asarray(content, np.uint16))
    if len(entries) < count:
        raise ValueError(f"a lookup table has {len(entries)} entries and should have {count}")
    # The first value may be negative, and be read as if it could not.
    if first >= 2**15 and first > values.max():
        first -= 2**16
    return entries, first


def _looked_up(values: np.ndarray, entries: np.ndarray, first: int) -> np.ndarray:
    """The entry for each value; values beyond the ends of the table get the first and the last entry."""
    return entries[np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)]


def _with_square_pixels(pixels: np.ndarray, dataset: Dataset, name: object) -> np.ndarray:
    """The picture with the shorter spacing along both axes, so that a circle is round."""
    found = (numbers(dataset, keyword) for keyword in _SPACINGS)
    down, across = next((pair for pair in found if len(pair) == 2 and min(pair) > 0), (1.0, 1.0))
    if abs(down / across - 1) <= _SQUARE:
        return pixels
    height, width = pixels.shape
    size = round(width * max(across / down, 1)), round(height * max(down / across, 1))
    if math.prod(size) > MAX_PIXELS:
        raise unreadable(name, "too large", f"The limit is {MAX_PIXELS:,} pixels, once they are square")
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
