"""The sections of a comparison page on scores: means, tests, baselines, observations, maps and diversity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from radscribe.evaluation.comparison_result import Comparison
from radscribe.evaluation.diversity import Diversity
from radscribe.evaluation.families import FAMILIES, METRICS, SYSTEM
from radscribe.evaluation.localisation import MEASURES
from radscribe.evaluation.published import published_rows
from radscribe.evaluation.result import Evaluation
from radscribe.evaluation.scores import SIGNIFICANT, GroupDifference, GroupScore, Score
from radscribe.pages.page_parts import PlainRow, PlainTable, render
from radscribe.pages.run_page_charts import whisker
from radscribe.recipes.datasets import benchmark_of
from radscribe.runs.group_scoring import ScoredGroups
from radscribe.text.cleaning import UNKNOWN_TOKEN

#: Published scores that are shown, in the order of the columns; `CE` is by another labeller than ours.
_PUBLISHED = (*METRICS, "CE precision", "CE recall", "CE F1")
_NOTHING = "–"
_MAP_FAMILIES = {name: family for name, family in FAMILIES.items() if family.needs == "finding masks"}


@dataclass(frozen=True)
class _Cell:
    """A score of a group: mean and interval, the runs, whether the group leads, and the whisker chart."""

    score: Score
    lowest: float | None
    highest: float | None
    leads: bool
    whisker: Markup


def score_table(comparison: Comparison) -> Markup:
    """Scores of all groups and baselines with intervals, and with the range of the runs."""
    names = comparison.names
    most = {
        name: max(
            score.high
            for of_row in (_means(comparison.scores), comparison.baseline_scores)
            for score in (found[name] for found in of_row.values() if name in found)
        )
        for name in names
    }

    def cell(group: str, name: str) -> _Cell | None:
        found: GroupScore | None = comparison.scores[group].get(name)
        if found is None:
            return None
        several = comparison.runs[group] > 1
        return _Cell(
            found.mean,
            found.lowest if several else None,
            found.highest if several else None,
            comparison.leaders.get(name) == group,
            whisker(found.mean.value, found.mean.low, found.mean.high, most[name]),
        )

    def of_baseline(baseline: str, name: str) -> _Cell | None:
        score = comparison.baseline_scores[baseline].get(name)
        if score is None:
            return None
        return _Cell(score, None, None, False, whisker(score.value, score.low, score.high, most[name]))

    return render(
        "comparison_scores.html",
        headings=[heading(name) for name in names],
        groups={group: [cell(group, name) for name in names] for group in comparison.scores},
        runs=comparison.runs,
        baselines={
            baseline: [of_baseline(baseline, name) for name in names]
            for baseline in comparison.baseline_scores
        },
    )


def test_table(comparison: Comparison) -> Markup:
    """Differences to the first group, with raw and adjusted p-values over studies and over seeds."""
    first = next(iter(comparison.runs))
    return _differences(
        {f"{group} − {first}": tests for group, tests in comparison.differences.items()}, comparison.names
    )


def baseline_table(comparison: Comparison) -> Markup:
    """Differences to each baseline, with raw and adjusted p-values over studies."""
    rows = {
        f"{group} − {baseline}": tests
        for baseline, of_baseline in comparison.over_baselines.items()
        for group, tests in of_baseline.items()
        if tests
    }
    tested = {name for row in rows.values() for name in row}
    return _differences(rows, [name for name in comparison.names if name in tested])


def _differences(rows: Mapping[str, Mapping[str, GroupDifference]], names: Sequence[str]) -> Markup:
    if not rows:
        return Markup()
    return render(
        "comparison_differences.html",
        headings=[heading(name) for name in names],
        rows={row: [tests.get(name) for name in names] for row, tests in rows.items()},
        kind_of=_kind_of,
    )


def _kind_of(test: GroupDifference) -> str:
    """The class of a difference by its adjusted p-values: `higher`, `lower` or `unclear`."""
    worst = max(test.p_holm or 0, test.p_over_seeds_holm or 0)
    if worst >= SIGNIFICANT or test.value == 0:
        return "unclear"
    return "higher" if test.value > 0 else "lower"


def heading(name: str) -> str:
    """The heading of a score's column: the kind of a map, and what stands in brackets, are further lines."""
    for kind in _MAP_FAMILIES:
        if name.startswith(kind):
            return f"{name.removeprefix(kind).strip()}\n{kind}"
    short, bracket, rest = name.partition(" (")
    return "\n".join([short, *rest.rstrip(")").split(", ")]) if bracket else name


