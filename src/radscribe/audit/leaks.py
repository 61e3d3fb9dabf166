"""Leaks: what a split has in common with an earlier one, that is, what a system may know before it is scored.

The splits come in the order train, val, test: a system learns from train, and its weights are chosen on val.
So a study of test must have nothing in common with train or val, and a study of val nothing with train. With
several stores, this holds across them too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from radscribe.studies.study import SPLITS, Split

#: Kinds of leaks, the worst first.
LeakKind = Literal[
    "patients",
    "studies",
    "identical images",
    "nearly identical images",
    "verbatim reports",
    "near-verbatim reports",
]


class Place(NamedTuple):
    """A split of a store.

    Attributes:
        store: Folder of the store, as it was given.
        split: Name of the split.
    """

    store: str
    split: Split

    def follows(self, other: Place) -> bool:
        """Whether this split is a later one than the other, in the same store or in another."""
        return SPLITS.index(self.split) > SPLITS.index(other.split)


class Item(NamedTuple):
    """Something in a split that may be in an earlier one too.

    Attributes:
        place: Split that it is in.
        key: What is equal in items that match.
        study: Id of its study.
        image: File of the image; empty unless the item is an image.
    """

    place: Place
    key: Hashable
    study: str
    image: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """A study, or one image of it, and its counterpart in an earlier split.

    Attributes:
        study, earlier_study: Ids of the two studies.
        patient: Id of the patient whom both belong to, if that is what matches.
        image, earlier_image: Files of the two images, if that is what matches.
        distance: Number of bits in which the hashes of nearly identical images differ.
        similarity: Share of common shingles of near-verbatim reports.
    """

    study: str
    earlier_study: str
    patient: str | None = None
    image: str | None = None
    earlier_image: str | None = None
    distance: int | None = None
    similarity: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The values that this match has."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Leak:
    """What a split has in common with an earlier one.

    Attributes:
        kind: What they have in common.
        later, earlier: The two splits.
        total: Number of things of this kind in the later split: patients, studies or images.
        matches: Each thing of the later split that the earlier one has too, with one counterpart.
    """

    kind: LeakKind
    later: Place
    earlier: Place
    total: int
    matches: Sequence[Match]

    @property
    def share(self) -> float:
        """Share of the later split that the earlier one has too."""
        return len(self.matches) / self.total

    def to_json(self) -> dict[str, Any]:
        """The leak as JSON values."""
        return {
            "kind": self.kind,
            "later": self.later._asdict(),
            "earlier": self.earlier._asdict(),
            "count": len(self.matches),
            "total": self.total,
            "matches": [match.to_json() for match in self.matches],
        }


#: Matching items of a later and an earlier split.
Pairs = dict[tuple[Place, Place], list[tuple[Item, Item]]]


def equal_items(items: Iterable[Item]) -> Pairs:
    """The items of later splits whose key an earlier split has too, each with the first such item there."""
    items = list(items)
    first: dict[Hashable, dict[Place, Item]] = {}
    for item in items:
        first.setdefault(item.key, {}).setdefault(item.place, item)
    pairs: Pairs = {}
    for item in items:
        for place, other in first[item.key].items():
            if item.place.follows(place):
                pairs.setdefault((item.place, place), []).append((item, other))
    return pairs
