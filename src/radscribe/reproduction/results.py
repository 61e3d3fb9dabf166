"""`RESULTS.md`: the tables of a paper, with our scores and the published ones one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.evaluation.family import SYSTEM
from radscribe.evaluation.published import CLINICAL_EFFICACY
from radscribe.evaluation.result import Evaluation
from radscribe.files import write_whole
from radscribe.reproduction.grid import Cell, Grid
from radscribe.reproduction.papers import DATA_SETS, Row, Table
from radscribe.runs.run_directory import RunDirectory


def write_results(
    file: Path,
    grid: Grid,
    failed: Mapping[str, str],
    logs: Path,
    page: Path | None,
    evaluations: Mapping[Path, Evaluation] | None = None,
) -> None:
    """Write the tables of a grid as Markdown.

    Args:
        file: File to write; links in it are relative to its folder.
        grid: The grid.
        failed: The reason why a cell failed, by the name of the cell.
        logs: Folder of the logs.
        page: The comparison page; None if there is none.
        evaluations: Scores of cells by their run directory, where they are not those that the runs keep. They
            are under one protocol, and their baselines stand below the rows.
    """
    evaluations = evaluations or {}
    seeds = ", ".join(map(str, grid.seeds))
    lines = [
        f"# Reproduction on {DATA_SETS[grid.tables[0].data]}",
        "",
        f"Seeds: {seeds}. Ours is the mean over the seeds, with the lowest and the highest run in brackets.",
    ]
    if page is not None:
        lines += ["", f"Intervals and paired tests: [{page.name}]({page.name})."]
    for table in grid.tables:
        lines += ["", *_table_lines(table, grid, failed, logs.name, evaluations)]
    write_whole(file, "\n".join([*lines, "", NOTICE]) + "\n")


def _table_lines(
    table: Table, grid: Grid, failed: Mapping[str, str], logs: str, evaluations: Mapping[Path, Evaluation]
) -> list[str]:
    lines = [f"## {table.title}", ""]
    if table.published_on != table.data:
        lines += [
            f"The paper's numbers are of {DATA_SETS[table.published_on]}, ours of {DATA_SETS[table.data]}: "
            "they do not compare. They stand here to show the order of the rows.",
            "",
        ]
    quoted = any(row.published for row in table.rows)
    if quoted and CLINICAL_EFFICACY.keys() & table.scores:
        lines += [
            "The paper's clinical scores are by CheXpert or CheXbert, ours by RadScribe's rules over 14 "
            "observations, uncertain as absent: they do not compare.",
            "",
        ]
    if table.note:
        lines += [table.note, ""]
    if evaluations:
        lines += [f"All are scored under the protocol {table.protocol}.", ""]
    lines += [
        f"| row | of | {' | '.join(table.scores)} |",
        f"|---|---|{'---:|' * len(table.scores)}",
    ]
    notes = []
    for row in table.rows:
        ours, note = _ours(row, table, grid, failed, logs, evaluations)
        label = "" if quoted else f" {row.label}"
        if quoted:
            published = [
                f"{row.published[name]:.3f}" if name in row.published else "–" for name in table.scores
            ]
            lines.append(f"| {row.label} | paper | {' | '.join(published)} |")
        lines.append(f"|{label} | {note or 'ours'} | {' | '.join(ours)} |")
        for cell in grid.of_recipe(row.recipe):
            if cell.name in failed:
                notes.append(f"- {cell.name}: {failed[cell.name]}")
    if evaluations:
        first = next(iter(evaluations.values()))
        for baseline in [row for row in first.rows if row != SYSTEM]:
            values = _scores_of(first, baseline)
            shown = [f"{values[name]:.3f}" if name in values else "–" for name in map(_own, table.scores)]
            lines.append(f"| {baseline} | baseline | {' | '.join(shown)} |")
    return [*lines, "", *notes] if notes else lines


def _ours(
    row: Row,
    table: Table,
    grid: Grid,
    failed: Mapping[str, str],
    logs: str,
    evaluations: Mapping[Path, Evaluation],
) -> tuple[list[str], str]:
    """Our scores of a row as text, and what to say of the row; empty if all its cells are done."""
    cells = grid.of_recipe(row.recipe)
    done = [cell for cell in cells if cell.name not in failed and cell.finished]
    broken = [cell for cell in cells if cell.name in failed]
    scores = [_scores(cell, evaluations) for cell in done]
    if row.recipe is None:
        note = f"no recipe for {DATA_SETS[table.data]}"
    elif not cells:
        note = "not run"
    elif broken:
        links = ", ".join(f"[{cell.name}]({logs}/{cell.name}.log)" for cell in broken)
        note = f"failed: {links}" if not done else f"ours, {len(done)} of {len(cells)}; failed: {links}"
    else:
        note = (
            "" if len(done) == len(cells) else "not run" if not done else f"ours, {len(done)} of {len(cells)}"
        )
    return [
        _shown([values[name] for values in scores if name in values]) for name in map(_own, table.scores)
    ], note


def _own(name: str) -> str:
    """The name of our score that is nearest to a published one."""
    return f"{name} (14, as_absent)" if name in CLINICAL_EFFICACY else name


def _scores(cell: Cell, evaluations: Mapping[Path, Evaluation]) -> dict[str, float]:
    try:
        evaluation = evaluations.get(cell.path) or Evaluation.read(
            RunDirectory(cell.path).metrics, "Remove the cell, and run it again"
        )
    except RadScribeError:
        return {}
    return _scores_of(evaluation, SYSTEM)


def _scores_of(evaluation: Evaluation, row: str) -> dict[str, float]:
    return {name: score.value for name, score in evaluation.rows[row].scores.items()}


def _shown(values: Sequence[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
