"""Every pixel format and every kind of broken file, through the one path by which pixels enter."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import socket
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.studies import images
from radscribe.studies.image_error import ImageError
from radscribe.studies.images import (
    IMAGE_SUFFIXES,
    read_file,
    read_image,
    read_view,
    resize_view,
    to_short_side,
)
from radscribe.studies.study import RenderedView, View

RAMP = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8) * 2  # [40, 60], 0..196


def saved(folder: Path, image: Image.Image, name: str = "image.png", **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def noise(height: int = 120, width: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width), np.uint8))


def test_grey_png_is_read_exactly(tmp_path):
    pixels = read_image(saved(tmp_path, Image.fromarray(RAMP)))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RAMP)


@pytest.mark.parametrize("mode", ["RGB", "P", "LA", "RGBA"])
def test_grey_picture_in_other_modes_keeps_its_values(tmp_path, mode):
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(RAMP).convert(mode))), RAMP)


def test_colour_is_weighed_as_luma(tmp_path):
    image = Image.new("RGB", (4, 4), (200, 100, 50))
    assert read_image(saved(tmp_path, image))[0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def test_one_bit(tmp_path):
    mask = RAMP > 100
    pixels = read_image(saved(tmp_path, Image.fromarray(mask)))
    np.testing.assert_array_equal(pixels, mask * np.uint8(255))


def test_transparency_is_composited_on_black(tmp_path):
    alpha = np.full_like(RAMP, 255)
    alpha[:, :30] = 0
    image = Image.fromarray(np.stack([RAMP, alpha], -1), "LA")
    pixels = read_image(saved(tmp_path, image))
    assert (pixels[:, :30] == 0).all()
    np.testing.assert_array_equal(pixels[:, 30:], RAMP[:, 30:])


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 10, 10, 240, 240, 240])
    image.paste(0, (0, 0, 4, 8))
    pixels = read_image(saved(tmp_path, image, transparency=1))
    assert (pixels[:, :4] == 10).all()
    assert (pixels[:, 4:] == 0).all()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("a.png", "<u2"), ("a.tiff", "<u2"), ("a.tiff", ">u2"), ("a.tiff", "<i4"), ("a.tiff", "<f4")],
)
def test_deep_pictures_are_windowed_to_their_own_range(tmp_path, name, dtype):
    deep = RAMP.astype(dtype) * 20 + 1000  # 12 bits used, as in a raw radiograph
    view = read_file(saved(tmp_path, Image.fromarray(deep), name))
    low, high = view.window
    assert low == np.percentile(deep, 0.1, method="higher")
    assert high == np.percentile(deep, 99.9, method="lower")
    expected = (deep.astype(float).clip(low, high) - low) * 255 / (high - low)
    np.testing.assert_allclose(view.pixels, expected, atol=0.51)


#: Height and width of pictures from a few pixels to as many as a small radiograph has.
SIZES = st.tuples(st.integers(2, 60), st.integers(2, 60))


@settings(max_examples=60, deadline=None)
@given(SIZES, st.sampled_from([4096, 60_000, 65_535]), st.sampled_from([0, 1]), st.randoms())
def test_one_hot_or_dead_pixel_leaves_a_gradient_its_contrast(size, hot, dead, random):
    """12 bits from 500 to 2500: what is not among the thousandth at the ends keeps its order and spacing."""
    gradient = np.linspace(500, 2500, size[0] * size[1]).reshape(size).round().astype("<u2")
    spoilt = gradient.copy()
    spoilt.flat[random.randrange(spoilt.size)] = (0, hot)[not dead]
    view = windowed(spoilt)
    assert 500 <= view.window[0] < view.window[1] <= 2500 or spoilt.size < 6
    if spoilt.size >= 100:
        low, high = view.window
        assert high - low > 0.97 * 2000
        untouched = spoilt == gradient
        expected = (gradient.astype(float).clip(low, high) - low) * 255 / (high - low)
        np.testing.assert_allclose(view.pixels[untouched], expected[untouched], atol=0.51)


def windowed(values: np.ndarray) -> RenderedView:
    """A deep picture by way of a file."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    with tempfile.NamedTemporaryFile(suffix=".tiff") as file:
        file.write(buffer.getvalue())
        file.flush()
        return read_file(file.name)


