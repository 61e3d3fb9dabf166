"""Protocols: named text rules for references and drafts under which a score is computed.

The rules alone change BLEU-4 threefold, so scores of different protocols must never be in one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from radscribe.errors import RadScribeError, unknown_name
from radscribe.text.cleaning import CLEANERS, is_cleaned
from radscribe.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

#: The names of `PROTOCOLS`.
ProtocolName = Literal["r2gen", "r2gengpt", "clean_full", "raw"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Text rules of a score.

    Attributes:
        name: Name in provenance lines.
        description: Description in one line.
        cleans: Whether references and drafts pass through the cleaning rules of their benchmark.
        through_vocabulary: Whether references also pass through the vocabulary and are cut.
        through_tokenizer: Whether references also pass through the tokenizer of a language model and are cut.
    """

    name: str
    description: str
    cleans: bool
    through_vocabulary: bool = False
    through_tokenizer: bool = False

    @property
    def cuts(self) -> bool:
        """Whether references are cut at the maximum length."""
        return self.through_vocabulary or self.through_tokenizer

    def check(
        self,
        *,
        cleaning: str,
        vocabulary: Vocabulary | None,
        maximum_length: int | None,
        tokenizer: LanguageModelTokenizer | None = None,
    ) -> None:
        """Check that the protocol has what it needs; `reference` and `hypothesis` rely on it.

        Raises:
            RadScribeError: the cleaning rules are unknown, or a vocabulary, a tokenizer or a maximum length
                is missing or wrong.
        """
        if cleaning not in CLEANERS:
            raise unknown_name("text cleaning", cleaning, CLEANERS)
        if self.through_tokenizer:
            if tokenizer is None:
                raise RadScribeError(
                    f"protocol {self.name} needs the tokenizer of a language model",
                    "Give its folder or name with --tokenizer, or score a run that writes with one",
                )
            if maximum_length is None or maximum_length < 1:
                raise RadScribeError(
                    f"protocol {self.name} needs a maximum length of at least 1 token",
                    "R2GenGPT uses 60 (IU X-Ray) and 100 (MIMIC-CXR)",
                )
        if not self.through_vocabulary:
            return
        if vocabulary is None:
            raise RadScribeError(
                f"protocol {self.name} needs the vocabulary of the training reports",
                "Give a vocabulary.json or the training set, or choose protocol clean_full",
            )
        if vocabulary.cleaning != cleaning:
            raise RadScribeError(
                f"the vocabulary was built with cleaning '{vocabulary.cleaning}', not '{cleaning}'",
                f"Score with cleaning '{vocabulary.cleaning}' or give a vocabulary built with '{cleaning}'",
            )
        if maximum_length is None or maximum_length < 2:
            raise RadScribeError(
                f"protocol {self.name} needs a maximum length of at least 2 ids",
                "The benchmarks use 60 (IU X-Ray) and 100 (MIMIC-CXR), begin and end included",
            )

    def reference(
        self,
        text: str,
        *,
        cleaning: str,
        vocabulary: Vocabulary | None = None,
        maximum_length: int | None = None,
        tokenizer: LanguageModelTokenizer | None = None,
    ) -> str:
        """A reference report as it is scored.

        Args:
            text: Report section as it was written.
            cleaning: Name of the cleaning rules in `CLEANERS`.
            vocabulary: Vocabulary of the training reports; needed by `r2gen`.
            maximum_length: Largest number of ids including begin and end, needed by `r2gen`; or largest
                number of tokens of the language model, needed by `r2gengpt`.
            tokenizer: Tokenizer of a language model; needed by `r2gengpt`.

        Raises:
            RadScribeError: see `check`.
        """
        self.check(
            cleaning=cleaning, vocabulary=vocabulary, maximum_length=maximum_length, tokenizer=tokenizer
        )
        if self.through_vocabulary and vocabulary is not None and maximum_length is not None:
            return vocabulary.decode(vocabulary.encode(text, maximum_length)[1:])
        cleaned = " ".join(CLEANERS[cleaning](text).split()) if self.cleans else text
        if self.through_tokenizer and tokenizer is not None and maximum_length is not None:
            return tokenizer.cut(cleaned, maximum_length)
        return cleaned

    def hypothesis(self, text: str, *, cleaning: str) -> str:
        """A draft as it is scored: cleaned unless it is cleaned already, and never cut.

        Args:
            text: Text that the system wrote; drafts that were written with a vocabulary do not change.
            cleaning: Name of the cleaning rules in `CLEANERS`.

        Raises:
            RadScribeError: the cleaning rules are unknown.
        """
        if cleaning not in CLEANERS:
            raise unknown_name("text cleaning", cleaning, CLEANERS)
        if not self.cleans:
            return text
        return " ".join((text if is_cleaned(text, cleaning) else CLEANERS[cleaning](text)).split())

    def truncation_rate(
        self,
        texts: Iterable[str],
        *,
        cleaning: str,
        maximum_length: int | None,
        tokenizer: LanguageModelTokenizer | None = None,
    ) -> float:
        """Share of references that lose words when they are cut; 0 for a protocol that does not cut.

        Args:
            texts: Report sections as they were written.
            cleaning: Name of the cleaning rules in `CLEANERS`.
            maximum_length: See `reference`.
            tokenizer: See `reference`.
        """
        if not self.cuts or maximum_length is None:
            return 0.0
        cleaned = [CLEANERS[cleaning](text).split() for text in texts]
        if tokenizer is not None and self.through_tokenizer:
            cut = [len(tokenizer.encode(" ".join(words))) > maximum_length for words in cleaned]
        else:
            # The begin id takes one place; if only the end id is cut, no word is lost.
            cut = [len(words) > maximum_length - 1 for words in cleaned]
        return sum(cut) / len(cut) if cut else 0.0


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "r2gen",
            "cleaned; references pass through the training vocabulary and are cut at the maximum length",
            cleans=True,
            through_vocabulary=True,
        ),
        Protocol(
            "r2gengpt",
            "cleaned; references are cut at the maximum length in tokens of a language model",
            cleans=True,
            through_tokenizer=True,
        ),
        Protocol("clean_full", "cleaned, never cut, every word kept", cleans=True),
        Protocol("raw", "the text as it is, never cut", cleans=False),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        RadScribeError: the name is unknown; the message lists those that exist.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
