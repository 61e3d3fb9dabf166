"""What is said of a phrase table that was made: on the screen, and in its model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radscribe.observations import OBSERVATIONS
from radscribe.parts.phrase_table import POLARITIES
from radscribe.pretraining.model_card import Section

_FORMS = {"paper": "CmEAA, Eq. 6", "table5": "as counted in CmEAA's Table 5"}


def summary(facts: Mapping[str, Any]) -> str:
    """What is printed of a table that was made."""
    form, reports = facts["settings"]["form"], facts["reports"]
    lists, studies = facts["lists"], facts["studies"]
    return "\n".join(
        [
            f"phrase table   form {form} ({_FORMS[form]})",
            f"reports        {reports['read']:,} of the train split; left out: {reports['unreadable']:,} "
            f"unreadable, {reports['without_section']:,} without the section",
            f"lists          {lists} of {_most(facts)} (an observation and a polarity each)",
            f"phrases        {facts['phrases']:,} in all lists: {_by_words(facts['phrases_by_words'])}",
            f"distinct       {facts['distinct_phrases']:,}: {_by_words(facts['distinct_phrases_by_words'])}",
            f"of a study     {studies['mean_phrases']:.1f} phrases on average; "
            f"{studies['without_phrases']:,} studies have none",
            f"two studies    {_likeness(studies)}",
            "               (100%: the phrases do not depend on the study)",
        ]
    )


def section(facts: Mapping[str, Any]) -> Section:
    """What the model card says."""
    form, reports, studies = facts["settings"]["form"], facts["reports"], facts["studies"]
    rows = "\n".join(
        f"| {words} | {count:,} | {facts['distinct_phrases_by_words'][words]:,} |"
        for words, count in facts["phrases_by_words"].items()
    )
    return Section(
        title=f"Phrase table, form {form}",
        purpose="Phrases of reports that go with an observation, by pointwise mutual information "
        f"({_FORMS[form]}). A system reads those of a study's observations beside its images.",
        caution="A phrase says what reports often say beside an observation, not what an image shows. Its "
        "words are those of the reports: where these may not be passed on, ask before the table is.",
        learnt=f"{reports['read']:,} reports ({reports['unreadable']:,} more are unreadable to the labeller, "
        f"{reports['without_section']:,} studies lack the section)",
        notes=[
            f"{facts['lists']} of {_most(facts)} pairs of observation and polarity have phrases; "
            "uncertain observations count as positive.",
            f"A study of the train split has {studies['mean_phrases']:.1f} of {facts['distinct_phrases']:,} "
            f"distinct phrases on average; {studies['without_phrases']:,} studies have none.",
            f"Two studies {_likeness(studies)}. At 100% the phrases would not depend on the study.",
        ],
        rest=f"| words | phrases in all lists | distinct phrases |\n|---|---|---|\n{rows}",
    )


def _most(facts: Mapping[str, Any]) -> int:
    """The lists that there can be."""
    return len(OBSERVATIONS) * (len(POLARITIES) if facts["settings"]["polarity"] == "both" else 1)


def _by_words(counts: Mapping[str, int]) -> str:
    found = [f"{count:,} of {words} word{'s' * (words != '1')}" for words, count in counts.items() if count]
    return ", ".join(found)


def _likeness(studies: Mapping[str, Any]) -> str:
    if studies["mean_jaccard"] is None:
        return "were not compared, for there is only one"
    return (
        f"share {studies['mean_jaccard']:.0%} of their phrases (mean Jaccard index of all pairs of "
        f"{studies['compared']:,} studies)"
    )
