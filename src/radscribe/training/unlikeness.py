"""The end of a training: statistics of the visual features of its studies, with the weights of drafting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from radscribe.device import chosen_device
from radscribe.progress import Progress
from radscribe.runs.config import RunConfig
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.unlikeness import (
    FeatureSums,
    TrainingFeatures,
    ViewFeatures,
    facts_of_training_features,
    keep_training_features,
)
from radscribe.runs.views import evaluation_batches
from radscribe.studies.study import Study
from radscribe.systems.system import System

#: Largest number of training studies whose distances a run keeps; of more, a sample is drawn.
MOST_DISTANCES = 5000


def learn_training_features(
    run: RunDirectory, train: Sequence[Study], validation: Sequence[Study], *, progress: bool
) -> None:
    """Measure the visual features of the studies of a run, and keep their statistics in it.

    The studies are seen as in drafting, and the backbone has the weights that were chosen on validation.
    Nothing is done if the run has the statistics of these weights, or a single training study.

    Args:
        run: Run with its weights.
        train: Studies that the run was trained on.
        validation: Studies of its val split.
        progress: Show the progress.

    Raises:
        RadScribeError: a view cannot be read, or the statistics cannot be written.
    """
    if facts_of_training_features(run) is not None or len(train) < 2:
        return
    config = run.load_config()
    system = run.load_system().to(chosen_device(config.training.device))
    drawn = np.random.default_rng(config.training.seed).permutation(len(train))[:MOST_DISTANCES]
    chosen = torch.zeros(len(train), dtype=torch.bool)
    chosen[torch.from_numpy(drawn)] = True
    sums, sample, of_validation, seen = FeatureSums(), [], [], 0
    with Progress(len(train) + len(validation), "measuring features", "studies", show=progress) as shown:
        for features in _features(system, train, config):
            sums.add(features.rows)
            studies = len(features.mask)
            sample.append(features.of_studies(chosen[seen : seen + studies]))
            seen += studies
            shown.update(studies)
        for features in _features(system, validation, config):
            of_validation.append(features)
            shown.update(len(features.mask))
    statistics = TrainingFeatures.of(sums, sample, of_validation)
    keep_training_features(run, statistics, len(train), len(validation))


def _features(system: System, studies: Sequence[Study], config: RunConfig) -> Iterator[ViewFeatures]:
    """The visual features of the studies in batches."""
    device = next(system.backbone.parameters()).device
    training = config.training
    for batch in evaluation_batches(studies, config.data, training.batch_size, training.workers):
        with torch.inference_mode():
            visual = system.backbone(batch.views.to(device), batch.view_mask.to(device))
            yield ViewFeatures.of(visual, batch.view_mask)
