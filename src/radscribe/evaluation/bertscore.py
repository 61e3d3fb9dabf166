"""BERTScore (Zhang et al., ICLR 2020) in the three settings in which report generation publishes it.

Each token of a draft is matched with the most similar token of the reference by the cosine of their vectors
in one layer, and the other way round; F1 is of the two weighted means. It is rescaled, so that 0 is what
unrelated English sentences have and 1 is an equal text. The arithmetic is that of the package `bert-score`
0.3.13 (github.com/Tiiiger/bert_score), with its oddities: `[CLS]` and `[SEP]` have no weight but can be
matched, and a text without words has an F1 of 0 before it is rescaled, so far below 0 after it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.family import FamilyScores, ScoredStudies
from radscribe.evaluation.metrics import mean_statistics
from radscribe.evaluation.text_encoder import TextEncoder

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class BertScoreSetting:
    """A setting in which BERTScore is published.

    Attributes:
        encoder: Name of the encoder, which is the name of its folder.
        layer: Layer whose vectors are compared, from 1.
        baseline: Mean F1 of unrelated English sentences in this layer: the column F in the row of the layer
            of `rescale_baseline/en/ENCODER.tsv` in the package.
        users: Who publishes it.
    """

    encoder: str
    layer: int
    baseline: float
    users: str

    @property
    def score(self) -> str:
        """Name of the score."""
        return f"BERTScore ({self.encoder})"


SETTINGS = (
    BertScoreSetting("distilroberta-base", 5, 0.8473319, "RadCliQ, ReXrank"),
    BertScoreSetting("distilbert-base-uncased", 5, 0.66620487, "vilmedic, RadEval"),
    BertScoreSetting("roberta-large", 17, 0.83122575, "CXRMate-2"),
)


def bertscore(
    drafts: Sequence[str],
    references: Sequence[str],
    encoder: TextEncoder,
    baseline: float,
    *,
    idf: bool = False,
) -> np.ndarray:
    """Rescaled F1 of each draft against its reference `[studies]`.

    Args:
        drafts: Drafts as they were written.
        references: Reference reports, in the same order.
        encoder: Encoder that ends with the layer whose vectors are compared.
        baseline: F1 that becomes 0.
        idf: Weight tokens by the logarithm of how few references have them, instead of all alike.
    """
    texts = sorted({*drafts, *references}, key=len)
    encoded = dict(zip(texts, encoder.vectors(texts), strict=True))
    weights = _weights(encoder, [encoded[text][0] for text in references] if idf else None)
    raw = [
        _f1(encoded[draft], encoded[reference], weights)
        for draft, reference in zip(drafts, references, strict=True)
    ]
    return (np.array(raw) - baseline) / (1 - baseline)


def _weights(encoder: TextEncoder, references: Sequence[Sequence[int]] | None) -> Mapping[int, float]:
    """The weight of each token id: 1, and 0 of the special ones; or the inverse document frequency."""
    if references is None:
        special = dict.fromkeys((encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id), 0.0)
        return defaultdict(lambda: 1.0, special)
    counts = Counter(token for ids in references for token in set(ids))
    more = len(references) + 1
    found = {token: math.log(more / (count + 1)) for token, count in counts.items()}
    return defaultdict(lambda: math.log(more), found)


def _f1(
    draft: tuple[Sequence[int], torch.Tensor],
    reference: tuple[Sequence[int], torch.Tensor],
    weights: Mapping[int, float],
) -> float:
    """F1 of the greedy matching of two texts; 0 if all weights of one of them are 0."""
    ours, theirs = (vectors / vectors.norm(dim=-1, keepdim=True) for _, vectors in (draft, reference))
    similarity = (ours @ theirs.T).numpy()
    best = []
    for (ids, _), axis in ((draft, 1), (reference, 0)):
        of_tokens = np.array([weights[token] for token in ids])
        if of_tokens.sum() == 0:
            return 0.0
        best.append(float((similarity.max(axis=axis) * of_tokens).sum() / of_tokens.sum()))
    precision, recall = best
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def study_bertscores(
    setting: BertScoreSetting, folder: Path, studies: ScoredStudies
) -> Mapping[str, np.ndarray]:
    """BERTScore without idf of each study `[studies]` by row, computed once for all who ask.

    Args:
        setting: Setting to compute.
        folder: Folder of the encoder.
        studies: Studies whose whole texts are compared; runs of blanks count as one, as in RadCliQ's code.
    """

    def compute() -> Mapping[str, np.ndarray]:
        encoder = TextEncoder(folder, layers=setting.layer)
        references = [_one_blank(text) for text in studies.whole_references]
        rows = {row: [_one_blank(text) for text in texts] for row, texts in studies.whole_drafts.items()}
        return {row: bertscore(texts, references, encoder, setting.baseline) for row, texts in rows.items()}

    return studies.files.once(setting.score, compute)


def _one_blank(text: str) -> str:
    return re.sub(" +", " ", text)


def score_bertscore(setting: BertScoreSetting, studies: ScoredStudies) -> FamilyScores:
    """Mean BERTScore of each row, if the encoder is there."""
    folder = studies.files.model(setting.encoder)
    if folder is None:
        return FamilyScores(missing={setting.score: f"--models has no folder '{setting.encoder}'"})
    try:
        found = study_bertscores(setting, folder, studies)
    except RadScribeError as error:
        return FamilyScores(missing={setting.score: str(error)})
    return FamilyScores({row: mean_statistics({setting.score: of_row}) for row, of_row in found.items()})
