"""Named text rules under which a score is computed: what happens to references and to drafts before scoring.

The rules alone move BLEU-4 threefold, so scores of different protocols must never stand in one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from radscribe.errors import RadScribeError, unknown_name
from radscribe.text.cleaning import CLEANERS, is_cleaned
from radscribe.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Protocol:
    """Text rules of a score.

    Attributes:
        name: as it stands in provenance lines.
        description: one line.
        cleans: references and drafts pass through the cleaning rules of their benchmark.
        through_vocabulary: references also pass through the vocabulary and are cut.
    """

    name: str
    description: str
    cleans: bool
    through_vocabulary: bool

    def check(self, *, cleaning: str, vocabulary: Vocabulary | None, maximum_length: int | None) -> None:
        """Check that the protocol has what it needs; `reference` and `hypothesis` rely on it.

        Raises:
            RadScribeError: unknown cleaning rules; a vocabulary or maximum length missing or amiss.
        """
        if cleaning not in CLEANERS:
            raise unknown_name("text cleaning", cleaning, CLEANERS)
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
    ) -> str:
        """A reference report as it is scored.

        Args:
            text: the report section as written.
            cleaning: name of the cleaning rules in `CLEANERS`.
            vocabulary: of the training reports; needed by `r2gen`.
            maximum_length: ids including begin and end; needed by `r2gen`.

        Raises:
            RadScribeError: as `check`.
        """
        self.check(cleaning=cleaning, vocabulary=vocabulary, maximum_length=maximum_length)
        if self.through_vocabulary and vocabulary is not None and maximum_length is not None:
            return vocabulary.decode(vocabulary.encode(text, maximum_length)[1:])
        return " ".join(CLEANERS[cleaning](text).split()) if self.cleans else text

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
        return " ".join((text if is_cleaned(text) else CLEANERS[cleaning](text)).split())

    def truncation_rate(self, texts: Iterable[str], *, cleaning: str, maximum_length: int | None) -> float:
        """Share of references that lose words to the cut, 0 under a protocol that does not cut.

        Args:
            texts: the report sections as written.
            cleaning: name of the cleaning rules in `CLEANERS`.
            maximum_length: ids including begin and end.
        """
        if not self.through_vocabulary or maximum_length is None:
            return 0.0
        # The begin id takes one place; the end id may fall to the cut without the loss of a word.
        cut = [len(CLEANERS[cleaning](text).split()) > maximum_length - 1 for text in texts]
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
        Protocol("clean_full", "cleaned, never cut, every word kept", cleans=True, through_vocabulary=False),
        Protocol("raw", "the text as it is, never cut", cleans=False, through_vocabulary=False),
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
