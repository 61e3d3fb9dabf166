"""Verbatim and near-verbatim reports in different splits.

A report is verbatim another if both are the same but for white space. For near-verbatim reports, the words of
a report, in lower case and without punctuation, are read in shingles of three; the similarity of two reports
is the number of different shingles that both have by the number of those that either has (Jaccard). A report
of fewer than three words is one shingle.

The search is exact. The shingles of each report are sorted by how rare they are. Of two reports that are so
similar, both have one of the other's rarest shingles (Chaudhuri et al., "A Primitive Operator for Similarity
Joins in Data Cleaning", ICDE 2006), so only reports with such a shingle in common are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np
from scipy import sparse

from radscribe.audit.leaks import Item, Place
from radscribe.progress import Progress

#: Words of a shingle.
SHINGLE = 3
#: Smallest similarity of near-verbatim reports: about one word in thirty is another.
NEAR = 0.8
#: Number of reports that are compared at once with all earlier ones, and of pairs that are compared at once.
_REPORTS, _PAIRS = 256, 20_000
_WORD = re.compile(r"\w+")
#: Room for rounding where a similarity is exactly `NEAR`.
_ROUNDING = 1e-9

#: Items of a later and an earlier split, with their similarity.
NearPairs = dict[tuple[Place, Place], list[tuple[Item, Item, float]]]


def as_written(report: str) -> str:
    """What verbatim reports have in common: the text, with one blank wherever there is white space."""
    return " ".join(report.split())


def words_of(report: str) -> tuple[str, ...]:
    """The words of a report as near-verbatim reports are compared: in lower case, without punctuation."""
    return tuple(_WORD.findall(report.lower()))


def near_reports(items: Iterable[Item], progress: Progress) -> NearPairs:
    """The reports of later splits that an earlier split has nearly, each with the most similar one there.

    Reports with a verbatim counterpart in the earlier split are among them, with a similarity of 1.

    Args:
        items: Every report by its `words_of`; one without words is like no other.
        progress: Counts the different reports of later splits.
    """
    texts: dict[tuple[str, ...], dict[Place, list[Item]]] = {}
    for item in items:
        assert isinstance(item.key, tuple)
        if item.key:
            texts.setdefault(item.key, {}).setdefault(item.place, []).append(item)
    places = list(texts.values())
    best: dict[tuple[Place, Place], dict[int, tuple[float, int]]] = {}
    for text, earlier_text, similarity in _similar(list(texts), places, progress):
        for later, earlier in product(places[text], places[earlier_text]):
            if later.follows(earlier):
                of_text = best.setdefault((later, earlier), {})
                of_text[text] = max(of_text.get(text, (0.0, 0)), (similarity, -earlier_text))
    return {
        (later, earlier): [
            (item, places[-negative][earlier][0], similarity)
            for text, (similarity, negative) in sorted(of_text.items())
            for item in places[text][later]
        ]
        for (later, earlier), of_text in best.items()
    }


def different_reports(items: Iterable[Item]) -> int:
    """The number of steps that `near_reports` counts: different reports of val and test."""
    return len({item.key for item in items if item.key and item.place.split != "train"})


def _similar(
    texts: Sequence[tuple[str, ...]], places: Sequence[dict[Place, list[Item]]], progress: Progress
) -> Iterator[tuple[int, int, float]]:
    """The pairs of a text of val or test and a text of train or val that are similar enough."""
    shingles = _shingles(texts)
    sizes = np.diff(shingles.indptr)
    rarest = _rarest(shingles)
    later = _numbers(any(place.split != "train" for place in of_text) for of_text in places)
    earlier = _numbers(any(place.split != "test" for place in of_text) for of_text in places)
    by_shingle = rarest[earlier].T.tocsr()
    for begin in range(0, len(later), _REPORTS):
        block = later[begin : begin + _REPORTS]
        common = (rarest[block] @ by_shingle).tocoo()
        own, other = block[common.row], earlier[common.col]
        for first in range(0, len(own), _PAIRS):
            ours, theirs = own[first : first + _PAIRS], other[first : first + _PAIRS]
            shared = np.asarray(shingles[ours].multiply(shingles[theirs]).sum(axis=1)).ravel()
            similarities = shared / (sizes[ours] + sizes[theirs] - shared)
            for place in np.flatnonzero(similarities >= NEAR - _ROUNDING).tolist():
                yield int(ours[place]), int(theirs[place]), float(similarities[place])
        progress.update(len(block))


def _numbers(chosen: Iterable[bool]) -> np.ndarray:
    return np.flatnonzero(np.fromiter(chosen, bool))


def _shingles(texts: Sequence[tuple[str, ...]]) -> sparse.csr_array:
    """Which text has which shingle, `[texts, shingles]`; the rarest shingles are the first columns."""
    numbers: dict[str, int] = {}
    of_texts = []
    for words in texts:
        ids = [numbers.setdefault(word, len(numbers) + 1) for word in words]
        # 0 stands for the words that a short report lacks.
        of_texts.append(np.array(ids + [0] * (SHINGLE - len(ids)), np.int64))
    base = len(numbers) + 1  # three numbers fit 63 bits up to two million different words
    of_texts = [np.unique((ids[:-2] * base + ids[1:-1]) * base + ids[2:]) for ids in of_texts]
    _, columns, counts = np.unique(
        np.concatenate(of_texts) if of_texts else np.zeros(0, np.int64),
        return_inverse=True,
        return_counts=True,
    )
    rank = np.empty(len(counts), np.int32)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts), dtype=np.int32)
    starts = np.concatenate([[0], np.cumsum([len(codes) for codes in of_texts], dtype=np.int64)])
    matrix = sparse.csr_array(
        (np.ones(len(columns), np.int32), rank[columns], starts), shape=(len(texts), len(counts))
    )
    matrix.sort_indices()
    return matrix


def _rarest(shingles: sparse.csr_array) -> sparse.csr_array:
    """Of each text so many of the rarest shingles that a similar text must have one of them."""
    sizes = np.diff(shingles.indptr)
    kept = sizes - np.ceil(NEAR * sizes - _ROUNDING).astype(sizes.dtype) + 1
    position = np.arange(shingles.nnz) - np.repeat(shingles.indptr[:-1], sizes)
    chosen = position < np.repeat(kept, sizes)
    starts = np.concatenate([[0], np.cumsum(kept)])
    return sparse.csr_array((shingles.data[chosen], shingles.indices[chosen], starts), shape=shingles.shape)
