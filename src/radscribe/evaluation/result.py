"""What scoring gives: scores, differences and the rules behind them, as `metrics.json` keeps them.

Whoever shows scores takes an `Evaluation`, whether it was just computed or read from a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.evaluation.clinical import OWN_RULES, UNCERTAIN_POLICIES, ObservationScore
from radscribe.evaluation.diversity import Diversity
from radscribe.evaluation.families import CLINICAL, FAMILIES, METRICS, SYSTEM, ScoreTable
from radscribe.evaluation.metrics import StudyStatistics
from radscribe.evaluation.scores import (
    SIGNIFICANT,
    Difference,
    GroupDifference,
    GroupScore,
    GroupVerdict,
    Score,
)
from radscribe.evaluation.tables import (
    comparison_table,
    diversity_table,
    means_table,
    observation_table,
    score_tables,
    text_table,
)
from radscribe.files import parse_json
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.values import typed

#: From this share of `<unk>` among a system's words on, its scores are called inflated.
MANY_UNKNOWN = 0.05
_REFERENCES = "references"


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
        retriever: content hash of the retriever whose reports are a baseline, if any.
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
    retriever: str | None = None

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
        if self.retriever is not None:
            parts.append(f"reports retrieved by the part {self.retriever[:12]}")
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
        if self.labels is None or not self.labels.startswith(OWN_RULES):
            return caption
        return f"{caption}, not CheXpert or CheXbert: published scores do not compare"


@dataclass(frozen=True)
class SystemScores:
    """What one system, or one baseline, scored.

    Attributes:
        scores: corpus score and interval by name, of all families of metrics.
        diversity: of its drafts as scored.
        observations: clinical scores by what uncertain counts as, then observation; empty without labels.
        families: per-study statistics by family, in the order of the sorted study ids. No file keeps them, so
            they are empty where the scores were read from one.
    """

    scores: Mapping[str, Score]
    diversity: Diversity
    observations: Mapping[str, Mapping[str, ObservationScore]]
    families: Mapping[str, StudyStatistics] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """The form of `metrics.json`. What has a default is not in the files of every version."""

    scores: Mapping[str, Mapping[str, Score]]
    differences: Mapping[str, Mapping[str, Difference]]
    observations: Mapping[str, Mapping[str, Mapping[str, ObservationScore]]] = field(default_factory=dict)
    by_observation: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    diversity: Mapping[str, Diversity]
    unreadable: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str]
    provenance: Provenance


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
        stored = _Stored(
            scores=self.scores,
            differences=self.differences,
            observations=self.observations,
            by_observation=self.by_observation,
            diversity=self.diversity,
            unreadable=self.unreadable,
            missing=self.missing,
            provenance=self.provenance,
        )
        return {**asdict(stored), "notice": NOTICE}

    @classmethod
    def from_json(cls, values: Any) -> Evaluation:
        """What `to_json` gave, typed again. Values of before there were clinical scores will do.

        Raises:
            RadScribeError: the values are no evaluation; the message names the field at fault.
        """
        try:
            return cls._from_stored(typed(values, _Stored))
        except ValueError as error:
            raise RadScribeError(f"the values are no evaluation: {error}", "Score again") from error

    @classmethod
    def read(cls, path: Path, hint: str) -> Evaluation:
        """Read a file that holds what `to_json` gave.

        Args:
            path: the file.
            hint: what to do where it is damaged.

        Raises:
            RadScribeError: the file cannot be read or holds no evaluation; the message names the file and the
                field at fault.
        """
        try:
            return cls._from_stored(typed(parse_json(path.read_text(encoding="utf-8")), _Stored))
        except (OSError, ValueError) as error:
            raise RadScribeError(
                f"'{path}' does not hold the scores of an evaluation: {error}", hint
            ) from error

    @classmethod
    def _from_stored(cls, stored: _Stored) -> Evaluation:
        if SYSTEM not in stored.scores:
            raise ValueError(f"it has no 'scores.{SYSTEM}'")
        clinical = FAMILIES[CLINICAL].scores
        labelled = {row for row, scores in stored.scores.items() if scores.keys() & set(clinical)}
        checks: list[tuple[str, Mapping[str, Any], Iterable[str]]] = [
            ("diversity", stored.diversity, [*stored.scores, _REFERENCES]),
            ("observations", stored.observations, sorted(labelled)),
            *(
                (f"observations.{row}", found, UNCERTAIN_POLICIES)
                for row, found in stored.observations.items()
            ),
        ]
        for name, held, needed in checks:
            for key in needed:
                if key not in held:
                    raise ValueError(f"it has no '{name}.{key}'")
        rows = {
            row: SystemScores(scores, stored.diversity[row], stored.observations.get(row, {}))
            for row, scores in stored.scores.items()
        }
        return cls(
            rows,
            stored.differences,
            stored.diversity[_REFERENCES],
            stored.missing,
            stored.provenance,
            stored.by_observation,
            stored.unreadable,
        )

    @property
    def scores(self) -> dict[str, Mapping[str, Score]]:
        """The scores of each row."""
        return {name: row.scores for name, row in self.rows.items()}

    @property
    def observations(self) -> dict[str, Mapping[str, Mapping[str, ObservationScore]]]:
        """The scores of each observation, of the rows that have clinical scores."""
        return {name: row.observations for name, row in self.rows.items() if row.observations}

    @property
    def diversity(self) -> dict[str, Diversity]:
        """The diversity of each row, and of the references."""
        return {name: row.diversity for name, row in self.rows.items()} | {_REFERENCES: self.references}

    def tables(self, family: str) -> list[ScoreTable]:
        """The tables of a family with the columns that the system has scores of; none where it has none."""
        ours = self.rows[SYSTEM].scores
        tables = [ScoreTable(table.title, table.columns_of(ours)) for table in FAMILIES[family].tables]
        return [table for table in tables if table.columns]

    def __str__(self) -> str:
        differences = {f"{SYSTEM} - {name}": of_row for name, of_row in self.differences.items()}
        paragraphs = [
            text_table(METRICS, self.scores, differences, self.diversity),
            diversity_table(self.diversity),
        ]
        for family in FAMILIES:
            if family == "text" or not (tables := self.tables(family)):
                continue
            text = score_tables(tables, self.scores, differences)
            if family == CLINICAL:
                text = f"{self.provenance.clinical_efficacy}\n{text}"
            paragraphs.append(text)
            if family == CLINICAL:
                paragraphs.append(observation_table(self.observations[SYSTEM]))
        paragraphs += [means_table(family, means) for family, means in self.by_observation.items()]
        notes = [
            *self._cautions(),
            *self.readability_note(),
            *(f"{name} is not there: {reason}" for name, reason in self.missing.items()),
            str(self.provenance),
        ]
        return "\n\n".join([*paragraphs, "\n".join(notes)])

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


@dataclass(frozen=True)
class Comparison:
    """Groups of runs on the same studies. `str()` is the table to print.

    Attributes:
        runs: how many each group has.
        scores: by group, then score.
        differences: of each group but the first: its mean minus the first group's, by score.
        rules: under which all were scored.
    """

    runs: Mapping[str, int]
    scores: Mapping[str, Mapping[str, GroupScore]]
    differences: Mapping[str, Mapping[str, GroupDifference]]
    rules: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "notice": NOTICE}

    @classmethod
    def from_json(cls, values: Any) -> Comparison:
        """What `to_json` gave, typed again.

        Raises:
            RadScribeError: the values are no comparison; the message names the field at fault.
        """
        try:
            return typed(values, cls)
        except ValueError as error:
            raise RadScribeError(
                f"the values are no comparison: {error}", "Run radscribe compare again"
            ) from error

    def __str__(self) -> str:
        table = comparison_table(self.runs, self.scores, self.differences)
        return "\n\n".join([table, "\n".join(self._in_words()), self.rules])

    def _in_words(self) -> Iterator[str]:
        """What the differences of each group come to."""
        first = next(iter(self.runs))
        for group, differences in self.differences.items():
            by_verdict: dict[GroupVerdict, list[str]] = {}
            for name, difference in differences.items():
                by_verdict.setdefault(difference.verdict, []).append(name)
            if "not tested over seeds" in by_verdict:
                yield (
                    f"{group} against {first}: not tested over seeds: needs three runs in each group. The "
                    "p-values say nothing of runs with other seeds."
                )
                continue
            found = (f"{verdict} on {', '.join(names)}" for verdict, names in by_verdict.items())
            yield f"{group} against {first}: {'; '.join(found)}."
        yield (
            f"p: from resampling the studies. p seeds: Welch's t-test over the runs. Clear: both below "
            f"{SIGNIFICANT:g}; no p-value is corrected for how many there are."
        )
