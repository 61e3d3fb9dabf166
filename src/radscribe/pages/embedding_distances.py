"""Distances of visual embeddings to word embeddings, and a test whether text-to-vision reads the report.

Figure 4 of the paper of `bidirectional` is a histogram of the Euclidean distance of each visual embedding to
the nearest word embedding. Two further measurements show what that distance alone does not:

- whether the embeddings still differ between studies. A loss that draws embeddings to a target may draw all
  of them to one point; then their variance is small;
- whether the text-to-vision branch reads the report: L_TVC with the study's own report is compared with L_TVC
  with the report of another study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError
from radscribe.evaluation.bootstrap import scores_with_intervals
from radscribe.evaluation.metrics import StudyStatistics
from radscribe.evaluation.scores import GroupScore
from radscribe.files import check_output, replace_file
from radscribe.parts.view_classifier import ViewClassifier, with_predicted_projections
from radscribe.progress import track
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.run_parts import check_parts
from radscribe.runs.trained_system import TrainedSystem, load
from radscribe.runs.views import evaluation_batches
from radscribe.studies.study import PROJECTIONS, Study
from radscribe.systems.bidirectional import Bidirectional
from radscribe.systems.language_model_system import LanguageModelSystem
from radscribe.systems.system import pad_tokens

_BATCH = 16
_WORDS_AT_ONCE = 4096
_BINS = 60
_RESAMPLES = 1000
FIGURES = (".png", ".pdf", ".svg")
#: Text in the metadata of every figure, by which RadScribe recognises its own figures.
_MARK = "RadScribe, radiology report drafts"


@dataclass(frozen=True)
class ReportExchange:
    """L_TVC (Eq. 2) of studies with their own report and with another, in one or more runs.

    Attributes:
        own: For the study's own report, the sum of L_TVC over its images and the number of images `[runs,
            studies, 2]`.
        other: The same for the report of the next study whose report differs.
    """

    own: np.ndarray
    other: np.ndarray

    def ratios(self) -> list[float]:
        """For each run, L_TVC with the other report divided by L_TVC with the own report."""
        return (_by_run(self.other) / _by_run(self.own)).tolist()

    def to_json(self) -> dict[str, Any]:
        """The means and ratios as plain JSON values."""
        own, other = (asdict(_mean_of(sums)) for sums in (self.own, self.other))
        return {"studies": self.own.shape[1], "own": own, "other": other, "other_by_own": self.ratios()}

    def __str__(self) -> str:
        ratios = " ".join(f"{ratio:.3f}" for ratio in self.ratios())
        return (
            f"L_TVC {_text_of(self.own)}, given another study's report {_text_of(self.other)}: "
            f"{ratios} times as much"
        )


@dataclass(frozen=True)
class EmbeddingDistances:
    """Distances of visual embeddings to the nearest word embedding, in one or more runs.

    Attributes:
        nearest: Distance of each visual embedding of every run `[embeddings]`.
        studies: Sum of the distances of each study, and the number of its embeddings `[runs, studies, 2]`.
        between_words: Mean distance of a word embedding to the nearest other one, to compare `nearest` with.
        variance_over_studies: Variance of the mean embeddings of the studies, averaged over the width and
            over runs.
        variance: Variance of all embeddings, averaged over the width and over runs.
        position_variance: Squared distance of each embedding to the mean of its patch position over all views
            of its projection, averaged over embeddings and over runs. This is the L_TVC of a text-to-vision
            branch that generates these means, whatever the report says.
        exchange: Result of exchanging the reports; None if a run has no text-to-vision branch, or all reports
            are the same.
    """

    nearest: np.ndarray
    studies: np.ndarray
    between_words: float
    variance_over_studies: float
    variance: float
    position_variance: float
    exchange: ReportExchange | None

    @classmethod
    def of_runs(cls, runs: Sequence[EmbeddingDistances]) -> EmbeddingDistances:
        """Combine the distances of several runs on the same studies; averages are taken over runs.

        Raises:
            RadScribeError: there is no run, or the runs have different numbers of studies.
        """
        counts = {run.studies.shape[1] for run in runs}
        if len(counts) != 1:
            raise RadScribeError(
                f"there are not as many studies in each run: {sorted(counts)}", "Give --store"
            )
        exchanges = [run.exchange for run in runs if run.exchange]
        exchange = None
        if len(exchanges) == len(runs):
            exchange = ReportExchange(
                np.concatenate([measured.own for measured in exchanges]),
                np.concatenate([measured.other for measured in exchanges]),
            )
        means = {
            name: float(np.mean([getattr(run, name) for run in runs]))
            for name in ("between_words", "variance_over_studies", "variance", "position_variance")
        }
        return cls(
            nearest=np.concatenate([run.nearest for run in runs]),
            studies=np.concatenate([run.studies for run in runs]),
            exchange=exchange,
            **means,
        )

    def mean(self) -> GroupScore:
        """The mean distance with its interval from resampling the studies, and the range of the runs."""
        return _mean_of(self.studies)

    def to_json(self) -> dict[str, Any]:
        """A summary as plain JSON values."""
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
            "position_variance": self.position_variance,
            "report_exchange": self.exchange and self.exchange.to_json(),
            "notice": NOTICE,
        }

    def __str__(self) -> str:
        low, high = np.percentile(self.nearest, [5, 95])
        lines = [
            f"distance to the nearest word: mean {_text_of(self.studies)}, "
            f"5% to 95% of embeddings {low:.3f}-{high:.3f}; between words {self.between_words:.3f}",
            f"variance over studies {self.variance_over_studies:.2e} of {self.variance:.2e}; "
            f"squared distance to the mean of the patch position {self.position_variance:.3f}",
        ]
        return "\n  ".join([*lines, str(self.exchange)] if self.exchange else lines)


def _by_run(sums: np.ndarray) -> np.ndarray:
    """The mean of each run `[runs]`, computed from sums and counts `[runs, studies, 2]`."""
    totals = sums.sum(axis=1)
    return totals[:, 0] / totals[:, 1]


def _mean_of(sums: np.ndarray) -> GroupScore:
    """The mean over studies and runs, computed from sums and counts `[runs, studies, 2]`."""
    statistics = StudyStatistics(sums.sum(axis=0), lambda drawn: {"mean": drawn[..., 0] / drawn[..., 1]})
    of_runs = _by_run(sums)
    score = scores_with_intervals([statistics], _RESAMPLES, seed=0)["mean"]
    return GroupScore(score, float(of_runs.min()), float(of_runs.max()), tuple(of_runs.tolist()))


def _text_of(sums: np.ndarray) -> str:
    group, runs = _mean_of(sums), len(sums)
    mean = group.mean
    of_runs = f"; {runs} runs {group.lowest:.3f}-{group.highest:.3f}" if runs > 1 else ""
    return f"{mean.value:.3f} ({mean.low:.3f}-{mean.high:.3f}{of_runs})"


def distances_of_groups(
    groups: Mapping[str, Sequence[str]],
    *,
    store: Path | None = None,
    split: str = "test",
    progress: bool = True,
) -> Iterator[tuple[str, EmbeddingDistances]]:
    """Measure groups of runs, and give the name and the distances of each group as soon as it is measured.

    Args:
        groups: Run directories by name of their group.
        store: Prepared store with the studies; by default the store that each run was trained on.
        split: Split to measure: `train`, `val`, `test` or `all`.
        progress: Show the progress.

    Raises:
        RadScribeError: a run or its store cannot be opened; or see `embedding_distances`.
    """
    for name, runs in groups.items():
        measured = []
        for run in runs:
            directory, trained = RunDirectory(run), load(run)
            studies = directory.open_store(store).studies(split)
            check_parts(directory.path, trained.config, directory.read_facts())
            measured.append(embedding_distances(trained, studies, progress=progress))
        yield name, EmbeddingDistances.of_runs(measured)


@torch.inference_mode()
def embedding_distances(
    trained: TrainedSystem, studies: Sequence[Study], *, progress: bool = True
) -> EmbeddingDistances:
    """Measure the embeddings of a trained system with a frozen language model.

    Args:
        trained: Trained system to measure.
        studies: Studies with readable views.
        progress: Show a progress bar.

    Raises:
        RadScribeError: the system has no language model, or there is no study.
    """
    system, data = trained.system, trained.config.data
    if not isinstance(system, LanguageModelSystem):
        raise RadScribeError(
            f"{trained.config.system_name} has no language model, and so no word embeddings",
            "Give a run of a system with a language model, such as bidirectional",
        )
    if not studies:
        raise RadScribeError("there is no study to measure")
    if data.view_classifier:
        classifier = ViewClassifier.load(data.view_classifier, trained.device.type)
        studies = with_predicted_projections(studies, classifier, data.views)
    words = system.language_model.model.get_input_embeddings().weight.float()
    nearest, distances, means, every = [], [], [], []
    positions = _Positions()
    batches = evaluation_batches(studies, data, _BATCH, workers=0)
    for batch in track(batches, len(batches), "embedding", "batches", show=progress):
        view_mask = batch.view_mask.to(trained.device)
        visual = system.visual_embeddings(batch.views.to(trained.device), view_mask)
        for embeddings, there in zip(visual.tokens.float(), visual.mask, strict=True):
            embeddings = embeddings[there]
            nearest.append(_nearest(embeddings, words))
            distances.append([nearest[-1].sum().item(), len(embeddings)])
            means.append(embeddings.mean(dim=0))
            every.append(embeddings.var(dim=0, correction=0) + embeddings.mean(dim=0).square())
        assert batch.projections is not None
        # The mean over several views has no projection.
        unknown = [PROJECTIONS.index("unknown")] * len(batch.view_mask)
        projections = unknown if system.averaged else batch.projections[batch.view_mask].tolist()
        positions.add(system.by_image(visual, view_mask), projections)
    mean = torch.stack(means)
    return EmbeddingDistances(
        nearest=torch.cat(nearest).cpu().numpy(),
        studies=np.array([distances]),
        between_words=_nearest(words, words, itself=True).mean().item(),
        variance_over_studies=mean.var(dim=0, correction=0).mean().item(),
        variance=(torch.stack(every).mean(dim=0) - mean.mean(dim=0).square()).mean().item(),
        position_variance=positions.variance(),
        exchange=_exchange(trained, studies, progress),
    )


def _nearest(embeddings: Tensor, words: Tensor, *, itself: bool = False) -> Tensor:
    """Distance of each row to the nearest row of `words`; with `itself`, to the nearest other row."""
    found = []
    for start in range(0, len(embeddings), _WORDS_AT_ONCE):
        distances = torch.cdist(embeddings[start : start + _WORDS_AT_ONCE], words)
        if itself:
            distances.diagonal(offset=start).fill_(torch.inf)
        found.append(distances.min(dim=1).values)
    return torch.cat(found)


class _Positions:
    """Sums from which the variance at each patch position of each projection is computed."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[int, Tensor, Tensor]] = {}

    def add(self, images: Tensor, projections: Sequence[int]) -> None:
        """Add visual embeddings `[images, patches, width]` of views with these projections."""
        for image, projection in zip(images.double(), projections, strict=True):
            count, total, squares = self._sums.get(projection, (0, torch.zeros(()), torch.zeros(())))
            self._sums[projection] = (count + 1, total + image, squares + image.square().sum())

    def variance(self) -> float:
        """Squared distance to the mean of the patch position, averaged over embeddings."""
        squares = sum(float(of - total.square().sum() / count) for count, total, of in self._sums.values())
        return squares / sum(count * len(total) for count, total, _ in self._sums.values())


def _exchange(trained: TrainedSystem, studies: Sequence[Study], progress: bool) -> ReportExchange | None:
    """L_TVC of all studies with reports; None without a text-to-vision branch or different reports."""
    system, data = trained.system, trained.config.data
    if not isinstance(system, Bidirectional) or not system.config.text_to_vision:
        return None
    studies = [study for study in studies if study.report(data.section).strip()]
    own = [system.encode_report(study.report(data.section)) for study in studies]
    other = [_next_other(own, row) for row in range(len(own))]
    if not own or not all(other):
        return None
    sums: list[list[list[float]]] = [[], []]
    batches = evaluation_batches(studies, data, _BATCH, workers=0)
    for number, batch in enumerate(track(batches, len(batches), "exchange", "batches", show=progress)):
        rows = slice(number * _BATCH, (number + 1) * _BATCH)
        view_mask = batch.view_mask.to(trained.device)
        images = system.by_image(
            system.visual_embeddings(batch.views.to(trained.device), view_mask), view_mask
        )
        images_of_study = [1] * len(view_mask) if system.averaged else batch.view_mask.sum(dim=1).tolist()
        for of_report, reports in zip(sums, (own, other), strict=True):
            tokens = pad_tokens(reports[rows])
            given = replace(batch, view_mask=view_mask, tokens=tokens.to(trained.device))
            losses = system.consistency(images, given).cpu().split(images_of_study)
            of_report += [[float(of_study.sum()), len(of_study)] for of_study in losses]
    return ReportExchange(*(np.array([of_studies]) for of_studies in sums))


def _next_other(reports: Sequence[list[int]], row: int) -> list[int]:
    """The first report after row `row` that differs from its report, in a circle; empty if none differs."""
    behind = [*reports[row + 1 :], *reports[:row]]
    return next((report for report in behind if report != reports[row]), [])


def draw_distances(distances: Mapping[str, EmbeddingDistances], out: Path) -> None:
    """Write histograms with one line for each run or group; the suffix of `out` decides: PNG, PDF or SVG.

    Raises:
        RadScribeError: see `check_figure`, or the file cannot be written.
    """
    check_figure(out)
    highest = max(float(group.nearest.max()) for group in distances.values())
    bins = np.linspace(0, highest, _BINS + 1)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, group in distances.items():
        axes.hist(group.nearest, bins=bins.tolist(), density=True, histtype="step", linewidth=1.5, label=name)
        axes.axvline(group.nearest.mean(), linestyle=":", linewidth=1, color=axes.patches[-1].get_edgecolor())
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
        RadScribeError: the name has another suffix, or the place is taken by a file that is not from
        RadScribe.
    """
    if out.suffix.lower() not in FIGURES:
        raise RadScribeError(
            f"histograms cannot be written to '{out}'", f"Its name must end in {', '.join(FIGURES)}"
        )
    check_output(out, _MARK.encode(), "a figure")
