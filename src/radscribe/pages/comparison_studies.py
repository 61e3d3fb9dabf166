"""Example studies of a comparison page: the drafts of all systems side by side, with what they find.

The observation labeller reads the reference and each draft. An observation that both have is matched, one
that only the reference has is missed, and one that only the draft has is invented; what is uncertain counts
as present. The words that decided are marked in the texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from markupsafe import Markup

from radscribe.evaluation.families import SYSTEM
from radscribe.observations import OBSERVATIONS, as_binary
from radscribe.pages.page_parts import render
from radscribe.pages.run_page_studies import view_picture
from radscribe.runs.group_scoring import ScoredGroups
from radscribe.text.observation_labeller import ObservationLabels, label_report

_MATCHED, _MISSED, _INVENTED = "matched", "missed", "invented"
#: Sign of each kind of finding, so that it can be told without its colour.
SIGNS = {_MATCHED: "=", _MISSED: "−", _INVENTED: "+"}


@dataclass(frozen=True, slots=True)
class ChosenStudy:
    """A study to show.

    Attributes:
        id: Id of the study.
        disputed: Observations that some of the systems find in it and others do not.
        rouge_l: ROUGE-L of the draft of each group's first run or file, by group.
    """

    id: str
    disputed: tuple[str, ...]
    rouge_l: Mapping[str, float]

    @property
    def spread(self) -> float:
        """Difference between the highest and the lowest ROUGE-L."""
        return max(self.rouge_l.values()) - min(self.rouge_l.values())


@dataclass(frozen=True, slots=True)
class _Draft:
    """A draft for the template: its group, ROUGE-L, pieces of text with their kind, and findings by kind."""

    group: str
    rouge_l: float
    pieces: list[tuple[str, str, str]]
    findings: Mapping[str, list[str]]
    unreadable: bool


def choose_studies(scored: ScoredGroups, number: int) -> list[ChosenStudy]:
    """Choose the studies in which the systems differ most; every call gives the same ones.

    Studies are ordered by the number of observations that some systems find and others do not, then by the
    spread of ROUGE-L, then by id. The systems are represented by the first run or file of each group.
    """
    ids = sorted(scored.references)
    drafts = {group: members[0].drafts for group, members in scored.groups.items()}
    rouge = {}
    for group, members in scored.groups.items():
        statistics = members[0].evaluation.rows[SYSTEM].families["text"]
        # The corpus scores of a single study's statistics are the scores of that study.
        rouge[group] = dict(zip(ids, statistics.scores_of_sums(statistics.columns)["ROUGE-L"], strict=True))
    studies = []
    for study in ids:
        found = [_findings(drafts[group][study]) for group in drafts]
        disputed = set.union(*found) - set.intersection(*found)
        named = tuple(name for name in OBSERVATIONS if name in disputed)
        studies.append(ChosenStudy(study, named, {group: float(rouge[group][study]) for group in rouge}))
    studies.sort(key=lambda study: (-len(study.disputed), -study.spread, study.id))
    return studies[:number]


def study_cards(scored: ScoredGroups, chosen: list[ChosenStudy]) -> list[Markup]:
    """A card for each study: its views if there is a store, the reference, and all drafts."""
    return [_card(scored, study, index) for index, study in enumerate(chosen, start=1)]


def _card(scored: ScoredGroups, chosen: ChosenStudy, index: int) -> Markup:
    views = scored.store.study(chosen.id).views if scored.store else ()
    pictures = [view_picture(view, position) for position, view in enumerate(views)]
    reference = scored.references[chosen.id]
    has = _findings(reference)
    drafts = []
    for group, members in scored.groups.items():
        text = members[0].drafts[chosen.id]
        finds = _findings(text)
        findings = {_MATCHED: has & finds, _MISSED: has - finds, _INVENTED: finds - has}
        kinds = {name: kind for kind, names in findings.items() for name in names}
        drafts.append(
            _Draft(
                group,
                chosen.rouge_l[group],
                _pieces(_labels(text), kinds),
                {kind: [name for name in OBSERVATIONS if name in names] for kind, names in findings.items()},
                _labels(text).unreadable,
            )
        )
    return render(
        "comparison_study.html",
        index=index,
        chosen=chosen,
        views=pictures,
        masked=list(dict.fromkeys(name for picture in pictures for name in picture.masks)),
        reference=_pieces(_labels(reference), dict.fromkeys(has, "stated")),
        stated=[name for name in OBSERVATIONS if name in has],
        drafts=drafts,
        signs=SIGNS,
    )


@cache
def _labels(text: str) -> ObservationLabels:
    return label_report(text)


def _findings(text: str) -> set[str]:
    """The observations that are present or uncertain in a text."""
    states = _labels(text).states
    numbers = as_binary(states, uncertain="as_present", missing="as_absent")
    return {name for name, value in numbers.items() if value}


def _pieces(labels: ObservationLabels, kinds: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """A text in pieces: words, the kind of the finding that they decided (or ''), and its observations.

    A missed observation is marked where a draft denies it. Of overlapping mentions the first is marked, and
    mentions of the same words are marked together.
    """
    spans: dict[tuple[int, int], list[str]] = {}
    for name, evidence in labels.evidence.items():
        if name in kinds:
            spans.setdefault(evidence.mention, []).append(name)
    pieces: list[tuple[str, str, str]] = []
    place = 0
    for (begin, end), names in sorted(spans.items()):
        if begin < place:
            continue
        if begin > place:
            pieces.append((labels.text[place:begin], "", ""))
        pieces.append((labels.text[begin:end], kinds[names[0]], ", ".join(names)))
        place = end
    return [*pieces, (labels.text[place:], "", "")] if place < len(labels.text) else pieces
