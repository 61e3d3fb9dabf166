"""The phrase table: phrases of reports that go with an observation, by pointwise mutual information (PMI).

CmEAA (section 2.2) reads them beside the image. The directory of a phrase table has

phrases.json       the phrases of each observation and polarity, which the table is loaded from
phrases.csv        the same as a table for spreadsheets, one row per phrase
part.json          where the table came from, and the hashes of these two; see `Part`
pretraining.json   how the table was made, and how much its phrases depend on the study
MODEL_CARD.md      what the table is, and what it must not be used for
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from radscribe.errors import RadScribeError, unknown_name
from radscribe.files import read_json_object
from radscribe.observations import OBSERVATIONS, ObservationState
from radscribe.parts.part import Part, make_command

KIND = "phrases"
PHRASES = "phrases.json"
TABLE = "phrases.csv"
#: The files that are compared with their hashes.
FILES = (PHRASES, TABLE)

#: Whether a study has an observation (`positive`) or is said not to have it (`negative`).
Polarity = Literal["positive", "negative"]
POLARITIES: tuple[Polarity, ...] = get_args(Polarity)
#: An observation and its polarity: the key of a list of phrases.
Key = tuple[str, Polarity]

#: No Finding is compatible with these, as in the CheXpert label files.
_NO_FINDINGS = frozenset({"No Finding", "Support Devices"})


def polarities(states: Mapping[str, ObservationState]) -> dict[str, Polarity]:
    """The polarity of each observation that a study says something of, in the order of `OBSERVATIONS`.

    Present and uncertain are positive, absent is negative, and what is not mentioned has no polarity. No
    Finding, which the labeller never calls absent, is also negative where another observation than Support
    Devices is positive.

    Args:
        states: State by observation; an observation without a state counts as not mentioned.

    Raises:
        RadScribeError: a name is not one of the 14 observations.
    """
    for name in states:
        _check_observation(name)
    of_state: dict[str, Polarity] = {"present": "positive", "uncertain": "positive", "absent": "negative"}
    found = {name: of_state.get(states.get(name, "not_mentioned")) for name in OBSERVATIONS}
    abnormal = {name for name, polarity in found.items() if polarity == "positive"} - _NO_FINDINGS
    if abnormal and found["No Finding"] is None:
        found["No Finding"] = "negative"
    return {name: polarity for name, polarity in found.items() if polarity}


def _check_observation(name: str) -> None:
    if name not in OBSERVATIONS:
        raise unknown_name("observation", name, OBSERVATIONS)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that goes with an observation.

    Attributes:
        phrase: Its words, separated by blanks.
        pmi: Pointwise mutual information of phrase and observation, in bits, to six decimals.
        count_with_observation: Its count in reports with the observation in that polarity.
        count: Its count in all reports; see `PhraseTable.counted`.
    """

    phrase: str
    pmi: float
    count_with_observation: int
    count: int


@dataclass(frozen=True, slots=True)
class PhraseList:
    """The phrases of one observation and polarity.

    Attributes:
        reports: Number of reports with the observation in that polarity.
        phrases: The phrases, highest PMI first.
    """

    reports: int
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True)
class PhraseTable:
    """Phrases by observation and polarity.

    Attributes:
        counted: What the counts of phrases are of: `reports` with the phrase, or its `occurrences`.
        lists: The phrases of each observation and polarity that has any.
        content_hash: Hash of the directory's content in hexadecimal digits; empty for a table that was not
            loaded from a directory.
    """

    counted: Literal["reports", "occurrences"]
    lists: Mapping[Key, PhraseList]
    content_hash: str = ""

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read the directory of a phrase table.

        Args:
            path: The directory.

        Raises:
            RadScribeError: there is no phrase table, or a file of it is missing, damaged or not the one that
                was written.
        """
        path = Path(path)
        part = Part.read(path, KIND, FILES)
        again = f"Make it again: {make_command(KIND)}"
        values = read_json_object(path / PHRASES, again)
        try:
            return cls(values["counted"], dict(_lists(values["observations"])), part.content_hash)
        except (KeyError, TypeError, AttributeError) as error:
            raise RadScribeError(
                f"'{path / PHRASES}' is no phrase table ({type(error).__name__}: {error})", again
            ) from error

    def phrases(self, observation: str, polarity: Polarity) -> tuple[str, ...]:
        """The phrases of one observation, highest PMI first; empty where there is none.

        Args:
            observation: Name of an observation.
            polarity: `positive` or `negative`.

        Raises:
            RadScribeError: there is no such observation or polarity.
        """
        _check_observation(observation)
        if polarity not in POLARITIES:
            raise unknown_name("polarity", polarity, POLARITIES)
        found = self.lists.get((observation, polarity))
        return tuple(phrase.phrase for phrase in found.phrases) if found else ()

    def of_states(self, states: Mapping[str, ObservationState]) -> tuple[str, ...]:
        """The phrases of all observations of a study, each once; see `polarities`.

        Args:
            states: State by observation.

        Returns:
            The phrases in the order of `OBSERVATIONS`, and within an observation highest PMI first. A phrase
            that several observations have stands where it comes first. Observations that are not mentioned
            add none.

        Raises:
            RadScribeError: a name is not one of the 14 observations.
        """
        return self.of_polarities(polarities(states))

    def of_polarities(self, of_study: Mapping[str, Polarity]) -> tuple[str, ...]:
        """The same as `of_states`, from the polarities of a study's observations."""
        return tuple(dict.fromkeys(phrase for key in of_study.items() for phrase in self.phrases(*key)))

    @property
    def distinct(self) -> tuple[str, ...]:
        """All phrases of the table, each once, in alphabetical order."""
        return tuple(sorted({phrase.phrase for found in self.lists.values() for phrase in found.phrases}))

    def to_json(self, keys: Iterable[Key] | None = None) -> dict[str, Any]:
        """The table as `phrases.json` has it.

        Args:
            keys: Observations and polarities to give; without them all that have phrases.
        """
        observations: dict[str, dict[str, Any]] = {}
        for observation, polarity in self.lists if keys is None else keys:
            found = self.lists.get((observation, polarity), PhraseList(0, ()))
            observations.setdefault(observation, {})[polarity] = asdict(found)
        return {"counted": self.counted, "observations": observations}

    def files(self) -> dict[str, str]:
        """The content of each file in `FILES`, by its name."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["observation", "polarity", "rank", "phrase", "pmi", "count_with_observation", "count"])
        for key, found in self.lists.items():
            for rank, phrase in enumerate(found.phrases, start=1):
                rows.writerow([*key, rank, *asdict(phrase).values()])
        return {PHRASES: json.dumps(self.to_json(), indent=2) + "\n", TABLE: text.getvalue()}


def _lists(observations: Mapping[str, Mapping[Polarity, Any]]) -> Iterable[tuple[Key, PhraseList]]:
    """The lists in the JSON form of a table."""
    for observation, of_polarity in observations.items():
        for polarity, values in of_polarity.items():
            phrases = tuple(Phrase(**phrase) for phrase in values["phrases"])
            yield (observation, polarity), PhraseList(values["reports"], phrases)
