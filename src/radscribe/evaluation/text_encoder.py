"""Encoders of texts from a local folder, for metrics that compare vectors of words or of entities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radscribe.errors import RadScribeError

if TYPE_CHECKING:
    import torch

_BATCH = 64


class TextEncoder:
    """A `transformers` encoder and its tokenizer, in evaluation mode on the CPU.

    Attributes:
        tokenizer: The tokenizer.
    """

    def __init__(self, folder: Path, *, layers: int | None = None, longest: int = 512):
        """Load an encoder.

        Args:
            folder: Folder with the model and its tokenizer, as `save_pretrained` writes it.
            layers: Number of the layers that are kept, from the first; all by default.
            longest: Largest number of tokens of a text; longer texts are cut.

        Raises:
            RadScribeError: the folder holds no encoder with so many layers.
        """
        from transformers import AutoModel, AutoTokenizer

        hint = "Put an encoder and its tokenizer there, as save_pretrained writes them"
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True).float().eval()
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise RadScribeError(f"'{folder}' holds no encoder that can be loaded: {reason}", hint) from error
        if layers is not None:
            part: Any = getattr(self._model, "encoder", None) or getattr(self._model, "transformer", None)
            blocks = getattr(part, "layer", [])
            if len(blocks) < layers:
                raise RadScribeError(
                    f"the encoder in '{folder}' has {len(blocks)} layers, and {layers} are needed", hint
                )
            del blocks[layers:]
        self._longest = min(longest, self.tokenizer.model_max_length)
        self._begins_with_blank = self._model.config.model_type == "roberta"

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, special tokens included; a text of blanks has these alone.

        RoBERTa reads the first word like every other, with a blank before it, as BERTScore does.
        """
        text = text.strip()
        if text and self._begins_with_blank:
            text = f" {text}"
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=self._longest)["input_ids"]
        return ids

    def vectors(self, texts: Sequence[str]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Token ids of each text, and their vectors in the last layer that was kept `[tokens, channels]`."""
        import torch

        everything = [self.tokens(text) for text in texts]
        padding = self.tokenizer.pad_token_id
        for first in range(0, len(everything), _BATCH):
            batch = everything[first : first + _BATCH]
            longest = max(map(len, batch))
            ids = torch.tensor([row + [padding] * (longest - len(row)) for row in batch])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
            with torch.inference_mode():
                hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            for row, vectors in zip(batch, hidden, strict=True):
                yield row, vectors[: len(row)]
