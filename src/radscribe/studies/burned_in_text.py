"""Text that is burned into the pixels of a view: reading it, and whether it could identify a patient.

The models stand in the wheel of `rapidocr`, so nothing is downloaded. What was read is never kept, printed or
quoted: it may be a name.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.studies.study import RenderedView

#: Note on a view with text that could identify a patient, by a DICOM tag or by reading.
BURNED_IN = "burned-in text"
INSTALL = "pip install 'radscribe[ocr]'"
#: Words that mark side, projection, position and exposure on radiographs, and identify nobody.
_MARKER_WORDS = """
LEFT RIGHT LAT LATERAL FRONTAL CHEST CXR THORAX PORTABLE PORT MOBILE BEDSIDE SUPINE PRONE ERECT UPRIGHT UPRT
SEMI SEMIERECT SEMIUPRIGHT SITTING SEATED STANDING DECUB DECUBITUS LLD RLD RECUMBENT LYING INSP INSPIRATION
EXP EXPIRATION PATIENT VIEW STAT GRID ICU ITU CCU DER IZQ DCHA
"""
_MARKERS = frozenset(_MARKER_WORDS.split())
#: A word of this many letters may be a name, unless it is a marker.
_NAME_LETTERS = 3
#: So many digits may be an id or a date; fewer are a position, a distance or a dose.
_ID_DIGITS = 4

#: Longest side in pixels at which text is looked for. Twice of it takes four times as long.
_LONGEST_SIDE = 1280


def may_identify(lines: Iterable[str]) -> bool:
    """Whether one of these lines of text could identify a patient.

    It could if it has a word of three letters or more that is no marker of side, projection, position or
    exposure, or four digits or more: a name, an id, a date, a time, a place.
    """
    return any(
        sum(map(str.isdecimal, line)) >= _ID_DIGITS
        or any(
            len(word) >= _NAME_LETTERS and word.upper() not in _MARKERS
            for word in re.findall(r"[^\W\d_]+", line)
        )
        for line in lines
    )


def with_text_read(view: RenderedView) -> RenderedView:
    """The view, with the note `BURNED_IN` if text that could identify a patient is read in its pixels.

    Args:
        view: A view at its own size; text is lost when it is reduced.

    Raises:
        RadScribeError: see `require_reader`.
    """
    if BURNED_IN in view.notes or not may_identify(read_text(view.pixels)):
        return view
    return dataclasses.replace(view, notes=(*view.notes, BURNED_IN))


def read_text(pixels: np.ndarray) -> list[str]:
    """The lines of text in a picture, uint8 [height, width], that are read with a confidence of .5 or more.

    Raises:
        RadScribeError: see `require_reader`.
    """
    return list(_reader()(pixels).txts or ())


def require_reader() -> None:
    """Load what reads text, so that a command stops before its work and not within it.

    Raises:
        RadScribeError: the extra `ocr` is not installed.
    """
    _reader()


@functools.cache
def _reader() -> Callable[[np.ndarray], Any]:
    try:
        import onnxruntime  # noqa: F401
        from rapidocr import RapidOCR
    except ImportError:
        raise RadScribeError("reading burned-in text needs rapidocr and onnxruntime", INSTALL) from None
    settings = {
        "Global.log_level": "critical",
        "Global.max_side_len": _LONGEST_SIDE,
        "Global.use_cls": False,  # which would turn text that stands upside down
        # Several processes read at once, so each computes in one thread.
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return RapidOCR(params=settings)
