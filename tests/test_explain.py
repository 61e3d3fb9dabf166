"""Explanations: the drafts of `generate`, the system's own maps, and pictures and a page of them."""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import radscribe
from radscribe.cli import main
from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.observations import OBSERVATIONS
from radscribe.pages.explanation_page import packed, write_explanations
from radscribe.pages.memory_plot import memory_layout, shared_weight
from radscribe.pages.overlays import choose_words, file_name, overlay, word_attention
from radscribe.runs.explanation import Explanation, merge_pieces
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.run_parts import record_parts
from radscribe.runs.trained_system import TrainedSystem, load
from radscribe.runs.views import evaluation_masks, evaluation_views
from radscribe.studies.images import read_view
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import Study, View
from radscribe.systems.registry import SYSTEMS
from radscribe.text.vocabulary import Vocabulary
from radscribe.vision.backbones import BackboneConfig

WITH_LANGUAGE_MODEL = {"r2gen-gpt", "bidirectional", "cmeaa", "am-mrg"}
BANNER = "Research use, not for clinical diagnosis"

#: A run of every system, and of the variants that have other evidence.
RUNS = {
    "r2gen": ("r2gen", {}),
    "r2gen-cmn": ("r2gen-cmn", {"memory_size": 24, "top_k": 5}),
    "r2gen-cmn, released": (
        "r2gen-cmn",
        {"memory_size": 24, "top_k": 5, "memory_input": "responses", "encoder_positions": False},
    ),
    "r2gen-cmn, separate memories": ("r2gen-cmn", {"memory": "separate", "memory_size": 24, "top_k": 5}),
    "r2gen-cmn, no memory": ("r2gen-cmn", {"memory": "none"}),
    "camanet": ("camanet", {}),
    "camanet, base": ("camanet", {"attention_consistency": False, "vdm_assisted_encoder": False}),
    "r2gen-gpt": ("r2gen-gpt", {"views": "concatenate"}),
    "r2gen-gpt, averaged": ("r2gen-gpt", {"views": "average"}),
    "bidirectional": ("bidirectional", {}),
    "cmeaa": ("cmeaa", {}),
    "cmeaa, averaged": ("cmeaa", {"views": "average"}),
    "am-mrg": ("am-mrg", {"encoder": "own"}),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PreparedStore:
    return PreparedStore(tiny.tiny_store(tmp_path_factory.mktemp("stores") / "phantom", studies=24))


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> dict[str, RunDirectory]:
    """Run directories as training leaves them, but for training: random weights look somewhere, too."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: write_run(folder / file_name(name), store, *RUNS[name]) for name in RUNS}


def write_run(path: Path, store: PreparedStore, system_name: str, fields: dict) -> RunDirectory:
    backbone = BackboneConfig(architecture="test_resnet", weights="none", output_stride=16)
    config = tiny.config(f"{system_name}/phantom", backbone=backbone, **fields)
    if config.system.language_model is None:
        config.system = replace(config.system, layers=2)
    config.data.transform.store_short_side = store.manifest["short_side"]
    config.decoding = DecodingConfig(beams=2, maximum_length=14, minimum_length=14)
    config.store = str(store.path)
    reports = [study.sections["findings"] for study in store.studies()]
    run = RunDirectory(path)
    run.create(config, Vocabulary.build(reports, config.data.cleaning, 1), {"store_source": "phantom"})
    # With the usual seed a random CmEAA writes blanks alone.
    system = tiny.system(config, reports, seed=2 if system_name == "cmeaa" else 0)
    run.record_language_model(system)
    record_parts(run.path, config)
    run.save_weights(system)
    return run


@pytest.fixture(scope="module")
def trained(runs) -> dict[str, TrainedSystem]:
    return {name: load(run.path, "cpu") for name, run in runs.items()}


@pytest.fixture(scope="module")
def explained(trained, store) -> dict[str, list[Explanation]]:
    return {name: list(each.explain(some(store))) for name, each in trained.items()}


def some(store: PreparedStore) -> list[Study]:
    """Studies of two views, and one that lost its second."""
    first, second, third = [study for study in store.studies() if len(study.views) == 2][:3]
    return [first, replace(second, views=second.views[:1]), third]


every_run = pytest.mark.parametrize("name", RUNS)


def test_every_system_is_explained():
    assert {system for system, _ in RUNS.values()} == set(SYSTEMS)


@pytest.mark.slow
@every_run
def test_drafts_are_those_of_generate(name, trained, explained, store):
    assert [each.draft for each in explained[name]] == list(trained[name].generate(some(store)))
    for each in explained[name]:
        assert "".join(each.pieces) == each.draft.text
        assert [word.text for word in each.words] == each.draft.text.split()
        # Random tokens of a language model hold few blanks.
        assert len(each.words) >= (1 if RUNS[name][0] in WITH_LANGUAGE_MODEL else 6)


@every_run
def test_attention_sums_to_1_over_the_views_that_are_there(name, explained, store):
    for each, study in zip(explained[name], some(store), strict=True):
        layers, heads, length, views, rows, columns = each.attention.shape
        assert (layers, heads, length, views) == (2, 4, len(each.pieces), len(study.views))
        assert rows == columns > 1
        np.testing.assert_allclose(each.attention.sum(axis=(-3, -2, -1)), 1, atol=1e-5)
        for maps in (each.maps, each.activation_maps):
            assert all(values.shape == (views, rows, columns) for values in maps.values())
        assert each.views.shape == (views, 56, 56)
        assert each.views.dtype == np.uint8


@every_run
def test_attention_row_i_is_that_of_the_step_that_writes_token_i(name, trained, explained, store):
    """The step that writes a token knows the tokens before it, and not this one."""
    system, data = trained[name].system, trained[name].config.data
    study, each = some(store)[0], explained[name][0]
    views = torch.stack(evaluation_views(study, data)).unsqueeze(0)
    mask = torch.ones(1, len(study.views), dtype=torch.bool)
    for written in (0, 3):
        drafted = system.generate(views, mask, trained[name].config.decoding).tokens
        tokens = drafted[:, : written + 1].clone()
        tokens[0, written] = 1
        evidence = system.explain(views, mask, tokens)
        np.testing.assert_allclose(
            evidence.attention[0, :, :, written].numpy(),
            each.attention[:, :, written].reshape(2, 4, -1),
            atol=1e-5,
        )


@pytest.mark.slow
@every_run
def test_a_study_is_explained_alike_alone_and_beside_others(name, trained, explained, store):
    for study, together in zip(some(store), explained[name], strict=True):
        (alone,) = trained[name].explain([study])
        np.testing.assert_allclose(alone.attention, together.attention, atol=1e-5)
        for maps, others in (
            (alone.maps, together.maps),
            (alone.activation_maps, together.activation_maps),
        ):
            assert maps.keys() == others.keys()
            for map_name, values in maps.items():
                np.testing.assert_allclose(values, others[map_name], atol=1e-5)
        assert alone.important_words == together.important_words


def test_what_a_system_does_not_have_is_not_there(explained):
    for name, (each, *_) in explained.items():
        classifies, remembers = name == "camanet", "r2gen-cmn" in name and "no memory" not in name
        assert set(each.maps) == ({"VDM", "TDM"} if classifies else set())
        assert set(each.activation_maps) == set(each.probabilities) == set(OBSERVATIONS if classifies else ())
        assert (each.important is not None) == classifies
        assert (each.memory is not None) == remembers
        if classifies:
            assert each.draft.probabilities == pytest.approx(dict(each.probabilities), abs=1e-5)
            assert 0 < sum(each.important_words) < len(each.words)


def test_masks_lie_in_what_the_system_saw(trained, explained, store):
    masked = next(study for study in store.studies() if any(view.source.masks_at for view in study.views))
    trained_system = trained["r2gen"]
    (each,) = trained_system.explain([masked])
    assert any(each.masks)
    for masks in each.masks:
        assert all(mask.shape == (56, 56) and mask.dtype == bool for mask in masks.values())
    assert len(evaluation_masks(masked, trained_system.config.data)) == len(each.views)


@pytest.mark.parametrize("name", ["r2gen-cmn", "camanet"])
def test_a_system_whose_visual_tokens_are_queries_has_no_map(name, runs, store, tmp_path):
    """They have no place on the image: 14 of them are no grid, and 16 would be a wrong one."""
    looking = load(runs[name].path, "cpu")
    looking.system.backbone = tiny.DiseaseQueries(looking.system.backbone, 16)
    explanations = list(looking.explain(some(store)))
    assert [each.draft for each in explanations] == list(looking.generate(some(store)))
    for each in explanations:
        assert (each.attention, each.maps, each.activation_maps, each.memory) == (None, {}, {}, None)
        assert bool(each.probabilities) == (each.important is not None) == (name == "camanet")
    page = Page(write_explanations(explanations, tmp_path / "out", config=looking.config))
    assert "This system has no attention on the image" in page.text("remarks")
    assert page.studies() == [each.study.id for each in explanations]
    assert not [target for target in page.attributes("data-show") if not target.startswith("word:")]
    data = data_of(page)["studies"]
    assert [study["attention"] for study in data] == [None] * 3
    assert [len(study["words"]) for study in data] == [len(each.words) for each in explanations]
    assert not list(tmp_path.rglob("*.png"))
    with pytest.raises(RadScribeError, match="no layers or heads to choose from"):
        write_explanations(explanations, tmp_path / "out", config=looking.config, layer=1)


# --- memory ------------------------------------------------------------------------------------------------


def plain_querying(memory, asking: torch.Tensor) -> tuple[np.ndarray, list[list[int]]]:
    """Eq. 4-10 of R2GenCMN for one query `[width]`, thread by thread: mean weights, and vectors by thread."""
    size = len(memory.matrix)
    threads = memory.threads
    keys, query = memory.key(memory.matrix), memory.query(asking)
    width = query.numel() // threads
    mean, addressed = np.zeros(size), []
    for thread in range(threads):
        part = slice(thread * width, (thread + 1) * width)
        distances = [float(query[part] @ keys[i, part]) / math.sqrt(width) for i in range(size)]
        best = sorted(range(size), key=lambda i: -distances[i])[: memory.top_k]
        exponents = [math.exp(distances[i]) for i in best]
        for i, exponent in zip(best, exponents, strict=True):
            mean[i] += exponent / sum(exponents) / threads
        addressed.append(best)
    return mean, addressed


@pytest.mark.parametrize("name", [name for name in RUNS if "cmn" in name and "no memory" not in name])
@torch.inference_mode()
def test_memory_evidence_is_the_paper_s_querying(name, trained, explained, store):
    network, data = trained[name].system.network, trained[name].config.data
    each = explained[name][0]
    memory = each.memory
    separate = "separate" in name
    assert memory.vectors.shape == (48 if separate else 24, 32)
    np.testing.assert_allclose(memory.of_pieces.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(memory.of_regions.sum(axis=-1), 1, atol=1e-5)
    tokens = torch.tensor(trained[name].system.encode_report(each.draft.text)[1:])
    embedded = network.embed(tokens[: len(each.pieces)])
    if network.memory_input != "responses":  # read one position after the one where it was written
        embedded = embedded + network.positions.code[1 : len(embedded) + 1]
    for index, asking in enumerate(embedded):
        weights, addressed = plain_querying(network.textual_memory, asking)
        found = memory.of_pieces[index]
        assert set(np.flatnonzero(found)) == {i for thread in addressed for i in thread}
        np.testing.assert_allclose(found[:24], weights, atol=1e-5)
    views = torch.stack(evaluation_views(some(store)[0], data)).unsqueeze(0)
    visual = trained[name].system.backbone(views, torch.ones(1, 2, dtype=torch.bool))
    features = network.visual_projection(visual.tokens)[0]
    of_regions = memory.of_regions.reshape(len(features), -1)
    for asking, found in zip(features, of_regions, strict=True):
        weights, _ = plain_querying(network.visual_memory, asking)
        np.testing.assert_allclose(found[-24:], weights, atol=1e-5)
    if separate:
        assert shared_weight(memory.of_pieces[0], of_regions[0]) == 0


def test_the_layout_of_a_memory():
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    layout = memory_layout(vectors)
    assert layout.shape == (20, 2)
    assert layout.min() == 0
    assert layout.max() == 1
    np.testing.assert_array_equal(layout, memory_layout(vectors))
    assert memory_layout(vectors[:2]).shape == (2, 2)


# --- words -------------------------------------------------------------------------------------------------


@given(st.text("ab .\n", max_size=30), st.data())
def test_pieces_merge_to_words(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    words = merge_pieces(pieces)
    assert [word.text for word in words] == text.split()
    for word in words:
        assert text[word.begin : word.end] == word.text
        assert word.text in "".join(pieces[index] for index in word.pieces)
        assert all(pieces[index].strip() for index in word.pieces)


def with_draft(each: Explanation, text: str, pieces: list[str] | None = None) -> Explanation:
    """An explanation with another draft, as if the system had written it."""
    pieces = pieces or [(" " if index else "") + word for index, word in enumerate(text.split())]
    generator = np.random.default_rng(0)
    attention = generator.random((2, 3, len(pieces), 1, 4, 4), dtype=np.float32)
    draft = replace(each.draft, text=text, token_logprobs=(-0.1,) * len(pieces))
    return replace(
        each,
        draft=draft,
        pieces=tuple(pieces),
        attention=attention,
        views=each.views[:1],
        masks=each.masks[:1],
        memory=None,
    )


@pytest.fixture
def in_pieces(explained) -> Explanation:
    return with_draft(
        explained["r2gen"][0], "no effusion . no edema", ["no", " eff", "us", "ion", " .", " no", " edema"]
    )


def test_the_attention_of_a_word_is_the_mean_over_its_pieces(in_pieces):
    of_words = word_attention(in_pieces, layer=1, heads="3")
    assert of_words.shape == (5, 1, 4, 4)
    np.testing.assert_allclose(of_words[1], in_pieces.attention[0, 2, 1:4].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(of_words[3], in_pieces.attention[0, 2, 5])
    merged = in_pieces.of_words(in_pieces.attention, axis=2)
    np.testing.assert_allclose(word_attention(in_pieces), merged[1].mean(axis=0))
    np.testing.assert_array_equal(word_attention(in_pieces, heads="max"), merged[1].max(axis=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 0}, "layers are 1 to 2"),
        ({"layer": 3}, "layers are 1 to 2"),
        ({"heads": "4"}, "mean, max, or one head from 1 to 3"),
        ({"heads": "median"}, "mean, max, or one head from 1 to 3"),
    ],
)
def test_layers_and_heads_that_are_not_there_are_refused(in_pieces, options, message):
    with pytest.raises(RadScribeError, match=message):
        word_attention(in_pieces, **options)


def test_words_are_chosen_by_the_system_by_observation_or_by_name(in_pieces):
    assert choose_words([in_pieces]) == [[1, 4]]
    important = replace(in_pieces, important=np.array([1, 0, 0, 1, 0, 0, 0], dtype=bool))
    assert choose_words([important]) == [[0, 1]]
    other = with_draft(in_pieces, "clear lungs")
    assert choose_words([in_pieces, other], ["No", "."]) == [[0, 2, 3], []]
    with pytest.raises(RadScribeError, match=r"unknown word 'lung'.*'lungs'.*clear, edema"):
        choose_words([in_pieces, other], ["lung"])


# --- pictures ----------------------------------------------------------------------------------------------


def test_the_overlay_is_hot_where_the_map_is_and_grey_where_it_is_0():
    view = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    values = np.zeros((4, 4))
    values[1, 2] = 0.5
    plain, hot, faint = (overlay(view, values * factor, 0.5, side=64) for factor in (0, 1, 0.2))
    assert (plain == plain[..., :1]).all()
    middle = (slice(20, 28), slice(36, 44))
    assert (np.abs(hot.astype(int) - plain).max(axis=-1)[middle] > 20).all()
    np.testing.assert_array_equal(hot[57:], plain[57:])  # two regions away
    difference = [np.abs(each.astype(int) - plain)[middle].mean() for each in (faint, hot)]
    assert 0 < difference[0] < difference[1] / 2
    np.testing.assert_array_equal(overlay(view, np.zeros((4, 4)), 0.0, side=64), plain)


@given(st.text(max_size=100))
def test_file_names_are_safe(text):
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", file_name(text))


# --- the page ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(explained, trained, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        name: write_explanations(
            explained[name],
            folder / file_name(name),
            config=trained[name].config,
            # Drafts of random weights may name no observation.
            words=explained[name][0].draft.text.split()[:1] if name == "r2gen-cmn" else None,
        ).parent
        for name in ("r2gen", "r2gen-cmn", "camanet")
    }


def data_of(page: Page) -> dict:
    return json.loads(next(text for where, text in page.texts if where[-1:] == ("script",)))


def unpacked(values: dict[str, str]) -> np.ndarray:
    """Maps `[maps, places]`, as the page's script reads them."""
    scales = np.frombuffer(base64.b64decode(values["scales"]), "<f4")
    steps = np.frombuffer(base64.b64decode(values["values"]), np.uint8)
    return steps.reshape(len(scales), -1) * scales[:, None] / 255


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r2gen", "r2gen-cmn", "camanet"])
def test_the_page_is_self_contained_and_complete(name, written, explained):
    page = Page(written[name] / "index.html")
    assert any("default-src 'none'" in content for content in page.attributes("content"))
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.attributes("src"))
    assert not page.attributes("href")
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert "url(" not in page.source
    caution = "Caution: this run was trained on synthetic images: its drafts say nothing about real ones."
    assert page.text("banner") == f"{BANNER} {caution}"
    assert page.text("caution") == caution
    assert page.source.count("draft — not reviewed") == 3
    assert page.studies() == [each.study.id for each in explained[name]]
    shown = page.attributes("data-show")
    for kind, count in (
        ("word", sum(len(each.words) for each in explained[name])),
        ("map", sum(len(each.maps) for each in explained[name])),
        ("cam", sum(len(each.activation_maps) for each in explained[name])),
    ):
        assert sum(target.startswith(f"{kind}:") for target in shown) == count
    assert len([1 for tag, _ in page.elements if tag == "img"]) == 5
    for each in explained[name]:
        assert " ".join(each.draft.text.split()) in page.text("draft")
        assert each.study.sections["findings"].split(".")[0] in page.text("reference")
    masked = {name for each in explained[name] for view in each.masks for name in view if view[name].any()}
    assert set(page.attributes("data-observation")) == masked


