"""The observations of a study before its report is written: policies, origins, and what is never read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_observation_endpoint import GOOD, LABELS, Reply, Server
from tiny_parts import tiny_parts

from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.parts.report_index import ReportIndex, seen_views
from radscribe.parts.retriever import Retriever
from radscribe.studies.store import PreparedStore
from radscribe.systems.study_observations import (
    StudyObservations,
    StudyObservationsConfig,
    StudyObserver,
    as_tensor,
    labels_of_report,
)
from radscribe.text.chat_endpoint import EndpointConfig
from radscribe.vision.transforms import TransformConfig, stack_views

NAN = float("nan")


def observer(**fields) -> StudyObserver:
    parts = tiny_parts()
    return StudyObserver.load(
        StudyObservationsConfig(**fields), parts["observation-classifier"], parts["retriever"]
    )


def studies(split: str):
    return PreparedStore(Path(tiny_parts()["phrases"]).parent / "store").studies(split)


def views_of(chosen, transform) -> tuple[torch.Tensor, torch.Tensor]:
    return stack_views([seen_views(study, transform) for study in chosen])


def observed(found: StudyObserver, split: str = "val") -> list[StudyObservations]:
    return found.observe(*views_of(studies(split), found.classifier.transform))


def test_thresholds_decide_alone():
    given = [value for study in observed(observer()) for value in study.probabilities.values()]
    low, high = (sorted(given)[len(given) * quarter // 4] for quarter in (1, 3))
    found = observed(observer(policy="threshold", high=high, low=low))
    labels = {label for study in found for label in study.labels.values()}
    assert labels == {True, False}, "nothing is told apart, so nothing is tested"
    for study in found:
        assert study.retrieved is None
        for name, probability in study.probabilities.items():
            expected = True if probability >= high else False if probability <= low else None
            if name != "No Finding":
                assert study.labels.get(name) == expected
                assert study.origins.get(name) == (None if expected is None else "probability")


def test_without_a_high_threshold_the_classifier_s_own_hold():
    found = observer(policy="threshold", low=0.0)
    for study in observed(found):
        positive = {name for name, label in study.labels.items() if label}
        own = found.classifier.threshold_of
        assert positive == {name for name, value in study.probabilities.items() if value >= own[name]}


def test_drafting_reads_the_most_similar_report_of_another_study():
    trained_on = {study.id: study for study in studies("train")}
    for study in observed(observer()):
        assert study.retrieved is not None
        assert study.retrieved.text == trained_on[study.retrieved.study_id].report("findings")
        said = labels_of_report(study.retrieved.text)
        assert said.items() <= study.labels.items()
        for name, origin in study.origins.items():
            if name != "No Finding":
                assert origin == ("retrieved report" if name in said else "probability")


def test_labels_of_a_report():
    text = "Cardiomegaly. Possible small left pleural effusion. No pneumothorax."
    assert labels_of_report(text) == {"Cardiomegaly": True, "Pleural Effusion": True, "Pneumothorax": False}


def test_training_reads_what_is_known_of_the_own_report():
    found = observer(low=0.0, high=1.0)
    chosen = studies("train")[:2]
    labels = torch.full((2, 14), NAN)
    labels[0, OBSERVATIONS.index("Edema")] = 1
    labels[0, OBSERVATIONS.index("Fracture")] = 0
    labels[1, OBSERVATIONS.index("Fracture")] = 0
    reports = [study.report("findings") for study in chosen]
    first, second = found.observe_training(*views_of(chosen, found.classifier.transform), reports, labels)
    # An abnormal observation contradicts No Finding.
    assert first.labels == {"Edema": True, "Fracture": False, "No Finding": False}
    assert set(first.origins.values()) == {"own report"}
    assert second.labels == {"Fracture": False}
    assert first.retrieved is second.retrieved is None
    assert as_tensor([second]).nan_to_num(-1).equal(labels[1:].nan_to_num(-1))


def test_training_can_read_the_report_of_another_study_as_well():
    found = observer(retrieved_in_training=True)
    chosen = studies("train")
    reports = [study.report("findings") for study in chosen]
    views = views_of(chosen, found.classifier.transform)
    read = found.observe_training(*views, reports, torch.ones(len(chosen), 14))
    patients = {study.id: study.patient_id for study in chosen}
    for study, its in zip(chosen, read, strict=True):
        assert its.retrieved is not None
        assert patients[its.retrieved.study_id] != study.patient_id
        assert "own report" not in its.origins.values()


def test_without_another_patient_probabilities_decide():
    found = observer()
    (study, *_) = studies("train")
    assert found.retriever is not None
    views = views_of([study], found.classifier.transform)
    whole = found.retriever.index
    own = next(indexed for same_text in whole.reports for indexed in same_text if indexed.id == study.id)
    index = ReportIndex([[own]], whole.embeddings[:1])
    found.retriever = Retriever(found.retriever.towers, found.retriever.config, index)
    (observations,) = found.observe(*views)
    assert observations.retrieved is None
    assert set(observations.origins.values()) <= {"probability", "retrieved report"}
    (by_threshold,) = observer(policy="threshold").observe(*views)
    assert observations.labels == by_threshold.labels


def test_views_of_another_size_are_refused():
    found = observer()
    found.check_views(TransformConfig(short_side=64, crop=56))
    with pytest.raises(RadScribeError, match=r"views of 56 pixels .* have 48 from 64 .*--crop 48"):
        found.check_views(TransformConfig(short_side=64, crop=48))


class TestEndpoint:
    def observer(self, url: str, **fields) -> StudyObserver:
        endpoint = EndpointConfig(url=url, model="any", timeout_seconds=5, attempts=1)
        return observer(policy="llm", endpoint=endpoint, **fields)

    def test_a_language_model_decides(self):
        with Server(reply=lambda request: Reply(GOOD)) as server:
            found = observed(self.observer(server.url))
        assert all(study.labels == LABELS for study in found)
        assert all(set(study.origins.values()) == {"language model"} for study in found)
        # What it read is the report of another patient, and it is told so.
        for request, study in zip(server.requests, found, strict=True):
            assert "similar patient's" in request.prompt
            assert json.dumps(study.retrieved.text)[1:20] in request.prompt

    def test_in_training_it_reads_the_own_report(self):
        chosen = studies("train")[:2]
        reports = [study.report("findings") for study in chosen]
        with Server(reply=lambda request: Reply(GOOD)) as server:
            found = self.observer(server.url)
            views = views_of(chosen, found.classifier.transform)
            read = found.observe_training(*views, reports, torch.full((2, 14), NAN))
        assert all(study.labels == LABELS for study in read)
        for request, report in zip(server.requests, reports, strict=True):
            assert "REPORT (own" in request.prompt
            assert json.dumps(report)[1:20] in request.prompt

    def test_nonsense_leaves_the_decision_to_the_rule(self):
        with Server(reply=lambda request: Reply("I cannot help with that.")) as server:
            asked = observed(self.observer(server.url))
        assert asked == observed(observer())

    def test_an_endpoint_that_does_not_answer_ends_the_command(self):
        with (
            Server(reply=lambda request: Reply(status=503)) as server,
            pytest.raises(RadScribeError, match="--system.observations.policy labeller"),
        ):
            observed(self.observer(server.url))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"policy": "llm"}, "policy llm needs system.observations.endpoint.url"),
        ({"low": 0.5, "high": 0.4}, "system.observations.low 0.5 must be below"),
        ({"high": 1.5}, "system.observations.high"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        StudyObservationsConfig(**fields)


def test_the_own_report_is_never_read():
    """Nothing of a study but its pixels reaches what chooses the phrases."""
    found = observer()
    chosen = studies("test")
    blind = [replace(study, sections={}, observations={}) for study in chosen]
    transform = found.classifier.transform
    assert found.observe(*views_of(chosen, transform)) == found.observe(*views_of(blind, transform))
