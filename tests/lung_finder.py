"""How often the PyPI package lungs-finder finds lungs, in images that the gate of DICOM files lets pass.

pip install lungs-finder 'opencv-python-headless<5' pydicom     # OpenCV 5 has no cascades
python tests/lung_finder.py FOLDER [FOLDER ...]

For each folder of images, whatever their format: how many there are, how many pass `gate_by_pixels`, and in
how many of those lungs are found: one lung by any of the package's three ways, or both lungs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import lungs_finder
import numpy as np

from radscribe.studies.dicom import COLOURS, grey, is_dicom, parse
from radscribe.studies.dicom_gate import gate_by_pixels
from radscribe.studies.image_error import ImageError
from radscribe.studies.images import read_file, to_short_side
from radscribe.studies.study import RenderedView

#: Short side in pixels of what the finder is shown.
SIDE = 256
#: The shortest side of an image that counts.
MINIMUM = 64
WAYS = ("hog", "haar", "lbp")


def views(folder: Path) -> Iterator[RenderedView]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            data = path.read_bytes()
            view = grey(parse(data, path), path) if is_dicom(data[:132]) else read_file(path)
        except ImageError:
            continue
        if min(view.pixels.shape) >= MINIMUM:
            yield view


def found(pixels: np.ndarray) -> tuple[bool, bool]:
    """Whether any lung is found, and whether both are."""
    sides = [
        [getattr(lungs_finder, f"find_{side}_lung_{way}")(pixels) is not None for way in WAYS]
        for side in ("right", "left")
    ]
    return any(map(any, sides)), all(map(any, sides))


if __name__ == "__main__":
    width = max(map(len, sys.argv[1:]))
    print(f"{'':{width}}  images  pass the gate  a lung   both")
    for name in sys.argv[1:]:
        shown = list(views(Path(name)))
        # A photograph in grey is what the gate cannot tell.
        passed = [view for view in shown if not gate_by_pixels(view.pixels, COLOURS in view.notes)]
        rows = np.array([found(to_short_side(view.pixels, SIDE)) for view in passed]).reshape(-1, 2)
        shares = "  ".join(f"{share:6.1%}" for share in rows.mean(axis=0)) if len(rows) else "     -       -"
        print(f"{name:{width}}  {len(shown):6}  {len(passed):13}  {shares}")
