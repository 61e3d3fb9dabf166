"""What a system is: a batch in, losses out; views in, drafts out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from radscribe.decoding.search import Decoded, DecodingConfig

if TYPE_CHECKING:
    from radscribe.text.language_model_files import LanguageModelRecord
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
    from radscribe.vision.backbones import Grid


@dataclass(slots=True)
class Batch:
    """Several studies side by side.

    Attributes:
        study_ids: one per study.
        views: uint8 grey `[studies, views, height, width]`; absent views are 0.
        view_mask: bool `[studies, views]`, True for views that are there.
        tokens: reports as the system's tokens, 0 in front and behind, padded with 0, `[studies, length]`. A
            system with a vocabulary has its ids; one with a language model that model's ids plus 1.
        labels: 1 (present), 0 (absent) or NaN (ignored) for each of `OBSERVATIONS`, in their order,
            `[studies, observations]`.
        projections: of each view, as its index in `PROJECTIONS`, int64 `[studies, views]`; absent views are
            unknown.
    """

    study_ids: list[str]
    views: Tensor
    view_mask: Tensor
    tokens: Tensor
    labels: Tensor
    projections: Tensor | None = None


def pad_tokens(rows: Iterable[Sequence[int]], padding: int = 0) -> Tensor:
    """Put token ids side by side, padded behind, int64 `[rows, longest]`.

    Args:
        rows: the ids of each row.
        padding: the id that fills what is short.
    """
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=padding)


@dataclass(slots=True)
class Losses:
    """The losses of a batch.

    Attributes:
        total: what is minimised, a scalar.
        terms: the terms of it by name, scalars.
        shares: by name, the share of the batch's studies of which something holds, scalars from 0 to 1; their
            means over an epoch are logged, and `System.warning` looks at them.
    """

    total: Tensor
    terms: dict[str, Tensor]
    shares: dict[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """Draft reports of several studies.

    Attributes:
        texts: one per study.
        tokens: int `[studies, length]`, 0 after the end.
        token_logprobs: log-probability of each token, the end's included, `[studies, length]`.
        logprob: log-probability of each draft, `[studies]`.
        probabilities: of each of `OBSERVATIONS`, where the system classifies them,
            `[studies, observations]`.
        alternatives: texts and log-probabilities of the second best drafts, of the third best and so on, as
            many as the decoding asks for; see `Decoded`.
    """

    texts: list[str]
    tokens: Tensor
    token_logprobs: Tensor
    logprob: Tensor
    probabilities: Tensor | None = None
    alternatives: tuple[tuple[list[str], Tensor], ...] = ()

    @classmethod
    def of(cls, decoded: Decoded, text_of: Callable[[list[int]], str]) -> Draft:
        """The drafts that a search found.

        Args:
            decoded: what it found.
            text_of: gives the text of a draft's tokens.
        """

        def texts(found: Decoded) -> list[str]:
            return [text_of(row) for row in found.tokens.tolist()]

        others = tuple((texts(found), found.logprob) for found in decoded.alternatives)
        return cls(
            texts(decoded), decoded.tokens, decoded.token_logprobs, decoded.logprob, alternatives=others
        )


@dataclass(slots=True)
class MemoryEvidence:
    """Which vectors of a memory matrix answered, and how much, as weights that sum to 1 over the vectors.

    Attributes:
        vectors: the memory matrix `[vectors, width]`.
        of_tokens: for the step that reads each token, averaged over threads, `[studies, length, vectors]`.
        of_regions: for each visual token `[studies, tokens, vectors]`.
    """

    vectors: Tensor
    of_tokens: Tensor
    of_regions: Tensor


@dataclass(slots=True)
class Evidence:
    """Where a system looks as it writes given reports, and what it recognises.

    Attributes:
        token_mask: bool `[studies, tokens]`, True for visual tokens of a view that is there; tokens of a view
            stand row by row, view after view.
        grid: of the visual tokens of one view. With None they have no place on the image, as queries have
            none, and nothing below lies on the views.
        attention: cross-attention weights of the step that writes each token
            `[studies, layers, heads, length, tokens]`.
        maps: maps of the whole study by name, such as `VDM`, `[studies, tokens]`.
        activation_maps: raw class activation map of each of `OBSERVATIONS` `[studies, observations, tokens]`.
        probabilities: of each of `OBSERVATIONS` `[studies, observations]`.
        important: bool `[studies, length]`, True for tokens that the system itself selected as important.
        memory: of a system with a memory matrix.
    """

    token_mask: Tensor
    grid: Grid | None
    attention: Tensor
    maps: dict[str, Tensor]
    activation_maps: Tensor | None = None
    probabilities: Tensor | None = None
    important: Tensor | None = None
    memory: MemoryEvidence | None = None


class System(nn.Module):
    """One published method, end to end. Any number of views per study; masked views change nothing.

    Attributes:
        backbone: called with views and their mask, gives visual tokens.
        learns_projections: training tells frontal from lateral views where their projection is known.
    """

    backbone: nn.Module
    learns_projections: bool = False

    @property
    def tokenizer(self) -> LanguageModelTokenizer | None:
        """The tokenizer of the language model that writes; None where a vocabulary of words is used."""
        return None

    def own_state_dict(self) -> dict[str, Tensor]:
        """The weights that a run keeps, by name: all, unless some are kept elsewhere."""
        return self.state_dict()

    def frozen_files(self) -> LanguageModelRecord | None:
        """Which files hold the weights that a run does not keep; None where it keeps all."""
        return None

    @abstractmethod
    def encode_report(self, report: str) -> list[int]:
        """The tokens that training wants for a report, begin and end included."""

    @abstractmethod
    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters that train at the visual extractor's learning rate."""

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """The training losses of a batch."""

    def warning(self, shares: Mapping[str, float]) -> str | None:
        """What the user should know of an epoch, and do about it; nothing by default.

        Args:
            shares: the means of `Losses.shares` over the studies of the epoch.
        """
        return None

    @abstractmethod
    def generate(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Draft:
        """Draft a report for each study.

        Args:
            views: uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
            decoding: how to decode.
        """

    def observation_probabilities(self, views: Tensor, view_mask: Tensor) -> Tensor | None:
        """Probability of each of `OBSERVATIONS` `[studies, observations]`, as its drafts carry them.

        None, which is the default, where the system does not classify them.

        Args:
            views: uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
        """
        return None

    @abstractmethod
    def stream(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Iterator[Draft]:
        """Draft as `generate` does, and show the drafts after every token; the last are those of `generate`.

        A beam search may change its mind: a draft need not begin with the one before.

        Args:
            views: see `generate`, as for all arguments.
            view_mask: likewise.
            decoding: likewise.
        """

    @abstractmethod
    def explain(self, views: Tensor, view_mask: Tensor, tokens: Tensor) -> Evidence:
        """Where the system looks as it writes `tokens`, by one teacher-forced pass.

        Args:
            views: uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
            tokens: int `[studies, length]` as in `Draft`: without begin, 0 after the end.
        """

    @abstractmethod
    def pieces(self, tokens: list[int]) -> list[str]:
        """The text of each token up to the end; joined they are the draft's text."""
