"""Nearly identical images and near-verbatim reports: against a library, brute force, and real radiographs."""

import io
import random

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from radscribe.audit import images as audit_images
from radscribe.audit import reports as audit_reports
from radscribe.audit.images import NEAR, SplitImages, near_images, perceptual_hash
from radscribe.audit.leaks import Item, Place
from radscribe.audit.reports import near_reports, words_of
from radscribe.progress import Progress
from radscribe.studies.images import read_image, to_short_side
from radscribe.studies.phantom.reader import read_phantom

TRAIN, VAL, TEST = (Place("store", split) for split in ("train", "val", "test"))


def pictures(count):
    """Frontal views of the phantom, all different."""
    return [study.views[0].source().pixels for study in read_phantom(count)]


def distance(first, second):
    return int(np.bitwise_count(perceptual_hash(first) ^ perceptual_hash(second)).sum())


def as_jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


# --- images ------------------------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_library():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, size, np.uint8) for size in ((64, 64), (97, 300), (31, 20))]
    for pixels in [*pictures(6), *noise]:
        theirs = imagehash.phash(Image.fromarray(pixels), hash_size=16).hash.ravel()
        ours = np.unpackbits(perceptual_hash(pixels).view(np.uint8)).astype(bool)
        assert ours.tolist() == theirs.tolist()


def test_the_hash_of_one_grey_is_zero():
    for grey in (0, 17, 255):
        assert perceptual_hash(np.full((40, 60), grey, np.uint8)).tolist() == [0, 0, 0, 0]


CHANGES = {
    "JPEG, quality 40": lambda pixels: as_jpeg(pixels, 40),
    "three quarters of the size": lambda pixels: resized(pixels, 0.75),
    "brighter by 15%": lambda pixels: np.asarray(
        ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(1.15)
    ),
    "gamma 0.8": lambda pixels: (255 * (pixels / 255) ** 0.8).astype(np.uint8),
    "1% cut off each edge": lambda pixels: cropped(pixels, 0.01),
    "turned by 1 degree": lambda pixels: np.asarray(Image.fromarray(pixels).rotate(1)),
}


def resized(pixels, factor):
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((int(image.width * factor), int(image.height * factor))))


def cropped(pixels, share):
    rows, columns = (max(1, int(side * share)) for side in pixels.shape)
    return pixels[rows:-rows, columns:-columns]


@pytest.mark.parametrize("change", list(CHANGES.values())[:4], ids=list(CHANGES)[:4])
def test_a_changed_picture_is_near_and_others_are_not(change):
    originals = pictures(8)
    for place, original in enumerate(originals):
        changed = change(original)
        assert distance(original, changed) <= NEAR
        for other in originals[place + 1 :]:
            assert distance(other, changed) > NEAR


