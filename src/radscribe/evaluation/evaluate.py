"""From drafts and references by study id to a table that says how good, how sure, and under which rules."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from radscribe import NOTICE
from radscribe.errors import RadScribeError
from radscribe.evaluation.bootstrap import Difference, Score, paired_test, scores_with_intervals
from radscribe.evaluation.diversity import Diversity, measure_diversity
from radscribe.evaluation.meteor import MeteorUnavailableError, meteor_statistics
from radscribe.evaluation.metrics import StudyStatistics, text_statistics
from radscribe.studies.text_files import read_text
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.text.protocols import get_protocol
from radscribe.text.vocabulary import Vocabulary

SYSTEM = "system"
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")
#: From this share of `<unk>` among a system's words on, its scores are called inflated.
MANY_UNKNOWN = 0.05
_IDS_NAMED = 3


@dataclass(frozen=True, slots=True)
class Provenance:
    """The rules under which scores were computed; scores with other rules are not comparable.

    Attributes:
        protocol: name of the text rules.
        cleaning: name of the cleaning rules.
        vocabulary_entries: size of the vocabulary that references passed through, if any.
        maximum_length: ids at which references were cut, begin and end included, if at all.
        studies: how many were scored.
        references_sha256: of ids and references as scored.
        truncation_rate: share of references that lost words to the cut.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        radscribe_version: that computed the scores.
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

    def __str__(self) -> str:
        parts = [f"protocol {self.protocol}", f"cleaning {self.cleaning}"]
        if self.vocabulary_entries is not None:
            parts.append(f"vocabulary of {self.vocabulary_entries} entries")
        if self.maximum_length is not None:
            parts.append(
                f"references cut at {self.maximum_length} ids ({self.truncation_rate:.1%} lost words)"
            )
        parts.append(f"{self.studies} studies")
        parts.append(f"references sha256 {self.references_sha256[:12]}")
        parts.append(f"95% intervals from {self.resamples} resamples, seed {self.seed}")
        parts.append(f"radscribe {self.radscribe_version}")
        return "; ".join([*parts, NOTICE])


@dataclass(frozen=True)
class SystemScores:
    """What one system, or one baseline, scored.

    Attributes:
        scores: corpus score and interval by metric name.
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
    """

    rows: Mapping[str, SystemScores]
    differences: Mapping[str, Mapping[str, Difference]]
    references: Diversity
    missing: Mapping[str, str]
    provenance: Provenance

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
            "diversity": {name: asdict(diversity) for name, diversity in self._diversities().items()},
            "missing": dict(self.missing),
            "provenance": asdict(self.provenance),
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        return "\n".join(
            [
                _format_table(self._score_lines()),
                "",
                _format_table(self._diversity_lines()),
                "",
                *self._cautions(),
                *(f"{metric} is not there: {reason}" for metric, reason in self.missing.items()),
                str(self.provenance),
            ]
        )

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

    def _score_lines(self) -> list[list[str]]:
        lines = [["", *METRICS, "distinct", "words"]]
        for name, row in self.rows.items():
            cells = [_score_cell(row.scores.get(metric)) for metric in METRICS]
            lines += _stack([[name], *cells, *_diversity_cells(row.diversity)])
        lines += _stack([["references"], *([""] for _ in METRICS), *_diversity_cells(self.references)])
        for name, differences in self.differences.items():
            cells = [_difference_cell(differences.get(metric)) for metric in METRICS]
            lines += _stack([[f"{SYSTEM} - {name}"], *cells, [""], [""]])
        return lines

    def _diversity_lines(self) -> list[list[str]]:
        distinct, percentiles = self.references.distinct_ngrams, self.references.length_percentiles
        lines = [
            [
                "",
                "most frequent",
                UNKNOWN_TOKEN,
                *distinct,
                *(f"{percentile} words" for percentile in percentiles),
            ]
        ]
        for name, diversity in self._diversities().items():
            lines.append(
                [
                    name,
                    f"{diversity.most_frequent:.1%}",
                    f"{diversity.unknown_words:.1%}",
                    *(f"{share:.3f}" for share in diversity.distinct_ngrams.values()),
                    *(f"{length:.0f}" for length in diversity.length_percentiles.values()),
                ]
            )
        return lines


