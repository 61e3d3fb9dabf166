"""Reading images: every file and every rendered view becomes 8-bit grey with a fixed short side.

Preparing a store and drafting from a single file both use `read_view`, so a study has the same pixels in
training and in use. `to_short_side` is the only function that resizes and keeps the aspect ratio.
"""

from __future__ import annotations

import dataclasses
import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base as Tag

from radscribe.studies.dicom import HEAD, is_dicom, is_encrypted, projection_of_file, read_dicom
from radscribe.studies.image_error import MAX_BYTES, MAX_PIXELS, unreadable
from radscribe.studies.study import Projection, RenderedView, View
from radscribe.studies.windowing import windowed

#: Largest ratio of the long side to the short side. A longer strip is no radiograph, and would grow without
#: bound when it is resized.
MAX_ASPECT = 16
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
#: Short side in pixels of the views of a prepared store, unless the user asks for another.
STORE_SHORT_SIDE = 256
#: A reduced JPEG is decoded with a short side of at least this many times the wanted one. Then its pixels
#: differ less from those of the whole picture than with another filter; see docs/data.md for the figures.
_REDUCED_TO = 2
_TIFF_PHOTOMETRIC = 262
#: EXIF orientations in which height and width are exchanged.
_ON_ITS_SIDE = (5, 6, 7, 8)
_NO_FILE = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_image(path: Path | str) -> np.ndarray:
    """Decode an image file to grey; see `read_file`.

    Returns:
        uint8 [height, width].

    Raises:
        ImageError: see `read_file`.
    """
    return read_file(path).pixels


def read_file(path: Path | str, *, reduced_to: int | None = None) -> RenderedView:
    """Decode an image file to grey.

    - In a file deeper than 8 bits (16-bit PNG; 16-bit, 32-bit integer or float TIFF), the values from the
      percentile 0.1 to the percentile 99.9 become 0..255, and values outside are clipped. Files of this kind
      hold 10, 12, 14 or 16 bits and do not say how many. A fixed division by 256 would leave a 12-bit
      radiograph nearly black; if the whole range were used, one hot pixel would do so.
    - Transparent pixels are composited on black, as air outside the film is.
    - A CMYK JPEG with an Adobe marker stores inverted ink; one without the marker stores plain ink.
    - The EXIF orientation is applied. If a file has several frames, the first is taken.
    - DICOM is read as `dicom` says. Like every format, it is recognised by its content, not by its name.

    Args:
        path: The file.
        reduced_to: Decode a JPEG at half, a quarter or an eighth of its size and then resize it to this short
            side in pixels, if it is so large that its short side is still twice this after the decoding. That
            takes about half the time and gives slightly other pixels. Any other picture is not touched.

    Returns:
        pixels uint8 [height, width] without masks, the window of a picture deeper than 8 bits, notes, and the
        original size of a JPEG that was reduced.

    Raises:
        ImageError: the file is missing, no regular file, empty, truncated, of an unknown or unsafe format,
            damaged, larger than `MAX_PIXELS` or `MAX_BYTES`, holds values that are not finite, or is in DICOM
            and no chest radiograph; the error names the file and the reason.
    """
    return read_content(bytes_of(Path(path)), path, reduced_to=reduced_to)


