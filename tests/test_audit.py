"""Audits: what they find in stores with known leaks, against libraries and brute force, and what they say."""

import io
import json
import random
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from tiny_language_models import tiny_language_model

from radscribe.audit import images as audit_images
from radscribe.audit import reports as audit_reports
from radscribe.audit.audit import audit
from radscribe.audit.images import NEAR, SplitImages, near_images, perceptual_hash
from radscribe.audit.leaks import Item, Place
from radscribe.audit.report_texts import CUTS, ODD_REPORTS, odd_reports
from radscribe.audit.reports import near_reports, words_of
from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.progress import Progress
from radscribe.studies.images import read_image, to_short_side
from radscribe.studies.phantom.reader import read_phantom
from radscribe.studies.prepare import prepare
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import RenderedView, Study, View
from radscribe.text.language_model_files import LanguageModelFiles
from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
from radscribe.text.protocols import PROTOCOLS

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


@pytest.mark.parametrize(("reports", "pairs"), [(256, 20_000), (3, 5)])
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


@pytest.mark.parametrize(
    ("report", "kinds"),
    [
        ("", ["empty"]),
        (" \n", ["empty"]),
        (". - ,", ["no words"]),
        ("xxxx. 3", ["no words"]),
        ("Normal chest.", ["short"]),
        ("Normal chest today.", []),
        ("El corazón es de tamaño normal. Los pulmones están limpios.", ["not English"]),
        ("The lungs are clear. The heart is normal. The lungs are  clear.", ["repeats itself"]),
        ("Clear. The heart is normal. Clear.", []),
    ],
)
def test_odd_reports(report, kinds):
    others = ["The heart is enlarged.", "There is no effusion."]
    found = odd_reports([others[0], report, others[1]])
    assert found.keys() == ODD_REPORTS.keys()
    assert {kind: places for kind, places in found.items() if places} == {kind: [1] for kind in kinds}


def test_repeated_reports():
    found = odd_reports(["No acute disease.", "Clear lungs today.", "No  acute\ndisease."])
    assert found["repeated"] == [0, 2]


# --- stores ------------------------------------------------------------------------------------------------


def drawn(pixels):
    return View(lambda: RenderedView(pixels), "frontal")


def study(name, split, report, *views, patient="", **more):
    return Study(name, patient or f"patient of {name}", views, split, {"findings": report}, **more)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """A store with one leak of each kind but of ids of studies, which one store cannot have twice."""
    one, two, three, four, five, six, seven = pictures(7)
    words = [f"word{number}" for number in range(40)]
    other = [*words[:20], "else", *words[21:]]
    out = tmp_path_factory.mktemp("stores") / "leaky"
    studies = [
        study("a", "train", "The lungs are clear.", drawn(one), patient="p1"),
        study("b", "train", " ".join(words), drawn(two), drawn(three)),
        study("c", "val", "The heart is large.", drawn(four), patient="p1"),
        study("d", "val", "The  lungs are clear.", drawn(five)),
        study("e", "test", " ".join(other), drawn(six), drawn(three)),
        study("f", "test", "There is an effusion.", drawn(as_jpeg(two, 50))),
        study("g", "test", "", drawn(seven)),
    ]
    prepare(studies, out, workers=1, progress=False)
    return out


@pytest.fixture(scope="module")
def audited(leaky):
    return audit([leaky], progress=False)


def test_leaks_are_found_the_worst_first(leaky, audited):
    found = [
        (
            leak.kind,
            leak.later.split,
            leak.earlier.split,
            leak.total,
            [each.to_json() for each in leak.matches],
        )
        for leak in audited.leaks
    ]
    one, two = ({"study": study, "earlier_study": earlier} for study, earlier in (("c", "a"), ("d", "a")))
    identical, near = (leak.matches[0] for leak in audited.leaks[1:3])
    assert [
        ("patients", "val", "train", 2, [one | {"patient": "p1"}]),
        ("identical images", "test", "train", 4, [identical.to_json()]),
        ("nearly identical images", "test", "train", 4, [near.to_json()]),
        ("verbatim reports", "val", "train", 2, [two]),
        (
            "near-verbatim reports",
            "test",
            "train",
            2,
            [{"study": "e", "earlier_study": "b", "similarity": 0.854}],
        ),
    ] == found
    assert (identical.study, identical.earlier_study) == ("e", "b")
    assert (near.study, near.earlier_study) == ("f", "b")
    assert near.distance <= NEAR


