"""How far visual embeddings lie from the words of the language model that reads them.

Figure 4 of the paper of `bidirectional`: a histogram of the Euclidean distance of each visual embedding to
the nearest word embedding. Beside it, whether the embeddings still tell studies apart: a training loss that
draws them to a target may draw all of them to one point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
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
from radscribe.evaluation.bootstrap import scores_with_intervals
from radscribe.evaluation.comparison import GroupScore
from radscribe.evaluation.metrics import StudyStatistics
from radscribe.studies.outputs import check_output, replace_file
from radscribe.studies.study import Study
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.training.data import evaluation_views
from radscribe.training.trained_system import TrainedSystem
from radscribe.vision.transforms import stack_views

_BATCH = 16
_WORDS_AT_ONCE = 4096
_BINS = 60
_RESAMPLES = 1000
FIGURES = (".png", ".pdf", ".svg")
#: Stands in every figure, by which it is known as ours.
_MARK = "RadScribe, radiology report drafts"


@dataclass(frozen=True)
class EmbeddingDistances:
    """Distances of the visual embeddings of some studies to the nearest word embedding, in one or more runs.

    Attributes:
        nearest: of each visual embedding of every run `[embeddings]`.
        studies: sum of a study's distances, and how many they are `[runs, studies, 2]`.
        between_words: mean distance of a word embedding to its nearest other, a scale to read `nearest` by.
        variance_over_studies: of the studies' mean embeddings, averaged over the width, and over runs.
        variance: of all embeddings, likewise.
    """

    nearest: np.ndarray
    studies: np.ndarray
    between_words: float
    variance_over_studies: float
    variance: float

    @classmethod
    def of_runs(cls, runs: Sequence[EmbeddingDistances]) -> EmbeddingDistances:
        """Those of several runs on the same studies, with means over runs.

        Raises:
            RadScribeError: there is no run, or their studies are not as many.
        """
        counts = {each.studies.shape[1] for each in runs}
        if len(counts) != 1:
            raise RadScribeError(
                f"there are not as many studies in each run: {sorted(counts)}", "Give --store"
            )
        return cls(
            np.concatenate([each.nearest for each in runs]),
            np.concatenate([each.studies for each in runs]),
            *(
                float(np.mean([getattr(each, name) for each in runs]))
                for name in ("between_words", "variance_over_studies", "variance")
            ),
        )

    def mean(self) -> GroupScore:
        """The mean distance, with the interval that resampling the studies gives, and the runs' range."""
        statistics = StudyStatistics(
            self.studies.sum(axis=0), lambda sums: {"mean": sums[..., 0] / sums[..., 1]}
        )
        of_runs = self.studies.sum(axis=1)
        of_runs = of_runs[:, 0] / of_runs[:, 1]
        score = scores_with_intervals([statistics], _RESAMPLES, seed=0)["mean"]
        return GroupScore(score, float(of_runs.min()), float(of_runs.max()))

    def to_json(self) -> dict[str, Any]:
        """Summary as plain JSON values."""
        low, median, high = np.percentile(self.nearest, [5, 50, 95])
        return {
            "runs": len(self.studies),
            "studies": self.studies.shape[1],
            "embeddings": len(self.nearest),
            "mean": asdict(self.mean()),
            "percentile_5": float(low),
            "median": float(median),
            "percentile_95": float(high),
            "between_words": self.between_words,
            "variance_over_studies": self.variance_over_studies,
            "variance": self.variance,
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        values, group = self.to_json(), self.mean()
        mean = group.mean
        runs = f"; {values['runs']} runs {group.lowest:.3f}-{group.highest:.3f}" if values["runs"] > 1 else ""
        return (
            f"distance to the nearest word: mean {mean.value:.3f} ({mean.low:.3f}-{mean.high:.3f}"
            f"{runs}), 5% to 95% of embeddings {values['percentile_5']:.3f}-{values['percentile_95']:.3f}; "
            f"between words {self.between_words:.3f}; "
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
    nearest, distances, means, every = [], [], [], []
    left = iter(tqdm(studies, desc="embedding", unit="study", disable=not progress, leave=False))
    while batch := list(islice(left, _BATCH)):
        views, mask = stack_views([evaluation_views(study, trained.config.data) for study in batch])
        visual = system.visual_embeddings(views.to(trained.device), mask.to(trained.device))
        for embeddings, there in zip(visual.embeddings.float(), visual.mask, strict=True):
            embeddings = embeddings[there]
            nearest.append(_nearest(embeddings, words))
            distances.append([nearest[-1].sum().item(), len(embeddings)])
            means.append(embeddings.mean(dim=0))
            every.append(embeddings.var(dim=0, correction=0) + embeddings.mean(dim=0).square())
    mean = torch.stack(means)
    return EmbeddingDistances(
        nearest=torch.cat(nearest).cpu().numpy(),
        studies=np.array([distances]),
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
    """Write the histograms, one line for each run or group, as PNG, PDF or SVG by the name of `out`.

    Raises:
        RadScribeError: see `check_figure`, or the file cannot be written.
    """
    check_figure(out)
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
    axes.set_title(NOTICE, loc="right", fontsize=6, color="grey")
    suffix = out.suffix.lower()
    picture = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "radscribe"}):
        metadata = {"Software" if suffix == ".png" else "Creator": _MARK}
        figure.savefig(picture, format=suffix[1:], dpi=150, metadata=metadata)
    replace_file(out, picture.getvalue())


def check_figure(out: Path) -> None:
    """Check, before the work begins, that the histograms can be written to a file.

    Raises:
        RadScribeError: its name has another ending, or something of others stands there.
    """
    if out.suffix.lower() not in FIGURES:
        raise RadScribeError(
            f"histograms cannot be written to '{out}'", f"Its name must end in {', '.join(FIGURES)}"
        )
    check_output(out, _MARK.encode(), "a figure")
