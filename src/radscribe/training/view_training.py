"""What trainings on single views, without reports, have in common."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from radscribe import __version__
from radscribe.errors import RadScribeError
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import View
from radscribe.training.device import chosen_device
from radscribe.vision.transforms import TransformConfig, stored_view, training_view


@dataclass(frozen=True, kw_only=True)
class ViewTraining:
    """How to train, and where.

    Attributes:
        epochs: over the views.
        batch: views per step.
        learning_rate: the highest.
        seed: of weights, order, crops, and what else is random.
        threads: CPU threads; 0 takes all.
        device: `auto`, `cpu` or `cuda`.
        progress: show a progress bar.
    """

    epochs: int
    batch: int
    learning_rate: float
    seed: int = 0
    threads: int = 0
    device: str = "auto"
    progress: bool = True

    def begin(self, out: Path) -> torch.device:
        """Set threads and seed; where to run.

        Raises:
            RadScribeError: there is something in `out` already, a number is below 1, or no such device.
        """
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RadScribeError(f"there is something in '{out}' already", "Choose another --out")
        if self.epochs < 1 or self.batch < 1:
            raise RadScribeError("--epochs and --batch must be at least 1")
        if self.threads:
            torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        return chosen_device(self.device)

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
            name: for the progress bar.

        Raises:
            RadScribeError: the loss is not finite.
        """
        trained = [each for group in optimizer.param_groups for each in group["params"]]
        with tqdm(total=self.steps(views), desc=name, disable=not self.progress, leave=False) as bar:
            for chosen, pixels in self._batches(views, transform):
                loss = loss_of(chosen, pixels)
                if not torch.isfinite(loss):
                    raise RadScribeError(
                        f"the loss is {loss.item()} at step {schedule.last_epoch}",
                        "Begin anew with a lower --learning_rate",
                    )
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                schedule.step()
                bar.set_postfix(loss=f"{loss.item():.3f}")
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
            "radscribe": __version__,
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
