"""The stages of a training: what is missing is made in order, what is there is used again, then it trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.interruption import StopRequest, disk_errors_explained, only_training
from radscribe.runs.config import RunConfig, nested, override, save_config
from radscribe.runs.run_directory import RunDirectory
from radscribe.studies.store import PreparedStore
from radscribe.training.resuming import check_new, resume_command
from radscribe.training.stage import Stage, State, stages_of
from radscribe.training.train import check_rates, open_studies, train, with_store
from radscribe.weights import whole_or_not_at_all


def on_standard_error(line: str) -> None:
    """Print what a stage says on standard error, where the progress is shown."""
    print(line, file=sys.stderr, flush=True)


def to_nobody(line: str) -> None:
    """Leave unsaid what a stage says."""


def run_stages(
    config: RunConfig,
    out: Path | str,
    names: Sequence[str] | None = None,
    *,
    progress: bool = True,
    tell: Callable[[str], object] = to_nobody,
) -> RunConfig:
    """Make the parts that a configuration needs and does not name; those that are finished are used again.

    Args:
        config: The configuration; `config.store` names the prepared store.
        out: The run directory.
        names: Kinds of the parts to make; by default all.
        progress: Show the progress of each stage.
        tell: Takes what is said at the beginning and the end of each stage.

    Returns:
        The configuration that names the parts which were made or used again.

    Raises:
        RadScribeError: there is no such stage, a part was made with other settings or from another store, or
            a part cannot be made.
        InterruptionError: it was stopped by Ctrl-C; the error says what is saved and how to go on.
    """
    run, stages = RunDirectory(out), stages_of(config, out)
    if names is not None:
        stages = _chosen(stages, names, config)
    if not stages:
        return config
    config = with_store(config)
    store = PreparedStore(config.store)
    command = resume_command(run, config)
    if names is not None:
        command += f" --stages {','.join(names)}"
    room = f"Make room there or put it right, and go on: {command}"
    made: dict[str, Any] = {}
    with only_training(run.path), disk_errors_explained(run.path, room):
        states = [stage.state(store) for stage in stages]
        for stage, state in zip(stages, states, strict=True):
            stage.check(state)
        if any(state.name in ("missing", "unfinished") for state in states):
            run.stages.mkdir(exist_ok=True)
            with whole_or_not_at_all(run.stages_config) as file:
                save_config(config, file)
        for stage, state in zip(stages, states, strict=True):
            with StopRequest(partial(_stopped, stage, command)):
                _run_one(stage, state, store, progress, command, tell)
            if state.name != "given" and stage.option:
                made[stage.option.removeprefix("--")] = str(stage.path.absolute())
    return override(config, nested(made))


def _stopped(stage: Stage, command: str) -> tuple[str, str]:
    """Message and advice after Ctrl-C where the stage itself has none."""
    return f"stopped in stage {stage.kind}; what was finished before is kept", f"Go on: {command}"


def _run_one(
    stage: Stage,
    state: State,
    store: PreparedStore,
    progress: bool,
    command: str,
    tell: Callable[[str], object],
) -> None:
    """Run a stage unless there is nothing to do, and tell what is done."""
    if state.name == "given":
        tell(f"stage {stage.kind}: {state.words}")
    elif state.name == "finished":
        tell(f"stage {stage.kind}: reused, {stage.path} (hash {stage.content_hash()[:12]})")
    else:
        goes_on = "" if state.name == "missing" else f", {state.words}"
        tell(f"stage {stage.kind}: begins in {stage.path}{goes_on}")
        began = time.monotonic()
        tell(stage.run(state, store, progress=progress, command=command))
        seconds = time.monotonic() - began
        tell(f"stage {stage.kind}: done in {seconds:.0f} s, {stage.path} (hash {stage.content_hash()[:12]})")


def _chosen(stages: Sequence[Stage], names: Sequence[str], config: RunConfig) -> list[Stage]:
    known = [stage.kind for stage in stages]
    if unknown := [name for name in names if name not in known]:
        raise RadScribeError(
            f"recipe {config.recipe} has no stage '{unknown[0]}'",
            f"Its stages: {', '.join(known) or 'none'}; look at them with --stages list",
        )
    return [stage for stage in stages if stage.kind in names]


def train_in_stages(
    config: RunConfig,
    out: Path | str,
    *,
    resume: bool = False,
    progress: bool = True,
    tell: Callable[[str], object] = to_nobody,
) -> RunDirectory:
    """Make the parts that are missing, and then train.

    Args:
        config: The complete configuration; `config.store` names the prepared store.
        out: The run directory.
        resume: Go on with the run. If its training has not begun yet, its stages go on, which they do without
            this too.
        progress: Show the progress.
        tell: Takes what is said at the beginning and the end of each stage.

    Raises:
        RadScribeError: see `run_stages` and `train`.
        InterruptionError: it was stopped by Ctrl-C; the error says what is saved and how to go on.
    """
    run = RunDirectory(out)
    if run.config.is_file() or (resume and not run.stages_config.is_file()):
        # A run that has begun keeps its parts; and where nothing has begun, the training says so.
        return train(config, out, resume=resume, progress=progress)
    if run.path.is_dir():
        check_new(run)
    if any(not stage.given for stage in stages_of(config, out)):
        check_rates(config.training)  # what is wrong with the training is said before its parts are made
        open_studies(with_store(config))
        config = run_stages(config, out, progress=progress, tell=tell)
    return train(config, out, progress=progress)


def stages_table(config: RunConfig, out: Path | str) -> str:
    """The stages of a configuration and its training, with their states, for people.

    Args:
        config: The configuration. Without a store, parts are not compared with it.
        out: The run directory.

    Raises:
        RadScribeError: the store cannot be opened.
    """
    run, stages = RunDirectory(out), stages_of(config, out)
    store = PreparedStore(config.store) if config.store else None
    lines = []
    for number, stage in enumerate(stages, start=1):
        changed = ", ".join(f"{name} {value}" for name, value in stage.changed.items())
        lines.append(f"{number:>2} {stage.kind:24}{_said(stage, store)}")
        if not stage.given:
            lines += [
                f"      makes     {stage.entry.summary}",
                f"      in        {stage.path}",
                f"      settings  {changed + '; others are the defaults' if changed else 'the defaults'}",
            ]
    facts = run.read_facts()
    begun = "finished" if facts.get("finished") else "begun" if facts else "not begun"
    lines += [f"{len(stages) + 1:>2} {'training':24}{begun}", f"      in        {run.path}"]
    return "\n".join([f"   {'stage':24}state", *lines])


def _said(stage: Stage, store: PreparedStore | None) -> str:
    """The state of a stage in words, with what is not as it is asked for."""
    try:
        state = stage.state(store)
    except RadScribeError as error:
        return str(error)
    return f"{state.words}{', but ' if state.different else ''}{'; '.join(state.different)}"
