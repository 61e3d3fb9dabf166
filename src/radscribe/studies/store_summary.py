"""The summary of a prepared store: what it holds, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from radscribe.observations import OBSERVATION_STATES
from radscribe.studies.rejection import Rejection
from radscribe.studies.store_files import REJECTED
from radscribe.studies.stored_view import StoredView
from radscribe.studies.study import MASKED, PROJECTIONS, SPLITS, Study


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """What a store holds; `str()` gives a table.

    Attributes:
        path: Folder of the store.
        reader: Name of the reader that read its source.
        projections: Number of views by projection.
        studies, patients: Numbers of studies and of patients, by split.
        words_mean: Mean number of words in findings and impression together, over studies that have any.
        words_distinct: Number of distinct words in findings and impressions, ignoring case and punctuation.
        labels: Number of observations that a labelled source states, by state, over all studies.
        shared_patients: Number of patients whom the source itself put into more than one split.
        notes: Number of views by what there is to know about them.
        boxes: Number of boxes that the source has on the images, by what became of them; see `RenderedView`.
        rejected: Number of rejected records by kind of reason.
        size: Size on disk in bytes.
    """

    path: Path
    reader: str
    projections: dict[str, int]
    studies: dict[str, int]
    patients: dict[str, int]
    words_mean: float
    words_distinct: int
    labels: dict[str, int]
    shared_patients: int
    notes: dict[str, int]
    boxes: dict[str, int]
    rejected: dict[str, int]
    size: int

    @classmethod
    def of(cls, path: Path, reader: str, studies: Sequence[Study], rejections: Sequence[Rejection]) -> Self:
        """Count what a store holds.

        Args:
            path: Folder of the store.
            reader: Name of the reader that read its source.
            studies: All studies of the store.
            rejections: All rejections that the store lists.
        """
        splits_of_patient: dict[str, set[str]] = {}
        for study in studies:
            splits_of_patient.setdefault(study.patient_id, set()).add(str(study.split))
        projections = Counter(view.projection for study in studies for view in study.views)
        reports = [_words(study) for study in studies]
        reports = [words for words in reports if words]
        labels = Counter(state for study in studies for state in study.observations.values())
        stored = [
            view.source for study in studies for view in study.views if isinstance(view.source, StoredView)
        ]
        boxes: Counter[str] = Counter()
        for source in stored:
            boxes.update(source.box_counts)
        return cls(
            path=path,
            reader=reader,
            projections={name: projections[name] for name in PROJECTIONS},
            studies={split: sum(study.split == split for study in studies) for split in SPLITS},
            patients={split: sum(split in found for found in splits_of_patient.values()) for split in SPLITS},
            words_mean=sum(map(len, reports)) / max(len(reports), 1),
            words_distinct=len({word for words in reports for word in words}),
            labels={
                state: labels[state]
                for state in OBSERVATION_STATES
                if state != "not_mentioned" and labels[state]
            },
            shared_patients=sum(len(found) > 1 for found in splits_of_patient.values()),
            notes=dict(Counter(note for source in stored for note in source.notes).most_common()),
            boxes={MASKED: boxes[MASKED], **dict(boxes.most_common())} if boxes else {},
            rejected=dict(Counter(rejection.kind for rejection in rejections).most_common()),
            size=sum(path.stat().st_size for path in path.iterdir() if path.is_file()),
        )

    def __str__(self) -> str:
        views = " · ".join(f"{name} {count:,}" for name, count in self.projections.items() if count)
        lines = [
            f"studies    {sum(self.studies.values()):,}",
            f"views      {sum(self.projections.values()):,}: {views}",
            f"splits     {'':8}{'studies':>10}{'patients':>10}",
        ]
        for split in SPLITS:
            lines.append(f"           {split:8}{self.studies[split]:>10,}{self.patients[split]:>10,}")
        if self.shared_patients:
            lines.append(
                f"           CAUTION: the source has {self.shared_patients:,} patients in several splits"
            )
        if self.words_distinct:
            lines.append(
                f"reports    {self.words_mean:.1f} words on average, {self.words_distinct:,} distinct"
            )
        else:
            lines.append("reports    none: this store serves drafting; no report can be learned from it")
            if self.reader == "table":
                lines.append(
                    "           If a column of your table holds them, say which, with another --out:"
                )
                lines.append("""           --columns '{"report": "ITS NAME"}'""")
        if self.labels:
            states = " · ".join(f"{state} {count:,}" for state, count in self.labels.items())
            lines.append(f"labels     {sum(self.labels.values()):,} observations: {states}")
        if self.boxes:
            fates = " · ".join(f"{count:,} {fate}" for fate, count in self.boxes.items())
            lines.append(f"boxes      {sum(self.boxes.values()):,}: {fates}")
        for note, count in self.notes.items():
            lines.append(f"note       {note}: {count:,} views")
        lines.append(f"rejected   {sum(self.rejected.values()):,}")
        for reason, count in self.rejected.items():
            lines.append(f"           {reason}: {count:,}")
        if self.rejected:
            lines.append(f"           listed in {self.path / REJECTED}")
        lines.append(f"size       {self.size / 1e6:,.1f} MB in {self.path}")
        return "\n".join(lines)


def _words(study: Study) -> list[str]:
    text = " ".join(study.sections.get(name, "") for name in ("findings", "impression"))
    words = (word.strip(".,;:!?()[]\"'").lower() for word in text.split())
    return [word for word in words if word]
