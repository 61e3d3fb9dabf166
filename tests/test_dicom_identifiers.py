"""Names, ids and dates of DICOM files: none of them is in anything that is made from a prepared store."""

from __future__ import annotations

import base64
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_files import ROOT, code, content, dataset_of, phantom_pixels
from pydicom.datadict import DicomDictionary
from pydicom.dataset import FileDataset

import radscribe
from radscribe.cli import main
from radscribe.studies.store import PreparedStore

#: What stands in all tags of a kind: words, dates, times and the root of UIDs.
WORD, DATE, TIME = "ZQXJ", "18370312", "031337.4242"
SECRETS = (WORD, DATE, TIME, ROOT)
_VALUES = {
    **dict.fromkeys(("PN", "LO", "SH", "ST", "LT", "UT", "UC", "AE"), WORD),
    "DA": DATE,
    "TM": TIME,
    "DT": f"{DATE}{TIME}",
    "UI": f"{ROOT}4",
}
#: Every tag of the standard that may hold a text, a date, a time or a UID; the class of a file is needed.
TAGS = {
    entry[4]: _VALUES[entry[0]]
    for tag, entry in DicomDictionary.items()
    if entry[0] in _VALUES and entry[4] not in ("", "SOPClassUID") and tag >> 16 >= 8
}


def identified(number: int, **tags: object) -> FileDataset:
    """A file whose every tag identifies; its study and its instance have this number."""
    study = {"StudyInstanceUID": f"{ROOT}7{number}", "SOPInstanceUID": f"{ROOT}8{number}"}
    dataset = dataset_of(phantom_pixels(), **(TAGS | study | tags))
    block = dataset.private_block(0x0011, f"{WORD} private", create=True)
    for element, kind in enumerate(("LO", "PN", "DA", "UI", "UN"), start=1):
        value = f"{WORD}^{DATE}".encode() if kind == "UN" else _VALUES[kind]
        block.add_new(element, kind, value)
    item = code("51185008", f"{WORD} chest")
    item.add_new(0x00100010, "PN", f"{WORD}^{WORD}")
    dataset.RequestAttributesSequence = [item]
    return dataset


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A folder with files that are used and files that are rejected in every way, and a zip archive."""
    folder = tmp_path / "given" / f"{WORD}_{DATE}"
    folder.mkdir(parents=True)
    whole = content(identified(1))
    bits = identified(9)
    del bits.BitsStored
    bits.add_new(0x00280101, "LO", WORD)  # as in a file whose elements are shifted
    files = {
        f"{WORD}.dcm": whole,
        f"{DATE}": content(identified(2, PatientID=f"{WORD} 2", BurnedInAnnotation="YES")),
        f"{WORD}-again": whole,
        f"{WORD}-knee": content(identified(3, BodyPartExamined=None, SeriesDescription=f"{WORD} knee")),
        f"{WORD}-class": content(identified(4, SOPClassUID=f"{ROOT}{DATE}")),
        f"{WORD}-modality": content(identified(5, Modality=WORD)),
        f"{WORD}-bits": content(bits),
        f"{WORD}-cut": content(identified(6))[:-9000],
        f"{WORD}-head": content(identified(7))[:3000],
        f"{WORD}-others": content(identified(2, PatientID="other", SOPInstanceUID=f"{ROOT}99")),
        f"{WORD}.txt": f"{WORD} on {DATE}".encode(),
        f"{WORD}-none.dcm": WORD.encode() * 50,
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / f"{WORD}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{WORD}/IM1", content(identified(8, PatientID=f"{WORD} 8")))
        archive.writestr(f"{WORD}/IM2", whole[:4000])
    return folder.parent


def layers(data: bytes) -> Iterator[bytes]:
    """The bytes, and what is packed in them: archives, text in PNG, pictures in pages."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield from layers(gzip.decompress(data))
    if data[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from layers(archive.read(name))
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        for chunk in re.finditer(rb"(?:zTXt|iTXt)[^\0]*\0+", data):
            yield zlib.decompressobj().decompress(data[chunk.end() :]) if data[chunk.end()] == 0x78 else b""
    for picture in re.finditer(rb"base64,([A-Za-z0-9+/=]+)", data):
        yield from layers(base64.b64decode(picture[1]))


def leaks(data: bytes) -> list[str]:
    """The secrets that are in some bytes, in any case and in UTF-8 or UTF-16."""
    found = [layer.lower() for layer in layers(data)]
    return [
        secret
        for secret in SECRETS
        if any(
            secret.lower().encode(form) in layer
            for layer in found
            for form in ("utf-8", "utf-16-le", "utf-16-be")
        )
    ]


def test_the_search_finds_what_is_hidden():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", f"born {DATE}")
    page = b'<img src="data:image/png;base64,' + base64.b64encode(packed.getvalue()) + b'">'
    assert leaks(gzip.compress(page)) == [DATE]
    assert leaks(f"the {WORD}".lower().encode("utf-16")) == [WORD]
    assert leaks(content(identified(1))) == list(SECRETS)
    assert len(TAGS) > 1000


@pytest.mark.usefixtures("without_java")
def test_nothing_made_from_a_store_identifies(hospital, finished_run, tmp_path, monkeypatch, capsys):
    """The store, its rejected files, an export, drafts, explanations, and all that the commands print."""
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.chdir(made)
    main(["prepare", str(hospital), "--out", "store", "--workers", "1", "--short_side", "64"])
    studies = PreparedStore("store").studies()
    assert len(studies) == 2
    reasons = {rejection.kind for rejection in PreparedStore("store").rejections()}
    assert {
        "duplicate id",
        "no chest radiograph",
        "bad record",
        "truncated",
        "damaged",
        "not DICOM",
    } <= reasons
    run, one = str(finished_run), studies[0].id
    main(["generate", run, "store", "--out", "drafts.jsonl"])
    main(["generate", run, "store", "--out", "drafts.csv"])
    main(["explain", run, "--store", "store", "--study", one, "--out", "where"])
    main(["export", "store", "--format", "jsonl", "--out", "exported"])
    main(["audit", "store", "--json", "audit.json"])
    for command in ("generate", "explain"):  # a study that is not there
        with pytest.raises(SystemExit):
            main([command, run, *(["none"] if command == "generate" else ["--study", "none", "--out", "x"])])
    (draft,) = radscribe.load(finished_run, "cpu").generate([studies[0]])
    Path("draft.txt").write_text(repr(draft))
    printed = capsys.readouterr()
    Path("printed.txt").write_text(printed.out + printed.err)
    files = [path for path in made.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert {path.name: found for path in files if (found := leaks(path.read_bytes()))} == {}
    assert leaks("\n".join(map(str, made.rglob("*"))).encode()) == []
