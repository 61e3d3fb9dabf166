"""Trained systems that draft and explain; the command line, notebooks and servers all use them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from radscribe.decoding.search import METHOD_OF_FIELD, DecodingConfig
from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.runs.config import RunConfig
from radscribe.runs.drafts import Alternative, DraftReport, RunOrigin, Unlikeness
from radscribe.runs.explanation import Explanation, explanation_of
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.unlikeness import (
    FeatureReader,
    TrainingFeatures,
    ViewFeatures,
    load_training_features,
)
from radscribe.runs.views import ReadableStudy, evaluation_masks, readable_studies, reject
from radscribe.studies.given import Given, given_studies
from radscribe.studies.rejection import Rejection
from radscribe.studies.study import Study
from radscribe.systems.system import Draft, System
from radscribe.vision.transforms import stack_views


class _Drafted(NamedTuple):
    """A drafted study: the views that the system saw, and the draft as tokens and as a report."""

    study: Study
    views: list[Tensor]
    tokens: Tensor
    report: DraftReport


class TrainedSystem:
    """A system with trained weights, ready to draft.

    Args:
        system: System with trained weights.
        config: Configuration of its run.
        device: Device to compute on.
        origin: Run that the system comes from, which is stored in its drafts.
        training_features: Statistics of the training studies, by which drafts say how unlike them a study is;
            None if there are none.
    """

    def __init__(
        self,
        system: System,
        config: RunConfig,
        device: torch.device,
        origin: RunOrigin | None = None,
        training_features: TrainingFeatures | None = None,
    ):
        self.system = system.to(device).eval()
        self.config = config
        self.device = device
        self.origin = origin
        self.training_features = training_features
        self._reader = FeatureReader(self.system.backbone) if training_features else None

    @property
    def caution(self) -> str:
        """Caution that must be shown with every draft of the run, such as `SYNTHETIC`; otherwise empty."""
        return self.origin.caution if self.origin else ""

    def generate(
        self,
        studies: Given | Iterable[Given],
        *,
        batch_size: int = 16,
        on_rejection: Callable[[Rejection], None] | None = None,
        **decoding: Any,
    ) -> Iterator[DraftReport]:
        """Draft a report for each study, in order.

        Args:
            studies: Studies to draft: a study, the path of an image, a folder, a table or a store, a PIL
                image, an array, a tuple of views, or a list of any of these; see `given_studies`.
            batch_size: Number of studies that are decoded together.
            on_rejection: Called with each study that cannot be drafted; without it, such a study is an error.
            **decoding: Fields of the run's decoding configuration to change, such as `beams=5`, or `n_best=3`
                for three drafts of each study.

        Raises:
            RadScribeError: a study cannot be drafted (see `on_rejection`), the short side of a store differs
            from that of the run, or a decoding field is wrong.
        """
        for drafted in self._draft(studies, batch_size, on_rejection, decoding):
            yield drafted.report

    def measure(
        self,
        studies: Given | Iterable[Given],
        *,
        batch_size: int = 16,
        on_rejection: Callable[[Rejection], None] | None = None,
    ) -> Iterator[tuple[Study, Unlikeness]]:
        """Say of each study how unlike the training images it is, without drafting it.

        Args:
            studies: Studies to measure; see `generate`.
            batch_size: Number of studies that are encoded together.
            on_rejection: Called with each study that cannot be read; without it, such a study is an error.

        Raises:
            RadScribeError: the run keeps no statistics of its training images; see also `generate`.
        """
        if self.training_features is None:
            name = f"the run '{self.origin.name}'" if self.origin else "the system"
            raise RadScribeError(
                f"{name} keeps no statistics of its training images",
                "A run that radscribe train finishes has them; an imported one and an older one have none",
            )
        readable = readable_studies(given_studies(studies, on_rejection), self.config.data, on_rejection)
        while batch := list(islice(readable, batch_size)):
            views, mask = stack_views([one.views for one in batch])
            with torch.inference_mode():
                visual = self.system.backbone(views.to(self.device), mask.to(self.device))
                found = self.training_features.unlikeness(ViewFeatures.of(visual, mask))
            yield from zip((one.study for one in batch), found, strict=True)

    def explain(
        self,
        studies: Given | Iterable[Given],
        *,
        batch_size: int = 16,
        on_rejection: Callable[[Rejection], None] | None = None,
        **decoding: Any,
    ) -> Iterator[Explanation]:
        """Draft as `generate` does, and show for each draft where the system looked when it wrote it.

        Args:
            studies: Studies to draft and explain; see `generate`.
            batch_size: Number of studies that are decoded together; each is explained by itself.
            on_rejection: Called with each study that cannot be drafted; see `generate`.
            **decoding: Fields of the run's decoding configuration to change; see `generate`.

        Raises:
            RadScribeError: see `generate`.
        """
        for drafted in self._draft(studies, batch_size, on_rejection, decoding):
            pieces = self.system.pieces(drafted.tokens.tolist())
            views, mask = stack_views([drafted.views])
            # The end token is added, so that the last word of a draft that was cut short is treated like the
            # others.
            tokens = F.pad(drafted.tokens[: len(pieces)], (0, 1)).unsqueeze(0)
            evidence = self.system.explain(views.to(self.device), mask.to(self.device), tokens)
            masks = evaluation_masks(drafted.study, self.config.data)
            yield explanation_of(drafted.study, drafted.report, pieces, drafted.views, masks, evidence)

    def stream(self, study: Given, **decoding: Any) -> Iterator[DraftReport]:
        """Draft a report for one study and give the draft so far after every token.

        The last draft is the result of `generate`. Greedy decoding only adds words, but a beam search may
        also change words of the draft before.

        Args:
            study: One study in any form that `generate` takes.
            **decoding: Fields of the run's decoding configuration to change; see `generate`.

        Raises:
            RadScribeError: see `generate`.
        """
        changed = self.decoding(**decoding)
        found = list(islice(given_studies([study]), 2))
        if len(found) != 1:
            raise RadScribeError(f"'{study}' is not one study", "Give one at a time, or use generate")
        (readable,) = readable_studies(found, self.config.data, None)
        views, mask = stack_views([readable.views])
        unlikeness: list[Unlikeness] | None = None
        for draft in self.system.stream(views.to(self.device), mask.to(self.device), changed):
            _check_numbers(readable.study, draft.logprob[0].item(), changed)
            unlikeness = unlikeness or self._unlikeness()
            yield self._report(readable, draft, 0, unlikeness)

    def decoding(self, **fields: Any) -> DecodingConfig:
        """The decoding configuration of the run with some fields changed.

        Raises:
            RadScribeError: a field is unknown, has a wrong type or value, or the method does not use it.
        """
        known = [field.name for field in dataclasses.fields(DecodingConfig)]
        if unknown := sorted(fields.keys() - set(known)):
            raise RadScribeError(f"no decoding field '{unknown[0]}'", f"Fields: {', '.join(known)}")
        own = self.config.decoding
        # If a beam search is changed to a method with one hypothesis, there is no second best draft.
        n_best = {"n_best": 1} if fields.get("method", own.method) != "beam" else {}
        try:
            changed = dataclasses.replace(own, **(n_best | fields))
        except ValueError as error:
            raise RadScribeError(str(error)) from error
        for name, method in METHOD_OF_FIELD.items():
            if name in fields and fields[name] != getattr(own, name) and changed.method != method:
                raise RadScribeError(
                    f"decoding.{name} is for the method '{method}', and drafts are decoded by "
                    f"'{changed.method}'",
                    f"Leave it out, or set decoding.method to {method}",
                )
        return changed

    def _draft(
        self,
        studies: Given | Iterable[Given],
        batch_size: int,
        on_rejection: Callable[[Rejection], None] | None,
        decoding: dict[str, Any],
    ) -> Iterator[_Drafted]:
        changed = self.decoding(**decoding)
        if batch_size < 1:
            raise RadScribeError(f"a batch has at least 1 study, not {batch_size}")
        readable = readable_studies(given_studies(studies, on_rejection), self.config.data, on_rejection)
        while batch := list(islice(readable, batch_size)):
            views, mask = stack_views([one.views for one in batch])
            draft = self.system.generate(views.to(self.device), mask.to(self.device), changed)
            unlikeness = self._unlikeness()
            for row, one in enumerate(batch):
                try:
                    _check_numbers(one.study, draft.logprob[row].item(), changed)
                except RadScribeError as error:
                    reject(one.study, error, on_rejection)
                    continue
                report = self._report(one, draft, row, unlikeness)
                yield _Drafted(one.study, one.views, draft.tokens[row], report)

    def _unlikeness(self) -> list[Unlikeness] | None:
        """How unlike the training images each study is that the system has drafted or begun just now."""
        if self.training_features is None or self._reader is None:
            return None
        return self.training_features.unlikeness(self._reader.features)

    def _report(
        self, readable: ReadableStudy, draft: Draft, row: int, unlikeness: list[Unlikeness] | None
    ) -> DraftReport:
        """The draft of one study of a batch."""
        study = readable.study
        length = min(draft.tokens.size(1), int((draft.tokens[row] != 0).sum()) + 1)
        probabilities = None
        if draft.probabilities is not None:
            probabilities = dict(zip(OBSERVATIONS, draft.probabilities[row].tolist(), strict=True))
        return DraftReport(
            id=study.id,
            text=draft.texts[row],
            logprob=draft.logprob[row].item(),
            token_logprobs=tuple(draft.token_logprobs[row, :length].tolist()),
            probabilities=probabilities,
            alternatives=tuple(
                Alternative(texts[row], logprobs[row].item())
                for texts, logprobs in draft.alternatives
                if logprobs[row] > -torch.inf  # others are empty places of the search
            ),
            images=tuple(view.name for view in study.views[: self.config.data.views]),
            notes=readable.notes,
            unlikeness=unlikeness[row] if unlikeness else None,
            run=self.origin,
        )


def load(run: Path | str, device: str = "auto") -> TrainedSystem:
    """Load a trained system from its run directory.

    Args:
        run: Run directory that `radscribe train` or `radscribe interop import` wrote.
        device: Device to compute on: `auto`, `cpu` or `cuda`.

    Raises:
        RadScribeError: this is no run directory, or a part of it is missing or does not fit.
    """
    directory = RunDirectory(run)
    system, features = directory.load_system(), load_training_features(directory)
    return TrainedSystem(system, directory.load_config(), chosen_device(device), directory.origin(), features)


def _check_numbers(study: Study, logprob: float, decoding: DecodingConfig) -> None:
    """Raise RadScribeError if the search found no draft of a study; see `Decoded.logprob`."""
    if logprob == -math.inf:
        raise RadScribeError(
            f"no draft of study '{study.id}' is allowed by decoding.minimum_length {decoding.minimum_length} "
            f"with decoding.no_repeat_ngram {decoding.no_repeat_ngram}",
            "Lower decoding.minimum_length, or set decoding.no_repeat_ngram to 0",
        )
    if not math.isfinite(logprob):
        raise RadScribeError(
            f"study '{study.id}' cannot be drafted: the system's log-probabilities are not numbers",
            "The run is damaged, or its training diverged: see radscribe check RUN",
        )