def read_content(
    data: bytes, path: Path | str, *, chest_only: bool = True, reduced_to: int | None = None
) -> RenderedView:
    """Decode the content of an image file to grey; see `read_file`.

    Args:
        data: Content of the file.
        path: Name of the file in messages.
        chest_only: Refuse DICOM that is no radiograph of the chest.
        reduced_to: Short side in pixels of a JPEG that is decoded at a reduced scale; see `read_file`.
    """
    if not data:
        raise unreadable(path, "empty file")
    if is_dicom(data[:HEAD]):
        return read_dicom(data, path, chest_only=chest_only)
    if is_encrypted(data[:HEAD]):
        raise unreadable(path, "encrypted", "Decrypt it first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken tags and size; the size is checked here
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if image.format == "EPS":  # Pillow would run Ghostscript on it
                raise UnidentifiedImageError
            if image.format == "JPEG" and not _has_end_marker(data):
                raise OSError("truncated")
            reduced = _reduced(image, reduced_to) if reduced_to else None
            return reduced or _grey(image)
    except Image.DecompressionBombError:
        raise unreadable(path, "too large", f"The limit is {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise unreadable(path, "not an image", "PNG, JPEG, TIFF, BMP, WebP and DICOM are read") from None
    except Exception as error:  # a decoder may raise anything on damaged bytes
        reason = "truncated" if "truncated" in str(error).lower() else f"damaged: {error}"
        raise unreadable(path, reason, "Fetch the file again") from error


def bytes_of(path: Path, name: object = None) -> bytes:
    """The content of a regular file. Nothing else is opened, because opening a named pipe waits for ever.

    Args:
        path: Path of the file.
        name: Name of the file in messages, if it is not its path.

    Raises:
        ImageError: the file is missing, no regular file, larger than `MAX_BYTES`, or cannot be read.
    """
    name = path if name is None else name
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = _NO_FILE.get(stat.S_IFMT(status.st_mode), "no regular file")
            raise unreadable(name, f"not readable: {kind}, not a file")
        if status.st_size > MAX_BYTES:
            raise unreadable(name, "too large", f"The limit is {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise unreadable(name, "missing") from None
    except OSError as error:
        raise unreadable(name, f"not readable: {error.strerror}") from error
    except ValueError:
        shown = str(name).replace("\0", "\\0")
        raise unreadable(shown, "not readable: its name holds a NUL character") from None


def _has_end_marker(data: bytes) -> bool:
    """Whether the last scan of a JPEG is closed by an end marker.

    The decoder fills a cut scan with grey. It reports nothing if bytes follow the scan, as in a download
    whose space was allocated beforehand. FF D9 cannot occur within a scan, where FF is escaped.
    """
    return data.find(b"\xff\xd9", data.rfind(b"\xff\xda")) >= 0


def read_picture(picture: Image.Image | np.ndarray, name: str = "the picture") -> RenderedView:
    """A picture in memory as grey, by the same rules as a file; see `read_file`.

    Args:
        picture: A PIL image, or an array `[height, width]`, `[height, width, 3]` or `[height, width, 4]`. An
            array of another type than uint8 is taken as grey deeper than 8 bits.
        name: Name of the picture in messages.

    Returns:
        pixels uint8 [height, width] without masks, and the window of a picture deeper than 8 bits.

    Raises:
        ImageError: the array has another shape or holds no finite numbers, or the picture is too large.
    """
    if isinstance(picture, np.ndarray):
        colours = picture.ndim == 3 and picture.shape[2] in (3, 4) and picture.dtype == np.uint8
        if not (picture.ndim == 2 or colours) or 0 in picture.shape or picture.dtype.kind not in "uif":
            raise unreadable(
                name,
                f"an array of {picture.dtype} {list(picture.shape)} is no picture",
                "Give numbers [height, width], or uint8 [height, width, 3]",
            )
        height, width = picture.shape[:2]
    else:
        width, height = picture.size
    if width * height > MAX_PIXELS:
        raise unreadable(name, "too large", f"The limit is {MAX_PIXELS:,} pixels")
    try:
        if not isinstance(picture, np.ndarray):
            return _grey(picture)
        if picture.dtype == np.uint8:
            return _grey(Image.fromarray(picture))
        pixels, window = windowed(picture)
        return RenderedView(pixels, window=window)
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise unreadable(name, f"damaged: {error}") from error


def _grey(
    image: Image.Image,
    size: tuple[int, int] | None = None,
    box: tuple[float, float, float, float] | None = None,
) -> RenderedView:
    """A picture as grey; what lies in `box` is resized to `size`, width and height, if that is given."""
    image.load()
    # Pillow assumes that the ink of every CMYK JPEG is inverted.
    plain_ink = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    # Pillow inverts a TIFF in which white is zero if it has 8 bits, and leaves it inverted if it has more.
    white_is_zero = image.format == "TIFF" and image.getexif().get(_TIFF_PHOTOMETRIC) == 0
    if size:
        image = image.resize(size, Image.Resampling.BILINEAR, box)
    if image.getexif().get(Tag.Orientation):  # without one, a whole picture would be copied
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        pixels, window = windowed(np.asarray(image))
        return RenderedView(255 - pixels if white_is_zero else pixels, window=window)
    if plain_ink:
        image = Image.fromarray(255 - np.asarray(image), "CMYK")
    if image.has_transparency_data:
        visible = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", visible.size, (0, 0, 0, 255)), visible)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return RenderedView(np.array(image if image.mode == "L" else image.convert("L")))


def _reduced(image: Image.Image, short_side: int) -> RenderedView | None:
    """A JPEG with this short side, decoded at a reduced scale; None if it has to be decoded as a whole."""
    width, height = image.size
    short, long = sorted(image.size)
    least = _REDUCED_TO * short_side
    if image.format != "JPEG" or short < 2 * least or long > MAX_ASPECT * short:
        return None
    drafted = image.draft(None, (least, least))
    if drafted is None:
        return None
    # The last reduced pixels reach over the edge of the picture, which the box leaves out.
    view = _grey(image, _size_with(short_side, width, height), drafted[1])
    if image.getexif().get(Tag.Orientation) in _ON_ITS_SIDE:
        width, height = height, width
    return dataclasses.replace(view, original_size=(height, width))


def view_of(path: Path, projection: Projection = "unknown") -> View:
    """The view in a file. Unless the projection is known, it is that of the tags, if the file is in DICOM."""
    if projection == "unknown" and path.suffix.lower() not in IMAGE_SUFFIXES:
        projection = projection_of_file(path)
    return View(path, projection)


def original_view(view: View, reduced_to: int | None = None) -> RenderedView:
    """The view at its own size, decoded from its file or rendered by its function.

    Args:
        view: The view.
        reduced_to: Short side in pixels of a JPEG that is decoded at a reduced scale; see `read_file`.

    Raises:
        ImageError: see `read_file`; also if a function gives anything but uint8 [height, width] with
            masks of the same shape.
    """
    if isinstance(view.source, Path):
        return read_file(view.source, reduced_to=reduced_to)
    # A function that decodes a file may be able to do so at a reduced scale.
    reduced = getattr(view.source, "reduced", None) if reduced_to else None
    rendered = reduced(reduced_to) if reduced else view.source()
    shape = rendered.pixels.shape
    if rendered.pixels.dtype != np.uint8 or len(shape) != 2 or 0 in shape:
        raise unreadable(view.name, f"not 8-bit grey: {rendered.pixels.dtype} {list(shape)}")
    for observation, mask in rendered.masks.items():
        if mask.shape != shape:
            raise unreadable(view.name, f"mask of another shape: '{observation}' {list(mask.shape)}")
    return rendered


def to_short_side(
    values: np.ndarray, short_side: int, filter_: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    """Resize values [height, width] so that their short side is `short_side` pixels; the aspect ratio is
    kept.

    The filter is antialiased and the long side is rounded down, as in torchvision's `Resize` of a picture,
    which the published systems use. Values that have this size already are returned as they are.
    """
    height, width = values.shape
    if min(height, width) == short_side:
        return values
    size = _size_with(short_side, width, height)
    return np.array(Image.fromarray(values).resize(size, filter_))


def _size_with(short_side: int, width: int, height: int) -> tuple[int, int]:
    """Width and height of a picture that is resized to this short side; see `to_short_side`."""
    short, long = sorted((width, height))
    long_side = short_side * long // short
    return (short_side, long_side) if width == short else (long_side, short_side)


def resize_view(view: RenderedView, short_side: int, name: str = "the view") -> RenderedView:
    """Resize a view so that its short side is exactly `short_side` pixels; see `to_short_side`.

    Pixels are resized with a bilinear filter, masks with the nearest value. A view that has the size already
    is returned as it is. `name` is for messages only.

    Raises:
        ImageError: one side is more than `MAX_ASPECT` times the other.
    """
    height, width = view.pixels.shape
    short, long = sorted((height, width))
    if short == short_side:
        return view
    if long > MAX_ASPECT * short:
        raise unreadable(name, f"no radiograph: a strip of {width} x {height} pixels")
    return dataclasses.replace(
        view,
        pixels=to_short_side(view.pixels, short_side),
        masks={
            observation: to_short_side(mask.astype(np.uint8), short_side, Image.Resampling.NEAREST).astype(
                bool
            )
            for observation, mask in view.masks.items()
        },
    )


def read_view(view: View, short_side: int = STORE_SHORT_SIDE, *, reduced_jpeg: bool = False) -> RenderedView:
    """Read a view from a file or a function as 8-bit grey with a short side of `short_side` pixels.

    Args:
        view: The view.
        short_side: Short side in pixels.
        reduced_jpeg: Decode a large JPEG at a reduced scale; see `read_file`.

    Returns:
        pixels uint8 [height, width] with min(height, width) == short_side, and masks of that shape.

    Raises:
        ImageError: the view cannot be used; see `read_file`, `original_view` and `resize_view`.
    """
    original = original_view(view, short_side if reduced_jpeg else None)
    return resize_view(original, short_side, view.name)
