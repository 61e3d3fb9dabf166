"""The parts that a run was trained with: `parts.json` has their kinds, paths and content hashes.

The parts of its system, which drafting needs as well, are copied into the run. Of others, such as a view
classifier, the run only keeps where they were.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError, warn
from radscribe.files import read_json_object, sha256_of, write_whole
from radscribe.parts.part import UNKNOWN_SPLIT, Part, make_command
from radscribe.parts.view_classifier import KIND, WEIGHTS, ViewClassifier
from radscribe.runs.config import RunConfig
from radscribe.studies.store import PreparedStore

#: The file of a run that lists its parts.
PARTS = "parts.json"
_DAMAGED = "Take the file from a copy of the run, or train it again"


@dataclass(frozen=True, slots=True)
class RunPart:
    """A part that a run was trained with.

    Attributes:
        kind: Kind of the part, which is its name in `radscribe pretrain`.
        path: Absolute path where the part was.
        content_hash: Hash of the content of the part.
    """

    kind: str
    path: str
    content_hash: str

    def check(self, path: Path | str) -> None:
        """Check that a directory holds this part.

        Raises:
            RadScribeError: the content differs, or there is no part of this kind.
        """
        found = ViewClassifier.content_hash(path) if self.kind == KIND else _hash_of(path, self.kind)
        if found != self.content_hash:
            raise RadScribeError(
                f"the {self.kind} in '{path}' is not the one that the run was trained with",
                f"Its content hash was {self.content_hash}, it is {found}: put the right one there",
            )


def part_path(run: Path, kind: str) -> Path:
    """Where a run keeps a part that drafting needs."""
    return run / "parts" / kind


def _hash_of(path: Path | str, kind: str) -> str:
    return Part.read(Path(path), kind).content_hash


def parts_of(config: RunConfig) -> dict[str, RunPart]:
    """The parts that a configuration names, by field name, with the hashes that they have now.

    Raises:
        RadScribeError: a part is missing or damaged.
    """
    parts = {}
    if place := config.data.view_classifier:
        parts["view_classifier"] = RunPart(
            KIND, str(Path(place).absolute()), ViewClassifier.content_hash(place)
        )
    for name, kind in config.system.parts.items():
        if not (place := getattr(config.system, name)):
            raise RadScribeError(
                f"{config.recipe} needs the part {kind}",
                f"Make it with {make_command(kind)}, and pass --system.{name} DIR",
            )
        parts[name] = RunPart(kind, str(Path(place).absolute()), _hash_of(place, kind))
    return parts


def check_origin(config: RunConfig, store: PreparedStore) -> None:
    """Check what the parts of a system were made from, for what they learnt must not be scored later.

    A part from another data set, or from a released file, is used with a warning.

    Args:
        config: Configuration that names the parts.
        store: Store to train on.

    Raises:
        RadScribeError: a part was made from another store of the same source, whose train split may have
            studies of this store's val and test splits.
    """
    for name, kind in config.system.parts.items():
        place = getattr(config.system, name)
        part = Part.read(Path(place), kind)
        if part.store_content_hash == store.manifest["content_hash"]:
            continue
        again = f"Make one from this store: {make_command(kind).replace('STORE', str(store.path))}"
        if part.split == UNKNOWN_SPLIT:
            warn(
                f"the {kind} in '{place}' is from {part.store_source}: nothing says which studies it was "
                "made from, and they may be val or test here",
                again,
            )
            continue
        if part.store_source == store.manifest["source"]:
            raise RadScribeError(
                f"the {kind} in '{place}' was made from another store of '{part.store_source}', and may have "
                "learnt from studies that are val or test here",
                again,
            )
        warn(f"the {kind} in '{place}' was made from another data set, '{part.store_source}'", again)


def record_parts(run: Path, config: RunConfig) -> None:
    """Write `parts.json`, and copy the parts of the system into the run; a run without parts has neither."""
    parts = parts_of(config)
    if not parts:
        return
    for name, kind in config.system.parts.items():
        source, own = Path(parts[name].path), part_path(run, kind)
        if source.resolve() != own.resolve():
            shutil.copytree(source, own, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoints"))
    values = {name: asdict(part) for name, part in parts.items()}
    write_whole(run / PARTS, json.dumps(values, indent=2) + "\n")


def with_own_parts(run: Path, config: RunConfig) -> RunConfig:
    """A copy of the configuration that names the parts of the system where the run has them.

    Raises:
        RadScribeError: a part is missing, damaged, or not the one that the run was trained with.
    """
    config = copy.deepcopy(config)
    recorded = read_parts(run)
    for name, kind in config.system.parts.items():
        own = part_path(run, kind)
        if name not in recorded:
            raise RadScribeError(
                f"'{run / PARTS}' is missing or damaged: it does not list the {kind}", _DAMAGED
            )
        recorded[name].check(own)
        setattr(config.system, name, str(own))
    return config


def read_parts(run: Path) -> dict[str, RunPart]:
    """The parts that `parts.json` lists, by field name; empty if there is no such file.

    Raises:
        RadScribeError: the file is damaged.
    """
    if not (run / PARTS).exists():
        return {}
    try:
        return {name: RunPart(**values) for name, values in read_json_object(run / PARTS, _DAMAGED).items()}
    except TypeError as error:
        raise RadScribeError(f"'{run / PARTS}' is damaged: {error}", _DAMAGED) from error


def check_parts(run: Path, config: RunConfig, facts: Mapping[str, Any]) -> None:
    """Check that the parts of a run are the same as when it was begun.

    Args:
        run: Directory of the run to check.
        config: Configuration that says where the parts are now.
        facts: Content of `run.json`.

    Raises:
        RadScribeError: a part is missing or differs, or the run does not record what it was.
    """
    place = config.data.view_classifier
    if not place:
        return
    recorded = read_parts(run)
    if "view_classifier" in recorded:
        recorded["view_classifier"].check(place)
        return
    # Earlier versions wrote no parts.json, but kept the hash of the weights in run.json.
    expected = facts.get("view_classifier_sha256")
    if expected is None:
        raise RadScribeError(
            f"'{run / PARTS}' is missing or damaged: it does not say which view classifier the run learnt "
            "from",
            "Restore it from a copy, or begin anew with another --out",
        )
    ViewClassifier.content_hash(place)
    if (found := sha256_of(Path(place) / WEIGHTS)) != expected:
        raise RadScribeError(
            f"the {KIND} in '{place}' is not the one that the run was trained with",
            f"The sha256 of its weights was {expected}, it is {found}: put the right one there",
        )
