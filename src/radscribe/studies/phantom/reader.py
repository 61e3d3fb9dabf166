"""The phantom: synthetic chest radiograph studies with reports, observations and exact finding masks.

The phantom needs no download and belongs to the project. It is a schematic test object, not a simulation of
real patients: use it to see that a system learns, runs and points at what it describes, never to claim
clinical performance.

`sampling` draws what a study contains, `anatomy` and `images` render it, and `reports` describes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.studies.phantom.difficulty import EASY, Difficulty
from radscribe.studies.phantom.images import render
from radscribe.studies.phantom.reports import describe
from radscribe.studies.phantom.sampling import patient_number, sample_study
from radscribe.studies.phantom.study import PhantomStudy
from radscribe.studies.study import Projection, Split, Study, View

_PAIRS_PER_BLOCK = 10
_BLOCK_SPLITS: tuple[Split, ...] = ("train",) * 7 + ("val",) + ("test",) * 2


def read_phantom(studies: int = 1000, seed: int = 0, difficulty: Difficulty = EASY) -> Iterator[Study]:
    """Draw phantom studies; study number i is the same, however many studies are drawn.

    Args:
        studies: Number of studies. In every 20 of them, 70% are train, 10% val and 20% test.
        seed: Random seed of the whole phantom, not negative.
        difficulty: How hard the phantom is, such as `DIFFICULTIES["hard"]`.

    Yields:
        Studies with a frontal and, nine times out of ten, a lateral view; views are rendered when they are
        read.

    Raises:
        RadScribeError: the number or the seed is negative.
    """
    for name, value in (("studies", studies), ("seed", seed)):
        if value < 0:
            raise RadScribeError(f"{name} of the phantom is {value}", "Give a number from 0 up")
    for index in range(studies):
        yield assemble_study(
            sample_study(seed, index, difficulty),
            study_id=f"phantom-{index:05d}",
            patient_id=f"phantom-patient-{patient_number(seed, index):05d}",
            split=split_of(seed, index),
        )


def assemble_study(description: PhantomStudy, study_id: str, patient_id: str, split: Split | None) -> Study:
    """Make a study of a description: report, observations, and views that render when they are called."""
    sections, observations = describe(description)
    projections: tuple[Projection, ...] = ("frontal", "lateral") if description.lateral else ("frontal",)
    return Study(
        id=study_id,
        patient_id=patient_id,
        views=tuple(View(partial(render, description, projection), projection) for projection in projections),
        split=split,
        sections=sections,
        observations=observations,
    )


def split_of(seed: int, index: int) -> Split:
    """Split of study `index`; two studies that may share a patient are always in the same split."""
    block, place = divmod(index // 2, _PAIRS_PER_BLOCK)
    order = np.random.default_rng([seed, 3, block]).permutation(_PAIRS_PER_BLOCK)
    return _BLOCK_SPLITS[int(order[place])]