def observation_table(scored: ScoredGroups) -> PlainTable | None:
    """F1 of each observation in each group, uncertain as present; None if no group has clinical scores."""
    policy = "as_present"
    found = {
        group: [
            evaluation.rows[SYSTEM].observations[policy]
            for evaluation in evaluations
            if evaluation.rows[SYSTEM].observations
        ]
        for group, evaluations in scored.evaluations.items()
    }
    found = {group: of_group for group, of_group in found.items() if of_group}
    if not found:
        return None
    reference = next(iter(found.values()))[0]

    def f1(group: str, name: str) -> str:
        values = [scores[name].f1 for scores in found[group]]
        spread = f" ({min(values):.3f}–{max(values):.3f})" if len(values) > 1 else ""
        return f"{np.mean(values):.3f}{spread}"

    rows = [
        PlainRow(name, [str(reference[name].support), *(f1(group, name) for group in found)], marked=False)
        for name in reference
    ]
    return PlainTable(
        "F1 of each observation, uncertain as present: the mean over the runs, with the lowest and the "
        "highest run. No test is made of these",
        ["references", *found],
        rows,
    )


def localisation_table(scored: ScoredGroups) -> PlainTable | None:
    """Where the systems looked, against the finding masks: a row for each map of each group; None without."""
    rows = []
    for family in _MAP_FAMILIES.values():
        for group, evaluations in scored.evaluations.items():
            scores = [evaluation.rows[SYSTEM].scores for evaluation in evaluations]
            if all(name in of_run for of_run in scores for name in family.scores):
                means = [np.mean([of_run[name].value for of_run in scores]) for name in family.scores]
                cells = [f"{mean:.3f}" for mean in means]
                rows.append(PlainRow(f"{family.name} · {group}", cells, marked=False))
    if not rows:
        return None
    return PlainTable("Each kind of map against the finding masks, mean over the runs", list(MEASURES), rows)


def diversity_table(scored: ScoredGroups) -> PlainTable:
    """Length and variety of the drafts of each run, and of the references."""
    first = next(iter(scored.evaluations.values()))[0]
    rows = [
        PlainRow(_numbered(group, number, len(evaluations)), _cells(run.rows[SYSTEM].diversity), marked=False)
        for group, evaluations in scored.evaluations.items()
        for number, run in enumerate(evaluations, start=1)
    ]
    rows.append(PlainRow("references", _cells(first.references), marked=True))
    percentiles = " · ".join(name.rstrip("%") for name in first.references.length_percentiles)
    return PlainTable(
        "Lengths and variety of the reports as scored; the references are marked",
        [
            "distinct",
            "most frequent",
            UNKNOWN_TOKEN,
            *first.references.distinct_ngrams,
            "mean words",
            f"words at {percentiles}%",
        ],
        rows,
    )


def _cells(found: Diversity) -> list[str]:
    return [
        f"{found.distinct_reports} of {found.reports}",
        f"{found.most_frequent:.1%}",
        f"{found.unknown_words:.1%}",
        *(f"{share:.3f}" for share in found.distinct_ngrams.values()),
        f"{found.length_mean:.1f}",
        " · ".join(f"{length:.0f}" for length in found.length_percentiles.values()),
    ]


def _numbered(group: str, number: int, runs: int) -> str:
    return group if runs == 1 else f"{group} · {number}"


def _means(scores: Mapping[str, Mapping[str, GroupScore]]) -> dict[str, dict[str, Score]]:
    return {group: {name: score.mean for name, score in found.items()} for group, found in scores.items()}


def published_section(scored: ScoredGroups) -> Markup:
    """Published rows of the papers beside ours, or the reason why there are none."""
    benchmark = benchmark_of(scored.store) if scored.store else None
    if benchmark is None:
        what = (
            "the store was not prepared from it"
            if scored.store
            else "draft files without a store do not say what they are of"
        )
        return render("comparison_published.html", table=None, what=what, notes=[])
    rows = published_rows(benchmark)
    names = [name for name in _PUBLISHED if any(name in row.scores for row in rows)]
    protocol = next(iter(scored.evaluations.values()))[0].provenance.protocol
    ours = [
        PlainRow(
            f"{group} (here)",
            [*(_mean(evaluations, name) for name in names), protocol],
            marked=True,
        )
        for group, evaluations in scored.evaluations.items()
    ]
    theirs = [
        PlainRow(
            row.name,
            [
                *(f"{row.scores[name]:.3f}" if name in row.scores else _NOTHING for name in names),
                f"{row.protocol} [{number}]",
            ],
            marked=False,
        )
        for number, row in enumerate(rows, start=1)
    ]
    notes = [f"{row.name}: {row.source}. {row.caveat}" for row in rows]
    table = PlainTable(
        f"Published scores on {benchmark}, as typed from the papers, beside the means of the groups here",
        [*names, "protocol"],
        [*ours, *theirs],
    )
    return render("comparison_published.html", table=table, what=benchmark, notes=notes)


def _mean(evaluations: Sequence[Evaluation], name: str) -> str:
    scores = [evaluation.rows[SYSTEM].scores for evaluation in evaluations]
    if not all(name in of_run for of_run in scores):
        return _NOTHING
    return f"{np.mean([of_run[name].value for of_run in scores]):.3f}"
