"""Diversity of texts: how varied and how long the drafts of a system are.

A system that writes the same report for every study can score well without using the image; its diversity
shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.text.cleaning import UNKNOWN_TOKEN

DISTINCT_ORDERS = 4
LENGTH_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, slots=True)
class Diversity:
    """Variety and length of a set of reports.

    Attributes:
        reports: Number of reports.
        distinct_reports: Number of different reports.
        most_frequent: Share of the reports that equal the most frequent report.
        unknown_words: Share of the words that are `<unk>`. If references passed through a vocabulary, a draft
            gets credit for each `<unk>` that it shares with them, although `<unk>` says nothing.
        distinct_ngrams: Share of different n-grams among all n-grams of the set, as `distinct-1` to
            `distinct-4`.
        length_mean: Mean length in words.
        length_percentiles: Percentiles of the length in words, by name (`5%`).
    """

    reports: int
    distinct_reports: int
    most_frequent: float
    unknown_words: float
    distinct_ngrams: dict[str, float]
    length_mean: float
    length_percentiles: dict[str, float]


def measure_diversity(reports: Sequence[str]) -> Diversity:
    """Variety and length of reports; words are separated by white space.

    Raises:
        RadScribeError: there are no reports.
    """
    if not reports:
        raise RadScribeError("there are no reports to measure")
    words = [tuple(report.split()) for report in reports]
    lengths = np.array([len(report) for report in words])
    distinct_ngrams = {}
    for order in range(1, DISTINCT_ORDERS + 1):
        ngrams = [
            report[start : start + order] for report in words for start in range(len(report) - order + 1)
        ]
        distinct_ngrams[f"distinct-{order}"] = len(set(ngrams)) / max(len(ngrams), 1)
    counts = Counter(words)
    return Diversity(
        reports=len(reports),
        distinct_reports=len(counts),
        most_frequent=counts.most_common(1)[0][1] / len(reports),
        unknown_words=sum(report.count(UNKNOWN_TOKEN) for report in words) / max(int(lengths.sum()), 1),
        distinct_ngrams=distinct_ngrams,
        length_mean=float(lengths.mean()),
        length_percentiles={f"{q}%": float(np.percentile(lengths, q)) for q in LENGTH_PERCENTILES},
    )
