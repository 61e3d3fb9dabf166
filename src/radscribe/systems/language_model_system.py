"""The common parts of systems with a frozen LLM, which reads visual embeddings in a prompt and writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from radscribe.decoding.search import Decoded, DecodingConfig, Leading, beams_of, decode_steps
from radscribe.layers.frozen_language_model import (
    Embedded,
    FrozenLanguageModel,
    LanguageModelConfig,
    Prompt,
)
from radscribe.systems.system import Draft, Evidence, System
from radscribe.text.cleaning import CLEANERS
from radscribe.text.language_model_files import LanguageModelRecord
from radscribe.text.language_model_tokenizer import LanguageModelTokenizer
from radscribe.text.prompts import REPORT_PROMPT
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import VisualTokens, share_among_views


class LanguageModelSystem(System):
    """A system that puts visual embeddings into the prompt of a frozen language model.

    Args:
        config: Configuration of the language model.
        vocabulary: Vocabulary of the training reports. Reports are cleaned by its rules; its words are not
            used, because the language model has its own.
        maximum_length: Training reports are cut to this many of the language model's tokens; the end is
            counted.

    Attributes:
        language_model: The frozen language model, which writes the reports.
        averaged: Whether visual embeddings are means over the views of a study.
        report_prompt: Texts before and after the visual embeddings.
    """

    language_model: FrozenLanguageModel
    averaged: bool = False
    report_prompt: tuple[str, str] = REPORT_PROMPT

    def __init__(self, config: LanguageModelConfig, vocabulary: Vocabulary, maximum_length: int):
        super().__init__()
        self.language_model = FrozenLanguageModel(config)
        self.cleaning = vocabulary.cleaning
        self.maximum_length = maximum_length

    @property
    def tokenizer(self) -> LanguageModelTokenizer:
        """See `System.tokenizer`."""
        return self.language_model.tokenizer

    def own_state_dict(self) -> dict[str, Tensor]:
        """See `System.own_state_dict`; only the parts of the language model that train, such as adapters."""
        prefix, trained = "language_model.", self.language_model.trainable_names()
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith(prefix) or name.removeprefix(prefix) in trained
        }

    def frozen_files(self) -> LanguageModelRecord:
        """See `System.frozen_files`."""
        return self.language_model.files.record()

    @abstractmethod
    def visual_embeddings(self, views: Tensor, view_mask: Tensor) -> VisualTokens:
        """The views of each study as visual tokens that are as wide as the language model's embeddings.

        Args:
            views: The views, uint8 grey `[studies, views, height, width]`.
            view_mask: bool `[studies, views]`, True for views that are there.
        """

    def on_views(self, attention: Tensor, view_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Spread attention to the visual embeddings `[studies, ..., tokens]` over the views.

        Attention to an averaged embedding is divided among the views that were averaged.

        Returns:
            The attention `[studies, ..., views * tokens per view]`, and the mask of tokens as in `Evidence`.
        """
        if self.averaged:
            attention = share_among_views(attention, view_mask)
        per_view = attention.size(-1) // view_mask.size(1)
        return attention, view_mask.unsqueeze(-1).expand(-1, -1, per_view).flatten(1)

    def by_image(self, visual: VisualTokens, view_mask: Tensor) -> Tensor:
        """Visual embeddings of each image by itself `[images, patches, width]`, study after study.

        An image is a view that is there; if views are averaged, it is the mean over the views of a study.

        Args:
            visual: The result of `visual_embeddings`.
            view_mask: bool `[studies, views]`, True for views that are there.
        """
        if self.averaged:
            return visual.tokens
        return visual.tokens.unflatten(1, (view_mask.size(1), -1))[view_mask]

    def encode_report(self, report: str) -> list[int]:
        """See `System.encode_report`."""
        cleaned = " ".join(CLEANERS[self.cleaning](report).split())
        return self.language_model.encode(cleaned, self.maximum_length)

    def prompt(self, visual: VisualTokens) -> Prompt:
        """The prompt with the visual embeddings of each study."""
        before, after = self.report_prompt
        return self.language_model.prompt(before, Embedded(visual.tokens, visual.mask), after)

    @torch.inference_mode()
    def generate(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Draft:
        """See `System.generate`."""
        *_, last = self._decode(views, view_mask, decoding)
        return self._draft(last())

    @torch.inference_mode()
    def stream(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Iterator[Draft]:
        """See `System.stream`."""
        for leading in self._decode(views, view_mask, decoding):
            yield self._draft(leading())

    @torch.inference_mode()
    def explain(self, views: Tensor, view_mask: Tensor, tokens: Tensor) -> Evidence:
        """See `System.explain`; the attention to the visual embeddings is scaled to a sum of 1."""
        visual = self.visual_embeddings(views, view_mask)
        prompt = self.prompt(visual)
        inputs = torch.nn.functional.pad(tokens[:, :-1], (1, 0))
        attention = self.language_model.attention(prompt, inputs).float()
        attention = attention / attention.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        attention, mask = self.on_views(attention, view_mask)
        return Evidence(mask, visual.grid, attention, maps={})

    def pieces(self, tokens: list[int]) -> list[str]:
        """See `System.pieces`."""
        return self.language_model.tokenizer.pieces(self.language_model.ids(tokens))

    def _decode(self, views: Tensor, view_mask: Tensor, decoding: DecodingConfig) -> Iterator[Leading]:
        prompt = self.prompt(self.visual_embeddings(views, view_mask))
        model = self.language_model
        state = model.start(prompt, beams_of(decoding))
        return decode_steps(model.step, state, views.size(0), decoding, prompt.inside.embeddings.device)

    def _draft(self, decoded: Decoded) -> Draft:
        model = self.language_model
        return Draft.of(decoded, lambda row: model.tokenizer.decode(model.ids(row)))
