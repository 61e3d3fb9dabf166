"""Scoring drafts against references: scores, their intervals, and the rules under which they were computed.

`radscribe.evaluation.families` says what is computed. Intervals and paired tests are the same for all
families.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radscribe.errors import RadScribeError
from radscribe.evaluation.bootstrap import paired_test, scores_with_intervals
from radscribe.evaluation.clinical import OWN_RULES, LabelFiles, label_texts, observation_scores
from radscribe.evaluation.diversity import measure_diversity
from radscribe.evaluation.families import CLINICAL, FAMILIES, SYSTEM
from radscribe.evaluation.family import ClassifiedStudies, FamilyScores, LabelledTexts, ScoredStudies
from radscribe.evaluation.localisation import MapScore
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.metrics import StudyStatistics
from radscribe.evaluation.result import Evaluation, Provenance, SystemScores
from radscribe.evaluation.scores import Difference
from radscribe.evaluation.stress import measure_stress
from radscribe.observations import OBSERVATIONS
from radscribe.text.protocols import get_protocol
from radscribe.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

_IDS_NAMED = 3


@dataclass(frozen=True)
class _TextRules:
    """The rules by which texts are prepared for scoring; see `evaluate_texts`."""

    protocol: str
    cleaning: str
    vocabulary: Vocabulary | None
    maximum_length: int | None
    tokenizer: LanguageModelTokenizer | None

    def references(self, texts: Sequence[str]) -> list[str]:
        """Reference reports as they are scored."""
        protocol = get_protocol(self.protocol)
        return [
            protocol.reference(
                text,
                cleaning=self.cleaning,
                vocabulary=self.vocabulary,
                maximum_length=self.maximum_length,
                tokenizer=self.tokenizer,
            )
            for text in texts
        ]

    def drafts(self, texts: Sequence[str]) -> list[str]:
        """Drafts as they are scored."""
        protocol = get_protocol(self.protocol)
        return [protocol.hypothesis(text, cleaning=self.cleaning) for text in texts]


def evaluate_texts(
    hypotheses: Mapping[str, str],
    references: Mapping[str, str],
    *,
    protocol: str,
    cleaning: str,
    vocabulary: Vocabulary | None = None,
    maximum_length: int | None = None,
    tokenizer: LanguageModelTokenizer | None = None,
    baselines: Mapping[str, Mapping[str, str]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    meteor: bool = True,
    labels: LabelFiles | None = None,
    classified: ClassifiedStudies | None = None,
    maps: Sequence[Sequence[MapScore]] = (),
    files: MetricFiles | None = None,
    stress: bool = False,
) -> Evaluation:
    """Score drafts against references under a protocol.

    Observations are labelled in the whole texts as given here, before the protocol changes or cuts them,
    because a cut would drop observations of the patient. If more than 5% of the drafts or of the references
    are unreadable to the labeller, there are no clinical scores, and `missing` says why.

    Args:
        hypotheses: Drafts by study id.
        references: Reports as they were written, by study id; exactly the ids of `hypotheses`.
        protocol: Name of the protocol: `r2gen`, `r2gengpt`, `clean_full` or `raw`.
        cleaning: Name of the cleaning rules, from `radscribe.text.cleaning.CLEANERS`.
        vocabulary: Vocabulary of the training reports; needed by `r2gen`.
        maximum_length: Length at which references are cut. `r2gen` needs it in word ids, begin and end
            included; `r2gengpt` needs it in tokens.
        tokenizer: Tokenizer of a language model; needed by `r2gengpt`.
        baselines: Drafts of each baseline by its name; they are scored like the system and compared with it.
        resamples: Number of bootstrap resamples.
        seed: Random seed of the bootstrap.
        meteor: Also compute METEOR; its Java process takes about ten seconds to start.
        labels: Labels of the system's drafts and of the references, used instead of RadScribe's rules. The
            baselines then have no clinical scores.
        classified: Output of the system's classifier, in the order of the sorted study ids.
        maps: Scored maps of the system for each study, in the order of the sorted study ids.
        files: Files of the metrics that a model computes; without them, there are no such metrics.
        stress: Also measure how far each score moves when texts are changed.

    Raises:
        RadScribeError: the ids do not match, or the protocol or the cleaning is unknown or lacks what it
        needs.
    """
    rules = _TextRules(protocol, cleaning, vocabulary, maximum_length, tokenizer)
    systems = _systems(hypotheses, references, baselines or {})
    ids = sorted(references)
    drafts = {row: [texts[study] for study in ids] for row, texts in systems.items()}
    reports = [references[study] for study in ids]
    labelled = _labelled(drafts, reports, ids, labels)
    scored = {row: rules.drafts(texts) for row, texts in drafts.items()}
    studies = ScoredStudies(
        scored,
        rules.references(reports),
        labelled,
        classified,
        maps,
        ids=ids,
        whole_drafts=drafts,
        whole_references=reports,
        files=files or MetricFiles(),
    )
    evaluation = _evaluate(studies, rules, resamples=resamples, seed=seed, meteor=meteor)
    if not stress:
        return evaluation
    return dataclasses.replace(evaluation, stress=measure_stress(studies, rules.drafts, rules.references))


def _evaluate(
    studies: ScoredStudies,
    rules: _TextRules,
    *,
    resamples: int,
    seed: int,
    meteor: bool,
) -> Evaluation:
    """The scores of all rows."""
    found = _family_scores(studies, meteor=meteor)
    rows = {row: _row(row, texts, found, resamples, seed) for row, texts in studies.drafts.items()}
    ours = rows[SYSTEM].families
    return Evaluation(
        rows=rows,
        differences={
            row: _paired_test(ours, scores.families, resamples, seed)
            for row, scores in rows.items()
            if row != SYSTEM
        },
        references=measure_diversity(studies.references),
        missing={what: reason for family in found.values() for what, reason in family.missing.items()},
        provenance=_provenance(studies, rules, found, resamples, seed),
        by_observation={
            title: values
            for family in found.values()
            for title, values in family.by_observation.items()
            if values  # some kinds of maps are of no single observation
        },
        unreadable=studies.labelled.unreadable,
    )


def _systems(
    hypotheses: Mapping[str, str], references: Mapping[str, str], baselines: Mapping[str, Mapping[str, str]]
) -> dict[str, Mapping[str, str]]:
    """Drafts by row and study id, after a check that their ids are those of the references."""
    taken = {SYSTEM, "references"} & set(baselines)
    if taken:
        raise RadScribeError(f"a baseline cannot be called '{taken.pop()}'", "Give it another name")
    systems = {SYSTEM: hypotheses, **baselines}
    for name, texts in systems.items():
        check_ids(name, texts, references)
    return systems


def check_ids(name: str, texts: Mapping[str, str], references: Mapping[str, str]) -> None:
    """Check that drafts and references are of the same studies.

    Args:
        name: Name of the drafts in the error.
        texts: Drafts by study id.
        references: Reference reports by study id.

    Raises:
        RadScribeError: a reference has no draft, or a draft has no reference.
    """
    without_draft = sorted(references.keys() - texts.keys())
    without_reference = sorted(texts.keys() - references.keys())
    problems = []
    if without_draft:
        problems.append(
            f"{len(without_draft)} of {len(references)} references have no draft{_some(without_draft)}"
        )
    if without_reference:
        problems.append(f"{len(without_reference)} drafts have no reference{_some(without_reference)}")
    if problems:
        raise RadScribeError(
            f"the ids of '{name}' and of the references do not match: {', and '.join(problems)}",
            "Give exactly one draft for each reference, under the same id",
        )


def _some(ids: Sequence[str]) -> str:
    more = ", ..." if len(ids) > _IDS_NAMED else ""
    return f" ({', '.join(ids[:_IDS_NAMED])}{more})"


def _labelled(
    drafts: Mapping[str, Sequence[str]],
    references: Sequence[str],
    ids: Sequence[str],
    labels: LabelFiles | None,
) -> LabelledTexts:
    """Observations in the references, and in the drafts of each row that has labels."""
    if labels:
        of_drafts = {SYSTEM: [labels.drafts[study] for study in ids]}
        return LabelledTexts(of_drafts, [labels.references[study] for study in ids], labels.source)
    states = label_texts(text for texts in (references, *drafts.values()) for text in texts)
    by_row = {
        row: [states[text] for text in texts] for row, texts in {**drafts, "references": references}.items()
    }
    unreadable = {row: sum(not of_text for of_text in found) for row, found in by_row.items()}
    of_references = by_row.pop("references")
    source = f"{OWN_RULES} {importlib.metadata.version('radscribe')}"
    return LabelledTexts(by_row, of_references, source, unreadable)


def _family_scores(studies: ScoredStudies, *, meteor: bool) -> dict[str, FamilyScores]:
    found = {}
    for name, family in FAMILIES.items():
        if family.needs == "Java" and not meteor:
            found[name] = FamilyScores(missing=dict.fromkeys(family.scores, "it was not asked for"))
        elif family.needs == "models" and studies.files == MetricFiles():
            found[name] = FamilyScores()  # missing are only the metrics that one would expect
        else:
            found[name] = family.score(studies)
    return found


def _row(
    row: str, drafts: Sequence[str], found: Mapping[str, FamilyScores], resamples: int, seed: int
) -> SystemScores:
    """The scores of one row; `drafts` are its drafts as they are scored."""
    families = {name: family.statistics[row] for name, family in found.items() if row in family.statistics}
    return SystemScores(
        scores=scores_with_intervals(list(families.values()), resamples, seed),
        diversity=measure_diversity(drafts),
        observations=observation_scores(families[CLINICAL]) if CLINICAL in families else {},
        families=families,
    )


def _provenance(
    studies: ScoredStudies,
    rules: _TextRules,
    found: Mapping[str, FamilyScores],
    resamples: int,
    seed: int,
) -> Provenance:
    """The rules under which scores were computed."""
    ids, labelled = studies.ids, studies.labelled
    protocol = get_protocol(rules.protocol)
    return Provenance(
        protocol=rules.protocol,
        cleaning=rules.cleaning,
        vocabulary_entries=len(rules.vocabulary)
        if rules.vocabulary and protocol.through_vocabulary
        else None,
        maximum_length=rules.maximum_length if protocol.cuts else None,
        studies=len(ids),
        references_sha256=_hash(ids, studies.references),
        truncation_rate=protocol.truncation_rate(
            studies.whole_references,
            cleaning=rules.cleaning,
            maximum_length=rules.maximum_length,
            tokenizer=rules.tokenizer,
        ),
        resamples=resamples,
        seed=seed,
        radscribe_version=importlib.metadata.version("radscribe"),
        labels=labelled.source,
        reference_labels_sha256=_hash(
            ids, [[states.get(name) for name in OBSERVATIONS] for states in labelled.references]
        ),
        further={name: family.rules for name, family in found.items() if family.rules},
        tokenizer=rules.tokenizer.name if rules.tokenizer and protocol.through_tokenizer else None,
    )


def compare(first: Evaluation, second: Evaluation) -> dict[str, Difference]:
    """Paired tests between two evaluated systems, by metric: the first system minus the second.

    The number of resamples and the seed come from the first evaluation.

    Raises:
        RadScribeError: the two were not scored on the same references under the same rules.
    """
    check_comparable(first, second)
    ours, theirs = first.rows[SYSTEM].families, second.rows[SYSTEM].families
    return _paired_test(ours, theirs, first.provenance.resamples, first.provenance.seed)


def check_comparable(first: Evaluation, second: Evaluation) -> None:
    """Check that the scores of two evaluations may be shown in one table.

    Raises:
        RadScribeError: the two were not scored on the same references under the same rules, or one was read
        from a file and so has no statistics of single studies.
    """
    ours, theirs = first.rows[SYSTEM].families, second.rows[SYSTEM].families
    if not ours or not theirs:
        raise RadScribeError(
            "an evaluation that was read from a file has no statistics of single studies to compare",
            "Score both systems again",
        )
    rules = [
        (
            provenance.protocol,
            provenance.cleaning,
            provenance.references_sha256,
            provenance.labels,
            provenance.reference_labels_sha256,
            {name: of for name, of in provenance.further.items() if name in ours and name in theirs},
        )
        for provenance in (first.provenance, second.provenance)
    ]
    if rules[0] != rules[1]:
        raise RadScribeError(
            "the two systems were not scored on the same references under the same rules",
            f"First: {first.provenance}. Second: {second.provenance}",
        )


def _paired_test(
    first: Mapping[str, StudyStatistics], second: Mapping[str, StudyStatistics], resamples: int, seed: int
) -> dict[str, Difference]:
    """`paired_test` on the metric families that both systems have."""
    both = [name for name in first if name in second]
    return paired_test([first[name] for name in both], [second[name] for name in both], resamples, seed)


def _hash(ids: Sequence[str], values: Sequence[object]) -> str:
    """SHA-256 of the ids with their values, written as JSON lines."""
    lines = (json.dumps([study, value]) + "\n" for study, value in zip(ids, values, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
