"""How fast `radscribe prepare` decodes JPEG, and what kill -9 does to it: python tests/prepare_rate.py

It makes a folder of JPEG files, two for each study; --different of them are phantom images with noise, and
the others are links to these. It prepares the folder with and without --reduced_jpeg, and lets Pillow alone
decode, make grey and resize some of the files in a loop before and after. It prints images per second of
processor time, which is the rate of one core; the peak memory of all processes; and, after as many kills at
random moments as --kills says, whether the store is the same as one that nothing interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from radscribe.studies.phantom.reader import read_phantom

STORE_SIDE = 256


def make_tree(folder: Path, images: int, different: int, side: int) -> list[Path]:
    """Write the JPEG files of a folder, and return their paths."""
    random_numbers = np.random.default_rng(0)
    originals, paths = [], []
    for number, study in enumerate(read_phantom(different)):
        source = study.views[0].source
        assert callable(source)
        large = Image.fromarray(source().pixels).resize((side, side * 5 // 4), Image.Resampling.BICUBIC)
        noisy = np.asarray(large) + random_numbers.normal(0, 3, (large.height, large.width))
        originals.append(folder / "originals" / f"{number}.jpg")
        originals[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(originals[-1], quality=95)
    for number in range(images):
        study = folder / "tree" / f"p{number // 6:05}" / f"s{number // 2:05}"
        study.mkdir(parents=True, exist_ok=True)
        paths.append(study / f"{number % 2}.jpg")
        os.link(originals[number % different], paths[-1])
    return paths


def pillow_alone(paths: list[Path]) -> float:
    """Images per second of processor time when a loop decodes, makes grey and resizes them."""
    began = time.process_time()
    for path in paths:
        with Image.open(path) as image:
            width, height = image.size
            long_side = STORE_SIDE * max(width, height) // min(width, height)
            size = (STORE_SIDE, long_side) if width < height else (long_side, STORE_SIDE)
            np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR))
    return len(paths) / (time.process_time() - began)


def command(folder: Path, out: Path, reduced: bool) -> list[str]:
    """The command that prepares a folder with all cores."""
    code = "from radscribe.cli import main; main()"
    options = ["--short_side", str(STORE_SIDE), "--no_progress", *["--reduced_jpeg"] * reduced]
    return [sys.executable, "-c", code, "prepare", str(folder), "--out", str(out), *options]


def tree_of(parent: int) -> list[int]:
    """A process and all that descend from it."""
    found = [parent]
    for process in found:
        with suppress(OSError):
            for children in Path(f"/proc/{process}/task").glob("*/children"):  # of each thread
                found += map(int, children.read_text().split())
    return found


def memory_of(processes: list[int]) -> int:
    """Bytes of these processes together; what they share counts once (proportional set size)."""
    total = 0
    for process in processes:
        with suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def prepared(folder: Path, out: Path, images: int, reduced: bool) -> dict[str, float]:
    """Prepare a folder; images per second of processor time and of the clock, and the peak memory in MB."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command(folder, out, reduced), stdout=subprocess.DEVNULL)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.3):
            peak = max(peak, memory_of(tree_of(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.wait() == 0
    seconds = time.monotonic() - began
    done.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "images_per_second_and_core": round(images / spent, 1),
        "images_per_second": round(images / seconds, 1),
        "peak_memory_mb": round(peak / 1e6),
    }


def killed_and_resumed(folder: Path, out: Path, reduced: bool, kills: int, seconds: float) -> list[int]:
    """Kill the preparation at random moments, and then let it end; the studies committed at each kill."""
    committed = []
    for _ in range(kills):
        process = subprocess.Popen(command(folder, out, reduced), stdout=subprocess.DEVNULL)
        time.sleep(3 + random.random() * seconds)
        assert process.poll() is None, "it ended before it could be killed: make --images larger"
        process.kill()
        process.wait()
        committed.append((out / "studies.jsonl").read_bytes().count(b"\n"))
    assert subprocess.run(command(folder, out, reduced), stdout=subprocess.DEVNULL).returncode == 0
    return committed


def compared(whole: Path, resumed: Path, images: int) -> dict[str, object]:
    """Whether two stores are the same, and what the second lost or doubled."""
    first, second = (json.loads((store / "manifest.json").read_text()) for store in (whole, resumed))
    lines = [json.loads(line) for line in (resumed / "studies.jsonl").read_text().splitlines()]
    files = Counter(view["file"] for line in lines for view in line["views"])
    same = ("pixels.bin", "studies.jsonl", "splits.csv", "rejected.csv", "sources.jsonl")
    return {
        "same_content_hash": first["content_hash"] == second["content_hash"],
        "same_bytes": all((whole / name).read_bytes() == (resumed / name).read_bytes() for name in same),
        "images_lost": images - len(files),
        "images_doubled": sum(count > 1 for count in files.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--different", type=int, default=40)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--loop", type=int, default=200, help="images that Pillow alone decodes, each time")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--modes", nargs="+", default=["whole", "reduced"], choices=["whole", "reduced"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths = make_tree(folder, options.images, options.different, options.side)
        for mode in options.modes:
            alone = pillow_alone(paths[: options.loop])
            found = prepared(folder / "tree", folder / mode, options.images, mode == "reduced")
            alone = (alone + pillow_alone(paths[-options.loop :])) / 2
            found["pillow_alone"] = round(alone, 1)
            found["ratio"] = round(found["images_per_second_and_core"] / alone, 2)
            print(
                json.dumps({"mode": mode, "images": options.images, "side": options.side, **found}),
                flush=True,
            )
        if len(set(options.modes)) == 2:
            whole, reduced = (np.fromfile(folder / mode / "pixels.bin", np.uint8) for mode in options.modes)
            difference = np.abs(whole.astype(np.int16) - reduced)
            print(f"grey levels between the two: mean {difference.mean():.2f}, at most {difference.max()}")
        if options.kills:
            mode = options.modes[-1]
            seconds = options.images / found["images_per_second"] / options.kills * 0.8
            arguments = folder / "tree", folder / "killed", mode == "reduced", options.kills, seconds
            kills = {"mode": mode, "studies_at_each_kill": killed_and_resumed(*arguments)}
            print(json.dumps(kills | compared(folder / mode, folder / "killed", options.images)))


if __name__ == "__main__":
    main()
