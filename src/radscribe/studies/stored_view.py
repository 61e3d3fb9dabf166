"""A view in a prepared store, which is read from the store when it is called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.studies.store_files import remedy
from radscribe.studies.study import RenderedView


class MappedFile:
    """A read-only memory map that each process opens for itself when it first reads."""

    def __init__(self, path: Path):
        self.path = path
        self._bytes: np.ndarray | None = None

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.__init__(path)  # type: ignore[misc]

    def read(self, offset: int, length: int) -> np.ndarray:
        """A copy of `length` bytes from `offset` on, uint8 [length]."""
        if self._bytes is None:
            try:
                self._bytes = np.memmap(self.path, np.uint8, mode="r")
            except (OSError, ValueError) as error:
                raise RadScribeError(f"cannot read {self.path}: {error}") from error
        found = np.array(self._bytes[offset : offset + length])
        if len(found) < length:
            raise RadScribeError(f"{self.path} is cut short", remedy(self.path.parent))
        return found


@dataclass(frozen=True)
class StoredView:
    """Source of a view in a store: when it is called, it reads the view. It is cheap to pickle.

    Attributes:
        file: Original image file; its path is relative to the source if it lay in the source.
        original_size: Height and width in pixels before the view was resized.
        shape: Height and width in pixels in the store.
        sha256: Hash of the view's pixels and masks in the store.
        window: For a file deeper than 8 bits, the two values in it that became 0 and 255; else None.
        notes: What to know about the view, such as `burned-in text`.
        box_counts: Number of boxes of the source by what became of them; see `RenderedView`.
        reduced_jpeg: Whether its store was prepared with JPEG decoded at a reduced scale.
    """

    file: str
    original_size: tuple[int, int]
    shape: tuple[int, int]
    sha256: str
    window: tuple[float, float] | None
    notes: tuple[str, ...]
    box_counts: Mapping[str, int]
    reduced_jpeg: bool
    pixels_at: int
    masks_at: Mapping[str, int]
    _pixels: MappedFile = field(repr=False)
    _masks: MappedFile = field(repr=False)

    @property
    def store(self) -> Path:
        """The folder of the store that holds the view."""
        return self._pixels.path.parent

    def __call__(self) -> RenderedView:
        """Read a copy of this view, and nothing else, from the store."""
        height, width = self.shape
        pixels, masks = self._stored()
        return RenderedView(
            pixels.reshape(height, width),
            {
                observation: np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
                for observation, bits in masks.items()
            },
            self.window,
            self.notes,
            self.box_counts,
        )

    @property
    def whole(self) -> bool:
        """Whether the view's pixels and masks are those that were prepared."""
        pixels, masks = self._stored()
        stored = b"".join(part.tobytes() for part in (pixels, *masks.values()))
        return hashlib.sha256(stored).hexdigest() == self.sha256

    def _stored(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The view's pixels `[height * width]`, and the packed bits of each mask."""
        size = self.shape[0] * self.shape[1]
        masks = {name: self._masks.read(offset, -(-size // 8)) for name, offset in self.masks_at.items()}
        return self._pixels.read(self.pixels_at, size), masks
