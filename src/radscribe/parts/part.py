"""A part: a directory with a model that a system starts from, made from the train split of a store.

`part.json` says what the part is and where it came from, and has the hash of every file that the part is
loaded from. The hashes are compared whenever the part is loaded. A run keeps the content hash of each part
that it was trained with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

from radscribe.errors import RadScribeError
from radscribe.files import read_json_object, sha256_of, write_whole
from radscribe.studies.store import PreparedStore
from radscribe.vision.transforms import TransformConfig

PART = "part.json"
#: Version of the format of `part.json`; a later RadScribe may write a higher one.
FORMAT = 1
#: Split of a part that was not made from a store: nothing says what it learnt from.
UNKNOWN_SPLIT = "unknown"


class Origin(NamedTuple):
    """What a part was made from.

    Attributes:
        place: Path of the store; empty for a released file.
        source: The source that the store was prepared from, or the name of the released file.
        content_hash: Content hash of the store, or the SHA-256 of the released file.
        split: The only split that the part learnt from; `unknown` for a released file.
    """

    place: str
    source: str
    content_hash: str
    split: str

    @classmethod
    def of(cls, store: PreparedStore) -> Self:
        """The origin of a part that learns from the train split of a store."""
        return cls(str(store.path), store.manifest["source"], store.manifest["content_hash"], "train")

    @classmethod
    def released(cls, file: Path) -> Self:
        """The origin of a part that is made from a released file."""
        return cls("", f"released file {file.name}", sha256_of(file), UNKNOWN_SPLIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The content of `part.json`.

    Attributes:
        kind: Kind of the part, by its name after `radscribe pretrain`.
        format: Version of the format of `part.json`.
        settings: Settings that the part was made with.
        store_source: The source that the store was prepared from, or the name of a released file.
        store_content_hash: Content hash of the store, or the SHA-256 of a released file.
        split: The only split that the part learnt from; `unknown` if the part is from a released file.
        files: SHA-256 of each file that the part is loaded from.
        content_hash: Hash of the kind and the files.
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
        cls,
        path: Path,
        kind: str,
        files: Sequence[str],
        settings: Mapping[str, Any],
        made_from: PreparedStore | Origin,
    ) -> Part:
        """Write `part.json` for files that are already in the directory.

        Args:
            path: The directory of the part.
            kind: Kind of the part.
            files: Names of the files that the part is loaded from.
            settings: Settings that the part was made with, ready for JSON.
            made_from: The store that the part learnt from, by its train split; or another origin.
        """
        origin = made_from if isinstance(made_from, Origin) else Origin.of(made_from)
        hashes = {name: sha256_of(path / name) for name in files}
        part = cls(
            kind=kind,
            format=FORMAT,
            settings=dict(settings),
            store_source=origin.source,
            store_content_hash=origin.content_hash,
            split=origin.split,
            files=hashes,
            content_hash=content_hash(kind, hashes),
        )
        write_whole(path / PART, json.dumps(asdict(part), indent=2) + "\n")
        return part

    @classmethod
    def read(cls, path: Path, kind: str, files: Sequence[str] | None = None) -> Part:
        """Read `part.json`, and compare every file with its hash.

        Args:
            path: The directory of the part.
            kind: The kind that the part must have.
            files: Names of the files that the part is loaded from; without them, any files will do.

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
        if not _is_description(values) or (files and sorted(values["files"]) != sorted(files)):
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
    """Whether `values` have the names and types of the fields of a `Part`."""
    kinds = {"format": int, "settings": dict, "files": dict}
    names = [field.name for field in fields(Part)]
    return sorted(values) == sorted(names) and all(
        isinstance(values[name], kinds.get(name, str)) for name in names
    )


def content_hash(kind: str, files: Mapping[str, str]) -> str:
    """The hash of a part's content, in hexadecimal digits.

    Args:
        kind: Kind of the part.
        files: SHA-256 of each file, by the file's name.
    """
    lines = [kind, *(f"{name} {files[name]}" for name in sorted(files))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_same_views(kind: str, own: TransformConfig, transform: TransformConfig) -> None:
    """Check that a part takes the views of a system as they are.

    Args:
        kind: Kind of the part.
        own: Image geometry that the part was trained with.
        transform: Image geometry of the system.

    Raises:
        RadScribeError: the part was trained with views of another size.
    """
    if (own.short_side, own.crop, own.evaluation) != (
        transform.short_side,
        transform.crop,
        transform.evaluation,
    ):
        raise RadScribeError(
            f"the {kind} was trained with views of {own.crop} pixels from a short side of "
            f"{own.short_side} ({own.evaluation}), and the system's have {transform.crop} from "
            f"{transform.short_side} ({transform.evaluation})",
            f"Train one that fits: {make_command(kind)} --short_side {transform.short_side} "
            f"--crop {transform.crop}",
        )


def make_command(kind: str) -> str:
    """The command that makes a part of this kind."""
    return f"radscribe pretrain {kind} STORE --out DIR"
