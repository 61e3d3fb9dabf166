"""The studies of a run page: choosing them, and a card for each with views, masks, draft and report."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from markupsafe import Markup

from radscribe.errors import RadScribeError
from radscribe.pages.page_parts import (
    jpeg_source,
    mask_path,
    observations_by_state,
    render,
    split_sentences,
)
from radscribe.runs.drafts import less_unlike
from radscribe.studies.images import original_view
from radscribe.studies.study import Study, View

#: Number of words in a row that count as shared text: the length of the longest n-gram of BLEU-4.
SHARED_RUN = 4
#: Two sentences are similar if their share of common words (Dice) is at least this.
SIMILAR = 0.5
#: Whether the other text has a sentence too: names of the kinds, and their texts on the page.
_KINDS = {
    "verbatim": "the other text has the same sentence",
    "similar": "the other text has a similar sentence",
    "alone": "the other text has no similar sentence",
}
_NO_LETTERS = re.compile(r"[^\w<>-]|_")


@dataclass(frozen=True, slots=True)
class DraftedStudy:
    """A study with its draft and its scores.

    Attributes:
        study: Study of the prepared store.
        draft: Draft as the system wrote it.
        logprob: Log-probability of the draft; None if it is not known.
        reference: Report section as it was written.
        rouge_l: ROUGE-L of this draft alone, under the rules of the run's scores.
        bleu_4: BLEU-4 of this draft alone, under the rules of the run's scores.
        rank: Rank by ROUGE-L in the split; 1 is the best.
        unlike_share: Share of the training studies that are less unlike; None if the run keeps no statistics
            of their images.
        unlike: Whether the study is flagged as unlike the training images.
    """

    study: Study
    draft: str
    logprob: float | None
    reference: str
    rouge_l: float
    bleu_4: float
    rank: int
    unlike_share: float | None = None
    unlike: bool = False


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of one text, compared with the other text.

    Attributes:
        words: Words as they are shown.
        shared: For each word, whether it is in a run of `SHARED_RUN` words that the other text has too.
        verbatim: Whether the other text has the same sentence, ignoring case and punctuation.
        partner: Index of the most similar sentence of the other text; None if no sentence is similar.
    """

    words: tuple[str, ...]
    shared: tuple[bool, ...]
    verbatim: bool
    partner: int | None

    @property
    def kind(self) -> str:
        """Whether the other text has the sentence too: one of `_KINDS`."""
        if self.verbatim:
            return "verbatim"
        return "alone" if self.partner is None else "similar"

    @property
    def runs(self) -> list[tuple[bool, str]]:
        """The words in runs, each either shared or not."""
        words = zip(self.shared, self.words, strict=True)
        return [
            (shared, " ".join(word for _, word in run))
            for shared, run in groupby(words, lambda word: word[0])
        ]


@dataclass(frozen=True, slots=True)
class ViewPicture:
    """A view for `view_figure` of `parts.html`.

    Attributes:
        caption: Caption below the view.
        error: Reason why the view cannot be shown; empty if it can.
        described: Description of the view for screen readers.
        width, height: Size in pixels.
        source: Data URL of the image element.
        masks: Outlines of the findings, by observation.
        crop: Side of the centre square that the system sees, in pixels; None if no square is drawn.
    """

    caption: str
    error: str = ""
    described: str = ""
    width: int = 0
    height: int = 0
    source: str = ""
    masks: Mapping[str, str] = field(default_factory=dict)
    crop: float | None = None


