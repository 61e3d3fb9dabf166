"""Reports that a retriever finds for studies: for a user to read, or as a baseline of scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError, warn
from radscribe.parts.part import make_command
from radscribe.parts.report_index import RetrievedReport, pixel_hash, seen_views
from radscribe.parts.retriever import KIND, Retriever
from radscribe.runs.drafts import PHANTOM, RunOrigin, source_in_words
from radscribe.runs.views import reject
from radscribe.studies.given import Given, given_studies
from radscribe.studies.rejection import Rejection
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study
from radscribe.vision.transforms import check_view

#: Name of the baseline, beside those of the others.
RETRIEVED = "retrieved report"
_SYNTHETIC = "trained on synthetic images: the reports that it finds say nothing about real ones"


@dataclass(frozen=True, slots=True)
class FoundReports:
    """The reports that a retriever found for one study. Research use, not for clinical diagnosis.

    Attributes:
        id: Id of the study.
        reports: The reports, the most similar one first.
        images: Files of the views; for a store, the files that it was prepared from.
        origin: The retriever, and what it was trained on.
        notice: Notice on the intended use.
    """

    id: str
    reports: Sequence[RetrievedReport]
    images: tuple[str, ...]
    origin: RunOrigin
    notice: str = NOTICE

    def __str__(self) -> str:
        """One line with the id, and one line for each report."""
        rows = [
            f"  {report.similarity:6.3f}  {report.study_id}  {' '.join(report.text.split())}"
            for report in self.reports
        ]
        return "\n".join([self.id, *rows])

    def to_json(self) -> dict[str, Any]:
        """The values of one line of `radscribe retrieve --json`."""
        return {
            "id": self.id,
            "reports": [report._asdict() for report in self.reports],
            "images": list(self.images),
            "retriever": self.origin.name,
            "retriever_sha256": self.origin.sha256,
            "trained_on": self.origin.trained_on,
            "notice": self.notice,
        }


@dataclass(frozen=True, slots=True)
class ReportFinder:
    """A loaded retriever, for studies of any source.

    Attributes:
        retriever: The retriever.
        origin: Its name, and what it was trained on.
    """

    retriever: Retriever
    origin: RunOrigin

    @property
    def caution(self) -> str:
        """The caution that belongs to all reports that it finds; empty if there is none."""
        return self.origin.caution

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> ReportFinder:
        """Load the directory of a retriever; see `Retriever.load`."""
        retriever = Retriever.load(path, device)
        assert retriever.part is not None
        source = retriever.part.store_source
        origin = RunOrigin(
            name=Path(path).resolve().name,
            sha256=retriever.part.content_hash,
            trained_on=source_in_words(source),
            caution=_SYNTHETIC if source == PHANTOM else "",
        )
        return cls(retriever, origin)

    def find(
        self,
        studies: Given | Iterable[Given],
        count: int,
        *,
        exclude_own: bool = True,
        on_rejection: Callable[[Rejection], None] | None = None,
        split: str | None = None,
    ) -> Iterator[FoundReports]:
        """The reports that are most similar to the images of each study, in order.

        Args:
            studies: Studies in any form that `given_studies` takes.
            count: Largest number of reports for each study.
            exclude_own: Leave out the reports of a study's own patient; see `Retriever.retrieve`.
            on_rejection: Called with each study that cannot be read; without it such a study raises.
            split: Split of the prepared stores; see `given_studies`.

        Raises:
            RadScribeError: a study cannot be read (see `on_rejection`), or stands in a store of another short
                side than that of training; or `count` is out of its range.
        """
        for study in given_studies(studies, on_rejection, split=split):
            for view in study.views:
                check_view(view, self.retriever.transform)  # Not a rejection: the store is wrong.
            try:
                (reports,) = self.retriever.retrieve([study], count, exclude_own=exclude_own)
            except RadScribeError as error:
                reject(study, error, on_rejection)
                continue
            yield FoundReports(study.id, reports, tuple(view.name for view in study.views), self.origin)


def retriever_for(
    path: Path | str, store: PreparedStore, studies: Sequence[Study], section: str
) -> Retriever:
    """Load a retriever for scoring, and check that its reports make a fair baseline.

    A retriever of another store is used with a warning, because reports of another data set are a fair
    baseline too. It is refused if it learnt from studies that are scored.

    Args:
        path: Directory of the retriever.
        store: Store from which the baselines learn, that of the scored system.
        studies: Studies that are scored.
        section: Section of the reports that are scored.

    Raises:
        RadScribeError: there is no retriever or it is damaged, it finds another section, the studies stand in
            a store of another short side, or it was made from another store with some of them in its train
            split.
    """
    retriever = Retriever.load(path)
    again = f"Make one from this store: {make_command(KIND).replace('STORE', str(store.path))}"
    if retriever.config.section != section:
        raise RadScribeError(
            f"the retriever in '{path}' finds the section '{retriever.config.section}', and '{section}' is "
            "scored",
            f'{again} --section "{section}"',
        )
    for view in (view for study in studies for view in study.views):
        check_view(view, retriever.transform)
    part = retriever.part
    if part is None or part.store_content_hash == store.manifest["content_hash"]:
        return retriever
    same_source = part.store_source == store.manifest["source"]
    index, transform = retriever.index, retriever.transform
    known = [
        study.id
        for study in studies
        if (same_source and index.has_study(study.id))
        or index.has_view(map(pixel_hash, seen_views(study, transform)))
    ]
    if known:
        raise RadScribeError(
            f"the retriever in '{path}' was made from another store, and learnt from {len(known)} of the "
            f"{len(studies)} studies that are scored, such as '{known[0]}'",
            again,
        )
    warn(
        f"the retriever in '{path}' was made from another store, of '{part.store_source}'",
        f"Its reports are those of that store. {again}",
    )
    return retriever


def retrieved_reports(retriever: Retriever, studies: Sequence[Study]) -> dict[str, str]:
    """For each study the report of the train split that is most similar to its images.

    Args:
        retriever: Retriever to find the reports with.
        studies: Studies of any source; none gets a report of its own patient.

    Returns:
        The report as written by the id of the study; empty if all reports are of its own patient.

    Raises:
        RadScribeError: a view cannot be read.
    """
    found = retriever.retrieve(studies)
    return {
        study.id: reports[0].text if reports else "" for study, reports in zip(studies, found, strict=True)
    }
