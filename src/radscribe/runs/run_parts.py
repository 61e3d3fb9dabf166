"""The parts that a run was trained with, kept in `parts.json` with their kinds, paths and content hashes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.files import read_json_object, sha256_of, write_whole
from radscribe.parts.view_classifier import KIND, WEIGHTS, ViewClassifier
from radscribe.runs.config import RunConfig
from radscribe.runs.run_directory import RunDirectory

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
        if (found := ViewClassifier.content_hash(path)) != self.content_hash:
            raise RadScribeError(
                f"the {self.kind} in '{path}' is not the one that the run was trained with",
                f"Its content hash was {self.content_hash}, it is {found}: put the right one there",
            )


def parts_of(config: RunConfig) -> dict[str, RunPart]:
    """The parts that a configuration names, by field name, with the hashes that they have now.

    Raises:
        RadScribeError: a part is missing or damaged.
    """
    place = config.data.view_classifier
    if not place:
        return {}
    part = RunPart(KIND, str(Path(place).absolute()), ViewClassifier.content_hash(place))
    return {"view_classifier": part}


def record_parts(run: RunDirectory, config: RunConfig) -> None:
    """Write `parts.json`; a run without parts has no such file."""
    if parts := parts_of(config):
        values = {name: asdict(part) for name, part in parts.items()}
        write_whole(run.parts, json.dumps(values, indent=2) + "\n")


def read_parts(run: RunDirectory) -> dict[str, RunPart]:
    """The parts that `parts.json` lists, by field name; empty if there is no such file.

    Raises:
        RadScribeError: the file is damaged.
    """
    if not run.parts.exists():
        return {}
    try:
        return {name: RunPart(**values) for name, values in read_json_object(run.parts, _DAMAGED).items()}
    except TypeError as error:
        raise RadScribeError(f"'{run.parts}' is damaged: {error}", _DAMAGED) from error


def check_parts(run: RunDirectory, config: RunConfig) -> None:
    """Check that the parts of a run are the same as when it was begun.

    Args:
        run: Run to check.
        config: Configuration that says where the parts are now.

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
    expected = run.read_facts().get("view_classifier_sha256")
    if expected is None:
        raise RadScribeError(
            f"'{run.parts}' is missing or damaged: it does not say which view classifier the run learnt from",
            "Restore it from a copy, or begin anew with another --out",
        )
    ViewClassifier.content_hash(place)
    if (found := sha256_of(Path(place) / WEIGHTS)) != expected:
        raise RadScribeError(
            f"the {KIND} in '{place}' is not the one that the run was trained with",
            f"The sha256 of its weights was {expected}, it is {found}: put the right one there",
        )
