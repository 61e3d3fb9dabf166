"""`pretraining.json`: how a model was pretrained, and what must be the same when its training is resumed."""

from __future__ import annotations

import json
import platform
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from radscribe.about import VERSION
from radscribe.errors import RadScribeError
from radscribe.files import read_json_object, write_whole
from radscribe.parts.part import Origin
from radscribe.pretraining.settings import PretrainingSettings
from radscribe.studies.store import PreparedStore

FACTS = "pretraining.json"
_DAMAGED = "Restore it from a copy, or begin anew with another --out"


def begun_facts(
    kind: str, made_from: PreparedStore | Origin, settings: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """The facts of a training that begins now.

    Args:
        kind: Kind of pretraining.
        made_from: The store that the model learns from, or another origin.
        settings: The settings that decide what is learnt, ready for JSON.
        inputs: Further facts about the data that the model learns from.
    """
    origin = made_from if isinstance(made_from, Origin) else Origin.of(made_from)
    return {
        "kind": kind,
        "radscribe": VERSION,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "settings": dict(settings),
        "store": origin.place,
        "store_source": origin.source,
        "store_content_hash": origin.content_hash,
        **inputs,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "finished": False,
    }


def write_facts(out: Path, facts: Mapping[str, Any]) -> None:
    """Write `pretraining.json`, whole or not at all."""
    write_whole(out / FACTS, json.dumps(facts, indent=2) + "\n")


def resumed_facts(out: Path, now: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Read the facts of the training in a directory, and check that it is the training to resume.

    Args:
        out: The directory of the training.
        now: The facts that the training would have if it began now.
        usual: The defaults of its settings, by name.

    Raises:
        RadScribeError: there is no training, it is damaged, or it was begun with other settings or inputs;
            the error names each with both values.
    """
    if not (out / FACTS).is_file():
        raise RadScribeError(
            f"there is no training to resume in '{out}'",
            "Leave out --resume to begin it, with an empty --out",
        )
    before = read_json_object(out / FACTS, _DAMAGED)
    try:
        different = differences(before, now, usual)
        before["finished"]
    except (KeyError, TypeError) as error:
        raise RadScribeError(
            f"'{out / FACTS}' is damaged ({type(error).__name__}: {error})", _DAMAGED
        ) from error
    if different:
        raise RadScribeError(
            f"the training in '{out}' was begun with other settings or data: {'; '.join(different)}",
            "Resume it with the settings and data that it was begun with, or begin anew with another --out",
        )
    return before


def differences(before: Mapping[str, Any], now: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """The differences between two trainings, in words; empty if both would learn the same.

    A setting that the RadScribe did not have which began the first has its default there.

    Args:
        before: The facts of a training that was begun.
        now: The facts of another: its kind, settings, content hash of the store, and text files.
        usual: The defaults of the settings of its kind, by name.

    Raises:
        KeyError: `before` lacks one of these.
    """
    kind = before.get("kind", "language-model")  # the only kind that earlier versions could resume
    if kind != now["kind"]:
        return [f"it was {kind}, is {now['kind']}"]
    settings = {**usual, **before["settings"]}
    different = [
        f"{name} was {settings.get(name)}, is {value}"
        for name, value in now["settings"].items()
        if settings.get(name) != value
    ]
    if before["store_content_hash"] != now["store_content_hash"]:
        different.append(
            f"the store was {before['store']} with another content: its hash was "
            f"{before['store_content_hash'][:12]}, is {now['store_content_hash'][:12]}"
        )
    texts = [
        {file["sha256"]: file["file"] for file in facts.get("text_files", [])} for facts in (before, now)
    ]
    if list(texts[0]) != list(texts[1]):
        was, now_is = (", ".join(files.values()) or "none" for files in texts)
        different.append(f"the text files are not the same: they were {was}, are {now_is}")
    return different


def usual_settings(settings: Any) -> dict[str, Any]:
    """The defaults of all settings of the kind of pretraining that these settings are for, by name."""
    return {field.name: field.default for field in fields(settings)}


def resume_command(kind: str, store: PreparedStore, out: Path, settings: PretrainingSettings) -> str:
    """The command that resumes a training."""
    words = ["radscribe", "pretrain", kind, str(store.path), "--out", str(out), "--resume"]
    usual = usual_settings(settings)
    for name, value in asdict(settings).items():
        if value != usual[name]:
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return shlex.join(words)
