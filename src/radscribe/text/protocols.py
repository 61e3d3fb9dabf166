"""Named text rules under which a score is computed: what happens to references and to drafts before scoring.

The rules alone move BLEU-4 threefold, so scores of different protocols must never stand in one table.
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
        name: as it stands in provenance lines.
        description: one line.
        cleans: references and drafts pass through the cleaning rules of their benchmark.
        through_vocabulary: references also pass through the vocabulary and are cut.
        through_tokenizer: references also pass through the tokenizer of a language model and are cut.
    """

    name: str
    description: str
    cleans: bool
    through_vocabulary: bool = False
    through_tokenizer: bool = False

    @property
    def cuts(self) -> bool:
        """Whether references are cut."""
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
            RadScribeError: unknown cleaning rules; a vocabulary, tokenizer or maximum length missing or
                amiss.
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
            text: the report section as written.
            cleaning: name of the cleaning rules in `CLEANERS`.
            vocabulary: of the training reports; needed by `r2gen`.
            maximum_length: ids including begin and end, needed by `r2gen`; or tokens of the language model,
                needed by `r2gengpt`.
            tokenizer: of a language model; needed by `r2gengpt`.

        Raises:
            RadScribeError: as `check`.
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
        """A draft as it is scored: cleaned unless it has that form already, and never cut.

        Args:
            text: what the system wrote; drafts written in a vocabulary pass unchanged.
            cleaning: name of the cleaning rules in `CLEANERS`.

        Raises:
            RadScribeError: unknown cleaning rules.
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
        """Share of references that lose words to the cut, 0 under a protocol that does not cut.

        Args:
            texts: the report sections as written.
            cleaning: name of the cleaning rules in `CLEANERS`.
            maximum_length: see `reference`.
            tokenizer: see `reference`.
        """
        if not self.cuts or maximum_length is None:
            return 0.0
        cleaned = [CLEANERS[cleaning](text).split() for text in texts]
        if tokenizer is not None and self.through_tokenizer:
            cut = [len(tokenizer.encode(" ".join(words))) > maximum_length for words in cleaned]
        else:
            # The begin id takes one place; the end id may fall to the cut without the loss of a word.
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
    """A protocol by name.

    Raises:
        RadScribeError: unknown name; the message lists those that exist.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
