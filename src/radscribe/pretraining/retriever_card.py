"""The texts about a retriever: its summary on the screen, and its model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radscribe.pretraining.model_card import Section

#: How many of the first reports count for each recall.
DEPTHS = (1, 5, 10)
MEAN = "mean reciprocal rank"
_MEASURED = [*(f"recall@{depth}" for depth in DEPTHS), MEAN]
_CONTAINS = (
    "It contains the texts of the train split's reports: where these may not be passed on, neither may it"
)


def summary(facts: Mapping[str, Any]) -> str:
    """The text that is printed at the end of the training."""
    lines = [
        f"parameters    {facts['parameters']:,}",
        f"train         {_counts(facts, 'train')}",
        f"val           {_counts(facts, 'val')}",
        f"temperature   {facts['temperature']:.3g}",
    ]
    if facts["validation"]:
        lines += ["", f"{'val':17}{'  '.join(_MEASURED)}"]
        for row, found in facts["validation"].items():
            cells = [f"{found[name]:.3f}".rjust(len(name)) for name in _MEASURED]
            lines.append(f"{row:17}{'  '.join(cells)}")
        lines.append("")
    return "\n".join([*lines, f"{_selection(facts)}.", f"{_CONTAINS}."])


def section(facts: Mapping[str, Any]) -> Section:
    """The section of the model card."""
    settings = facts["settings"]
    return Section(
        title=f"Retriever of reports, {settings['architecture']}",
        purpose=f"Finds the reports (section '{settings['section']}') of its train split that fit the images "
        "of a study best.",
        caution=f"What it finds is the report of another patient. **{_CONTAINS}.**",
        learnt=_counts(facts, "train"),
        notes=[
            f"{facts['parameters']:,} parameters; temperature {facts['temperature']:.3g}.",
            f"{_selection(facts)}.",
        ],
        rest=_table(facts) if facts["validation"] else "",
    )


def _counts(facts: Mapping[str, Any], split: str) -> str:
    return f"{facts['studies'][split]:,} studies with {facts['distinct_reports'][split]:,} distinct reports"


def _selection(facts: Mapping[str, Any]) -> str:
    if not facts["validation"]:
        return "Not measured, because no study of the val split has a report; the weights are the last"
    return (
        f"The weights are those of epoch {facts['best_epoch']}, which has the highest {MEAN} on the val "
        "split; so the figures are a little too good"
    )


def _table(facts: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f"| {row} | {' | '.join(f'{found[name]:.3f}' for name in _MEASURED)} |"
        for row, found in facts["validation"].items()
    )
    return f"""| val | {" | ".join(_MEASURED)} |
|---|{"---|" * len(_MEASURED)}
{rows}

How well the distinct reports of the val split are ranked for the images of its studies. Reports with the same
text count as one report. `recall@10`: the share of the studies whose own report is among the first ten.
`chance`: a random order. `commonest first`: the best order that looks at no image."""
