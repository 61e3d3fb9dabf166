"""The observation classifier, which gives the probability of each of the 14 observations in a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from radscribe.observations import OBSERVATIONS
from radscribe.parts.observation_part import ObservationPart
from radscribe.vision.backbones import BackboneConfig
from radscribe.vision.transforms import TransformConfig

KIND = "observation-classifier"


class ObservationClassifier(ObservationPart):
    """A backbone, the mean of its visual tokens, and a linear layer with a sigmoid for each observation.

    The tokens of all views of a study are averaged. Because the head is linear, this is the mean of the
    logits of the views.
    """

    kind = KIND
    description_file = "observation_classifier.json"

    def __init__(
        self,
        backbone: BackboneConfig,
        transform: TransformConfig,
        configuration: Mapping[str, Any] | None = None,
    ):
        super().__init__(backbone, transform, configuration)
        self.head = nn.Linear(self.backbone.channels, len(OBSERVATIONS))

    @classmethod
    def described(
        cls, description: Mapping[str, Any], backbone: BackboneConfig, transform: TransformConfig
    ) -> Self:
        """See `ObservationPart.described`."""
        return cls(backbone, transform, description.get("configuration"))

    def forward(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """See `ObservationPart.forward`."""
        visual = self.backbone(views, view_mask)
        return self.head(visual.tokens.sum(dim=1) / visual.mask.sum(dim=1, keepdim=True))
