"""The reports that a retriever finds: exact search among the train split's reports, each text once."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.files import read_json_lines, write_whole
from radscribe.studies.study import Study
from radscribe.vision.transforms import TransformConfig, stored_view
from radscribe.weights import save_weights

EMBEDDINGS = "index.safetensors"
REPORTS = "index.jsonl"
_NAME = "embeddings"
#: Reports that are compared at once, which bounds the memory of a search.
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class IndexedStudy:
    """A study of the train split.

    Attributes:
        id: of the study.
        patient_id: of its patient.
        report: as written.
        views: the hash of each view's pixels; see `pixel_hashes`.
    """

    id: str
    patient_id: str
    report: str
    views: Sequence[str]


@dataclass(frozen=True, slots=True)
class IndexedReport:
    """A text, and the studies that have it as their report.

    Attributes:
        sha256: of the cleaned text.
        studies: in the order of the store.
    """

    sha256: str
    studies: Sequence[IndexedStudy]


def pixel_hashes(study: Study, transform: TransformConfig) -> list[str]:
    """The SHA-256 of the pixels of each view, as they stand in the store or would stand there.

    By them a study is known again under another id, such as that of its image files.

    Args:
        study: any.
        transform: of the system that takes the views.

    Raises:
        RadScribeError: a view cannot be read, or stands in a store of another short side.
    """
    return [hashlib.sha256(stored_view(view, transform).pixels.tobytes()).hexdigest() for view in study.views]


def text_hash(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


class ReportIndex:
    """Reports by their vectors, and who must not be given which.

    Args:
        reports: each text once.
        embeddings: unit vectors float32 `[reports, width]`.
    """

    def __init__(self, reports: Sequence[IndexedReport], embeddings: Tensor):
        self.reports = reports
        self.embeddings = embeddings
        self._patients: dict[str, str] = {}
        self._of_view: dict[str, set[str]] = defaultdict(set)
        self._rows: dict[str, set[int]] = defaultdict(set)
        for row, report in enumerate(reports):
            for study in report.studies:
                self._patients[study.id] = study.patient_id
                self._rows[study.patient_id].add(row)
                for view in study.views:
                    self._of_view[view].add(study.patient_id)

    def __len__(self) -> int:
        return len(self.reports)

    @property
    def study_ids(self) -> set[str]:
        """The ids of all studies whose reports are here."""
        return set(self._patients)

    def has_view(self, views: Iterable[str]) -> bool:
        """Whether a study whose report is here has one of these views, which are given as `pixel_hashes`."""
        return any(view in self._of_view for view in views)

    def patients_of(self, study: Study, views: Iterable[str]) -> set[str]:
        """The patients of the train split who may be the patient of a study.

        They are those whose id the study names, who have a study of its id, or an image with the same pixels.

        Args:
            study: any.
            views: its `pixel_hashes`.
        """
        found = {self._patients[study.id]} if study.id in self._patients else set()
        if study.patient_id in self._rows:
            found.add(study.patient_id)
        return found.union(*(self._of_view[view] for view in views if view in self._of_view))

    def first_study(self, row: int, without: set[str]) -> IndexedStudy | None:
        """The first study with a report that is of none of the patients in `without`."""
        return next((study for study in self.reports[row].studies if study.patient_id not in without), None)

    def search(
        self, queries: Tensor, count: int, without: Sequence[set[str]], chunk: int = _CHUNK
    ) -> list[list[tuple[int, float]]]:
        """The most similar reports of each query, the most similar one first; every report is compared.

        Args:
            queries: unit vectors `[queries, width]`.
            count: most reports for each.
            without: for each query the patients whose reports it must not get. A report that another patient
                has too, word for word, may be given.
            chunk: reports that are compared at once.

        Returns:
            For each query the rows of the reports, and their cosines. There are fewer than `count` where too
            few reports may be given.
        """
        barred = [
            {
                row
                for patient in patients
                for row in self._rows.get(patient, ())
                if self.first_study(row, patients) is None
            }
            for patients in without
        ]
        values = queries.new_empty(len(queries), 0)
        rows = torch.empty(len(queries), 0, dtype=torch.long)
        for start in range(0, len(self), chunk):
            similarity = queries @ self.embeddings[start : start + chunk].T
            for query, its_rows in enumerate(barred):
                here = [row - start for row in its_rows if start <= row < start + chunk]
                similarity[query, here] = -torch.inf
            best = similarity.topk(min(count, similarity.size(1)))
            values, rows = torch.cat([values, best.values], 1), torch.cat([rows, best.indices + start], 1)
            values, order = values.topk(min(count, values.size(1)))
            rows = rows.gather(1, order)
        return [
            [(row, value) for row, value in zip(of_rows, of_values, strict=True) if value > -torch.inf]
            for of_rows, of_values in zip(rows.tolist(), values.tolist(), strict=True)
        ]

    def write(self, path: Path) -> None:
        """Write the two files of an index to a directory, each whole or not at all."""
        save_weights({_NAME: self.embeddings}, path / EMBEDDINGS)
        write_whole(path / REPORTS, "".join(json.dumps(asdict(report)) + "\n" for report in self.reports))

    @classmethod
    def read(cls, path: Path, hint: str) -> Self:
        """Read what `write` wrote.

        Args:
            path: the directory.
            hint: what to do where it is damaged.

        Raises:
            RadScribeError: a file is missing or damaged, or the two do not belong together.
        """
        lines = read_json_lines(path / REPORTS, hint)
        try:
            reports = [_report(line) for line in lines]
            embeddings = load_file(path / EMBEDDINGS)[_NAME]
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise RadScribeError(
                f"the index in '{path}' cannot be read ({type(error).__name__}: {error})", hint
            ) from error
        if len(embeddings) != len(reports):
            raise RadScribeError(
                f"the index in '{path}' has {len(reports)} reports and {len(embeddings)} vectors", hint
            )
        return cls(reports, embeddings)


def _report(values: Mapping[str, Any]) -> IndexedReport:
    return IndexedReport(values["sha256"], [IndexedStudy(**study) for study in values["studies"]])
