"""The optimiser of a training configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from radscribe.runs.config import TrainingConfig
from radscribe.systems.system import System


def create_optimizer(system: System, config: TrainingConfig) -> torch.optim.Optimizer:
    """An optimiser with one learning rate for the visual extractor and one for the rest of the system.

    Frozen parameters are left out.
    """
    backbone = [parameter for parameter in system.backbone_parameters() if parameter.requires_grad]
    ours = {id(parameter) for parameter in backbone}
    rest = [
        parameter
        for parameter in system.parameters()
        if parameter.requires_grad and id(parameter) not in ours
    ]
    return optimizer_of(backbone, rest, config)


def optimizer_of(
    backbone: Sequence[torch.nn.Parameter], rest: Sequence[torch.nn.Parameter], config: TrainingConfig
) -> torch.optim.Optimizer:
    """An optimiser with the parameter groups `backbone` and `rest`; an empty group is left out.

    Args:
        backbone: Parameters of the visual extractor.
        rest: All other parameters.
        config: Settings of the optimiser and learning rates.
    """
    rates = learning_rates(config)
    parameters = {"backbone": list(backbone), "rest": list(rest)}
    groups = [{"params": parameters[name], "lr": rates[name], "name": name} for name in rates]
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return optimizer(
        [group for group in groups if group["params"]],
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        fused=True,
    )


def learning_rates(config: TrainingConfig) -> dict[str, float]:
    """The configured learning rate of each parameter group, before the schedule."""
    return {"backbone": config.backbone_learning_rate, "rest": config.learning_rate}
