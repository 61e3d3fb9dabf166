"""A short summary of scores: whether the system beats the baselines, and how varied its drafts are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

from radscribe.evaluation.clinical import CLINICAL_BLOCKS
from radscribe.evaluation.diversity import Diversity
from radscribe.evaluation.families import METRICS, SYSTEM
from radscribe.evaluation.result import MANY_UNKNOWN, Evaluation
from radscribe.evaluation.scores import Difference, direction
from radscribe.evaluation.stress import stress_tables
from radscribe.evaluation.tables import summary_table
from radscribe.text.cleaning import UNKNOWN_TOKEN

#: Names of all clinical F1 scores.
CLINICAL_F1 = tuple(name for block in CLINICAL_BLOCKS for name in block.names.values() if " F1 " in name)
#: Columns of the short summary: the name of the score by its heading.
SUMMARY_SCORES: Mapping[str, str] = {
    **{name: name for name in METRICS if name not in ("BLEU-2", "BLEU-3")},
    "micro F1": "micro F1 (14, as_present)",
    "macro F1": "macro F1 (14, as_present)",
}
_WIDTH = 118


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence on what the scores mean.

    Attributes:
        kind: `good`, `mixed` or `bad` for the system, or `info`.
        headline: Beginning of the sentence, which is emphasised; may be empty.
        detail: Rest of the sentence, with the blank or punctuation that joins it to the headline.
    """

    kind: Literal["good", "mixed", "bad", "info"]
    headline: str
    detail: str

    def __str__(self) -> str:
        return self.headline + self.detail


def verdicts(
    evaluation: Evaluation, text_metrics: Mapping[str, str], clinical_f1: Mapping[str, str]
) -> list[Verdict]:
    """What the scores mean; first of all, whether the system beats the baselines.

    Args:
        evaluation: Scores of the system and the baselines.
        text_metrics: Text metrics to judge by: the name of each score by the label to show.
        clinical_f1: Clinical F1 scores to judge by: the name of each score by the label to show.
    """
    found = [
        against_baseline(baseline, {label: of_baseline[name] for label, name in names.items()}, kind)
        for kind, names in (("text metric", text_metrics), ("clinical F1", clinical_f1))
        for baseline, of_baseline in evaluation.differences.items()
        if names and all(name in of_baseline for name in names.values())
    ]
    if not found:
        found.append(
            Verdict("bad", "", "No baseline was scored, so nothing here says what these scores are worth.")
        )
    ours, references = evaluation.rows[SYSTEM].diversity, evaluation.references
    found.append(_on_diversity(ours, references))
    if ours.unknown_words >= MANY_UNKNOWN and references.unknown_words:
        found.append(
            Verdict(
                "bad",
                f"{ours.unknown_words:.1%} of its words are {UNKNOWN_TOKEN}",
                f", which match {UNKNOWN_TOKEN} in the references and inflate every score: score it under "
                "clean_full.",
            )
        )
    return found


def against_baseline(baseline: str, differences: Mapping[str, Difference], kind: str) -> Verdict:
    """A sentence that says whether the system beats a baseline.

    Args:
        baseline: Name of the baseline.
        differences: Score of the system minus that of the baseline, by name of the score.
        kind: What the scores are, in the singular, such as `text metric`.
    """
    by_direction: dict[str, list[str]] = {"higher": [], "unclear": [], "lower": []}
    for name, difference in differences.items():
        by_direction[direction(difference)].append(name)
    phrases = {
        "higher": "clearly higher on",
        "unclear": "no clear difference on",
        "lower": "clearly lower on",
    }
    detail = "; ".join(f"{phrases[way]} {', '.join(names)}" for way, names in by_direction.items() if names)
    baseline = f"the {baseline} baseline"
    if not by_direction["lower"] and not by_direction["unclear"]:
        return Verdict("good", f"Beats {baseline}", f" on every {kind}.")
    if not by_direction["higher"]:
        return Verdict("bad", f"Does not beat {baseline} on any {kind}", f": {detail}.")
    unbeaten = ", ".join(name for name in differences if name not in by_direction["higher"])
    return Verdict("mixed", f"Does not beat {baseline} on {unbeaten}", f": {detail}.")


def _on_diversity(ours: Diversity, references: Diversity) -> Verdict:
    if ours.distinct_reports == 1 and ours.reports > 1:
        return Verdict(
            "bad",
            f"Writes the same report for all {ours.reports} studies",
            ": the images make no difference.",
        )
    text = (
        f"Writes {ours.distinct_reports} distinct reports for {ours.reports} studies (the references: "
        f"{references.distinct_reports}); {ours.most_frequent:.1%} of them get its most frequent one."
    )
    if 2 * ours.distinct_reports < references.distinct_reports:
        return Verdict("mixed", "Less than half as varied as the references", f": {text}")
    return Verdict("info", "", text)


def short_summary(evaluation: Evaluation) -> str:
    """The usual scores of system and baselines, with intervals and what they mean, in at most 23 lines.

    `str(evaluation)` shows everything.
    """
    ours = evaluation.rows[SYSTEM].scores
    shown = {label: name for label, name in SUMMARY_SCORES.items() if name in ours}
    text_metrics = {label: name for label, name in shown.items() if name in METRICS}
    clinical_f1 = {label: name for label, name in shown.items() if name not in METRICS}
    found = verdicts(evaluation, text_metrics, clinical_f1)
    missing = "; ".join(f"{name} ({reason})" for name, reason in evaluation.missing.items())
    sentences = [
        *map(str, found),
        *evaluation.readability_note(),
        *([f"Not there: {missing}."] if missing else []),
    ]
    return "\n".join(
        [
            summary_table(shown, evaluation.scores),
            "",
            *(line for text in sentences for line in wrap(text, _WIDTH, subsequent_indent="  ")),
            *([f"{evaluation.provenance.clinical_efficacy}."] if clinical_f1 else []),
            evaluation.provenance.in_short,
            *(["", stress_tables(evaluation.stress)] if evaluation.stress else []),
        ]
    )
