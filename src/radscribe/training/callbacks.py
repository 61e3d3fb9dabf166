"""Callbacks of a training: they show progress, write the log, and keep the weights."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from radscribe.interruption import (
    StopRequest,
)
from radscribe.progress import Progress
from radscribe.runs.run_directory import RunDirectory
from radscribe.training.module import TrainingModule
from radscribe.training.resuming import (
    Checkpoint,
    keep_log_until,
)
from radscribe.weights import save_checkpoint


class ShownProgress(Callback):
    """Shows the progress of the training: batches of all epochs, the loss, and the last validation score."""

    def __init__(self, module: TrainingModule, *, show: bool):
        self.module = module
        self.show = show
        self.progress: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bar at the position of the training, which may be resumed."""
        batches, epochs = self.module.batches, self.module.config.training.epochs
        total = epochs * len(batches)
        self.progress = Progress(total, "training", "batches", done=batches.position, show=self.show)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch, and show the loss and the last validation score."""
        assert self.progress is not None
        if self.progress.due or trainer.is_last_batch:
            training = self.module.config.training
            note = (
                f"epoch {trainer.current_epoch + 1} of {training.epochs}, loss {outputs['loss'].item():.3f}"
            )
            score = trainer.callback_metrics.get(f"val/{training.select_by}")
            self.progress.note = note if score is None else f"{note}, {training.select_by} {score:.3f}"
        self.progress.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar; its last line stays on the screen."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar; its last line stays on the screen."""
        self._close()

    def _close(self) -> None:
        if self.progress is not None:
            self.progress.close()
            self.progress = None


class RunKeeper(Callback):
    """Writes the files of a run: the log, the best weights, and checkpoints; each is whole at any moment."""

    def __init__(
        self,
        run: RunDirectory,
        module: TrainingModule,
        log_every: int,
        stop: StopRequest,
        on_saved: Callable[[Checkpoint], None],
    ):
        self.run = run
        self.on_saved = on_saved
        self.stop = stop
        self.module = module
        self.training = module.config.training
        self.log_every = log_every
        self.best = -math.inf

    def state_dict(self) -> dict[str, Any]:
        """The state of this callback, for a checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the state of this callback from a checkpoint."""
        self.best = state_dict["best"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder of the checkpoints."""
        self.run.checkpoint.parent.mkdir(parents=True, exist_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove log lines that a killed run wrote after its last checkpoint; steps begin now."""
        keep_log_until(self.run, trainer.global_step)
        self.stop.stepping = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the losses, and save a checkpoint if it is due or if the user stops the training."""
        stepped = (batch_idx + 1) % self.training.accumulate == 0
        if trainer.global_step % self.log_every == 0 and stepped:
            terms = {
                name.removeprefix("loss/"): float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("loss/")
            }
            rate = trainer.optimizers[0].param_groups[-1]["lr"]
            self._log(trainer, loss=outputs["loss"].item(), terms=terms, learning_rate=rate)
        due = trainer.global_step % self.training.checkpoint_every == 0 or self.stop.asked
        if due and stepped and not trainer.is_last_batch:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the scores, and keep the weights if they are the best so far."""
        scores = {
            name.removeprefix("val/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        self._log(trainer, validation=scores)
        score = scores[self.training.select_by]
        if score > self.best:
            self.best = score
            best = {self.training.select_by: score, "epoch": trainer.current_epoch}
            self.run.save_weights(self.module.system, best=best)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the shares, print a warning of the system if there is one, and save a checkpoint."""
        if shares := self.module.take_shares():
            self._log(trainer, shares=shares)
            if warning := self.module.system.warning(shares):
                tqdm.write(f"radscribe: epoch {trainer.current_epoch + 1}: {warning}", file=sys.stderr)
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        def save(path: Path) -> None:
            trainer.save_checkpoint(path, weights_only=False)

        save_checkpoint(self.run.checkpoint, self.run.previous_checkpoint, save)
        self.on_saved(Checkpoint(self.run.checkpoint, trainer.global_step, trainer.current_epoch + 1))
        if self.stop.asked:
            self.stop.stop()

    def _log(self, trainer: Trainer, **values: Any) -> None:
        line = {"step": trainer.global_step, "epoch": trainer.current_epoch, **values}
        with self.run.log.open("a") as log:
            log.write(json.dumps(line) + "\n")
