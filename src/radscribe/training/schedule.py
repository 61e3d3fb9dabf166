"""Learning rates: how they rise and fall over a run, and the table of them that users print.

Training calls `set_learning_rates` before every step. The table is made by the same function, on an optimiser
with the same parameter groups. Nothing here has a state: a resumed run has the rates of its next step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from radscribe.runs.config import RunConfig, TrainingConfig
from radscribe.training.optimizer import learning_rates, optimizer_of

#: Steps of an epoch in the table that users print; only the last rate of a warm-up epoch depends on it.
TABLE_STEPS = 1000


@dataclass(frozen=True, slots=True)
class EpochRates:
    """The learning rates of one epoch, by parameter group.

    Attributes:
        epoch: Number of the epoch, counted from 1.
        first: Learning rates at the first step of the epoch.
        last: Learning rates at the last step of the epoch; they differ from `first` only in a warm-up.
    """

    epoch: int
    first: dict[str, float]
    last: dict[str, float]


def learning_rate(training: TrainingConfig, rate: float, epochs: float) -> float:
    """The learning rate of a step.

    Args:
        training: Settings of the schedule.
        rate: The configured learning rate of the parameter group.
        epochs: Number of epochs before the step, with a fraction; 2.5 is the middle of the third epoch.

    Returns:
        The decayed rate of the epoch. In the warm-up, the rate rises linearly from `warm_up_from` to it.
    """
    epoch = math.floor(epochs)
    if training.schedule == "cosine":
        risen = (1 + math.cos(math.pi * epoch / training.epochs)) / 2
        decayed = rate * (training.floor + (1 - training.floor) * risen)
    else:
        decayed = rate * training.decay ** (epoch // training.decay_every)
    if epochs >= training.warm_up_epochs:
        return decayed
    return training.warm_up_from + (decayed - training.warm_up_from) * epochs / training.warm_up_epochs


def set_learning_rates(optimizer: torch.optim.Optimizer, training: TrainingConfig, epochs: float) -> None:
    """Give each parameter group of an optimiser its learning rate; see `learning_rate`."""
    configured = learning_rates(training)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(training, configured[group["name"]], epochs)


def rates_by_epoch(
    optimizer: torch.optim.Optimizer, training: TrainingConfig, steps: int
) -> list[EpochRates]:
    """The learning rates of all epochs, as training sets them.

    Args:
        optimizer: An optimiser, made by `create_optimizer` or `optimizer_of`.
        training: Settings of the schedule.
        steps: Number of optimiser steps in an epoch.
    """

    def at(epochs: float) -> dict[str, float]:
        set_learning_rates(optimizer, training, epochs)
        return {group["name"]: group["lr"] for group in optimizer.param_groups}

    return [
        EpochRates(epoch + 1, at(epoch), at((epoch * steps + steps - 1) / steps))
        for epoch in range(training.epochs)
    ]


def recipe_rates(config: RunConfig) -> list[EpochRates]:
    """The learning rates of a recipe by epoch; one parameter replaces each group, so no system is built."""
    backbone, rest = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = optimizer_of([backbone], [rest], config.training)
    return rates_by_epoch(optimizer, config.training, TABLE_STEPS)


def rates_table(rates: list[EpochRates]) -> str:
    """The rates as text; successive epochs with the same rates share one line."""
    lines = [("epochs", "visual extractor", "the rest")]
    first = 0
    for number, row in enumerate(rates):
        following = rates[number + 1] if number + 1 < len(rates) else None
        if following and (row.first, row.last) == (following.first, following.last):
            continue
        epochs = str(row.epoch) if number == first else f"{rates[first].epoch}-{row.epoch}"
        lines.append((epochs, _range(row, "backbone"), _range(row, "rest")))
        first = number + 1
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _range(row: EpochRates, group: str) -> str:
    first, last = f"{row.first[group]:.3g}", f"{row.last[group]:.3g}"
    return first if row.first == row.last else f"{first} to {last}"
