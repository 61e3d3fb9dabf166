"""Learning rates: how they rise and fall over a run, and the table of them that users print.

Training calls `set_learning_rates` before every step; the table is made by the same function, on an optimiser
of the same groups. Nothing here has a state: a resumed run has the rates of the step that it goes on with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from radscribe.runs.config import RunConfig, TrainingConfig
from radscribe.training.optimizer import learning_rates, optimizer_of

#: Steps of an epoch in the table that users print; only the last step of a warm-up epoch depends on it.
TABLE_STEPS = 1000


@dataclass(frozen=True, slots=True)
class EpochRates:
    """The learning rates of one epoch, by parameter group.

    Attributes:
        epoch: from 1 on.
        first: at the epoch's first step.
        last: at its last step; other than `first` only in a warm-up.
    """

    epoch: int
    first: dict[str, float]
    last: dict[str, float]


def learning_rate(training: TrainingConfig, rate: float, epochs: float) -> float:
    """The learning rate of a step.

    Args:
        training: the schedule.
        rate: the configured learning rate of the parameter group.
        epochs: how many epochs lie behind, as a fraction; 2.5 is the middle of the third.

    Returns:
        The decayed rate of the epoch; within the warm-up, a point on the line to it from `warm_up_from`.
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
        optimizer: of `create_optimizer` or `optimizer_of`.
        training: the schedule.
        steps: optimiser steps in an epoch.
    """

    def at(epochs: float) -> dict[str, float]:
        set_learning_rates(optimizer, training, epochs)
        return {group["name"]: group["lr"] for group in optimizer.param_groups}

    return [
        EpochRates(epoch + 1, at(epoch), at((epoch * steps + steps - 1) / steps))
        for epoch in range(training.epochs)
    ]


def recipe_rates(config: RunConfig) -> list[EpochRates]:
    """The learning rates of a recipe by epoch, without its system: one parameter stands for each group."""
    backbone, rest = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = optimizer_of([backbone], [rest], config.training)
    return rates_by_epoch(optimizer, config.training, TABLE_STEPS)


def rates_table(rates: list[EpochRates]) -> str:
    """The rates as text, one line for all epochs in a row that have the same."""
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
