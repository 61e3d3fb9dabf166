"""The end of a reproduction: the comparison page over all its cells, and the tables of `RESULTS.md`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.evaluation.result import Evaluation
from radscribe.pages.comparison_page import write_comparison_page
from radscribe.reproduction.grid import Grid
from radscribe.reproduction.results import write_results

PAGE, RESULTS = "comparison.html", "RESULTS.md"


def write_ending(grid: Grid, failed: Mapping[str, str], out: Path, *, resamples: int, progress: bool) -> str:
    """Write the comparison page and `RESULTS.md`.

    Args:
        grid: The grid of all rows, with those that were not run.
        failed: The reason why a part or a cell failed, by name.
        out: Directory of the reproduction.
        resamples: Number of bootstrap resamples of the page.
        progress: Show the progress of the scoring.

    Returns:
        What was written, in words.
    """
    groups: dict[str, list[Path]] = {}
    for table in grid.tables:
        for row in table.rows:
            runs = [cell.path for cell in grid.of_recipe(row.recipe) if cell.finished]
            if runs and runs not in groups.values():
                groups[f"{row.label} ({table.key})" if row.label in groups else row.label] = runs
    protocol = grid.tables[0].protocol
    evaluations: dict[Path, Evaluation] = {}
    page, said = None, "no comparison page, for fewer than two rows are done"
    if len(groups) > 1:
        try:
            compared = write_comparison_page(
                groups, out / PAGE, protocol=protocol, resamples=resamples, progress=progress
            )
            page, said = out / PAGE, f"comparison: {out / PAGE}"
            if protocol:
                members = [member for group in compared.scored.groups.values() for member in group]
                evaluations = {member.path: member.evaluation for member in members}
        except RadScribeError as error:
            said = f"no comparison page: {error}"
    write_results(out / RESULTS, grid, failed, out / "logs", page, evaluations)
    return f"{said}\nresults: {out / RESULTS}"
