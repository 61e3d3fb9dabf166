"""How unlike the training images of a run the studies of other sources are, compared with its test split."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radscribe.evaluation.probabilities import area_under_curve
from radscribe.runs.drafts import Unlikeness
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.trained_system import TrainedSystem
from radscribe.studies.given import given_studies
from radscribe.studies.opening import DEFAULT_OPENING, Opening
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import Study


@dataclass(frozen=True, slots=True)
class UnlikeSource:
    """How unlike the training images the studies of one source are.

    Attributes:
        source: The source as it was given, or the name of the run's own split.
        studies: Number of studies that were measured.
        rejected: Number of studies that could not be read.
        share: Median over the studies of the share of training studies that are less unlike; None without
            studies.
        flagged: Share of the studies that are beyond the limit of the run; None without studies.
        auc: Area under the curve of the distance that tells the studies from those of the run's own split;
            None for that split itself, and without studies.
    """

    source: str
    studies: int
    rejected: int
    share: float | None
    flagged: float | None
    auc: float | None

    @classmethod
    def of(
        cls, source: str, found: list[Unlikeness], rejected: int, own: list[Unlikeness] | None = None
    ) -> UnlikeSource:
        """Sum up what was measured; `own` is that of the run's own split."""
        auc = None
        if own is not None:
            distances = np.array([one.distance for one in (*own, *found)])
            auc = area_under_curve(distances, np.arange(len(distances)) >= len(own))
        shares = [one.share for one in found]
        flagged = sum(one.flagged for one in found) / len(found) if found else None
        return cls(source, len(found), rejected, float(np.median(shares)) if shares else None, flagged, auc)

    def to_json(self) -> dict[str, Any]:
        """The values, rounded to four digits."""
        rounded = {name: getattr(self, name) for name in ("share", "flagged", "auc")}
        return {
            "source": self.source,
            "studies": self.studies,
            "rejected": self.rejected,
            **{name: value if value is None else round(value, 4) for name, value in rounded.items()},
        }


def measure_sources(
    run: RunDirectory,
    trained: TrainedSystem,
    sources: Iterable[str],
    *,
    store: Path | None = None,
    batch_size: int = 16,
    on_rejection: Callable[[Rejection], None] | None = None,
    opening: Opening = DEFAULT_OPENING,
) -> list[UnlikeSource]:
    """Measure the test split of a run's store, and each source.

    Args:
        run: Run directory.
        trained: The run, loaded.
        sources: Sources in any form that `given_studies` takes.
        store: Store whose test split is measured; by default that of the training.
        batch_size: Number of studies that are encoded together.
        on_rejection: Called with each study that cannot be read; without it, such a study is an error.
        opening: How images are opened that are in no prepared store.

    Raises:
        RadScribeError: the run keeps no statistics, its store is gone, or a study cannot be read.
    """

    def measured(studies: Iterable[Study], rejections: list[Rejection]) -> list[Unlikeness]:
        taken = rejections.append if on_rejection else None
        return [found for _, found in trained.measure(studies, batch_size=batch_size, on_rejection=taken)]

    own = measured(run.open_store(store).studies("test"), [])
    rows = [UnlikeSource.of("test split", own, 0)]
    for source in sources:
        rejections: list[Rejection] = []
        studies = given_studies([source], rejections.append if on_rejection else None, opening=opening)
        found = measured(studies, rejections)
        rows.append(UnlikeSource.of(source, found, len(rejections), own))
        for rejection in rejections:
            assert on_rejection is not None
            on_rejection(rejection)
    return rows
