"""The 14 CheXpert observations, their states, and the numbers that stand for the states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast, get_args

ObservationState = Literal["present", "absent", "uncertain", "not_mentioned"]

OBSERVATION_STATES: tuple[ObservationState, ...] = get_args(ObservationState)

#: The 14 CheXpert observations in the column order of the CheXpert label files. Always address
#: them by name: label order differs between published codes.
OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

#: The observations that the CheXpert competition is scored on.
COMPETITION_OBSERVATIONS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")

_LABEL_VALUES: dict[float, ObservationState] = {1: "present", 0: "absent", -1: "uncertain"}


def parse_state(value: str) -> ObservationState:
    """A state from a cell of a label file: 1, 0, -1 or blank as in CheXpert and CheXbert, or its name.

    Raises:
        ValueError: the value is anything else.
    """
    state = value.strip().lower().replace(" ", "_")
    if not state or state == "nan":
        return "not_mentioned"
    if state in OBSERVATION_STATES:
        return cast(ObservationState, state)
    try:
        return _LABEL_VALUES[float(state)]
    except (ValueError, KeyError):
        raise ValueError(f"is '{value}', not 1, 0, -1, blank or a state") from None


def as_binary(
    states: Mapping[str, ObservationState],
    *,
    uncertain: Literal["as_present", "as_absent", "ignore"],
    missing: Literal["as_absent", "ignore"],
) -> dict[str, int]:
    """States as the numbers 0 and 1, by policies that the caller must name, because published codes differ in
    them.

    Args:
        states: State of each observation, by name.
        uncertain: What an uncertain observation counts as.
        missing: What an observation that is not mentioned counts as.

    Returns:
        1 (present) or 0 (absent) by observation; an observation that is ignored has no key.
    """
    values: dict[ObservationState, int | None] = {
        "present": 1,
        "absent": 0,
        "uncertain": {"as_present": 1, "as_absent": 0, "ignore": None}[uncertain],
        "not_mentioned": {"as_absent": 0, "ignore": None}[missing],
    }
    return {name: value for name, state in states.items() if (value := values[state]) is not None}