def test_the_similarity_is_that_of_the_definition(audited):
    words = [f"word{number}" for number in range(40)]
    other = [*words[:20], "else", *words[21:]]
    (match,) = audited.leaks[-1].matches
    assert match.similarity == round(similarity(shingles(" ".join(words)), shingles(" ".join(other))), 3)


def test_what_a_split_has(audited):
    train, val, test = (split.contents for split in audited.splits)
    assert [(each.studies, each.patients, each.images, each.reports) for each in (train, val, test)] == [
        (2, 2, 3, 2),
        (2, 2, 2, 2),
        (3, 3, 4, 2),
    ]
    assert (train.words.mean, train.words.median, train.words.shortest, train.words.longest) == (
        22,
        22,
        4,
        40,
    )
    assert train.projections == {"frontal": 3, "lateral": 0, "unknown": 0}
    assert test.images_per_study == {1: 2, 2: 1}
    # No source labels this store, so reports are labelled by rules.
    assert {split.labels for split in audited.splits} == {"rules"}
    assert test.observations["Pleural Effusion"]["present"] == 1
    assert val.observations["Cardiomegaly"]["present"] == 1
    assert audited.splits[2].odd["empty"] == ["g"]


def test_observations_of_the_source(store):
    (train, *_) = audit([store], progress=False).splits
    assert train.labels == "source"
    studies = PreparedStore(store).studies("train")
    for name, counts in train.contents.observations.items():
        for state, count in counts.items():
            assert count == sum(each.observations.get(name) == state for each in studies)


def test_what_protocols_cut(tmp_path):
    rng = np.random.default_rng(3)
    reports = {59: "a " * 58 + "a", 60: "b " * 59 + "b", 99: "c " * 98 + "c", 100: "d " * 99 + "d"}
    studies = [
        study(f"s{count}", "train", text, drawn(rng.integers(0, 256, (32, 32), np.uint8)))
        for count, text in reports.items()
    ]
    prepare(studies, tmp_path / "store", short_side=32, workers=1, progress=False)
    (train,) = audit([tmp_path / "store"], progress=False).splits
    cut = dict(zip(map(str, CUTS), train.cut, strict=True))
    # The full stop that cleaning sets is a token too.
    assert cut["r2gen, iu_xray, 60"] == 1.0
    assert cut["r2gen, mimic_cxr, 100"] == 0.5
    assert cut["r2gengpt, iu_xray, 60"] is None
    assert (cut["clean_full"], cut["raw"]) == (0, 0)
    assert {rules.protocol for rules in CUTS} == set(PROTOCOLS)
    for rules in CUTS[:2]:
        rate = PROTOCOLS["r2gen"].truncation_rate(
            reports.values(), cleaning=rules.cleaning, maximum_length=rules.maximum_length
        )
        assert cut[str(rules)] == rate


# --- several stores, and the command -----------------------------------------------------------------------


def run(*words):
    """The exit code of `radscribe audit`."""
    try:
        main(["audit", *map(str, words), "--no_progress"])
    except SystemExit as end:
        return end.code
    return 0


def test_a_patient_in_two_splits_exits_with_1(leaky, tmp_path, capsys):
    assert run(leaky, "--json", tmp_path / "audit.json") == 1
    printed = capsys.readouterr()
    assert "1 of 2 patients of val in" in printed.err
    assert "such as 'p1'" in printed.err
    assert "splits by patient" in printed.err
    lines = printed.out.splitlines()
    assert lines[0] == f"AUDIT of {leaky}: findings"
    first = lines.index(next(line for line in lines if line.startswith("patients")))
    assert lines[first].endswith("val <- train: 1 of 2 patients (50.0%)")
    assert "patient p1: c and a" in lines[first + 1]
    assert "studies                  none" in lines
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content["leaks"][0]["kind"] == "patients"
    assert content["splits"][0]["studies"] == 2
    assert "diagnosis" in content["notice"]


