"""Scoring the drafts of any system from two files. torch is imported only if there are baselines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.evaluation.clinical import read_label_files
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.text_files import read_texts
from radscribe.text.cleaning import CleaningName
from radscribe.text.protocols import PROTOCOLS, ProtocolName
from radscribe.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class FileScoring:
    """Rules under which two files are scored. None leaves a rule out or means its default value.

    Attributes:
        protocol: Protocol to score under.
        cleaning: Name of the text cleaning; `iu_xray` by default.
        section: Report section that the baselines copy from the store; `findings` by default.
        vocabulary: File `vocabulary.json` of a run, for the protocol `r2gen`.
        tokenizer: Folder or hub name of a language model, for the protocol `r2gengpt`.
        maximum_length: Length at which references are cut, for protocols that cut them; 60 by default.
        store: Prepared store with the same studies, from which the baselines learn.
        retriever: Directory of a retriever, whose reports are one more baseline.
        draft_labels: Label file of the drafts, as CheXpert or CheXbert writes it.
        reference_labels: Label file of the references by the same labeller.
    """

    protocol: ProtocolName
    cleaning: CleaningName | None = None
    section: str | None = None
    vocabulary: Path | None = None
    tokenizer: str | None = None
    maximum_length: int | None = None
    store: Path | None = None
    retriever: Path | None = None
    draft_labels: Path | None = None
    reference_labels: Path | None = None

    def check(self) -> None:
        """Check that label files are given for both or neither, and that every rule has an effect.

        Raises:
            RadScribeError: an option is missing or has no effect; the message names it.
        """
        rules = PROTOCOLS[self.protocol]
        if (self.draft_labels is None) != (self.reference_labels is None):
            raise RadScribeError("--draft_labels and --reference_labels go together", "Give both, or neither")
        under = f"under the protocol {self.protocol}"
        refuse_ignored(
            under,
            vocabulary=None if rules.through_vocabulary else self.vocabulary,
            tokenizer=None if rules.through_tokenizer else self.tokenizer,
            maximum_length=None if rules.cuts else self.maximum_length,
            cleaning=None if rules.cleans or self.cleaning == "none" else self.cleaning,
        )
        if self.store is None:
            refuse_ignored("without --store", section=self.section, retriever=self.retriever)


def refuse_ignored(where: str, **options: object) -> None:
    """Raise an error if an option was given that has no effect, so that no option is ignored silently.

    Args:
        where: When the options have no effect, in words for the message.
        **options: Values of the options by name; an option with the value None was not given.

    Raises:
        RadScribeError: an option was given; the message names the first one.
    """
    for name, value in options.items():
        if value is not None:
            raise RadScribeError(f"--{name} has no effect {where}", f"Leave out --{name}")


def score_files(
    predictions: Path,
    references: Path,
    scoring: FileScoring,
    *,
    resamples: int,
    meteor: bool,
    files: MetricFiles | None = None,
    stress: bool = False,
) -> Evaluation:
    """Score drafts against references, with baselines if a store is given.

    Args:
        predictions: JSON Lines file of the drafts, with id and text.
        references: JSON Lines file of the reference reports, with the same ids.
        scoring: Rules to score under.
        resamples: Number of bootstrap resamples.
        meteor: Also compute METEOR, if Java is installed.
        files: Files of the metrics that a model computes; without them, there are no such metrics.
        stress: Also measure how far each score moves when texts are changed.

    Raises:
        RadScribeError: a file cannot be read, ids do not match, the protocol lacks what it needs, or a rule
            has no effect; see `FileScoring.check`.
    """
    scoring.check()
    protocol, cleaning = scoring.protocol, scoring.cleaning or "iu_xray"
    drafts, written = read_texts(predictions), read_texts(references)
    vocabulary = Vocabulary.load(scoring.vocabulary) if scoring.vocabulary else None
    maximum_length = None
    if PROTOCOLS[protocol].cuts:
        maximum_length = 60 if scoring.maximum_length is None else scoring.maximum_length
    tokenizer = None
    if scoring.tokenizer is not None:
        from radscribe.text.language_model_files import LanguageModelFiles
        from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

        tokenizer = LanguageModelTokenizer(LanguageModelFiles.find(scoring.tokenizer, tokenizer_only=True))
    learnt: dict[str, dict[str, str]] = {}
    retriever = None
    if scoring.store is not None:
        from radscribe.runs.config import DataConfig
        from radscribe.runs.retrieved_reports import retriever_for
        from radscribe.runs.scoring import baselines
        from radscribe.studies.store import PreparedStore

        prepared = PreparedStore(scoring.store)
        data = DataConfig(section=scoring.section or "findings", cleaning=cleaning, protocol=protocol)
        if maximum_length is not None:
            data.maximum_length = maximum_length
        studies = [prepared.study(study) for study in written]
        if scoring.retriever is not None:
            retriever = retriever_for(scoring.retriever, prepared, studies, data.section)
        learnt = baselines(prepared, studies, data, vocabulary, tokenizer, retriever)
    labels = None
    if scoring.draft_labels is not None and scoring.reference_labels is not None:
        labels = read_label_files(scoring.draft_labels, scoring.reference_labels, written)
    evaluation = evaluate_texts(
        drafts,
        written,
        protocol=protocol,
        cleaning=cleaning,
        vocabulary=vocabulary,
        maximum_length=maximum_length,
        tokenizer=tokenizer,
        baselines=learnt,
        resamples=resamples,
        meteor=meteor,
        labels=labels,
        files=files,
        stress=stress,
    )
    if retriever is None:
        return evaluation
    from radscribe.runs.scoring import with_retriever

    return with_retriever(evaluation, retriever)
