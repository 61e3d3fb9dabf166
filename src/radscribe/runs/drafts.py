"""Drafts of studies, with the run that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from radscribe.about import NOTICE

#: The source of stores of synthetic studies.
PHANTOM = "phantom"
#: Caution that is shown with every draft of a run that was trained on synthetic studies.
SYNTHETIC = "trained on synthetic images: its drafts say nothing about real ones"


@dataclass(frozen=True, slots=True)
class RunOrigin:
    """The run that wrote a draft.

    Attributes:
        name: Name of the run directory.
        sha256: SHA-256 of everything that decides the drafts: configuration, words, weights and language
            model.
        trained_on: What the run was trained on, in words.
        caution: Caution that must be shown with every draft, such as `SYNTHETIC`; otherwise empty.
    """

    name: str
    sha256: str
    trained_on: str
    caution: str = ""


def source_in_words(source: str) -> str:
    """The source of a store in words.

    Args:
        source: Source as it is written in the manifest of the store.
    """
    return f"synthetic images ({source})" if source == PHANTOM else source


def less_unlike(share: float) -> str:
    """A share of training studies in words, such as `99.2% of the training studies are less unlike`."""
    said = f"{min(share, 0.999):.1%}" if share < 1 else "all"
    return f"{said} of the training studies are less unlike"


class Unlikeness(NamedTuple):
    """How unlike the training images of a run a study is; see `runs.unlikeness`.

    Attributes:
        distance: Mahalanobis distance of its visual features to those of the training studies.
        share: Share of the training studies that are less unlike, from 0 to 1.
        flagged: Whether the distance is beyond the limit, which 1% of the val studies are.
    """

    distance: float
    share: float
    flagged: bool

    def __str__(self) -> str:
        return less_unlike(self.share)


class Alternative(NamedTuple):
    """A draft that is not the best one of its study."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class DraftReport:
    """A draft of one study, with the run that wrote it. Research use, not for clinical diagnosis.

    Attributes:
        id: Id of the study.
        text: Text of the draft.
        logprob: Log-probability of the draft.
        token_logprobs: Log-probability of each token of the draft, including the end token if the draft has
            one.
        probabilities: Probability of each observation by name; None if the system does not classify
            observations.
        alternatives: Second best draft of the search, third best and so on, if `n_best` is above 1.
        images: Files of the views that the system saw. For a prepared store, these are the source files.
        notes: What to know about these views, such as `burned-in text`.
        unlikeness: How unlike the training images of the run the study is; None if the run keeps no
            statistics of them.
        run: Run that wrote the draft, with what it was trained on; None if the system is not from a run.
        notice: What the draft must not be used for.
    """

    id: str
    text: str
    logprob: float
    token_logprobs: tuple[float, ...]
    probabilities: Mapping[str, float] | None = None
    alternatives: tuple[Alternative, ...] = ()
    images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unlikeness: Unlikeness | None = None
    run: RunOrigin | None = None
    notice: str = NOTICE

    def to_json(self) -> dict[str, Any]:
        """A line of a drafts file: everything except the token log-probabilities and the probabilities."""
        run = self.run or RunOrigin("", "", "")
        unlike: dict[str, Any] = {}
        if self.unlikeness is not None:
            share = self.unlikeness.share
            share = min(round(share, 4), 0.9999) if share < 1 else 1.0  # 1 means all
            unlike = {"unlike_share": share, "unlike": self.unlikeness.flagged}
        alternatives = [{"text": text, "logprob": round(logprob, 4)} for text, logprob in self.alternatives]
        return {
            "id": self.id,
            "text": self.text,
            "logprob": round(self.logprob, 4),
            **({"alternatives": alternatives} if alternatives else {}),
            "images": list(self.images),
            "notes": list(self.notes),
            **unlike,
            "run": run.name,
            "run_sha256": run.sha256,
            "trained_on": run.trained_on,
            "notice": self.notice,
        }
