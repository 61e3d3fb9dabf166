"""The prepared store: round trip, resuming after a kill, faults, and what two runs have in common."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radscribe.errors import RadScribeError
from radscribe.studies.decoder import Decoder
from radscribe.studies.images import read_view
from radscribe.studies.prepare import prepare
from radscribe.studies.readers.registry import READERS, Reader, open_source
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import RenderedView, Study, View

STUDIES = 24


@pytest.fixture
def source(tmp_path) -> Path:
    """Studies of one or two views for twelve patients, with one view and one study broken."""
    folder = tmp_path / "source"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [("image", "report", "study", "patient", "view", "Edema")]
    for number in range(STUDIES):
        for view in ("PA", "L")[: 1 + number % 2]:
            name = f"{number}{view}.png"
            size = (60 + number, 50 + 2 * number)
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / name)
            rows.append((name, f"Report of study {number}.", f"s{number}", f"p{number // 2}", view, "1"))
    (folder / "3L.png").write_bytes((folder / "3L.png").read_bytes()[:900])
    (folder / "4PA.png").write_bytes(b"")
    with open(folder / "studies.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def prepared(source: Path | str, out: Path, **options: object):
    return prepare(source, out, **{"short_side": 32, "workers": 1, "progress": False, **options})


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store, less the time at which it was made."""
    files = {path.name: path.read_bytes() for path in store.iterdir()}
    manifest = json.loads(files["manifest.json"])
    del manifest["created"]
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def test_round_trip(source, tmp_path):
    summary = prepared(source, tmp_path / "store")
    store = PreparedStore(tmp_path / "store")
    originals = {study.id: study for study in open_source(source)}
    assert len(store) == STUDIES - 1
    assert summary.decoded == STUDIES - 1
    for stored in store.studies():
        original = originals[stored.id]
        assert stored.sections == original.sections
        assert stored.observations == {"Edema": "present"}
        if stored.id == "s3":
            assert [view.projection for view in stored.views] == ["frontal"]
            continue
        for view, file_view in zip(stored.views, original.views, strict=True):
            assert view.projection == file_view.projection
            assert view.source.file == file_view.source.name
            assert view.source.original_size == Image.open(file_view.source).size[::-1]
            # The one path: from the store and from the file, the pixels are the same.
            np.testing.assert_array_equal(read_view(view, 32).pixels, read_view(file_view, 32).pixels)
            assert read_view(view, 32).pixels.flags.writeable
    assert [(r.study_id, Path(r.source).name, r.reason) for r in store.rejections()] == [
        ("s3", "3L.png", "truncated"),
        ("s4", "4PA.png", "empty file"),
    ]


