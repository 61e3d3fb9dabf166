"""Ranges of numbers; the error for a number out of range names the number, its value and its range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from radscribe.errors import RadScribeError


class Range(NamedTuple):
    """The numbers from `low` to `high`.

    Attributes:
        low: Smallest number of the range.
        high: Largest number of the range; without it, every finite number from `low` on is in the range.
        above: Whether `low` itself is outside the range.
    """

    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        return value <= self.high and (value > self.low if self.above else value >= self.low)

    def __str__(self) -> str:
        lowest = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return lowest if self.high == math.inf else f"{lowest} and at most {self.high:,.10g}"


#: Count of things that are processed one by one.
COUNT = Range(1, 1_000_000)
#: Count of things that may also be 0.
COUNT_OR_NONE = Range(0, 1_000_000)
#: Number of studies, views or texts that are in memory at the same time.
BATCH = Range(1, 65_536)
#: Sizes of networks, such as the width of a layer or the number of heads. A size in this range may still need
#: too much memory.
WIDTH = Range(1, 65_536)
LAYERS = Range(1, 256)
#: Number of tokens of a text.
LENGTH = Range(2, 8192)
#: Side of an image, in pixels.
PIXELS = Range(8, 8192)
#: Share of values that dropout sets to 0 at random.
DROPOUT = Range(0, 0.999)
SHARE = Range(0, 1)
WEIGHT = Range(0)
LEARNING_RATE = Range(0, above=True)
THREADS = Range(0, 4096)
WORKERS = Range(0, 1024)
SEED = Range(0, 2**32 - 1)


def _out_of_range(name: str, value: Any, within: Range) -> str:
    return f"{name} must be {within}, not {value}"


def check_fields(config: Any, prefix: str, **ranges: Range) -> None:
    """Check fields of a configuration.

    Args:
        config: Configuration to check.
        prefix: Text before each field's name in its dotted name, such as `training.`.
        **ranges: Range of each field, by the field's name.

    Raises:
        ValueError: names the first field that is out of its range.
    """
    for name, within in ranges.items():
        if getattr(config, name) not in within:
            raise ValueError(_out_of_range(prefix + name, getattr(config, name), within))


def check_options(options: Mapping[str, tuple[Any, Range]]) -> None:
    """Check options of a command.

    Args:
        options: Value and range of each option, by the option's name, such as `--batch`.

    Raises:
        RadScribeError: names the first option that is out of its range.
    """
    for name, (value, within) in options.items():
        if value not in within:
            raise RadScribeError(_out_of_range(name, value, within))


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Check that a field of a configuration has one of the values that it may have.

    Raises:
        ValueError: names the field, its value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, not '{value}'")


def check_divisible(name: str, value: int, divisor_name: str, divisor: int) -> None:
    """Check that one field is a multiple of another.

    Raises:
        ValueError: names both fields and their values.
    """
    if value % divisor:
        raise ValueError(f"{name} {value} must be divisible by {divisor_name} {divisor}")