@pytest.mark.parametrize("name", ["r2gen", "r2gen-cmn", "camanet"])
def test_the_page_s_data_are_the_maps(name, written, explained):
    data = data_of(Page(written[name] / "index.html"))
    assert len(base64.b64decode(data["colours"])) == 768
    for each, study in zip(explained[name], data["studies"], strict=True):
        attention = each.of_words(each.attention, axis=2)
        flat = attention.reshape(-1, attention[0, 0, 0].size)
        assert (np.abs(unpacked(study["attention"]) - flat) <= flat.max(axis=1, keepdims=True) / 500).all()
        for maps, packed_maps in ((each.maps, study["maps"]), (each.activation_maps, study["cams"])):
            assert set(packed_maps) == set(maps)
            for map_name, values in maps.items():
                read = unpacked(packed_maps[map_name]).reshape(values.shape)
                np.testing.assert_allclose(read, values.clip(0), atol=max(values.max(), 1e-9) / 500)
        if each.memory:
            regions = each.memory.of_regions.reshape(-1, len(data["layout"]))
            np.testing.assert_allclose(unpacked(study["memory"]["regions"]), regions, atol=1 / 500)
        chances = [word["probability"] for word in study["words"]]
        assert math.prod(chances) * math.exp(
            sum(each.draft.token_logprobs[len(each.pieces) :])
        ) == pytest.approx(math.exp(each.draft.logprob), rel=1e-3)


