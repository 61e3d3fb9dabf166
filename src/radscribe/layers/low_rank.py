"""Low-rank adapters (LoRA, Hu et al., ICLR 2022) in a frozen network, by `peft`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from radscribe.ranges import DROPOUT, WEIGHT, WIDTH, Range, check_fields


@dataclass(kw_only=True, slots=True)
class LowRankConfig:
    """Sizes of low-rank adapters; the defaults are R2GenGPT's.

    Attributes:
        rank: Rank of the update of each adapted matrix; 0 means no adapters.
        alpha: Scale of the update: it is multiplied by alpha / rank.
        dropout: Dropout probability of the adapters' input.
    """

    rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "adapters.", rank=Range(0, WIDTH.high), alpha=WEIGHT, dropout=DROPOUT)


def add_adapters(network: nn.Module, config: LowRankConfig, targets: list[str] | None = None) -> None:
    """Freeze `network` and add trainable adapters to some of its linear layers, in place.

    Args:
        network: Any network with linear layers.
        config: Sizes of the adapters; the rank must be above 0.
        targets: Last parts of the names of the layers to adapt. By default `peft` chooses the layers; it
            knows the networks of `transformers`.

    Raises:
        ValueError: no layer has such a name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    settings: dict[str, Any] = {
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": targets,
    }
    inject_adapter_in_model(LoraConfig(**settings), network)


def train_adapters(network: nn.Module, mode: bool) -> None:
    """Switch the dropout of the adapters, and nothing else, between training and evaluation."""
    for name, module in network.named_modules():
        if name.rpartition(".")[0].endswith("lora_dropout"):
            module.train(mode)
