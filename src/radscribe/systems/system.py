"""The interface of every system: from a batch to losses, and from views to drafts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from radscribe.decoding.search import Decoded, DecodingConfig

if TYPE_CHECKING:
    from radscribe.layers.memory import Recalled
    from radscribe.systems.study_observations import StudyObservations
    from radscribe.text.language_model_files import LanguageModelRecord
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
    from radscribe.vision.backbones import Grid
    from radscribe.vision.transforms import TransformConfig


@dataclass(slots=True)
class Batch:
    """A batch of several studies.

    Attributes:
        study_ids: The id of each study.
        views: uint8 grey `[studies, views, height, width]`; absent views are 0.
        view_mask: bool `[studies, views]`, True for views that are there.
        tokens: Reports as the system's tokens `[studies, length]`: 0, the words, 0, and 0 as padding. The
            tokens are the ids of the vocabulary; with a language model they are that model's ids plus 1.
        labels: 1 (present), 0 (absent) or NaN (ignored) for each of `OBSERVATIONS`, in their order,
            `[studies, observations]`.
        projections: Projection of each view, as its index in `PROJECTIONS`, int64 `[studies, views]`; that of
            absent views is unknown.
    """

    study_ids: list[str]
    views: Tensor
    view_mask: Tensor
    tokens: Tensor
    labels: Tensor
    projections: Tensor | None = None


def pad_tokens(rows: Iterable[Sequence[int]], padding: int = 0) -> Tensor:
    """Stack rows of token ids, int64 `[rows, longest]`; shorter rows are padded at the end.

    Args:
        rows: The ids of each row.
        padding: The id that shorter rows are filled with.
    """
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=padding)


@dataclass(slots=True)
class Losses:
    """The losses of a batch.

    Attributes:
        total: The loss that is minimised, a scalar.
        terms: The single losses in the total, by name, scalars.
        shares: Shares of the batch's studies that have some property, by name, scalars from 0 to 1. Their
            means over an epoch are logged, and `System.warning` looks at them.
    """

    total: Tensor
    terms: dict[str, Tensor]
    shares: dict[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """Draft reports of several studies.

    Attributes:
        texts: The text of each study's draft.
        tokens: int `[studies, length]`, 0 after the end.
        token_logprobs: Log-probability of each token, including the end, `[studies, length]`.
        logprob: Log-probability of each draft, `[studies]`.
        probabilities: Probability of each of `OBSERVATIONS`, `[studies, observations]`; None if the system
            does not classify them.
        alternatives: Texts and log-probabilities of the second best drafts, of the third best and so on, as
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
        """Make drafts of what a search found.

        Args:
            decoded: The result of the search.
            text_of: Gives the text of a draft's tokens.
        """

        def texts(found: Decoded) -> list[str]:
            return [text_of(row) for row in found.tokens.tolist()]

        others = tuple((texts(found), found.logprob) for found in decoded.alternatives)
        return cls(
            texts(decoded), decoded.tokens, decoded.token_logprobs, decoded.logprob, alternatives=others
        )


@dataclass(slots=True)
class MemoryEvidence:
    """The weights of the vectors of a memory matrix in its responses; they sum to 1 over the vectors.

    Attributes:
        vectors: The memory matrix `[vectors, width]`.
        of_tokens: Weights in the step that reads each token, averaged over threads,
            `[studies, length, vectors]`.
        of_regions: Weights for each visual token `[studies, tokens, vectors]`.
    """

    vectors: Tensor
    of_tokens: Tensor
    of_regions: Tensor


@dataclass(slots=True)
class PhraseEvidence:
    """Which phrases the visual tokens of each study have read, and why these (CmEAA).

    Attributes:
        observations: The observations of each study by which its phrases were chosen, and their origins.
        texts: All phrases.
        chosen: bool `[studies, phrases]`, True for the phrases of a study.
        attention: Attention of each visual token to each phrase `[studies, phrases, tokens]`; of a token, its
            sum over the phrases is 1. Tokens are as in `Evidence`.
        weights: Weights of the tokens that have read phrases, and of those that have not, which sum to 1,
            `[studies, 2]`.
    """

    observations: Sequence[StudyObservations]
    texts: Sequence[str]
    chosen: Tensor
    attention: Tensor
    weights: Tensor


@dataclass(slots=True)
class RecallEvidence:
    """What the disease queries recalled from memory banks (AM-MRG).

    Attributes:
        probabilities: Calibrated probability of each of `OBSERVATIONS` by the disease queries of stage 1
            `[studies, observations]`; None if the system was built without them.
        banks: The rows that the query of each of `OBSERVATIONS` recalled most, by kind of bank.
        entries: What each row of a bank is of, by kind of bank; see `MemoryBank`.
    """

    probabilities: Tensor | None
    banks: Mapping[str, Recalled]
    entries: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(slots=True)
