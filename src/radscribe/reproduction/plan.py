"""The plan of a reproduction: cells and parts, and how long and how large they are, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from radscribe.bench.estimate import Estimate, estimate
from radscribe.bench.plan import Accelerator
from radscribe.progress import track
from radscribe.reproduction.grid import Cell, Grid
from radscribe.reproduction.job import Job
from radscribe.studies.store import PreparedStore

_UNKNOWN = "not known: its language model is not here"


def plan_table(
    grid: Grid, jobs: Sequence[Job], done: set[str], store: PreparedStore, workers: int, *, progress: bool
) -> str:
    """The plan as text.

    Args:
        grid: The grid.
        jobs: Its jobs.
        done: Names of the jobs that are done.
        store: The prepared store.
        workers: Number of cells that run at the same time.
        progress: Show how many configurations are measured.
    """
    estimates = _estimates(grid, done, store, progress)
    name_width = max(len(job.name) for job in jobs)
    lines = [f"{'part or cell':{name_width}}  state  {'hours':>8} {'GB':>6}  how"]
    total, memory, unknown = 0.0, [0.0], 0
    for job in jobs:
        if job.name in done:
            lines.append(f"{job.name:{name_width}}  done   {'':>8} {'':>6}  ")
            continue
        if job.kind:
            users = sum(job.name in other.needs for other in jobs)
            said = f"not estimated; used by {users} {'other' if users == 1 else 'others'}"
            lines.append(f"{job.name:{name_width}}  to do  {'–':>8} {'–':>6}  {said}")
            continue
        found = estimates[job.name]
        if found is None:
            unknown += 1
            lines.append(f"{job.name:{name_width}}  to do  {'–':>8} {'–':>6}  {_UNKNOWN}")
            continue
        total += found.hours
        memory.append(found.memory_gb)
        lines.append(
            f"{job.name:{name_width}}  to do  {found.hours:8.3g} {found.memory_gb:6.3g}  {found.how}"
        )
    open_cells = [job for job in jobs if not job.kind and job.name not in done]
    lines.append(
        f"{len(open_cells)} of {len(grid.cells)} cells to do: {total:.3g} hours one by one, "
        f"{total / workers:.3g} at best with {workers} at a time; the largest needs {max(memory):.3g} GB"
        + (f"; {unknown} not known" if unknown else "")
    )
    return "\n".join(lines)


def _estimates(
    grid: Grid, done: set[str], store: PreparedStore, progress: bool
) -> dict[str, Estimate | None]:
    """The estimate of each cell that is not done; cells whose systems are alike are measured once."""
    studies = {split: len(store.studies(split)) for split in ("train", "val", "test")}
    alike: dict[str, list[Cell]] = {}
    for cell in grid.cells:
        if cell.name not in done:
            config = asdict(cell.config(store.path))
            del config["recipe"], config["training"]["seed"]
            alike.setdefault(json.dumps(config, sort_keys=True, default=str), []).append(cell)
    found: dict[str, Estimate | None] = {}
    for cells in track(list(alike.values()), len(alike), "plan", "configurations", show=progress):
        estimated = estimate(cells[0].config(store.path), studies, Accelerator())
        found |= dict.fromkeys((cell.name for cell in cells), estimated)
    return found
