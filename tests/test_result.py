"""Results as they are kept: every type survives JSON, and what is damaged is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
import pytest
from tiny_encoders import tiny_metric_files

from radscribe.errors import RadScribeError
from radscribe.evaluation.clinical import LabelFiles
from radscribe.evaluation.comparison import compare_groups
from radscribe.evaluation.comparison_result import Comparison
from radscribe.evaluation.evaluate import compare, evaluate_texts
from radscribe.evaluation.families import FAMILIES, METRICS, SYSTEM
from radscribe.evaluation.family import ClassifiedStudies, LabelledTexts, ScoredStudies
from radscribe.evaluation.localisation import MAP_KINDS, STUDY_MAPS, MapScore
from radscribe.evaluation.meteor import MeteorUnavailableError, meteor_statistics
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.result import Evaluation, Provenance
from radscribe.evaluation.scores import Difference, GroupDifference, GroupScore, Score
from radscribe.text.observation_labeller import label_report
from radscribe.values import typed

REFERENCES = {
    "a": "The heart is enlarged. No effusion.",
    "b": "There is a small left pleural effusion.",
    "c": "Lungs are clear. No pneumothorax.",
    "d": "There is edema and cardiomegaly.",
}
DRAFTS = REFERENCES | {"a": "The heart is normal. No effusion.", "d": "There is edema."}
CONSTANT = dict.fromkeys(REFERENCES, "No acute disease.")
PROBABILITIES = np.random.default_rng(0).random((4, 14))
LABELS = np.where(np.random.default_rng(1).random((4, 14)) > 0.5, 1.0, 0.0)
CLASSIFIED = ClassifiedStudies(PROBABILITIES, LABELS, "labels of this test")
MAPS = [
    [
        MapScore(kind, "" if kind in STUDY_MAPS else "Edema", 1.0, 0.5, 0.25, 0.125 * study)
        for kind in MAP_KINDS
    ]
    for study in range(4)
]


def evaluated(**options) -> Evaluation:
    settings = {"protocol": "clean_full", "cleaning": "iu_xray", "meteor": False, "resamples": 20}
    return evaluate_texts(DRAFTS, REFERENCES, **settings | options)


@pytest.fixture(scope="module")
def everything() -> Evaluation:
    """A result with all that a result can have, but METEOR."""
    return evaluated(
        baselines={"constant report": CONSTANT},
        classified=CLASSIFIED,
        maps=MAPS,
        files=MetricFiles(*tiny_metric_files()),
    )


def states(texts: Mapping[str, str]):
    return {study: label_report(text).states for study, text in texts.items()}


# --- JSON ---------------------------------------------------------------------------------------------------


def test_an_evaluation_survives_json(everything):
    read = Evaluation.from_json(json.loads(json.dumps(everything.to_json())))
    assert read == everything
    assert str(read) == str(everything)
    assert read.to_json() == everything.to_json()
    assert read.by_observation["class activation map"]["Edema"]["masks"] == 4
    assert not read.rows[SYSTEM].families


def test_an_evaluation_by_label_files_survives_json():
    labels = LabelFiles(states(DRAFTS), states(REFERENCES), "label files of this test")
    ours = evaluated(labels=labels, baselines={"constant report": CONSTANT})
    read = Evaluation.from_json(json.loads(json.dumps(ours.to_json())))
    assert read == ours
    assert list(read.observations) == [SYSTEM]


def test_a_comparison_survives_json():
    groups = {"one": [evaluated()], "three": [evaluated(seed=0)] * 3}
    comparison = compare_groups(groups, ["BLEU-4", "micro F1 (14, as_present)"], resamples=20)
    read = Comparison.from_json(json.loads(json.dumps(comparison.to_json() | {"chosen_epochs": {}})))
    assert read == comparison
    assert str(read) == str(comparison)
    content = changed(comparison.to_json(), "scores/one/BLEU-4/mean/low", None)
    with pytest.raises(RadScribeError, match=r"no comparison: it has no 'scores.one.BLEU-4.mean.low'"):
        Comparison.from_json(content)


@pytest.mark.parametrize(
    "record",
    [
        Score(0.5, 0.25, 0.75),
        Difference(0.5, -0.25, 0.75, 0.04),
        GroupScore(Score(0.5, 0.25, 0.75), 0.4, 0.6, (0.4, 0.6)),
        GroupDifference(0.5, 0.25, 0.75, 0.04, None, "not tested over seeds"),
        Provenance("raw", "none", None, None, 4, "00", 0.0, 10, 0, "0.1.0", further={"VDM": "masks"}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_every_record_survives_json(record):
    assert typed(json.loads(json.dumps(dataclasses.asdict(record))), type(record)) == record


def test_a_result_of_before_there_were_clinical_scores_is_read(everything):
    old = json.loads(json.dumps(evaluated(baselines={"constant report": CONSTANT}).to_json()))
    for key in ("observations", "by_observation", "unreadable", "notice"):
        del old[key]
    for key in ("labels", "reference_labels_sha256", "further", "tokenizer"):
        del old["provenance"][key]
    for row in old["scores"].values():
        for name in set(row) - set(METRICS):
            del row[name]
    read = Evaluation.from_json(old)
    assert "BLEU-4" in str(read)
    assert "F1" not in str(read)
    assert read.provenance.labels is None


def changed(content: dict, path: str, value: object) -> dict:
    """A copy in which the value at a path is another, or is gone where it is None."""
    content = json.loads(json.dumps(content))
    *parts, last = path.split("/")
    holder = content
    for part in parts:
        holder = holder[part]
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("provenance", None, "it has no 'provenance'"),
        ("provenance/protocol", None, "it has no 'provenance.protocol'"),
        ("provenance/studies", 0.5, "'provenance.studies' needs a whole number, not '0.5'"),
        ("provenance/vocabulary_entries", "many", "'provenance.vocabulary_entries' needs a whole number"),
        ("scores/system", None, "it has no 'scores.system'"),
        ("scores", [1], "'scores' needs a JSON object, not '1'"),
        ("scores/system/BLEU-4/value", "high", "'scores.system.BLEU-4.value' needs a number, not 'high'"),
        ("scores/system/BLEU-4/value", True, "'scores.system.BLEU-4.value' needs a number, not 'true'"),
        ("differences/constant report/CIDEr/p", None, "it has no 'differences.constant report.CIDEr.p'"),
        ("diversity/references", None, "it has no 'diversity.references'"),
        ("diversity/constant report", None, "it has no 'diversity.constant report'"),
        ("observations/system/as_absent", 3, "'observations.system.as_absent' needs a JSON object"),
        ("observations/system", None, "it has no 'observations.system'"),
        ("observations/system/as_present", None, "it has no 'observations.system.as_present'"),
        ("unreadable/system", "2", "'unreadable.system' needs a whole number"),
        ("missing/METEOR", 1, "'missing.METEOR' needs text"),
    ],
)
def test_what_is_damaged_is_named_by_file_and_field(everything, tmp_path, path, value, message):
    content = changed(everything.to_json(), path, value)
    with pytest.raises(RadScribeError) as caught:
        Evaluation.from_json(content)
    assert message in str(caught.value)
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(content))
    with pytest.raises(RadScribeError) as caught:
        Evaluation.read(file, "Score it")
    assert str(caught.value).startswith(f"'{file}' does not hold the scores of an evaluation: ")
    assert message in str(caught.value)
    assert str(caught.value).endswith(". Score it")


@pytest.mark.parametrize("content", ["", "[1]", '{"scores": ', "[" * 100_000, '{"scores": 1, "scores": 2}'])
def test_a_file_that_is_no_result_is_named(tmp_path, content):
    file = tmp_path / "metrics.json"
    file.write_text(content)
    with pytest.raises(RadScribeError, match="does not hold the scores of an evaluation"):
        Evaluation.read(file, "Score it")


def test_a_result_from_a_file_has_nothing_to_resample(everything):
    read = Evaluation.from_json(everything.to_json())
    for pair in ((everything, read), (read, everything)):
        with pytest.raises(RadScribeError, match="read from a file has no statistics of single studies"):
            compare(*pair)


# --- families -----------------------------------------------------------------------------------------------

#: What each need is, for the studies above.
WITHOUT = {
    "observation labels": {"labelled": LabelledTexts({}, [{}] * 4, "no one")},
    "classifier": {"classified": None},
    "finding masks": {"maps": ()},
    "models": {"files": MetricFiles()},
}
STUDIES = ScoredStudies(
    drafts={SYSTEM: list(DRAFTS.values()), "constant report": list(CONSTANT.values())},
    references=list(REFERENCES.values()),
    labelled=LabelledTexts(
        {SYSTEM: list(states(DRAFTS).values()), "constant report": list(states(CONSTANT).values())},
        list(states(REFERENCES).values()),
        "the rules",
    ),
    classified=CLASSIFIED,
    maps=MAPS,
    whole_drafts={SYSTEM: list(DRAFTS.values()), "constant report": list(CONSTANT.values())},
    whole_references=list(REFERENCES.values()),
    ids=list(REFERENCES),
    files=MetricFiles(*tiny_metric_files()),
)


def test_every_score_belongs_to_one_family_and_stands_in_a_table():
    assert len(FAMILIES) >= 22
    assert all(name == family.name for name, family in FAMILIES.items())
    scores = [score for family in FAMILIES.values() for score in family.scores]
    assert len(set(scores)) == len(scores)
    tables = [table for family in FAMILIES.values() for table in family.tables]
    shown = {score for table in tables for score in table.columns.values()}
    assert shown == set(scores)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_scores_studies_as_its_entry_says(name, monkeypatch, tmp_path):
    family = FAMILIES[name]
    if family.needs == "Java":
        try:
            meteor_statistics(["a"], ["a"])
        except MeteorUnavailableError as error:
            pytest.skip(str(error))
    found = family.score(STUDIES)
    assert SYSTEM in found.statistics
    for statistics in found.statistics.values():
        assert statistics.columns.shape[0] == 4
        assert tuple(statistics.scores()) == family.scores
        # What is added up are the statistics of single studies: all of them twice is no other score.
        doubled = statistics.scores_of_sums(2 * statistics.columns.sum(axis=0))
        again = {score: float(value) for score, value in doubled.items()}
        assert again == pytest.approx(statistics.scores(), abs=1e-6)
    if family.needs in WITHOUT:
        assert not family.score(dataclasses.replace(STUDIES, **WITHOUT[family.needs])).statistics
    if family.needs == "Java":
        monkeypatch.setenv("PATH", str(tmp_path))
        bare = family.score(STUDIES)
        assert not bare.statistics
        assert set(bare.missing) == set(family.scores)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.tables])
def test_every_family_has_its_tables_in_the_printed_result(name, everything):
    lines = str(everything).splitlines()
    for table in everything.tables(name):
        assert any(
            line.startswith(table.title) and all(heading in line for heading in table.columns)
            for line in lines
        )
