"""What `import radscribe` offers beside the types: a run is trained, scored, and asked for drafts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from radscribe.evaluation.result import Evaluation
from radscribe.recipes.configuration import configuration
from radscribe.runs.config import ProtocolName
from radscribe.runs.drafts import DraftReport
from radscribe.runs.explanation import Explanation
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.scoring import score_run
from radscribe.runs.trained_system import load
from radscribe.studies.given import Given
from radscribe.training import train as training


def train(
    recipe: str,
    *,
    store: Path | str,
    out: Path | str,
    progress: bool = True,
    **fields: Mapping[str, Any],
) -> RunDirectory:
    """Train a recipe on a prepared store, choose the weights on validation, and score the test split once.

    Args:
        recipe: the name of a recipe, such as `r2gen-cmn/phantom`.
        store: the prepared store.
        out: the run directory to write.
        progress: show progress.
        **fields: fields of the recipe to change, by section, as in `training={"epochs": 3}`.

    Returns:
        The run directory. `radscribe.load` takes it.

    Raises:
        RadScribeError: there is no such recipe or field, a value is wrong, or the training cannot be done.
    """
    return training.train(configuration(recipe, out, store=store, fields=fields), out, progress=progress)


def generate(run: Path | str, studies: Given, **options: Any) -> Iterator[DraftReport]:
    """Draft a report for each study with a trained run.

    Args:
        run: a run directory. To draft more than once, `radscribe.load` it and call its `generate`.
        studies: see `TrainedSystem.generate`.
        **options: see `TrainedSystem.generate`.

    Raises:
        RadScribeError: see `radscribe.load` and `TrainedSystem.generate`.
    """
    return load(run).generate(studies, **options)


def explain(run: Path | str, studies: Given, **options: Any) -> Iterator[Explanation]:
    """Draft a report for each study with a trained run, and show where it looked.

    Args:
        run: a run directory. To draft more than once, `radscribe.load` it and call its `explain`.
        studies: see `TrainedSystem.generate`.
        **options: see `TrainedSystem.explain`.

    Raises:
        RadScribeError: see `radscribe.load` and `TrainedSystem.explain`.
    """
    return load(run).explain(studies, **options)


def evaluate(
    run: Path | str,
    *,
    store: Path | str | None = None,
    split: str = "test",
    protocol: ProtocolName | None = None,
    retriever: Path | str | None = None,
    meteor: bool = True,
    resamples: int = 1000,
    progress: bool = True,
) -> Evaluation:
    """Score a run's drafts of a split beside the baselines. Printed, the result is the tables of scores.

    Args:
        run: a run directory.
        store: the store to score on; the one that the run was trained on unless given.
        split: `train`, `val`, `test` or `all`.
        protocol: the text rules; the run's own unless given.
        retriever: the directory of a retriever, whose reports are then scored beside the other baselines.
        meteor: also compute METEOR, which starts Java for some ten seconds, where Java is there.
        resamples: how many bootstrap resamples stand behind each interval.
        progress: show progress.

    Raises:
        RadScribeError: no study of the split has a report, a study cannot be read, or the retriever cannot be
            used.
    """
    directory = RunDirectory(run)
    prepared = directory.open_store(Path(store) if store else None)
    evaluation, _ = score_run(
        directory,
        prepared,
        split,
        protocol=protocol,
        retriever=retriever,
        meteor=meteor,
        resamples=resamples,
        progress=progress,
    )
    return evaluation
