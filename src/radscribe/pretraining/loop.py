"""What trainings on single views, without reports, have in common."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from radscribe.about import VERSION
from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.interruption import (
    StopRequest,
    check_empty,
    disk_errors_explained,
    memory_errors_explained,
    only_training,
)
from radscribe.progress import Progress
from radscribe.ranges import BATCH, COUNT, LEARNING_RATE, SEED, THREADS, check_options
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import View
from radscribe.vision.transforms import TransformConfig, stored_view, training_view


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewTraining:
    """How to train, and where.

    Attributes:
        epochs: over the views.
        batch: views per step.
        learning_rate: the highest.
        seed: of weights, order, crops, and what else is random.
        threads: CPU threads; 0 takes all.
        device: `auto`, `cpu` or `cuda`.
        progress: show how far it is.
    """

    epochs: int
    batch: int
    learning_rate: float
    seed: int = 0
    threads: int = 0
    device: str = "auto"
    progress: bool = True

    @contextmanager
    def prepared(self, out: Path) -> Iterator[torch.device]:
        """Make the directory, set threads and seed, and give the device to run on.

        Raises:
            RadScribeError: there is something in `out` already, a number is out of its range, no such device,
                or the disk or the memory is full.
            InterruptionError: it was stopped by Ctrl-C; nothing is saved before the end.
        """
        check_options(
            {
                "--epochs": (self.epochs, COUNT),
                "--batch": (self.batch, BATCH),
                "--learning_rate": (self.learning_rate, LEARNING_RATE),
                "--seed": (self.seed, SEED),
                "--threads": (self.threads, THREADS),
            }
        )
        device = chosen_device(self.device)
        again = "Give the same command again"
        with (
            only_training(out),
            disk_errors_explained(out, f"Make room there or put it right, empty '{out}', then: {again}"),
            memory_errors_explained("--batch"),
            StopRequest(lambda: ("stopped before its end, and nothing was saved", again)),
        ):
            check_empty(out)
            if self.threads:
                torch.set_num_threads(self.threads)
            torch.manual_seed(self.seed)
            yield device

    def steps(self, views: Sequence[View]) -> int:
        """Of all epochs over these views."""
        return self.epochs * math.ceil(len(views) / self.batch)

    def fit(
        self,
        views: Sequence[View],
        transform: TransformConfig,
        loss_of: Callable[[np.ndarray, Tensor], Tensor],
        optimizer: Optimizer,
        schedule: LRScheduler,
        name: str,
    ) -> None:
        """All steps of the training.

        Args:
            views: to learn from.
            transform: image geometry.
            loss_of: of a batch: indices into `views` `[batch]` and pixels, uint8 `[batch, crop, crop]`.
            optimizer: of what is trained.
            schedule: over all `steps`.
            name: what is trained, for the progress.

        Raises:
            RadScribeError: the loss is not finite.
        """
        trained = [each for group in optimizer.param_groups for each in group["params"]]
        with Progress(self.steps(views), name, "steps", show=self.progress) as bar:
            for chosen, pixels in self._batches(views, transform):
                loss = loss_of(chosen, pixels)
                if not torch.isfinite(loss):
                    raise RadScribeError(
                        f"the loss is {loss.item()} at step {schedule.last_epoch}",
                        f"Begin anew with a lower rate, such as --learning_rate {self.learning_rate / 10:g}",
                    )
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                schedule.step()
                if bar.due:
                    bar.note = f"loss {loss.item():.3f}"
                bar.update()

    def _batches(
        self, views: Sequence[View], transform: TransformConfig
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Of all epochs; what is random follows from seed and epoch."""
        for epoch in range(self.epochs):
            random = np.random.default_rng([self.seed, epoch])
            order = random.permutation(len(views))
            for start in range(0, len(order), self.batch):
                chosen = order[start : start + self.batch]
                pixels = [
                    training_view(stored_view(views[number], transform).pixels, transform, random)
                    for number in chosen
                ]
                yield chosen, torch.stack(pixels)

    def facts(self, store: PreparedStore, **settings: Any) -> dict[str, Any]:
        """Where the result comes from, ready for JSON: versions, store and settings, further ones too."""
        return {
            "radscribe": VERSION,
            "torch": torch.__version__,
            "trained": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "store": str(store.path),
            "store_source": store.manifest["source"],
            "store_content_hash": store.manifest["content_hash"],
            "settings": {
                **settings,
                "epochs": self.epochs,
                "batch": self.batch,
                "learning_rate": self.learning_rate,
                "seed": self.seed,
            },
        }
