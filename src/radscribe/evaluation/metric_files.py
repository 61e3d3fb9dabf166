"""The files of metrics that a model computes, each under a fixed name in one of two folders.

One folder holds models, which are the same for all drafts. The other holds what models said elsewhere of
these drafts and references, such as entities or replies. Nothing is ever downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from radscribe.errors import RadScribeError

Computed = TypeVar("Computed")


@dataclass(frozen=True)
class MetricFiles:
    """The two folders of one evaluation.

    Attributes:
        models: Folder of models; None if there is none.
        outputs: Folder of what models said of these drafts and references; None if there is none.
        progress: Show how far a model is.
    """

    models: Path | None = None
    outputs: Path | None = None
    progress: bool = field(default=False, compare=False)
    _computed: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for option, folder in (("--models", self.models), ("--outputs", self.outputs)):
            if folder is not None and not folder.is_dir():
                raise RadScribeError(
                    f"there is no folder '{folder}'",
                    f"Give a folder that exists by {option}, or leave it out",
                )

    def model(self, name: str) -> Path | None:
        """The file or folder of a model by its fixed name; None if it is not there."""
        return _within(self.models, name)

    def output(self, name: str) -> Path | None:
        """The file of a model's outputs by its fixed name; None if it is not there."""
        return _within(self.outputs, name)

    def once(self, name: str, compute: Callable[[], Computed]) -> Computed:
        """What `compute` returns, computed once for all metrics that ask for it under this name."""
        if name not in self._computed:
            self._computed[name] = compute()
        result: Computed = self._computed[name]
        return result


def _within(folder: Path | None, name: str) -> Path | None:
    path = folder / name if folder else None
    return path if path and path.exists() else None
