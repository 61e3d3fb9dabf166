"""Cross-modal feature enhancement (CFE): visual tokens that have read phrases about what the image may show.

Huang et al., CmEAA; equation numbers in this file are that paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.layers.dropout import Dropout
from radscribe.layers.frozen_language_model import Embedded, FrozenLanguageModel
from radscribe.layers.transformer import MultiHeadAttention

#: An observation of a study, by its number, and whether it is positive.
Label = tuple[int, bool]


class PhraseVectors(nn.Module):
    """E_s: a vector for each phrase, the mean of its tokens' embeddings in the language model.

    The paper embeds phrases "through Llama2". The input embeddings are what the visual tokens stand among,
    and need no run of the model. A phrase has no position: their order has no meaning.

    Args:
        language_model: Language model whose embeddings are taken.
        phrases: Phrases of each label, each phrase with a letter or more.
        observations: Number of observations.
        otherwise: Label whose phrases are read for a study that has no label with a phrase.

    Attributes:
        texts: Every phrase once.
    """

    def __init__(
        self,
        language_model: FrozenLanguageModel,
        phrases: Mapping[Label, Sequence[str]],
        observations: int,
        otherwise: Label,
    ):
        super().__init__()
        self.texts = tuple(dict.fromkeys(phrase for of_label in phrases.values() for phrase in of_label))
        number = {phrase: index for index, phrase in enumerate(self.texts)}
        table = language_model.model.get_input_embeddings()
        weight: Tensor = table.weight
        vectors = weight.new_zeros(len(self.texts), language_model.width)
        of_label = torch.zeros(observations, 2, len(self.texts), dtype=torch.bool, device=weight.device)
        with torch.no_grad():
            for phrase, index in number.items():
                ids = torch.tensor(language_model.tokenizer.encode(phrase), device=weight.device)
                vectors[index] = table(ids).mean(dim=0)
        for (observation, positive), its_phrases in phrases.items():
            of_label[observation, int(positive), [number[phrase] for phrase in its_phrases]] = True
        self.otherwise = otherwise
        self.vectors: Tensor
        self.of_label: Tensor
        # Both come from the phrase table and the language model, so no weights file has them.
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("of_label", of_label, persistent=False)

    def forward(self, labels: Tensor) -> Embedded:
        """The phrases of each study's labels, each phrase once.

        Args:
            labels: float `[studies, observations]`: 1 positive, 0 negative, NaN without a label.

        Returns:
            Vectors `[studies, phrases, width]` of all phrases, with a mask of those of each study. It is
            empty for a study only if `otherwise` has no phrase either.
        """
        polarity = torch.stack([labels == 0, labels == 1], dim=-1)
        chosen = torch.einsum("sop,opn->sn", polarity.float(), self.of_label.float()) > 0
        observation, positive = self.otherwise
        default = self.of_label[observation, int(positive)]
        chosen = torch.where(chosen.any(dim=1, keepdim=True), chosen, default)
        return Embedded(self.vectors.expand(len(labels), -1, -1), chosen)


class Read(NamedTuple):
    """Visual tokens that have read phrases.

    Attributes:
        tokens: The tokens `[studies, tokens, width]`.
        weights: Attention of each visual token to each phrase `[studies, heads, tokens, phrases]`.
    """

    tokens: Tensor
    weights: Tensor


class _EnhancementLayer(nn.Module):
    """Eq. 9-10. Each attention has a residual connection and a layer normalisation, as in Vaswani (2017).

    The inner feed-forward layers of that paper are left out, for Eq. 8 has the only one.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.text, self.visual, self.cross = (MultiHeadAttention(width, heads, dropout) for _ in range(3))
        self.text_norm, self.visual_norm, self.cross_norm = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(
        self, text: Tensor, text_mask: Tensor, visual: Tensor, visual_mask: Tensor
    ) -> tuple[Tensor, Read]:
        """E_sa, and E* with its attention, of phrases and visual tokens `[studies, length, width]`.

        The masks fit the attention.
        """
        text = self.text_norm(text + self.dropout(self.text(text, text, text_mask)))  # E_sa, Eq. 10
        visual = self.visual_norm(visual + self.dropout(self.visual(visual, visual, visual_mask)))  # X_sa
        memory = self.cross.project_memory(text)
        read, weights = self.cross.attend_with_weights(visual, *memory, text_mask)
        return text, Read(self.cross_norm(visual + self.dropout(read)), weights)  # Eq. 9


class CrossModalEnhancement(nn.Module):
    """CFE (Eq. 7-10).

    The sum of Eq. 8 in a circle joins channels: 98 tokens could not be added to the 49 of f_u. The
    feed-forward layer takes X_v^d as it was before self-attention, as Eq. 8 says. Its inner width is that of
    what it takes, and at most that of a phrase vector. With several layers, the phrases of one are read by
    the next, and its E* is what attends there.

    Args:
        inputs: width of a visual token.
        outputs: width of an enhanced one.
        phrase_width: width of a phrase vector.
        layers: how many times visual tokens attend to the phrases.
        heads: of each attention.
        dropout: probability, of attention weights and in front of each sum.

    Raises:
        RadScribeError: the heads do not divide the width of f_d.
    """

    def __init__(
        self, inputs: int, outputs: int, phrase_width: int, *, layers: int, heads: int, dropout: float
    ):
        super().__init__()
        if inputs % heads:
            raise RadScribeError(
                f"system.enhancement_heads {heads} does not divide the width of visual tokens, {inputs}",
                "Pass another number, such as --system.enhancement_heads 1",
            )
        self.phrases = nn.Linear(phrase_width, inputs) if phrase_width != inputs else nn.Identity()
        self.layers = nn.ModuleList(_EnhancementLayer(inputs, heads, dropout) for _ in range(layers))
        hidden = min(2 * inputs, phrase_width)
        self.feed_forward = nn.Sequential(
            nn.Linear(2 * inputs, hidden),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(hidden, outputs),
        )

    def forward(self, visual: Tensor, visual_mask: Tensor, phrases: Embedded) -> Read:
        """X_v' `[studies, tokens, outputs]` (Eq. 7), with the attention of the last layer.

        Args:
            visual: X_v^d `[studies, tokens, inputs]`.
            visual_mask: bool `[studies, tokens]`, True for tokens of a view that is there.
            phrases: E_s, a vector of each phrase of a study; a study may have none, and then E* is 0.
        """
        attended, weights = self.attended(visual, visual_mask, phrases)
        return Read(self.feed_forward(torch.cat([attended, visual], dim=-1)), weights)  # Eq. 8

    def attended(self, visual: Tensor, visual_mask: Tensor, phrases: Embedded) -> Read:
        """E* (Eq. 9-10), with the attention of the last layer; see `forward`."""
        some = phrases.mask.any(dim=1)
        # Attention over nothing is not a number: a study without phrases attends to a 0, and gives 0.
        vectors = F.pad(phrases.embeddings, (0, 0, 0, 1)).to(visual.dtype)
        text_mask = torch.cat([phrases.mask, ~some.unsqueeze(1)], dim=1)[:, None, None]
        text, tokens = self.phrases(vectors), visual
        for layer in self.layers:
            text, (tokens, weights) = layer(text, text_mask, tokens, visual_mask[:, None, None])
        return Read(tokens.masked_fill(~some[:, None, None], 0), weights[..., :-1])