def test_the_window_of_deep_pictures_is_noted(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    deep = np.linspace(300, 3300, 3000).round().astype("<u2").reshape(50, 60)
    deep[7, 7] = 65_535
    Image.fromarray(deep).save(folder / "deep.tif")
    Image.fromarray((deep >> 4).clip(0, 255).astype(np.uint8)).save(folder / "plain.bmp")
    prepared(folder, tmp_path / "store")
    store = PreparedStore(tmp_path / "store")
    low, high = store.study("deep").views[0].source.window
    assert (low, high) == pytest.approx((303, 3297), abs=1)
    assert store.study("deep").views[0].source().window == (low, high)
    assert store.study("plain").views[0].source.window is None
    lines = [json.loads(line) for line in (tmp_path / "store" / "studies.jsonl").read_text().splitlines()]
    assert {line["id"]: line["views"][0]["window"] for line in lines} == {"deep": [low, high], "plain": None}


def test_splits(source, tmp_path):
    prepared(source, tmp_path / "store", split_fractions=(0.5, 0.25, 0.25))
    store = PreparedStore(tmp_path / "store")
    patients = {
        split: {study.patient_id for study in store.studies(split)} for split in ("train", "val", "test")
    }
    assert [len(patients[split]) for split in ("train", "val", "test")] == [6, 3, 3]
    assert len(set.union(*patients.values())) == 12
    assert store.studies("all") == store.studies()
    with pytest.raises(RadScribeError, match="unknown split 'valid'"):
        store.studies("valid")
    with pytest.raises(RadScribeError, match=r"no study 'x9'.*'s0'"):
        store.study("x9")


def test_summary(source, tmp_path):
    text = str(prepared(source, tmp_path / "store"))
    assert str(tmp_path / "store" / "rejected.csv") in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "studies 23" in lines
    assert "views 34: frontal 23 · lateral 11" in lines
    assert "reports 4.0 words on average, 26 distinct" in lines
    assert "truncated: 1" in lines
    assert "splits studies patients" in lines
    assert any(line.startswith("train 16 ") or line.startswith("train 17 ") for line in lines)
    assert str(PreparedStore(tmp_path / "store").summary()) in text


def test_process_pool_gives_the_same_store(source, tmp_path, monkeypatch):
    prepared(source, tmp_path / "store")
    in_process = contents(tmp_path / "store")
    decoder = Decoder(32, source, processes=1)
    results = list(decoder.decode(list(open_source(source)), frozenset({"s0"})))
    assert results[0][1] is None
    lines = [json.loads(line) for line in in_process["studies.jsonl"].splitlines()]
    hashes = {line["id"]: [view["sha256"] for view in line["views"]] for line in lines}
    for study, decoded in results[1:]:
        assert [view.sha256 for view in decoded[0]] == hashes.get(study.id, [])


def test_again_is_nothing_to_do_and_other_settings_are_refused(source, tmp_path):
    out = tmp_path / "store"
    prepared(source, out)
    before = contents(out)
    again = prepared(source, out)
    assert again.decoded == 0
    assert contents(out) == before
    with pytest.raises(RadScribeError, match=r"short_side 32, not 40.*another --out"):
        prepared(source, out, short_side=40)
    with pytest.raises(RadScribeError, match=r"reader_options .*seed 0, not 1"):
        prepared(source, out, seed=1, images=str(source))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(RadScribeError, match="holds no prepared store"):
        prepared(source, tmp_path / "other")


def test_limit(source, tmp_path):
    prepared(source, tmp_path / "store", limit=5)
    assert [study.id for study in PreparedStore(tmp_path / "store").studies()] == ["s0", "s1", "s2", "s3"]


class SlowView:
    """Draws a view, leaves a trace that it did, and takes a moment, so that a kill hits the middle."""

    def __init__(self, number: int, log: Path, seconds: float):
        self.number, self.log, self.seconds = number, log, seconds

    def __call__(self) -> RenderedView:
        with open(self.log, "a") as file:
            file.write(f"{self.number}\n")
        time.sleep(self.seconds)
        pixels = np.random.default_rng(self.number).integers(0, 256, (40, 48), np.uint8)
        return RenderedView(pixels, {"Edema": pixels > 200, "Fracture": pixels < self.number})


def read_slowly(source: Path, *, log: str, seconds: float = 0.0):
    for number in range(30):
        view = View(SlowView(number, Path(log), seconds), "frontal")
        yield Study(f"s{number}", f"p{number}", (view,), sections={"findings": f"Number {number}."})


@pytest.fixture
def slow_reader(monkeypatch):
    monkeypatch.setitem(READERS, "slow", Reader("slow", read_slowly, "nothing", lambda source: False))


def test_masks_round_trip(slow_reader, tmp_path):
    prepared(tmp_path, tmp_path / "store", reader="slow", log=str(tmp_path / "log"))
    for number, stored in enumerate(PreparedStore(tmp_path / "store").studies()):
        drawn = read_view(View(SlowView(number, tmp_path / "log", 0)), 32)
        found = read_view(stored.views[0], 32)
        np.testing.assert_array_equal(found.pixels, drawn.pixels)
        assert found.masks.keys() == drawn.masks.keys()
        for name, mask in drawn.masks.items():
            assert found.masks[name].dtype == bool
            np.testing.assert_array_equal(found.masks[name], mask)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import test_prepare
from radscribe.studies.readers.registry import READERS, Reader
READERS["slow"] = Reader("slow", test_prepare.read_slowly, "nothing", lambda source: False)
test_prepare.prepared({source!r}, {out!r}, reader="slow", log={log!r}, seconds=0.02, workers={workers})
"""


def start_and_kill(tmp_path: Path, log: Path, lines: int) -> None:
    """Prepare in a process of its own and SIGKILL it once that many studies are committed."""
    out = tmp_path / "store"
    code = KILLED.format(
        tests=str(Path(__file__).parent), source=str(tmp_path), out=str(out), log=str(log), workers=1
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    committed = b""
    while committed.count(b"\n") < lines:
        assert time.monotonic() < deadline
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.002)
        with contextlib.suppress(FileNotFoundError):
            committed = (out / "studies.jsonl").read_bytes()
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_store_resumes_to_the_same_bytes(slow_reader, tmp_path):
    log, out = tmp_path / "log", tmp_path / "store"
    start_and_kill(tmp_path, log, 5)
    with pytest.raises(RadScribeError, match=r"interrupted.*radscribe prepare"):
        PreparedStore(out)
    start_and_kill(tmp_path, log, 12)
    # What a kill may leave at worst: pixels and masks without a line, and half a line.
    with open(out / "pixels.bin", "ab") as file:
        file.write(b"x" * 999)
    with open(out / "masks.bin", "ab") as file:
        file.write(b"x" * 9)
    with open(out / "studies.jsonl", "ab") as file:
        file.write(b'{"id": "s1')
    options = {"reader": "slow", "log": str(log), "seconds": 0.02}
    summary = prepared(tmp_path, out, **options)
    assert summary.decoded <= 18
    assert "were there already" in str(summary)
    drawn = log.read_text().split()
    assert set(drawn) == {str(number) for number in range(30)}
    assert len(drawn) <= 32, "a committed study was decoded again"

    resumed = contents(out)
    shutil.rmtree(out)
    prepared(tmp_path, out, **options)
    assert contents(out) == resumed


def test_lost_pixels_are_prepared_again(source, tmp_path):
    out = tmp_path / "store"
    prepared(source, out)
    whole = contents(out)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    with open(out / "pixels.bin", "ab") as file:
        file.truncate(manifest["bytes"]["pixels.bin"] // 2)
    summary = prepared(source, out)
    assert 5 < summary.decoded < STUDIES - 5
    files = contents(out)
    for name in ("pixels.bin", "studies.jsonl", "splits.csv", "rejected.csv"):
        assert files[name] == whole[name]


def test_source_that_lost_a_study_is_refused(source, tmp_path):
    out = tmp_path / "store"
    prepared(source, out)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    table = source / "studies.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if ",s7," not in line))
    with pytest.raises(RadScribeError, match=r"has changed since .* was interrupted: 1 removed \(s7\)"):
        prepared(source, out)


def orphans(parent: int) -> list[int]:
    """The processes that `parent` started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{parent}\n" in status.read_text():
                found.append(int(status.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_decoding_processes_do_not_outlive_a_killed_parent(tmp_path):
    code = (
        "import time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from radscribe.studies.decoder import _start_process\n"
        "pool = ProcessPoolExecutor(1, initializer=_start_process)\n"
        "pool.submit(time.sleep, 0).result()\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = orphans(process.pid)
    assert started
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{number}").exists() for number in started):
        assert time.monotonic() < deadline, "a decoding process lives on"
        time.sleep(0.02)


def test_full_disk_is_an_error_that_can_be_resumed(source, tmp_path):
    """A file size limit fails writes halfway, as a full disk does."""
    out = tmp_path / "store"
    prepared(source, tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(RadScribeError, match=r"no space left.*resumes"):
            prepared(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (out / "pixels.bin").stat().st_size == 30_000
    summary = prepared(source, out)
    assert 0 < summary.decoded < STUDIES - 1
    assert contents(out) == contents(tmp_path / "whole")


def test_nothing_usable_is_an_error_and_may_be_tried_again_with_other_settings(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.png").touch()
    (folder / "b.png").write_text("no image")
    with pytest.raises(RadScribeError, match=r"no study of .* empty file 1, not an image 1.*rejected\.csv"):
        prepared(folder, tmp_path / "store")
    Image.new("L", (50, 50)).save(folder / "a.png")
    prepared(folder, tmp_path / "store", seed=4)
    assert len(PreparedStore(tmp_path / "store")) == 1


def test_two_processes_cannot_write_one_store(source, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "store"
    prepared(source, out, limit=2)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    with open(out / "studies.jsonl", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RadScribeError, match="another process"):
            prepared(source, out, limit=2)
    prepared(source, out, limit=2)


def test_stores_that_cannot_be_opened(source, tmp_path):
    with pytest.raises(RadScribeError, match=r"no prepared store at .*radscribe prepare SOURCE --out"):
        PreparedStore(tmp_path / "absent")
    out = tmp_path / "store"
    prepared(source, out)
    manifest = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(manifest.replace('"format": 2', '"format": 99'))
    with pytest.raises(RadScribeError, match="format 99; this RadScribe reads format 2"):
        PreparedStore(out)
    (out / "manifest.json").write_text("{")
    with pytest.raises(RadScribeError, match="damaged"):
        PreparedStore(out)
    (out / "manifest.json").write_text(manifest)
    splits = (out / "splits.csv").read_text()
    (out / "splits.csv").write_text(splits.replace("test", "train"))
    with pytest.raises(RadScribeError, match="changed after preparation"):
        PreparedStore(out)
    (out / "splits.csv").write_text(splits)
    with open(out / "pixels.bin", "ab") as file:
        file.truncate(100)
    with pytest.raises(RadScribeError, match=r"pixels\.bin is missing or has not its"):
        PreparedStore(out)


def pixel_sums(views: list[View]) -> list[int]:
    return [int(read_view(view, 32).pixels.sum()) for view in views]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_views_are_read_in_other_processes(source, tmp_path, method):
    prepared(source, tmp_path / "store")
    store = PreparedStore(tmp_path / "store")
    views = [view for study in store.studies() for view in study.views]
    expected = pixel_sums(views)  # also maps the files here, before any fork
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(pixel_sums, (views,)) == expected


def test_pickles_are_small_and_equal(source, tmp_path):
    prepared(source, tmp_path / "store")
    store = PreparedStore(tmp_path / "store")
    view = store.study("s1").views[0]
    expected = read_view(view, 32).pixels
    data = pickle.dumps(view)
    assert len(data) < 1000
    np.testing.assert_array_equal(read_view(pickle.loads(data), 32).pixels, expected)
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(read_view(copy.study("s1").views[0], 32).pixels, expected)
    assert len(copy) == len(store)


def test_a_new_store_in_the_place_of_an_old_one_is_not_mistaken_for_it(source, tmp_path):
    out = tmp_path / "store"
    prepared(source, out)
    old = pixel_sums(list(PreparedStore(out).study("s0").views))
    shutil.rmtree(out)
    Image.new("L", (60, 50), 7).save(source / "0PA.png")
    prepared(source, out)
    assert pixel_sums(list(PreparedStore(out).study("s0").views)) != old


@pytest.mark.skipif(os.name == "nt", reason="file names are bytes only on POSIX")
def test_ids_from_file_names_of_any_bytes(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for name in (b"R\xf6ntgen.png", "Röntgen.png".encode(), b'a,"b"\n.png'):
        Image.new("L", (50, 50)).save(folder / os.fsdecode(name))
    prepared(folder, tmp_path / "store")
    ids = {study.id for study in PreparedStore(tmp_path / "store").studies()}
    assert ids == {"R\udcf6ntgen", "Röntgen", 'a,"b"\n'}


def test_progress_goes_to_standard_error(source, tmp_path, capsys):
    prepared(source, tmp_path / "store", progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"preparing: {STUDIES} of {STUDIES} studies (100%)" in captured.err
