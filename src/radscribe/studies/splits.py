"""Splits of studies: what the source says, else a seeded, patient-disjoint assignment."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from radscribe.errors import RadScribeError
from radscribe.studies.study import SPLITS, Split

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def split_of(word: str) -> Split | None:
    """The split that a word such as `validate` stands for; None for a blank one.

    Raises:
        ValueError: the word is no name of a split that data sets use.
    """
    word = word.strip().lower()
    if not word:
        return None
    if word not in _SPLIT_WORDS:
        raise ValueError(f"unknown split '{word}'")
    return _SPLIT_WORDS[word]


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise RadScribeError unless the fractions are three shares that sum to 1."""
    # The comparison is also false if a fraction is not a number (NaN).
    if len(fractions) != 3 or not (min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
        raise RadScribeError(
            f"split fractions {tuple(fractions)} are not three shares that sum to 1",
            "Give train, val and test, for example [0.7,0.1,0.2]",
        )


def assign_splits(
    studies: Iterable[tuple[str, Split | None]], fractions: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0
) -> list[Split]:
    """The split of every study: as the source says, else assigned by patient.

    Patients are sorted by SHA-256(`seed:patient`), and the sorted list is cut where the cumulative number of
    studies is nearest to the fractions. Unlike a threshold on each hash, this keeps the fractions of small
    sources too: a cut misses its place by at most half of the studies of one patient. Each split with a
    fraction above 0 gets at least one patient if there are enough, even if the cut must move for this. If the
    source states the split of some studies of a patient, the other studies of this patient join the first of
    these splits.

    Args:
        studies: Patient id of each study, and its split in the source (or None).
        fractions: Shares of train, val and test among the studies without a split in the source.
        seed: Random seed of the assignment; another seed gives another assignment.

    Raises:
        RadScribeError: the fractions are not three shares that sum to 1.
    """
    check_fractions(fractions)
    studies = list(studies)
    of_patient: dict[str, Split] = {}
    for patient, split in studies:
        if split:
            of_patient.setdefault(patient, split)
    free = Counter(patient for patient, split in studies if not split and patient not in of_patient)

    patients = sorted(free, key=lambda patient: _place(patient, seed))
    train_end, val_end = _cuts([free[patient] for patient in patients], fractions)
    for position, patient in enumerate(patients):
        of_patient[patient] = "train" if position < train_end else "val" if position < val_end else "test"
    return [split or of_patient[patient] for patient, split in studies]


def extend_splits(
    studies: Iterable[tuple[str, Split | None]],
    known: Mapping[str, Split],
    counts: Counter[Split],
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> list[Split]:
    """The splits of studies that join a store; the studies that are there already keep their splits.

    A study has the split that the source states, else the split of its patient. New patients are taken in the
    order of SHA-256(`seed:patient`); each goes to the split that lacks the most studies to reach its
    fraction.

    Args:
        studies: Patient id of each study that joins, and its split in the source (or None).
        known: Split of each patient who was there before.
        counts: Number of studies that stay, by split.
        fractions: Shares of train, val and test among all studies.
        seed: Random seed of the assignment; another seed gives another assignment.
    """
    studies = list(studies)
    of_patient = dict(known)
    for patient, split in studies:
        if split:
            of_patient.setdefault(patient, split)
    free = Counter(patient for patient, split in studies if not split and patient not in of_patient)
    counts = counts + Counter(
        split or of_patient[patient] for patient, split in studies if patient not in free
    )
    shares = {split: fraction for split, fraction in zip(SPLITS, fractions, strict=True) if fraction}
    for patient in sorted(free, key=lambda patient: _place(patient, seed)):
        total = counts.total() + free[patient]
        of_patient[patient] = max(shares, key=lambda split: shares[split] * total - counts[split])
        counts[of_patient[patient]] += free[patient]
    return [split or of_patient[patient] for patient, split in studies]


def _place(patient: str, seed: int) -> bytes:
    # Ids made from file names may hold surrogates, which plain UTF-8 refuses.
    return hashlib.sha256(f"{seed}:{patient}".encode(errors="surrogatepass")).digest()


def _cuts(counts: Sequence[int], fractions: Sequence[float]) -> tuple[int, int]:
    """Where to cut patients with these numbers of studies: behind the last one of train, and of val."""
    cumulative = [0, *accumulate(counts)]
    total, patients = cumulative[-1], len(counts)

    def nearest(target: float) -> int:
        right = min(bisect_left(cumulative, target - 1e-6), patients)
        left = max(right - 1, 0)
        return left if target - cumulative[left] < cumulative[right] - target else right

    train_end = nearest(fractions[0] * total)
    val_end = nearest((fractions[0] + fractions[1]) * total)
    wanted = [int(fraction > 0) for fraction in fractions]
    if patients >= sum(wanted):
        train_end = min(max(train_end, wanted[0]), patients - wanted[1] - wanted[2])
        val_end = min(max(val_end, train_end + wanted[1]), patients - wanted[2])
    return train_end, val_end