@pytest.mark.slow
def test_the_limit_on_real_radiographs(shared):
    """It prints how far changed copies are from 220 radiographs, and the radiographs from each other."""
    files = sorted((shared / "data/open_cxr/images").iterdir())
    radiographs = [to_short_side(read_image(file), 256) for file in files]
    hashes = np.array([perceptual_hash(pixels) for pixels in radiographs])
    near = {}
    for name, change in CHANGES.items():
        changed = np.array([perceptual_hash(change(pixels)) for pixels in radiographs])
        bits = np.bitwise_count(hashes ^ changed).sum(axis=1)
        near[name] = (bits <= NEAR).mean()
        print(f"{name:28}{np.median(bits):4.0f} bits, at most {bits.max():3}; near {near[name]:.1%}")
    between = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=-1)[np.triu_indices(len(files), 1)]
    copies = between <= NEAR
    print(f"copies among them: {copies.sum()}; the nearest others: {between[~copies].min()} bits")
    assert min(near[name] for name in list(CHANGES)[:4]) > 0.99
    assert between[~copies].min() > 2 * NEAR
    rows, columns = (places[copies] for places in np.triu_indices(len(files), 1))
    for first, second in zip(rows, columns, strict=True):
        shown = [
            np.asarray(Image.fromarray(radiographs[place]).resize((64, 64))) for place in (first, second)
        ]
        assert np.corrcoef(shown[0].ravel(), shown[1].ravel())[0, 1] > 0.999


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_near_images_are_those_of_brute_force(block, monkeypatch):
    monkeypatch.setattr(audit_images, "_BLOCK", block)
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2**63, (12, 4)).astype(np.uint64)

    def flipped(hashes, most):
        bits = np.unpackbits(hashes.view(np.uint8), axis=1)
        for row in bits:
            row[rng.choice(256, rng.integers(0, most), replace=False)] ^= 1
        return np.packbits(bits, axis=1).view(np.uint64)

    splits = {TRAIN: base, VAL: flipped(base[:8], NEAR), TEST: flipped(base[2:], 2 * NEAR)}
    images = {
        place: SplitImages(
            [Item(place, number, f"{place.split}{number}") for number in range(len(hashes))], hashes
        )
        for place, hashes in splits.items()
    }
    found = near_images(images)
    for later, earlier in ((VAL, TRAIN), (TEST, TRAIN), (TEST, VAL)):
        expected = {}
        for number, own in enumerate(splits[later]):
            bits = [int(np.bitwise_count(own ^ other).sum()) for other in splits[earlier]]
            if min(bits) <= NEAR:
                expected[f"{later.split}{number}"] = (f"{earlier.split}{np.argmin(bits)}", min(bits))
        pairs = found.get((later, earlier), [])
        assert {own.study: (other.study, bits) for own, other, bits in pairs} == expected
        assert 0 < len(expected) <= len(splits[later])
    assert found.keys() == {(VAL, TRAIN), (TEST, TRAIN), (TEST, VAL)}


# --- reports -----------------------------------------------------------------------------------------------


def shingles(text):
    words = list(words_of(text))
    words += [""] * (3 - len(words))
    return {tuple(words[place : place + 3]) for place in range(len(words) - 2)}


def similarity(first, second):
    return len(first & second) / len(first | second)


def random_reports(count):
    """Reports of a few words each, many of them changed copies of earlier ones."""
    rng = random.Random(2)
    words = [f"w{number}" for number in range(25)]
    texts = ["", "...", "clear", "Clear.", "clear lungs"]
    while len(texts) < count:
        if rng.random() < 0.4:
            text = [rng.choice(words) for _ in range(rng.randint(1, 30))]
        else:
            text = rng.choice(texts).split()
            for _ in range(rng.randint(0, 2)):
                if text:
                    text[rng.randrange(len(text))] = rng.choice(words)
        texts.append(" ".join(text))
    rng.shuffle(texts)
    return texts


@pytest.mark.parametrize(("reports", "pairs"), [(256, 20_000), (20, 50)])
def test_near_reports_are_those_of_brute_force(reports, pairs, monkeypatch):
    monkeypatch.setattr(audit_reports, "_REPORTS", reports)
    monkeypatch.setattr(audit_reports, "_PAIRS", pairs)
    texts = random_reports(300)
    places = [(TRAIN, VAL, TEST)[number % 3] for number in range(len(texts))]
    items = [
        Item(place, words_of(text), str(number))
        for number, (place, text) in enumerate(zip(places, texts, strict=True))
    ]
    found = near_reports(items, Progress(0, "", "", show=False))
    sets = [shingles(text) for text in texts]
    near = 0
    for later, earlier in ((VAL, TRAIN), (TEST, TRAIN), (TEST, VAL)):
        likest = {own.study: (other.study, value) for own, other, value in found.get((later, earlier), [])}
        for number, text in enumerate(texts):
            if places[number] != later or not words_of(text):
                continue
            values = {
                str(other): similarity(sets[number], sets[other])
                for other in range(len(texts))
                if places[other] == earlier and words_of(texts[other])
            }
            if max(values.values()) >= audit_reports.NEAR:
                near += 1
                other, value = likest.pop(str(number))
                assert value == pytest.approx(values[other])
                assert value == pytest.approx(max(values.values()))
        assert likest == {}
    assert near > 40


def test_no_report_at_all():
    assert near_reports([], Progress(0, "", "", show=False)) == {}
    assert near_reports([Item(TEST, (), "s")], Progress(0, "", "", show=False)) == {}
