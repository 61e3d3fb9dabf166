"""Probabilities of the observations in a study, from an observation classifier or from a run that has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.evaluation.clinical import THRESHOLD
from radscribe.files import read_json_object
from radscribe.observations import OBSERVATIONS
from radscribe.parts.disease_queries import DiseaseQueries
from radscribe.parts.observation_classifier import KIND, ObservationClassifier
from radscribe.parts.observation_part import ObservationPart
from radscribe.parts.part import PART, Part, make_command
from radscribe.runs.config import DataConfig
from radscribe.runs.drafts import PHANTOM, RunOrigin, source_in_words
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.trained_system import load
from radscribe.runs.views import readable_studies
from radscribe.studies.given import Given, given_studies
from radscribe.studies.rejection import Rejection
from radscribe.vision.transforms import stack_views

#: The parts that give probabilities of the observations, by their kinds.
_PARTS: dict[str, type[ObservationPart]] = {
    part.kind: part for part in (ObservationClassifier, DiseaseQueries)
}
_TRAIN = f"train it again: {make_command(KIND)}"
#: An observation classifier takes all views of a study; no study has so many.
_ALL_VIEWS = 1000
_SYNTHETIC = "trained on synthetic images: its probabilities say nothing about real ones"


def synthetic_caution(part: Part) -> str:
    """The caution that belongs to all that a part says; empty if it did not learn from synthetic images."""
    return _SYNTHETIC if part.store_source == PHANTOM else ""


@dataclass(frozen=True, slots=True)
class ObservedStudy:
    """The probabilities of the observations in one study. Research use, not for clinical diagnosis.

    Attributes:
        id: Id of the study.
        probabilities: Probability of each observation, by name.
        thresholds: Lowest probability of each observation that counts as present, by name.
        images: Files of the views; for a store, the files that it was prepared from.
        notes: What to know about these views, such as `burned-in text`.
        origin: The part or run that gave the probabilities, and what it was trained on.
        notice: Notice on the intended use.
    """

    id: str
    probabilities: Mapping[str, float]
    thresholds: Mapping[str, float]
    images: tuple[str, ...]
    notes: tuple[str, ...]
    origin: RunOrigin
    notice: str = NOTICE

    def above(self, name: str) -> bool:
        """Whether an observation reaches its threshold."""
        return self.probabilities[name] >= self.thresholds[name]

    def __str__(self) -> str:
        """One line with the id, and one line for each observation."""
        rows = [
            f"  {name:26}  {probability:.3f}  {'above' if self.above(name) else 'below'} "
            f"{self.thresholds[name]:.3f}"
            for name, probability in self.probabilities.items()
        ]
        return "\n".join([self.id, *rows])

    def to_json(self) -> dict[str, Any]:
        """The values of one line of `radscribe observe --json`."""
        return {
            "id": self.id,
            "observations": {
                name: {
                    "probability": round(probability, 4),
                    "threshold": round(self.thresholds[name], 4),
                    "above": self.above(name),
                }
                for name, probability in self.probabilities.items()
            },
            "images": list(self.images),
            "notes": list(self.notes),
            "classifier": self.origin.name,
            "classifier_sha256": self.origin.sha256,
            "trained_on": self.origin.trained_on,
            "notice": self.notice,
        }


@dataclass(frozen=True, slots=True)
class Observer:
    """A loaded classifier of the observations: a part, or the classifier of a run.

    Attributes:
        predict: Function from views uint8 `[studies, views, crop, crop]` and their mask bool
            `[studies, views]` to probabilities float32 `[studies, observations]`.
        data: Number of views of a study that are used, and their image geometry.
        thresholds: Threshold of each observation, by name.
        origin: The part or run.
    """

    predict: Callable[[Tensor, Tensor], Tensor]
    data: DataConfig
    thresholds: Mapping[str, float]
    origin: RunOrigin

    @property
    def caution(self) -> str:
        """The caution that belongs to all its probabilities; empty if there is none."""
        return self.origin.caution

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Observer:
        """Load the directory of an observation classifier, or of a run whose system has a classifier.

        Args:
            path: Directory of the classifier or of the run.
            device: Device to compute on: `auto`, `cpu` or `cuda`.

        Raises:
            RadScribeError: it is neither, or is damaged.
        """
        path = Path(path)
        if RunDirectory(path).config.is_file():
            return cls._of_run(path, device)
        if (path / PART).is_file():
            return cls._of_part(path, device)
        raise RadScribeError(
            f"there is neither an observation classifier nor a run in '{path}'",
            f"Train a classifier: {make_command(KIND)}",
        )

    @classmethod
    def _of_part(cls, path: Path, device: str) -> Observer:
        kind = read_json_object(path / PART, f"Take it from a copy, or {_TRAIN}").get("kind")
        part_class = _PARTS.get(str(kind), ObservationClassifier)
        part = part_class.part(path)
        classifier = part_class.load(path, device)
        source = part.store_source
        return cls(
            predict=classifier.predict,
            data=DataConfig(views=_ALL_VIEWS, transform=classifier.transform),
            thresholds=classifier.threshold_of,
            origin=RunOrigin(
                name=path.resolve().name,
                sha256=part.content_hash,
                trained_on=source_in_words(source),
                caution=synthetic_caution(part),
            ),
        )

    @classmethod
    def _of_run(cls, path: Path, device: str) -> Observer:
        trained = load(path, device)
        assert trained.origin is not None
        system, its_device = trained.system, trained.device

        @torch.inference_mode()
        def predict(views: Tensor, view_mask: Tensor) -> Tensor:
            found = system.observation_probabilities(views.to(its_device), view_mask.to(its_device))
            if found is None:
                raise RadScribeError(
                    f"the system of '{path}', {trained.config.recipe}, does not classify observations",
                    f"Give a run of camanet, or train a classifier: {make_command(KIND)}",
                )
            return found.cpu()

        return cls(
            predict=predict,
            data=trained.config.data,
            thresholds=dict.fromkeys(OBSERVATIONS, THRESHOLD),
            origin=replace(trained.origin, caution=_SYNTHETIC if trained.caution else ""),
        )

    def observe(
        self,
        studies: Given | Iterable[Given],
        *,
        batch_size: int = 16,
        on_rejection: Callable[[Rejection], None] | None = None,
        split: str | None = None,
    ) -> Iterator[ObservedStudy]:
        """The probability of each observation in each study, in order.

        Args:
            studies: Studies in any form that `given_studies` takes.
            batch_size: Number of studies that are processed at once.
            on_rejection: Called with each study that cannot be read; without it such a study raises.
            split: Split of the prepared stores; see `given_studies`.

        Raises:
            RadScribeError: a study that cannot be read (see `on_rejection`), one of a store with another
                short side than that of training, or a run whose system does not classify observations.
        """
        found = given_studies(studies, on_rejection, split=split)
        readable = readable_studies(found, self.data, on_rejection)
        while batch := list(islice(readable, batch_size)):
            predicted = self.predict(*stack_views([one.views for one in batch])).tolist()
            for (study, _, notes), probabilities in zip(batch, predicted, strict=True):
                yield ObservedStudy(
                    id=study.id,
                    probabilities=dict(zip(OBSERVATIONS, probabilities, strict=True)),
                    thresholds=self.thresholds,
                    images=tuple(view.name for view in study.views[: self.data.views]),
                    notes=notes,
                    origin=self.origin,
                )
