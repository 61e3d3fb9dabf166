"""The word vocabulary of the systems that are trained from scratch, saved with the rules that made it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from radscribe.errors import RadScribeError, unknown_name, warn
from radscribe.text.cleaning import CLEANERS, UNKNOWN_TOKEN

#: If more than this share of words is rare, building a vocabulary warns that texts will say little.
MANY_RARE = 0.5


@dataclass(frozen=True)
class Vocabulary:
    """Words of cleaned reports, split at white space, with ids from 1; 0 is padding, begin and end (R2Gen).

    Attributes:
        tokens: Entries, sorted and without repeats, with `<unk>`; the id of `tokens[i]` is `i + 1`.
        cleaning: Name of the cleaning rules in `CLEANERS` that texts pass through before they are encoded.
        minimum_count: Number of times that a word had to occur to be kept.
    """

    tokens: tuple[str, ...]
    cleaning: str
    minimum_count: int
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.cleaning not in CLEANERS:
            raise unknown_name("text cleaning", self.cleaning, CLEANERS)
        if UNKNOWN_TOKEN not in self.tokens or list(self.tokens) != sorted(set(self.tokens)):
            raise RadScribeError(
                f"a vocabulary needs {UNKNOWN_TOKEN} and sorted tokens without repeats",
                "Build it with Vocabulary.build or load the vocabulary.json that training saved",
            )
        object.__setattr__(self, "_ids", {token: index for index, token in enumerate(self.tokens, start=1)})

    @classmethod
    def build(cls, reports: Iterable[str], cleaning: str = "iu_xray", minimum_count: int = 3) -> Vocabulary:
        """Collect the words of training reports. Warns where more than half of all words become `<unk>`.

        Args:
            reports: Reports as they were written, of the training split only.
            cleaning: Name of the cleaning rules, such as `iu_xray`, `mimic_cxr` or `none`.
            minimum_count: Number of times that a word must occur to be kept; rarer words become `<unk>`. The
                benchmarks use 3 (IU X-Ray) and 10 (MIMIC-CXR).

        Raises:
            RadScribeError: the cleaning rules are unknown.
        """
        if cleaning not in CLEANERS:
            raise unknown_name("text cleaning", cleaning, CLEANERS)
        clean = CLEANERS[cleaning]
        counts = Counter(token for report in reports for token in clean(report).split())
        kept = {token for token, count in counts.items() if count >= minimum_count}
        words = Counter({token: count for token, count in counts.items() if token != "."})
        rare = sum(count for token, count in words.items() if token not in kept)
        if rare > MANY_RARE * words.total():
            warn(
                f"{rare:,} of the {words.total():,} words of the training reports occur fewer than "
                f"{minimum_count} times and become {UNKNOWN_TOKEN}",
                "A system learns nothing from them. Words are what blanks separate: text without blanks, "
                "as in Chinese, must be split into words first. Otherwise prepare more reports, or lower "
                "--data.minimum_count",
            )
        return cls(tuple(sorted(kept | {UNKNOWN_TOKEN})), cleaning, minimum_count)

    def __len__(self) -> int:
        """Number of entries with an id above 0."""
        return len(self.tokens)

    @property
    def logits(self) -> int:
        """Width of a system's output layer: one for each entry, and one for id 0."""
        return len(self.tokens) + 1

    def encode(self, report: str, maximum_length: int) -> list[int]:
        """Ids of a report: 0, its words, 0. They are cut to `maximum_length`, so a cut report loses its end.

        Args:
            report: Report as it was written; it is cleaned here.
            maximum_length: Largest number of ids, begin and end included; the benchmarks use 60 (IU X-Ray)
                and 100 (MIMIC-CXR).
        """
        unknown = self._ids[UNKNOWN_TOKEN]
        words = CLEANERS[self.cleaning](report).split()
        return [0, *(self._ids.get(word, unknown) for word in words), 0][:maximum_length]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first 0.

        Args:
            ids: Ids as a system generates them. For an encoded report pass `ids[1:]`, because it begins with
                0.

        Raises:
            RadScribeError: the vocabulary does not have one of the ids.
        """
        words = []
        for index in ids:
            if index == 0:
                break
            if not 0 < index <= len(self.tokens):
                raise RadScribeError(
                    f"id {index} is not in this vocabulary of {len(self.tokens)} entries",
                    "Decode with the vocabulary that was saved with the system",
                )
            words.append(self.tokens[index - 1])
        return " ".join(words)

    def save(self, path: Path | str) -> None:
        """Write the vocabulary and the rules that made it as JSON."""
        content = {"cleaning": self.cleaning, "minimum_count": self.minimum_count, "tokens": self.tokens}
        Path(path).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Vocabulary:
        """Read a vocabulary that `save` wrote.

        Raises:
            RadScribeError: there is no such file, or it holds no vocabulary.
        """
        hint = "Give the vocabulary.json that training saved"
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise RadScribeError(f"cannot read vocabulary {path}: {error.strerror}", hint) from error
        except (ValueError, RecursionError) as error:
            raise RadScribeError(f"vocabulary {path} is not valid JSON: {error}", hint) from error
        expected = {"cleaning": str, "minimum_count": int, "tokens": list}
        wrong = [
            name
            for name, kind in expected.items()
            if not isinstance(content, dict) or not isinstance(content.get(name), kind)
        ]
        if wrong or not all(isinstance(token, str) for token in content["tokens"]):
            raise RadScribeError(f"vocabulary {path} lacks a valid {' and '.join(wrong or ['tokens'])}", hint)
        try:
            return cls(tuple(content["tokens"]), content["cleaning"], content["minimum_count"])
        except RadScribeError as error:
            raise RadScribeError(f"vocabulary {path}: {error}") from error
