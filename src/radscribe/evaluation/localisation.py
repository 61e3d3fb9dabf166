"""Does a map point at the lesion? Maps of visual tokens against exact finding masks, as additive statistics.

- Pointing game: 1 where the patch of the map's largest token touches the mask, else 0; where several are
  largest, their mean.
- Energy in mask: the share of the map's sum that falls into the mask, each token spread over its patch.

Both are taken over all views of a study together, and stand beside chance: what a map that is the same
everywhere scores on the same mask. A map that is 0 everywhere points nowhere and counts as such a map.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from radscribe.evaluation.metrics import Scores, StudyStatistics
from radscribe.text.observation_labeller import label_report

#: Maps of a whole study, scored against all its masks together. Report attention is the largest that any word
#: of the report pays, each word's attention stretched to 0..1 before: what the TDM is without a selection.
STUDY_MAPS = ("VDM", "TDM", "report attention")
#: Maps of one observation, scored against its own mask: attention is the mean over the words of the sentence
#: that names it, or over the words that name it.
OBSERVATION_MAPS = ("class activation map", "sentence attention", "word attention")
MAP_KINDS = (*STUDY_MAPS, *OBSERVATION_MAPS)
#: What is measured of a map on a mask, as `MapScore` has it.
MEASURES = ("pointing", "energy", "pointing by chance", "energy by chance")


@dataclass(frozen=True, slots=True)
class MapScore:
    """How one map meets one mask.

    Attributes:
        kind: one of `MAP_KINDS`.
        observation: whose mask it is, empty for all of a study together.
        pointing, energy: of the map.
        pointing_by_chance, energy_by_chance: of a uniform one.
    """

    kind: str
    observation: str
    pointing: float
    energy: float
    pointing_by_chance: float
    energy_by_chance: float


def coverage(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The share of each token's patch that a mask covers.

    Args:
        mask: bool `[height, width]`.
        rows: of the grid of tokens.
        columns: of the grid of tokens.

    Returns:
        float32 `[rows, columns]`, 0 to 1.
    """
    from PIL import Image

    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX))


def score_map(values: np.ndarray, covered: np.ndarray, kind: str, observation: str = "") -> MapScore:
    """Score one map; see the module's text.

    Args:
        values: the map `[views, rows, columns]`, not negative.
        covered: shares of the patches that the mask covers, of the same shape, not all 0.
        kind: one of `MAP_KINDS`.
        observation: whose mask it is.
    """
    if not values.any():
        values = np.ones_like(values)
    touched = covered > 0
    largest = values == values.max()
    return MapScore(
        kind,
        observation,
        pointing=float(touched[largest].mean()),
        energy=float((values * covered).sum() / values.sum()),
        pointing_by_chance=float(touched.mean()),
        energy_by_chance=float(covered.mean()),
    )


@dataclass(frozen=True, slots=True)
class Naming:
    """Where a report names an observation, as positions of its pieces.

    Attributes:
        word: of the words that name it.
        sentence: of the sentence that they stand in.
    """

    word: list[int]
    sentence: list[int]


def namings(pieces: Sequence[str]) -> dict[str, Naming]:
    """Where a report names each observation that it states as present or uncertain, by the labeller's rules.

    Args:
        pieces: the text of each token; joined they are the report.
    """
    ends = np.cumsum([len(piece) for piece in pieces])
    starts = ends - [len(piece) for piece in pieces]
    labels = label_report("".join(pieces))

    def positions(span: tuple[int, int]) -> list[int]:
        return np.flatnonzero((starts < span[1]) & (ends > span[0])).tolist()

    return {
        observation: Naming(positions(evidence.mention), positions(evidence.sentence))
        for observation, evidence in labels.evidence.items()
        if labels.states[observation] in ("present", "uncertain")
    }


def localisation_statistics(kind: str, studies: Sequence[Iterable[MapScore]]) -> StudyStatistics:
    """Mean scores of one kind of map over all its masks, as statistics of the studies.

    Args:
        kind: one of `MAP_KINDS`; the scores' names begin with it.
        studies: the scored maps of each study, in the order of the studies of other statistics.
    """
    columns = np.array(
        [
            np.sum(
                [[*_values(score).values(), 1.0] for score in scores if score.kind == kind] or [[0.0] * 5],
                axis=0,
            )
            for scores in studies
        ]
    )

    def scores_of_sums(sums: np.ndarray) -> Scores:
        # A resample may hold no mask at all.
        means = sums[..., :-1] / np.maximum(sums[..., -1:], 1)
        return {f"{kind} {measure}": means[..., place] for place, measure in enumerate(MEASURES)}

    return StudyStatistics(columns, scores_of_sums)


def by_observation(kind: str, studies: Iterable[Iterable[MapScore]]) -> dict[str, dict[str, float]]:
    """Mean scores of one kind of map by observation, with the number of masks behind them."""
    groups: dict[str, list[MapScore]] = defaultdict(list)
    for scores in studies:
        for score in scores:
            if score.kind == kind and score.observation:
                groups[score.observation].append(score)
    return {
        observation: {
            measure: float(np.mean([_values(score)[measure] for score in found])) for measure in MEASURES
        }
        | {"masks": len(found)}
        for observation, found in sorted(groups.items())
    }


def _values(score: MapScore) -> dict[str, float]:
    values = (score.pointing, score.energy, score.pointing_by_chance, score.energy_by_chance)
    return dict(zip(MEASURES, values, strict=True))
