"""Progress of a command on standard error: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
#: Seconds between two lines if there is no terminal.
SECONDS = 10.0


class Progress:
    """Shows how many steps of some work are done; a context manager.

    Args:
        total: Number of steps.
        name: What is done, in one or two words.
        unit: What a step is, in the plural, such as `studies`.
        done: Number of steps that were done earlier.
        show: Whether to show progress.

    Attributes:
        note: Text on how the work is going, such as its loss; set it when `due` is true.
    """

    def __init__(self, total: int, name: str, unit: str, *, done: int = 0, show: bool = True):
        self.total = total
        self.name = name
        self.unit = unit
        self.done = done
        self.note = ""
        self._bar = (
            tqdm(total=total, initial=done, desc=name, unit=f" {unit}", file=sys.stderr, leave=False)
            if show and sys.stderr.isatty()
            else None
        )
        self._lines = show and self._bar is None
        self._printed = -1
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Show the last state: the work is done, or it was stopped."""
        if self._bar is not None:
            self._bar.close()
        elif self._lines and self._printed != self.done:
            self._print()

    @property
    def due(self) -> bool:
        """Whether it is time to show something; a note that is costly to make should be made only then."""
        interval = SECONDS if self._bar is None else self._bar.mininterval
        return (self._lines or self._bar is not None) and time.monotonic() - self._shown >= interval

    def update(self, steps: int = 1) -> None:
        """Count some steps as done."""
        self.done += steps
        due = self.due
        if self._bar is not None:
            if due:
                self._shown = time.monotonic()
                self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(steps)
        elif due:
            self._print()

    def _print(self) -> None:
        self._shown, self._printed = time.monotonic(), self.done
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        note = f", {self.note}" if self.note else ""
        seconds = self._shown - self._began
        line = f"{self.name}: {self.done:,} of {self.total:,} {self.unit}{share}{note}, {seconds:,.0f} s"
        print(line, file=sys.stderr, flush=True)


def track(items: Iterable[Item], total: int, name: str, unit: str, *, show: bool = True) -> Iterator[Item]:
    """Give the items one by one and show how many are done; the arguments are those of `Progress`."""
    with Progress(total, name, unit, show=show) as progress:
        for item in items:
            yield item
            progress.update()
