"""Sensitivity: how far each metric moves when texts are negated, mirrored, exaggerated, reordered or cut.

A metric is worth as much as what it notices. So texts are changed in known ways (`PERTURBATIONS`), and every
score that can be computed from texts is computed again, over the studies whose text changed. The references
themselves as drafts give the clean reading: they begin at the best score that there is. The drafts at hand
say what a score of this system would have noticed.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np

from radscribe.evaluation.clinical import label_texts
from radscribe.evaluation.families import CLINICAL, FAMILIES, METRICS, SYSTEM
from radscribe.evaluation.family import LabelledTexts, MetricFamily, ScoredStudies
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.metrics import StudyStatistics
from radscribe.evaluation.perturbations import PERTURBATIONS
from radscribe.evaluation.tables import format_table

Prepare = Callable[[Sequence[str]], list[str]]

#: The texts that are changed, by what they are called where they are shown.
REFERENCES, DRAFTS = "references as drafts", "drafts at hand"
#: A score that moves by less than this share hardly moves.
HARDLY = 0.05
#: Scores of the large families that are shown; of the others all are.
_SHOWN = {
    "text": tuple(name for name in METRICS if name not in ("BLEU-2", "BLEU-3")),
    CLINICAL: ("micro F1 (14, as_present)", "macro F1 (14, as_present)"),
    "CheXbert": ("CheXbert micro F1 (14, rrg)", "CheXbert macro F1 (14, rrg)"),
    "RadCliQ": ("RadCliQ-v0", "RadCliQ-v1"),
}
_TINY = 1e-9
_WIDTH = 118


@dataclass(frozen=True, slots=True)
class StressedScore:
    """A score of the texts that a perturbation changed.

    Attributes:
        before: Score of the texts as they were.
        after: Score of the changed texts of the same studies.
    """

    before: float
    after: float

    @property
    def share(self) -> float | None:
        """The change as a share of the score before; None if that was 0."""
        return None if abs(self.before) < _TINY else (self.after - self.before) / abs(self.before)


@dataclass(frozen=True, slots=True)
class Stressed:
    """What one perturbation did.

    Attributes:
        texts: Number of texts that it changed.
        words: Share of the words of these texts that are not the same; 0 if they only moved.
        scores: Scores of these texts by name; empty if no text changed.
    """

    texts: int
    words: float
    scores: Mapping[str, StressedScore]


#: What each perturbation did, by the texts that were changed, then by perturbation.
StressResult = Mapping[str, Mapping[str, Stressed]]


def measure_stress(studies: ScoredStudies, drafts: Prepare, references: Prepare) -> StressResult:
    """Score changed texts with every family that needs texts alone, or texts and models.

    Observations are labelled by RadScribe's rules. METEOR is left out, for its Java process is slow.

    Args:
        studies: The studies that are scored.
        drafts: Prepares whole drafts for scoring.
        references: Prepares whole references for scoring, so that an unchanged one is its own reference.
    """
    whole = {REFERENCES: list(studies.whole_references), DRAFTS: list(studies.whole_drafts[SYSTEM])}
    prepare = {REFERENCES: references, DRAFTS: drafts}
    texts, scored = dict(whole), {source: prepare[source](of) for source, of in whole.items()}
    for source, of_source in whole.items():
        for name, perturbation in PERTURBATIONS.items():
            row = _row(source, name)
            texts[row] = [perturbation.change(text) for text in of_source]
            scored[row] = prepare[source](texts[row])
    states = label_texts(text for of_row in texts.values() for text in of_row)
    labelled = LabelledTexts(
        {row: [states[text] for text in of_row] for row, of_row in texts.items()},
        [states[text] for text in texts[REFERENCES]],
        studies.labelled.source,
    )
    changed = dataclasses.replace(
        studies,
        drafts=scored,
        whole_drafts=texts,
        labelled=labelled,
        classified=None,
        maps=(),
        files=MetricFiles(
            studies.files.models, progress=studies.files.progress
        ),  # outputs are of other texts
    )
    families = [family for family in FAMILIES.values() if _is_stressed(family, changed)]
    statistics = [family.score(changed).statistics for family in families]
    return {
        source: {name: _stressed(source, name, texts, statistics) for name in PERTURBATIONS}
        for source in whole
    }


def _is_stressed(family: MetricFamily, studies: ScoredStudies) -> bool:
    if family.needs == "models":
        return studies.files.models is not None
    return family.needs in ("texts", "observation labels")


def _row(source: str, perturbation: str) -> str:
    return f"{source}, {perturbation}"


def _stressed(
    source: str,
    name: str,
    texts: Mapping[str, Sequence[str]],
    statistics: Sequence[Mapping[str, StudyStatistics]],
) -> Stressed:
    """What one perturbation did to the texts of one source."""
    row = _row(source, name)
    pairs = [(Counter(a.split()), Counter(b.split())) for a, b in zip(texts[source], texts[row], strict=True)]
    changed = np.array([a != b for a, b in zip(texts[source], texts[row], strict=True)], dtype=bool)
    differing = sum(((a - b) + (b - a)).total() for a, b in pairs)
    words = sum((a + b).total() for (a, b), is_changed in zip(pairs, changed, strict=True) if is_changed)
    scores: dict[str, StressedScore] = {}
    for of_family in statistics if changed.any() else ():
        if source in of_family and row in of_family:
            before, after = (
                of_row.scores_of_sums(of_row.columns[changed].sum(axis=0))
                for of_row in (of_family[source], of_family[row])
            )
            scores |= {key: StressedScore(float(before[key]), float(after[key])) for key in before}
    return Stressed(int(changed.sum()), differing / max(words, 1), scores)


def shown_scores(result: StressResult) -> list[str]:
    """Names of the scores to show, in the order of the families."""
    found = {name for of_source in result.values() for row in of_source.values() for name in row.scores}
    return [
        name for key, family in FAMILIES.items() for name in _SHOWN.get(key, family.scores) if name in found
    ]


def change_cell(name: str, score: StressedScore | None) -> str:
    """A change in a few characters: as a share of the score, or as a difference where lower is better.

    Args:
        name: Name of the score.
        score: The score before and after; None if there is none.
    """
    if score is None:
        return "-"
    if name in _LOWER_IS_BETTER:
        return _signed(f"{score.after - score.before:+.3f}")
    return "-" if score.share is None else _signed(f"{score.share:+.0%}")


def _signed(number: str) -> str:
    """A number with its sign, which a 0 does not have."""
    return number if re.search("[1-9]", number) else number[1:]


def stress_tables(result: StressResult) -> str:
    """The tables of changes, what each perturbation does, and which scores hardly move, to print."""
    names = shown_scores(result)
    paragraphs = []
    for source, rows in result.items():
        lines = [[source, *rows]]
        lines.append(["texts changed", *(str(row.texts) for row in rows.values())])
        lines.append(["their words changed", *(f"{row.words:.0%}" for row in rows.values())])
        lines += [
            [name, *(change_cell(name, row.scores.get(name)) for row in rows.values())] for name in names
        ]
        paragraphs.append(format_table(lines))
    described = "; ".join(f"{name}: {found.description}" for name, found in PERTURBATIONS.items())
    notes = [
        "Change of each score over the texts that changed, as a share of the score, or as a difference where "
        f"lower is better. {described}.",
        *stress_sentences(result),
    ]
    wrapped = [line for note in notes for line in wrap(note, _WIDTH, subsequent_indent="  ")]
    return "\n\n".join([*paragraphs, "\n".join(wrapped)])


def stress_sentences(result: StressResult) -> Iterator[str]:
    """Sentences on the references as drafts: which scores hardly move, and which move for no reason."""
    for name, row in result.get(REFERENCES, {}).items():
        perturbation = PERTURBATIONS[name]
        shares = {
            score: row.scores[score].share
            for score in shown_scores(result)
            if score in row.scores and score not in _LOWER_IS_BETTER
        }
        still = [score for score, share in shares.items() if share is not None and abs(share) < HARDLY]
        moved = [score for score, share in shares.items() if share is not None and abs(share) >= HARDLY]
        if perturbation.keeps_meaning and moved:
            yield (
                f"References {name} say the same of the patient, and yet move by {HARDLY:.0%} or more: "
                f"{', '.join(moved)}."
            )
        elif not perturbation.keeps_meaning and still:
            yield f"References with {name} hardly move (by less than {HARDLY:.0%}): {', '.join(still)}."


_LOWER_IS_BETTER = {
    name
    for family in FAMILIES.values()
    for table in family.tables
    if table.lower_is_better
    for name in table.columns.values()
}