@pytest.mark.parametrize(
    ("values", "window", "ends"),
    [
        (np.full((9, 9), 4000, "<u2"), (4000, 4000), (0, 0)),  # constant
        (np.full((1, 1), -7, "<i4"), (-7, -7), (0, 0)),  # one pixel
        (np.pad([[9]], 20, constant_values=5).astype("<u2"), (5, 9), (0, 255)),  # percentiles coincide
        (np.array([[7, 8]] * 50, "<u2"), (7, 8), (0, 255)),  # a range of 1
        (np.array([[1, 1 + 2**-23]] * 50, "<f4"), (1, 1 + 2**-23), (0, 255)),  # the smallest step of float32
        (np.array([[0, 1e-45]] * 50, "<f4"), (0, 2**-149), (0, 255)),  # its smallest number
        (np.array([[-3e38, 3e38]] * 50, "<f4"), None, (0, 255)),  # a span that float32 does not hold
        (np.array([[-(2**31), 2**31 - 1]] * 50, "<i4"), (-(2**31), 2**31 - 1), (0, 255)),
    ],
)
def test_windows_of_few_values(values, window, ends):
    view = windowed(values)
    assert window is None or view.window == window
    assert (view.pixels.min(), view.pixels.max()) == ends


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    values = RAMP.astype("<f4")
    values[3, 4] = value
    assert reason_of(saved(tmp_path, Image.fromarray(values), "a.tiff")) == (
        "damaged: holds values that are not finite"
    )


def test_pictures_of_8_bits_have_no_window(tmp_path):
    assert read_file(saved(tmp_path, Image.fromarray(RAMP))).window is None


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
def test_tiff_in_which_white_is_zero(tmp_path, dtype):
    deep = RAMP.astype(dtype)
    path = saved(tmp_path, Image.fromarray(deep), "a.tiff", tiffinfo={262: 0})
    # Pillow turns 8 bits round on writing, and leaves 16 bits as they are.
    expected = RAMP if dtype == "u1" else 255 - read_image(saved(tmp_path, Image.fromarray(deep), "b.tiff"))
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_is_read(tmp_path, suffix):
    """Lossless formats exactly; without regard to case."""
    lossless = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path, Image.fromarray(RAMP), f"a{suffix}", **lossless)
    np.testing.assert_allclose(
        read_image(path.rename(tmp_path / f"A{suffix.upper()}")).astype(int),
        RAMP,
        atol=6 if suffix in (".jpg", ".jpeg") else 0,
    )


def without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[start + 2 : start + 4])[0]
    return data[:start] + data[start + 2 + length :]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg_with_and_without_inverted_ink(tmp_path, adobe):
    black_ink = 255 - RAMP
    ink = np.stack([np.zeros_like(RAMP)] * 3 + [black_ink], -1)
    # Pillow writes the complement of the ink with an Adobe marker; without one, ink is stored as it is.
    stored = ink if adobe else 255 - ink
    buffer = io.BytesIO()
    Image.fromarray(stored, "CMYK").save(buffer, "JPEG", quality=100)
    path = tmp_path / "cmyk.jpg"
    path.write_bytes(buffer.getvalue() if adobe else without_adobe_marker(buffer.getvalue()))
    np.testing.assert_allclose(read_image(path).astype(int), RAMP, atol=6)


@pytest.mark.parametrize(("name", "deep"), [("a.jpg", False), ("a.png", False), ("a.png", True)])
def test_exif_orientation_is_applied(tmp_path, name, deep):
    exif = Image.Exif()
    exif[274] = 6  # to be turned a quarter clockwise
    values = RAMP.astype("<u2") * 100 if deep else RAMP
    pixels = read_image(saved(tmp_path, Image.fromarray(values), name, exif=exif))
    expected = np.rot90(RAMP, -1).astype(float) * (255 / RAMP.max() if deep else 1)
    assert pixels.shape == (60, 40)
    np.testing.assert_allclose(pixels, expected, atol=6)  # the ends of 16 bits are clipped


