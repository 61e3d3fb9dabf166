"""The table of a comparison as LaTeX and as Markdown, to paste into a paper or a README."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from radscribe.evaluation.comparison_result import Comparison
from radscribe.evaluation.scores import Score

#: Text in every file that is written here, by which RadScribe recognises its own files.
LATEX_MARK = "% Comparison by RadScribe"
MARKDOWN_MARK = "<!-- Comparison by RadScribe -->"
_LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)
#: Begins a second, smaller line in a cell of a LaTeX table.
_SMALL_LINE = r"\\\scriptsize "
_MARKDOWN_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|"})


def latex_table(comparison: Comparison) -> str:
    """The scores as a LaTeX table for the package `booktabs`: a row for each group, and for each baseline.

    An interval stands under its score, so that six scores fit the width of a page. A score is bold only if
    its group is clearly higher than every other group; see `compare_groups`.
    """
    names = comparison.names
    rows = _rows(
        comparison, r"\textbf{{{}}}".format, latex_text, rf"\shortstack{{{{{{}}{_SMALL_LINE}{{}}--{{}}}}}}"
    )
    heads = [rf"\shortstack{{{latex_text(name).replace(' (', f'{_SMALL_LINE}(')}}}" for name in names]
    lines = [
        LATEX_MARK,
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\small\setlength{\tabcolsep}{2pt}",
        rf"\caption{{{latex_text(_caption(comparison))}}}",
        rf"\begin{{tabular}}{{l{'c' * len(names)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows[: len(comparison.runs)]),
        *([r"\midrule"] if len(rows) > len(comparison.runs) else []),
        *(" & ".join(row) + r" \\" for row in rows[len(comparison.runs) :]),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown_table(comparison: Comparison) -> str:
    """The scores and the tests as Markdown: a row for each group and baseline, then one for each test.

    A score is bold only if its group is clearly higher than every other group; see `compare_groups`.
    """
    names = comparison.names
    rows = _rows(comparison, "**{}**".format, markdown_text, "{} ({}–{})")
    lines = [MARKDOWN_MARK, "", *_markdown(["", *map(markdown_text, names)], rows), ""]
    first = next(iter(comparison.runs))
    tests = [
        [
            markdown_text(f"{group} − {first}"),
            markdown_text(name),
            f"{test.value:+.3f} ({test.low:+.3f} to {test.high:+.3f})",
            *(_p(value) for value in (test.p, test.p_holm, test.p_over_seeds, test.p_over_seeds_holm)),
            test.verdict,
        ]
        for group, differences in comparison.differences.items()
        for name, test in differences.items()
    ]
    columns = ["groups", "score", "difference", "p", "Holm", "p seeds", "Holm", "verdict"]
    lines += [*_markdown(columns, tests), "", markdown_text(_caption(comparison))]
    return "\n".join(lines) + "\n"


def _rows(
    comparison: Comparison, bold: Callable[[str], str], escape: Callable[[str], str], form: str
) -> list[list[str]]:
    """The rows of groups, then of baselines: name, and scores with their intervals."""

    def cell(found: Mapping[str, Score], name: str, leads: bool) -> str:
        if name not in found:
            return "--"
        score = found[name]
        value = bold(f"{score.value:.3f}") if leads else f"{score.value:.3f}"
        return form.format(value, f"{score.low:.3f}", f"{score.high:.3f}")

    groups = [
        [
            escape(group) + (f" ({runs} runs)" if runs > 1 else ""),
            *(
                cell(
                    {score: found.mean for score, found in comparison.scores[group].items()},
                    name,
                    comparison.leaders.get(name) == group,
                )
                for name in comparison.names
            ),
        ]
        for group, runs in comparison.runs.items()
    ]
    baselines = [
        [f"{escape(baseline)} (baseline)", *(cell(found, name, False) for name in comparison.names)]
        for baseline, found in comparison.baseline_scores.items()
    ]
    return groups + baselines


def _caption(comparison: Comparison) -> str:
    return (
        "Means over the runs with 95% intervals from resampling the studies. Bold: clearly higher than every "
        "other group, over studies and, where both groups have three runs, over seeds (p below .05 by Holm's "
        f"method). {comparison.rules}."
    )


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    aligned = ["---", *["---:"] * (len(columns) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (columns, aligned, *rows)]


def _p(value: float | None) -> str:
    return "--" if value is None else f"{value:.3f}"


def latex_text(text: str) -> str:
    """A text with the characters that LaTeX gives a meaning to escaped."""
    return text.translate(_LATEX_ESCAPES)


def markdown_text(text: str) -> str:
    """A text with the characters that Markdown gives a meaning to escaped."""
    return text.translate(_MARKDOWN_ESCAPES)
