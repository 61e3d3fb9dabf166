"""Localisation of a trained system: its maps are compared with the finding masks of a store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from radscribe.evaluation.localisation import MapScore, coverage, namings, score_map
from radscribe.observations import OBSERVATIONS
from radscribe.progress import Progress
from radscribe.runs.config import DataConfig
from radscribe.runs.trained_system import TrainedSystem
from radscribe.runs.views import evaluation_masks, evaluation_views
from radscribe.studies.study import Study
from radscribe.systems.system import Evidence, pad_tokens
from radscribe.vision.transforms import stack_views

_BATCH = 16


def localise(
    trained: TrainedSystem, studies: Sequence[Study], *, progress: bool = True
) -> list[list[MapScore]]:
    """Score the maps of each study. A study without masks, or without maps on its views, gets an empty list.

    The system is given the reference report word by word, so all systems are tested on the same words. The
    attention is that of the last layer, averaged over its heads, at the steps that write the words in
    question.

    Args:
        trained: Trained system whose maps are scored.
        studies: Studies with readable views and with reports.
        progress: Show the progress.
    """
    masks = [_masks(study, trained.config.data) for study in studies]
    scores: list[list[MapScore]] = [[] for _ in studies]
    masked = [row for row, found in enumerate(masks) if found]
    with Progress(len(masked), "localising", "studies", show=progress and bool(masked)) as bar:
        for start in range(0, len(masked), _BATCH):
            rows = masked[start : start + _BATCH]
            evidence, tokens = _evidence(trained, [studies[row] for row in rows])
            for place, row in enumerate(rows):
                pieces = trained.system.pieces(tokens[place])
                scores[row] = _score_study(evidence, place, pieces, masks[row])
            bar.update(len(rows))
    return scores


def _masks(study: Study, data: DataConfig) -> dict[str, list[np.ndarray]]:
    """For each observation, its mask in every view that the system sees, bool `[crop, crop]` each."""
    views = evaluation_masks(study, data)
    empty = np.zeros((data.transform.crop, data.transform.crop), dtype=bool)
    found = {name: [view.get(name, empty) for view in views] for name in OBSERVATIONS}
    return {name: masks for name, masks in found.items() if np.any(masks)}


def _evidence(trained: TrainedSystem, studies: Sequence[Study]) -> tuple[Evidence, list[list[int]]]:
    data = trained.config.data
    views, mask = stack_views([evaluation_views(study, data) for study in studies])
    tokens = [trained.system.encode_report(study.report(data.section))[1:] for study in studies]
    device = trained.device
    return trained.system.explain(views.to(device), mask.to(device), pad_tokens(tokens).to(device)), tokens


def _score_study(
    evidence: Evidence, place: int, pieces: list[str], masks: dict[str, list[np.ndarray]]
) -> list[MapScore]:
    if evidence.grid is None:
        return []
    views, (rows, columns) = len(next(iter(masks.values()))), evidence.grid

    def grid(values: torch.Tensor) -> np.ndarray:
        """Reshape the unpadded tokens of `[tokens]` to `[views, rows, columns]`."""
        there = values[: views * rows * columns].float().cpu().numpy()
        return there.reshape(views, rows, columns)

    covered = {
        observation: np.stack([coverage(mask, rows, columns) for mask in found])
        for observation, found in masks.items()
    }
    whole = np.stack(
        [coverage(np.any(found, axis=0), rows, columns) for found in zip(*masks.values(), strict=True)]
    )
    attention = evidence.attention[place, -1].mean(dim=0)
    scores = [score_map(grid(values[place]), whole, kind) for kind, values in evidence.maps.items()]
    words = np.stack([grid(attention[position]) for position in range(len(pieces))])
    words -= words.min(axis=(1, 2, 3), keepdims=True)
    highest = words.max(axis=(1, 2, 3), keepdims=True)
    # A word that attends to all tokens alike has no place to show.
    scaled = np.divide(words, highest, out=np.zeros_like(words), where=highest > 0)
    scores.append(score_map(scaled.max(axis=0), whole, "report attention"))
    if evidence.activation_maps is not None:
        for observation, cover in covered.items():
            values = evidence.activation_maps[place, OBSERVATIONS.index(observation)].relu()
            scores.append(score_map(grid(values), cover, "class activation map", observation))
    for observation, naming in namings(pieces).items():
        if observation in covered:
            for kind, positions in [
                ("sentence attention", naming.sentence),
                ("word attention", naming.word),
            ]:
                mean = grid(attention[positions].mean(dim=0))
                scores.append(score_map(mean, covered[observation], kind, observation))
    return scores