def test_packing_keeps_faint_maps_and_drops_what_is_negative():
    maps = np.array([[0, 1e-6, 5e-7], [3, -1, 1], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(unpacked(packed(maps)), maps.clip(0), rtol=0.005, atol=1e-8)


def test_every_map_has_its_pictures(written, explained):
    for each in explained["camanet"]:
        folder = written["camanet"] / each.study.id
        names = {path.name for path in folder.iterdir()}
        views = range(1, len(each.views) + 1)
        expected = {f"{name}.view{view}.png" for name in ("vdm", "tdm") for view in views}
        expected |= {
            f"cam-{name.replace(' ', '-')}.view{view}.png" for name in OBSERVATIONS for view in views
        }
        for index, important in enumerate(each.important_words):
            if important:
                name = f"word-{index + 1:02}-{file_name(each.words[index].text)}"
                expected |= {f"{name}.view{view}.png" for view in views}
        assert names == expected
        with Image.open(folder / "vdm.view1.png") as image:
            assert image.height > image.width == 448
    assert (written["r2gen-cmn"] / explained["r2gen-cmn"][0].study.id / "memory.png").is_file()


def test_texts_are_escaped_and_folders_are_safe(explained, trained, tmp_path):
    evil = "../<script>alert(1)</script>\udce9"
    twins = [
        replace(each, study=replace(each.study, id=evil, sections={"findings": "<b>clear</b> $cards."}))
        for each in explained["r2gen"][:2]
    ]
    odd = with_draft(twins[0], "</script><img src=x onerror=alert(1)> <i>no</i> effusion")
    page = Page(write_explanations([odd, odd], tmp_path / "out", config=trained["r2gen"].config))
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    assert sum(tag == "img" for tag, _ in page.elements) == 2
    assert not {"b", "i"} & {tag for tag, attrs in page.elements if not attrs and tag != "i"}
    assert "<script>alert(1)</script>" in page.text("h3")
    assert "<i>no</i>" in page.text("draft")
    assert "<b>clear</b> $cards." in page.text("reference")
    assert data_of(page)["studies"][0]["words"][0]["text"] == "</script><img"
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["script-alert-1-script", "script-alert-1-script-2"]


def test_an_empty_draft_has_a_page(explained, trained, tmp_path):
    empty = with_draft(explained["r2gen"][0], "")
    page = Page(write_explanations([empty], tmp_path, config=trained["r2gen"].config))
    assert "The draft is empty" in page.text("draft")


def test_without_scikit_learn_the_page_says_what_to_type(explained, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    page = Page(write_explanations(explained["r2gen-cmn"], tmp_path, config=trained["r2gen-cmn"].config))
    assert "pip install 'radscribe[explain]'" in page.text("empty")
    assert not list(tmp_path.rglob("memory.png"))


# --- the command line --------------------------------------------------------------------------------------


def fails(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["explain", *map(str, arguments)])
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_studies_by_id(runs, store, tmp_path, capsys):
    ids = [study.id for study in some(store)]
    out = tmp_path / "out"
    main(
        [
            "explain",
            str(runs["r2gen-cmn"].path),
            "--study",
            ids[2],
            ids[0],
            "--out",
            str(out),
            "--heads",
            "max",
        ]
    )
    assert "look at it: file://" in capsys.readouterr().out
    page = Page(out / "index.html")
    assert page.studies() == [ids[2], ids[0]]
    assert "trained on synthetic images" in (out / "index.html").read_text()
    selected = [attrs["value"] for tag, attrs in page.elements if tag == "option" and "selected" in attrs]
    assert selected == ["2", "max"]


def test_images_are_studies_or_views_and_bad_ones_cost_themselves_only(runs, store, tmp_path, capsys):
    files = []
    for number, view in enumerate(some(store)[0].views):
        files.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(read_view(view, 64).pixels).save(files[-1])
    (tmp_path / "bad.png").write_text("no image")
    run = str(runs["r2gen"].path)
    main(
        [
            "explain",
            run,
            "--images",
            files[0],
            str(tmp_path / "bad.png"),
            files[1],
            "--out",
            str(tmp_path / "a"),
        ]
    )
    assert f"rejected {tmp_path / 'bad'}: " in capsys.readouterr().err
    ids = [file.removesuffix(".png") for file in files]
    assert Page(tmp_path / "a/index.html").studies() == ids
    main(["explain", run, "--images", *files, "--together", "--out", str(tmp_path / "b")])
    page = Page(tmp_path / "b/index.html")
    assert page.studies() == ids[:1]
    assert "view 2" in page.text("figcaption")
    (stored,) = radscribe.load(run, "cpu").generate([some(store)[0]])
    assert stored.text in page.text("draft")
    assert "could be explained" in fails(
        capsys, run, "--images", tmp_path / "bad.png", "--out", tmp_path / "c"
    )


def test_faults(runs, store, tmp_path, capsys):
    run, out = runs["r2gen"].path, ("--out", tmp_path / "out")
    study = ("--study", some(store)[0].id)
    assert "either --study" in fails(capsys, run, *out)
    assert "either --study" in fails(capsys, run, *out, *study, "--images", "x.png")
    assert "--store goes with --study" in fails(capsys, run, *out, "--images", "x.png", "--store", store.path)
    assert "--together goes with --images" in fails(capsys, run, *out, *study, "--together")
    assert "no study 'nobody'" in fails(capsys, run, *out, "--study", "nobody")
    assert "Known:" in fails(capsys, run, *out, *study, "--words", "nowhere")
    assert "layers are 1 to 2" in fails(capsys, run, *out, *study, "--layer", 9)
    assert "one head from 1 to 4" in fails(capsys, run, *out, *study, "--heads", "most")
    assert "no run directory" in fails(capsys, tmp_path, *out, *study)
    assert "no prepared store" in fails(capsys, run, *out, *study, "--store", tmp_path)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    assert "file' is no folder" in fails(capsys, run, "--out", tmp_path / "file", *study)


def test_explaining_needs_a_readable_study_unless_told_otherwise(trained, tmp_path):
    lost = Study("lost", "p", (View(tmp_path / "lost.png"),))
    with pytest.raises(RadScribeError, match=r"lost\.png"):
        list(trained["r2gen"].explain([lost]))
    with pytest.raises(RadScribeError, match="no decoding field 'beam'"):
        list(trained["r2gen"].explain([lost], beam=2))