def detailed(height: int, width: int) -> np.ndarray:
    """A picture with shades, edges and fine texture, which differs from each of its mirror images."""
    rows, columns = np.mgrid[:height, :width]
    shades = 90 + 60 * np.sin(rows / 90) * np.cos(columns / 130) + 40 * (columns > width // 3)
    texture = np.random.default_rng(0).normal(0, 6, (height, width))
    return (shades + 30 * (rows < height // 5) + texture).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize(("mode", "size"), [("L", (1003, 811)), ("RGB", (640, 645)), ("CMYK", (401, 530))])
def test_a_reduced_jpeg_is_nearly_the_whole_one_resized(tmp_path, mode, size, orientation):
    """Also where its sides are no multiples of the scale, so that the last pixels reach over the edge."""
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(detailed(*size)).convert(mode)
    path = saved(tmp_path, picture, "a.jpg", exif=exif, quality=95)
    view = View(path)
    whole, reduced = read_view(view, 50), read_view(view, 50, reduced_jpeg=True)
    assert reduced.original_size == read_image(path).shape
    assert whole.original_size is None
    assert reduced.pixels.shape == whole.pixels.shape
    difference = np.abs(reduced.pixels.astype(int) - whole.pixels)
    assert 0 < difference.mean() < 0.3
    assert difference.max() <= 3  # a picture that lay half a reduced pixel away would differ by 9


@pytest.mark.slow
def test_reduced_jpegs_of_real_radiographs(shared, tmp_path, monkeypatch):
    """It prints how far they are from whole ones, in grey levels, beside what another filter does."""
    found: dict[str, list[np.ndarray]] = {"once": [], "twice": [], "bicubic": []}
    for file in sorted((shared / "data/iu_xray/images").iterdir()):
        if min(Image.open(file).size) >= 1024:
            view = View(saved(tmp_path, Image.open(file).convert("L"), "a.jpg", quality=95))
            whole = read_view(view, 256).pixels.astype(int)
            for name, times in (("once", 1), ("twice", 2)):
                monkeypatch.setattr(images, "_REDUCED_TO", times)
                found[name].append(np.abs(read_view(view, 256, reduced_jpeg=True).pixels - whole))
            bicubic = to_short_side(read_image(view.source), 256, Image.Resampling.BICUBIC)
            found["bicubic"].append(np.abs(bicubic - whole))
    mean = {name: np.mean([image.mean() for image in pictures]) for name, pictures in found.items()}
    for name, pictures in found.items():
        most = max(image.max() for image in pictures)
        print(f"{name:8}{len(pictures)} images: mean {mean[name]:.2f}, at most {most}")
    assert 0 < mean["twice"] < 0.75 * mean["bicubic"] < mean["once"]


@pytest.mark.parametrize(("name", "side"), [("a.png", 400), ("a.jpg", 399)])
def test_pictures_that_are_no_large_jpeg_are_not_reduced(tmp_path, name, side):
    """Decoded at half its size, a JPEG must still have twice the short side."""
    path = saved(tmp_path, Image.fromarray(detailed(side, 420)), name)
    whole, reduced = read_view(View(path), 100), read_view(View(path), 100, reduced_jpeg=True)
    np.testing.assert_array_equal(reduced.pixels, whole.pixels)
    assert reduced.original_size is None


def test_broken_jpegs_are_refused_when_they_are_reduced(tmp_path):
    cut, strip = tmp_path / "cut.jpg", saved(tmp_path, Image.new("L", (401, 17 * 401)), "strip.jpg")
    data = saved(tmp_path, Image.fromarray(detailed(800, 800)), "whole.jpg").read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    for path, reason in ((cut, "truncated"), (strip, "no radiograph: a strip of 401 x 6817 pixels")):
        with pytest.raises(ImageError) as caught:
            read_view(View(path), 50, reduced_jpeg=True)
        assert caught.value.reason == reason


def reason_of(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, RadScribeError)
    return caught.value.reason


#: Formats with a checksum or an end marker.
CHECKED = [{"format": "PNG"}, {"format": "JPEG"}, {"format": "JPEG", "progressive": True}]


@pytest.mark.parametrize(
    ("options", "padded"),
    [
        *((options, padded) for options in CHECKED for padded in (False, True)),
        ({"format": "BMP"}, False),
        ({"format": "TIFF"}, False),
        ({"format": "TIFF", "compression": "tiff_lzw"}, False),
        ({"format": "WEBP"}, False),
        ({"format": "WEBP", "lossless": True}, False),
    ],
)
def test_no_cut_file_gives_a_half_picture(tmp_path, options, padded):
    """BMP, TIFF and WebP state no end: where their space was allocated beforehand, nothing tells them cut."""
    buffer = io.BytesIO()
    noise().save(buffer, **options)
    data = buffer.getvalue()
    path = tmp_path / "cut.img"
    for share in np.linspace(0.02, 0.98, 25):
        kept = data[: int(len(data) * share)]
        path.write_bytes(kept + bytes(len(data) - len(kept)) if padded else kept)
        reason_of(path)


def test_truncated_is_named_so(tmp_path):
    path = saved(tmp_path, noise(), "cut.jpg")
    path.write_bytes(path.read_bytes()[:-2000])
    assert reason_of(path) == "truncated"


def test_other_broken_files(tmp_path):
    empty, text, dicom = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "scan.dcm"
    empty.touch()
    text.write_text("<html>404</html>")
    dicom.write_bytes(bytes(128) + b"DICM" + bytes(100))
    assert reason_of(empty) == "empty file"
    assert reason_of(text) == "not an image"
    assert reason_of(dicom) == "no pixel data"
    assert reason_of(tmp_path / "absent.png") == "missing"
    assert reason_of(tmp_path) == "not readable: a folder, not a file"


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    pipe, loop, deep = tmp_path / "pipe.png", tmp_path / "loop.png", tmp_path / ("x" * 300 + ".png")
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    (tmp_path / "linked.png").symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(tmp_path):
        bound.bind("socket.png")
        assert reason_of(tmp_path / "socket.png") == "not readable: a socket, not a file"
    assert reason_of(pipe) == "not readable: a named pipe, not a file"
    assert reason_of(tmp_path / "linked.png") == "not readable: a named pipe, not a file"
    assert reason_of(Path("/dev/zero")) == "not readable: a device, not a file"
    assert reason_of(loop).startswith("not readable: Too many levels")
    assert reason_of(deep).startswith("not readable: File name too long")
    assert reason_of(saved(tmp_path, noise()) / "below.png").startswith("not readable: Not a directory")
    with pytest.raises(ImageError, match=r"cannot read a\\0b\.png: not readable: its name holds a NUL"):
        read_image("a\0b.png")


def test_files_beyond_any_picture_are_not_loaded(tmp_path):
    path = tmp_path / "sparse.png"
    with open(path, "wb") as file:
        file.truncate(10**12)
    assert reason_of(path) == "too large"


def test_postscript_is_not_run(tmp_path):
    path = saved(tmp_path, noise(), "page.eps")
    assert reason_of(path) == "not an image"


def test_damaged_byte_in_png_is_found(tmp_path):
    path = saved(tmp_path, noise())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    reason_of(path)


def test_decompression_bomb(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    rows = chunk(b"IDAT", zlib.compress(bytes(40_001)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b""))
    assert reason_of(path) == "too large"


def test_error_survives_pickling(tmp_path):
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "absent.png")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.reason) == (str(caught.value), "missing")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 128))
def test_short_side_is_exact_and_aspect_kept(height, width, short_side):
    view = RenderedView(np.zeros((height, width), np.uint8))
    if max(height, width) > 16 * min(height, width) and min(height, width) != short_side:
        with pytest.raises(ImageError, match="strip"):
            resize_view(view, short_side)
        return
    new_height, new_width = resize_view(view, short_side).pixels.shape
    assert min(new_height, new_width) == short_side
    assert (new_height < new_width) <= (height < width)
    exact = short_side * max(height, width) / min(height, width)
    assert 0 <= exact - max(new_height, new_width) < 1


