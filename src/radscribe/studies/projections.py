"""The projection of a view, from the words that data sets use for it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from radscribe.studies.study import Projection, View

_FRONTAL = frozenset({"PA", "AP", "FRONTAL", "POSTERO", "ANTERO", "POSTEROANTERIOR", "ANTEROPOSTERIOR"})
_LATERAL = frozenset({"L", "LL", "RL", "LAT", "LATERAL"})


def projection_of(words: str) -> Projection:
    """The projection that words such as `PA`, `AP Supine`, `postero-anterior`, `frontal`, `L`, `LL` or
    `XTABLE LATERAL` stand for.

    A lateral decubitus is a position of the patient: the view is frontal if the words also say AP or PA, else
    unknown. Words that name both projections, or neither, give `unknown`.
    """
    found = set(re.findall("[A-Z]+", words.upper()))
    frontal = bool(found & _FRONTAL)
    lateral = bool(found & _LATERAL) and "DECUBITUS" not in found
    if frontal == lateral:
        return "unknown"
    return "frontal" if frontal else "lateral"


def frontal_first(views: Iterable[View]) -> tuple[View, ...]:
    """The views sorted: frontal, unknown, lateral. Views of the same projection keep their order."""
    order = {"frontal": 0, "unknown": 1, "lateral": 2}
    return tuple(sorted(views, key=lambda view: order[view.projection]))
