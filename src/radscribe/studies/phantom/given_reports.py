"""The phantom of given reports: real wording, and images that show what the reports state.

A report stays as it was written. The observation labeller reads it, and the phantom draws what is present:
where the words say so, at that side, zone and severity. What the report denies or leaves open is not drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from radscribe.observations import ObservationState
from radscribe.studies.phantom.difficulty import EASY, Difficulty
from radscribe.studies.phantom.images import render
from radscribe.studies.phantom.mentions import findings_of
from radscribe.studies.phantom.sampling import arrange, draw_acquisition, draw_anatomy, made_harder
from radscribe.studies.phantom.study import FindingState, PhantomStudy
from radscribe.studies.rejection import EMPTY_REPORT, Rejection
from radscribe.studies.study import Projection, RenderedView, Study, View
from radscribe.text.observation_labeller import label_report

UNREADABLE_REPORT = "unreadable report"


@dataclass(frozen=True, slots=True)
class _DrawnView:
    """A view that renders when it is called, and notes what the report states and the view does not show."""

    study: PhantomStudy
    projection: Projection
    stated: tuple[str, ...]

    def __call__(self) -> RenderedView:
        view = render(self.study, self.projection)
        missing = [name for name in self.stated if name not in view.masks]
        # Not every finding shows from the side, so that only a frontal view is expected to show all.
        notes = tuple(f"not drawn: {name}" for name in missing) if self.projection == "frontal" else ()
        return replace(view, notes=notes)


def draw_reports(
    records: Iterable[Study | Rejection],
    seed: int = 0,
    difficulty: Difficulty = EASY,
    draw_uncertain: bool = False,
) -> Iterator[Study | Rejection]:
    """Draw images for the reports of studies; their own images are neither needed nor read.

    The images of a study depend on its report, its id, its patient and the seed alone. A study with several
    images of its own gets a frontal and a lateral view; of others, nine in ten do.

    Args:
        records: Studies as any reader gives them, with findings or an impression.
        seed: Random seed of what the reports do not state: bodies, positions, and shapes.
        difficulty: How hard the images are; reports and findings are as they were given.
        draw_uncertain: Draw what a report leaves open too, fainter.

    Yields:
        Each study with its report, patient and split, with drawn views, and with the observations of the
        images: those of its report, but `absent` what it states and the phantom cannot draw. A rejection
        takes the place of a study without a report that can be read; rejections are passed on.
    """
    drawn: tuple[FindingState, ...] = ("present", "uncertain") if draw_uncertain else ("present",)
    for record in records:
        yield record if isinstance(record, Rejection) else _draw(record, seed, difficulty, drawn)


def _draw(
    study: Study, seed: int, difficulty: Difficulty, drawn: tuple[FindingState, ...]
) -> Study | Rejection:
    text = study.report("findings + impression")
    if not text:
        return Rejection(study.id, "", EMPTY_REPORT)
    labels = label_report(text)
    if labels.unreadable:
        return Rejection(study.id, "", f"{UNREADABLE_REPORT}: too few known English words")
    generator = _generator(seed, "study", study.id)
    findings, undrawn = findings_of(text, labels.states, drawn, int(generator.integers(2**31)))
    description = PhantomStudy(
        anatomy=draw_anatomy(_generator(seed, "patient", study.patient_id), difficulty),
        acquisition=draw_acquisition(generator, difficulty),
        findings=arrange(made_harder(finding, difficulty) for finding in findings),
        dictation_seed=0,  # nothing is dictated
        lateral=bool(generator.random() >= 0.1) or len(study.views) > 1,
        difficulty=difficulty,
    )
    stated = tuple(name for name, state in labels.states.items() if state in drawn and name != "No Finding")
    projections: tuple[Projection, ...] = ("frontal", "lateral") if description.lateral else ("frontal",)
    return replace(
        study,
        views=tuple(View(_DrawnView(description, name, stated), name) for name in projections),
        observations=_shown(labels.states, undrawn),
    )


def _generator(seed: int, what: str, name: str) -> np.random.Generator:
    """A source of randomness for a name, the same in every process."""
    return np.random.default_rng([seed, *hashlib.sha256(f"{what} {name}".encode()).digest()])


def _shown(states: Mapping[str, ObservationState], undrawn: Sequence[str]) -> dict[str, ObservationState]:
    """The states of the observations in the images."""
    shown: dict[str, ObservationState] = {**states, **dict.fromkeys(undrawn, "absent")}
    abnormal = {name for name, state in shown.items() if state in ("present", "uncertain")}
    if undrawn and abnormal <= {"Support Devices"}:
        shown["No Finding"] = "present"
    return shown
