"""How much drafts repeat themselves: the share of their n-grams that stood in the same draft before.

A system that runs in a loop writes the same words again and again, and text metrics hardly show it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from radscribe.evaluation.metrics import StudyStatistics, mean_statistics

REPEATED_ORDER = 3
REPETITION = f"repeated {REPEATED_ORDER}-grams"


def repeated_ngrams(text: str, order: int = REPEATED_ORDER) -> float:
    """The share of the n-grams of a text that stood in it before; 0 if the text has fewer than n words.

    CXRMate-2's absence of repeated n-grams (ARN) is 1 minus this, on the pieces of its tokenizer.

    Args:
        text: Text whose words are separated by white space.
        order: Number of words in an n-gram.
    """
    words = text.split()
    ngrams = [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def repetition_statistics(texts: Sequence[str]) -> StudyStatistics:
    """Mean share of repeated n-grams over texts, one for each study."""
    return mean_statistics({REPETITION: np.array([repeated_ngrams(text) for text in texts])})
