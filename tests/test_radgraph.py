"""RadGraph F1: the comparison and the model against the package `radgraph`, and the files that users give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from radscribe.errors import RadScribeError
from radscribe.evaluation.radgraph import Entity, combined, reward_statistics, rewards, score_names
from radscribe.evaluation.radgraph_files import read_graphs
from radscribe.evaluation.radgraph_model import RadGraph, load_radgraph, words_of

GOLDEN = Path(__file__).parent / "golden"
#: Random graphs, and what both versions of the package compute from them: see `golden/make_radgraph.py`.
PAIRS = json.loads((GOLDEN / "radgraph_rewards.json").read_text())


def golden(key: str):
    with safe_open(GOLDEN / "radgraph.safetensors", "pt") as file:
        return json.loads(file.metadata()[key])


OUTPUTS = golden("outputs")


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder of models, as a user makes it from the published archives, with the golden weights."""
    folder = tmp_path_factory.mktemp("models")
    with safe_open(GOLDEN / "radgraph.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    for model in OUTPUTS:
        (folder / model / "vocabulary").mkdir(parents=True)
        (folder / model / "config.json").write_text(json.dumps(golden("config")))
        torch.save(weights, folder / model / "weights.th")
        for name, content in golden("vocabulary").items():
            (folder / model / "vocabulary" / f"{name}.txt").write_text(content)
    (folder / "tiny-encoder").mkdir()
    for name, content in golden("encoder").items():
        (folder / "tiny-encoder" / name).write_text(content)
    return folder


@pytest.fixture(scope="session")
def networks(models) -> dict[str, RadGraph]:
    return {model: load_radgraph(models / model, torch.device("cpu")) for model in OUTPUTS}


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
    # What is written alike is alike in lower case, but one in which two entities fall together may weigh less.
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
    texts = golden("texts")
    annotations = {str(place): output["annotation"] for place, output in enumerate(OUTPUTS[model])}
    theirs = read_graphs(write(tmp_path / "package.json", annotations), list(annotations))
    for text, output, graph in zip(texts, OUTPUTS[model], theirs, strict=True):
        found = networks[model].find(text or "None")  # the package reads an empty text as this word
        assert " ".join(found.words) == output["annotation"]["text"]
        assert found.graph == graph
        assert found.entities == [(*span, label) for *span, label, _, _ in output["entities"]]
        assert found.relations == [(*spans, kind) for *spans, kind, _ in output["relations"]]
        assert found.scores == pytest.approx([entry[3] for entry in output["entities"]], abs=1e-6, rel=1e-6)
        assert found.relation_scores == pytest.approx(
            [entry[5] for entry in output["relations"]], abs=1e-6, rel=1e-6
        )
    assert networks[model].find(" \n").graph == {}


def test_words_as_the_models_read_them():
    text = 'Left-sided effusion (2.5 cm); 5%, no/other.\n"Tip".\''
    assert words_of(text, "radgraph")[:6] == ["Left-sided", "effusion", "(", "2", ".", "5"]
    assert words_of(text, "radgraph-xl")[:8] == ["Left", "-", "sided", "effusion", "(", "2", ".", "5"]
    assert "%" in words_of(text, "radgraph-xl")
