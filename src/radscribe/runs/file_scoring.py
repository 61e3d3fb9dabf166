"""Scoring the drafts of any system, from two files. torch is imported only where there are baselines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.evaluation.clinical import read_label_files
from radscribe.evaluation.evaluate import evaluate_texts
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.text_files import read_texts
from radscribe.text.cleaning import CleaningName
from radscribe.text.protocols import PROTOCOLS, ProtocolName
from radscribe.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class FileScoring:
    """What two files are scored under. None leaves a field out, or stands for its usual value.

    Attributes:
        protocol: the text rules.
        cleaning: the text cleaning; `iu_xray` unless given.
        section: the report section that the baselines copy from the store; `findings` unless given.
        vocabulary: `vocabulary.json` of a run, for the protocol `r2gen`.
        tokenizer: language model, by folder or hub name, for the protocol `r2gengpt`.
        maximum_length: of references, for the protocols that cut them; 60 unless given.
        store: prepared store with the same studies, where the baselines learn.
        retriever: directory of a retriever, whose reports are one more baseline.
        draft_labels: label file of the drafts, of CheXpert or CheXbert.
        reference_labels: label file of the references, by the same labeller.
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
        """Refuse half a pair of label files, and what would have no effect.

        Raises:
            RadScribeError: names the option.
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
    """Refuse options that were given though they have no effect, so that none is ignored silently.

    Args:
        where: the circumstance in which they have none.
        **options: by name; those that are None were not given.

    Raises:
        RadScribeError: names the first that was given.
    """
    for name, value in options.items():
        if value is not None:
            raise RadScribeError(f"--{name} has no effect {where}", f"Leave out --{name}")


def score_files(
    predictions: Path, references: Path, scoring: FileScoring, *, resamples: int, meteor: bool
) -> Evaluation:
    """Score drafts against references, beside baselines where there is a store.

    Args:
        predictions: the drafts, JSON Lines with id and text.
        references: the reports, likewise with the same ids.
        scoring: the rules.
        resamples: of the bootstrap.
        meteor: also run METEOR, where Java is there.

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
    )
    if retriever is None:
        return evaluation
    from radscribe.runs.scoring import with_retriever

    return with_retriever(evaluation, retriever)
