"""The tokenizer of a language model, with one interface for the few things that differ between families.

Texts are tokenized without special tokens; a caller that needs a begin or an end adds its id. Llama begins
with `<s>`, GPT-2 begins and ends with the same `<|endoftext|>`, Qwen has no begin at all. No padding token is
ever needed, because padding is always masked.
"""

from __future__ import annotations

from collections.abc import Sequence

from radscribe.errors import RadScribeError
from radscribe.text.language_model_files import LanguageModelFiles

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_COMPLETE = "Its folder needs the files that save_pretrained of the tokenizer writes"
#: Character that stands for bytes that are no complete character (yet).
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class LanguageModelTokenizer:
    """Turns texts into ids, and ids into texts.

    Args:
        files: Files of the language model, of which those of the tokenizer are read.

    Attributes:
        name: Name of the language model.
        begin: Ids that come before everything else; empty if the model has no begin.
        end: Id that ends a report.

    Raises:
        RadScribeError: there is no tokenizer, or it has no end.
    """

    def __init__(self, files: LanguageModelFiles):
        from transformers import AutoTokenizer

        self.name = files.name
        # Without any of these files, transformers makes an empty tokenizer and says nothing.
        if not any((files.folder / name).is_file() for name in _VOCABULARIES):
            raise RadScribeError(f"the language model '{files.name}' has no tokenizer", _COMPLETE)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(files.folder)
        except Exception as error:  # each tokenizer fails in its own way
            raise RadScribeError(
                f"the tokenizer of '{files.name}' cannot be loaded ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]})",
                _COMPLETE,
            ) from error
        if self._tokenizer.eos_token_id is None:
            raise RadScribeError(
                f"the tokenizer of '{files.name}' has no end-of-text token",
                "Set eos_token in its tokenizer_config.json",
            )
        begin = self._tokenizer.bos_token_id
        self.begin: list[int] = [] if begin is None else [begin]
        self.end: int = self._tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without begin and end."""
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens and without blanks around it."""
        return self._decode(ids).strip()

    def cut(self, text: str, maximum_length: int) -> str:
        """The text, cut to at most `maximum_length` ids."""
        return self.decode(self.encode(text)[:maximum_length])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The part of `decode(ids)` that each id adds; joined, the parts are that text.

        An id may hold only a part of a character; the character then belongs to the id that completes it.
        """
        text = self.decode(ids)
        pieces, given = [], 0
        for count in range(1, len(ids) + 1):
            so_far = text if count == len(ids) else self._decode(ids[:count]).lstrip().rstrip(_REPLACEMENT)
            # The end of a decoded beginning may differ from the whole text; only the common part counts.
            reached = max(given, _common_length(so_far, text))
            pieces.append(text[given:reached])
            given = reached
        return pieces

    def _decode(self, ids: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )


def _common_length(first: str, second: str) -> int:
    """Number of characters that two texts have in common at their beginning."""
    for length, (ours, theirs) in enumerate(zip(first, second, strict=False)):
        if ours != theirs:
            return length
    return min(len(first), len(second))
