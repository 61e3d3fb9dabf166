"""The tables that `radscribe evaluate` prints, as lines of text at most 120 characters wide.

`radscribe.evaluation.result` says what the numbers are. Throughout, `scores` is by row and score name, and
`differences` by the names of the two rows whose scores are subtracted, then score name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from radscribe.evaluation.clinical import ObservationScore
from radscribe.evaluation.diversity import Diversity
from radscribe.evaluation.family import ScoreTable
from radscribe.evaluation.scores import Difference, GroupDifference, GroupScore, Score
from radscribe.text.cleaning import UNKNOWN_TOKEN

ScoresByRow = Mapping[str, Mapping[str, Score]]
Differences = Mapping[str, Mapping[str, Difference]]
Lines = list[list[str]]


def text_table(
    metrics: Sequence[str], scores: ScoresByRow, differences: Differences, diversity: Mapping[str, Diversity]
) -> str:
    """Text metrics with intervals, differences with intervals and p-values, and the share of distinct drafts.

    Args:
        metrics: Names of the metrics, one for each column.
        scores: Scores of the system and the baselines.
        differences: Differences between the system and the baselines.
        diversity: Diversity of the rows of `scores` and of the references.
    """
    lines = [["", *metrics, "distinct", "words"]]
    for row, texts in diversity.items():
        of_row = scores.get(row)
        cells = [_score_cell(of_row.get(name)) if of_row else [""] for name in metrics]
        lines += _stack([[row], *cells, *_diversity_cells(texts)])
    for row, of_metrics in differences.items():
        cells = [_difference_cell(of_metrics.get(name)) for name in metrics]
        lines += _stack([[row], *cells, [""], [""]])
    return format_table(lines)


def summary_table(names: Mapping[str, str], scores: ScoresByRow) -> str:
    """For each row of `scores`, one line of scores and one line of intervals.

    Args:
        names: Name of the score in each column, by the heading of the column.
        scores: Scores of the system and the baselines.
    """
    lines = [["", *names]]
    for row, of_row in scores.items():
        lines += _stack([[row], *(_score_cell(of_row.get(name)) for name in names.values())])
    return format_table(lines)


def diversity_table(diversity: Mapping[str, Diversity]) -> str:
    """Variety and length of the texts of each row."""
    first = next(iter(diversity.values()))
    percentiles = (f"{percentile} words" for percentile in first.length_percentiles)
    lines = [["", "most frequent", UNKNOWN_TOKEN, *first.distinct_ngrams, *percentiles]]
    for name, texts in diversity.items():
        lines.append(
            [
                name,
                f"{texts.most_frequent:.1%}",
                f"{texts.unknown_words:.1%}",
                *(f"{share:.3f}" for share in texts.distinct_ngrams.values()),
                *(f"{length:.0f}" for length in texts.length_percentiles.values()),
            ]
        )
    return format_table(lines)


def score_tables(tables: Sequence[ScoreTable], scores: ScoresByRow, differences: Differences) -> str:
    """Tables of one family below each other, in aligned columns: scores with intervals, differences with p.

    Intervals of differences are not shown; `Evaluation.to_json` has them.
    """
    lines: Lines = []
    for table in tables:
        if lines:
            lines.append([""] * (len(table.columns) + 1))
        lines.append([table.title, *table.columns])
        lines += _score_lines(list(table.columns.values()), scores, differences)
    widest = max(map(len, lines))
    return format_table([[*line, *[""] * (widest - len(line))] for line in lines])


def observation_table(observations: Mapping[str, Mapping[str, ObservationScore]]) -> str:
    """Precision, recall and F1 of the system on each observation, and how many references have it."""
    policies = list(observations.values())
    above, below = [""], ["system, by observation"]
    for uncertain in observations:
        above += [f"uncertain {uncertain.replace('_', ' ')}", "", "", ""]
        below += ["positive", "P", "R", "F1"]
    lines = [above, below]
    for name in policies[0]:
        cells = [name]
        for score in (of_policy[name] for of_policy in policies):
            cells += [str(score.support), f"{score.precision:.3f}", f"{score.recall:.3f}", f"{score.f1:.3f}"]
        lines.append(cells)
    return format_table(lines)


def means_table(title: str, means: Mapping[str, Mapping[str, float]]) -> str:
    """Means by observation, then measure; values that are integers are counts."""
    lines = [[f"{title}, by observation", *next(iter(means.values()))]]
    lines += [[observation, *means_cells(values)] for observation, values in means.items()]
    return format_table(lines)


def means_cells(values: Mapping[str, float]) -> list[str]:
    """The cells of one observation in a table of means."""
    return [f"{value}" if isinstance(value, int) else f"{value:.3f}" for value in values.values()]


def comparison_table(
    runs: Mapping[str, int],
    scores: Mapping[str, Mapping[str, GroupScore]],
    differences: Mapping[str, Mapping[str, GroupDifference]],
) -> str:
    """A row for each score and a column for each group of runs; the others are compared with the first group.

    Args:
        runs: Number of runs in each group.
        scores: Scores by group, then name of the score.
        differences: Differences from the first group, by group, then name of the score.
    """
    lines = [["", *runs], ["runs", *map(str, runs.values())]]
    for name in dict.fromkeys(name for of_group in scores.values() for name in of_group):
        cells = []
        for group in runs:
            score = scores[group].get(name)
            if score is None:
                cells.append(["-"])
                continue
            cell = [*_score_cell(score.mean), f"runs {score.lowest:.3f}-{score.highest:.3f}"]
            difference = differences.get(group, {}).get(name)
            if difference:
                value, _, p = _difference_cell(difference)
                cell.append(f"{value} {p}")
                if difference.p_holm is not None:
                    cell.append(f"Holm {difference.p_holm:.3f}")
                if difference.p_over_seeds is not None:
                    cell.append(f"p seeds {difference.p_over_seeds:.3f}")
                    if difference.p_over_seeds_holm is not None:
                        cell.append(f"Holm {difference.p_over_seeds_holm:.3f}")
                    cell.append(difference.verdict)
            cells.append(cell)
        lines += _stack([[name], *cells])
    return format_table(lines)


def _score_lines(names: Sequence[str], scores: ScoresByRow, differences: Differences) -> Lines:
    """Lines of the rows that have these scores, with intervals, then of their differences, with p-values."""
    lines: Lines = []
    for row, of_row in scores.items():
        if names[0] in of_row:
            lines += _stack([[row], *(_score_cell(of_row[name]) for name in names)])
    for row, of_names in differences.items():
        if names[0] in of_names:
            # The interval is left out, because these tables are long.
            cells = [[value, p] for value, _, p in (_difference_cell(of_names[name]) for name in names)]
            lines += _stack([[row], *cells])
    return lines


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


def _stack(cells: Sequence[Sequence[str]]) -> Lines:
    """The lines of one table row whose cells have one or more lines each."""
    return [list(line) for line in zip_longest(*cells, fillvalue="")]


def format_table(lines: Sequence[Sequence[str]]) -> str:
    """Format lines of cells as columns: the first is left-aligned, the others are right-aligned."""
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
