"""The files of a prepared store: their names, and those that are read and replaced as a whole."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.files import ENCODING, read_json_object
from radscribe.studies.rejection import Rejection
from radscribe.studies.staleness import SOURCES
from radscribe.studies.study import Split

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
PIXELS = "pixels.bin"
MASKS = "masks.bin"
STUDIES = "studies.jsonl"
SPLITS_FILE = "splits.csv"
REJECTED = "rejected.csv"
#: Fields of a manifest with their types: those of every store, and those that a complete store also has.
_SETTINGS: dict[str, tuple[type, ...]] = {
    "complete": (bool,),
    "source": (str,),
    "reader": (str,),
    "reader_options": (dict,),
    "short_side": (int,),
    "split_fractions": (list,),
    "seed": (int,),
    "limit": (int, type(None)),
    "reduced_jpeg": (bool,),
}
_FINISHED: dict[str, tuple[type, ...]] = {"counts": (dict,), "bytes": (dict,), "content_hash": (str,)}
#: Folder within a store that holds the files of an update.
UPDATE = "update"
#: The files that an update replaces, in this order; the other files only grow.
_REPLACED = (STUDIES, SPLITS_FILE, REJECTED, SOURCES, MANIFEST)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a store, complete or not.

    Raises:
        RadScribeError: there is no store, it was written in another format, or the manifest is damaged.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise RadScribeError(
            f"no prepared store at {path}", f"Make one: radscribe prepare SOURCE --out {path}"
        )
    manifest = read_json_object(file, f"Remove {path} and prepare it again")
    version = manifest.get("format")
    if version != FORMAT_VERSION:
        raise RadScribeError(
            f"the store {path} has format {version}; this RadScribe reads format {FORMAT_VERSION}",
            f"Prepare it again from {manifest.get('source')}",
        )
    manifest.setdefault("reduced_jpeg", False)  # Earlier versions decoded every picture as a whole.
    needed = _SETTINGS | (_FINISHED if manifest.get("complete") else {})
    wrong = [
        name
        for name, types in needed.items()
        if name not in manifest or not isinstance(manifest[name], types)
    ]
    if not wrong and manifest["complete"]:
        wrong = [name for name in (PIXELS, MASKS) if not isinstance(manifest["bytes"].get(name), int)]
    if wrong:
        raise RadScribeError(
            f"{file} is damaged: it has no valid field '{wrong[0]}'", f"Remove {path} and prepare it again"
        )
    return manifest


def remedy(path: Path) -> str:
    """The hint that says what to do about a damaged store."""
    return f"Remove {path} and prepare it again from {read_manifest(path)['source']}"


def is_store(path: Path) -> bool:
    """Whether a folder holds a prepared store, complete or not."""
    return (path / MANIFEST).is_file() and (path / STUDIES).is_file() and (path / PIXELS).is_file()


def finish_update(path: Path) -> None:
    """Move the files of a finished update to the places of the old ones; see `update`.

    If it is killed at any moment, the next call goes on: the update's manifest is moved last.

    Raises:
        RadScribeError: the store cannot be written to.
    """
    new = path / UPDATE
    if not (new / MANIFEST).is_file():
        return
    for name in _REPLACED:
        try:
            os.replace(new / name, path / name)
        except FileNotFoundError:
            continue  # moved before, or by another process at this moment
        except OSError as error:
            raise RadScribeError(
                f"the finished update of the store {path} cannot replace its old files: {error.strerror}",
                f"Run any command on {path} as a user who may write there",
            ) from error
    shutil.rmtree(new, ignore_errors=True)


def read_splits(path: Path) -> dict[str, Split]:
    """The split of every study of a store, by study id.

    Raises:
        RadScribeError: the file is missing or damaged.
    """
    try:
        with open(path / SPLITS_FILE, newline="", **ENCODING) as file:
            return {row["study"]: row["split"] for row in csv.DictReader(file)}  # type: ignore[misc]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise RadScribeError(f"{path / SPLITS_FILE} is missing or damaged", remedy(path)) from error


def read_rejections(path: Path) -> list[Rejection]:
    """The rejections that `rejected.csv` in this folder lists.

    Raises:
        RadScribeError: the file is missing or damaged.
    """
    try:
        with open(path / REJECTED, newline="", **ENCODING) as file:
            return [Rejection(*row) for row in list(csv.reader(file))[1:]]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RadScribeError(f"{path / REJECTED} is missing or damaged", remedy(path)) from error


def content_hash(path: Path) -> str:
    """SHA-256 over `studies.jsonl`, whose lines hold the hash of each view, and `splits.csv`.

    Raises:
        RadScribeError: one of the two files cannot be read.
    """
    digest = hashlib.sha256()
    for name in (STUDIES, SPLITS_FILE):
        try:
            with open(path / name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise RadScribeError(f"cannot read {path / name}: {error.strerror}", remedy(path)) from error
    return digest.hexdigest()