def evaluate_texts(
    hypotheses: Mapping[str, str],
    references: Mapping[str, str],
    *,
    protocol: str,
    cleaning: str,
    vocabulary: Vocabulary | None = None,
    maximum_length: int | None = None,
    baselines: Mapping[str, Mapping[str, str]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    meteor: bool = True,
) -> Evaluation:
    """Score drafts against references under a protocol.

    Args:
        hypotheses: draft by study id.
        references: report section as written, by study id; exactly the ids of `hypotheses`.
        protocol: `r2gen`, `clean_full` or `raw`.
        cleaning: name of the cleaning rules in `radscribe.text.cleaning.CLEANERS`.
        vocabulary: of the training reports; needed by `r2gen`.
        maximum_length: ids including begin and end; needed by `r2gen`.
        baselines: further drafts by name, scored alike and compared with the system.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        meteor: also run METEOR, which takes Java some ten seconds to start.

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
        rules.reference(text, cleaning=cleaning, vocabulary=vocabulary, maximum_length=maximum_length)
        for text in written
    ]
    drafts = {
        name: [rules.hypothesis(texts[study], cleaning=cleaning) for study in ids]
        for name, texts in systems.items()
    }
    families = {name: {"text": text_statistics(texts, scored)} for name, texts in drafts.items()}
    missing = {}
    if meteor:
        try:
            for name, statistics in _meteor_of_all(drafts, scored).items():
                families[name]["meteor"] = statistics
        except MeteorUnavailableError as error:
            missing["METEOR"] = str(error)
    else:
        missing["METEOR"] = "it was not asked for"

    rows = {
        name: SystemScores(
            scores_with_intervals(list(families[name].values()), resamples, seed),
            measure_diversity(texts),
            families[name],
        )
        for name, texts in drafts.items()
    }
    ours = list(families[SYSTEM].values())
    differences = {
        name: paired_test(ours, list(families[name].values()), resamples, seed) for name in baselines or {}
    }
    provenance = Provenance(
        protocol=protocol,
        cleaning=cleaning,
        vocabulary_entries=len(vocabulary) if vocabulary and rules.through_vocabulary else None,
        maximum_length=maximum_length if rules.through_vocabulary else None,
        studies=len(ids),
        references_sha256=_hash(ids, scored),
        truncation_rate=rules.truncation_rate(written, cleaning=cleaning, maximum_length=maximum_length),
        resamples=resamples,
        seed=seed,
        radscribe_version=importlib.metadata.version("radscribe"),
    )
    return Evaluation(rows, differences, measure_diversity(scored), missing, provenance)


def compare(first: Evaluation, second: Evaluation) -> dict[str, Difference]:
    """Paired tests between two evaluated systems: the first minus the second, by metric.

    The resamples and the seed are those of the first evaluation.

    Raises:
        RadScribeError: the two were not scored on the same references under the same rules.
    """
    rules = [
        (provenance.protocol, provenance.cleaning, provenance.references_sha256)
        for provenance in (first.provenance, second.provenance)
    ]
    if rules[0] != rules[1]:
        raise RadScribeError(
            "the two systems were not scored on the same references under the same rules",
            f"First: {first.provenance}. Second: {second.provenance}",
        )
    ours, theirs = first.rows[SYSTEM].families, second.rows[SYSTEM].families
    both = [name for name in ours if name in theirs]
    return paired_test(
        [ours[name] for name in both],
        [theirs[name] for name in both],
        first.provenance.resamples,
        first.provenance.seed,
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
        except ValueError as error:
            raise RadScribeError(f"{where} is not valid JSON: {error}", hint) from error
        for name in ("id", "text"):
            if not isinstance(entry, dict) or not isinstance(entry.get(name), str):
                raise RadScribeError(f"{where} has no string '{name}'", hint)
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


def _hash(ids: Sequence[str], texts: Sequence[str]) -> str:
    lines = (json.dumps([study, text]) + "\n" for study, text in zip(ids, texts, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _score_cell(score: Score | None) -> list[str]:
    return ["-"] if score is None else [f"{score.value:.3f}", f"{score.low:.3f}-{score.high:.3f}"]


def _difference_cell(difference: Difference | None) -> list[str]:
    if difference is None:
        return ["-"]
    return [
        f"{difference.value:+.3f}",
        f"{difference.low:+.3f} {difference.high:+.3f}",
        f"p {difference.p:.3f}",
    ]


def _diversity_cells(diversity: Diversity) -> list[list[str]]:
    share = f"{diversity.distinct_reports / diversity.reports:.1%}"
    return [[str(diversity.distinct_reports), share], [f"{diversity.length_mean:.1f}"]]


def _stack(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Lines of one table row whose cells have one line or more."""
    return [list(line) for line in zip_longest(*cells, fillvalue="")]


def _format_table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    )
