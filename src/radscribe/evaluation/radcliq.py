"""RadCliQ (Yu et al., Patterns 2023): how many errors a radiologist would find, from four other metrics.

**Lower is better.** The constants are those of the released models `composite_metric_model.pkl` with
`normalizer.pkl` (v0) and `radcliq-v1.pkl` (v1) of github.com/rajpurkarlab/CXR-Report-Metric at 9c9ecad, at
full precision. The four columns are RadGraph's combined F1, BERTScore (distilroberta-base, without inverse
document frequencies), the cosine of the CheXbert vectors, and BLEU-2 as the package `fast-bleu` has it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radscribe.errors import RadScribeError


@dataclass(frozen=True, slots=True)
class RadCliqModel:
    """A linear model of the standardised columns, in the order of `COLUMNS`.

    Attributes:
        mean: Mean of each column in the studies that the model was fitted to.
        scale: Standard deviation of each column there.
        coefficients: Coefficient of each standardised column.
        intercept: What is added to their sum.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float

    def score(self, columns: np.ndarray) -> np.ndarray:
        """RadCliQ `[studies]` of columns `[studies, 4]`."""
        standardised = (columns - np.array(self.mean)) / np.array(self.scale)
        result: np.ndarray = standardised @ np.array(self.coefficients) + self.intercept
        return result


COLUMNS = ("radgraph_combined", "bertscore", "semb_score", "bleu_score")
#: Fitted to 200 studies.
V0 = RadCliqModel(
    mean=(0.5398376019082272, 0.6312549595000001, 0.7716797866672277, 0.4607372064809605),
    scale=(0.3018344440559102, 0.22466950746141123, 0.24750333805236252, 0.30336670936092264),
    coefficients=(-0.4796252644863446, -0.6762170542369337, -0.46366575161751994, 0.2165861905287535),
    intercept=1.641666666666666,
)
#: Fitted to 160 studies; the coefficient of BLEU-2 and the intercept are nil.
V1 = RadCliqModel(
    mean=(0.5379231241355762, 0.6175725628125001, 0.7647942121140658, 0.44738335396242174),
    scale=(0.3028258411486429, 0.22430938459304575, 0.2539439110169773, 0.2989271671041838),
    coefficients=(-0.37708368261038905, -0.37030009974480316, -0.25261621789593225, 4.315048405024756e-12),
    intercept=2.466552561323256e-10,
)
#: NLTK's smoothing method 1, which `fast-bleu` has by default: matches of an order that has none.
_SMOOTHED = 0.1


def fast_bleu2(draft: str, reference: str) -> float:
    """BLEU-2 of one draft as RadCliQ has it: weights 1/2 and 1/2, lower case, a blank before each full stop.

    An order without a match has 0.1 matches, unless no word matches at all, where the score is 0.

    Args:
        draft: Draft as it was written.
        reference: Reference report as it was written.
    """
    ours, theirs = (
        [word for word in text.lower().replace(".", " .").split(" ") if word] for text in (draft, reference)
    )
    logarithm = 0.0
    for order in (1, 2):
        counts, most = (
            Counter(tuple(words[at : at + order]) for at in range(len(words) - order + 1))
            for words in (ours, theirs)
        )
        matches = (counts & most).total()
        if order == 1 and not matches:
            return 0.0
        logarithm += 0.5 * math.log((matches or _SMOOTHED) / max(counts.total(), 1))
    brevity = 1.0 if len(ours) > len(theirs) else math.exp(1 - len(theirs) / len(ours))
    return brevity * math.exp(logarithm)


def radcliq_columns(
    radgraph: Sequence[float] | np.ndarray,
    bertscore: Sequence[float] | np.ndarray,
    semb: Sequence[float] | np.ndarray,
    bleu: Sequence[float] | np.ndarray,
) -> np.ndarray:
    """The four columns `[studies, 4]` in the order of `COLUMNS`.

    Args:
        radgraph: Combined RadGraph F1 of each study: the mean of entity F1 and relation F1.
        bertscore: Rescaled BERTScore of each study by distilroberta-base.
        semb: Cosine of the CheXbert vectors of each draft and its reference.
        bleu: BLEU-2 of each study, see `fast_bleu2`.

    Raises:
        RadScribeError: the columns have different numbers of studies.
    """
    columns = (radgraph, bertscore, semb, bleu)
    if len({len(column) for column in columns}) != 1:
        raise RadScribeError(f"RadCliQ of columns of different lengths: {[len(c) for c in columns]}")
    return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])
