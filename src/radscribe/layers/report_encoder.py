"""The text model of BLIP (Li et al., ICML 2022) as an encoder of reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from radscribe.errors import RadScribeError
from radscribe.ranges import COUNT_OR_NONE, LAYERS, LENGTH, WIDTH, check_divisible, check_fields
from radscribe.weights import load_pretrained

_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")


@dataclass(kw_only=True, slots=True)
class ReportEncoderConfig:
    """Sizes of the encoder (by default those of BLIP base), and the weights that it starts from.

    Attributes:
        weights: Weights to start from: a name on the Hugging Face hub, a folder in `transformers` format
            (`BlipForConditionalGeneration`) of these sizes, or `none` (random weights).
        words: Number of entries of the vocabulary; 0 takes the tokenizer of the language model.
        width: Width of the hidden states.
        layers: Number of layers of the encoder.
        heads: Number of attention heads of each layer.
        feed_forward: Hidden width of the feed-forward layers.
        positions: Largest number of tokens of a text.
    """

    weights: str = "Salesforce/blip-image-captioning-base"
    words: int = 30524
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072
    positions: int = 512

    def __post_init__(self) -> None:
        prefix = "system.report_encoder."
        check_fields(
            self,
            prefix,
            words=COUNT_OR_NONE,
            width=WIDTH,
            layers=LAYERS,
            heads=WIDTH,
            feed_forward=WIDTH,
            positions=LENGTH,
        )
        check_divisible(f"{prefix}width", self.width, f"{prefix}heads", self.heads)

    def build(self, language_model_words: int = 1) -> ReportEncoder:
        """Build the encoder; see `ReportEncoder`."""
        return ReportEncoder(self, language_model_words)


class ReportEncoder(nn.Module):
    """Turns token ids of reports into features.

    Args:
        config: Sizes, and the weights to start from.
        words: Number of entries of the language model's tokenizer.

    Attributes:
        width: Width of a feature.
        positions: Largest number of tokens of a text.
    """

    def __init__(self, config: ReportEncoderConfig, words: int):
        from transformers import BlipForConditionalGeneration, BlipTextConfig
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        super().__init__()
        self.width, self.positions = config.width, config.positions
        self._tokenizer: Any = None  # only training needs it
        sizes = BlipTextConfig(
            vocab_size=config.words or words,
            hidden_size=config.width,
            encoder_hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.positions,
            bos_token_id=0,
            sep_token_id=0,
        )
        if config.weights == "none":
            self.model = BlipTextModel(sizes, add_pooling_layer=False)
        else:
            field = "system.report_encoder.weights"
            self.model = load_pretrained(
                BlipForConditionalGeneration, None, config.weights, field
            ).text_decoder.bert
            wanted, found = (
                [getattr(source, name) for name in _SIZES] for source in (sizes, self.model.config)
            )
            if wanted != found:
                raise RadScribeError(
                    f"the text model of '{config.weights}' has {dict(zip(_SIZES, found, strict=True))}",
                    "Set the same sizes with --system.report_encoder.width and so on",
                )
        for layer in self.model.encoder.layer:
            del layer.crossattention  # an encoder attends only to its own input

    def tokenize(self, text: str, weights: str) -> list[int]:
        """Ids of a text by the tokenizer in the folder of the weights, cut to `positions`."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(weights)
        return self._tokenizer(text, truncation=True, max_length=self.positions)["input_ids"]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features `[texts, length, width]`.

        Args:
            ids: int `[texts, length]`, already cut to `positions`.
            mask: bool `[texts, length]`, True for tokens that are there.
        """
        outputs = self.model(input_ids=ids, attention_mask=mask.long(), is_decoder=False)
        return outputs.last_hidden_state
