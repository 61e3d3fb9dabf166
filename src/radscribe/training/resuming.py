"""Resuming a run: its newest whole checkpoint, the fields that may change, and the command to resume it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from radscribe.errors import RadScribeError
from radscribe.interruption import check_empty
from radscribe.runs.config import RunConfig, field_names, save_config
from radscribe.runs.run_directory import RunDirectory
from radscribe.studies.store import PreparedStore
from radscribe.weights import read_newest, whole_or_not_at_all

#: The entries that a checkpoint must have: those of Lightning and our own.
_PARTS = (
    "state_dict",
    "optimizer_states",
    "lr_schedulers",
    "callbacks",
    "loops",
    "batches",
    "global_step",
    "epoch",
)
_FREE = (
    "clip_norm",
    "clip_value",
    "threads",
    "workers",
    "device",
    "checkpoint_every",
)
#: Fields that a resumed run may change, and in which direction.
CHANGEABLE = {f"training.{name}": "any" for name in _FREE} | {
    "training.epochs": "higher",
    "training.learning_rate": "lower",
    "training.backbone_learning_rate": "lower",
    "store": "any",  # another place of the same content
}


class Checkpoint(NamedTuple):
    """A checkpoint that was read and is whole.

    Attributes:
        path: The file of the checkpoint.
        step: Number of optimiser steps before it was saved.
        epoch: Number of the epoch of the last of these steps, counted from 1.
    """

    path: Path
    step: int
    epoch: int


def newest_checkpoint(run: RunDirectory) -> Checkpoint | None:
    """The newest whole checkpoint of a run, or None if no checkpoint was ever written; see `read_newest`.

    Raises:
        RadScribeError: there are checkpoints, and all are damaged.
    """
    found = read_newest(run.checkpoint, run.previous_checkpoint, _PARTS)
    if found is None:
        return None
    path, state = found
    return Checkpoint(path, int(state["global_step"]), int(state["epoch"]) + 1)


def check_new(run: RunDirectory) -> None:
    """Check that a run can begin in a directory.

    Raises:
        RadScribeError: there is a run already, or something else than the parts of its stages.
    """
    if run.config.is_file():
        raise RadScribeError(
            f"there is a run in '{run.path}' already", "Go on with it by --resume, or choose another --out"
        )
    check_empty(run.path, but=run.stages.name)


def check_same_store(run: RunDirectory, store: PreparedStore) -> None:
    """Check that the store of a resumed run has the same content as when the run began.

    Raises:
        RadScribeError: the content has changed, or the run does not say what it was.
    """
    before, now = run.read_facts().get("store_content_hash"), store.manifest["content_hash"]
    if before is None:
        raise RadScribeError(
            f"'{run.facts}' is missing or damaged: it does not say what the run learnt from "
            "(store_content_hash)",
            "Restore it from a copy, or begin anew with another --out",
        )
    if before != now:
        raise RadScribeError(
            f"'{store.path}' has changed since the run began", f"Its hash was {before}, it is {now}"
        )


def check_best_weights(run: RunDirectory) -> None:
    """Check that the best weights so far are there, because no later epoch may be better.

    Raises:
        RadScribeError: they are missing or damaged.
    """
    if "best" not in run.read_facts():
        return
    try:
        with safe_open(run.weights, "pt"):
            return
    except (SafetensorError, OSError) as error:
        raise RadScribeError(
            f"the best weights so far, '{run.weights}', are missing or damaged ({error})",
            "Restore them from a copy, or begin anew with another --out",
        ) from error


def keep_log_until(run: RunDirectory, step: int) -> None:
    """Remove the log lines of later steps, and an incomplete last line that a killed run may have left."""
    if not run.log.is_file():
        return
    kept = []
    for line in run.log.read_text().splitlines():
        try:
            later = json.loads(line)["step"] > step
        except (ValueError, KeyError, TypeError):
            continue
        if not later:
            kept.append(f"{line}\n")
    run.log.write_text("".join(kept))


def may_start_over(run: RunDirectory) -> bool:
    """Whether a run without a checkpoint may begin again: stopped in its first epoch, it loses nothing."""
    facts = run.read_facts()
    if facts.get("finished"):
        return False
    keep_log_until(run, sys.maxsize)
    lines = run.log.read_text().splitlines() if run.log.is_file() else []
    return all(json.loads(line)["epoch"] == 0 for line in lines)


def changes_between(before: RunConfig, now: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The fields that differ between two configurations, by dotted name, with both values."""
    old, new = ({**field_names(config), "store": config.store} for config in (before, now))
    return {name: (old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)}


def check_changes(run: RunDirectory, changes: Mapping[str, tuple[Any, Any]]) -> None:
    """Check that a resumed run may make these changes to its configuration.

    Raises:
        RadScribeError: names each field that may not change, with both values.
    """
    refused = []
    for name, (was, now) in changes.items():
        way = CHANGEABLE.get(name)
        if way is None:
            refused.append(f"{name} was {was}, not {now}")
        elif (way == "lower" and now > was) or (way == "higher" and now < was):
            refused.append(f"{name} was {was} and may only become {way}, not {now}")
    if refused:
        raise RadScribeError(
            f"the run in '{run.path}' was begun with another configuration: {'; '.join(refused)}",
            "Resume it without these, or begin anew with another --out. A resumed run may have more epochs, "
            f"lower learning rates, another store, and other {', '.join(_FREE)} of training",
        )


def record_changes(
    run: RunDirectory, config: RunConfig, changes: Mapping[str, tuple[Any, Any]], step: int
) -> None:
    """Record in `run.json` what was changed after which step, and save the new configuration.

    Args:
        run: The resumed run.
        config: The configuration of the run from now on.
        changes: The changes, as `changes_between` gives them.
        step: Number of optimiser steps before the change.
    """
    recorded = [
        {"step": step, "field": name, "before": was, "after": now} for name, (was, now) in changes.items()
    ]
    moved = store_facts(run, Path(config.store)) if "store" in changes else {}
    run.update_facts(changes=[*run.read_facts().get("changes", []), *recorded], **moved)
    with whole_or_not_at_all(run.config) as partial:
        save_config(config, partial)


def store_facts(run: RunDirectory, store: Path) -> dict[str, str]:
    """The entries of `run.json` that say where the store is."""
    absolute = store.absolute()
    return {"store": str(absolute), "store_relative": os.path.relpath(absolute, run.path.absolute())}


def resume_command(run: RunDirectory, config: RunConfig, **changes: Any) -> str:
    """The command that resumes a run.

    Args:
        run: The run to resume.
        config: The configuration of the run.
        **changes: Fields of `training` to change.
    """
    words = ["radscribe", "train", config.recipe, "--out", str(run.path), "--resume"]
    for name, value in changes.items():
        words += [f"--training.{name}", f"{value:g}"]
    return shlex.join(words)
