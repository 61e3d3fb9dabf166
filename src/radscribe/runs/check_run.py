"""Checking that a run directory is whole: reads all files, and compares the weights with their hash."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from radscribe.errors import RadScribeError
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.text_files import read_texts
from radscribe.studies.check_store import Checked, check_store
from radscribe.studies.store_files import MANIFEST
from radscribe.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radscribe.runs.run_directory import RunDirectory


def check_directory(path: Path) -> list[Checked]:
    """Check every part of a prepared store or of a run directory.

    Args:
        path: Directory of the store or of the run.

    Raises:
        RadScribeError: the directory is neither a store nor a run.
    """
    if (path / MANIFEST).exists():
        return check_store(path)
    if (path / "config.yaml").exists() or (path / "run.json").exists():
        return check_run(path)
    raise RadScribeError(
        f"'{path}' is neither a run directory nor a prepared store",
        "Give what radscribe train, interop import or prepare wrote",
    )


def check_run(path: Path) -> list[Checked]:
    """Check every part of a run directory.

    Args:
        path: Run directory.
    """
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.runs.run_parts import part_path, read_parts
    from radscribe.runs.unlikeness import facts_of_training_features, load_training_features

    run = RunDirectory(path)

    def facts() -> str:
        found = run.read_facts()
        if not found:
            raise RadScribeError("there is none", "Take it from a copy of the run")
        return f"trained on {run.trained_on}"

    def weights() -> str:
        system = run.load_system()
        known = "the hash on record" if "weights_sha256" in run.read_facts() else "NO hash on record"
        return f"{len(system.own_state_dict())} tensors that fit and are finite, {known}"

    def features() -> str:
        load_training_features(run)
        facts = facts_of_training_features(run)
        if facts is None:
            return "of other weights than the present ones, so it is not used"
        return f"statistics of {facts['train']} training studies, with the hash on record"

    def parts() -> str:
        said = []
        needed = run.load_config().system.parts
        for name, part in read_parts(run.path).items():
            if name in needed:
                part.check(part_path(run.path, part.kind))
                said.append(f"{name} is in the run, with the hash on record")
            elif Path(part.path).exists():
                part.check(part.path)
                said.append(f"{name} is in '{part.path}', with the hash on record")
            else:
                said.append(f"{name} is no longer in '{part.path}'; only training needs it")
        return "; ".join(said)

    def scores() -> str:
        Evaluation.read(run.metrics, "Score the run again")
        return "scores of the test split"

    checks = [
        (run.facts, facts),
        (run.config, lambda: f"recipe {run.load_config().recipe}"),
        (run.vocabulary, lambda: f"{len(Vocabulary.load(run.vocabulary))} words"),
        (run.weights, weights),
    ]
    if run.features.exists() or facts_of_training_features(run):
        checks.append((run.features, features))
    if run.parts.exists():
        checks.append((run.parts, parts))
    if run.log.exists():
        checks.append((run.log, lambda: f"{len(run.read_log())} entries"))
    if run.metrics.exists():
        checks.append((run.metrics, scores))
    for path in sorted(run.path.glob("drafts.*.jsonl")):
        checks.append((path, partial(_check_drafts, run, path)))
    return [Checked.of(file.name, check) for file, check in checks]


def _check_drafts(run: RunDirectory, path: Path) -> str:
    drafts, scored = read_texts(path), None
    with suppress(RadScribeError):  # the metrics may be damaged; they have their own check
        if path == run.drafts("test"):
            scored = Evaluation.read(run.metrics, "").provenance.studies
    if scored not in (None, len(drafts)):
        raise RadScribeError(f"it has {len(drafts)} drafts, and {scored} were scored", "Score the run again")
    return f"{len(drafts)} drafts"
