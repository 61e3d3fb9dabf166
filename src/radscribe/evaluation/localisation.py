"""Localisation: maps of visual tokens compared with exact finding masks, as additive statistics.

- Pointing game: 1 if the patch of the map's largest token touches the mask, else 0; if several tokens are
  equally large, the mean over them.
- Energy in mask: the share of the map's sum that lies in the mask, with each token spread over its patch.

Both are computed over all views of a study together. They are shown beside chance: the score of a uniform map
on the same mask. A map that is 0 everywhere counts as a uniform map.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from radscribe.evaluation.metrics import Scores, StudyStatistics
from radscribe.text.observation_labeller import label_report

#: Maps of a whole study, scored against all its masks together. The report attention of a token is the
#: largest attention that any word pays to it, after each word's attention is scaled to 0..1: a TDM without
#: selected words.
STUDY_MAPS = ("VDM", "TDM", "report attention")
#: Maps of one observation, scored against the mask of that observation. Sentence attention is the mean over
#: the words of the sentence that names the observation; word attention is the mean over the words that name
#: it.
OBSERVATION_MAPS = ("class activation map", "sentence attention", "word attention")
MAP_KINDS = (*STUDY_MAPS, *OBSERVATION_MAPS)
#: Names of the measures of a `MapScore`, in the order of its fields.
MEASURES = ("pointing", "energy", "pointing by chance", "energy by chance")


@dataclass(frozen=True, slots=True)
class MapScore:
    """Scores of one map on one mask.

    Attributes:
        kind: Kind of the map, one of `MAP_KINDS`.
        observation: Observation whose mask it is; empty for the masks of all observations together.
        pointing, energy: Scores of the map.
        pointing_by_chance, energy_by_chance: Scores of a uniform map.
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
        rows: Number of rows of the token grid.
        columns: Number of columns of the token grid.

    Returns:
        float32 `[rows, columns]`, 0 to 1.
    """
    from PIL import Image

    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX))


def score_map(values: np.ndarray, covered: np.ndarray, kind: str, observation: str = "") -> MapScore:
    """Score one map on one mask; the module's docstring defines the scores.

    Args:
        values: Map `[views, rows, columns]` without negative values.
        covered: Share of each patch that the mask covers, of the same shape; at least one is above 0.
        kind: Kind of the map, one of `MAP_KINDS`.
        observation: Observation whose mask it is; empty for all together.
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
    """Where a report names an observation, as indices of the report's pieces.

    Attributes:
        word: Pieces of the words that name the observation.
        sentence: Pieces of the sentence that contains these words.
    """

    word: list[int]
    sentence: list[int]


def namings(pieces: Sequence[str]) -> dict[str, Naming]:
    """For each observation that the labeller finds present or uncertain, where the report names it.

    Args:
        pieces: Text of each token; joined together they are the report.
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
    """Statistics of the studies from which the mean scores of one kind of map over all its masks follow.

    Args:
        kind: Kind of the map, one of `MAP_KINDS`; the names of the scores begin with it.
        studies: Scored maps of each study, in the same order as in other statistics.
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
        # A resample may contain no mask at all.
        means = sums[..., :-1] / np.maximum(sums[..., -1:], 1)
        return {f"{kind} {measure}": means[..., place] for place, measure in enumerate(MEASURES)}

    return StudyStatistics(columns, scores_of_sums)


def by_observation(kind: str, studies: Iterable[Iterable[MapScore]]) -> dict[str, dict[str, float]]:
    """Mean scores of one kind of map by observation, with the number of masks that were averaged."""
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
