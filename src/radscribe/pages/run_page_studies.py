"""Studies of a run page: which ones are shown, and a card for each with views, finding masks, both texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from radscribe.errors import RadScribeError
from radscribe.pages.page_parts import (
    jpeg_source,
    mask_legend,
    mask_outline,
    observation_list,
    split_sentences,
)
from radscribe.studies.images import original_view
from radscribe.studies.study import Study, View

#: Words in a row that count as shared text: the longest n-gram of BLEU-4.
SHARED_RUN = 4
#: Two sentences are similar from this share of common words on (Dice).
SIMILAR = 0.5
_NO_LETTERS = re.compile(r"[^\w<>-]|_")


@dataclass(frozen=True, slots=True)
class DraftedStudy:
    """A study with the draft that was scored.

    Attributes:
        study: from the prepared store.
        draft: as the system wrote it.
        logprob: log-probability of the draft, where it is known.
        reference: the report section as written.
        rouge_l: of this draft alone, under the rules of the run's scores.
        bleu_4: likewise.
        rank: 1 for the best ROUGE-L of the split.
    """

    study: Study
    draft: str
    logprob: float | None
    reference: str
    rouge_l: float
    bleu_4: float
    rank: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, word by word.

    Attributes:
        words: as they are shown.
        shared: whether each word stands in a run of `SHARED_RUN` words that the other text has too.
        verbatim: the other text has this very sentence, but for case and punctuation.
        partner: index of the most similar sentence of the other text, None where none is similar.
    """

    words: tuple[str, ...]
    shared: tuple[bool, ...]
    verbatim: bool
    partner: int | None


def choose_studies(ranked: Sequence[DraftedStudy], number: int) -> list[DraftedStudy]:
    """An even spread over all scores, the same at every call.

    The ranking is cut into `number` equal groups. Each group, from the best to the worst, gives one study: of
    those that have an observation present that no study before them showed, the one nearest to the group's
    middle; where there are none, of all.

    Args:
        ranked: all studies, best first.
        number: how many to choose; all, where there are fewer.
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
    news = [bool(_present(each.study) - shown) for each in group]
    return group[max(range(len(group)), key=lambda place: (news[place], -abs(place - middle)))]


def compare_sentences(
    draft: Sequence[str], reference: Sequence[str]
) -> tuple[list[Sentence], list[Sentence]]:
    """Mark in each of two texts what the other shares, ignoring case and punctuation."""
    drafted, referenced = [_keys(each) for each in draft], [_keys(each) for each in reference]
    return (
        [
            _compare(sentence, draft_keys, referenced)
            for sentence, draft_keys in zip(draft, drafted, strict=True)
        ],
        [_compare(sentence, keys, drafted) for sentence, keys in zip(reference, referenced, strict=True)],
    )


def study_card(
    drafted: DraftedStudy, *, index: int, ranked: int, views: int, crop_share: float | None
) -> str:
    """One study as HTML.

    Args:
        drafted: the study, its texts and scores.
        index: its place on the page; `study-{index}` is its anchor.
        ranked: number of studies of the split.
        views: how many views the system takes; further ones are shown and marked as not seen.
        crop_share: side of the centre square that the system sees, as a share of the view's short side; None
            where it sees the whole view.
    """
    study = drafted.study
    figures, masked = [], Counter[str]()
    for position, view in enumerate(study.views):
        figure, observations = _view_figure(view, position, seen=position < views, crop_share=crop_share)
        figures.append(figure)
        masked.update(observations)
    draft, reference = compare_sentences(split_sentences(drafted.draft), split_sentences(drafted.reference))
    return f"""
<article class="study" id="study-{index}">
  <div class="film">
    <div class="views">{"".join(figures)}</div>
    {mask_legend(masked)}
  </div>
  <div class="reading">
    <header>
      <h3>{escape(study.id)}</h3>
      <p class="facts">rank <b>{drafted.rank}</b> of {ranked} · ROUGE-L <b>{drafted.rouge_l:.3f}</b> ·
      BLEU-4 <b>{drafted.bleu_4:.3f}</b> · {_logprob(drafted)}</p>
    </header>
    {observation_list(study)}
    <div class="texts">
      <section class="draft"><h4>Draft <span class="badge">draft — not reviewed</span></h4>
      {_sentences(draft, "The draft is empty.")}</section>
      <section class="reference"><h4>Reference report</h4>
      {_sentences(reference, "The reference is empty.")}</section>
    </div>
    <p class="counts">{_count_shared(draft, reference)}</p>
  </div>
