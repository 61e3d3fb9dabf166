"""Released memory banks of AM-MRG, `CAM.pkl` and `Report_Memory.pkl`: read without running anything in them.

Each is a pickle of a dictionary from the names of the observations to features `[rows, 768]`. Nothing in it
says which image or report a row is of.

The released stage 2 takes some of the rows at random, and its checkpoints do not keep them. Its random seed
is set first, and it draws from `CAM.pkl` and then from `Report_Memory.pkl`. So the same draws should give the
rows back; `recovered` makes them. That could not be compared with a released file.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.parts.memory_bank import BankKind

#: Width of the released features.
WIDTH = 768
#: Files by the kind of bank that they hold.
RELEASED_FILES: dict[BankKind, str] = {"visual-bank": "CAM.pkl", "report-bank": "Report_Memory.pkl"}
#: What is said of rows that were drawn again.
RECOVERED = "recovered, unverified"
#: Random seed of the released stage 2, the largest number of rows that it takes of a class of `CAM.pkl`, and
#: the number that it takes of `Report_Memory.pkl`.
SEED = 42
MOST_ROWS = 500
REPORT_ROWS = 6000
#: The observations in the order of the released code.
RELEASED_ORDER = (*OBSERVATIONS[1:], OBSERVATIONS[0])
_NUMBER_FORMAT = re.compile(r"[<>|=]?[fU]\d+")


# --- reading ------------------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """A pickle asks for something that no released bank needs."""


class _Dtype:
    """Stands for `numpy.dtype`: floating-point numbers or characters, never objects."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        if not isinstance(code, str) or not _NUMBER_FORMAT.fullmatch(code):
            raise _RefusedError(f"an array of the format {str(code)[:20]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])  # the rest follows from the format


class _Array:
    """Stands for `numpy.ndarray`, of which only shape, format and bytes are taken."""

    def __init__(self) -> None:
        self.values = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _version, shape, number_format, by_column, content = state
        self.values = _values(content, number_format, shape, "F" if by_column else "C")


def _values(content: Any, number_format: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(number_format, _Dtype) or not isinstance(content, (bytes, bytearray)):
        raise _RefusedError("an array that does not have its numbers as bytes")
    return np.frombuffer(content, number_format.dtype).reshape(shape, order=order)


def _reconstructed(*_: Any) -> _Array:
    """Stands for `_reconstruct` of NumPy: an array before it has its content."""
    return _Array()


def _from_buffer(content: Any, number_format: Any, shape: Any, order: Any, *_: Any) -> _Array:
    """Stands for `_frombuffer` of NumPy."""
    array = _Array()
    array.values = _values(content, number_format, shape, order)
    return array


def _scalar(number_format: Any, content: Any = b"") -> Any:
    """Stands for `scalar` of NumPy; the names of a released bank can be such."""
    return _values(content, number_format, 1, "C")[0].item()


def _encoded(text: Any, encoding: Any = "") -> bytes:
    """Stands for `_codecs.encode`, by which old pickles write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError(f"a text in the encoding {str(encoding)[:20]!r}")
    return text.encode("latin1")


#: What a released bank may name, and what stands for it: nothing of NumPy is called by the pickle.
_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "_reconstruct"): _reconstructed,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encoded,
}


class _BankUnpickler(pickle.Unpickler):
    """Reads a pickle of NumPy arrays under names, and refuses any other before anything is run."""

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`; NumPy 2 renamed the package that older pickles name."""
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in _NAMES:
            raise _RefusedError(f"'{module}.{name}'")
        return _NAMES[module, name]


def read_released_bank(path: Path, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Read `CAM.pkl` or `Report_Memory.pkl`; nothing in it is run.

    Args:
        path: The released file.
        width: Width that the features must have.

    Returns:
        Features float32 `[rows, width]` by observation, in the order of the file.

    Raises:
        RadScribeError: there is no such file, it holds anything but arrays of numbers, or it has not the 14
            observations, the width, or numbers that are finite.
    """
    give = f"Give the {' or '.join(RELEASED_FILES.values())} that the authors released"
    if not path.is_file():
        raise RadScribeError(f"there is no released bank '{path}'", give)
    try:
        with path.open("rb") as file:
            content = _BankUnpickler(file).load()
    except _RefusedError as error:
        raise RadScribeError(
            f"'{path}' is refused: it holds {error}, which no released bank does; nothing in it was run", give
        ) from error
    except Exception as error:  # a broken pickle may raise any exception
        raise RadScribeError(
            f"'{path}' could not be read as a bank ({type(error).__name__})", give
        ) from error
    named = isinstance(content, dict) and all(isinstance(array, _Array) for array in content.values())
    if not named or set(map(str, content)) != set(OBSERVATIONS):
        names = sorted(map(str, content))[:3] if named else []
        raise RadScribeError(
            f"'{path}' does not hold features under the names of the 14 observations"
            + (f", but under {', '.join(names) or 'none'}, ..." if named else ""),
            give,
        )
    for name, array in content.items():
        values = array.values
        if values.dtype.kind != "f" or values.ndim != 2 or values.shape[1] != width:
            raise RadScribeError(
                f"'{path}' has for {name} {values.dtype} of shape {values.shape}, and not numbers "
                f"[rows, {width}]",
                give,
            )
        if not np.isfinite(values).all():
            raise RadScribeError(f"'{path}' is damaged: {name} holds a number that is not finite", give)
    if not any(len(array.values) for array in content.values()):
        raise RadScribeError(f"'{path}' has no row", give)
    return {str(name): np.ascontiguousarray(array.values, np.float32) for name, array in content.items()}


# --- choosing -----------------------------------------------------------------------------------------------


class ReleasedRow(NamedTuple):
    """A row of a released bank: its observation, and its number among the rows of this observation."""

    observation: str
    number: int


def all_rows(bank: Mapping[str, Sequence[Any] | np.ndarray]) -> list[ReleasedRow]:
    """All rows of a released bank, in their order."""
    return [ReleasedRow(name, number) for name, rows in bank.items() for number in range(len(rows))]


def recovered(
    regions: Mapping[str, Sequence[Any] | np.ndarray],
    reports: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
) -> tuple[list[ReleasedRow], list[ReleasedRow]]:
    """The rows that the released stage 2 takes of both banks.

    Of each class of the first with more than 500 rows it draws 500, and all of the others. Of the second it
    draws 6,000: of each observation its share, rounded down, and what is left of the most frequent.

    Args:
        regions: Content of `CAM.pkl`.
        reports: Content of `Report_Memory.pkl`; None leaves it out.

    Returns:
        The rows of the first, and of the second.

    Raises:
        RadScribeError: there are fewer reports than are drawn.
    """
    random = Random(SEED)
    of_regions = []
    for name, rows in regions.items():
        numbers = range(len(rows))
        drawn = random.sample(numbers, MOST_ROWS) if len(rows) > MOST_ROWS else numbers
        of_regions += [ReleasedRow(name, number) for number in drawn]
    if reports is None:
        return of_regions, []
    total = sum(map(len, reports.values()))
    # Shares as the released code rounds them: in fractions, and not in whole numbers.
    shares = {name: len(reports[name]) / total for name in RELEASED_ORDER}
    counts = {name: int(share * REPORT_ROWS) for name, share in shares.items()}
    counts[max(shares, key=lambda name: shares[name])] += max(REPORT_ROWS - sum(counts.values()), 0)
    of_reports = []
    for name, count in counts.items():
        if count > len(reports[name]):
            raise RadScribeError(
                f"the released stage 2 draws {REPORT_ROWS:,} reports, and there are {total:,}: {count:,} of "
                f"{name}, which has {len(reports[name]):,}",
                "Give the Report_Memory.pkl that the checkpoint was trained with, or leave out --recover",
            )
        drawn = random.sample(range(len(reports[name])), count)
        of_reports += [ReleasedRow(name, number) for number in drawn]
    return of_regions, of_reports
