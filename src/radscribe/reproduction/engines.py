"""Engines that run the jobs of a reproduction: processes of this machine, or tasks of a Ray cluster."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import Any, Protocol

from radscribe.errors import RadScribeError
from radscribe.reproduction.job import Job, run_job

#: Seconds between two looks at the processes.
_INTERVAL = 0.1
#: Seconds that processes have to save what they have after Ctrl-C.
_PATIENCE = 60.0


class Engine(Protocol):
    """Something that runs jobs.

    Attributes:
        slots: Number of jobs that may be given to it at the same time.
    """

    slots: int

    def start(self, job: Job) -> None:
        """Begin a job, or let it wait for its turn."""

    def wait(self) -> tuple[str, int]:
        """Wait until a job ends, and return its name and its exit code."""

    def close(self) -> None:
        """End all jobs; those that are under way save what they have."""


class LocalEngine:
    """Runs jobs as processes of this machine.

    Args:
        workers: Number of processes at the same time.
    """

    def __init__(self, workers: int):
        self.slots = workers
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, job: Job) -> None:
        """See `Engine.start`."""
        self._running[job.name] = job.begin()

    def wait(self) -> tuple[str, int]:
        """See `Engine.wait`."""
        while True:
            for name, process in self._running.items():
                if (code := process.poll()) is not None:
                    del self._running[name]
                    return name, code
            time.sleep(_INTERVAL)

    def close(self) -> None:
        """See `Engine.close`."""
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        until = time.monotonic() + _PATIENCE
        for process in self._running.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        self._running.clear()


class RayEngine:
    """Runs jobs as tasks of a Ray cluster; store and output must be at the same paths on every machine.

    Args:
        address: Address of the cluster, as `ray.init` takes it; empty starts one on this machine.
        cpus: Number of CPUs of each task.
        gpus: Number of GPUs of each task, or the share of one.

    Raises:
        RadScribeError: Ray is not installed, the cluster is not there, or it has too few CPUs or GPUs.
    """

    def __init__(self, address: str, cpus: int, gpus: float):
        try:
            import ray
        except ImportError as error:
            raise RadScribeError(
                "the engine ray needs the package ray",
                "Install it with pip install 'radscribe[ray]', or leave out --engine",
            ) from error
        self._ray: Any = ray
        try:
            ray.init(
                address=address or "local", log_to_driver=False, include_dashboard=False, logging_level=30
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RadScribeError(
                f"there is no Ray cluster at '{address}' ({' '.join(str(error).split())[:150]})",
                "Start one with ray start --head, and give its address with --address",
            ) from error
        there = ray.cluster_resources()
        if cpus > there.get("CPU", 0) or gpus > there.get("GPU", 0):
            ray.shutdown()
            raise RadScribeError(
                f"a task needs {cpus} CPUs and {gpus:g} GPUs, and the cluster has "
                f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs",
                "Pass smaller --cpus and --gpus",
            )
        self.slots = 10_000  # Ray lets them wait for CPUs and GPUs
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_job)
        self._running: dict[Any, str] = {}

    def start(self, job: Job) -> None:
        """See `Engine.start`."""
        self._running[self._task.options(name=job.name).remote(job)] = job.name

    def wait(self) -> tuple[str, int]:
        """See `Engine.wait`."""
        (ended, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        name = self._running.pop(ended)
        try:
            return name, int(self._ray.get(ended))
        except self._ray.exceptions.RayError:  # its machine is gone
            return name, -1

    def close(self) -> None:
        """See `Engine.close`."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()
        self._ray.shutdown()
