"""The functions of the Python interface: train a run, draft reports with it, explain its drafts, and score
it.
"""

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
from radscribe.training.stages import on_standard_error, to_nobody, train_in_stages


def train(
    recipe: str,
    *,
    store: Path | str,
    out: Path | str,
    progress: bool = True,
    **fields: Mapping[str, Any],
) -> RunDirectory:
    """Train a recipe on a prepared store, choose the weights on validation, and score the test split once.

    Parts that the recipe needs and does not name are made first, in the folder `parts` of the run directory;
    those that an earlier call left there are used again.

    Args:
        recipe: Name of a recipe, such as `r2gen-cmn/phantom`.
        store: Prepared store to train on.
        out: Run directory to write.
        progress: Show progress.
        **fields: Fields of the recipe to change, by section, as in `training={"epochs": 3}`.

    Returns:
        The run directory. `radscribe.load` takes it.

    Raises:
        RadScribeError: there is no such recipe or field, a value is wrong, or the training cannot be done.
    """
    config = configuration(recipe, out, store=store, fields=fields)
    tell = on_standard_error if progress else to_nobody
    return train_in_stages(config, out, progress=progress, tell=tell)


def generate(run: Path | str, studies: Given, **options: Any) -> Iterator[DraftReport]:
    """Draft a report for each study with a trained run.

    Args:
        run: Run directory. To draft more than once, `radscribe.load` it and call its `generate`.
        studies: Studies to draft reports for; see `TrainedSystem.generate`.
        **options: Options of `TrainedSystem.generate`.

    Raises:
        RadScribeError: see `radscribe.load` and `TrainedSystem.generate`.
    """
    return load(run).generate(studies, **options)


def explain(run: Path | str, studies: Given, **options: Any) -> Iterator[Explanation]:
    """Draft a report for each study with a trained run, and show where it looked.

    Args:
        run: Run directory. To draft more than once, `radscribe.load` it and call its `explain`.
        studies: Studies to draft reports for; see `TrainedSystem.generate`.
        **options: Options of `TrainedSystem.explain`.

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
    """Score a run's drafts of one split, and the baselines too. `print` shows the result as tables of scores.

    Args:
        run: Run directory.
        store: Store to score on. Without it, the store that the run was trained on.
        split: Split to score: `train`, `val`, `test` or `all`.
        protocol: Text rules of the score. Without them, the run's own protocol.
        retriever: Directory of a retriever. The reports that it finds are scored as one more baseline.
        meteor: Also compute METEOR where Java is installed. This starts Java and takes about ten seconds.
        resamples: Number of bootstrap resamples behind each interval.
        progress: Show progress.

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
