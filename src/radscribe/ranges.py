"""Ranges of numbers: what is out of range is one line that names the number, its value and its range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from radscribe.errors import RadScribeError


class Range(NamedTuple):
    """The numbers from `low` to `high`.

    Attributes:
        low: the smallest number.
        high: the largest number; without it every finite number from `low` on is in the range.
        above: `low` itself is not in the range.
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


#: How many of something that the work goes through one by one.
COUNT = Range(1, 1_000_000)
#: How many of something that may be left out.
COUNT_OR_NONE = Range(0, 1_000_000)
#: Studies, views or texts that are in memory at the same time.
BATCH = Range(1, 65_536)
#: Width of a layer, heads and other sizes of networks. What is within them may still need too much memory.
WIDTH = Range(1, 65_536)
LAYERS = Range(1, 256)
#: Tokens of a text.
LENGTH = Range(2, 8192)
#: Side of an image, in pixels.
PIXELS = Range(8, 8192)
#: A share that is left out at random.
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
        config: the configuration.
        prefix: what stands before each field's name in its dotted name, such as `training.`.
        **ranges: the range of each field.

    Raises:
        ValueError: names the first field that is out of its range.
    """
    for name, within in ranges.items():
        if getattr(config, name) not in within:
            raise ValueError(_out_of_range(prefix + name, getattr(config, name), within))


def check_options(options: Mapping[str, tuple[Any, Range]]) -> None:
    """Check options of a command.

    Args:
        options: the value of each option and its range, by the option's name, such as `--batch`.

    Raises:
        RadScribeError: names the first option that is out of its range.
    """
    for name, (value, within) in options.items():
        if value not in within:
            raise RadScribeError(_out_of_range(name, value, within))


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Check that a configuration's field has one of its values.

    Raises:
        ValueError: names field, value and choices.
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
