"""Regions of studies: what activation maps of disease queries keep of each view (AM-MRG, stage 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from radscribe.evaluation.localisation import MapScore, score_map
from radscribe.observations import OBSERVATIONS
from radscribe.parts.activation_maps import ActivationMaps
from radscribe.runs.config import DataConfig
from radscribe.runs.views import evaluation_masks, readable_studies
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import Study
from radscribe.vision.regions import Region, RegionConfig, kept_regions
from radscribe.vision.transforms import stack_views

#: All views of a study are looked at; no study has so many.
_ALL_VIEWS = 1000


@dataclass(frozen=True, slots=True)
class ViewRegions:
    """The regions of one observation on one view.

    Attributes:
        study: The study.
        view: Number of the view in its study, from 0.
        observation: Name of the observation.
        pixels: The view as the part sees it, uint8 grey `[crop, crop]`.
        activation_map: Activation map from 0 to 1, float32 `[crop, crop]`.
        regions: The patches that are kept, the most active first.
    """

    study: Study
    view: int
    observation: str
    pixels: Tensor
    activation_map: np.ndarray
    regions: Sequence[Region]


def map_scores(study: Study, found: Iterable[ViewRegions], data: DataConfig) -> list[MapScore]:
    """How well the activation maps of a study fit the known masks of its findings.

    A map is scored where its view has a mask of its observation.

    Args:
        study: The study.
        found: Its regions, with the maps.
        data: The views that were looked at, and their image geometry.
    """
    masks = evaluation_masks(study, data)
    return [
        score_map(
            regions.activation_map[None],
            mask[None].astype(np.float32),
            "class activation map",
            regions.observation,
        )
        for regions in found
        if (mask := masks[regions.view].get(regions.observation)) is not None and mask.any()
    ]


class RegionFinder:
    """Finds the regions of observations on the views of studies.

    Args:
        maps: Makes the activation maps.
        config: How regions are found.

    Raises:
        RadScribeError: see `RegionConfig.check`.
    """

    def __init__(self, maps: ActivationMaps, config: RegionConfig):
        config.check(maps.part.transform.crop)
        self.maps = maps
        self.config = config
        self.data = DataConfig(views=_ALL_VIEWS, transform=maps.part.transform)

    def regions(self, study: Study, views: Sequence[Tensor], names: Sequence[str]) -> list[ViewRegions]:
        """The regions of each observation on each view, observation by observation.

        Args:
            study: The study.
            views: Its views as the part sees them, uint8 grey `[crop, crop]` each.
            names: Names of observations.
        """
        found: list[ViewRegions] = []
        if not views:
            return found
        stacked, _ = stack_views([list(views)])
        for name in names:
            numbers = [OBSERVATIONS.index(name)] * len(views)
            for view, (pixels, of_view) in enumerate(
                zip(views, self.maps.of(stacked[0], numbers), strict=True)
            ):
                kept = kept_regions(of_view, self.config)
                found.append(ViewRegions(study, view, name, pixels, of_view, kept))
        return found

    def of_studies(
        self,
        studies: Iterable[Study],
        names: Sequence[str] | Callable[[Study, Sequence[Tensor]], Sequence[str]],
        on_rejection: Callable[[Rejection], None] | None = None,
    ) -> Iterator[tuple[Study, list[ViewRegions]]]:
        """The regions of each study that can be read.

        Args:
            studies: Studies to look at.
            names: Names of observations; or a function from a study and its views to those of the study.
            on_rejection: Called with each study that cannot be read; without it such a study raises.

        Raises:
            RadScribeError: see `readable_studies`.
        """
        for study, views, _ in readable_studies(studies, self.data, on_rejection):
            of_study = names(study, views) if callable(names) else names
            yield study, self.regions(study, views, of_study)

    def above(self, study: Study, views: Sequence[Tensor]) -> list[str]:
        """The observations of a study whose probability reaches its threshold."""
        part = self.maps.part
        probabilities = part.predict(*stack_views([list(views)]))[0].tolist()
        return [
            name
            for name, probability in zip(OBSERVATIONS, probabilities, strict=True)
            if probability >= part.threshold_of[name]
        ]
