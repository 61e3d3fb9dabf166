"""From drafts and references by study id to tables that say how good, how sure, and under which rules.

Scores come in families, each a `StudyStatistics`: text metrics, METEOR, clinical efficacy, and further ones
that a caller gives. Intervals and paired tests treat all alike.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.evaluation.bootstrap import Difference, Score, paired_test, scores_with_intervals
from radscribe.evaluation.clinical import (
    LabelFiles,
    States,
    clinical_statistics,
    label_texts,
    observation_scores,
    why_unlabelled,
)
from radscribe.evaluation.diversity import Diversity, measure_diversity
from radscribe.evaluation.meteor import MeteorUnavailableError, meteor_statistics
from radscribe.evaluation.metrics import StudyStatistics, text_statistics
from radscribe.evaluation.tables import (
    clinical_table,
    diversity_table,
    further_table,
    means_table,
    observation_table,
    text_table,
)
from radscribe.files import read_text
from radscribe.observations import OBSERVATIONS
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.text.protocols import get_protocol
from radscribe.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

SYSTEM = "system"
#: The text metrics. The clinical scores are those of `radscribe.evaluation.clinical.CLINICAL_BLOCKS`.
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")
CLINICAL = "clinical"
_RULES = "RadScribe's rules"
#: From this share of `<unk>` among a system's words on, its scores are called inflated.
MANY_UNKNOWN = 0.05
_IDS_NAMED = 3
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Provenance:
    """The rules under which scores were computed; scores with other rules are not comparable.

    Attributes:
        protocol: name of the text rules.
        cleaning: name of the cleaning rules.
        vocabulary_entries: size of the vocabulary that references passed through, if any.
        maximum_length: ids at which references were cut, if at all; of a vocabulary begin and end included.
        studies: how many were scored.
        references_sha256: of ids and references as scored.
        truncation_rate: share of references that lost words to the cut.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        radscribe_version: that computed the scores.
        labels: what labelled the observations behind the clinical scores; None where there are none, as in
            metrics that an older RadScribe wrote.
        reference_labels_sha256: of ids and labels of the references.
        further: what further families of scores were computed against, by family.
        tokenizer: name of the language model whose tokens references were cut at, if any.
    """

    protocol: str
    cleaning: str
    vocabulary_entries: int | None
    maximum_length: int | None
    studies: int
    references_sha256: str
    truncation_rate: float
    resamples: int
    seed: int
    radscribe_version: str
    labels: str | None = None
    reference_labels_sha256: str | None = None
    further: Mapping[str, str] = field(default_factory=dict)
    tokenizer: str | None = None

    def __str__(self) -> str:
        parts = [f"protocol {self.protocol}", f"cleaning {self.cleaning}"]
        if self.vocabulary_entries is not None:
            parts.append(f"vocabulary of {self.vocabulary_entries} entries")
        if self.tokenizer is not None:
            parts.append(f"tokens of {self.tokenizer}")
        if self.maximum_length is not None:
            parts.append(
                f"references cut at {self.maximum_length} ids ({self.truncation_rate:.1%} lost words)"
            )
        parts.append(f"{self.studies} studies")
        parts.append(f"references sha256 {self.references_sha256[:12]}")
        if self.labels is not None and self.reference_labels_sha256 is not None:
            parts.append(f"observations by {self.labels}, sha256 {self.reference_labels_sha256[:12]}")
        for rules in dict.fromkeys(self.further.values()):
            families = [family for family, its_rules in self.further.items() if its_rules == rules]
            parts.append(f"{', '.join(families)} against {rules}")
        parts.append(f"95% intervals from {self.resamples} resamples, seed {self.seed}")
        parts.append(f"radscribe {self.radscribe_version}")
        return "; ".join([*parts, NOTICE])

    @property
    def in_short(self) -> str:
        """What no score may be passed on without, in one line."""
        return (
            f"{self.studies} studies, protocol {self.protocol}, references sha256 "
            f"{self.references_sha256[:12]}; {NOTICE}"
        )

    @property
    def clinical_efficacy(self) -> str:
        """A caption for clinical scores: who labelled, and what they therefore compare with."""
        caption = f"Clinical efficacy, observations by {self.labels}"
        if self.labels is None or not self.labels.startswith(_RULES):
            return caption
        return f"{caption}, not CheXpert or CheXbert: published scores do not compare"


@dataclass(frozen=True)
class Further:
    """A further family of scores, of what the system does beside writing, such as its classifier.

    Attributes:
        statistics: over the scored studies, in the order of their sorted ids. The names of its scores begin
            with the family's, so that they differ from all others.
        rules: what it was computed against, to be shown beside the scores.
        by_observation: means by observation, then measure, where the family has such.
    """

    statistics: StudyStatistics
    rules: str
    by_observation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class SystemScores:
    """What one system, or one baseline, scored.

    Attributes:
        scores: corpus score and interval by name: text metrics, clinical scores, those of further families.
        diversity: of its drafts as scored.
        families: per-study statistics by metric family, in the order of the sorted study ids.
    """

    scores: Mapping[str, Score]
    diversity: Diversity
    families: Mapping[str, StudyStatistics] = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a system and its baselines on one set of references. `str()` is the table to print.

    Attributes:
        rows: by name; the system's stands first, under `system`.
        differences: by baseline, then metric: the system minus the baseline, on the same resamples.
        references: diversity of the references as scored.
        missing: why a metric is not there, by its name.
        provenance: the rules.
        by_observation: means of further families, by family, observation and measure.
        unreadable: how many drafts of each row, and how many references, the labeller cannot read; empty
            where it did not label them.
    """

    rows: Mapping[str, SystemScores]
    differences: Mapping[str, Mapping[str, Difference]]
    references: Diversity
    missing: Mapping[str, str]
    provenance: Provenance
    by_observation: Mapping[str, Mapping[str, Mapping[str, float]]]
    unreadable: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Everything but the per-study statistics, as plain JSON values."""
        return {
            "scores": {
                name: {metric: asdict(score) for metric, score in row.scores.items()}
                for name, row in self.rows.items()
            },
            "differences": {
                name: {metric: asdict(difference) for metric, difference in differences.items()}
                for name, differences in self.differences.items()
            },
            "observations": {
                name: {
                    uncertain: {observation: asdict(score) for observation, score in scores.items()}
                    for uncertain, scores in observation_scores(row.families[CLINICAL]).items()
                }
                for name, row in self.rows.items()
                if CLINICAL in row.families
            },
            "by_observation": {family: dict(means) for family, means in self.by_observation.items()},
            "diversity": {name: asdict(diversity) for name, diversity in self._diversities().items()},
            "unreadable": dict(self.unreadable),
            "missing": dict(self.missing),
            "provenance": asdict(self.provenance),
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        scores = {name: row.scores for name, row in self.rows.items()}
        differences = {f"{SYSTEM} - {name}": each for name, each in self.differences.items()}
        ours = self.rows[SYSTEM].families
        further = {
            family: list(ours[family].scores()) for family in ours if family in self.provenance.further
        }
        paragraphs = [
            text_table(METRICS, scores, differences, self._diversities()),
            diversity_table(self._diversities()),
            *self._clinical_tables(scores, differences),
            *(further_table(family, names, scores, differences) for family, names in further.items()),
            *(means_table(family, means) for family, means in self.by_observation.items()),
            "\n".join(
                [
                    *self._cautions(),
                    *self.readability_note(),
                    *(f"{name} is not there: {reason}" for name, reason in self.missing.items()),
                    str(self.provenance),
                ]
            ),
        ]
        return "\n\n".join(paragraphs)

    def _clinical_tables(
        self, scores: Mapping[str, Mapping[str, Score]], differences: Mapping[str, Mapping[str, Difference]]
    ) -> list[str]:
        ours = self.rows[SYSTEM].families
        if CLINICAL not in ours:
            return []
        return [
            f"{self.provenance.clinical_efficacy}\n{clinical_table(scores, differences)}",
            observation_table(observation_scores(ours[CLINICAL])),
        ]

    def readability_note(self) -> list[str]:
        """A line on the texts that the labeller cannot read, if there are any."""
        found = [f"{count} of {name}" for name, count in self.unreadable.items() if count]
        if not found:
            return []
        return [
            f"Unreadable to the labeller, which knows English only, of {self.provenance.studies} texts each: "
            f"{', '.join(found)}. An unreadable text states no observation."
        ]

    def _cautions(self) -> list[str]:
        """What a reader of the table alone would be misled about."""
        share = self.rows[SYSTEM].diversity.unknown_words
        if share < MANY_UNKNOWN or self.references.unknown_words == 0:
            return []
        return [
            f"CAUTION: {share:.1%} of the system's words are {UNKNOWN_TOKEN}. Under protocol "
            f"{self.provenance.protocol} they match {UNKNOWN_TOKEN} in the references and inflate every "
            "score; score with protocol clean_full"
        ]

    def _diversities(self) -> dict[str, Diversity]:
        return {name: row.diversity for name, row in self.rows.items()} | {"references": self.references}


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
    further: Mapping[str, Further] | None = None,
) -> Evaluation:
    """Score drafts against references under a protocol.

    Observations are labelled in the texts as given here, whole and before the protocol: what a report says
    of a patient does not end where a benchmark cuts it. Where more than 5% of the drafts or of the references
    are unreadable to the labeller, there are no clinical scores, and `missing` says why.

    Args:
        hypotheses: draft by study id.
        references: report section as written, by study id; exactly the ids of `hypotheses`.
        protocol: `r2gen`, `r2gengpt`, `clean_full` or `raw`.
        cleaning: name of the cleaning rules in `radscribe.text.cleaning.CLEANERS`.
        vocabulary: of the training reports; needed by `r2gen`.
        maximum_length: ids including begin and end, needed by `r2gen`; tokens, needed by `r2gengpt`.
        tokenizer: of a language model; needed by `r2gengpt`.
        baselines: further drafts by name, scored alike and compared with the system.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        meteor: also run METEOR, which takes Java some ten seconds to start.
        labels: of the system's drafts and of the references, instead of RadScribe's rules; the baselines then
            have no clinical scores.
        further: further families of scores of the system, by name.

    Raises:
        RadScribeError: ids that do not match, or a protocol or cleaning unknown or without what it needs.
    """
    rules = get_protocol(protocol)
    taken = {SYSTEM, "references"} & set(baselines or {})
    if taken:
        raise RadScribeError(f"a baseline cannot be called '{taken.pop()}'", "Give it another name")
    systems = {SYSTEM: hypotheses, **(baselines or {})}
    for name, texts in systems.items():
        _check_ids(name, texts, references)
    ids = sorted(references)
    written = [references[study] for study in ids]
    scored = [
        rules.reference(
            text,
            cleaning=cleaning,
            vocabulary=vocabulary,
            maximum_length=maximum_length,
            tokenizer=tokenizer,
        )
        for text in written
    ]
    drafts = {
        name: [rules.hypothesis(texts[study], cleaning=cleaning) for study in ids]
        for name, texts in systems.items()
    }
    families = {name: {"text": text_statistics(texts, scored)} for name, texts in drafts.items()}
    missing: dict[str, str] = {}
    if meteor:
        try:
            for name, statistics in _meteor_of_all(drafts, scored).items():
                families[name]["meteor"] = statistics
        except MeteorUnavailableError as error:
            missing["METEOR"] = str(error)
    else:
        missing["METEOR"] = "it was not asked for"
    drafted, stated = _labelled(systems, references, ids, labels)
    unreadable = {
        name: sum(not of_text for of_text in states)
        for name, states in ([] if labels else [*drafted.items(), ("references", stated)])
    }
    reason = why_unlabelled("references", stated)
    for name, states in drafted.items():
        if why := reason or why_unlabelled(f"drafts of the {name}", states):
            missing["clinical efficacy" + ("" if name == SYSTEM else f" of the {name}")] = why
        else:
            families[name][CLINICAL] = clinical_statistics(states, stated)
    if baselines and labels:
        missing["clinical efficacy of the baselines"] = f"the {labels.source} have no labels of theirs"
    for name, each in (further or {}).items():
        families[SYSTEM][name] = each.statistics

    rows = {
        name: SystemScores(
            scores_with_intervals(list(families[name].values()), resamples, seed),
            measure_diversity(texts),
            families[name],
        )
        for name, texts in drafts.items()
    }
    differences = {
        name: _paired_test(families[SYSTEM], families[name], resamples, seed) for name in baselines or {}
    }
    version = importlib.metadata.version("radscribe")
    provenance = Provenance(
        protocol=protocol,
        cleaning=cleaning,
        vocabulary_entries=len(vocabulary) if vocabulary and rules.through_vocabulary else None,
        maximum_length=maximum_length if rules.cuts else None,
        studies=len(ids),
        references_sha256=_hash(ids, scored),
        truncation_rate=rules.truncation_rate(
            written, cleaning=cleaning, maximum_length=maximum_length, tokenizer=tokenizer
        ),
        resamples=resamples,
        seed=seed,
        radscribe_version=version,
        labels=labels.source if labels else f"{_RULES} {version}",
        reference_labels_sha256=_hash(ids, [[each.get(name) for name in OBSERVATIONS] for each in stated]),
        further={name: each.rules for name, each in (further or {}).items()},
        tokenizer=tokenizer.name if tokenizer and rules.through_tokenizer else None,
    )
    by_observation = {
        name: each.by_observation for name, each in (further or {}).items() if each.by_observation
    }
    return Evaluation(
        rows, differences, measure_diversity(scored), missing, provenance, by_observation, unreadable
    )


def compare(first: Evaluation, second: Evaluation) -> dict[str, Difference]:
    """Paired tests between two evaluated systems: the first minus the second, by metric.

    The resamples and the seed are those of the first evaluation.

    Raises:
        RadScribeError: the two were not scored on the same references under the same rules.
    """
    check_comparable(first, second)
    ours, theirs = first.rows[SYSTEM].families, second.rows[SYSTEM].families
    return _paired_test(ours, theirs, first.provenance.resamples, first.provenance.seed)


def check_comparable(first: Evaluation, second: Evaluation) -> None:
    """Refuse two evaluations whose scores must not stand in one table.

    Raises:
        RadScribeError: the two were not scored on the same references under the same rules.
    """
    ours, theirs = first.rows[SYSTEM].families, second.rows[SYSTEM].families
    rules = [
        (
            provenance.protocol,
            provenance.cleaning,
            provenance.references_sha256,
            provenance.labels,
            provenance.reference_labels_sha256,
            {name: each for name, each in provenance.further.items() if name in ours and name in theirs},
        )
        for provenance in (first.provenance, second.provenance)
    ]
    if rules[0] != rules[1]:
        raise RadScribeError(
            "the two systems were not scored on the same references under the same rules",
            f"First: {first.provenance}. Second: {second.provenance}",
        )


def read_texts(path: Path | str) -> dict[str, str]:
    """Read texts by study id from a JSON Lines file with one `{"id": ..., "text": ...}` per line.

    Raises:
        RadScribeError: the file cannot be read, or a line is not such an object, or an id stands twice; the
            message names the line.
    """
    path = Path(path)
    hint = 'Each line must read {"id": "...", "text": "..."}'
    texts: dict[str, str] = {}
    first_line: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RadScribeError(f"{where} is not valid JSON: {error}", hint) from error
        for name in ("id", "text"):
            if not isinstance(entry, dict) or not isinstance(entry.get(name), str):
                given = isinstance(entry, dict) and name in entry
                found = f": it is {json.dumps(entry[name])[:_SHOWN]}" if given else ""
                raise RadScribeError(f"{where} has no string '{name}'{found}", hint)
        study = entry["id"]
        if study in texts:
            raise RadScribeError(
                f"{where} repeats the id '{study}' of line {first_line[study]}", "Keep one text per study"
            )
        texts[study], first_line[study] = entry["text"], number
    if not texts:
        raise RadScribeError(f"{path} has no texts", hint)
    return texts


def _check_ids(name: str, texts: Mapping[str, str], references: Mapping[str, str]) -> None:
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


def _meteor_of_all(
    drafts: Mapping[str, Sequence[str]], references: Sequence[str]
) -> dict[str, StudyStatistics]:
    """METEOR statistics of every system from one Java process, for its start costs more than its scoring."""
    everything = meteor_statistics(
        [text for texts in drafts.values() for text in texts], [*references] * len(drafts)
    )
    parts = everything.columns.reshape(len(drafts), len(references), -1)
    return {
        name: StudyStatistics(part, everything.scores_of_sums)
        for name, part in zip(drafts, parts, strict=True)
    }


def _labelled(
    systems: Mapping[str, Mapping[str, str]],
    references: Mapping[str, str],
    ids: Sequence[str],
    labels: LabelFiles | None,
) -> tuple[dict[str, list[States]], list[States]]:
    """The states in the drafts of each system that has labels, and in the references, in the order of ids."""
    if labels:
        return {SYSTEM: [labels.drafts[study] for study in ids]}, [labels.references[study] for study in ids]
    states = label_texts(text for texts in (references, *systems.values()) for text in texts.values())
    drafted = {name: [states[texts[study]] for study in ids] for name, texts in systems.items()}
    return drafted, [states[references[study]] for study in ids]


def _paired_test(
    first: Mapping[str, StudyStatistics], second: Mapping[str, StudyStatistics], resamples: int, seed: int
) -> dict[str, Difference]:
    """`paired_test` on the families that both have."""
    both = [name for name in first if name in second]
    return paired_test([first[name] for name in both], [second[name] for name in both], resamples, seed)


def _hash(ids: Sequence[str], values: Sequence[object]) -> str:
    """Of what the studies have, as JSON."""
    lines = (json.dumps([study, value]) + "\n" for study, value in zip(ids, values, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
