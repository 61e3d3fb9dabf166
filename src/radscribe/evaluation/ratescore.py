"""RaTEScore (Zhao et al., EMNLP 2024) from the entities of a draft and of its reference.

The model that finds the entities, `RaTE-NER-Deberta`, is not part of RadScribe. Each entity is matched with
the most similar one on the other side by the cosine of their vectors. The cosine counts with the weight of
the two types, and less if the types have opposite polarity. F1 is of the two weighted means; it is 0.5 if a
side has no entity. Weights and arithmetic are those of github.com/MAGIC-AI4Med/RaTEScore at a970406.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Types of entities, in the order of the weights.
TYPES = ("abnormality", "anatomy", "disease", "non-abnormality", "non-disease")
_NEGATIVE, _POSITIVE = {"non-abnormality", "non-disease"}, {"abnormality", "disease"}
#: F1 of a study in which the draft or the reference has no entity.
WITHOUT_ENTITIES = 0.5


@dataclass(frozen=True, slots=True)
class RateWeights:
    """Weights of RaTEScore.

    Attributes:
        affinity: Weight of an entity with its match: for each type of `TYPES` the five types of its match.
        opposite: Factor of the cosine of entities of opposite polarity.
    """

    affinity: tuple[float, ...]
    opposite: float


#: `long_weight.json`, the default: for whole reports.
LONG = RateWeights(
    (
        0.4276119164393705,  # abnormality to abnormality
        0.6240929990607657,  # abnormality to anatomy
        0.0034478181112993847,  # abnormality to disease
        0.5431049700217344,  # abnormality to non-abnormality
        0.27005425386213877,  # abnormality to non-disease
        0.7487824274337533,  # anatomy to abnormality
        0.2856134859160784,  # anatomy to anatomy
        0.4592143222158069,  # anatomy to disease
        0.02097055139911715,  # anatomy to non-abnormality
        0.00013736314126696204,  # anatomy to non-disease
        0.8396510075734789,  # disease to abnormality
        0.9950209388542061,  # disease to anatomy
        0.8460555030578727,  # disease to disease
        0.9820689020512646,  # disease to non-abnormality
        0.3789136708096537,  # disease to non-disease
        0.16546764653692908,  # non-abnormality to abnormality
        0.018670610691852826,  # non-abnormality to anatomy
        0.719397354576018,  # non-abnormality to disease
        0.0009357166071730684,  # non-abnormality to non-abnormality
        0.0927333564267591,  # non-abnormality to non-disease
        0.7759420231214385,  # non-disease to abnormality
        0.1839139293714062,  # non-disease to anatomy
        0.10073046076318157,  # non-disease to disease
        0.03860183811876373,  # non-disease to non-abnormality
        0.34065681486566446,  # non-disease to non-disease
    ),
    0.8716553966489615,
)
#: `short_weight.json`: for single sentences.
SHORT = RateWeights(
    (
        0.4070293318365468,  # abnormality to abnormality
        0.6952639610605605,  # abnormality to anatomy
        0.28342529466226446,  # abnormality to disease
        0.9479148658006686,  # abnormality to non-abnormality
        0.23875064111146294,  # abnormality to non-disease
        0.5829759950441763,  # anatomy to abnormality
        0.7709590751917746,  # anatomy to anatomy
        0.0006059634829551632,  # anatomy to disease
        0.794672584951181,  # anatomy to non-abnormality
        0.27982942400798977,  # anatomy to non-disease
        0.8840397619834857,  # disease to abnormality
        0.9637659445696822,  # disease to anatomy
        0.19018958438059513,  # disease to disease
        0.6962283914800402,  # disease to non-abnormality
        0.943727057946997,  # disease to non-disease
        0.1712744286898638,  # non-abnormality to abnormality
        0.4485149671497294,  # non-abnormality to anatomy
        0.00045065329822896076,  # non-abnormality to disease
        0.0007887930317199857,  # non-abnormality to non-abnormality
        0.8555432840895761,  # non-abnormality to non-disease
        0.9555801066212176,  # non-disease to abnormality
        0.13122106162635216,  # non-disease to anatomy
        0.6072996585919443,  # non-disease to disease
        0.05650711141169969,  # non-disease to non-abnormality
        0.3214769399791204,  # non-disease to non-disease
    ),
    0.3611577852354489,
)
WEIGHTS: Mapping[str, RateWeights] = {"RaTEScore": LONG, "RaTEScore (short)": SHORT}


@dataclass(frozen=True, slots=True)
class Entities:
    """The entities of one text.

    Attributes:
        types: Type of each entity, from `TYPES`.
        vectors: Vector of each entity `[entities, channels]`.
    """

    types: Sequence[str]
    vectors: np.ndarray


def ratescore(draft: Entities, reference: Entities, weights: RateWeights = LONG) -> float:
    """RaTEScore of one draft."""
    if not draft.types or not reference.types:
        return WITHOUT_ENTITIES
    one, other = _one_way(reference, draft, weights), _one_way(draft, reference, weights)
    return 2 * one * other / (one + other) if one + other else 0.0


def _one_way(entities: Entities, others: Entities, weights: RateWeights) -> float:
    """The weighted mean of the cosines of entities with their matches."""
    similarity = _normed(entities.vectors) @ _normed(others.vectors).T
    matches = similarity.argmax(axis=1)
    total = weight_of_all = 0.0
    for number, match in enumerate(matches):
        kind, other = entities.types[number], others.types[match]
        weight = weights.affinity[len(TYPES) * TYPES.index(kind) + TYPES.index(other)]
        opposite = {kind, other} & _NEGATIVE and {kind, other} & _POSITIVE
        total += similarity[number, match] * weight * (weights.opposite if opposite else 1)
        weight_of_all += weight
    return float(total / weight_of_all) if weight_of_all else 0.0


def _normed(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normed: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    return normed
