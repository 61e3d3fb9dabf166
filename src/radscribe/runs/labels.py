"""Observation labels that systems are trained with and checked against, under named policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from radscribe.errors import RadScribeError, warn
from radscribe.observations import OBSERVATIONS, ObservationState, as_binary
from radscribe.runs.config import DataConfig
from radscribe.studies.study import Study
from radscribe.text.label_files import find_labels, read_label_file
from radscribe.text.observation_labeller import label_report


def labels_of(
    studies: Sequence[Study], config: DataConfig, option: str = "--data.labels.source"
) -> np.ndarray:
    """The observation labels of each study as numbers.

    Args:
        studies: Studies to label. They have reports or labels of their source, as `config.labels.source`
            requires.
        config: Gives the section that is labelled and the label policies.
        option: Name of the command-line option that chooses the source; errors name it.

    Returns:
        float32 `[studies, observations]` in the order of `OBSERVATIONS`: 1 present, 0 absent, NaN ignored.
        All labels of a report that the labeller cannot read are NaN; a warning counts such reports.

    Raises:
        RadScribeError: the source has no labels for a study, or the label file cannot be read.
    """
    policies = config.labels
    labels = np.full((len(studies), len(OBSERVATIONS)), np.nan, dtype=np.float32)
    for row, states in enumerate(_states(studies, config, option)):
        values = as_binary(states, uncertain=policies.uncertain, missing=policies.missing)
        for column, name in enumerate(OBSERVATIONS):
            labels[row, column] = values.get(name, np.nan)
    return labels


def _states(
    studies: Sequence[Study], config: DataConfig, option: str
) -> list[Mapping[str, ObservationState]]:
    source = config.labels.source
    if source == "report":
        labels = [label_report(study.report(config.section)) for study in studies]
        unreadable = [
            study.id for study, of_study in zip(studies, labels, strict=True) if of_study.unreadable
        ]
        if unreadable:
            warn(
                f"{len(unreadable)} of {len(studies)} reports are unreadable to the labeller, such as that "
                f"of study '{unreadable[0]}'",
                "It knows English only, so they have no observation labels. Give those of another labeller "
                f"with {option} FILE",
            )
        return [of_study.states for of_study in labels]
    of_file = {} if source == "store" else read_label_file(Path(source))
    found = [study.observations if source == "store" else find_labels(of_file, study.id) for study in studies]
    missing = [study.id for study, states in zip(studies, found, strict=True) if not states]
    if missing:
        raise RadScribeError(
            f"{len(missing)} of {len(studies)} studies have no labels in "
            f"{'the store' if source == 'store' else source}, the first is '{missing[0]}'",
            f"Have reports labelled instead with {option} report",
        )
    return [states for states in found if states]
