"""The two towers of a retriever, which turn the images and the report of a study into unit vectors."""

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
from radscribe.text.byte_level_tokenizer import train_tokenizer
from radscribe.text.cleaning import CLEANERS, CleaningName
from radscribe.vision.backbones import Backbone, BackboneConfig, check_crop
from radscribe.vision.transforms import TransformConfig
from radscribe.weights import load_whole_model, loading

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: CLIP's lower limit of the temperature.
_LOWEST_TEMPERATURE = 0.01
#: Number of studies or texts that are encoded at once where nothing is learnt.
TOGETHER = 32
#: Sizes of a text encoder that starts from random weights, and the largest size of its vocabulary.
_SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_VOCABULARY_SIZE = 2048
#: Fields in which a configuration of `transformers` describes the files that it was read from.
_OF_FILES = ("_name_or_path", "_commit_hash", "transformers_version", "dtype")


def cleaned(text: str, cleaning: CleaningName) -> str:
    """A report as the text tower reads it. Reports whose cleaned texts are the same count as one report."""
    # Lone surrogates, which stand for bytes that are no UTF-8, have no place in a tokenizer.
    return CLEANERS[cleaning](text).encode(errors="replace").decode()


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text model with its tokenizer.

    Attributes:
        model: Model of `transformers` without a head.
        tokenizer: Its tokenizer, which adds the special tokens of the model to a text.
    """

    model: Any
    tokenizer: Tokenizer

    @classmethod
    def from_scratch(cls, texts: Sequence[str], maximum_length: int) -> TextEncoder:
        """A small BERT with random weights.

        Args:
            texts: Texts that its byte-level tokenizer is made from.
            maximum_length: Largest number of tokens of a text.
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
            name: A folder, or a name on the Hugging Face hub.

        Raises:
            RadScribeError: it is not there, could not be downloaded, needs code of its own, lacks weights, is
                no encoder of texts, or has no fast tokenizer.
        """
        from transformers import AutoTokenizer

        hint = (
            "Give a text encoder in transformers format, a folder or a name on the hub, with --text_encoder; "
            "or leave the option out to train a small one from random weights"
        )
        model = load_whole_model(name, "text encoder", hint)
        with loading(f"the text encoder '{name}'", hint):
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        if model.config.is_encoder_decoder or not hasattr(model.config, "vocab_size"):
            raise RadScribeError(f"'{name}' is a {model.config.model_type}, and no encoder of texts", hint)
        if not tokenizer.is_fast:
            raise RadScribeError(f"the tokenizer of '{name}' has no fast form", hint)
        return cls(model.float(), tokenizer.backend_tokenizer)

    @classmethod
    def of_config(cls, config: dict[str, Any], tokenizer: Tokenizer) -> TextEncoder:
        """An encoder of the sizes in `config`, with random weights.

        Args:
            config: Configuration that `config` gave.
            tokenizer: Tokenizer of the encoder.
        """
        from transformers import AutoConfig, AutoModel

        return cls(AutoModel.from_config(AutoConfig.for_model(**config)), tokenizer)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the model, ready for JSON, without the files that it was read from."""
        values = self.model.config.to_dict()
        return {name: value for name, value in values.items() if name not in _OF_FILES}

    def longest(self, wanted: int) -> int:
        """The largest number of tokens of a text: `wanted`, or fewer if the model has fewer positions."""
        positions = getattr(self.model.config, "max_position_embeddings", wanted)
        # RoBERTa and its relatives count positions from the one after that of the padding.
        padding = getattr(getattr(self.model, "embeddings", None), "padding_idx", None)
        return min(wanted, positions if padding is None else positions - padding - 1)


class RetrieverTowers(nn.Module):
    """An image tower, a text tower, and the loss that makes their vectors similar.

    The image tower is a backbone and a linear layer from the mean of the visual tokens of all views of a
    study; the text tower is an encoder and a linear layer from the mean of its tokens.

    Args:
        backbone: Architecture of the image tower, and the weights that it starts from.
        text: Text encoder of the text tower.
        transform: Image geometry.
        width: Width of the vectors.
        maximum_length: Largest number of tokens of a text; the rest of a text is cut off.
        cleaning: Cleaning of the texts; see `cleaned`.

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
        self.cleaning = cleaning
        self.backbone = Backbone(backbone)
        check_crop(self.backbone, backbone.architecture, transform.crop)
        self.text = text
        self.text_model = text.model
        if getattr(self.text_model, "pooler", None) is not None:
            self.text_model.pooler = None  # it is not used, and its weights would never learn
        self.maximum_length = text.longest(maximum_length)
        text.tokenizer.no_padding()
        text.tokenizer.enable_truncation(self.maximum_length)
        self.image_projection = nn.Linear(self.backbone.channels, width)
        self.text_projection = nn.Linear(self.text_model.config.hidden_size, width)
        self.matching = ImageTextMatching(_LOWEST_TEMPERATURE)

    @property
    def temperature(self) -> float:
        """The temperature by which the loss divides the cosines."""
        return (-self.matching.log_scale).exp().item()

    @property
    def device(self) -> torch.device:
        """The device that the towers compute on."""
        return self.image_projection.weight.device

    def encode_images(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """Unit vectors `[studies, width]` of studies.

        Args:
            views: Views, uint8 grey `[studies, views, crop, crop]`.
            view_mask: bool `[studies, views]`, True for views that exist; each study has at least one.
        """
        visual = self.backbone(views.to(self.device), view_mask.to(self.device))
        return F.normalize(self.image_projection(mean_token(visual.tokens, visual.mask)), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors `[texts, width]` of reports as written."""
        encodings = self.text.tokenizer.encode_batch([cleaned(text, self.cleaning) for text in texts])
        # A tokenizer without special tokens gives no token for an empty text.
        rows = [torch.tensor(encoding.ids or [0]) for encoding in encodings]
        ids = pad_sequence(rows, batch_first=True).to(self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(ids.size(1), device=self.device) < lengths.unsqueeze(1)
        tokens = self.text_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return F.normalize(self.text_projection(mean_token(tokens, mask)), dim=-1)

    @torch.inference_mode()
    def vectors_of_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors float32 `[texts, width]` on the CPU, of any number of reports as written."""
        return torch.cat(
            [
                self.encode_texts(texts[start : start + TOGETHER]).float().cpu()
                for start in range(0, len(texts), TOGETHER)
            ]
        )

    @torch.inference_mode()
    def vectors_of_views(self, views: Tensor, view_mask: Tensor) -> Tensor:
        """Unit vectors float32 `[studies, width]` on the CPU; see `encode_images`."""
        return self.encode_images(views, view_mask).float().cpu()
