"""BLEU, ROUGE-L and CIDEr as additive statistics of each study: exact and fast.

The scores equal those of `pycocoevalcap` without its PTB tokenizer and with one reference per study, which is
how the published systems are scored. Words are separated by white space, as in `str.split()`. ROUGE-L is an
exception: like the reference implementation, it splits at every single blank. So there is an empty word
between two blanks, and a tab or a line break is part of a word.

Every corpus score here is a function of sums over studies. So a bootstrap resample costs a matrix product
instead of a second scoring; see `radscribe.evaluation.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radscribe.errors import RadScribeError

BLEU_ORDERS = 4
CIDER_ORDERS = 4
CIDER_SIGMA = 6.0
ROUGE_BETA = 1.2

Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class StudyStatistics:
    """Statistics of a family of metrics for one set of studies.

    Attributes:
        columns: Statistics of each study, float64 [studies, columns]; corpus scores need only their sums.
        scores_of_sums: Computes the corpus scores, each [...] by metric name, from column sums [...,
            columns].
    """

    columns: np.ndarray
    scores_of_sums: Callable[[np.ndarray], Scores]

    def scores(self) -> dict[str, float]:
        """The corpus scores of all studies, by metric name."""
        return {name: float(score) for name, score in self.scores_of_sums(self.columns.sum(axis=0)).items()}


def mean_statistics(scores: Mapping[str, np.ndarray]) -> StudyStatistics:
    """Statistics whose scores are means over the studies.

    Args:
        scores: Values of each study `[studies]` by name of the score.
    """
    columns = np.column_stack([*scores.values(), np.ones(len(next(iter(scores.values()))))])
    names = list(scores)
    return StudyStatistics(
        columns, lambda sums: {name: sums[..., i] / sums[..., -1] for i, name in enumerate(names)}
    )


def text_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> StudyStatistics:
    """BLEU-1 to BLEU-4, ROUGE-L and CIDEr of drafts against one reference each.

    CIDEr takes its document frequencies from all references given here. A resample of studies keeps these
    frequencies and resamples the scores of the studies.

    Args:
        hypotheses: Drafts, one for each study.
        references: Reference reports, in the same order.

    Raises:
        RadScribeError: there are no studies, or the numbers of drafts and references differ.
    """
    if len(hypotheses) != len(references):
        raise RadScribeError(f"{len(hypotheses)} drafts for {len(references)} references")
    if not references:
        raise RadScribeError("there are no studies to score")
    matches, cider, lengths = _compare_ngrams(hypotheses, references)
    draft_lengths, reference_lengths = np.split(lengths, 2)
    columns = np.column_stack(
        [
            matches,
            _bleu_totals(draft_lengths),
            draft_lengths,
            reference_lengths,
            _rouge_l(hypotheses, references),
            cider,
            np.ones(len(references)),
        ]
    )
    return StudyStatistics(columns, _text_scores)


def constant_bleu(constants: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """BLEU of each candidate report as the draft of every study, computed without scoring each study.

    Args:
        constants: Candidate reports.
        references: Reference reports.

    Returns:
        float64 [constants, 4]: BLEU-1 to BLEU-4.

    Raises:
        RadScribeError: there are no references.
    """
    if not references:
        raise RadScribeError("there are no studies to score")
    orders, lengths = _count_ngrams([*constants, *references], BLEU_ORDERS)
    number = len(constants)
    matches = np.zeros((number, BLEU_ORDERS))
    for order, (owner, gram, count) in enumerate(orders):
        ours = owner < number
        # A gram occurs c times in the constant. Its clipped matches, summed over references, are the number
        # of references that have it at least once, plus the number that have it at least twice, up to c
        # times.
        for occurrences in range(1, count[ours].max(initial=0) + 1):
            having = np.bincount(gram[~ours & (count >= occurrences)], minlength=gram.max() + 1)
            enough = ours & (count >= occurrences)
            matches[:, order] += np.bincount(owner[enough], weights=having[gram[enough]], minlength=number)
    totals = len(references) * _bleu_totals(lengths[:number])
    draft_lengths = len(references) * lengths[:number]
    reference_lengths = np.full(number, lengths[number:].sum())
    return corpus_bleu(np.column_stack([matches, totals, draft_lengths, reference_lengths]))


def corpus_bleu(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU, with the constants and the brevity penalty of the reference implementation.

    Args:
        sums: Sums [..., 10] of matches and totals of 1- to 4-grams, draft lengths and reference lengths.

    Returns:
        [..., 4]: BLEU-1 to BLEU-4.
    """
    tiny, small = 1e-15, 1e-9
    matches, totals = sums[..., :BLEU_ORDERS], sums[..., BLEU_ORDERS : 2 * BLEU_ORDERS]
    precisions = (matches + tiny) / (totals + small)
    bleu = np.cumprod(precisions, axis=-1) ** (1 / np.arange(1, BLEU_ORDERS + 1))
    # With one reference per study, the `closest` reference length is the length of that reference.
    ratio = (sums[..., 2 * BLEU_ORDERS] + tiny) / (sums[..., 2 * BLEU_ORDERS + 1] + small)
    return bleu * np.exp(np.minimum(0.0, 1 - 1 / ratio))[..., None]


