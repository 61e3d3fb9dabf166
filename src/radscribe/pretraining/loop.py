"""The loop of every pretraining: its epochs, its checkpoints, and how it goes on after an interruption.

A kind of pretraining is a `Task`. While it trains, its directory also has two checkpoints:

checkpoint.pt   the state after the last epoch, or after the step at which the user pressed Ctrl-C
previous.pt     the checkpoint before it
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.interruption import (
    StopRequest,
    check_empty,
    disk_errors_explained,
    empty,
    memory_errors_explained,
    only_training,
)
from radscribe.pretraining.facts import (
    begun_facts,
    resume_command,
    resumed_facts,
    usual_settings,
    write_facts,
)
from radscribe.pretraining.model_card import Section, write_model_card
from radscribe.pretraining.settings import PretrainingSettings
from radscribe.progress import Progress
from radscribe.studies.store import PreparedStore
from radscribe.weights import read_newest, save_checkpoint

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "previous.pt"
#: The entries of a checkpoint.
_STATE = ("epoch", "step", "steps", "loss_sum", "best", "history", "model", "optimizer", "random")


class Batches(Sized, Iterable[Any], Protocol):
    """The batches of one epoch, in their order, and their number."""


class Task(ABC):
    """One kind of pretraining: its model, batches, losses and results, which the loop uses.

    Args:
        store: The prepared store to learn from; the test split is not used.
        settings: The settings of this kind of pretraining.

    Raises:
        RadScribeError: the store has nothing to learn from, or a setting is out of its range.

    Attributes:
        kind: Name of the kind, after `radscribe pretrain`.
        patience: Number of epochs without a better validation loss after which the training stops; the
            weights of the best epoch are kept. With None all epochs are trained, and the last weights are
            kept.
        highest_rate: Highest learning rate.
        inputs: Facts about the data that the model learns from, ready for JSON.
        model: The model that is trained; set by `build`.
        optimizer: Optimiser of the model; set by `build`.
    """

    kind: ClassVar[str]
    patience: float | None = None
    highest_rate: float
    inputs: dict[str, Any]
    model: Any
    optimizer: Optimizer

    @abstractmethod
    def __init__(self, store: PreparedStore, settings: Any):
        """Read the data that the model learns from."""

    @abstractmethod
    def build(self, out: Path, device: torch.device) -> None:
        """Make the model, with random or published weights, and its optimiser.

        Args:
            out: The directory of the training.
            device: The device to compute on.
        """

    @abstractmethod
    def batches(self, epoch: int) -> Batches:
        """The batches of an epoch; they depend on the seed and the epoch only. Epochs count from 0."""

    @abstractmethod
    def rate(self, epoch: int, step: int, steps: int) -> float:
        """The learning rate of a step, as a share of the highest.

        Args:
            epoch: Number of the epoch, counted from 0.
            step: Number of the step in its epoch, counted from 0.
            steps: Number of steps of an epoch.
        """

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """The loss of a batch, a scalar."""

    def validate(self) -> dict[str, float]:
        """Validation losses after an epoch, by name; the weights with the lowest mean are kept."""
        return {}

    @abstractmethod
    def outcome(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """Facts about the result of the training, measured with the weights that are kept.

        Args:
            losses: Losses that `validate` gave in the epoch whose weights are kept.
        """

    @abstractmethod
    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Write the model to its directory; it has the weights that are kept."""

    @staticmethod
    @abstractmethod
    def section(facts: Mapping[str, Any]) -> Section:
        """The content of the model card."""

    @staticmethod
    @abstractmethod
    def summary(facts: Mapping[str, Any]) -> str:
        """The summary that is printed after a training."""


