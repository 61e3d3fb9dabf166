"""Cross-modal feature enhancement (CFE): visual tokens that have read phrases about what the image may show.

Huang et al., CmEAA; equation numbers in this file are that paper's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from radscribe.errors import RadScribeError
from radscribe.layers.dropout import Dropout
from radscribe.layers.frozen_language_model import Embedded, FrozenLanguageModel
from radscribe.layers.transformer import MultiHeadAttention


def phrase_vectors(language_model: FrozenLanguageModel, phrases: Sequence[Sequence[str]]) -> Embedded:
    """E_s: a vector for each phrase of each study, the mean of its tokens' embeddings in the language model.

    The paper embeds phrases "through Llama2". The input embeddings are what the visual tokens stand among,
    and need no run of the model.

    Args:
        language_model: whose embeddings are taken.
        phrases: of each study, any number of them, each with a letter or more.
    """
    table = language_model.model.get_input_embeddings()
    weight: Tensor = table.weight

    def vector(phrase: str) -> Tensor:
        ids = language_model.tokenizer.encode(phrase)
        return table(torch.tensor(ids, device=weight.device)).mean(dim=0)

    empty = weight.new_zeros(0, language_model.width)
    rows = [torch.stack([vector(phrase) for phrase in study]) if study else empty for study in phrases]
    counts = torch.tensor([len(row) for row in rows], device=weight.device)
    vectors = pad_sequence(rows, batch_first=True)
    return Embedded(vectors, torch.arange(vectors.size(1), device=weight.device) < counts.unsqueeze(1))


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
    ) -> tuple[Tensor, Tensor]:
        """E_sa and E* from phrases and visual tokens `[studies, length, width]`; masks fit the attention."""
        text = self.text_norm(text + self.dropout(self.text(text, text, text_mask)))  # E_sa, Eq. 10
        visual = self.visual_norm(visual + self.dropout(self.visual(visual, visual, visual_mask)))  # X_sa
        return text, self.cross_norm(visual + self.dropout(self.cross(visual, text, text_mask)))  # Eq. 9


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

    def forward(self, visual: Tensor, visual_mask: Tensor, phrases: Embedded) -> Tensor:
        """X_v' `[studies, tokens, outputs]` (Eq. 7).

        Args:
            visual: X_v^d `[studies, tokens, inputs]`.
            visual_mask: bool `[studies, tokens]`, True for tokens of a view that is there.
            phrases: E_s, a vector of each phrase of a study; a study may have none, and then E* is 0.
        """
        attended = self.attended(visual, visual_mask, phrases)
        return self.feed_forward(torch.cat([attended, visual], dim=-1))  # Eq. 8

    def attended(self, visual: Tensor, visual_mask: Tensor, phrases: Embedded) -> Tensor:
        """E* (Eq. 9-10); see `forward`."""
        some = phrases.mask.any(dim=1)
        # Attention over nothing is not a number: a study without phrases attends to a 0, and gives 0.
        vectors = F.pad(phrases.embeddings, (0, 0, 0, 1)).to(visual.dtype)
        text_mask = torch.cat([phrases.mask, ~some.unsqueeze(1)], dim=1)[:, None, None]
        text = self.phrases(vectors)
        attended = visual
        for layer in self.layers:
            text, attended = layer(text, text_mask, attended, visual_mask[:, None, None])
        return attended.masked_fill(~some[:, None, None], 0)
