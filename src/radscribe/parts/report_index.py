"""The reports that a retriever finds: exact search among the train split's reports, each text once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.files import read_json_lines, write_whole
from radscribe.studies.study import Study
from radscribe.vision.transforms import TransformConfig, evaluation_view, stored_view
from radscribe.weights import save_weights

EMBEDDINGS = "index.safetensors"
REPORTS = "index.jsonl"
_NAME = "embeddings"
#: Decimals to which cosines are compared. Beyond them two equal vectors can differ, for sums are rounded in
#: another order in each part of a large matrix.
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class IndexedStudy:
    """A study of the train split, with its report.

    Attributes:
        id: Id of the study.
        patient_id: Id of its patient.
        report: Its report as written.
        views: `pixel_hash` of each of its views.
    """

    id: str
    patient_id: str
    report: str
    views: Sequence[str]


class RetrievedReport(NamedTuple):
    """A report that was found for the images of a study.

    Attributes:
        study_id: Id of the study of the train split that has the report.
        text: The report as written.
        similarity: Cosine of the images and the report, from -1 to 1.
    """

    study_id: str
    text: str
    similarity: float


def seen_views(study: Study, transform: TransformConfig) -> list[Tensor]:
    """The views of a study as a retriever sees them, uint8 `[crop, crop]` each.

    Args:
        study: A study of a store or of image files.
        transform: Image geometry of the retriever.

    Raises:
        RadScribeError: the study has no view, a view cannot be read, or stands in a store of another short
            side than that which the retriever was trained on.
    """
    if not study.views:
        raise RadScribeError(f"study '{study.id}' has no view")
    return [evaluation_view(stored_view(view, transform).pixels, transform) for view in study.views]


def pixel_hash(view: Tensor) -> str:
    """The SHA-256 of the pixels of a view, as in `seen_views`, by which it is known again under any name."""
    return hashlib.sha256(view.cpu().numpy().tobytes()).hexdigest()


class ReportIndex:
    """The reports of the train split by their vectors, with the studies that have them.

    It is in memory as a whole: about three kilobytes for each report with a vector of width 256.

    Args:
        reports: For each distinct text the studies that have it as their report, at least one.
        embeddings: Unit vectors of the texts, float32 `[reports, width]`.
    """

    def __init__(self, reports: Sequence[Sequence[IndexedStudy]], embeddings: Tensor):
        self.reports = reports
        self.embeddings = embeddings
        self._patients: dict[str, str] = {}
        self._rows: dict[str, list[int]] = {}
        self._of_view: dict[str, tuple[str, ...]] = {}
        for row, studies in enumerate(reports):
            for study in studies:
                self._patients[study.id] = study.patient_id
                self._rows.setdefault(study.patient_id, []).append(row)
                for view in study.views:
                    self._of_view[view] = (*self._of_view.get(view, ()), study.patient_id)

    def __len__(self) -> int:
        return len(self.reports)

    def has_study(self, study_id: str) -> bool:
        """Whether the report of the study with this id is here."""
        return study_id in self._patients

    def has_view(self, views: Iterable[str]) -> bool:
        """Whether a study whose report is here has one of these views, given by their `pixel_hash`."""
        return any(view in self._of_view for view in views)

    def patients_of_id(self, study_id: str | None) -> set[str]:
        """The patient of the study with this id; nobody if its report is not here."""
        patient = None if study_id is None else self._patients.get(study_id)
        return set() if patient is None else {patient}

    def patients_of_views(self, views: Iterable[str]) -> set[str]:
        """The patients of the train split who have one of these views, given by their `pixel_hash`."""
        return {patient for view in views for patient in self._of_view.get(view, ())}

    def patients_of(self, study: Study, views: Iterable[str]) -> set[str]:
        """The patients of the train split who may be the patient of a study.

        They are the patient with the id that the study gives, the patient who has a study of its id, and
        those who have an image with the same pixels.

        Args:
            study: A study of any source.
            views: `pixel_hash` of each of its views.
        """
        named = {study.patient_id} if study.patient_id in self._rows else set()
        return named | self.patients_of_id(study.id) | self.patients_of_views(views)

    def search(
        self, queries: Tensor, count: int, barred: Sequence[AbstractSet[str]]
    ) -> list[list[RetrievedReport]]:
        """The reports that are most similar to each query, the most similar one first.

        Every report is compared. Of equally similar ones the first in the store comes first.

        Args:
            queries: Unit vectors `[queries, width]`. The cosines of all queries with all reports are in
                memory together.
            count: Most reports for each query.
            barred: For each query the patients whose reports it must not get. A text that another patient has
                too is given as the report of that patient.

        Returns:
            For each query `count` reports, or fewer if no more may be given.
        """
        similarity = queries @ self.embeddings.T
        hidden = [
            (query, row)
            for query, patients in enumerate(barred)
            for patient in patients
            for row in self._rows.get(patient, ())
            if self._allowed(row, patients) is None
        ]
        if hidden:
            similarity[tuple(torch.tensor(hidden).T)] = -torch.inf
        lowest = similarity.topk(min(count, len(self))).values[:, -1:]
        # All rows that may be among the first: `topk` does not say which of several equal ones it takes.
        candidates = (similarity >= lowest - 10**-_DECIMALS) & similarity.isfinite()
        found = []
        for of_query, chosen, patients in zip(similarity, candidates, barred, strict=True):
            rows = chosen.nonzero().squeeze(1)
            values = [round(value, _DECIMALS) for value in of_query[rows].tolist()]
            best = sorted(zip(values, rows.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
            found.append([self._retrieved(row, value, patients) for value, row in best[:count]])
        return found

    def _allowed(self, row: int, barred: AbstractSet[str]) -> IndexedStudy | None:
        """The first study with the text of a row that is of none of the barred patients."""
        return next((study for study in self.reports[row] if study.patient_id not in barred), None)

    def _retrieved(self, row: int, similarity: float, barred: AbstractSet[str]) -> RetrievedReport:
        study = self._allowed(row, barred)
        assert study is not None
        return RetrievedReport(study.id, study.report, similarity)

    def write(self, path: Path) -> None:
        """Write the two files of the index to a directory, each whole or not at all."""
        save_weights({_NAME: self.embeddings}, path / EMBEDDINGS)
        lines = (json.dumps({"studies": [asdict(study) for study in studies]}) for studies in self.reports)
        write_whole(path / REPORTS, "".join(f"{line}\n" for line in lines))

    @classmethod
    def read(cls, path: Path, width: int, hint: str) -> Self:
        """Read the two files that `write` wrote.

        Args:
            path: The directory.
            width: Width that the vectors must have.
            hint: What the error tells the user to do if a file is damaged.

        Raises:
            RadScribeError: a file is missing or damaged, or the two do not belong together.
        """
        lines = read_json_lines(path / REPORTS, hint)
        try:
            reports = [[IndexedStudy(**study) for study in line["studies"]] for line in lines]
            embeddings = load_file(path / EMBEDDINGS)[_NAME]
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise RadScribeError(
                f"the index in '{path}' cannot be read ({type(error).__name__}: {error})", hint
            ) from error
        if embeddings.shape != (len(reports), width):
            raise RadScribeError(
                f"the index in '{path}' is damaged: its vectors have the shape {list(embeddings.shape)}, not "
                f"{[len(reports), width]}",
                hint,
            )
        return cls(reports, embeddings)
