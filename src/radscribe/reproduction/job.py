"""A job of a reproduction: one part or one cell, made in a process of its own.

Every engine runs the same process: `python -m radscribe.reproduction.job JOB`, with the job as JSON. What it
prints goes to the job's log. It ends with its parent: the parent holds the other end of its standard input,
which closes however the parent ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process makes; all paths are absolute, so that any machine with the same files can make it.

    Attributes:
        name: Name of the part or the cell.
        kind: Kind of the part; empty for a cell.
        recipe: Recipe of a cell that needs the part, or of the cell.
        fields: Fields of the recipe to change, by dotted name.
        seed: Random seed of the cell.
        store: The prepared store.
        out: Directory of the cell; for a part, of a cell that needs it.
        parts: Directory of the shared parts.
        needs: Names of the jobs that must be done before.
        log: File that takes what the process prints.
        threads: Number of CPU threads.
    """

    name: str
    kind: str
    recipe: str
    fields: Mapping[str, Any]
    seed: int
    store: str
    out: str
    parts: str
    needs: tuple[str, ...]
    log: str
    threads: int

    def begin(self) -> subprocess.Popen[bytes]:
        """Start the process."""
        log = Path(self.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "radscribe.reproduction.job", json.dumps(asdict(self))]
        threads = {"OMP_NUM_THREADS": str(self.threads)}
        with open(log, "ab") as output:
            return subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=os.environ | threads,
                start_new_session=True,  # Ctrl-C reaches it by way of the parent alone
            )


def run_job(job: Job) -> int:
    """Run a job to its end, and return its exit code."""
    return job.begin().wait()


def main() -> None:
    """Make the part or the cell that the first argument describes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = Job(**json.loads(sys.argv[1]))
    try:
        _make(job)
    except RadScribeError as error:
        print(f"radscribe: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        traceback.print_exc()
        print(f"radscribe: internal error ({type(error).__name__}: {error})", file=sys.stderr)
        sys.exit(70)


def _end_with_parent() -> None:
    """End this process, and what it started, as soon as its standard input is closed."""
    os.read(0, 1)  # nothing is ever written there
    if os.name == "posix":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _make(job: Job) -> None:
    from radscribe.reproduction.grid import Cell, shared_stages, with_parts
    from radscribe.runs.config import nested, override
    from radscribe.studies.store import PreparedStore
    from radscribe.training.train import train

    cell = Cell(job.name, job.recipe, job.fields, job.seed, Path(job.out))
    config = override(cell.config(Path(job.store)), nested({"training.threads": job.threads}))
    store = PreparedStore(job.store)
    stages = shared_stages(config, Path(job.parts), store)
    if job.kind:
        _make_part(next(stage for stage in stages if stage.path.name == job.name), store)
        return
    resume = _can_go_on(cell)
    run = train(with_parts(config, stages), cell.path, resume=resume)
    print(f"run directory: {run.path}")


def _make_part(stage: Any, store: Any) -> None:
    """Make a part, or go on with it."""
    from radscribe.pretraining.facts import FACTS

    stage.path.parent.mkdir(parents=True, exist_ok=True)
    if stage.path.is_dir() and not (stage.path / FACTS).is_file():
        shutil.rmtree(stage.path)  # it was killed before it had anything to keep
    state = stage.state(store)
    stage.check(state)
    if state.name != "finished":
        print(stage.run(state, store, progress=True, command="the same command"))


def _can_go_on(cell: Any) -> bool:
    """Whether a cell has a checkpoint to go on from. A cell without one begins anew, for nothing is lost."""
    from radscribe.runs.run_directory import RunDirectory

    run = RunDirectory(cell.path)
    if run.checkpoint.is_file() or run.previous_checkpoint.is_file():
        return True
    if cell.path.is_dir():
        shutil.rmtree(cell.path)
    return False


if __name__ == "__main__":
    main()
