"""The phrase table is counted in the reports of a store's train split, in one of two forms.

`paper` is Eq. 6 of CmEAA, with shares of reports: PMI(o, s) = log2( p(o, s) / (p(o) p(s)) ). The paper states
neither the count that a phrase must exceed nor how many phrases an observation has, so the options have them.
Phrases with `xxxx`, the placeholder of de-identified reports, are left out.

`table5` is what the released code of ORGan computes (Hou et al., ACL 2023), from which the numbers of CmEAA's
Table 5 come. It counts occurrences c, and has a conditional share in the numerator:
PMI(o, s) = log2( c(o, s) / sum_s' c(o, s') / (p(o) p(s)) ), where p(s) is a share of the occurrences of all
phrases. This adds log2(1 / p(o)) to Eq. 6, so that rare observations keep nearly all phrases.

In both forms phrases with a PMI below 0 are left out. Of equal PMI, phrases of more words stand first, then
longer ones, then in alphabetical order. PMI is compared as an exact fraction, which rounding cannot reorder.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from radscribe.errors import RadScribeError, warn
from radscribe.files import write_whole
from radscribe.interruption import check_empty, disk_errors_explained, empty, only_training
from radscribe.observations import OBSERVATIONS
from radscribe.parts.part import Part
from radscribe.parts.phrase_table import (
    FILES,
    KIND,
    POLARITIES,
    Key,
    Phrase,
    PhraseList,
    PhraseTable,
    Polarity,
    polarities,
)
from radscribe.pretraining.facts import begun_facts, write_facts
from radscribe.pretraining.model_card import write_model_card
from radscribe.pretraining.phrase_candidates import LONGEST, Words, candidates, occurrences, sentences
from radscribe.pretraining.phrase_table_card import section, summary
from radscribe.pretraining.settings import PhraseTableSettings
from radscribe.progress import track
from radscribe.studies.store import PreparedStore
from radscribe.text.cleaning import CLEANERS
from radscribe.text.observation_labeller import label_report

#: Placeholder of what was removed from de-identified reports.
_REMOVED = "xxxx"
#: All pairs of this many studies are compared at most.
_COMPARED = 3000
_KEYS: tuple[Key, ...] = tuple((name, polarity) for name in OBSERVATIONS for polarity in POLARITIES)

#: The sentences of a report, and the polarity of each observation that it mentions.
Document = tuple[Sequence[Words], Mapping[str, Polarity]]


def make(store: PreparedStore, out: Path, settings: PhraseTableSettings, *, progress: bool = True) -> str:
    """Make a phrase table from the reports of the train split.

    Args:
        store: Prepared store; its val and test splits are not read.
        out: Directory to write.
        settings: What to count.
        progress: Show how far it is.

    Returns:
        What is printed of the table.

    Raises:
        RadScribeError: there is something in `out` already, a setting is out of range, the train split has no
            report that can be labelled or no phrase that is frequent enough, or the disk is full.
    """
    settings = settings.settled()
    room = "Make room there or put it right, and give the same command again"
    with only_training(out), disk_errors_explained(out, room):
        check_empty(out)
        documents, inputs = _documents(store, settings, progress)
        facts = begun_facts(KIND, store, settings.recorded(), inputs)
        table = count_phrases(documents, settings)
        if not table.lists:
            raise RadScribeError(
                f"no phrase that goes with an observation occurs more than {settings.minimum_count} times in "
                f"the {len(documents)} reports of the train split",
                "Choose a lower --minimum_count, or a store with more reports",
            )
        try:
            write_facts(out, facts)  # what is left after the process was killed is known to be unfinished
            facts |= _measured(table, documents, settings.seed) | {"finished": True}
            for name, content in table.files().items():
                write_whole(out / name, content)
            Part.write(out, KIND, FILES, facts["settings"], store)
            write_model_card(out, facts, section(facts))
            write_facts(out, facts)
        except BaseException:  # whoever tries again finds the directory empty
            empty(out)
            raise
    return summary(facts)


def _documents(
    store: PreparedStore, settings: PhraseTableSettings, progress: bool
) -> tuple[list[Document], dict[str, Any]]:
    """The reports of the train split that the labeller can read, and how many of each kind there are."""
    studies = store.studies("train")
    texts = [text for study in studies if (text := study.report(settings.section)).strip()]
    documents: list[Document] = []
    for text in track(texts, len(texts), KIND, "reports", show=progress):
        labels = label_report(text)
        if not labels.unreadable:
            documents.append((sentences(CLEANERS[settings.cleaning](text)), polarities(labels.states)))
    unreadable = len(texts) - len(documents)
    if not documents:
        raise RadScribeError(
            f"no study of the train split has a section '{settings.section}'"
            if not texts
            else f"the labeller cannot read any of the {len(texts)} reports of the train split",
            "Choose another with --section, or prepare a source with English reports in its train split",
        )
    if unreadable:
        warn(
            f"{unreadable} of {len(texts)} reports are unreadable to the labeller",
            "It knows English only, so they are left out",
        )
    counts = {
        "read": len(documents),
        "unreadable": unreadable,
        "without_section": len(studies) - len(texts),
    }
    return documents, {"reports": counts}


def count_phrases(documents: Sequence[Document], settings: PhraseTableSettings) -> PhraseTable:
    """Count phrases in reports, and keep those that go with an observation.

    Args:
        documents: Sentences and polarities of each report.
        settings: What to count; see `PhraseTableSettings.settled`.

    Returns:
        The table. An observation and polarity without a phrase is not in it.
    """
    assert settings.minimum_count is not None
    found = candidates((report for report, _ in documents), settings.minimum_count)
    if settings.form == "paper":
        found = {words: count for words, count in found.items() if _REMOVED not in words}
    counts: Counter[Words] = Counter()
    together: defaultdict[Key, Counter[Words]] = defaultdict(Counter)
    having: Counter[Key] = Counter()
    for report, of_report in documents:
        in_report = Counter(words for sentence in report for words in occurrences(sentence, found))
        if settings.form == "paper":
            in_report = Counter(in_report.keys())  # of reports, not of occurrences
        counts.update(in_report)
        for key in of_report.items():
            having[key] += 1
            together[key].update(in_report)
    lists = {}
    for key in _KEYS:
        if not together[key] or (settings.polarity == "positive" and key[1] != "positive"):
            continue
        scale = Fraction(len(documents), having[key])
        if settings.form == "table5":
            scale *= Fraction(counts.total(), together[key].total())
        if phrases := _ranked(together[key], counts, scale):
            lists[key] = PhraseList(having[key], phrases[: settings.top or None])
    return PhraseTable("reports" if settings.form == "paper" else "occurrences", lists)


def _ranked(together: Counter[Words], counts: Counter[Words], scale: Fraction) -> tuple[Phrase, ...]:
    """The phrases with a PMI of at least 0, which is log2(scale * count together / count), best first."""
    ratios = {words: scale * Fraction(count, counts[words]) for words, count in together.items()}
    kept = sorted(
        (words for words, ratio in ratios.items() if ratio >= 1),
        key=lambda words: (-ratios[words], -len(words), -len(" ".join(words)), words),
    )
    return tuple(
        Phrase(" ".join(words), round(math.log2(ratios[words]), 6), together[words], counts[words])
        for words in kept
    )


def _measured(table: PhraseTable, documents: Sequence[Document], seed: int) -> dict[str, Any]:
    """How many phrases there are, and how much they depend on the study, ready for JSON."""
    listed = [phrase.phrase for phrases in table.lists.values() for phrase in phrases.phrases]
    return {
        "lists": len(table.lists),
        "phrases": len(listed),
        "phrases_by_words": _by_words(listed),
        "distinct_phrases": len(table.distinct),
        "distinct_phrases_by_words": _by_words(table.distinct),
        "studies": _likeness([table.of_polarities(of_report) for _, of_report in documents], seed),
    }


def _by_words(phrases: Sequence[str]) -> dict[str, int]:
    """The number of phrases of each length in words."""
    counts = Counter(len(phrase.split()) for phrase in phrases)
    return {str(words): counts[words] for words in range(1, LONGEST + 1)}


def _likeness(sets: Sequence[tuple[str, ...]], seed: int) -> dict[str, Any]:
    """How alike the phrases of studies are: the mean Jaccard index over all pairs, or over those of a sample.

    Args:
        sets: The phrases of each study. Two studies without a phrase have the same set.
        seed: Random seed of the sample.
    """
    compared = list(sets)
    if len(compared) > _COMPARED:
        drawn = np.random.default_rng(seed).choice(len(compared), _COMPARED, replace=False)
        compared = [compared[number] for number in drawn]
    columns = {phrase: number for number, phrase in enumerate(dict.fromkeys(p for s in compared for p in s))}
    present = np.zeros((len(compared), len(columns)), dtype=np.float32)
    for row, phrases in enumerate(compared):
        present[row, [columns[phrase] for phrase in phrases]] = 1
    shared = present @ present.T
    sizes = present.sum(axis=1)
    either = sizes[:, None] + sizes - shared
    jaccard = np.divide(shared, either, out=np.ones_like(shared), where=either > 0)
    pairs = np.triu_indices(len(compared), k=1)
    return {
        "mean_phrases": sum(map(len, sets)) / len(sets),
        "without_phrases": sum(not phrases for phrases in sets),
        "compared": len(compared),
        "mean_jaccard": float(jaccard[pairs].mean(dtype=np.float64)) if len(compared) > 1 else None,
    }
