"""How far visual embeddings lie from the words of the language model that reads them.

Figure 4 of the paper of `bidirectional`: a histogram of the Euclidean distance of each visual embedding to
the nearest word embedding. Beside it, whether the embeddings still tell studies apart: a training loss that
draws them to a target may draw all of them to one point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from radscribe import NOTICE
from radscribe.errors import RadScribeError
from radscribe.studies.study import Study
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.training.data import evaluation_views
from radscribe.training.trained_system import TrainedSystem
from radscribe.vision.transforms import stack_views

_BATCH = 16
_WORDS_AT_ONCE = 4096
_BINS = 60


@dataclass(frozen=True)
class EmbeddingDistances:
    """Distances of the visual embeddings of some studies to the nearest word embedding.

    Attributes:
        nearest: of each visual embedding `[embeddings]`.
        between_words: mean distance of a word embedding to its nearest other, a scale to read `nearest` by.
        variance_over_studies: of the studies' mean embeddings, averaged over the width.
        variance: of all embeddings, likewise.
    """

    nearest: np.ndarray
    between_words: float
    variance_over_studies: float
    variance: float

    def to_json(self) -> dict[str, Any]:
        """Summary as plain JSON values."""
        low, median, high = np.percentile(self.nearest, [5, 50, 95])
        values = asdict(self)
        del values["nearest"]
        return {
            "embeddings": len(self.nearest),
            "mean": float(self.nearest.mean()),
            "percentile_5": float(low),
            "median": float(median),
            "percentile_95": float(high),
            **values,
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        values = self.to_json()
        return (
            f"distance to the nearest word: mean {values['mean']:.3f}, 5% to 95% "
            f"{values['percentile_5']:.3f} to {values['percentile_95']:.3f} "
            f"({values['embeddings']} embeddings; between words {self.between_words:.3f}); "
            f"variance over studies {self.variance_over_studies:.2e} of {self.variance:.2e}"
        )


@torch.inference_mode()
def embedding_distances(
    trained: TrainedSystem, studies: Sequence[Study], *, progress: bool = True
) -> EmbeddingDistances:
    """Measure a trained system with a frozen language model.

    Args:
        trained: the system.
        studies: with readable views.
        progress: show a progress bar.

    Raises:
        RadScribeError: the system has no language model, or there is no study.
    """
    system = trained.system
    if not isinstance(system, LanguageModelSystem):
        raise RadScribeError(
            f"{trained.config.system_name} has no language model, and so no word embeddings to be near to",
            "Give a run of a system with one, such as bidirectional",
        )
    if not studies:
        raise RadScribeError("there is no study to measure")
    words = system.language_model.model.get_input_embeddings().weight.float()
    nearest, means, every = [], [], []
    left = iter(tqdm(studies, desc="embedding", unit="study", disable=not progress, leave=False))
    while batch := list(islice(left, _BATCH)):
        views, mask = stack_views([evaluation_views(study, trained.config.data) for study in batch])
        visual = system.visual_embeddings(views.to(trained.device), mask.to(trained.device))
        for embeddings, there in zip(visual.embeddings.float(), visual.mask, strict=True):
            embeddings = embeddings[there]
            nearest.append(_nearest(embeddings, words))
            means.append(embeddings.mean(dim=0))
            every.append(embeddings.var(dim=0, correction=0) + embeddings.mean(dim=0).square())
    mean = torch.stack(means)
    return EmbeddingDistances(
        nearest=torch.cat(nearest).cpu().numpy(),
        between_words=_nearest(words, words, itself=True).mean().item(),
        variance_over_studies=mean.var(dim=0, correction=0).mean().item(),
        variance=(torch.stack(every).mean(dim=0) - mean.mean(dim=0).square()).mean().item(),
    )


def _nearest(embeddings: torch.Tensor, words: torch.Tensor, *, itself: bool = False) -> torch.Tensor:
    """Distance of each row to the nearest row of `words`; `itself`: the rows are those of `words`."""
    found = []
    for start in range(0, len(embeddings), _WORDS_AT_ONCE):
        distances = torch.cdist(embeddings[start : start + _WORDS_AT_ONCE], words)
        if itself:
            distances.diagonal(offset=start).fill_(torch.inf)
        found.append(distances.min(dim=1).values)
    return torch.cat(found)


def draw_distances(distances: Mapping[str, EmbeddingDistances], out: Path) -> None:
    """Write the histograms, one line for each run, as PNG, PDF or SVG by the name of `out`."""
    highest = max(float(each.nearest.max()) for each in distances.values())
    bins = np.linspace(0, highest, _BINS + 1)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, each in distances.items():
        axes.hist(each.nearest, bins=bins.tolist(), density=True, histtype="step", linewidth=1.5, label=name)
        axes.axvline(each.nearest.mean(), linestyle=":", linewidth=1, color=axes.patches[-1].get_edgecolor())
    axes.set_xlabel("distance of a visual embedding to the nearest word embedding (dotted: mean)")
    axes.set_ylabel("density")
    axes.legend(frameon=False)
    figure.text(0.995, 0.005, NOTICE, ha="right", va="bottom", fontsize=6, color="grey")
    out.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "radscribe"}):
        figure.savefig(out, dpi=150)
