"""The command that prints the probabilities of the observations in images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from radscribe.cli.output import print_caution, print_notes, print_studies
from radscribe.errors import RadScribeError

if TYPE_CHECKING:
    from radscribe.runs.observing import ObservedStudy
    from radscribe.studies.rejection import Rejection


def observe(
    classifier: Path,
    source: list[str],
    *,
    json: bool = False,
    split: str | None = None,
    batch: int = 16,
    chest_only: bool = True,
    read_text: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Print the probability of each observation in each study, and whether it reaches its threshold.

    Studies that cannot be read are named on standard error and left out.

    Args:
        classifier: Directory that 'radscribe pretrain observation-classifier' or 'disease-queries' wrote, or
            the run directory of a system that classifies observations, as camanet does.
        source: Prepared stores, folders of images, tables of studies, or single image files; of DICOM files
            also zip archives and a DICOMDIR.
        json: Print one JSON object per study, which also says where the probabilities come from.
        split: Split to print where the source is a prepared store: train, val, test or all; without it all
            studies are printed.
        batch: Number of studies that are processed at once.
        chest_only: Refuse DICOM files that are no radiographs of the chest by their tags or their pixels;
            --no_chest_only takes every DICOM file with pixels.
        read_text: Read text in the pixels of each view, and note views with a name, an id or a date; needs
            the extra ocr.
        device: Device to compute on; auto takes a GPU where there is one.
    """
    if batch < 1:
        raise RadScribeError(f"--batch {batch} is no number of studies", "Give 1 or more")
    from radscribe.runs.observing import Observer
    from radscribe.studies.given import given_studies
    from radscribe.studies.opening import Opening

    rejections: list[Rejection] = []
    observer = Observer.load(classifier, device)
    notes: dict[str, Sequence[str]] = {}

    opening = Opening(chest_only, read_text)
    studies = given_studies(source, rejections.append, split=split, opening=opening)

    def noted() -> Iterator[ObservedStudy]:
        for study in observer.observe(studies, batch_size=batch, on_rejection=rejections.append):
            if study.notes:
                notes[study.id] = study.notes
            yield study

    print_studies(noted(), source, rejections, json=json)
    print_notes(notes)
    print_caution(classifier, observer)
