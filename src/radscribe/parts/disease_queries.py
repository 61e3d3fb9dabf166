"""Disease queries: a Q-Former whose 14 queries read an image, one for each observation (AM-MRG, stage 1).

Wang et al., AM-MRG, section III-B; equation numbers in this file are that paper's. The released stage 1 drops
the Q-Former and trains a small perceptron for each observation on the mean of the visual tokens; that is the
head `pooled-mlp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.layers.q_former import q_former
from radscribe.observations import OBSERVATIONS
from radscribe.parts.observation_part import ObservationPart
from radscribe.vision.backbones import BackboneConfig, average_views
from radscribe.vision.transforms import TransformConfig

KIND = "disease-queries"
#: Head of the classification: a logit from each query, or perceptrons on the mean visual token.
Head = Literal["per-query", "pooled-mlp"]

_FIRST_DEVIATION = 0.02
#: Inner widths of the released perceptrons after the first, which has a quarter of the backbone's channels.
_INNER = 48


@dataclass(kw_only=True, slots=True)
class QueryConfig:
    """Sizes of the Q-Former, and the head.

    Attributes:
        head: `per-query` takes a logit from each query's result; `pooled-mlp` has no Q-Former, but a
            perceptron for each observation on the mean visual token.
        width: Width of queries and Q-Former.
        layers: Number of layers of the Q-Former; the first and every second after it read the image.
        heads: Number of attention heads of the Q-Former.
    """

    head: Head = "per-query"
    width: int = 768
    layers: int = 12
    heads: int = 12


class DiseaseQueries(ObservationPart):
    """A backbone, a query for each observation that reads its visual tokens, and a logit of each query.

    The tokens of the views of a study are averaged, patch by patch, before the Q-Former.

    Args:
        backbone: Architecture of the backbone, and the weights that it starts from.
        transform: Image geometry.
        queries: Sizes of the Q-Former, and the head.
        configuration: See `ObservationPart`.

    Attributes:
        queries: Q_d `[observations, width]`; None with the head `pooled-mlp`.
        qformer: `Blip2QFormerModel` of `transformers`; None with the head `pooled-mlp`.
    """

    kind = KIND
    description_file = "disease_queries.json"

    def __init__(
        self,
        backbone: BackboneConfig,
        transform: TransformConfig,
        queries: QueryConfig,
        configuration: Mapping[str, Any] | None = None,
    ):
        super().__init__(backbone, transform, configuration)
        self.query_config = queries
        self.queries: nn.Parameter | None = None
        self.qformer: nn.Module | None = None
        channels = self.backbone.channels
        if queries.head == "per-query":
            self.queries = nn.Parameter(torch.empty(len(OBSERVATIONS), queries.width))
            nn.init.normal_(self.queries, std=_FIRST_DEVIATION)
            self.qformer = q_former(queries.width, queries.layers, queries.heads, channels)
            self.head: QueryHead | PooledHead = QueryHead(queries.width)
        else:
            self.head = PooledHead(channels)

    @classmethod
    def described(
        cls, description: Mapping[str, Any], backbone: BackboneConfig, transform: TransformConfig
    ) -> Self:
        """See `ObservationPart.described`."""
        queries = QueryConfig(**description["queries"])
        return cls(backbone, transform, queries, description.get("configuration"))

    def sizes(self) -> dict[str, Any]:
        """See `ObservationPart.sizes`."""
        return {"queries": asdict(self.query_config)}

    def forward(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """See `ObservationPart.forward`."""
        return self.logits(self.tokens(views, view_mask))

    def tokens(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """F: visual tokens `[studies, patches, channels]`, the mean over the views; see `forward`."""
        return average_views(self.backbone(views, view_mask), view_mask).tokens

    def features(self, tokens: Tensor) -> Tensor:
        """F_d: what each query has read `[studies, observations, width]`, for tokens as `tokens` gives them.

        Only a part with the head `per-query` has it.
        """
        assert self.queries is not None
        assert self.qformer is not None
        queries = self.queries.expand(len(tokens), -1, -1)
        return self.qformer(query_embeds=queries, encoder_hidden_states=tokens).last_hidden_state

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits `[studies, observations]` for tokens as `tokens` gives them."""
        return self.head(tokens if self.qformer is None else self.features(tokens))


class QueryHead(nn.Module):
    """A linear layer for each query, which gives one logit."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(OBSERVATIONS), width))
        self.bias = nn.Parameter(torch.zeros(len(OBSERVATIONS)))
        nn.init.normal_(self.weight, std=_FIRST_DEVIATION)

    def forward(self, features: Tensor) -> Tensor:
        """Logits `[studies, observations]` of F_d `[studies, observations, width]`."""
        return (features * self.weight).sum(dim=-1) + self.bias

    @torch.no_grad()
    def start_from(self, log_odds: Tensor) -> None:
        """Set the biases to log odds `[observations]`."""
        self.bias.copy_(log_odds)


class PooledHead(nn.Module):
    """A perceptron of four layers for each observation on the mean visual token (released code).

    It scores absent and present, and the logit is the difference: the softmax of two scores is the sigmoid of
    their difference.
    """

    def __init__(self, channels: int):
        super().__init__()
        widths = (channels, max(channels // 4, 1), _INNER, _INNER, 2)
        self.perceptrons = nn.ModuleList(
            nn.Sequential(
                *(
                    layer
                    for inner, outer in pairwise(widths)
                    for layer in (nn.Linear(inner, outer), nn.ReLU())
                )
            )[:-1]
            for _ in OBSERVATIONS
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[studies, observations]` of visual tokens `[studies, patches, channels]`."""
        pooled = tokens.mean(dim=1)
        scores = torch.stack([perceptron(pooled) for perceptron in self.perceptrons], dim=1)
        return scores[..., 1] - scores[..., 0]

    @torch.no_grad()
    def start_from(self, log_odds: Tensor) -> None:
        """Set the biases of absent and present, so that their differences are log odds `[observations]`."""
        for perceptron, value in zip(self.perceptrons, log_odds, strict=True):
            *_, last = perceptron.children()
            assert isinstance(last, nn.Linear)
            last.bias.copy_(torch.stack([-value, value]) / 2)


def orthogonality(queries: Tensor) -> Tensor:
    """How far queries are from orthogonal: ||Q Q^T - I||^2 (Frobenius) with rows of length 1, a scalar.

    Args:
        queries: Queries `[..., observations, width]`; further dimensions are averaged.
    """
    rows = F.normalize(queries, dim=-1)
    products = rows @ rows.transpose(-1, -2)
    return (products - torch.eye(rows.size(-2), device=rows.device)).square().sum(dim=(-2, -1)).mean()
