"""A part: a directory with what a system starts from, made beforehand from the train split of a store.

`part.json` says what it is and where it came from, with the hash of every file that the part is loaded
from. The hashes are compared whenever it is loaded, and a run keeps the content hash of each part that it
was trained with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.files import read_json_object, sha256_of, write_whole
from radscribe.studies.store import PreparedStore

PART = "part.json"
#: Of `part.json`; a higher one is of a later RadScribe.
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What `part.json` says.

    Attributes:
        kind: what it is, by its name behind `radscribe pretrain`.
        format: version of `part.json`.
        settings: that it was made with.
        store_source: what the store was prepared from.
        store_content_hash: of the store.
        split: the only split that was learnt from.
        files: SHA-256 of each file that it is loaded from.
        content_hash: of kind and files.
    """

    kind: str
    format: int
    settings: dict[str, Any]
    store_source: str
    store_content_hash: str
    split: str
    files: dict[str, str]
    content_hash: str

    @classmethod
    def write(
        cls, path: Path, kind: str, files: Sequence[str], settings: Mapping[str, Any], store: PreparedStore
    ) -> Part:
        """Write `part.json` for files that are there.

        Args:
            path: the directory.
            kind: of the part.
            files: names of the files that it is loaded from.
            settings: that it was made with, ready for JSON.
            store: whose train split it was made from.
        """
        hashes = {name: sha256_of(path / name) for name in files}
        part = cls(
            kind=kind,
            format=FORMAT,
            settings=dict(settings),
            store_source=store.manifest["source"],
            store_content_hash=store.manifest["content_hash"],
            split="train",
            files=hashes,
            content_hash=content_hash(kind, hashes),
        )
        write_whole(path / PART, json.dumps(asdict(part), indent=2) + "\n")
        return part

    @classmethod
    def read(cls, path: Path, kind: str, files: Sequence[str]) -> Part:
        """Read `part.json`, and compare every file with its hash.

        Args:
            path: the directory.
            kind: what it must be.
            files: names of the files that it is loaded from.

        Raises:
            RadScribeError: it is missing, damaged, of another kind or of a later RadScribe, or a file is
                missing or not the one that was written.
        """
        again = f"Take it from a copy, or make it again: {make_command(kind)}"
        values = read_json_object(path / PART, again)
        if values.get("kind", kind) != kind:
            raise RadScribeError(f"'{path}' is of kind {values['kind']}, not {kind}", again)
        if values.get("format") != FORMAT:
            raise RadScribeError(
                f"'{path / PART}' has format {values.get('format')}, and this RadScribe reads {FORMAT}", again
            )
        if not _is_description(values) or sorted(values["files"]) != sorted(files):
            raise RadScribeError(f"'{path / PART}' is damaged: it does not describe a {kind}", again)
        part = cls(**values)
        if part.content_hash != content_hash(kind, part.files):
            raise RadScribeError(f"'{path / PART}' is damaged: its hashes do not fit each other", again)
        for name, expected in part.files.items():
            if (found := sha256_of(path / name, again)) != expected:
                raise RadScribeError(
                    f"'{path / name}' is not the file that was written: its sha256 is {found}, "
                    f"not {expected}",
                    again,
                )
        return part


def _is_description(values: Mapping[str, Any]) -> bool:
    """Whether values have the names and types of a `Part`."""
    kinds = {"format": int, "settings": dict, "files": dict}
    names = [field.name for field in fields(Part)]
    return sorted(values) == sorted(names) and all(
        isinstance(values[name], kinds.get(name, str)) for name in names
    )


def content_hash(kind: str, files: Mapping[str, str]) -> str:
    """The hash of a part's content, in hexadecimal digits.

    Args:
        kind: of the part.
        files: SHA-256 of each file by its name.
    """
    lines = [kind, *(f"{name} {files[name]}" for name in sorted(files))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def make_command(kind: str) -> str:
    """The command that makes a part."""
    return f"radscribe pretrain {kind} STORE --out DIR"
