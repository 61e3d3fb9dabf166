"""Pixels in DICOM: every transfer syntax, every form of shades, and every kind of broken file."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_files import PACKAGED, content, dataset_of, dicom_file, phantom_pixels, twelve_bits
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from radscribe.studies import dicom
from radscribe.studies.image_error import ImageError
from radscribe.studies.images import read_file, read_image, read_view
from radscribe.studies.study import View

PHANTOM = phantom_pixels()
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
#: What pydicom packages and no reader can decode, with the reason.
UNDECODABLE = {
    "JPEG-lossy.dcm": "damaged: ",
    "JPEG2000-embedded-sequence-delimiter.dcm": "damaged: ",
    "MR_truncated.dcm": "truncated",
    "badVR.dcm": "damaged: ",
}
#: Doses of 32 bits, which the independent reader refuses or reads in the wrong order; see `test_doses`.
DOSES = ["rtdose_1frame.dcm", "rtdose_expb.dcm", "rtdose_expb_1frame.dcm", "rtdose_rle_1frame.dcm"]
#: 16 and 32 bits in colour with RLE: the independent reader swaps their bytes. See `test_deep_colours`.
DEEP_COLOURS = [f"SC_rgb_rle_{bits}bit{frames}.dcm" for bits in (16, 32) for frames in ("", "_2frame")]


def packaged() -> list[str]:
    """The packaged files with pixels of more than one bit."""
    found = []
    for path in sorted(PACKAGED.rglob("*")):
        if path.is_file() and dicom.is_dicom(path.read_bytes()[: dicom.HEAD]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(path, force=True)
            if "PixelData" in dataset and dataset.get("BitsAllocated", 1) > 1:
                found.append(path.relative_to(PACKAGED).as_posix())
    return found


def reason_of(data: bytes, folder: Path, name: str = "scan.dcm") -> str:
    path = folder / name
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        read_file(path)
    assert name in str(caught.value)
    return caught.value.reason


def grey(values: np.ndarray, **tags: object) -> np.ndarray:
    return dicom.grey(dataset_of(values, **tags), "x").pixels


@pytest.mark.parametrize(
    "name", [name for name in packaged() if name not in (*UNDECODABLE, *DEEP_COLOURS, *DOSES)]
)
def test_decodes_as_an_independent_reader_does(name):
    """GDCM, in SimpleITK, gives the values after rescaling, of all frames, with MONOCHROME1 inverted."""
    dataset = dicom.parse((PACKAGED / name).read_bytes(), name)
    stored = dicom._stored(dataset, name)
    if name == "examples_palette.dcm":
        ours = dicom._luma(stored, dataset)[0]
        theirs = np.asarray(Image.fromarray(independent(name).reshape(*ours.shape, 3)).convert("L"))
    else:
        ours = stored if stored.ndim == 3 else dicom._rescaled(stored, dataset)
        theirs = independent(name)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        ends = dicom._rescaled(np.array([0, 2**dataset.BitsStored - 1], np.uint16), dataset)
        ours = ends.sum() - ours
    frames = int(dataset.get("NumberOfFrames") or 1)
    theirs = theirs.reshape(frames, *ours.shape)[0]
    # JPEG with loss leaves a decoder room in rounding, and in colours once more; so do tables of 16 bits.
    lossy = dataset.file_meta.TransferSyntaxUID in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
    room = (3 if ours.ndim == 3 else 1) if lossy else 1e-9
    if name == "examples_palette.dcm":
        room = 1
    np.testing.assert_allclose(ours, theirs.astype(float), atol=room)


def independent(name: str) -> np.ndarray:
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(PACKAGED / name))
    return SimpleITK.GetArrayFromImage(reader.Execute())


@pytest.mark.parametrize("name", UNDECODABLE)
def test_what_cannot_be_decoded_is_said(name):
    dataset = dicom.parse((PACKAGED / name).read_bytes(), name)
    with pytest.raises(ImageError) as caught:
        dicom.grey(dataset, name)
    assert caught.value.reason.startswith(UNDECODABLE[name])


@pytest.mark.parametrize("name", DOSES)
def test_doses(name):
    """The same doses are packaged in a form that the independent reader takes."""
    dose = dicom.parse((PACKAGED / "rtdose.dcm").read_bytes(), "rtdose.dcm")
    other = dicom.parse((PACKAGED / name).read_bytes(), name)
    np.testing.assert_array_equal(dicom._stored(other, name), dicom._stored(dose, "rtdose.dcm"))


@pytest.mark.parametrize("name", DEEP_COLOURS)
def test_deep_colours(name):
    """The same picture is packaged with 8 bits."""
    shallow = dicom.parse((PACKAGED / "SC_rgb_rle.dcm").read_bytes(), "8 bits")
    deep = dicom.parse((PACKAGED / name).read_bytes(), name)
    view = dicom.grey(deep, name)
    np.testing.assert_array_equal(view.pixels, dicom.grey(shallow, "8 bits").pixels)
    assert view.notes == (("first of several frames",) if "2frame" in name else ()) + ("colours",)


@pytest.mark.parametrize(
    "syntax",
    [JPEG2000Lossless, JPEGLSLossless, RLELossless, DeflatedExplicitVRLittleEndian],
)
@pytest.mark.parametrize("values", [PHANTOM, twelve_bits(PHANTOM)], ids=["8 bits", "12 bits in 16"])
def test_a_radiograph_is_the_same_in_every_lossless_syntax(tmp_path, syntax, values):
    bits = 8 if values.itemsize == 1 else 12
    window = {"WindowCenter": 2**bits / 2, "WindowWidth": 2**bits}
    dataset = dataset_of(values, syntax=syntax, BitsStored=bits, **window)
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "scan"
    path.write_bytes(content(dataset))
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_image(path), np.rint(values / (2**bits - 1) * 255))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_order_and_the_form_of_elements_do_not_matter(tmp_path, syntax):
    values = twelve_bits(PHANTOM)
    dataset = dataset_of(values, BitsStored=12)
    expected = dicom.grey(dataset, "x").pixels
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = values.astype(">u2").tobytes()
    path = tmp_path / "scan"
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    np.testing.assert_array_equal(read_image(path), expected)


class TestShades:
    def test_monochrome_1_is_monochrome_2_inverted(self):
        window = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 3000}
        np.testing.assert_array_equal(
            grey(4095 - RAMP, PhotometricInterpretation="MONOCHROME1", **(window | {"WindowCenter": 2048})),
            grey(RAMP, **window),
        )

    @pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize(("centre", "width"), [(2048, 4096), (600, 350.5), (3000, 2)])
    def test_windows_are_those_of_another_implementation(self, function, centre, width):
        tags = {"BitsStored": 12, "WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": function}
        expected = apply_windowing(RAMP, dataset_of(RAMP, **tags)) / 4095 * 255
        np.testing.assert_allclose(grey(RAMP, **tags), expected, atol=0.51)

    def test_the_first_of_several_windows(self):
        both = grey(RAMP, BitsStored=12, WindowCenter=[500, 3000], WindowWidth=[200, 900])
        np.testing.assert_array_equal(both, grey(RAMP, BitsStored=12, WindowCenter=500, WindowWidth=200))

    def test_the_window_is_in_rescaled_values(self):
        rescaled = dataset_of(RAMP, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1000)
        rescaled.WindowCenter, rescaled.WindowWidth = 1000, 2001
        view = dicom.grey(rescaled, "x")
        assert view.window == (-0.5, 1999.5)
        expected = np.clip((RAMP * 2.0 - 1000 + 0.5) / 2000, 0, 1) * 255
        np.testing.assert_allclose(view.pixels, expected, atol=0.51)

    @pytest.mark.parametrize("bits", [8, 10, 12, 16])
    @pytest.mark.parametrize("first", [0, 1000, -100])
    def test_a_lookup_table(self, bits, first):
        top = 2**bits - 1
        entries = (np.linspace(0, 1, 2048) ** 2 * top).round().astype(np.uint16)
        dataset = dataset_of(RAMP, BitsStored=12, WindowCenter=100, WindowWidth=20)
        dataset.VOILUTSequence = [lookup_table(entries, first, bits)]
        expected = entries[np.clip(RAMP.astype(int) - first, 0, 2047)] / top * 255
        np.testing.assert_allclose(dicom.grey(dataset, "x").pixels, expected, atol=0.51)

    def test_a_lookup_table_that_states_more_bits_than_it_has_is_not_black(self):
        entries = np.arange(4096, dtype=np.uint16)
        dataset = dataset_of(RAMP, BitsStored=12)
        dataset.VOILUTSequence = [lookup_table(entries, 0, 16)]
        assert dicom.grey(dataset, "x").pixels.max() == 255

    def test_a_lookup_table_keeps_its_scale_whatever_the_picture_shows(self):
        dark = dataset_of(RAMP // 8, BitsStored=12)
        dark.VOILUTSequence = [lookup_table(np.arange(4096, dtype=np.uint16), 0, 12)]
        np.testing.assert_allclose(dicom.grey(dark, "x").pixels, RAMP // 8 / 4095 * 255, atol=0.51)

    def test_a_modality_table_comes_before_the_window(self):
        dataset = dataset_of(RAMP, BitsStored=12, WindowCenter=500.5, WindowWidth=1000)
        dataset.ModalityLUTSequence = [lookup_table(np.arange(4096, dtype=np.uint16)[::-1] // 4, 0, 16)]
        dataset.ModalityLUTSequence[0].ModalityLUTType = "OD"
        expected = np.clip((1023 - RAMP // 4 - 0.5) / 999, 0, 1) * 255
        np.testing.assert_allclose(dicom.grey(dataset, "x").pixels, expected, atol=1.3)

    @pytest.mark.parametrize(
        "window",
        [
            {},
            {"WindowCenter": 2048},
            {"WindowCenter": 2048, "WindowWidth": 0},
            {"WindowCenter": 2048, "WindowWidth": -5},
            {"WindowCenter": 60_000, "WindowWidth": 100},
        ],
    )
    def test_without_a_usable_window_as_a_deep_png(self, tmp_path, window):
        Image.fromarray(RAMP).save(tmp_path / "ramp.png")
        np.testing.assert_array_equal(grey(RAMP, BitsStored=12, **window), read_image(tmp_path / "ramp.png"))

    def test_8_bits_without_window_stay(self):
        np.testing.assert_array_equal(grey(PHANTOM), PHANTOM)

    def test_bits_that_are_not_stored_do_not_count(self):
        overlay = np.where(RAMP % 7 == 0, np.uint16(0x9000), np.uint16(0))
        np.testing.assert_array_equal(grey(RAMP | overlay, BitsStored=12), grey(RAMP, BitsStored=12))
        high = grey((RAMP << 4) | (RAMP & 7), BitsStored=12, HighBit=15)
        np.testing.assert_array_equal(high, grey(RAMP, BitsStored=12))

    def test_the_sign_stands_in_the_highest_stored_bit(self):
        signed = RAMP.astype(np.int16) - 2048
        window = {"BitsStored": 12, "WindowCenter": 0, "WindowWidth": 1000}
        unextended = (signed & 0x0FFF).astype(np.int16)
        np.testing.assert_array_equal(grey(unextended, **window), grey(signed, **window))
        assert grey(signed, **window)[32, 0] == 128

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_black_and_does_not_count(self, photometric):
        padded = RAMP.copy() // 8 + 1000
        expected = grey(padded[16:], BitsStored=12, PhotometricInterpretation=photometric)
        padded[:16] = 4095
        tags = {"BitsStored": 12, "PixelPaddingValue": 4095, "PhotometricInterpretation": photometric}
        pixels = grey(padded, **tags)
        assert (pixels[:16] == 0).all()
        np.testing.assert_array_equal(pixels[16:], expected)

    def test_a_palette(self):
        dataset = dataset_of(PHANTOM, PhotometricInterpretation="PALETTE COLOR")
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            shades = (255 - np.arange(256, dtype="<u2")) * 257
            setattr(dataset, f"{colour}PaletteColorLookupTableData", shades.tobytes())
        np.testing.assert_array_equal(dicom.grey(dataset, "x").pixels, 255 - PHANTOM)

    @pytest.mark.parametrize("planes", [0, 1])
    def test_colours_by_pixel_and_by_plane(self, planes):
        colours = np.stack([PHANTOM, PHANTOM[::-1], PHANTOM // 2], -1)
        stored = np.ascontiguousarray(colours.transpose(2, 0, 1)) if planes else colours
        dataset = dataset_of(
            PHANTOM,
            SamplesPerPixel=3,
            PhotometricInterpretation="RGB",
            PlanarConfiguration=planes,
            PixelData=stored.tobytes(),
        )
        dataset["PixelData"].VR = "OB"
        expected = np.asarray(Image.fromarray(colours).convert("L"))
        np.testing.assert_array_equal(dicom.grey(dataset, "x").pixels, expected)


class TestShape:
    @pytest.mark.parametrize(
        ("tags", "size"),
        [
            ({"PixelSpacing": [0.2, 0.2]}, (64, 64)),
            ({"PixelSpacing": [0.4, 0.2]}, (128, 64)),
            ({"ImagerPixelSpacing": [0.2, 0.3]}, (64, 96)),
            ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.3]}, (64, 64)),
            ({"PixelAspectRatio": [2, 1]}, (128, 64)),
            ({"PixelSpacing": [0, 0.2]}, (64, 64)),
            ({"PixelSpacing": [0.2]}, (64, 64)),
        ],
    )
    def test_pixels_become_square(self, tags, size):
        assert grey(RAMP, BitsStored=12, **tags).shape == size

    def test_pixels_that_are_far_from_square_do_not_fill_the_memory(self, tmp_path):
        data = dicom_file(PixelSpacing=[1000, 0.001])
        assert reason_of(data, tmp_path) == "too large"

    def test_the_first_of_several_frames_is_taken_with_a_note(self):
        dataset = dataset_of(np.stack([RAMP, RAMP[::-1]]), BitsStored=12)
        view = dicom.grey(dataset, "x")
        np.testing.assert_array_equal(view.pixels, grey(RAMP, BitsStored=12))
        assert view.notes == ("first of several frames",)

    def test_more_pixels_than_any_radiograph_has(self, tmp_path):
        assert reason_of(dicom_file(Rows=60_000, Columns=60_000), tmp_path) == "too large"


class TestContent:
    def test_a_png_named_dcm_is_a_png(self, tmp_path):
        Image.fromarray(PHANTOM).save(tmp_path / "scan.dcm", "PNG")
        np.testing.assert_array_equal(read_image(tmp_path / "scan.dcm"), PHANTOM)

    def test_dicom_named_png_is_dicom(self, tmp_path):
        (tmp_path / "scan.png").write_bytes(dicom_file(PHANTOM))
        np.testing.assert_array_equal(read_image(tmp_path / "scan.png"), PHANTOM)

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, "1.2.840.10008.1.2.1", ExplicitVRBigEndian])
    def test_without_suffix_preamble_and_meta_information(self, tmp_path, syntax):
        syntax = pydicom.uid.UID(syntax)
        dataset = dataset_of(PHANTOM)
        expected = dicom.grey(dataset, "x").pixels
        path = tmp_path / "IM0001"
        bare = Dataset(dataset)
        pydicom.dcmwrite(path, bare, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        assert path.read_bytes()[128:132] != b"DICM"
        np.testing.assert_array_equal(read_image(path), expected)

    def test_a_view_has_the_short_side_of_a_store(self, tmp_path):
        (tmp_path / "scan").write_bytes(dicom_file())
        assert min(read_view(View(tmp_path / "scan"), 64).pixels.shape) == 64


class TestBroken:
    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", JPEG2000Lossless, JPEGLSLossless, RLELossless])
    def test_no_cut_file_gives_a_half_picture(self, tmp_path, syntax):
        data = dicom_file(PHANTOM, syntax=syntax)
        for share in np.linspace(0.05, 0.98, 12):
            kept = data[: int(len(data) * share)]
            assert reason_of(kept, tmp_path) in ("truncated", "no pixel data")
        assert reason_of(data[:-100], tmp_path) == "truncated"

    def test_no_pixels(self, tmp_path):
        dataset = dataset_of(PHANTOM)
        del dataset.PixelData
        assert reason_of(content(dataset), tmp_path) == "no pixel data"

    def test_nothing_behind_the_preamble(self, tmp_path):
        assert reason_of(bytes(128) + b"DICM", tmp_path) == "damaged: no data element of DICOM can be read"
        assert reason_of(bytes(128) + b"DICM" + bytes(100), tmp_path) == "no pixel data"

    def test_encrypted_attributes(self, tmp_path):
        dataset = dataset_of(PHANTOM)
        del dataset.PixelData
        item = Dataset()
        item.EncryptedContentTransferSyntaxUID = "1.2.840.10008.1.2"
        item.EncryptedContent = b"secret"
        dataset.EncryptedAttributesSequence = [item]
        assert reason_of(content(dataset), tmp_path).startswith("encrypted")

    def test_an_encrypted_message(self, tmp_path):
        message = bytes.fromhex("3082ffff06092a864886f70d010703a0") + bytes(500)
        assert reason_of(message, tmp_path) == "encrypted"

    @pytest.mark.parametrize("syntax", ["1.2.840.10008.5.1.4.1.1.1", "1.2.3.4", "no uid"])
    def test_a_transfer_syntax_that_is_none(self, tmp_path, syntax):
        data = dicom_file(PHANTOM)
        known = b"1.2.840.10008.1.2.1\0"
        assert known in data
        reason = reason_of(
            data.replace(known, syntax.encode().ljust(len(known), b"\0")[: len(known)]), tmp_path
        )
        assert reason.startswith(("damaged", "transfer syntax not read"))

    def test_video(self, tmp_path):
        dataset = dataset_of(PHANTOM)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
        dataset.PixelData = pydicom.encaps.encapsulate([b"\x00\x00\x01\xba" * 8])
        dataset["PixelData"].is_undefined_length = True
        assert reason_of(content(dataset), tmp_path).startswith("transfer syntax not read: MPEG-4")

    @pytest.mark.parametrize("seed", range(40))
    def test_damaged_bytes_are_a_rejection_or_a_picture(self, tmp_path, seed):
        """Whatever they are, nothing but an `ImageError` comes of them."""
        random = np.random.default_rng(seed)
        syntax = ("1.2.840.10008.1.2.1", JPEG2000Lossless, JPEGLSLossless, RLELossless)[seed % 4]
        data = bytearray(dicom_file(PHANTOM[::4, ::4], syntax=syntax, WindowCenter=100, WindowWidth=90))
        places = random.integers(132, len(data) if seed % 2 else 1200, 20)
        for place in places:
            data[place] = random.integers(256)
        path = tmp_path / "scan"
        path.write_bytes(data)
        with contextlib.suppress(ImageError):
            assert read_image(path).dtype == np.uint8


def test_without_pydicom_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    path = tmp_path / "scan.dcm"
    data = bytes(128) + b"DICM" + bytes(100)
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"DICOM needs pydicom\. pip install 'radscribe\[dicom\]'"):
        read_file(path)


def lookup_table(entries: np.ndarray, first: int, bits: int) -> Dataset:
    """An item of a lookup table sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item
