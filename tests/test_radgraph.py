"""RadGraph F1: the comparison and the model against the package `radgraph`, and the files that users give."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_metric_models import golden_radgraph, tiny_radgraph, write_radgraph_outputs

from radscribe.errors import RadScribeError
from radscribe.evaluation.family import FamilyScores, LabelledTexts, ScoredStudies
from radscribe.evaluation.metric_files import MetricFiles
from radscribe.evaluation.radgraph import Entity, combined, reward_statistics, rewards, score_names
from radscribe.evaluation.radgraph_files import read_graphs
from radscribe.evaluation.radgraph_model import RadGraph, load_radgraph, words_of
from radscribe.evaluation.radgraph_scores import radgraph_combined, radgraph_f1

GOLDEN = Path(__file__).parent / "golden/metrics"
#: Random graphs, and what both versions of the package compute from them: see `make_radgraph.py` there.
PAIRS = json.loads((GOLDEN / "radgraph_rewards.json").read_text())


OUTPUTS = golden_radgraph("outputs")


@pytest.fixture(scope="session")
def networks() -> dict[str, RadGraph]:
    return {model: load_radgraph(tiny_radgraph() / model, torch.device("cpu")) for model in OUTPUTS}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# --- The comparison -----------------------------------------------------------------------------------------


def test_the_rewards_are_those_of_both_versions_of_the_package(tmp_path):
    found = {}
    for side in ("draft", "reference"):
        annotations = {str(number): pair[side] for number, pair in enumerate(PAIRS)}
        found[side] = read_graphs(write(tmp_path / f"{side}.json", annotations), list(annotations))
    both = list(zip(found["draft"], found["reference"], strict=True))
    for case, version in (("lower", "87f11a1"), ("released", "0.1.18")):
        ours = torch.tensor([rewards(*pair, case) for pair in both], dtype=torch.float64)
        theirs = torch.tensor([pair["rewards"][version] for pair in PAIRS], dtype=torch.float64)
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    assert sum(pair["rewards"]["87f11a1"] != pair["rewards"]["0.1.18"] for pair in PAIRS) > 10
    scores = reward_statistics(*found.values(), "RadGraph F1").scores()
    assert tuple(scores) == score_names("RadGraph F1")
    means = {version: [0.0] * 3 for version in ("87f11a1", "0.1.18")}
    for version, sums in means.items():
        for pair in PAIRS:
            sums[:] = [
                total + value / len(PAIRS)
                for total, value in zip(sums, pair["rewards"][version], strict=True)
            ]
    assert list(scores.values()) == pytest.approx([*means["87f11a1"], *means["0.1.18"]], abs=1e-12)


@st.composite
def graphs(draw):
    keys = [str(number) for number in range(1, draw(st.integers(0, 5)) + 1)]
    relation = st.tuples(st.sampled_from(["modify", "located_at"]), st.sampled_from(keys or ["1"]))
    entity = st.builds(
        Entity,
        words=st.sampled_from(["effusion", "Effusion", "left"]),
        label=st.sampled_from(["OBS-DP", "OBS-DA"]),
        relations=st.lists(relation, max_size=2).map(tuple),
    )
    return {key: draw(entity) for key in keys}


@given(graphs(), graphs())
def test_what_holds_of_all_rewards(draft, reference):
    for case in ("lower", "released"):
        values = rewards(draft, reference, case)
        assert all(0 <= value <= 1 for value in values)
        assert values == rewards(reference, draft, case)
        assert rewards(draft, draft, case) == ((1.0, 1.0, 1.0) if draft else (0.0, 0.0, 0.0))
    # Where nothing is in capitals, both versions are one.
    if {entity.words for graph in (draft, reference) for entity in graph.values()} <= {"effusion", "left"}:
        assert rewards(draft, reference, "lower") == rewards(draft, reference, "released")


def test_the_combined_score_of_radcliq_by_hand():
    left = Entity("left", "ANAT-DP")
    draft = {"1": left, "2": Entity("effusion", "OBS-DP", (("located_at", "1"),))}
    reference = {
        "1": left,
        "2": Entity("effusion", "OBS-DP", (("located_at", "1"), ("modify", "3"))),
        "3": Entity("Left", "ANAT-DP"),
    }
    # Entities: 2 of 2 and 2 of 3, so 4/5. Relations: 1 of 1 and 1 of 2, so 2/3.
    assert combined(draft, reference) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert combined(draft, {}) == combined({}, {}) == 0


# --- The model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", OUTPUTS)
def test_the_model_finds_what_the_package_finds(networks, model, tmp_path):
    texts = golden_radgraph("texts")
    # As the golden file: single precision rounds by more than 1e-6 here.
    exact = copy.deepcopy(networks[model]).double()
    annotations = {str(place): output["annotation"] for place, output in enumerate(OUTPUTS[model])}
    theirs = read_graphs(write(tmp_path / "package.json", annotations), list(annotations))
    for text, output, graph in zip(texts, OUTPUTS[model], theirs, strict=True):
        found = exact.find(text or "None")  # the package reads an empty text as this word
        assert " ".join(found.words) == output["annotation"]["text"]
        assert found.graph == graph
        assert found.entities == [(*span, label) for *span, label, _, _ in output["entities"]]
        assert found.relations == [(*spans, kind) for *spans, kind, _ in output["relations"]]
        assert found.scores == pytest.approx([entry[3] for entry in output["entities"]], abs=1e-9, rel=0)
        assert found.relation_scores == pytest.approx(
            [entry[5] for entry in output["relations"]], abs=1e-9, rel=0
        )
        assert networks[model].find(text or "None").graph == graph
    assert networks[model].find(" \n").graph == {}
    assert sum(len(entity.relations) for graph in theirs for entity in graph.values()) > 2


def test_half_a_span_for_each_word_is_rounded_up(networks):
    network = copy.deepcopy(networks["radgraph"])
    network.relation_scorer[1].bias.data += 1e6  # every pair of spans that are kept is related
    for text, kept in (("lungs", 1), ("lungs are clear", 2), ("no acute process heart clear", 3)):
        assert len(network.find(text).relations) == kept**2


def test_words_as_the_models_read_them():
    text = 'Left-sided effusion (2.5 cm); 5%, no/other.\n"Tip".\''
    assert words_of(text, "radgraph")[:6] == ["Left-sided", "effusion", "(", "2", ".", "5"]
    assert words_of(text, "radgraph-xl")[:8] == ["Left", "-", "sided", "effusion", "(", "2", ".", "5"]
    assert "%" in words_of(text, "radgraph-xl")


def test_scores_and_the_column_of_radcliq_by_a_model(networks):
    texts = dict(zip("abc", ["no acute process", golden_radgraph("texts")[2], ""], strict=True))
    references = texts | {"a": "no acute opacity"}
    files = MetricFiles(tiny_radgraph())
    studies = ScoredStudies(
        {},
        [],
        LabelledTexts({}, [], ""),
        ids=list(texts),
        whole_drafts={"system": list(texts.values()), "constant": ["effusion"] * 3},
        whole_references=list(references.values()),
        files=files,
    )
    found = radgraph_f1("radgraph", studies)
    assert list(found.statistics) == ["system", "constant"]
    assert found.rules == f"the entities that radgraph finds (weights {networks['radgraph'].digest})"
    graphs = [networks["radgraph"].find(text).graph for text in (texts["a"], references["a"])]
    assert found.statistics["system"].columns.tolist() == [
        [*rewards(*graphs), *rewards(*graphs, "released"), 1.0],
        [1.0] * 7,
        [0.0] * 6 + [1.0],
    ]
    column = radgraph_combined(studies)["system"]
    assert column.tolist() == [combined(*graphs), 1.0, 0.0]
    assert radgraph_f1("radgraph-xl", studies).statistics.keys() == found.statistics.keys()
    assert radgraph_f1("modern-radgraph-xl", studies) == FamilyScores()


# --- Files --------------------------------------------------------------------------------------------------


def test_annotations_are_those_of_the_system_alone(tmp_path):
    studies = ScoredStudies(
        {},
        [],
        LabelledTexts({}, [], ""),
        ids=["b", "a"],
        whole_drafts={"system": ["", ""], "constant": ["", ""]},
        whole_references=["", ""],
        files=MetricFiles(outputs=write_radgraph_outputs(tmp_path, ["a", "b"])),
    )
    found = radgraph_f1("radgraph", studies)
    assert found.missing == {"RadGraph F1 of the baselines": "the annotations in --outputs do not cover them"}
    agreeing = [pair for pair in PAIRS if pair["rewards"]["0.1.18"][2]]
    ours = found.statistics["system"].columns[:, :3].tolist()
    assert ours == [pytest.approx(pair["rewards"]["87f11a1"], abs=1e-12) for pair in reversed(agreeing[:2])]


def test_both_published_forms_hold_the_same_graph(tmp_path):
    numbered = {
        "tokens": "left effusion",
        "entities": {
            "1": {"tokens": "left", "label": "ANAT-DP", "start_ix": 0, "end_ix": 0, "relations": []},
            "2": {"tokens": "effusion", "label": "OBS-DP", "relations": [["located_at", "1"]]},
        },
    }
    spans = {
        "doc_key": "x",
        "sentences": [["left"], ["effusion"]],
        "ner": [[[0, 0, "ANAT-DP"]], [[1, 1, "OBS-DP"]]],
        "relations": [[], [[1, 1, 0, 0, "located_at"], [1, 1, 0, 1, "modify"]]],
    }
    other = spans | {"doc_key": "y"}
    predicted = {
        "doc_key": "x",
        "sentences": [["left", "effusion"]],
        "predicted_ner": [[[0, 0, "ANAT-DP", 3.5, 0.9], [1, 1, "OBS-DP", 2.5, 0.8]]],
        "predicted_relations": [[[1, 1, 0, 0, "located_at", 1.5, 0.7]]],
    }
    expected = {"1": Entity("left", "ANAT-DP"), "2": Entity("effusion", "OBS-DP", (("located_at", "1"),))}
    for content in (
        {"x": numbered, "z": None},
        {"x": spans},
        {"x": predicted},
        [spans, other],
        spans,
        f"{json.dumps(other)}\n{json.dumps(spans)}\n",
    ):
        assert read_graphs(write(tmp_path / "file.json", content), ["x"]) == [expected]


ENTITY = {"tokens": "left", "label": "ANAT-DP", "relations": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "'FILE' is no JSON"),
        ("5", "'FILE' holds no annotations, but 5"),
        ({"y": {"entities": {}}}, "no annotation of 1 of 1 studies, such as 'x'.*only counts them"),
        ([{"entities": {}}], "a list in which an annotation has no study id"),
        ([{"doc_key": "x", "entities": {}}] * 2, "two annotations of one study"),
        ({"x": None}, "study 'x' is no annotation. Each report needs"),
        ({"x": {"labeler_1": {}, "labeler_2": {}}}, "study 'x' was annotated by two persons"),
        ({"x": {"entities": [ENTITY]}}, "study 'x' is damaged: an entity lacks"),
        ({"x": {"entities": {"1": {"tokens": "left", "label": "ANAT-DP"}}}}, "an entity lacks"),
        ({"x": {"entities": {"1": ENTITY | {"tokens": 5}}}}, "an entity lacks"),
        (
            {"x": {"entities": {"1": ENTITY | {"relations": [["modify", "2"]]}}}},
            "a relation of entity 1 leads to entity 2, which is not there",
        ),
        ({"x": {"sentences": [["left"]], "ner": [[[0, 1, "OBS-DP"]]], "relations": []}}, "its spans are no"),
        ({"x": {"sentences": [["left"]], "ner": [[[0, 0, "OBS-DP"]]]}}, "its spans are no"),
    ],
)
def test_what_is_wrong_with_annotations_is_named(tmp_path, content, message):
    file = write(tmp_path / "file.json", content)
    with pytest.raises(RadScribeError, match=message.replace("FILE", str(file))):
        read_graphs(file, ["x"])


def changed_config(folder: Path, **changes: object) -> None:
    config = golden_radgraph("config")
    config["model"].update(changes)
    (folder / "radgraph" / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "radgraph" / "config.json").unlink(),
            "there is no '.*config.json'. Unpack",
        ),
        (lambda folder: (folder / "radgraph" / "weights.th").unlink(), "there is no checkpoint"),
        (lambda folder: shutil.rmtree(folder / "radgraph" / "vocabulary"), "but labels of: nothing. Unpack"),
        (
            lambda folder: shutil.rmtree(folder / "tiny-encoder"),
            "needs the tokenizer of its encoder, 'tiny-encoder'. Put config.json and the tokenizer's files",
        ),
        (
            lambda folder: (folder / "tiny-encoder" / "config.json").write_text(
                '{"model_type": "modernbert", "num_hidden_layers": 1, "hidden_size": 8, "pad_token_id": 0}'
            ),
            "an encoder of type modernbert, not bert. Let the package radgraph annotate",
        ),
        (lambda folder: changed_config(folder, modules={}), "no configuration of a RadGraph model: KeyError"),
        (lambda folder: changed_config(folder, feature_size=4), "does not fit the configuration"),
        (
            lambda folder: changed_config(
                folder, modules={"coref": {"coref_prop": 2}, "relation": {"spans_per_word": 0.5}}
            ),
            "asks for coreference propagation",
        ),
    ],
)
def test_what_is_wrong_with_a_model_is_named(tmp_path, change, message):
    folder = Path(shutil.copytree(tiny_radgraph(), tmp_path / "models"))
    change(folder)
    with pytest.raises(RadScribeError, match=message):
        load_radgraph(folder / "radgraph", torch.device("cpu"))
