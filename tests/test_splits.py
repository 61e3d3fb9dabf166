"""Splits: disjoint by patient, near the fractions, the same on every machine."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radscribe.errors import RadScribeError
from radscribe.studies.splits import assign_splits, split_of
from radscribe.studies.study import SPLITS

patients = st.lists(st.integers(0, 60).map(str), max_size=200)
fractions = st.sampled_from(
    [(0.7, 0.1, 0.2), (0.8, 0.2, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.34, 0.33, 0.33)]
)


@settings(max_examples=200, deadline=None)
@given(patients, fractions, st.integers(0, 5))
def test_no_patient_in_two_splits_and_shares_near_the_fractions(patients, fractions, seed):
    splits = assign_splits([(patient, None) for patient in patients], fractions, seed)
    assert len(splits) == len(patients)
    assert len(set(zip(patients, splits, strict=True))) == len(set(patients))
    largest = max(Counter(patients).values(), default=0)
    wanted = [split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction]
    for split, fraction in zip(SPLITS, fractions, strict=True):
        assert abs(splits.count(split) - fraction * len(patients)) <= 2 * largest
        if not fraction:
            assert split not in splits
    if len(set(patients)) >= len(wanted):
        assert set(splits) == set(wanted)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9).map(str), st.sampled_from([None, *SPLITS])), max_size=60))
def test_the_sources_own_split_is_kept_and_draws_its_patient(studies):
    splits = assign_splits(studies)
    first = {}
    for patient, split in studies:
        if split:
            first.setdefault(patient, split)
    for (patient, split), assigned in zip(studies, splits, strict=True):
        assert assigned == (split or first.get(patient, assigned))


def test_assignment_does_not_depend_on_order_but_on_the_seed():
    studies = [(f"patient{number}", None) for number in range(100)]
    forward = dict(zip(studies, assign_splits(studies), strict=True))
    backward = dict(zip(studies[::-1], assign_splits(studies[::-1]), strict=True))
    assert forward == backward
    assert forward != dict(zip(studies, assign_splits(studies, seed=1), strict=True))
    assert Counter(forward.values()) == {"train": 70, "val": 10, "test": 20}


def test_assignment_is_frozen():
    """A change here would move patients between the splits of stores that people prepare again."""
    splits = assign_splits([(str(number), None) for number in range(12)])
    expected = "val test train train train val train train train train train test"
    assert splits == expected.split()


@pytest.mark.parametrize("wrong", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.2, -0.2, 0.0)])
def test_fractions_are_checked(wrong):
    with pytest.raises(RadScribeError, match="sum to 1"):
        assign_splits([], wrong)


def test_split_words():
    assert [split_of(word) for word in ("Train", "validate", "valid", " test ", "")] == [
        "train",
        "val",
        "val",
        "test",
        None,
    ]
    with pytest.raises(ValueError, match="fold3"):
        split_of("fold3")
