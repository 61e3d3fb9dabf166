"""The one path by which pixels enter: a file or a rendered view becomes 8-bit grey of a fixed short side.

Preparing a store and generating from a single file both come through `read_view`, so a study has the
same pixels in training and in use.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from radscribe.errors import RadScribeError
from radscribe.studies.study import RenderedView, View

#: Largest radiographs have some 30 million pixels; more is a decompression bomb or a scan of a wall.
MAX_PIXELS = 100_000_000
#: A strip longer than this many times its width is no radiograph, and would grow without bound when resized.
MAX_ASPECT = 16
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


class ImageError(RadScribeError):
    """An image that cannot be used.

    Attributes:
        reason: the cause in a few words, as `rejected.csv` lists it.
    """

    def __init__(self, message: str, hint: str = "", *, reason: str = ""):
        super().__init__(message, hint)
        self.reason = reason or message


def _unreadable(name: object, reason: str, hint: str = "") -> ImageError:
    return ImageError(f"cannot read {name}: {reason}", hint, reason=reason)


def read_image(path: Path | str) -> np.ndarray:
    """Decode an image file to grey.

    - Deeper than 8 bits (16-bit PNG; 32-bit integer or float TIFF): the range from the smallest to the
      largest value becomes 0..255. Files of this kind hold 10, 12, 14 or 16 bits and do not say which;
      a fixed division by 256 would leave a 12-bit radiograph nearly black.
    - Transparent pixels are composited on black, as air outside the film is.
    - CMYK JPEGs store inverted ink where an Adobe marker stands, and plain ink where none does.
    - The EXIF orientation is applied. Of several frames, the first is taken.

    Returns:
        uint8 [height, width].

    Raises:
        ImageError: the file is missing, empty, truncated, of an unknown or unsafe format, damaged, or
            larger than `MAX_PIXELS`; it names the file and the reason.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise _unreadable(path, "missing") from None
    except OSError as error:
        raise _unreadable(path, f"not readable: {error.strerror}") from error
    if not data:
        raise _unreadable(path, "empty file")
    if data[128:132] == b"DICM":
        raise _unreadable(path, "DICOM is not read yet", "Convert it to PNG first")
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if image.format == "EPS":  # Pillow would run Ghostscript on it
            raise UnidentifiedImageError
        if image.format == "JPEG" and not _has_end_marker(data):
            raise OSError("truncated")
        return _grey(image)
    except Image.DecompressionBombError:
        raise _unreadable(path, "too large", f"The limit is {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise _unreadable(path, "not an image", "PNG and JPEG are read") from None
    except Exception as error:  # a decoder may raise anything on damaged bytes
        reason = "truncated" if "truncated" in str(error).lower() else f"damaged: {error}"
        raise _unreadable(path, reason, "Fetch the file again") from error


def _has_end_marker(data: bytes) -> bool:
    """Whether a JPEG's last scan is closed.

    The decoder fills a cut scan with grey and reports nothing if bytes follow it, as in a download
    whose space was allocated beforehand. FF D9 cannot occur within a scan, where FF is escaped.
    """
    return data.find(b"\xff\xd9", data.rfind(b"\xff\xda")) >= 0


def _grey(image: Image.Image) -> np.ndarray:
    image.load()
    # Pillow takes every CMYK JPEG for inverted.
    plain_ink = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _windowed(np.asarray(image))
    if plain_ink:
        image = Image.fromarray(255 - np.asarray(image), "CMYK")
    if image.has_transparency_data:
        visible = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", visible.size, (0, 0, 0, 255)), visible)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return np.array(image.convert("L"))


def _windowed(values: np.ndarray) -> np.ndarray:
    """Stretch [height, width] of any depth linearly to 0..255; a constant picture is black."""
    values = values.astype(np.float32 if values.itemsize <= 2 else np.float64)
    if not np.isfinite(values).all():
        raise ValueError("holds values that are not finite")
    low, high = values.min(), values.max()
    return np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def original_view(view: View) -> RenderedView:
    """The view at its own size: its file decoded, or its function called.

    Raises:
        ImageError: see `read_image`; also if a function gives anything but uint8 [height, width] with
            masks of the same shape.
    """
    if isinstance(view.source, Path):
        return RenderedView(read_image(view.source))
    rendered = view.source()
    shape = rendered.pixels.shape
    if rendered.pixels.dtype != np.uint8 or len(shape) != 2 or 0 in shape:
        raise _unreadable(view.name, f"not 8-bit grey: {rendered.pixels.dtype} {list(shape)}")
    for observation, mask in rendered.masks.items():
        if mask.shape != shape:
            raise _unreadable(view.name, f"mask of another shape: '{observation}' {list(mask.shape)}")
    return rendered


def resize_view(view: RenderedView, short_side: int, name: str = "the view") -> RenderedView:
    """The view with its short side exactly `short_side` pixels and its aspect kept.

    Pixels are resized with an antialiased bilinear filter and the long side is rounded down, as
    torchvision's `Resize` does with a picture, which the published systems use. Masks take the nearest
    value. A view that has the size already is returned as it is. `name` is for messages only.

    Raises:
        ImageError: one side is more than `MAX_ASPECT` times the other.
    """
    height, width = view.pixels.shape
    short, long = sorted((height, width))
    if short == short_side:
        return view
    if long > MAX_ASPECT * short:
        raise _unreadable(name, f"no radiograph: a strip of {width} x {height} pixels")
    long_side = short_side * long // short
    size = (short_side, long_side) if width == short else (long_side, short_side)

    def resized(values: np.ndarray, filter_: Image.Resampling) -> np.ndarray:
        return np.array(Image.fromarray(values).resize(size, filter_))

    return RenderedView(
        resized(view.pixels, Image.Resampling.BILINEAR),
        {
            observation: resized(mask.astype(np.uint8), Image.Resampling.NEAREST).astype(bool)
            for observation, mask in view.masks.items()
        },
    )


def read_view(view: View, short_side: int = 256) -> RenderedView:
    """Read a view of any source: decoded or rendered, grey, with its short side `short_side` pixels.

    Returns:
        pixels uint8 [height, width] with min(height, width) == short_side, and masks of that shape.

    Raises:
        ImageError: the view cannot be used; see `read_image`, `original_view` and `resize_view`.
    """
    return resize_view(original_view(view), short_side, view.name)
