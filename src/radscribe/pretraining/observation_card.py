"""The texts about a part that gives probabilities of the observations: on the screen, and its model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radscribe.pretraining.model_card import Section

#: Measured fields, with the heads of their columns.
_MEASURED = {
    "auc": "AUC",
    "f1": "F1",
    "threshold": "threshold",
    "temperature": "temperature",
    "calibration_error_before": "error at 1",
    "calibration_error": "error",
}
_COLUMNS = ["train", "val", *_MEASURED.values()]


def summary(facts: Mapping[str, Any]) -> str:
    """The text that is printed at the end of the training."""
    lines = [
        f"{_name(facts):25}{facts['settings']['architecture']}",
        *(f"{split:25}{_count(counts)}" for split, counts in facts["labels"].items()),
        "",
        f"{'present in':26}{'train':>6}{'val':>6}" + "".join(f"{head:>12}" for head in _MEASURED.values()),
    ]
    for name, cells in _rows(facts).items():
        train, val, *measured = cells
        lines.append(f"{name:26}{train:>6}{val:>6}" + "".join(f"{cell:>12}" for cell in measured))
    return "\n".join([*lines, "", *_notes(facts)])


def section(facts: Mapping[str, Any]) -> Section:
    """The section of the model card."""
    settings = facts["settings"]
    rows = "\n".join(f"| {name} | {' | '.join(cells)} |" for name, cells in _rows(facts).items())
    return Section(
        title=f"{_name(facts).capitalize()}, {settings['architecture']}",
        purpose="Gives the probability of each of the 14 CheXpert observations in the views of a chest X-ray "
        "study.",
        caution="It knows what its labels say, and labels by rules repeat the errors of the rules.",
        learnt=_count(facts["labels"]["train"]),
        notes=[
            f"Labels: {settings['labels']}; uncertain counts {settings['uncertain']}, missing "
            f"{settings['missing']}.",
            *_notes(facts),
        ],
        rest=f"""| present in | {" | ".join(_COLUMNS)} |
|---|{"---|" * len(_COLUMNS)}
{rows}

`train` and `val`: how many studies of each split have the observation. `AUC`: the area under the ROC curve.
`F1`: of what reaches the threshold. `error`: the expected calibration error with the temperature;
`error at 1`: with temperature 1.""",
    )


def _name(facts: Mapping[str, Any]) -> str:
    return str(facts["kind"]).replace("-", " ")


def _rows(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """The cells of each observation, and of the means."""
    train, val = (facts["labels"][split]["observations"] for split in ("train", "val"))
    rows = {
        name: [
            str(train[name]["present"]),
            str(val[name]["present"]),
            *(_number(measured[field]) for field in _MEASURED),
        ]
        for name, measured in facts["validation"].items()
    }
    means = [
        "" if field in ("threshold", "temperature") else _number(mean_of(facts, field)) for field in _MEASURED
    ]
    return rows | {"mean": ["", "", *means]}


def mean_of(facts: Mapping[str, Any], field: str) -> float | None:
    """The mean of a measured field over the observations whose value is known; None if no value is known.

    Args:
        facts: Facts of the training.
        field: Name of the field: `auc`, `f1`, `calibration_error_before` or `calibration_error`.
    """
    values = [value for measured in facts["validation"].values() if (value := measured[field]) is not None]
    return sum(values) / len(values) if values else None


def _notes(facts: Mapping[str, Any]) -> list[str]:
    """One sentence for each point that a reader of the table must know."""
    train = facts["labels"]["train"]["observations"]
    measured = facts["validation"]
    named = {
        "Not learnt, for no study of the train split has a label of it": [
            name for name, counts in train.items() if not counts["present"] and not counts["absent"]
        ],
        "Not learnt, for no study of the train split has it": [
            name for name, counts in train.items() if not counts["present"] and counts["absent"]
        ],
        "Not learnt, for every study of the train split has it": [
            name for name, counts in train.items() if counts["present"] and not counts["absent"]
        ],
        "Temperature 1 and threshold 0.5, for too few studies of the val split have it, or have it not": [
            name for name, values in measured.items() if not values["chosen"]
        ],
    }
    notes = [f"{text}: {', '.join(names)}." for text, names in named.items() if names]
    if not facts["labels"]["val"]["studies"]:
        return [*notes, "Not measured: the val split has no labels."]
    known = sum(values["auc"] is not None for values in measured.values())
    if "best_epoch" in facts:
        notes.append(
            f"The weights are those of epoch {facts['best_epoch']} of {facts['epochs']}, which have the "
            "highest mean AUC on the val split; expect less on other studies."
        )
    return [
        *notes,
        f"The mean AUC is of {known} observations: some studies of the val split have them, others have not.",
        "Temperatures and thresholds were chosen on the val split, where F1 and error are measured: expect "
        "less on other studies.",
    ]


def _count(counts: Mapping[str, Any]) -> str:
    return f"{counts['studies']:,} studies, {counts['views']:,} views"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