def pretrain(
    kind: type[Task],
    store: PreparedStore,
    out: Path | str,
    settings: PretrainingSettings,
    *,
    resume: bool = False,
    progress: bool = True,
    command: str = "",
) -> dict[str, Any]:
    """Train a model that systems start from.

    Args:
        kind: Kind of pretraining.
        store: The prepared store to learn from.
        out: The directory to write. A training that fails before its first checkpoint leaves nothing there.
        settings: Settings of this kind of pretraining.
        resume: Go on after the last checkpoint, exactly as if there had been no interruption.
        progress: Show the progress of the training.
        command: Command that goes on with an interrupted training, whether it saved something or not; by
            default `radscribe pretrain` with `--resume`.

    Returns:
        The facts that `pretraining.json` holds.

    Raises:
        RadScribeError: there is something in `out` already or nothing to resume, there is nothing to learn
            from, settings are out of range or not those that the training was begun with, the loss is not
            finite, or the disk or the memory is full.
        InterruptionError: it was stopped by Ctrl-C; the error says what is saved.
    """
    out = Path(out)
    settings.check()
    device = chosen_device(settings.device)
    unless = "" if command else f" (without --resume if '{out}' is empty)"
    command = command or resume_command(kind.kind, store, out, settings)
    room = f"Make room there or put it right, and go on: {command}{unless}"
    loop = _Loop(out, settings, progress)
    with (
        only_training(out),
        disk_errors_explained(out, room),
        memory_errors_explained("--batch"),
        StopRequest(lambda: loop.what_is_saved(command)) as stop,
    ):
        task = kind(store, settings)
        facts = begun_facts(kind.kind, store, settings.recorded(), task.inputs)
        if resume:
            facts = resumed_facts(out, facts, usual_settings(settings))
            if facts["finished"]:
                return facts
        else:
            check_empty(out, "Go on with it by --resume, or choose another --out")
        try:
            if not resume:
                write_facts(out, facts)
            loop.build(task, device)
            loop.train(stop)
        except Exception:
            if not resume and loop.saved is None:  # so that the next attempt finds an empty directory
                empty(out)
            raise
        _finish(task, loop, out, facts)
    return facts


def epochs_done(out: Path) -> int | None:
    """Number of whole epochs in the newest readable checkpoint of a training; None before its first one."""
    for path in (out / CHECKPOINT, out / PREVIOUS):
        with suppress(Exception):  # torch raises errors of many kinds for a broken file
            return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["epoch"])
    return None


def _finish(task: Task, loop: _Loop, out: Path, facts: dict[str, Any]) -> None:
    """Write the model, its model card and its facts after the training, and remove the checkpoints."""
    facts |= {"steps": loop.steps, "epochs": loop.epoch}
    if task.patience is not None:
        facts["best_epoch"] = loop.best["epoch"]
    losses = loop.history[facts.get("best_epoch", loop.epoch) - 1]
    facts |= task.outcome(losses) | {"history": loop.history, "finished": True}
    task.save(out, facts)
    write_model_card(out, facts, task.section(facts))
    write_facts(out, facts)
    for name in (CHECKPOINT, PREVIOUS):
        (out / name).unlink(missing_ok=True)


