"""Scoring a run on a split of a store, together with the baselines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from radscribe.errors import RadScribeError, warn
from radscribe.evaluation.baselines import best_constant_report, nearest_neighbour_reports
from radscribe.evaluation.bootstrap import check_resamples
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.evaluation.family import ClassifiedStudies
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.summary import short_summary
from radscribe.files import check_output, write_whole
from radscribe.observations import OBSERVATIONS
from radscribe.progress import track
from radscribe.runs.config import DataConfig
from radscribe.runs.drafts import DraftReport
from radscribe.runs.labels import labels_of
from radscribe.runs.localisation import localise
from radscribe.runs.model_card import write_model_card
from radscribe.runs.retrieved_reports import RETRIEVED, retrieved_reports, retriever_for
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.trained_system import load
from radscribe.runs.views import studies_with_report
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.text.protocols import ProtocolName, get_protocol
from radscribe.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radscribe.parts.retriever import Retriever
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer


def score_run(
    run: RunDirectory,
    store: PreparedStore,
    split: str,
    *,
    protocol: ProtocolName | None = None,
    retriever: Path | str | None = None,
    files: MetricFiles | None = None,
    meteor: bool = True,
    resamples: int = 1000,
    progress: bool = True,
    on_rejection: Callable[[Rejection], None] | None = None,
) -> tuple[Evaluation, list[DraftReport]]:
    """Draft the studies of a split, and score the drafts and the baselines.

    Args:
        run: Trained run to score.
        store: Prepared store to score on.
        split: Split to score: `train`, `val`, `test` or `all`.
        protocol: Protocol to score under; by default the run's own.
        retriever: Directory of a retriever, whose reports are scored as one more baseline.
        files: Files of the metrics that a model computes; without them, there are no such metrics.
        meteor: Also compute METEOR, if Java is installed.
        resamples: Number of bootstrap resamples.
        progress: Show the progress.
        on_rejection: Called with each study that cannot be drafted; without it, such a study is an error.

    Returns:
        The evaluation and the drafts that were scored.

    Raises:
        RadScribeError: no study of the split has a report, a study cannot be read, the protocol lacks what it
            needs, the retriever cannot be used (see `retriever_for`), or the number of resamples is out of
            range.
    """
    check_resamples(resamples)
    trained = load(run.path)
    data = dataclasses.replace(trained.config.data, protocol=protocol or trained.config.data.protocol)
    studies = studies_with_report(store.studies(split), data.section, split)
    rules: dict[str, Any] = {
        "cleaning": data.cleaning,
        "vocabulary": Vocabulary.load(run.vocabulary),
        "maximum_length": data.maximum_length,
        "tokenizer": trained.system.tokenizer,
    }
    get_protocol(data.protocol).check(**rules)
    learnt_on = _training_store(run, store)
    finder = retriever_for(retriever, learnt_on, studies, data.section) if retriever else None
    drafting = trained.generate(studies, on_rejection=on_rejection)
    drafts = list(track(drafting, len(studies), f"drafting {split}", "studies", show=progress))
    drafted = {draft.id: draft.text for draft in drafts}
    studies = sorted((study for study in studies if study.id in drafted), key=lambda study: study.id)
    classified, missing = _classified(drafts, studies, data)
    evaluation = evaluate_texts(
        drafted,
        {study.id: study.report(data.section) for study in studies},
        protocol=data.protocol,
        **rules,
        baselines=baselines(learnt_on, studies, data, rules["vocabulary"], rules["tokenizer"], finder),
        resamples=resamples,
        meteor=meteor,
        classified=classified,
        maps=localise(trained, studies, progress=progress),
        files=files,
    )
    evaluation = dataclasses.replace(evaluation, missing={**evaluation.missing, **missing})
    return with_retriever(evaluation, finder), drafts


class KeptEvaluation(NamedTuple):
    """Result of `score_and_keep`.

    Attributes:
        evaluation: Scores of the run and the baselines.
        rejections: Studies that could not be drafted.
        kept: One sentence that says where the scores are kept.
    """

    evaluation: Evaluation
    rejections: list[Rejection]
    kept: str


def score_and_keep(
    path: Path | str,
    store: Path | None,
    split: str,
    *,
    drafts_file: Path | None = None,
    protocol: ProtocolName | None = None,
    retriever: Path | None = None,
    files: MetricFiles | None = None,
    meteor: bool = True,
    resamples: int = 1000,
    progress: bool = True,
) -> KeptEvaluation:
    """Score a run as `score_run` does, and keep the scores in its directory.

    Problems that can be found before the drafting are raised before it.

    Args:
        path: Run directory.
        store: Prepared store to score on; by default the store that the run was trained on.
        split: Split to score: `train`, `val`, `test` or `all`.
        drafts_file: Further file to write the drafts to.
        protocol: Protocol to score under; by default the run's own.
        retriever: Directory of a retriever, whose reports are scored as one more baseline.
        files: Files of the metrics that a model computes; without them, there are no such metrics.
        meteor: Also compute METEOR, if Java is installed.
        resamples: Number of bootstrap resamples.
        progress: Show the progress.

    Raises:
        RadScribeError: the run cannot be scored, or the drafts cannot be written. Scores that cannot be kept
        are only a warning, so that a full disk does not waste hours of drafting.
    """
    run = RunDirectory(path)
    prepared = run.open_store(store)
    run.check_weights()
    if drafts_file:
        check_output(drafts_file, b'"logprob": ', "drafts")
        if not drafts_file.parent.is_dir():
            raise RadScribeError(
                f"cannot write drafts to '{drafts_file}'", "Give a file in a folder that exists"
            )
    rejections: list[Rejection] = []
    evaluation, drafts = score_run(
        run,
        prepared,
        split,
        protocol=protocol,
        retriever=retriever,
        files=files,
        meteor=meteor,
        resamples=resamples,
        progress=progress,
        on_rejection=rejections.append,
    )
    if drafts_file:
        write_drafts(drafts, drafts_file)
    try:
        kept = keep_scores(run, prepared, split, evaluation, drafts)
    except RadScribeError as error:
        warn(str(error), "They are printed, and not kept")
        kept = "Not kept"
    return KeptEvaluation(evaluation, rejections, kept)


def _classified(
    drafts: Sequence[DraftReport], studies: Sequence[Study], data: DataConfig
) -> tuple[ClassifiedStudies | None, dict[str, str]]:
    """Output of the system's classifier, with labels that are made like its training labels.

    Args:
        drafts: Drafts, which have probabilities if the system has a classifier.
        studies: All studies that were drafted, in the order of the result.
        data: Data configuration of the run.

    Returns:
        The output and labels, or None without a classifier or labels; and the reason why there are no labels.
    """
    found = {draft.id: draft.probabilities for draft in drafts}
    probabilities = []
    for study in studies:
        of_study = found[study.id]
        if of_study is None:
            return None, {}
        probabilities.append([of_study[name] for name in OBSERVATIONS])
    try:
        labels = labels_of(studies, data)
    except RadScribeError as error:  # only the scores of the classifier are lost
        return None, {"classifier": str(error)}
    policies = data.labels
    rules = f"labels from {policies.source}, uncertain {policies.uncertain}, missing {policies.missing}"
    return ClassifiedStudies(np.array(probabilities), labels, rules), {}


def scored_references(
    studies: Sequence[Study],
    data: DataConfig,
    vocabulary: Vocabulary | None,
    tokenizer: LanguageModelTokenizer | None = None,
) -> dict[str, str]:
    """The references of the studies by study id, as the protocol of `data` prepares them for scoring."""
    protocol = get_protocol(data.protocol)
    return {
        study.id: protocol.reference(
            study.report(data.section),
            cleaning=data.cleaning,
            vocabulary=vocabulary,
            maximum_length=data.maximum_length,
            tokenizer=tokenizer,
        )
        for study in studies
    }


def write_drafts(drafts: list[DraftReport], path: Path) -> None:
    """Write drafts as JSON Lines, whole or not at all; see `DraftReport.to_json`."""
    write_whole(path, "".join(json.dumps(draft.to_json()) + "\n" for draft in drafts))


def keep_scores(
    run: RunDirectory, store: PreparedStore, split: str, evaluation: Evaluation, drafts: list[DraftReport]
) -> str:
    """Write scores and drafts into the run directory, where the page of the run finds them.

    Scores that training wrote for its own test split are only overwritten by the same scores with further
    ones, of a retriever's baseline or of metrics that a model computes; the model card then shows them too.
    Scores under another protocol than the run's are not kept.

    Args:
        run: Run that was scored.
        store: Store that it was scored on.
        split: Split that was scored.
        evaluation: Scores of the run.
        drafts: Drafts that were scored.

    Returns:
        One sentence that says where the scores are.

    Raises:
        RadScribeError: the files cannot be written.
    """
    own_protocol = run.load_config().data.protocol
    if evaluation.provenance.protocol != own_protocol:
        return f"Not kept, for the run's own protocol is {own_protocol}. To keep them: --json > FILE"
    kept = run.kept_scores(store, split)
    own = kept.metrics == run.metrics and kept.metrics.is_file()
    if own and not _has_more(evaluation, kept.metrics):
        return f"{kept.metrics} stays as it was"
    try:
        kept.metrics.parent.mkdir(parents=True, exist_ok=True)
        write_drafts(drafts, kept.drafts)
        write_whole(kept.tables, f"{evaluation}\n")
        write_whole(kept.metrics, json.dumps(evaluation.to_json(), indent=2) + "\n")
        if own:
            write_whole(run.summary, f"{short_summary(evaluation)}\n")
            write_model_card(run)
    except OSError as error:
        raise RadScribeError(
            f"cannot keep the scores in '{kept.metrics.parent}': {error.strerror}"
        ) from error
    return f"Kept: {kept.metrics}, {kept.tables.name} and {kept.drafts.name}"


def _has_more(new: Evaluation, metrics: Path) -> bool:
    """Whether scores have all that a file of scores has, and a further baseline or scores."""
    old = Evaluation.read(metrics, "Delete it, and score again")
    if new.provenance.references_sha256 != old.provenance.references_sha256:
        return False
    before, after = (
        {(row, name): score for row, scores in evaluation.scores.items() for name, score in scores.items()}
        for evaluation in (old, new)
    )
    # Sums are added in another order where there are further columns, and differ in their last digits.
    kept = all(
        key in after and np.allclose(dataclasses.astuple(score), dataclasses.astuple(after[key]), atol=1e-9)
        for key, score in before.items()
    )
    return kept and before.keys() < after.keys()


def with_retriever(evaluation: Evaluation, retriever: Retriever | None) -> Evaluation:
    """The scores, with the retriever that found the reports of a baseline among their rules."""
    if retriever is None or retriever.part is None:
        return evaluation
    named = dataclasses.replace(evaluation.provenance, retriever=retriever.part.content_hash)
    return dataclasses.replace(evaluation, provenance=named)


def _training_store(run: RunDirectory, store: PreparedStore) -> PreparedStore:
    """The store that the baselines learn from: the one of the run's training, or `store` if that is gone."""
    try:
        path = run.find_store()
    except RadScribeError:
        return store
    return PreparedStore(path) if path != store.path else store


