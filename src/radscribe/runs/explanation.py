"""Explanations of drafts: where the system looked when it wrote a draft, as maps on the views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from radscribe.observations import OBSERVATIONS
from radscribe.runs.drafts import DraftReport
from radscribe.studies.study import Study
from radscribe.systems.study_observations import StudyObservations
from radscribe.systems.system import Evidence, MemoryEvidence, PhraseEvidence, RecallEvidence


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a draft: the characters between two blanks.

    Attributes:
        text: Word as it is in the draft.
        begin, end: Position of the word in the text of the draft.
        pieces: Indices of the tokens that the word consists of.
    """

    text: str
    begin: int
    end: int
    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AddressedMemory:
    """The memory vectors that pieces and regions address, as weights whose sum over the vectors is 1.

    Attributes:
        vectors: Memory matrix `[vectors, width]`.
        of_pieces: Weights of each piece of the draft `[length, vectors]`.
        of_regions: Weights of each region of the views `[views, rows, columns, vectors]`.
    """

    vectors: np.ndarray
    of_pieces: np.ndarray
    of_regions: np.ndarray


@dataclass(frozen=True, slots=True)
class ReadPhrases:
    """The phrases that a system read beside the image, and why these (CmEAA).

    Attributes:
        observations: The observations by which the phrases were chosen, and where each comes from.
        weights: Weights of the visual tokens that have read the phrases, and of those that have not.
        attention: For each phrase, how much each region attended to it `[views, rows, columns]`; of a region,
            the sum over the phrases is 1. The phrase with the most attention comes first.
    """

    observations: StudyObservations
    weights: tuple[float, float]
    attention: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class RecalledEntry:
    """An entry of a memory bank that a disease query recalled (AM-MRG).

    Attributes:
        weight: Association of the query with the entry; over the whole bank the sum is 1.
        of: What the entry is of: `observation`, and `study` with the place in it where that is known.
    """

    weight: float
    of: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QueryRecall:
    """What the disease query of one observation recalled from one memory bank.

    Attributes:
        entries: The entries that it recalled most, in this order.
        perplexity: The number of entries among which the recall is spread.
    """

    entries: tuple[RecalledEntry, ...]
    perplexity: float


