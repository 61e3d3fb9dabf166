"""Examinations of an archive as studies: their report sections, their views or single images, and priors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from radscribe.studies.projections import frontal_first
from radscribe.studies.readers.choices import ReportSections, Unit
from radscribe.studies.rejection import EMPTY_REPORT, Rejection, stated
from radscribe.studies.study import SECTIONS, Study, View


def chosen_sections(
    sections: Mapping[str, str], wanted: ReportSections, complete: bool
) -> tuple[dict[str, str], str]:
    """The sections of a study, of findings and impression only those wanted; and why it has to be rejected.

    Args:
        sections: Text of each section that the source has, by name.
        wanted: Sections that are taken as the report; with `both`, one of them is enough.
        complete: Whether each of them must be there.

    Returns:
        The sections that state something, and the reason of rejection (empty if the study can be used).
    """
    reports = ("findings", "impression") if wanted == "both" else (wanted,)
    found = {}
    for name in SECTIONS:
        text = sections.get(name, "").strip()
        if name in ("findings", "impression"):
            text = stated(text) if name in reports else ""
        if text:
            found[name] = text
    missing = [name for name in reports if name not in found]
    if len(missing) == len(reports):
        return found, f"{EMPTY_REPORT}: no {' and no '.join(missing)}"
    return found, f"incomplete report: no {missing[0]}" if missing and complete else ""


class ListedImage(NamedTuple):
    """An image of a study: its id, its view, and the words from which its projection was taken."""

    id: str
    view: View
    words: str


def in_units(
    study: Study, images: Sequence[ListedImage], unit: Unit, frontal_only: bool
) -> Iterator[Study | Rejection]:
    """A study with its images as views, or each image as a study of its own; what is left out is rejected.

    Args:
        study: The study without views.
        images: Its images.
        unit: `studies` for one study, `images` for one study per image, whose id is that of the image.
        frontal_only: Leave out images that are not known to be frontal.
    """
    kept = []
    for image in images:
        if frontal_only and image.view.projection != "frontal":
            reason = f"not frontal: {image.words or 'its view is not stated'}"
            yield Rejection(image.id if unit == "images" else study.id, image.view.name, reason)
        else:
            kept.append(image)
    if unit == "images":
        for image in kept:
            yield replace(study, id=image.id, views=(image.view,))
    elif kept:
        yield replace(study, views=frontal_first(image.view for image in kept))


def with_priors(
    examinations: Iterable[tuple[str, Sequence[Study | Rejection]]],
) -> Iterator[Study | Rejection]:
    """The records of one patient, where each study has its `prior`.

    Args:
        examinations: Time of each examination as text that sorts by time, or empty if it is not known; and
            its records. Examinations of equal time are not prior to each other.
    """
    examinations = list(examinations)
    first_at: dict[str, str] = {}
    for time, records in examinations:
        made = [record for record in records if isinstance(record, Study)]
        if time and made:
            first = min(made, key=lambda study: study.views[0].projection != "frontal")
            first_at.setdefault(time, first.id)
    times = sorted(first_at)
    for time, records in examinations:
        earlier = bisect_left(times, time) if time else 0
        prior = first_at[times[earlier - 1]] if earlier else None
        for record in records:
            yield replace(record, prior=prior) if isinstance(record, Study) else record
