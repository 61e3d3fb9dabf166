"""How far a command is: a bar on a terminal, and otherwise a line every ten seconds, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
#: Between two lines where there is no terminal.
SECONDS = 10.0


class Progress:
    """Shows how many steps of some work are done; a context manager.

    Args:
        total: number of steps.
        name: what is done, in one or two words.
        unit: what a step is, in the plural, such as `studies`.
        show: without it nothing is shown.
    """

    def __init__(self, total: int, name: str, unit: str, *, show: bool = True):
        self.total = total
        self.name = name
        self.unit = unit
        self.done = 0
        self.note = ""
        self._bar = (
            tqdm(total=total, desc=name, unit=f" {unit}", file=sys.stderr, leave=False, dynamic_ncols=True)
            if show and sys.stderr.isatty()
            else None
        )
        self._lines = show and self._bar is None
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._lines and (self.done or kind is None):
            self._print()

    def update(self, steps: int = 1, note: str | None = None) -> None:
        """Count some steps as done.

        Args:
            steps: how many.
            note: how the work is going, such as its loss; the last note stays unless another is given.
        """
        self.done += steps
        if note is not None:
            self.note = note
        if self._bar is not None:
            if note is not None:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(steps)
        elif self._lines and time.monotonic() - self._shown >= SECONDS:
            self._print()

    def _print(self) -> None:
        self._shown = time.monotonic()
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
