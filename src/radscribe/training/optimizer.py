"""The optimiser of a training configuration."""

from __future__ import annotations

import torch

from radscribe.systems.system import System
from radscribe.training.config import TrainingConfig


def create_optimizer(system: System, config: TrainingConfig) -> torch.optim.Optimizer:
    """The visual extractor and the rest at their own learning rates; frozen parameters are left out."""
    backbone = [parameter for parameter in system.backbone_parameters() if parameter.requires_grad]
    ours = {id(parameter) for parameter in backbone}
    rest = [
        parameter
        for parameter in system.parameters()
        if parameter.requires_grad and id(parameter) not in ours
    ]
    groups = [
        {"params": backbone, "lr": config.backbone_learning_rate, "name": "backbone"},
        {"params": rest, "lr": config.learning_rate, "name": "rest"},
    ]
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return optimizer(
        [group for group in groups if group["params"]],
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        fused=True,
    )
