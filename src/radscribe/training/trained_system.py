"""The one way in which a trained run drafts reports, for the command line, notebooks and servers alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import Study, View
from radscribe.systems.system import Draft, System
from radscribe.training.config import RunConfig
from radscribe.training.data import evaluation_masks, evaluation_views
from radscribe.training.device import chosen_device
from radscribe.training.explanation import Explanation, explanation_of
from radscribe.training.run_directory import RunDirectory
from radscribe.vision.transforms import check_view, stack_views


@dataclass(frozen=True, slots=True)
class DraftReport:
    """A draft of one study. Research use, not for clinical diagnosis.

    Attributes:
        id: the study's.
        text: the draft.
        logprob: its log-probability.
        token_logprobs: log-probability of each of its tokens, the end's included where it ended.
        probabilities: of each of `OBSERVATIONS`, by name, where the system classifies them.
    """

    id: str
    text: str
    logprob: float
    token_logprobs: tuple[float, ...]
    probabilities: Mapping[str, float] | None = None


class _Drafted(NamedTuple):
    """A study on its way out: the views that the system saw, what it wrote, as tokens and as a report."""

    study: Study
    views: list[Tensor]
    tokens: Tensor
    report: DraftReport


class TrainedSystem:
    """A system with trained weights, ready to draft.

    Args:
        system: in evaluation mode.
        config: of its run.
        device: where it runs.
    """

    def __init__(self, system: System, config: RunConfig, device: torch.device):
        self.system = system.to(device).eval()
        self.config = config
        self.device = device

    def generate(
        self,
        studies: Iterable[Study | Path | str],
        *,
        batch_size: int = 16,
        on_rejection: Callable[[Rejection], None] | None = None,
        **decoding: Any,
    ) -> Iterator[DraftReport]:
        """Draft a report for each study, in order.

        Args:
            studies: studies, or image files, each a study of one view.
            batch_size: studies decoded side by side.
            on_rejection: called with each study that has no readable view; without it such a study raises.
            **decoding: fields of the run's decoding configuration to change, such as `beams=5`.

        Raises:
            RadScribeError: a study without a readable view (see `on_rejection`), a study of a store with
                another short side than the run's, or a wrong decoding field.
        """
        for drafted in self._draft(studies, batch_size, on_rejection, decoding):
            yield drafted.report

    def explain(
        self,
        studies: Iterable[Study | Path | str],
        *,
        batch_size: int = 16,
        on_rejection: Callable[[Rejection], None] | None = None,
        **decoding: Any,
    ) -> Iterator[Explanation]:
        """Draft as `generate` does, and show for each draft where the system looked as it wrote it.

        Args:
            studies: see `generate`, as for all arguments.
            batch_size: studies decoded side by side; each is explained by itself.
            on_rejection: see `generate`.
            **decoding: see `generate`.

        Raises:
            RadScribeError: see `generate`.
        """
        for drafted in self._draft(studies, batch_size, on_rejection, decoding):
            pieces = self.system.pieces(drafted.tokens.tolist())
            views, mask = stack_views([drafted.views])
            # With its end, so that the last word of a draft that was cut short is read like the others.
            tokens = F.pad(drafted.tokens[: len(pieces)], (0, 1)).unsqueeze(0)
            evidence = self.system.explain(views.to(self.device), mask.to(self.device), tokens)
            masks = evaluation_masks(drafted.study, self.config.data)
            yield explanation_of(drafted.study, drafted.report, pieces, drafted.views, masks, evidence)

    def stream(self, study: Study | Path | str, **decoding: Any) -> Iterator[DraftReport]:
        """Draft a report for one study and show it while it is written: after every token, the draft so far.

        The last is what `generate` gives. A beam search may change its mind, so that a draft need not begin
        with the one before; greedy decoding only adds.

        Args:
            study: a study, or an image file as a study of one view.
            **decoding: see `generate`.

        Raises:
            RadScribeError: see `generate`.
        """
        changed = self._decoding(decoding)
        ((its_study, its_views),) = self._read([_as_study(study)], None)
        views, mask = stack_views([its_views])
        for draft in self.system.stream(views.to(self.device), mask.to(self.device), changed):
            yield _report(its_study, draft, 0)

    def _decoding(self, fields: dict[str, Any]) -> DecodingConfig:
        """The run's decoding with some fields changed."""
        known = [field.name for field in dataclasses.fields(DecodingConfig)]
        unknown = sorted(fields.keys() - set(known))
        if unknown:
            raise RadScribeError(f"no decoding field '{unknown[0]}'", f"Fields: {', '.join(known)}")
        try:
            return dataclasses.replace(self.config.decoding, **fields)
        except ValueError as error:
            raise RadScribeError(str(error)) from error

    def _draft(
        self,
        studies: Iterable[Study | Path | str],
        batch_size: int,
        on_rejection: Callable[[Rejection], None] | None,
        decoding: dict[str, Any],
    ) -> Iterator[_Drafted]:
        changed = self._decoding(decoding)
        readable = self._read(map(_as_study, studies), on_rejection)
        while batch := list(islice(readable, batch_size)):
            views, mask = stack_views([views for _, views in batch])
            draft = self.system.generate(views.to(self.device), mask.to(self.device), changed)
            for row, (study, its_views) in enumerate(batch):
                yield _Drafted(study, its_views, draft.tokens[row], _report(study, draft, row))

    def _read(
        self, studies: Iterable[Study], on_rejection: Callable[[Rejection], None] | None
    ) -> Iterator[tuple[Study, list[Tensor]]]:
        for study in studies:
            for view in study.views:
                check_view(view, self.config.data.transform)  # no fault of the study: its store does not fit
            try:
                views = evaluation_views(study, self.config.data)
                if not views:
                    raise RadScribeError(f"study '{study.id}' has no view")
            except RadScribeError as error:
                if on_rejection is None:
                    raise
                source = ", ".join(view.name for view in study.views)
                on_rejection(Rejection(study.id, source, str(error)))
                continue
            yield study, views


def load(run: Path | str, device: str = "auto") -> TrainedSystem:
    """Load a run directory; it needs nothing else.

    Args:
        run: what `radscribe train` or `radscribe interop import` wrote.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        RadScribeError: this is no run directory, or a part of it is missing or does not fit.
    """
    directory = RunDirectory(run)
    return TrainedSystem(directory.load_system(), directory.load_config(), chosen_device(device))


def _report(study: Study, draft: Draft, row: int) -> DraftReport:
    """The draft of one study among several."""
    length = min(draft.tokens.size(1), int((draft.tokens[row] != 0).sum()) + 1)
    probabilities = None
    if draft.probabilities is not None:
        probabilities = dict(zip(OBSERVATIONS, draft.probabilities[row].tolist(), strict=True))
    logprobs = tuple(draft.token_logprobs[row, :length].tolist())
    return DraftReport(study.id, draft.texts[row], draft.logprob[row].item(), logprobs, probabilities)


def _as_study(study: Study | Path | str) -> Study:
    if isinstance(study, Study):
        return study
    path = Path(study)
    return Study(id=path.stem, patient_id=path.stem, views=(View(path),))