def choose_studies(ranked: Sequence[DraftedStudy], number: int) -> list[DraftedStudy]:
    """Choose studies that are spread evenly over all scores; every call gives the same ones.

    The ranking is cut into `number` equal groups, and each group, from the best to the worst, gives one
    study. It is the study nearest to the middle of the group, among those with a present observation that no
    study chosen before has. If the group has no such study, it is the one in the middle.

    Args:
        ranked: All studies, best first.
        number: Number of studies to choose; if there are fewer, all are chosen.
    """
    number = min(number, len(ranked))
    shown: set[str] = set()
    chosen = []
    for index in range(number):
        group = ranked[len(ranked) * index // number : len(ranked) * (index + 1) // number]
        chosen.append(_choose_from(group, shown))
        shown |= _present(chosen[-1].study)
    return chosen


def _choose_from(group: Sequence[DraftedStudy], shown: set[str]) -> DraftedStudy:
    middle = (len(group) - 1) / 2
    news = [bool(_present(drafted.study) - shown) for drafted in group]
    return group[max(range(len(group)), key=lambda place: (news[place], -abs(place - middle)))]


def compare_sentences(
    draft: Sequence[str], reference: Sequence[str]
) -> tuple[list[Sentence], list[Sentence]]:
    """Mark in each of two texts what the other text has too, ignoring case and punctuation."""
    drafted, referenced = [_keys(sentence) for sentence in draft], [_keys(sentence) for sentence in reference]
    return (
        [
            _compare(sentence, draft_keys, referenced)
            for sentence, draft_keys in zip(draft, drafted, strict=True)
        ],
        [_compare(sentence, keys, drafted) for sentence, keys in zip(reference, referenced, strict=True)],
    )


def study_card(
    drafted: DraftedStudy, *, index: int, ranked: int, views: int, crop_share: float | None
) -> Markup:
    """The card of one study as HTML.

    Args:
        drafted: Study with its draft and its scores.
        index: Number of the study on the page; `study-{index}` is its anchor.
        ranked: Number of studies of the split.
        views: Number of views that the system takes; further views are shown, and marked as not seen.
        crop_share: Side of the centre square that the system sees, as a share of the view's short side; None
            if it sees the whole view.
    """
    study = drafted.study
    pictures = [
        view_picture(view, position, seen=position < views, crop_share=crop_share)
        for position, view in enumerate(study.views)
    ]
    draft, reference = compare_sentences(split_sentences(drafted.draft), split_sentences(drafted.reference))
    logprob = drafted.logprob if drafted.logprob is not None and math.isfinite(drafted.logprob) else None
    words = len(drafted.draft.split())
    return render(
        "study_card.html",
        index=index,
        id=study.id,
        views=pictures,
        masked=list(dict.fromkeys(name for picture in pictures for name in picture.masks)),
        rank=drafted.rank,
        ranked=ranked,
        rouge_l=drafted.rouge_l,
        bleu_4=drafted.bleu_4,
        logprob=None if logprob is None else _signed(logprob),
        logprob_per_word=None if logprob is None or not words else _signed(logprob / words),
        unlike="" if drafted.unlike_share is None else less_unlike(drafted.unlike_share),
        flagged=drafted.unlike,
        stored_observations=study.observations,
        observations=observations_by_state(study),
        draft=draft,
        reference=reference,
        kinds=_KINDS,
        verbatim=sum(sentence.verbatim for sentence in draft),
        added=sum(sentence.kind == "alone" for sentence in draft),
        missed=sum(sentence.kind == "alone" for sentence in reference),
    )


def _present(study: Study) -> set[str]:
    return {name for name, state in study.observations.items() if state == "present"}


def _keys(sentence: str) -> tuple[str, ...]:
    """The words of a sentence for comparison: lower case, without punctuation; '' for a lone mark."""
    return tuple(_NO_LETTERS.sub("", word.lower()).strip("-") for word in sentence.split())


def _compare(sentence: str, keys: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> Sentence:
    places = [place for place, key in enumerate(keys) if key]
    words = tuple(keys[place] for place in places)
    spoken = [tuple(filter(None, other)) for other in others]
    verbatim = words in spoken
    theirs = {run for other in spoken for run in _runs(other)}
    shared = {
        place
        for start, run in enumerate(_runs(words))
        if verbatim or run in theirs
        for place in places[start : start + len(run)]
    }
    similarities = [_dice(words, other) for other in spoken]
    closest = max(range(len(others)), key=similarities.__getitem__, default=None)
    return Sentence(
        words=tuple(sentence.split()),
        shared=tuple(place in shared for place in range(len(keys))),
        verbatim=verbatim,
        partner=closest if closest is not None and similarities[closest] >= SIMILAR else None,
    )


def _runs(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All runs of `SHARED_RUN` words; a shorter sentence is one run."""
    if len(words) < SHARED_RUN:
        return [words]
    return [words[start : start + SHARED_RUN] for start in range(len(words) - SHARED_RUN + 1)]


def _dice(first: Iterable[str], second: Iterable[str]) -> float:
    ours, theirs = Counter(first), Counter(second)
    return 2 * (ours & theirs).total() / max(ours.total() + theirs.total(), 1)


def view_picture(
    view: View, position: int, *, seen: bool = True, crop_share: float | None = None
) -> ViewPicture:
    """A view with the outlines of its masks; a view that cannot be read has the reason instead.

    Args:
        view: View of a study.
        position: Number of the view in its study, from 0.
        seen: Whether the system takes the view.
        crop_share: Side of the centre square that the system sees, as a share of the view's short side.
    """
    caption = f"view {position + 1} · {view.projection}" + ("" if seen else " · not seen by the system")
    try:
        rendered = original_view(view)
    except RadScribeError as error:
        return ViewPicture(caption, error=str(error))
    height, width = rendered.pixels.shape
    masks = {name: mask_path(mask) for name, mask in rendered.masks.items() if mask.any()}
    return ViewPicture(
        caption,
        described=f"{view.projection} view" + (f" with {', '.join(masks)}" if masks else ""),
        width=width,
        height=height,
        source=jpeg_source(rendered.pixels),
        masks=masks,
        crop=crop_share * min(height, width) if seen and crop_share is not None else None,
    )


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