@pytest.mark.parametrize("size", [(300, 411), (411, 300), (97, 230), (64, 64), (50, 65)])
@pytest.mark.parametrize("filter_", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_resized_as_torchvision_does(size, filter_):
    from torchvision.transforms import InterpolationMode, Resize

    picture = noise(*size)
    expected = Resize(64, InterpolationMode[filter_.name])(picture)
    np.testing.assert_array_equal(to_short_side(np.asarray(picture), 64, filter_), np.asarray(expected))


def test_resizing_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (400, 200))  # one pixel wide
    view = read_view(View(saved(tmp_path, Image.fromarray(stripes))), 50)
    assert view.pixels.shape == (50, 50)
    np.testing.assert_allclose(view.pixels, 127.5, atol=8)


class Drawn:
    """A view that is drawn: a bright square, and its mask."""

    def __init__(self, pixels: np.ndarray, mask: np.ndarray):
        self.pixels, self.mask = pixels, mask

    def __call__(self) -> RenderedView:
        return RenderedView(self.pixels, {"Lung Opacity": self.mask})


def test_rendered_view_is_resized_with_its_masks():
    mask = np.zeros((100, 200), bool)
    mask[20:60, 40:80] = True
    view = read_view(View(Drawn(mask * np.uint8(255), mask)), 50)
    assert view.pixels.shape == (50, 100)
    small = view.masks["Lung Opacity"]
    assert small.dtype == bool
    expected = np.zeros((50, 100), bool)
    expected[10:30, 20:40] = True
    np.testing.assert_array_equal(small, expected)


def test_rendered_view_of_the_right_size_is_untouched():
    mask = RAMP > 100
    view = read_view(View(Drawn(RAMP, mask)), 40)
    assert view.pixels is RAMP
    assert view.masks["Lung Opacity"] is mask


@pytest.mark.parametrize(
    ("pixels", "mask"),
    [(RAMP.astype(float), RAMP > 0), (np.stack([RAMP] * 3, -1), RAMP > 0), (RAMP, RAMP[:20] > 0)],
)
def test_rendered_view_of_another_form_is_refused(pixels, mask):
    with pytest.raises(ImageError):
        read_view(View(Drawn(pixels, mask)), 40)
