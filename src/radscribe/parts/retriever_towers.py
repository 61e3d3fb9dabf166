"""The two towers of a retriever: images of a study and the text of a report to unit vectors that compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from radscribe.errors import RadScribeError
from radscribe.layers.contrastive import ImageTextMatching, mean_token
from radscribe.studies.study import Study
from radscribe.text.byte_level_tokenizer import train_tokenizer
from radscribe.text.cleaning import CLEANERS, CleaningName
from radscribe.vision.backbones import Backbone, BackboneConfig
from radscribe.vision.transforms import TransformConfig, evaluation_view, stack_views, stored_view
from radscribe.weights import without_bars

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Similarities are cosines, so that CLIP's bound on their scale is needed, which is 100.
_LOWEST_TEMPERATURE = 0.01
#: Studies or texts that are encoded side by side where nothing is learnt.
TOGETHER = 32
#: Sizes of a text encoder that starts from random weights, and most entries of its tokenizer.
_SMALL = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
_VOCABULARY_SIZE = 2048
#: What a configuration of `transformers` says of the files that it was read from.
_OF_FILES = ("_name_or_path", "_commit_hash", "transformers_version", "dtype")


def cleaned(text: str, cleaning: CleaningName) -> str:
    """A report as the text tower reads it: cleaned, in whole characters. Reports are the same if this is."""
    return CLEANERS[cleaning](text).encode(errors="replace").decode()


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text model with its tokenizer.

    Attributes:
        model: of `transformers`, without a head.
        tokenizer: puts the special tokens of the model around a text.
    """

    model: Any
    tokenizer: Tokenizer

    @classmethod
    def from_scratch(cls, texts: Sequence[str], maximum_length: int) -> TextEncoder:
        """A small BERT with random weights.

        Args:
            texts: what its byte-level tokenizer is made from.
            maximum_length: most tokens of a text.
        """
        from transformers import BertConfig, BertModel

        tokenizer = train_tokenizer(texts, _VOCABULARY_SIZE)
        config = BertConfig(
            **_SMALL,
            vocab_size=len(tokenizer),
            max_position_embeddings=maximum_length,
            pad_token_id=tokenizer.pad_token_id,
        )
        return cls(BertModel(config, add_pooling_layer=False), tokenizer.backend_tokenizer)

    @classmethod
    def published(cls, name: str) -> TextEncoder:
        """A text encoder of `transformers`.

        Args:
            name: a folder, or a name on the Hugging Face hub.

        Raises:
            RadScribeError: it is not there, could not be downloaded, lacks weights, is no encoder of texts,
                or has no fast tokenizer.
        """
        from transformers import AutoModel, AutoTokenizer

        hint = (
            "Give a text encoder in transformers format, a folder or a name on the hub, with --text_encoder; "
            "or leave the option out to train a small one from random weights"
        )
        try:
            with without_bars():
                model, report = AutoModel.from_pretrained(name, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # every hub client and every format fails in its own way
            raise RadScribeError(
                f"the text encoder '{name}' could not be loaded ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]})",
                hint,
            ) from error
        # Weights of a head are not needed, nor those of a pooler, which is not used.
        missing = [key for key in map(str, report["missing_keys"]) if not key.startswith("pooler.")]
        if strange := [*missing, *map(str, report["mismatched_keys"])]:
            raise RadScribeError(
                f"the text encoder '{name}' lacks {len(strange)} weights, such as {sorted(strange)[0]}", hint
            )
        if model.config.is_encoder_decoder or not hasattr(model.config, "vocab_size"):
            raise RadScribeError(f"'{name}' is a {model.config.model_type}, and no encoder of texts", hint)
        if not tokenizer.is_fast:
            raise RadScribeError(f"the tokenizer of '{name}' has no fast form", hint)
        return cls(model.float(), tokenizer.backend_tokenizer)

    @classmethod
    def of_config(cls, config: dict[str, Any], tokenizer: Tokenizer) -> TextEncoder:
        """An encoder of the sizes in `config`, with random weights.

        Args:
            config: what `config` of the encoder gave.
            tokenizer: of the encoder.
        """
        from transformers import AutoConfig, AutoModel

        return cls(AutoModel.from_config(AutoConfig.for_model(**config)), tokenizer)

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration, ready for JSON, without what it says of files that it was read from."""
        values = self.model.config.to_dict()
        return {name: value for name, value in values.items() if name not in _OF_FILES}

    def longest(self, wanted: int) -> int:
        """The most tokens of a text: `wanted`, or fewer where the model has no more positions."""
        return min(wanted, getattr(self.model.config, "max_position_embeddings", wanted))


class RetrieverTowers(nn.Module):
    """An image tower, a text tower, and the loss that draws the two together.

    The image tower is a backbone and a linear layer from the mean of the visual tokens of all views of a
    study; the text tower is an encoder and a linear layer from the mean of its tokens.

    Args:
        backbone: architecture of the image tower, and the weights that it starts from.
        text: the text encoder.
        transform: image geometry.
        width: of the vectors.
        maximum_length: most tokens of a text; what exceeds it is cut.
        cleaning: of the texts; see `cleaned`.

    Raises:
        RadScribeError: the backbone cannot be built, or takes views of another size only.
    """

    def __init__(
        self,
        backbone: BackboneConfig,
        text: TextEncoder,
        transform: TransformConfig,
        *,
        width: int,
        maximum_length: int,
        cleaning: CleaningName,
    ):
        super().__init__()
        self.transform = transform
        self.maximum_length = text.longest(maximum_length)
        self.cleaning = cleaning
        self.backbone = Backbone(backbone)
        stated = self.backbone.model.pretrained_cfg
        if stated.get("fixed_input_size") and stated["input_size"][-1] != transform.crop:
            side = stated["input_size"][-1]
            raise RadScribeError(
                f"{backbone.architecture} takes views of {side} pixels only, not of {transform.crop}",
                f"Give --image_size {side}, or choose a convolutional network with --architecture",
            )
        self.text_model = text.model
        if getattr(self.text_model, "pooler", None) is not None:
            self.text_model.pooler = None  # it is not used, and would be weights that never learn
        self.text = text
        text.tokenizer.no_padding()
        text.tokenizer.enable_truncation(self.maximum_length)
        self.image_projection = nn.Linear(self.backbone.channels, width)
        self.text_projection = nn.Linear(self.text_model.config.hidden_size, width)
        self.matching = ImageTextMatching(_LOWEST_TEMPERATURE)

    @property
    def temperature(self) -> float:
        """What similarities are divided by in the loss."""
        return (-self.matching.log_scale).exp().item()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.image_projection.weight.device

    def encode_images(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """Unit vectors `[studies, width]` of the views of studies.

        Args:
            views: uint8 grey `[studies, views, crop, crop]`.
            view_mask: bool `[studies, views]`, True for views that are there, at least one in each study.
        """
        visual = self.backbone(views.to(self.device), view_mask.to(self.device))
        return F.normalize(self.image_projection(mean_token(visual.tokens, visual.mask)), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors `[texts, width]` of reports as written."""
        encodings = self.text.tokenizer.encode_batch([cleaned(text, self.cleaning) for text in texts])
        rows = [torch.tensor(encoding.ids or [0]) for encoding in encodings]
        ids = pad_sequence(rows, batch_first=True).to(self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(ids.size(1), device=self.device) < lengths.unsqueeze(1)
        tokens = self.text_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return F.normalize(self.text_projection(mean_token(tokens, mask)), dim=-1)

    @torch.inference_mode()
    def vectors_of_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors float32 `[texts, width]` on the CPU, of any number of reports."""
        parts = [
            self.encode_texts(texts[start : start + TOGETHER]).float().cpu()
            for start in range(0, len(texts), TOGETHER)
        ]
        return torch.cat(parts)

    @torch.inference_mode()
    def vectors_of_studies(self, studies: Sequence[Study]) -> Tensor:
        """Unit vectors float32 `[studies, width]` on the CPU, of the views of any number of studies.

        Raises:
            RadScribeError: a view cannot be read, or stands in a store of another short side.
        """
        parts = []
        for start in range(0, len(studies), TOGETHER):
            chosen = studies[start : start + TOGETHER]
            views, mask = stack_views([self._views_of(study) for study in chosen])
            parts.append(self.encode_images(views, mask).float().cpu())
        return torch.cat(parts)

    def _views_of(self, study: Study) -> list[Tensor]:
        """The views of a study, uint8 `[crop, crop]` each."""
        pixels = [stored_view(view, self.transform).pixels for view in study.views]
        return [evaluation_view(of_view, self.transform) for of_view in pixels]
