"""The result of scoring: scores, differences and the rules behind them, as stored in `metrics.json`.

Everything that shows scores takes an `Evaluation`, whether it was just computed or read from a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.evaluation.clinical import OWN_RULES, UNCERTAIN_POLICIES, ObservationScore
from radscribe.evaluation.diversity import Diversity
from radscribe.evaluation.families import CLINICAL, FAMILIES, METRICS, SYSTEM
from radscribe.evaluation.family import ScoreTable
from radscribe.evaluation.metrics import StudyStatistics
from radscribe.evaluation.scores import Difference, Score
from radscribe.evaluation.stress import StressResult, stress_tables
from radscribe.evaluation.tables import (
    diversity_table,
    means_table,
    observation_table,
    score_tables,
    text_table,
)
from radscribe.files import parse_json
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.values import typed

#: If at least this share of a system's words is `<unk>`, its scores are called inflated.
MANY_UNKNOWN = 0.05
_REFERENCES = "references"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The rules under which scores were computed. Scores under different rules are not comparable.

    Attributes:
        protocol: Name of the protocol.
        cleaning: Name of the cleaning rules.
        vocabulary_entries: Size of the vocabulary that references passed through; None without one.
        maximum_length: Length at which references were cut; None if they were not. Word ids of a vocabulary
            include begin and end.
        studies: Number of studies that were scored.
        references_sha256: SHA-256 of the study ids and the references as they were scored.
        truncation_rate: Share of references that lost words when they were cut.
        resamples: Number of bootstrap resamples.
        seed: Random seed of the bootstrap.
        radscribe_version: Version of RadScribe that computed the scores.
        labels: Labeller of the observations behind the clinical scores; None if there are none, as in metrics
            that an older RadScribe wrote.
        reference_labels_sha256: SHA-256 of the study ids and the labels of the references.
        further: What further families of scores were compared with, by family.
        tokenizer: Name of the language model whose tokens references were cut at; None without one.
        retriever: Content hash of the retriever whose reports are a baseline; None without one.
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
        """One line that must go with every score: studies, protocol, references and the notice."""
        return (
            f"{self.studies} studies, protocol {self.protocol}, references sha256 "
            f"{self.references_sha256[:12]}; {NOTICE}"
        )

    @property
    def clinical_efficacy(self) -> str:
        """A caption for clinical scores: their labeller, and whether published scores are comparable."""
        caption = f"Clinical efficacy, observations by {self.labels}"
        if self.labels is None or not self.labels.startswith(OWN_RULES):
            return caption
        return f"{caption}, not CheXpert or CheXbert: published scores do not compare"


@dataclass(frozen=True)
class SystemScores:
    """Scores of one system or of one baseline.

    Attributes:
        scores: Corpus score with interval by name, of all families of metrics.
        diversity: Diversity of the drafts as they are scored.
        observations: Clinical scores by uncertain policy, then observation; empty without labels.
        families: Statistics of each study by family, in the order of the sorted study ids. They are not
            saved, so they are empty if the scores were read from a file.
    """

    scores: Mapping[str, Score]
    diversity: Diversity
    observations: Mapping[str, Mapping[str, ObservationScore]]
    families: Mapping[str, StudyStatistics] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """The form of `metrics.json`. Fields with a default are missing in files of older versions."""

    scores: Mapping[str, Mapping[str, Score]]
    differences: Mapping[str, Mapping[str, Difference]]
    observations: Mapping[str, Mapping[str, Mapping[str, ObservationScore]]] = field(default_factory=dict)
    by_observation: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    diversity: Mapping[str, Diversity]
    unreadable: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str]
    provenance: Provenance
    stress: StressResult = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a system and its baselines on one set of references. `str()` gives the tables to print.

    Attributes:
        rows: Scores of the system and of each baseline, by name; the system is the first, named `system`.
        differences: Score of the system minus that of each baseline on the same resamples, by baseline, then
            metric.
        references: Diversity of the references as they are scored.
        missing: Reason why a metric is missing, by its name.
        provenance: Rules under which the scores were computed.
        by_observation: Tables of the system's single observations in further families: values by title,
            observation and measure.
        unreadable: Number of drafts of each row, and of references, that the labeller cannot read; empty if
            it did not label them.
        stress: How far each score moves when texts are changed; empty if that was not measured.
    """

    rows: Mapping[str, SystemScores]
    differences: Mapping[str, Mapping[str, Difference]]
    references: Diversity
    missing: Mapping[str, str]
    provenance: Provenance
    by_observation: Mapping[str, Mapping[str, Mapping[str, float]]]
    unreadable: Mapping[str, int]
    stress: StressResult = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything except the statistics of single studies, as plain JSON values."""
        stored = _Stored(
            scores=self.scores,
            differences=self.differences,
            observations=self.observations,
            by_observation=self.by_observation,
            diversity=self.diversity,
            unreadable=self.unreadable,
            missing=self.missing,
            provenance=self.provenance,
            stress=self.stress,
        )
        return {**asdict(stored), "notice": NOTICE}

    @classmethod
    def from_json(cls, values: Any) -> Evaluation:
        """Rebuild an evaluation from the result of `to_json`; clinical scores may be missing.

        Raises:
            RadScribeError: the values are not an evaluation; the message names the wrong field.
        """
        try:
            return cls._from_stored(typed(values, _Stored))
        except ValueError as error:
            raise RadScribeError(f"the values are no evaluation: {error}", "Score again") from error

    @classmethod
    def read(cls, path: Path, hint: str) -> Evaluation:
        """Read an evaluation from a file that holds the result of `to_json`.

        Args:
            path: The file to read.
            hint: What the error says to do if the file is damaged.

        Raises:
            RadScribeError: the file cannot be read or holds no evaluation; the message names the file and the
            wrong field.
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
            stored.stress,
        )

    @property
    def scores(self) -> dict[str, Mapping[str, Score]]:
        """The scores of each row."""
        return {name: row.scores for name, row in self.rows.items()}

    @property
    def observations(self) -> dict[str, Mapping[str, Mapping[str, ObservationScore]]]:
        """The scores of each observation, for each row that has clinical scores."""
        return {name: row.observations for name, row in self.rows.items() if row.observations}

    @property
    def diversity(self) -> dict[str, Diversity]:
        """The diversity of each row, and of the references."""
        return {name: row.diversity for name, row in self.rows.items()} | {_REFERENCES: self.references}

    def tables(self, family: str) -> list[ScoreTable]:
        """The tables of a family, with only the columns and tables that the system has scores for."""
        ours = self.rows[SYSTEM].scores
        tables = [replace(table, columns=table.columns_of(ours)) for table in FAMILIES[family].tables]
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
        paragraphs += [means_table(title, means) for title, means in self.by_observation.items()]
        if self.stress:
            paragraphs.append(stress_tables(self.stress))
        notes = [
            *self._cautions(),
            *self.readability_note(),
            *(f"{name} is not there: {reason}" for name, reason in self.missing.items()),
            str(self.provenance),
        ]
        return "\n\n".join([*paragraphs, "\n".join(notes)])

    def readability_note(self) -> list[str]:
        """A line that counts the texts that the labeller cannot read; empty if it can read all."""
        found = [f"{count} of {name}" for name, count in self.unreadable.items() if count]
        if not found:
            return []
        return [
            f"Unreadable to the labeller, which knows English only, of {self.provenance.studies} texts each: "
            f"{', '.join(found)}. An unreadable text states no observation."
        ]

    def _cautions(self) -> list[str]:
        """Warnings that keep readers of the table from being misled."""
        share = self.rows[SYSTEM].diversity.unknown_words
        if share < MANY_UNKNOWN or self.references.unknown_words == 0:
            return []
        return [
            f"CAUTION: {share:.1%} of the system's words are {UNKNOWN_TOKEN}. Under protocol "
            f"{self.provenance.protocol} they match {UNKNOWN_TOKEN} in the references and inflate every "
            "score; score with protocol clean_full"
        ]
