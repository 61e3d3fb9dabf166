"""The command that reproduces the tables of a paper."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from radscribe.errors import RadScribeError
from radscribe.ranges import COUNT, WEIGHT, check_options


def reproduce(
    paper: str,
    *,
    store: Path,
    out: Path,
    data: Literal["iu-xray", "mimic-cxr", "chexpert-plus", "phantom"] | None = None,
    seeds: int = 1,
    only: list[str] | None = None,
    set: list[str] | None = None,
    plan: bool = False,
    engine: Literal["local", "ray"] = "local",
    workers: int = 1,
    cpus: int | None = None,
    gpus: float = 0.0,
    address: str = "",
    resamples: int = 1000,
    progress: bool = True,
) -> None:
    """Train and score all rows of a paper's tables, and set the scores beside the published ones.

    Each row is trained with each seed; a row with a seed is a cell. Parts that several cells need are made
    once. A cell that fails is shown as failed, and the others go on. The same command after an interruption
    goes on, and tries again what failed. It ends with a comparison page and with RESULTS.md in --out.

    Args:
        paper: System whose paper is reproduced; 'radscribe systems' lists the names. The word benchmark
            trains all systems in the place of a paper's rows, to compare them at one budget.
        store: Prepared store to train on; its source decides which rows of the tables apply.
        out: Directory to write; its folder cells has a run directory for each cell.
        data: Data set of the store, if its source does not say which it is.
        seeds: Number of random seeds for each row.
        only: Tables and rows to run, such as table-4 or table-4/base; without it all are run.
        set: Fields of all recipes to change, such as training.epochs=2 training.batch_size=4.
        plan: Print cells, parts, hours and memory, and run nothing.
        engine: What runs the cells: local runs processes on this machine, ray runs tasks of a Ray cluster.
        workers: Number of processes at the same time, with the engine local.
        cpus: Number of CPUs of each cell; without it all CPUs divided by --workers.
        gpus: Number of GPUs of each cell, or the share of one, with the engine ray.
        address: Address of a Ray cluster, with the engine ray; without it one is started on this machine.
        resamples: Number of bootstrap resamples of the comparison page.
        progress: Show how many cells are done: a bar on a terminal, otherwise a line every ten seconds.
    """
    check_options({"--seeds": (seeds, COUNT), "--workers": (workers, COUNT), "--gpus": (gpus, WEIGHT)})
    if cpus is not None:
        check_options({"--cpus": (cpus, COUNT)})
    if engine == "local" and (gpus or address):
        given = "--gpus" if gpus else "--address"
        raise RadScribeError(f"{given} does nothing with the engine local", "Add --engine ray")
    if engine == "ray" and workers != 1:
        raise RadScribeError(
            "--workers does nothing with the engine ray", "Ray runs as many cells as --cpus and --gpus allow"
        )
    fields = _fields(set or [])
    from radscribe.evaluation.bootstrap import check_resamples
    from radscribe.reproduction.grid import grid_of
    from radscribe.reproduction.papers import data_set_of, tables_of
    from radscribe.studies.store import PreparedStore

    check_resamples(resamples)
    opened = PreparedStore(store)
    tables = tables_of(paper, data_set_of(opened, data))
    grid = grid_of(tables, out, seeds=seeds, only=only or [], fields=fields)
    whole = grid_of(tables, out, seeds=seeds, only=[], fields=fields)
    from radscribe.reproduction import reproduce as running
    from radscribe.reproduction.engines import LocalEngine, RayEngine

    places = running.Places(out)
    running.check_cells(grid, opened)
    threads = cpus or running.threads_for(workers)
    jobs, done = running.jobs_of(grid, places, opened, threads)
    if plan:
        from radscribe.reproduction.plan import plan_table

        print(plan_table(grid, jobs, done, opened, workers, progress=progress))
        return
    begun = {"paper": paper, "store_content_hash": opened.manifest["content_hash"], "fields": fields}
    with running.only_reproduction(places, begun):
        jobs, done = running.jobs_of(grid, places, opened, threads)
        outcome = running.Outcome(done=done)
        if len(done) < len(jobs):
            runner = LocalEngine(workers) if engine == "local" else RayEngine(address, threads, gpus)
            outcome = running.run_jobs(
                jobs,
                done,
                runner,
                is_done=running.finished_test(grid, places, opened),
                tell=partial(print, flush=True),
                progress=progress,
            )
        from radscribe.reproduction.ending import write_ending

        print(write_ending(whole, outcome.failed, out, resamples=resamples, progress=progress))
    if outcome.failed:
        raise RadScribeError(
            f"{len(outcome.failed)} of {len(jobs)} parts and cells failed, the first is "
            f"{next(iter(outcome.failed))}",
            f"See {out / 'logs'}; the same command tries them again",
            exit_code=1,
        )


def _fields(words: list[str]) -> dict[str, Any]:
    """The fields that `--set` changes, by dotted name.

    Raises:
        RadScribeError: a word is no NAME=VALUE, or names the seed.
    """
    fields = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise RadScribeError(f"--set '{word}' is no NAME=VALUE", "Example: --set training.epochs=2")
        if name == "training.seed":
            raise RadScribeError("--set cannot change training.seed", "Pass the number of seeds with --seeds")
        if name == "training.threads":
            raise RadScribeError(
                "--set cannot change training.threads", "Pass the CPUs of a cell with --cpus"
            )
        fields[name] = value
    return fields
