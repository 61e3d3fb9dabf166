"""A view that stands in a prepared store, read from it when it is called."""

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
        """A copy of uint8 [length] from `offset` on."""
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
    """A view's `source`: called, it reads the view from the store. Cheap to pickle.

    Attributes:
        file: the original image file, relative to the source where it lay in it.
        original_size: height and width in pixels before it was resized.
        shape: height and width in the store.
        sha256: of its pixels and masks as they stand in the store.
        window: of a file deeper than 8 bits, the two values in it that became the ends of 0..255; else None.
    """

    file: str
    original_size: tuple[int, int]
    shape: tuple[int, int]
    sha256: str
    window: tuple[float, float] | None
    pixels_at: int
    masks_at: Mapping[str, int]
    _pixels: MappedFile = field(repr=False)
    _masks: MappedFile = field(repr=False)

    @property
    def store(self) -> Path:
        """The folder of the store that the view stands in."""
        return self._pixels.path.parent

    def __call__(self) -> RenderedView:
        """Copy this view, and no more, out of the store."""
        height, width = self.shape
        pixels, masks = self._stored()
        return RenderedView(
            pixels.reshape(height, width),
            {
                observation: np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
                for observation, bits in masks.items()
            },
            self.window,
        )

    @property
    def whole(self) -> bool:
        """Whether its pixels and masks are those that were prepared."""
        pixels, masks = self._stored()
        stored = b"".join(part.tobytes() for part in (pixels, *masks.values()))
        return hashlib.sha256(stored).hexdigest() == self.sha256

    def _stored(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Its pixels `[height * width]`, and the packed bits of each mask."""
        size = self.shape[0] * self.shape[1]
        masks = {name: self._masks.read(offset, -(-size // 8)) for name, offset in self.masks_at.items()}
        return self._pixels.read(self.pixels_at, size), masks