</article>"""


def _present(study: Study) -> set[str]:
    return {name for name, state in study.observations.items() if state == "present"}


def _keys(sentence: str) -> tuple[str, ...]:
    """The words of a sentence as they are compared: lower case, no punctuation; '' for a lone mark."""
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
    """All runs of `SHARED_RUN` words; of a shorter sentence, the whole."""
    if len(words) < SHARED_RUN:
        return [words]
    return [words[start : start + SHARED_RUN] for start in range(len(words) - SHARED_RUN + 1)]


def _dice(first: Iterable[str], second: Iterable[str]) -> float:
    ours, theirs = Counter(first), Counter(second)
    return 2 * (ours & theirs).total() / max(ours.total() + theirs.total(), 1)


def _view_figure(view: View, position: int, *, seen: bool, crop_share: float | None) -> tuple[str, list[str]]:
    """A view with its finding masks, and the names of the observations that have a mask in it."""
    caption = f"view {position + 1} · {view.projection}" + ("" if seen else " · not seen by the system")
    try:
        rendered = original_view(view)
    except RadScribeError as error:
        return (
            f'<figure><div class="picture unreadable"><p>This view cannot be shown: {escape(str(error))}</p>'
            f"</div><figcaption>{escape(caption)}</figcaption></figure>",
            [],
        )
    height, width = rendered.pixels.shape
    masks = {name: mask for name, mask in rendered.masks.items() if mask.any()}
    overlays = [mask_outline(name, mask) for name, mask in masks.items()]
    if seen and crop_share is not None:
        side = crop_share * min(height, width)
        overlays.append(
            f'<rect class="crop" x="{(width - side) / 2:.1f}" y="{(height - side) / 2:.1f}" '
            f'width="{side:.1f}" height="{side:.1f}"/>'
        )
    described = f"{view.projection} view" + (f" with {', '.join(masks)}" if masks else "")
    return (
        f'<figure><div class="picture"><img alt="{escape(described)}" width="{width}" height="{height}" '
        f'src="{jpeg_source(rendered.pixels)}"><svg viewBox="0 0 {width} {height}" '
        f'aria-hidden="true">{"".join(overlays)}</svg></div><figcaption>{escape(caption)}</figcaption></figure>',
        list(masks),
    )


def _logprob(drafted: DraftedStudy) -> str:
    if drafted.logprob is None or not math.isfinite(drafted.logprob):
        return "log-probability not known"
    words = len(drafted.draft.split())
    per_word = f" ({_signed(drafted.logprob / words)} per word)" if words else ""
    return f"log-probability <b>{_signed(drafted.logprob)}</b>{per_word}"


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


_KINDS = {
    "verbatim": "stands word for word in the other text",
    "similar": "the other text has a similar sentence",
    "alone": "the other text has no similar sentence",
}


def _sentences(sentences: Sequence[Sentence], empty: str) -> str:
    if not sentences:
        return f'<p class="empty">{empty}</p>'
    items = []
    for sentence in sentences:
        kind = _kind(sentence)
        partner = "" if sentence.partner is None else f' data-partner="{sentence.partner}"'
        items.append(
            f'<li class="{kind}"{partner}><span class="dot" role="img" aria-label="{_KINDS[kind]}" '
            f'title="{_KINDS[kind]}"></span><span>{_words(sentence)}</span></li>'
        )
    return f"<ol>{''.join(items)}</ol>"


def _kind(sentence: Sentence) -> str:
    if sentence.verbatim:
        return "verbatim"
    return "alone" if sentence.partner is None else "similar"


def _words(sentence: Sentence) -> str:
    """The words, with runs of shared ones marked as a whole."""
    parts: list[tuple[bool, list[str]]] = []
    for word, shared in zip(sentence.words, sentence.shared, strict=True):
        if not parts or parts[-1][0] != shared:
            parts.append((shared, []))
        parts[-1][1].append(escape(word))
    return " ".join(
        f"<mark>{' '.join(words)}</mark>" if shared else " ".join(words) for shared, words in parts
    )


def _count_shared(draft: Sequence[Sentence], reference: Sequence[Sentence]) -> str:
    verbatim = sum(sentence.verbatim for sentence in draft)
    added = sum(_kind(sentence) == "alone" for sentence in draft)
    missed = sum(_kind(sentence) == "alone" for sentence in reference)
    return (
        f"{verbatim} of {len(draft)} draft sentences stand word for word in the reference; {added} of the "
        f"draft and {missed} of the reference have nothing similar in the other text."
    )
