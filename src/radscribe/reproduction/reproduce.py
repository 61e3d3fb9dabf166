"""`radscribe reproduce`: run the grid of a paper's tables, and set its scores beside the published ones.

The state is in files: a part or a cell is done if its directory says so. So the same command goes on after
any interruption, tries again what failed, and leaves what is done.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from radscribe.errors import InterruptionError, RadScribeError
from radscribe.files import read_json_object, write_whole
from radscribe.interruption import LOCK, only_training
from radscribe.progress import Progress
from radscribe.reproduction.engines import Engine
from radscribe.reproduction.grid import Cell, Grid, shared_stages
from radscribe.reproduction.job import Job
from radscribe.runs.views import studies_with_report
from radscribe.studies.store import PreparedStore
from radscribe.training.stage import Stage
from radscribe.training.train import check_rates, open_studies

#: What a reproduction was begun with, which every later command must repeat.
BEGUN = "reproduction.json"
_BEGUN_WITH = {"paper": "paper", "store_content_hash": "content of the store", "fields": "--set"}


@dataclass(frozen=True, slots=True)
class Places:
    """The files of a reproduction.

    Attributes:
        out: The directory of the reproduction.
    """

    out: Path

    @property
    def parts(self) -> Path:
        """Directory of the parts that cells share."""
        return self.out / "parts"

    def log(self, name: str) -> Path:
        """What the processes of a part or a cell printed."""
        return self.out / "logs" / f"{name}.log"


@dataclass(slots=True)
class Outcome:
    """How a reproduction ended.

    Attributes:
        done: Names of the parts and cells that are done.
        failed: The reason why a part or a cell failed, by name.
    """

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


def jobs_of(grid: Grid, places: Places, store: PreparedStore, threads: int) -> tuple[list[Job], set[str]]:
    """The jobs of a grid, parts before the cells that need them, and the names of those that are done.

    Args:
        grid: The grid.
        places: The files of the reproduction.
        store: The prepared store.
        threads: Number of CPU threads of each job.
    """
    jobs: dict[str, Job] = {}
    done = set()

    def job(name: str, kind: str, cell: Cell, needs: Sequence[str]) -> Job:
        return Job(
            name=name,
            kind=kind,
            recipe=cell.recipe,
            fields=cell.fields,
            seed=cell.seed,
            store=str(store.path.absolute()),
            out=str(cell.path),
            parts=str(places.parts.absolute()),
            needs=tuple(needs),
            log=str(places.log(name).absolute()),
            threads=threads,
        )

    for cell in grid.cells:
        stages = shared_stages(cell.config(store.path), places.parts.absolute(), store)
        for number, stage in enumerate(stages):
            name = stage.path.name
            if name not in jobs:
                made_of = [other.path.name for other in stages[:number] if _is_made_of(stage, other)]
                jobs[name] = job(name, stage.kind, cell, made_of)
                if _is_finished(stage, store):
                    done.add(name)
    for cell in grid.cells:
        stages = shared_stages(cell.config(store.path), places.parts.absolute(), store)
        jobs[cell.name] = job(cell.name, "", cell, [stage.path.name for stage in stages])
        if cell.finished:
            done.add(cell.name)
    needed = {name for job in jobs.values() if not job.kind and job.name not in done for name in job.needs}
    kept = [job for job in jobs.values() if not job.kind or job.name in needed or job.name in done]
    return kept, done


def finished_test(grid: Grid, places: Places, store: PreparedStore) -> Callable[[Job], bool]:
    """A function that tells whether the files of a job say that it is done."""
    cells = {cell.name: cell for cell in grid.cells}

    def is_done(job: Job) -> bool:
        cell = cells.get(job.name)
        if cell is not None:
            return cell.finished
        config = next(cell for cell in grid.cells if cell.recipe == job.recipe and cell.seed == job.seed)
        stages = shared_stages(config.config(store.path), places.parts.absolute(), store)
        return any(stage.path.name == job.name and _is_finished(stage, store) for stage in stages)

    return is_done


def check_cells(grid: Grid, store: PreparedStore) -> None:
    """Check, before anything runs, that the cells can be trained and scored on a store.

    Raises:
        RadScribeError: a field has a wrong value, the views of the store have another size than the recipes
            need, or no study of a split has a report.
    """
    for cell in {cell.recipe: cell for cell in grid.cells}.values():
        config = cell.config(store.path)
    check_rates(config.training)
    open_studies(config)
    studies_with_report(store.studies("test"), config.data.section, "test")


def _is_made_of(stage: Stage, other: Stage) -> bool:
    settings = stage.settings
    return any(
        getattr(settings, name) == str(other.path.absolute()) for name in settings.__dataclass_fields__
    )


def _is_finished(stage: Stage, store: PreparedStore) -> bool:
    try:
        return stage.state(store).name == "finished"
    except (RadScribeError, OSError):  # its own process says what is wrong
        return False


@contextmanager
def only_reproduction(places: Places, begun: Mapping[str, Any]) -> Iterator[None]:
    """Keep other reproductions out of a directory, and check that this one goes on with what is there.

    Raises:
        RadScribeError: another process works there, the directory holds something else, or the reproduction
            was begun with another paper, store or fields.
    """
    try:
        with only_training(places.out):
            _check_begun(places, begun)
            yield
    except RadScribeError as error:
        if "another process is training" in str(error):
            raise RadScribeError(
                f"another process works on the reproduction in '{places.out}'",
                "Wait for its end, or choose another --out",
            ) from error
        raise


def _check_begun(places: Places, begun: Mapping[str, Any]) -> None:
    file = places.out / BEGUN
    if not file.is_file():
        others = sorted(path.name for path in places.out.iterdir() if path.name != LOCK)
        if others:
            raise RadScribeError(
                f"'{places.out}' holds something that is no reproduction, such as '{others[0]}'",
                "Choose another --out",
            )
        write_whole(file, json.dumps(begun, indent=2) + "\n")
        return
    before = read_json_object(file, "Choose another --out")
    for name, value in begun.items():
        if before.get(name) != value:
            raise RadScribeError(
                f"the reproduction in '{places.out}' was begun with another {_BEGUN_WITH[name]}: "
                f"{_in_words(before.get(name))}, not {_in_words(value)}",
                "Repeat it as it was begun, or choose another --out",
            )


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={entry}" for name, entry in value.items()) or "none"
    return str(value)


def run_jobs(
    jobs: Sequence[Job],
    done: set[str],
    engine: Engine,
    *,
    is_done: Callable[[Job], bool],
    tell: Callable[[str], object],
    progress: bool,
) -> Outcome:
    """Run all jobs that are not done. A job that fails leaves out those that need it; the others go on.

    Args:
        jobs: The jobs; those that others need come first.
        done: Names of the jobs that are done.
        engine: The engine.
        is_done: Whether the files of a job say that it is done.
        tell: Takes a line whenever the state of a job changes.
        progress: Show how many jobs are done.

    Raises:
        InterruptionError: Ctrl-C stopped it.
    """
    outcome = Outcome(done=set(done))
    waiting = {job.name: job for job in jobs if job.name not in done}
    running: dict[str, tuple[Job, float, int]] = {}
    with Progress(len(jobs), "reproduce", "parts and cells", done=len(done), show=progress) as shown:
        try:
            while waiting or running:
                for job in list(waiting.values()):
                    if broken := [name for name in job.needs if name in outcome.failed]:
                        del waiting[job.name]
                        outcome.failed[job.name] = f"its part {broken[0]} failed"
                        tell(f"{job.name}: left out, for {outcome.failed[job.name]}")
                        shown.update()
                    elif len(running) < engine.slots and outcome.done.issuperset(job.needs):
                        del waiting[job.name]
                        log = Path(job.log)
                        printed = log.stat().st_size if log.is_file() else 0
                        engine.start(job)
                        running[job.name] = (job, time.monotonic(), printed)
                        tell(f"{job.name}: begun")
                if not running:
                    continue
                name, code = engine.wait()
                job, began, printed = running.pop(name)
                if code == 0 and is_done(job):
                    outcome.done.add(name)
                    tell(f"{name}: done in {time.monotonic() - began:.0f} s")
                else:
                    outcome.failed[name] = reason_of(Path(job.log), printed, code)
                    tell(f"{name}: failed: {outcome.failed[name]}")
                shown.update()
        except KeyboardInterrupt:
            raise InterruptionError(
                f"stopped; {len(outcome.done)} of {len(jobs)} parts and cells are done, and those under way "
                "are saved up to their last checkpoint",
                "Go on with the same command",
            ) from None
        finally:
            engine.close()
    return outcome


def reason_of(log: Path, printed: int, code: int) -> str:
    """Why a job failed: the last line that it printed, or the signal that ended it.

    Args:
        log: The log of the job.
        printed: Size of the log in bytes before the job began.
        code: Exit code of the job.
    """
    if code < 0:
        return f"ended by signal {-code}, perhaps because memory ran out"
    if not log.is_file():
        return f"ended with exit code {code}"
    text = log.read_bytes()[printed:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line.removeprefix("radscribe: ") for line in lines if line.startswith("radscribe: ")]
    return (said or lines or [f"ended with exit code {code}"])[-1]


def threads_for(workers: int) -> int:
    """Number of CPU threads of each of some processes that share this machine."""
    return max(1, (os.cpu_count() or 1) // workers)
