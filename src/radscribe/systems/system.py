"""What a system is: a batch in, losses out; views in, drafts out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from radscribe.decoding.search import DecodingConfig


@dataclass(slots=True)
class Batch:
    """Several studies side by side.

    Attributes:
        study_ids: one per study.
        views: uint8 grey `[studies, views, height, width]`; absent views are 0.
        view_mask: bool `[studies, views]`, True for views that are there.
        tokens: reports as the system's tokens, padded with 0, `[studies, length]`.
    """

    study_ids: list[str]
    views: Tensor
    view_mask: Tensor
    tokens: Tensor


@dataclass(slots=True)
class Losses:
    """The named terms of a training loss (scalars) and what is minimised."""

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(slots=True)
class Draft:
    """Draft reports of several studies.

    Attributes:
        texts: one per study.
        tokens: int `[studies, length]`, 0 after the end.
        token_logprobs: log-probability of each token, the end's included, `[studies, length]`.
        logprob: log-probability of each draft, `[studies]`.
    """

    texts: list[str]
    tokens: Tensor
    token_logprobs: Tensor
    logprob: Tensor


class System(nn.Module):
    """One published method, end to end. Any number of views per study; masked views change nothing.

    Attributes:
        backbone: called with views and their mask, gives visual tokens.
    """

    backbone: nn.Module

    @abstractmethod
    def encode_report(self, report: str) -> list[int]:
        """The tokens that training wants for a report, begin and end included."""

    @abstractmethod
    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters that train at the visual extractor's learning rate."""

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """The training losses of a batch."""

    @abstractmethod
    def generate(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Draft:
        """Draft a report for each study.

        Args:
            views: uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
            decoding: how to decode.
        """
