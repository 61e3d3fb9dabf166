"""The scores section of a run page: verdicts, and tables of scores, intervals and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from radscribe.evaluation.diversity import Diversity
from radscribe.evaluation.families import CLINICAL, FAMILIES, SYSTEM
from radscribe.evaluation.family import ScoreTable
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.scores import SIGNIFICANT, Difference, Score
from radscribe.evaluation.summary import CLINICAL_F1, verdicts
from radscribe.evaluation.tables import means_cells
from radscribe.pages.page_parts import PlainRow, PlainTable, render
from radscribe.pages.run_page_charts import whisker
from radscribe.text.cleaning import UNKNOWN_TOKEN


@dataclass(frozen=True)
class _Cell:
    """A table cell: a score, whether it is the best of its column, and its whisker chart."""

    score: Score
    best: bool
    whisker: Markup


@dataclass(frozen=True)
class _Table:
    """A table of scores for all rows that have them, and of differences to the baselines.

    Attributes:
        caption: Caption that says what the scores are.
        headings: Headings of the columns.
        scores: One cell for each column, by row.
        differences: One difference for each column, by baseline.
        lower_is_better: Whether the lower of two scores is the better one.
    """

    caption: str
    headings: Sequence[str]
    scores: Mapping[str, Sequence[_Cell]]
    differences: Mapping[str, Sequence[Difference]]
    lower_is_better: bool


def scores_section(evaluation: Evaluation, score_command: str) -> Markup:
    """The section on the scores as HTML.

    Args:
        evaluation: Scores of the run and the baselines.
        score_command: Command that scores the run.
    """
    provenance = evaluation.provenance
    (text,) = evaluation.tables("text")
    clinical = evaluation.tables(CLINICAL)
    f1 = {
        "\n".join([short, *table.title.split(", ")]): name
        for table in clinical
        for short, name in table.columns.items()
        if name in CLINICAL_F1
    }
    return render(
        "scores.html",
        verdicts=verdicts(evaluation, text.columns, {name: name for name in CLINICAL_F1}),
        text=_compared(evaluation, text, "Scores"),
        missing=evaluation.missing,
        significant=SIGNIFICANT,
        # F1 is always visible; precision and recall are shown after a click.
        clinical_f1=_compared(evaluation, ScoreTable("", f1), f"{provenance.clinical_efficacy}. F1")
        if clinical
        else None,
        clinical=[_compared(evaluation, table, table.title) for table in clinical],
        observations=evaluation.observations,
        studies=provenance.studies,
        score_command=score_command,
        further=_further_tables(evaluation),
        by_observation=_by_observation_tables(evaluation),
        diversity=_diversity_table(evaluation.diversity),
        provenance=provenance,
        whisker=whisker,
    )


def _compared(evaluation: Evaluation, table: ScoreTable, caption: str) -> _Table:
    names = list(table.columns.values())
    scores = {
        row: [of_row[name] for name in names]
        for row, of_row in evaluation.scores.items()
        if all(name in of_row for name in names)
    }
    columns = list(zip(*scores.values(), strict=True))
    best_of = min if table.lower_is_better else max
    best = [best_of(score.value for score in column) for column in columns]
    most = [max(score.high for score in column) for column in columns]
    return _Table(
        caption,
        list(table.columns),
        {
            row: [
                _Cell(
                    score,
                    score.value == of_column and (table.lower_is_better or score.value > 0),
                    whisker(score.value, score.low, score.high, end),
                )
                for score, of_column, end in zip(of_row, best, most, strict=True)
            ]
            for row, of_row in scores.items()
        },
        {
            baseline: [differences[name] for name in names]
            for baseline, differences in evaluation.differences.items()
            if all(name in differences for name in names)
        },
        table.lower_is_better,
    )


def _further_tables(evaluation: Evaluation) -> list[_Table]:
    """The tables of all families except text metrics and clinical efficacy."""
    tables = []
    for family in FAMILIES:
        if family in ("text", CLINICAL):
            continue
        rules = evaluation.provenance.further.get(family)
        against = f" (against {rules})" if rules else ""
        tables += [
            _compared(evaluation, table, f"The {table.title}{against}") for table in evaluation.tables(family)
        ]
    return tables


def _by_observation_tables(evaluation: Evaluation) -> list[PlainTable]:
    return [
        PlainTable(
            f"{title} of this system, by observation",
            list(next(iter(means.values()))),
            [PlainRow(name, means_cells(values), marked=False) for name, values in means.items()],
        )
        for title, means in evaluation.by_observation.items()
    ]


def _diversity_table(diversity: Mapping[str, Diversity]) -> PlainTable:
    first = diversity[SYSTEM]
    percentiles = " · ".join(percentile.rstrip("%") for percentile in first.length_percentiles)
    rows = []
    for row, found in diversity.items():
        cells = [
            f"{found.distinct_reports} of {found.reports}",
            f"{found.most_frequent:.1%}",
            f"{found.unknown_words:.1%}",
            *(f"{share:.3f}" for share in found.distinct_ngrams.values()),
            f"{found.length_mean:.1f}",
            " · ".join(f"{length:.0f}" for length in found.length_percentiles.values()),
        ]
        rows.append(PlainRow("this system" if row == SYSTEM else row, cells, marked=row == SYSTEM))
    return PlainTable(
        "Variety and length of the reports as scored",
        [
            "distinct",
            "most frequent",
            UNKNOWN_TOKEN,
            *first.distinct_ngrams,
            "mean words",
            f"words at {percentiles}%",
        ],
        rows,
    )