@dataclass(frozen=True, slots=True)
class Recall:
    """What the disease queries of a system recalled from its memory banks (AM-MRG).

    Attributes:
        probabilities: Probability of each observation by the disease queries of stage 1; empty if the system
            was built without them.
        banks: What the query of each observation recalled, by kind of bank and observation.
    """

    probabilities: Mapping[str, float]
    banks: Mapping[str, Mapping[str, QueryRecall]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A draft with what the system saw and where it looked. Research use, not for clinical diagnosis.

    All arrays contain only views that exist, and the tokens of the draft without its end token.

    Attributes:
        study: Study that was drafted.
        draft: Draft of the study, as `TrainedSystem.generate` gives it.
        pieces: Text of each token `[length]`; joined together they are the text of the draft.
        views: Views as the system saw them, uint8 grey `[views, crop, crop]`.
        masks: For each view, the known masks of the findings by observation, bool `[crop, crop]`.
        attention: Cross-attention of the step that wrote each token, `[layers, heads, length, views, rows,
            columns]`; its sum over views, rows and columns is 1. None if the system's visual tokens have no
            place on the image; then there are no maps and no memory either.
        maps: Maps of the whole study by name, such as `VDM`, `[views, rows, columns]`.
        activation_maps: Raw class activation maps by observation `[views, rows, columns]`; empty if the
            system does not classify observations.
        probabilities: Probability of each observation; empty if the system does not classify observations.
        important: Whether the system itself selected each token as important, bool `[length]`; None if it
            does not select tokens.
        memory: Addressed memory, if the system has a memory matrix.
        phrases: The phrases that were read, if the system reads phrases.
        recall: What disease queries recalled, if the system has memory banks.
    """

    study: Study
    draft: DraftReport
    pieces: tuple[str, ...]
    views: np.ndarray
    masks: tuple[Mapping[str, np.ndarray], ...]
    attention: np.ndarray | None
    maps: Mapping[str, np.ndarray]
    activation_maps: Mapping[str, np.ndarray]
    probabilities: Mapping[str, float]
    important: np.ndarray | None
    memory: AddressedMemory | None
    phrases: ReadPhrases | None
    recall: Recall | None = None

    @property
    def layers_and_heads(self) -> tuple[int, int]:
        """Numbers of layers and heads with attention; 0 if the system has no attention on the image."""
        layers, heads = (0, 0) if self.attention is None else self.attention.shape[:2]
        return layers, heads

    @property
    def grid(self) -> tuple[int, int]:
        """Numbers of rows and columns of the maps on a view; 0 if there are no maps."""
        rows, columns = (0, 0) if self.attention is None else self.attention.shape[-2:]
        return rows, columns

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the draft."""
        return merge_pieces(self.pieces)

    @property
    def important_words(self) -> tuple[bool, ...]:
        """For each word, whether the system selected one of its tokens."""
        chosen = self.important
        return tuple(chosen is not None and bool(chosen[list(word.pieces)].any()) for word in self.words)

    def of_words(self, of_pieces: np.ndarray, axis: int) -> np.ndarray:
        """Average an array over the pieces of each word.

        Args:
            of_pieces: Array whose dimension `axis` is over the pieces.
            axis: Dimension to average; in the result it is over the words.
        """
        words = [of_pieces.take(word.pieces, axis).mean(axis) for word in self.words]
        return np.stack(words, axis) if words else of_pieces.take([], axis)


def merge_pieces(pieces: Sequence[str]) -> tuple[Word, ...]:
    """The words of a text that is given in pieces. Pieces may be parts of words, and may contain blanks.

    A piece belongs to every word that it contains a letter of.
    """
    words: list[tuple[str, int, list[int]]] = []
    position, within = 0, False
    for index, piece in enumerate(pieces):
        for letter in piece:
            if letter.isspace():
                within = False
            else:
                text, begin, parts = words.pop() if within else ("", position, [])
                words.append((text + letter, begin, parts if index in parts else [*parts, index]))
                within = True
            position += 1
    return tuple(Word(text, begin, begin + len(text), tuple(parts)) for text, begin, parts in words)


def explanation_of(
    study: Study,
    draft: DraftReport,
    pieces: Sequence[str],
    views: Sequence[Tensor],
    masks: Sequence[Mapping[str, np.ndarray]],
    evidence: Evidence,
) -> Explanation:
    """Turn the evidence for one study, whose views are all readable, into maps on its views.

    Args:
        study: Study that was drafted.
        draft: Draft of the study.
        pieces: Text of each token of the draft.
        views: Views as the system saw them, uint8 `[crop, crop]` each.
        masks: Masks of each view by observation.
        evidence: Evidence for this study alone, for at least as many tokens as there are pieces.
    """

    length, grid = len(pieces), evidence.grid
    probabilities, important = evidence.probabilities, evidence.important
    explanation = Explanation(
        study=study,
        draft=draft,
        pieces=tuple(pieces),
        views=np.stack([view.numpy() for view in views]),
        masks=tuple(masks),
        attention=None,
        maps={},
        activation_maps={},
        probabilities={}
        if probabilities is None
        else dict(zip(OBSERVATIONS, probabilities[0].tolist(), strict=True)),
        important=None if important is None else important[0, :length].cpu().numpy(),
        memory=None,
        phrases=None,
        recall=_recall_of(evidence.recall) if evidence.recall else None,
    )
    if grid is None:
        return explanation

    def on_views(values: Tensor) -> np.ndarray:
        """Reshape `[..., tokens]` to `[..., views, rows, columns]`."""
        return _numpy(values.unflatten(-1, (len(views), *grid)))

    activation_maps = evidence.activation_maps
    return replace(
        explanation,
        attention=on_views(evidence.attention[0, :, :, :length]),
        maps={name: on_views(values[0]) for name, values in evidence.maps.items()},
        activation_maps={}
        if activation_maps is None
        else dict(zip(OBSERVATIONS, on_views(activation_maps[0]), strict=True)),
        memory=_memory_of(evidence.memory, length, on_views) if evidence.memory else None,
        phrases=_phrases_of(evidence.phrases, on_views) if evidence.phrases else None,
    )


def _memory_of(
    memory: MemoryEvidence, length: int, on_views: Callable[[Tensor], np.ndarray]
) -> AddressedMemory:
    of_regions = on_views(memory.of_regions[0].transpose(0, 1))
    return AddressedMemory(
        _numpy(memory.vectors), _numpy(memory.of_tokens[0, :length]), np.moveaxis(of_regions, 0, -1)
    )


def _phrases_of(phrases: PhraseEvidence, on_views: Callable[[Tensor], np.ndarray]) -> ReadPhrases:
    attention = on_views(phrases.attention[0])
    read = [number for number, chosen in enumerate(phrases.chosen[0].tolist()) if chosen]
    read.sort(key=lambda number: -attention[number].sum())
    enhanced, vanilla = phrases.weights[0].tolist()
    return ReadPhrases(
        phrases.observations[0],
        (enhanced, vanilla),
        {phrases.texts[number]: attention[number] for number in read},
    )


def _recall_of(recall: RecallEvidence) -> Recall:
    def of_bank(kind: str) -> dict[str, QueryRecall]:
        found, entries = recall.banks[kind], recall.entries[kind]
        rows, weights = found.rows[0].tolist(), found.weights[0].tolist()
        return {
            name: QueryRecall(
                tuple(
                    RecalledEntry(weight, entries[row])
                    for row, weight in zip(rows[i], weights[i], strict=True)
                ),
                perplexity,
            )
            for i, (name, perplexity) in enumerate(
                zip(OBSERVATIONS, found.perplexity[0].tolist(), strict=True)
            )
        }

    known = recall.probabilities
    return Recall(
        {} if known is None else dict(zip(OBSERVATIONS, known[0].tolist(), strict=True)),
        {kind: of_bank(kind) for kind in recall.banks},
    )


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
