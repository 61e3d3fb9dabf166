"""Every pixel format and every kind of broken file, through the one path by which pixels enter."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.studies.images import ImageError, read_image, read_view, resize_view
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
    pixels = read_image(saved(tmp_path, Image.fromarray(deep), name))
    np.testing.assert_allclose(pixels, RAMP.astype(float) * 255 / RAMP.max(), atol=0.51)


def test_constant_deep_picture_is_black(tmp_path):
    assert not read_image(saved(tmp_path, Image.fromarray(np.full((9, 9), 4000, "<u2")))).any()


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
    np.testing.assert_allclose(pixels, expected, atol=4)


def reason_of(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, RadScribeError)
    return caught.value.reason


@pytest.mark.parametrize(
    "options", [{"format": "PNG"}, {"format": "JPEG"}, {"format": "JPEG", "progressive": True}]
)
@pytest.mark.parametrize("padded", [False, True])
def test_no_cut_file_gives_a_half_picture(tmp_path, options, padded):
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
    assert reason_of(dicom) == "DICOM is not read yet"
    assert reason_of(tmp_path / "absent.png") == "missing"
    assert reason_of(tmp_path).startswith("not readable")


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
