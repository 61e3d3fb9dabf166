"""The Q-Former of BLIP-2 (Li et al., ICML 2023) without text: queries that read visual tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.ranges import LAYERS, WIDTH, check_divisible, check_fields
from radscribe.weights import load_strictly, read_state_dict

#: The ratio of the widths of feed-forward layer and Q-Former, and the share of dropout, as in BERT.
_FEED_FORWARD = 4
_DROPOUT = 0.1
#: What published weights have for text, which is not read here.
_TEXT = re.compile(
    r"^(embeddings\.(word_embeddings|position_embeddings|position_ids)|encoder\.layer\.\d+\.(intermediate|output)\.)"
)


@dataclass(kw_only=True, slots=True)
class QFormerConfig:
    """Sizes of a Q-Former, those of BLIP-2 by default, and the weights that it starts from.

    Attributes:
        weights: Weights to start from: a file of BLIP-2's weights with the names of its released code
            (`Qformer.bert.`) or of `transformers` (`qformer.`), or `none` (random weights).
        width: Width of the queries.
        layers: Number of layers; the first and every second after it read the visual tokens.
        heads: Number of attention heads.
        channels: Width of the visual tokens that it reads.
    """

    weights: str = "none"
    width: int = 768
    layers: int = 12
    heads: int = 12
    channels: int = 1408

    def __post_init__(self) -> None:
        prefix = "system.q_former."
        check_fields(self, prefix, width=WIDTH, layers=LAYERS, heads=WIDTH, channels=WIDTH)
        check_divisible(f"{prefix}width", self.width, f"{prefix}heads", self.heads)

    def build(self) -> nn.Module:
        """Build the Q-Former, a `Blip2QFormerModel` of `transformers`.

        Raises:
            RadScribeError: the weights cannot be read, or are of other sizes.
        """
        built = q_former(self.width, self.layers, self.heads, self.channels)
        if self.weights != "none":
            weights = q_former_weights(read_state_dict(Path(self.weights)))
            if not weights:
                raise RadScribeError(
                    f"'{self.weights}' has no weights of a Q-Former",
                    "Give --system.q_former.weights a checkpoint of BLIP-2, or none",
                )
            load_strictly(built, weights, f"'{self.weights}'")
        return built


def q_former(width: int, layers: int, heads: int, channels: int) -> nn.Module:
    """A Q-Former with random weights; see `QFormerConfig` for its sizes."""
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    return Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=_FEED_FORWARD * width,
            hidden_dropout_prob=_DROPOUT,
            attention_probs_dropout_prob=_DROPOUT,
            encoder_hidden_size=channels,
            cross_attention_frequency=2,
        )
    )


def q_former_weights(published: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of the Q-Former among published ones, by the names of `transformers`, without the text's.

    Args:
        published: Weights by name, those of the released code (`Qformer.bert.`) or of `transformers`
            (`qformer.`).
    """
    found = {}
    for name, tensor in published.items():
        own = re.sub(r"^(Qformer\.bert|qformer)\.", "", name)
        if own == name or _TEXT.match(own):
            continue
        own = own.replace("embeddings.LayerNorm.", "layernorm.").replace(".self.", ".attention.")
        found[own] = tensor
    return found