def _text_scores(sums: np.ndarray) -> Scores:
    bleu = corpus_bleu(sums)
    rouge, cider, studies = sums[..., -3], sums[..., -2], sums[..., -1]
    scores = {f"BLEU-{order}": bleu[..., order - 1] for order in range(1, BLEU_ORDERS + 1)}
    return scores | {"ROUGE-L": rouge / studies, "CIDEr": cider / studies}


def _bleu_totals(lengths: np.ndarray) -> np.ndarray:
    """Number of 1- to 4-grams in drafts of these lengths, [drafts, 4]."""
    return np.maximum(lengths[:, None] - np.arange(BLEU_ORDERS), 0)


def _number_words(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All words of all texts in one array [words], each numbered, and the number of words of each text."""
    words = [text.split() for text in texts]
    numbers: dict[str, int] = {}
    flat = np.fromiter((numbers.setdefault(word, len(numbers)) for text in words for word in text), np.int64)
    return flat, np.fromiter(map(len, words), np.int64, len(words))


def _count_ngrams(
    texts: Sequence[str], highest_order: int
) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
    """Count the n-grams of each text.

    Returns:
        For each order from 1 on, three arrays [entries], sorted by text and then n-gram: the text, the n-gram
        as an integer, and how often it occurs in that text. Then the number of words of each text.
    """
    words, lengths = _number_words(texts)
    ends = np.repeat(np.cumsum(lengths), lengths)
    text_of_word = np.repeat(np.arange(len(texts)), lengths)
    start, gram = np.arange(len(words)), words
    orders = []
    for order in range(1, highest_order + 1):
        if order > 1:
            # An n-gram is its first (n-1)-gram and one more word; the pairs are renumbered to keep numbers
            # small.
            inside = start + order <= ends[start]
            start, gram = start[inside], gram[inside]
            pair = gram * (words.max(initial=0) + 1) + words[start + order - 1]
            gram = np.unique(pair, return_inverse=True)[1]
        distinct = gram.max(initial=0) + 1
        keys, count = np.unique(text_of_word[start] * distinct + gram, return_counts=True)
        orders.append((keys // distinct, keys % distinct, count))
    return orders, lengths


def _compare_ngrams(
    hypotheses: Sequence[str], references: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clipped n-gram matches [studies, 4], CIDEr [studies], and lengths of all drafts, then references."""
    studies = len(references)
    orders, lengths = _count_ngrams([*hypotheses, *references], max(BLEU_ORDERS, CIDER_ORDERS))
    matches = np.zeros((studies, BLEU_ORDERS))
    similarity = np.zeros(studies)

    def by_study(study: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.bincount(study, weights=weights, minlength=studies).astype(np.float64)  # ints if empty

    for order, (owner, gram, count) in enumerate(orders):
        ours = owner < studies
        study, draft_gram, draft_count = owner[ours], gram[ours], count[ours]
        reference, reference_gram, reference_count = owner[~ours] - studies, gram[~ours], count[~ours]

        distinct = gram.max(initial=0) + 1
        _, at_draft, at_reference = np.intersect1d(
            study * distinct + draft_gram,
            reference * distinct + reference_gram,
            assume_unique=True,
            return_indices=True,
        )
        shared_study = study[at_draft]
        matches[:, order] = by_study(
            shared_study, np.minimum(draft_count[at_draft], reference_count[at_reference])
        )

        document_frequency = np.bincount(reference_gram, minlength=distinct)
        weight = np.log(studies) - np.log(np.maximum(1, document_frequency))
        draft_vector = draft_count * weight[draft_gram]
        reference_vector = reference_count * weight[reference_gram]
        product = by_study(
            shared_study,
            np.minimum(draft_vector[at_draft], reference_vector[at_reference])
            * reference_vector[at_reference],
        )
        norms = np.sqrt(by_study(study, draft_vector**2) * by_study(reference, reference_vector**2))
        similarity += np.divide(product, norms, out=product, where=norms != 0)

    # The reference implementation takes a text's length from its number of 2-grams.
    draft_bigrams, reference_bigrams = np.split(np.maximum(lengths - 1, 0), 2)
    penalty = np.exp(-((draft_bigrams - reference_bigrams) ** 2) / (2 * CIDER_SIGMA**2))
    return matches, 10 * similarity * penalty / CIDER_ORDERS, lengths


def _rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """ROUGE-L of each study [studies]."""
    scores = np.zeros(len(references))
    for study, (hypothesis, reference) in enumerate(zip(hypotheses, references, strict=True)):
        # Like the reference implementation, this counts an empty word between two blanks; two empty texts
        # agree.
        draft_words, reference_words = hypothesis.split(" "), reference.split(" ")
        common = _longest_common_subsequence(draft_words, reference_words)
        if common:
            precision, recall = common / len(draft_words), common / len(reference_words)
            scores[study] = (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)
    return scores


def _longest_common_subsequence(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence; a big integer holds each table row (Hyyrö 2004)."""
    positions: dict[str, int] = {}
    for index, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << index
    everywhere = (1 << len(first)) - 1
    row = everywhere
    for word in second:
        match = row & positions.get(word, 0)
        if match:
            row = (row + match | row - match) & everywhere
    return len(first) - row.bit_count()
