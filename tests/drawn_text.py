"""How often a drawn name and date are noted as burned-in text on radiographs, by the size of the text.

python tests/drawn_text.py FOLDER     # of images, such as the PNG files of IU X-Ray

Images that have such text already are left out. The text stands in a corner, in white.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from radscribe.studies.burned_in_text import may_identify, read_text
from radscribe.studies.images import IMAGE_SUFFIXES, read_image

TEXT = "DOE^JOHN 1961-02-03"
#: The height of the text, as a share of the short side of the image.
HEIGHTS = (1 / 20, 1 / 40, 1 / 60, 1 / 80)


def drawn(pixels: np.ndarray, height: float) -> np.ndarray:
    image = Image.fromarray(pixels)
    size = max(round(min(image.size) * height), 1)
    ImageDraw.Draw(image).text((size, size), TEXT, fill=255, font=ImageFont.load_default(size))
    return np.asarray(image)


def main(folder: Path) -> None:
    images = [read_image(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    without = [pixels for pixels in images if not may_identify(read_text(pixels))]
    print(f"{len(images)} images, of which {len(images) - len(without)} are noted as they are")
    for height in HEIGHTS:
        found = sum(may_identify(read_text(drawn(pixels, height))) for pixels in without)
        print(f"text of 1/{round(1 / height)} of the short side: noted on {found} of {len(without)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
