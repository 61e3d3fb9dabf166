"""Which of the 14 observations a study has, before its report is written: by report, probability or LLM.

CmEAA (appendix A.1) gives GPT-4 the probabilities of a classifier together with a report: in training the
report of the study, and otherwise the most similar report of the train split. Three policies stand for that
step; see `StudyObservationsConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from radscribe.observations import OBSERVATIONS
from radscribe.parts.observation_classifier import ObservationClassifier
from radscribe.parts.part import check_same_views
from radscribe.parts.report_index import RetrievedReport
from radscribe.parts.retriever import Retriever
from radscribe.ranges import SHARE, check_fields
from radscribe.text.chat_endpoint import EndpointConfig
from radscribe.text.observation_endpoint import ObservationEndpoint
from radscribe.text.observation_labeller import label_report
from radscribe.vision.transforms import TransformConfig

#: Where a label comes from.
Origin = Literal["own report", "retrieved report", "probability", "language model"]


#: Each of them contradicts No Finding, which the labeller never calls absent.
_ABNORMAL = tuple(name for name in OBSERVATIONS if name not in ("No Finding", "Support Devices"))


@dataclass(kw_only=True, slots=True)
class StudyObservationsConfig:
    """How the observations of a study are found that choose the phrases which CFE reads.

    Attributes:
        policy: `labeller` takes what the labeller finds in a report, and the classifier's probability for
            what the report does not mention; `threshold` takes probabilities alone; `llm` asks a language
            model behind an endpoint, as the paper asks GPT-4, and falls back to `labeller` if its answer
            cannot be used. The report is the study's own in training, and otherwise the most similar report
            of the train split.
        high: Lowest probability that counts as positive; with 0, each observation has the threshold that its
            classifier chose.
        low: Highest probability that counts as negative. Between the two, an observation has no label.
        retrieved_in_training: Take the most similar report of another patient in training as well.
        endpoint: The endpoint of `llm`.
    """

    policy: Literal["labeller", "threshold", "llm"] = "labeller"
    high: float = 0.0
    low: float = 0.1
    retrieved_in_training: bool = False
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)

    def __post_init__(self) -> None:
        check_fields(self, "system.observations.", high=SHARE, low=SHARE)
        if self.high and self.low >= self.high:
            raise ValueError(
                f"system.observations.low {self.low} must be below system.observations.high {self.high}"
            )
        if self.policy == "llm" and not self.endpoint.url:
            raise ValueError("system.observations.policy llm needs system.observations.endpoint.url")

    @property
    def reads_reports(self) -> bool:
        """Whether drafting reads a retrieved report."""
        return self.policy != "threshold"


@dataclass(frozen=True, slots=True)
class StudyObservations:
    """The observations of one study.

    Attributes:
        labels: True for positive and False for negative observations; the others have no label.
        origins: Where each label comes from.
        probabilities: What the classifier gives each observation.
        retrieved: The report of the train split that was read; None if none was.
    """

    labels: Mapping[str, bool]
    origins: Mapping[str, Origin]
    probabilities: Mapping[str, float]
    retrieved: RetrievedReport | None = None


def as_tensor(studies: Iterable[StudyObservations]) -> Tensor:
    """The labels as float32 `[studies, observations]`: 1 positive, 0 negative, NaN without a label."""
    return torch.tensor(
        [[float(study.labels.get(name, math.nan)) for name in OBSERVATIONS] for study in studies]
    )


@lru_cache(maxsize=100_000)
def labels_of_report(report: str) -> dict[str, bool]:
    """The observations that a report mentions: True for present and uncertain ones, False for absent ones."""
    return {
        name: state != "absent"
        for name, state in label_report(report).states.items()
        if state != "not_mentioned"
    }


class StudyObserver:
    """Finds the observations of studies, from their views alone unless their own reports are given.

    Args:
        config: The policy.
        classifier: Gives the probabilities.
        retriever: Finds the report that is read; needed if the policy reads reports.
        endpoint: Answers the policy `llm`.
    """

    def __init__(
        self,
        config: StudyObservationsConfig,
        classifier: ObservationClassifier,
        retriever: Retriever | None,
        endpoint: ObservationEndpoint | None = None,
    ):
        self.config = config
        self.classifier = classifier
        self.retriever = retriever
        self.endpoint = endpoint

    @classmethod
    def load(cls, config: StudyObservationsConfig, classifier: str, retriever: str) -> StudyObserver:
        """Load the parts from their directories.

        Args:
            config: The policy.
            classifier: Directory of the observation classifier.
            retriever: Directory of the retriever, if the policy reads reports.

        Raises:
            RadScribeError: a part is missing or damaged.
        """
        return cls(
            config,
            ObservationClassifier.load(classifier, "cpu"),
            Retriever.load(retriever, "cpu") if config.reads_reports else None,
            ObservationEndpoint(config.endpoint) if config.policy == "llm" else None,
        )

    def check_views(self, transform: TransformConfig) -> None:
        """Check that the parts take the views of a system as they are.

        Raises:
            RadScribeError: a part was trained with views of another size.
        """
        parts = {"observation-classifier": self.classifier.transform}
        if self.retriever is not None:
            parts["retriever"] = self.retriever.transform
        for kind, own in parts.items():
            check_same_views(kind, own, transform)

    def observe(self, views: Tensor, view_mask: Tensor) -> list[StudyObservations]:
        """The observations of each study, from its views alone.

        The report that is read is of another patient, as far as pixels tell.

        Args:
            views: The views as `System.generate` takes them.
            view_mask: bool `[studies, views]`, True for views that are there.
        """
        probabilities = self._probabilities(views, view_mask)
        if not self.config.reads_reports:
            return [self._by_rule({}, "probability", of_study) for of_study in probabilities]
        return [
            self._with_report(found.text if found else None, "retrieved report", of_study, found)
            for found, of_study in zip(self._retrieve(views, view_mask), probabilities, strict=True)
        ]

    def observe_training(
        self, views: Tensor, view_mask: Tensor, reports: Sequence[str], labels: Tensor
    ) -> list[StudyObservations]:
        """The observations of training studies, whose own reports may be read.

        Args:
            views: The views as in drafting, without random changes.
            view_mask: bool `[studies, views]`, True for views that are there.
            reports: The own report of each study.
            labels: What is known from these reports, under the label policies of the run, `[studies,
                observations]`: 1 positive, 0 negative, NaN not mentioned.
        """
        if not self.config.reads_reports or self.config.retrieved_in_training:
            return self.observe(views, view_mask)
        probabilities = self._probabilities(views, view_mask)
        found = []
        for report, row, of_study in zip(reports, labels.tolist(), probabilities, strict=True):
            values = zip(OBSERVATIONS, row, strict=True)
            known = {name: value > 0.5 for name, value in values if not math.isnan(value)}
            found.append(self._with_report(report, "own report", of_study, known=known))
        return found

    def _probabilities(self, views: Tensor, view_mask: Tensor) -> list[dict[str, float]]:
        predicted = self.classifier.to(views.device).predict(views, view_mask).tolist()
        return [dict(zip(OBSERVATIONS, row, strict=True)) for row in predicted]

    def _retrieve(self, views: Tensor, view_mask: Tensor) -> list[RetrievedReport | None]:
        assert self.retriever is not None
        self.retriever.towers.to(views.device)
        return self.retriever.most_similar(views, view_mask)

    def _with_report(
        self,
        report: str | None,
        origin: Origin,
        probabilities: Mapping[str, float],
        retrieved: RetrievedReport | None = None,
        known: Mapping[str, bool] | None = None,
    ) -> StudyObservations:
        """The observations by the language model, or else what the report says, or else by probability."""
        if self.endpoint is not None:
            answer = self.endpoint.labels(probabilities, report, own=retrieved is None)
            if answer is not None:
                origins: dict[str, Origin] = dict.fromkeys(answer, "language model")
                return StudyObservations(answer, origins, probabilities, retrieved)
        if known is None:
            known = labels_of_report(report) if report else {}
        return self._by_rule(known, origin, probabilities, retrieved)

    def _by_rule(
        self,
        known: Mapping[str, bool],
        origin: Origin,
        probabilities: Mapping[str, float],
        retrieved: RetrievedReport | None = None,
    ) -> StudyObservations:
        """What is known stands; of the rest, high probabilities are positive and low ones are negative."""
        labels, origins = dict(known), dict.fromkeys(known, origin)
        if "No Finding" not in labels and any(labels.get(name) for name in _ABNORMAL):
            labels["No Finding"], origins["No Finding"] = False, origin
        for name, threshold in self.classifier.threshold_of.items():
            probability = probabilities[name]
            if name in labels:
                continue
            if probability >= (self.config.high or threshold):
                labels[name], origins[name] = True, "probability"
            elif probability <= self.config.low:
                labels[name], origins[name] = False, "probability"
        return StudyObservations(labels, origins, probabilities, retrieved)