def baselines(
    store: PreparedStore,
    studies: Sequence[Study],
    data: DataConfig,
    vocabulary: Vocabulary | None,
    tokenizer: LanguageModelTokenizer | None = None,
    retriever: Retriever | None = None,
) -> dict[str, dict[str, str]]:
    """Drafts of the baselines by name: constant report, nearest neighbour, and retrieved report.

    Args:
        store: Store from whose train and val splits the baselines learn. Without reports there, only the
            retriever gives a baseline.
        studies: Studies that are scored.
        data: Gives the section, the cleaning and the protocol.
        vocabulary: Vocabulary of the training reports; needed by the protocol `r2gen`.
        tokenizer: Tokenizer of a language model; needed by the protocol `r2gengpt`.
        retriever: Retriever of the last baseline; without it, there is no such baseline.
    """
    retrieved = {} if retriever is None else {RETRIEVED: retrieved_reports(retriever, studies)}
    if not all(any(study.sections for study in store.studies(split)) for split in ("train", "val")):
        return retrieved
    protocol = get_protocol(data.protocol)
    train = studies_with_report(store.studies("train"), data.section, "train")
    validation = studies_with_report(store.studies("val"), data.section, "val")
    constant = best_constant_report(
        [protocol.hypothesis(study.report(data.section), cleaning=data.cleaning) for study in train],
        list(scored_references(validation, data, vocabulary, tokenizer).values()),
    )
    return {
        "constant report": {study.id: constant.text for study in studies},
        "nearest neighbour": nearest_neighbour_reports(train, studies, data.section),
        **retrieved,
    }
