"""A draft of a study, with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from radscribe.about import NOTICE

#: What stores of synthetic studies are prepared from.
PHANTOM = "phantom"
#: Says it on every surface that shows drafts of such a run.
SYNTHETIC = "trained on synthetic images: its drafts say nothing about real ones"


@dataclass(frozen=True, slots=True)
class RunOrigin:
    """Which run wrote a draft.

    Attributes:
        name: of the run directory.
        sha256: of what decides the drafts: configuration, words, weights and language model.
        trained_on: what it was trained on, in words.
        caution: what to bear in mind with every draft, such as `SYNTHETIC`; else empty.
    """

    name: str
    sha256: str
    trained_on: str
    caution: str = ""


def source_in_words(source: str) -> str:
    """What a store was prepared from, in words.

    Args:
        source: as the store's manifest has it.
    """
    return f"synthetic images ({source})" if source == PHANTOM else source


class Alternative(NamedTuple):
    """A draft that is not the best one of its study."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class DraftReport:
    """A draft of one study, with where it comes from. Research use, not for clinical diagnosis.

    Attributes:
        id: the study's.
        text: the draft.
        logprob: its log-probability.
        token_logprobs: log-probability of each of its tokens, the end's included where it ended.
        probabilities: of each of `OBSERVATIONS`, by name, where the system classifies them.
        alternatives: the second best draft of the search, the third best and so on, where `n_best` asks for
            them.
        images: files of the views that the system saw; of a store, the files that it was prepared from.
        run: which run wrote it, and what that was trained on; None of a system that is not from a run.
        notice: what it must not be used for.
    """

    id: str
    text: str
    logprob: float
    token_logprobs: tuple[float, ...]
    probabilities: Mapping[str, float] | None = None
    alternatives: tuple[Alternative, ...] = ()
    images: tuple[str, ...] = ()
    run: RunOrigin | None = None
    notice: str = NOTICE

    def to_json(self) -> dict[str, Any]:
        """What a line of a drafts file holds: all but log-probabilities of tokens and of observations."""
        run = self.run or RunOrigin("", "", "")
        alternatives = [{"text": text, "logprob": round(logprob, 4)} for text, logprob in self.alternatives]
        return {
            "id": self.id,
            "text": self.text,
            "logprob": round(self.logprob, 4),
            **({"alternatives": alternatives} if alternatives else {}),
            "images": list(self.images),
            "run": run.name,
            "run_sha256": run.sha256,
            "trained_on": run.trained_on,
            "notice": self.notice,
        }