def test_stores_are_compared_with_each_other(tmp_path, capsys):
    first, second, third = pictures(3)
    prepare(
        [
            study("a", "train", "The lungs are clear.", drawn(first), patient="7"),
            study("b", "test", "There is an effusion.", drawn(second), patient="8"),
        ],
        tmp_path / "one",
        workers=1,
        progress=False,
    )
    prepare(
        [
            study("a", "test", "The  lungs are clear.", drawn(first), patient="7"),
            study("c", "train", "The heart is large.", drawn(third), patient="9"),
        ],
        tmp_path / "two",
        workers=1,
        progress=False,
    )
    for alone in ("one", "two"):
        assert run(tmp_path / alone) == 0
    capsys.readouterr()
    assert run(tmp_path / "one", tmp_path / "two") == 1
    printed = capsys.readouterr().out
    assert "two test <- one train: 1 of 1 patients (100.0%)" in printed
    assert f"1 studies have one id in {tmp_path}/one and in {tmp_path}/two;\n  1 of them have" in printed
    found = audit([tmp_path / "one", tmp_path / "two"], progress=False)
    assert [leak.kind for leak in found.leaks] == [
        "patients",
        "studies",
        "identical images",
        "verbatim reports",
    ]
    assert {(Path(leak.later.store).name, leak.later.split) for leak in found.leaks} == {("two", "test")}
    # A split has no leak from the same split of another store, nor from a later one.
    assert run(tmp_path / "two", tmp_path / "one") == 1


def test_ids_that_stand_for_different_studies_in_two_stores(store, tmp_path, capsys):
    prepare("phantom", tmp_path / "other", studies=10, seed=1, short_side=64, workers=1, progress=False)
    assert run(store, tmp_path / "other") == 1
    printed = capsys.readouterr().out
    assert f"10 studies have one id in {store} and in {tmp_path}/other;\n  0 of them have" in printed
    assert "a leak of patients may be none" in printed


def test_what_a_language_model_reads(store):
    name = str(tiny_language_model())
    (train, *_) = audit([store], tokenizer=name, progress=False).splits
    reports = [study.report("findings") for study in PreparedStore(store).studies("train")]
    tokenizer = LanguageModelTokenizer(LanguageModelFiles.find(name, tokenizer_only=True))
    for rules, share in zip(CUTS[2:4], train.cut[2:4], strict=True):
        rates = {"cleaning": rules.cleaning, "maximum_length": rules.maximum_length}
        assert share == PROTOCOLS["r2gengpt"].truncation_rate(reports, tokenizer=tokenizer, **rates)
    assert train.cut[2] > 0


def test_a_store_without_leaks(store, capsys):
    assert run(store, "--section", "impression + findings") == 0
    printed = capsys.readouterr().out
    assert "patients                 none" in printed
    assert "research use" in printed


def test_the_same_store_twice(store):
    with pytest.raises(RadScribeError, match="is given twice"):
        audit([store, store / ".." / store.name], progress=False)


def real_annotation(shared, folder):
    """A copy of R2Gen's annotation of IU X-Ray beside pictures of a few pixels in place of its images."""
    rng = np.random.default_rng(0)
    text = (shared / "data/iu_xray/annotation.json").read_text()
    (folder / "annotation.json").write_text(text)
    for entry in (entry for split in json.loads(text).values() for entry in split):
        for name in entry["image_path"]:
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(path)
    return json.loads(text)


@pytest.mark.slow
def test_verbatim_reports_of_the_benchmark(shared, tmp_path):
    real_annotation(shared, tmp_path)
    prepare(tmp_path, tmp_path / "store", short_side=16, workers=1, progress=False)
    found = audit([tmp_path / "store"], progress=False)
    verbatim = {
        (leak.later.split, leak.earlier.split): (len(leak.matches), leak.total)
        for leak in found.leaks
        if leak.kind == "verbatim reports"
    }
    assert verbatim["test", "train"] == (274, 590)
    assert found.leaked_patients == []
    test = found.splits[2]
    # docs/protocols.md: 29 of 590 references lose words.
    assert test.cut[0] == pytest.approx(29 / 590)