class Evidence:
    """Where a system looks as it writes given reports, and what it recognises.

    Attributes:
        token_mask: bool `[studies, tokens]`, True for visual tokens of a view that is there. Tokens are
            ordered view after view, and row by row within a view.
        grid: Grid of the visual tokens of one view. None if they have no place on the image, as is the case
            for queries; the maps below then have no place on the views.
        attention: Cross-attention weights of the step that writes each token
            `[studies, layers, heads, length, tokens]`.
        maps: Maps of the whole study by name, such as `VDM`, `[studies, tokens]`.
        activation_maps: Raw class activation map of each of `OBSERVATIONS` `[studies, observations, tokens]`.
        probabilities: Probability of each of `OBSERVATIONS` `[studies, observations]`.
        important: bool `[studies, length]`, True for tokens that the system itself selected as important.
        memory: Which memory vectors were addressed, for a system with a memory matrix.
        phrases: Which phrases were read, for a system that reads phrases.
        recall: What was recalled, for a system with memory banks.
    """

    token_mask: Tensor
    grid: Grid | None
    attention: Tensor
    maps: dict[str, Tensor]
    activation_maps: Tensor | None = None
    probabilities: Tensor | None = None
    important: Tensor | None = None
    memory: MemoryEvidence | None = None
    phrases: PhraseEvidence | None = None
    recall: RecallEvidence | None = None


@runtime_checkable
class MatchesReports(Protocol):
    """A system that can tell which report belongs to which images, without writing one."""

    def image_vectors(self, views: Tensor, view_mask: Tensor) -> Tensor | None:
        """A vector of the images of each study `[studies, width]`; None if it was built without them.

        Args:
            views: The views as `System.generate` takes them.
            view_mask: bool `[studies, views]`, True for views that are there.
        """

    def match_reports(self, images: Tensor, tokens: Tensor) -> Tensor:
        """How well each report fits the images of each study `[studies, reports]`, the higher the better.

        Args:
            images: What `image_vectors` gives.
            tokens: The reports as in `Batch`.
        """


class System(nn.Module):
    """One published method, end to end. A study has any number of views; masked views have no effect.

    Attributes:
        backbone: Turns views and their mask into visual tokens.
        learns_projections: Whether training uses the projections of views where they are known.
    """

    backbone: nn.Module
    learns_projections: bool = False

    @property
    def tokenizer(self) -> LanguageModelTokenizer | None:
        """The tokenizer of the system's language model; None if the system uses a vocabulary of words."""
        return None

    def own_state_dict(self) -> dict[str, Tensor]:
        """The weights that a run keeps, by name: all weights, unless some are kept elsewhere."""
        return self.state_dict()

    def frozen_files(self) -> LanguageModelRecord | None:
        """The files with the weights that a run does not keep; None if it keeps all weights."""
        return None

    @abstractmethod
    def encode_report(self, report: str) -> list[int]:
        """The tokens of a report for training, including begin and end."""

    def training_labels(
        self, labels: Tensor, reports: Sequence[str], views: Iterable[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The labels that training studies have in `Batch.labels`; by default those that are given.

        Args:
            labels: Labels of the studies, from their reports or their data set, as in `Batch.labels`.
            reports: The report of each study.
            views: The views of the studies in their order, as `generate` takes them, in batches with their
                masks. They are read only if they are asked for.
        """
        return labels

    def check_views(self, transform: TransformConfig) -> None:
        """Check that the system can take views of this geometry; by default it can.

        Raises:
            RadScribeError: a part of the system takes others.
        """
        return

    def fold(self) -> None:
        """Merge what only training needs to be apart, for drafting; by default nothing."""
        return

    @abstractmethod
    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters that train at the visual extractor's learning rate."""

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """The training losses of a batch."""

    def warning(self, shares: Mapping[str, float]) -> str | None:
        """A problem of an epoch that the user should know, with advice; None by default.

        Args:
            shares: The means of `Losses.shares` over the studies of the epoch.
        """
        return None

    @abstractmethod
    def generate(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Draft:
        """Draft a report for each study.

        Args:
            views: The views, uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
            decoding: The settings of the decoding.
        """

    def observation_probabilities(self, views: Tensor, view_mask: Tensor) -> Tensor | None:
        """Probability of each of `OBSERVATIONS` `[studies, observations]`; the drafts have the same.

        None if the system does not classify observations, which is the default.

        Args:
            views: uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
        """
        return None

    @abstractmethod
    def stream(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Iterator[Draft]:
        """Draft as `generate` does, and give the drafts after every token; the last ones equal `generate`'s.

        A beam search may change its mind: a draft need not begin with the draft of the step before.

        Args:
            views: The views, uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
            decoding: The settings of the decoding.
        """

    @abstractmethod
    def explain(self, views: Tensor, view_mask: Tensor, tokens: Tensor) -> Evidence:
        """Find where the system looks as it writes `tokens`, by one teacher-forced pass.

        Args:
            views: The views, uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
            tokens: int `[studies, length]` as in `Draft`: without begin, 0 after the end.
        """

    @abstractmethod
    def pieces(self, tokens: list[int]) -> list[str]:
        """The text of each token up to the end; joined, these texts are the draft's text."""
