"""Images that a run on the phantom did not learn from, and some that are like those, for `radscribe unlike`.

python tests/other_images.py FOLDER    # writes noise/, photographs/ and frontal/ into FOLDER

noise/        grey noise
photographs/  squares cut from the sample photographs of scikit-learn (a temple, a flower) and Matplotlib (a
              portrait)
frontal/      frontal views of phantom studies of another seed, without their lateral views
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import sklearn
from PIL import Image

from radscribe.studies.phantom.reader import read_phantom

COUNT = 60
SIDE = 300
#: Seed of the phantom studies, which is not that of `radscribe prepare phantom`.
SEED = 1


def noise() -> Iterator[Image.Image]:
    for number in range(COUNT):
        yield Image.fromarray(np.random.default_rng(number).integers(0, 256, (SIDE, SIDE), np.uint8))


def photographs() -> Iterator[Image.Image]:
    """Squares of half the short side, at places that are spread evenly over each photograph."""
    samples = Path(sklearn.__file__).parent / "datasets/images"
    files = [
        samples / "china.jpg",
        samples / "flower.jpg",
        Path(matplotlib.__file__).parent / "mpl-data/sample_data/grace_hopper.jpg",
    ]
    for file in files:
        with Image.open(file) as photograph:
            side = min(photograph.size) // 2
            wide, high = (length - side for length in photograph.size)
            for left in np.linspace(0, wide, 5).astype(int).tolist():
                for top in np.linspace(0, high, COUNT // len(files) // 5).astype(int).tolist():
                    yield photograph.crop((left, top, left + side, top + side))


def frontal() -> Iterator[Image.Image]:
    for study in read_phantom(studies=COUNT, seed=SEED):
        (view,) = (view for view in study.views if view.projection == "frontal")
        yield Image.fromarray(view.source().pixels)


if __name__ == "__main__":
    for images in (noise, photographs, frontal):
        folder = Path(sys.argv[1]) / images.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images()):
            image.save(folder / f"{number}.png")
