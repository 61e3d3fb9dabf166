"""GREEN (Ostmeier et al., EMNLP Findings 2024): matched findings and errors, counted in a model's reply.

The model that writes the replies, `GREEN-radllama2-7b`, is not part of RadScribe. The counts are read by the
regular expressions of the package `green_score` 0.0.12, with its oddities: a section ends at an empty line, a
section that begins with `No` has no counts, and a count must be followed by a full stop.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radscribe.evaluation.metrics import StudyStatistics, mean_statistics

#: Categories of clinically significant errors, by their letters in a reply.
ERRORS = {
    "a": "false finding",
    "b": "missing finding",
    "c": "wrong place",
    "d": "wrong severity",
    "e": "added comparison",
    "f": "omitted comparison",
}
GREEN, MATCHED = "GREEN", "GREEN matched findings"
ERROR_SCORES = {name: f"GREEN {name}" for name in ERRORS.values()}


@dataclass(frozen=True, slots=True)
class GreenCounts:
    """What one reply counts.

    Attributes:
        matched: Number of findings that draft and reference share.
        errors: Number of clinically significant errors in each category, in the order of `ERRORS`.
    """

    matched: int
    errors: tuple[int, ...]

    @property
    def score(self) -> float:
        """Matched findings as a share of these and the errors; 0 if none is matched."""
        return self.matched / (self.matched + sum(self.errors)) if self.matched else 0.0


def read_reply(reply: str) -> GreenCounts:
    """Read the counts in a reply; a section that is not there counts nothing.

    Args:
        reply: Reply of the model, with or without the prompt before it.
    """
    reply = _without_prompt(reply)
    errors = [0] * len(ERRORS)
    section = _section(reply, "Clinically Significant Errors")
    letters = list(ERRORS)
    lines = sorted(re.findall(r"\([a-f]\) .*", section))
    if not lines:
        letters = [str(number) for number in range(1, len(ERRORS) + 1)]
        lines = sorted(re.findall(r"\([1-6]\) .*", section))
    for line in lines:
        if count := re.search(r"(?<=: )\b\d+\b(?=\.)", line):
            errors[letters.index(line[1])] = int(count[0])
    matched = re.match(r"\d+(?=\.)", _section(reply, "Matched Findings"))
    return GreenCounts(int(matched[0]) if matched else 0, tuple(errors))


def _without_prompt(reply: str) -> str:
    """What the model wrote after its prompt."""
    if "[Explanation]:" in reply:
        reply = reply.split("<|assistant|>")[-1]
        reply = reply.split("[Explanation]:")[1] if "[Explanation]:" in reply else reply
    return reply.split("<|assistant|>")[-1].replace("</s>", "").replace("<unk>", "")


def _section(reply: str, title: str) -> str:
    """The text of a section; empty if it is not there or says that there is nothing."""
    found = re.search(rf"\[{title}\]:\s*(.*?)(?:\n\s*\n|\Z)", reply, re.DOTALL)
    return "" if found is None or found[1].startswith("No") else found[1]


def green_statistics(counts: Sequence[GreenCounts]) -> StudyStatistics:
    """Mean GREEN, and mean numbers of matched findings and of errors of each category."""
    values = {
        GREEN: np.array([of_study.score for of_study in counts]),
        MATCHED: np.array([of_study.matched for of_study in counts]),
    }
    for number, name in enumerate(ERROR_SCORES.values()):
        values[name] = np.array([of_study.errors[number] for of_study in counts])
    return mean_statistics(values)
