"""The common part of every system's configuration: it lists the components of the system."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from radscribe.vision.backbones import BackboneConfig

if TYPE_CHECKING:
    from torch import nn

    from radscribe.layers.frozen_language_model import LanguageModelConfig


class ComponentConfig(Protocol):
    """The configuration of a component: its sizes, and the weights that it starts from.

    Attributes:
        weights: Where the weights are, or `none` for random weights.
    """

    weights: str

    def build(self) -> nn.Module:
        """Build the component with its weights, as large as it is in training.

        Raises:
            RadScribeError: the weights are not there, or are of other sizes.
        """


@dataclass(kw_only=True, slots=True)
class SystemConfig:
    """The components of a system.

    Attributes:
        backbone: The visual extractor.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)

    @property
    def language_model(self) -> LanguageModelConfig | None:
        """The frozen language model that writes the reports, where the system has one."""
        return None

    @property
    def components(self) -> tuple[ComponentConfig, ...]:
        """All other components that can start from published weights, as the switches are set now."""
        return ()

    @property
    def parts(self) -> dict[str, str]:
        """The kind of each part that the system needs, by the field that names the part's directory.

        A kind is a name in `radscribe pretrain`. The field is empty as long as no part is given.
        """
        return {}

    @property
    def made_of_a_store(self) -> dict[str, str]:
        """The kinds of `parts` and of the language model, by field; a language model may also be named."""
        language_model = {"language_model.name": "language-model"} if self.language_model else {}
        return language_model | self.parts

    def start_from_nothing(self) -> None:
        """Let the backbone and the other components start from random weights."""
        self.backbone.weights = "none"
        for component in self.components:
            component.weights = "none"