class _Loop:
    """A training that is running.

    Args:
        out: The directory of the training.
        settings: Settings of the training.
        progress: Show the progress of the training.

    Attributes:
        epoch: Number of whole epochs that are done.
        step: Number of steps that are done in the current epoch.
        steps: Number of steps that are done in all epochs.
        loss_sum: Sum of the losses of the current epoch.
        history: Losses of each whole epoch.
        best: Number, loss and weights of the epoch with the best validation loss.
        saved: Numbers of epochs and steps in the last checkpoint; None before the first checkpoint.
    """

    task: Task

    def __init__(self, out: Path, settings: PretrainingSettings, progress: bool):
        self.out = out
        self.checkpoint, self.previous = out / CHECKPOINT, out / PREVIOUS
        self.settings = settings
        self.progress = progress
        self.epoch = self.step = self.steps = 0
        self.loss_sum = 0.0
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {"loss": math.inf}
        self.saved: tuple[int, int] | None = None

    def build(self, task: Task, device: torch.device) -> None:
        """Make the model of a task, in the state of the last checkpoint if there is one."""
        self.task = task
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        torch.manual_seed(self.settings.seed)
        task.build(self.out, device)
        if found := read_newest(self.checkpoint, self.previous, _STATE):
            self._load(*found)

    def train(self, stop: StopRequest) -> None:
        """Take all steps that are left; afterwards the model has the weights that are kept."""
        task = self.task
        stop.stepping = True
        total = self.settings.epochs * len(task.batches(self.epoch))
        try:
            with Progress(total, task.kind, "steps", done=self.steps, show=self.progress) as bar:
                while not self._over():
                    self._train_epoch(bar, stop)
                    self._validate()
                    self._save(stop)
        finally:
            stop.stepping = False
        if task.patience is not None:
            task.model.load_state_dict(self.best["model"])
        task.model.eval()

    def _over(self) -> bool:
        patience = self.task.patience
        waited = self.epoch - self.best.get("epoch", 0)
        return self.epoch >= self.settings.epochs or (patience is not None and waited >= patience)

    def _train_epoch(self, bar: Progress, stop: StopRequest) -> None:
        """Take the remaining steps of the current epoch."""
        batches = self.task.batches(self.epoch)
        self.task.model.train()
        for number, batch in enumerate(batches):
            if number < self.step:  # already trained; drawn again so that later draws are equal
                continue
            loss = self._take_step(batch, len(batches))
            if bar.due:
                bar.note = f"epoch {self.epoch + 1} of {self.settings.epochs}, loss {loss:.3f}"
            bar.update()
            if stop.asked and self.step < len(batches):
                self._save(stop)
        self.history.append({"training loss": self.loss_sum / len(batches)})
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0

    def _take_step(self, batch: Any, steps: int) -> float:
        """Take one step of the optimiser, and return the loss before the step."""
        task = self.task
        for group in task.optimizer.param_groups:
            group["lr"] = task.highest_rate * task.rate(self.epoch, self.step, steps)
        loss = task.loss(batch)
        value = loss.item()
        self._check_finite("loss", value, f"at step {self.steps}")
        task.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        task.optimizer.step()
        self.step, self.steps, self.loss_sum = self.step + 1, self.steps + 1, self.loss_sum + value
        return value

    def _validate(self) -> None:
        """Validate after an epoch, and keep its weights if they are the best so far."""
        model = self.task.model.eval()
        if not (losses := self.task.validate()):
            return
        self.history[-1] |= losses
        loss = sum(losses.values()) / len(losses)
        self._check_finite("validation loss", loss, f"after epoch {self.epoch}")
        if loss < self.best["loss"]:
            weights = {name: value.cpu().clone() for name, value in model.state_dict().items()}
            self.best = {"loss": loss, "epoch": self.epoch, "model": weights}

    def _check_finite(self, what: str, value: float, when: str) -> None:
        if not math.isfinite(value):
            raise RadScribeError(
                f"the {what} is {value} {when}",
                "Begin anew in another --out with a lower rate, such as --learning_rate "
                f"{self.task.highest_rate / 10:g}",
            )

    def _save(self, stop: StopRequest) -> None:
        """Write a checkpoint, and end the training if the user asked for it."""
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "steps": self.steps,
            "loss_sum": self.loss_sum,
            "best": self.best,
            "history": self.history,
            "model": self.task.model.state_dict(),
            "optimizer": self.task.optimizer.state_dict(),
            "random": random,
        }
        save_checkpoint(self.checkpoint, self.previous, lambda path: torch.save(state, path))
        self.saved = (self.epoch, self.steps)
        if stop.asked:
            stop.stop()

    def _load(self, checkpoint: Path, state: Mapping[str, Any]) -> None:
        try:
            self.task.model.load_state_dict(state["model"])
            self.task.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise RadScribeError(
                f"'{checkpoint}' is of another training ({' '.join(str(error).split())[:100]})",
                "Restore it from a copy, or begin anew with another --out",
            ) from error
        self.epoch, self.step, self.steps = (state[name] for name in ("epoch", "step", "steps"))
        self.loss_sum, self.best, self.history = (state[name] for name in ("loss_sum", "best", "history"))
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random"]["cuda"])
        self.saved = (self.epoch, self.steps)

    def what_is_saved(self, command: str) -> tuple[str, str]:
        """Message and advice for a user who stops the training: what is saved, and how to go on.

        Args:
            command: The command that resumes the training.
        """
        if self.saved is None:
            return "stopped before the first checkpoint; nothing new was saved", "Give the same command again"
        epoch, steps = self.saved
        return (
            f"stopped; the training up to step {steps} (in epoch {min(epoch + 1, self.settings.epochs)} of "
            f"{self.settings.epochs}) is saved in '{self.checkpoint}'",
            f"Go on: {command}",
        )
