"""AM-MRG: what stands in its prompt, what trains by what, sizes, and a run with its banks."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny
import torch
from tiny_language_models import tiny_language_model
from tiny_parts import make_part, store_of_parts, tiny_parts
from torch import Tensor

from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.layers.hopfield import HopfieldConfig
from radscribe.layers.memory import Memory
from radscribe.layers.q_former import QFormerConfig, q_former, q_former_weights
from radscribe.observations import OBSERVATIONS
from radscribe.pages.explanation_page import write_explanations
from radscribe.parts.disease_queries import DiseaseQueries
from radscribe.parts.memory_bank import MemoryBank
from radscribe.recipes import RECIPES, get_recipe
from radscribe.runs.run_directory import RunDirectory
from radscribe.runs.trained_system import load
from radscribe.studies.store import PreparedStore
from radscribe.systems.am_mrg import AMMRGConfig
from radscribe.systems.system import Batch, pad_tokens
from radscribe.training.stage import stages_of
from radscribe.training.stages import train_in_stages
from radscribe.training.train import train
from radscribe.vision.backbones import BackboneConfig, create_backbone

pytestmark = pytest.mark.usefixtures("without_java")

REPORTS = ["the heart is normal in size .", "there is a small left pleural effusion ."]


def built(**fields):
    """A tiny system; a part that is given takes the place of the usual one."""
    config = tiny.config("am-mrg/phantom", **fields)
    config.system = replace(config.system, **fields)
    return tiny.system(config, REPORTS)


def views_of_two() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (2, 2, 56, 56), dtype=torch.uint8, generator=generator)
    return views, torch.tensor([[True, True], [True, False]])


def batch(system) -> Batch:
    views, mask = views_of_two()
    tokens = pad_tokens(system.encode_report(report) for report in REPORTS)
    return Batch(["a", "b"], views, mask, tokens, torch.zeros(2, len(OBSERVATIONS)))


# --- the prompt -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["interleaved", "blocks"])
def test_tokens_stand_in_the_order_of_the_paper_or_the_code(order):
    """F, Q_f, and of each query V beside R, or all V before all R; one path to the language model each."""
    system = built(order=order)
    views, mask = views_of_two()
    with torch.inference_mode():
        visual, features = system.read_views(views, mask)
        recalled = [system.memory(kind)(features) for kind in ("visual-bank", "report-bank")]
        found = system.visual_embeddings(views, mask).tokens
        of_queries = [features[:, number] for number in range(14)]
        pairs = [bank[:, number] for number in range(14) for bank in recalled]
        blocks = [bank[:, number] for bank in recalled for number in range(14)]
        rows = of_queries + (pairs if order == "interleaved" else blocks)
        expected = [visual.tokens[:, place] for place in range(visual.tokens.size(1))]
        expected += [system.query_projection(row) for row in rows]
        for place, token in enumerate(expected):
            embedding = system.visual_norm(system.visual_projection(token))
            torch.testing.assert_close(found[:, place], embedding, rtol=1e-4, atol=1e-5)
    assert found.size(1) == len(expected) == visual.tokens.size(1) + 3 * 14


def test_all_tokens_of_the_vision_mamba_go_on():
    """Its class token stands in the middle, and is left out only where a token needs a place on a view."""
    config = BackboneConfig(architecture="test_vit", weights="none")
    system = built(encoder="own", backbone=config)
    views = torch.randint(0, 256, (1, 1, 160, 160), dtype=torch.uint8)
    mask = torch.ones(1, 1, dtype=torch.bool)
    visual, _ = system.read_views(views, mask)
    assert visual.tokens.size(1) == 101
    draft = system.generate(views, mask, DecodingConfig(method="greedy", maximum_length=4))
    assert system.explain(views, mask, draft.tokens).grid == (10, 10)


# --- what trains ------------------------------------------------------------------------------------------


def trained_parts(system) -> set[str]:
    return {name.partition(".")[0] for name, weight in system.named_parameters() if weight.requires_grad}


def test_what_trains():
    assert trained_parts(built()) == {
        "backbone",
        "q_former",
        "memories",
        "query_projection",
        "visual_projection",
        "visual_norm",
    }
    assert "queries" in trained_parts(built(query_former="blip2-fresh"))
    assert trained_parts(built(trained="hopfield")) == {"memories"}


def test_hopfield_layers_alone_can_train_through_the_frozen_rest():
    system = built(trained="hopfield").train()
    assert not system.q_former.training
    system(batch(system)).total.backward()
    grown = [weight.grad for name, weight in system.named_parameters() if name.startswith("memories.")]
    assert all(gradient is not None for gradient in grown)
    assert sum(gradient.abs().sum() for gradient in grown) > 0


@pytest.mark.parametrize("fields", [{"hopfield": HopfieldConfig(form="printed")}, {"visual_memory": False}])
def test_something_must_train(fields):
    with pytest.raises(ValueError, match=r"system.trained hopfield needs a Hopfield layer with weights"):
        AMMRGConfig(trained="hopfield", report_memory=False, **fields)


def test_it_starts_from_stage_1():
    system, part = built(), DiseaseQueries.load(tiny_parts()["disease-queries"], "cpu")
    torch.testing.assert_close(system.queries, part.queries)
    views, mask = views_of_two()
    with torch.inference_mode():
        _, features = system.read_views(views, mask)
        torch.testing.assert_close(features, part.features(part.tokens(views, mask)), rtol=1e-4, atol=1e-5)


# --- banks ------------------------------------------------------------------------------------------------


def counted_projections(system, monkeypatch) -> list[int]:
    """Numbers of rows that the Hopfield layers project to keys and values, as they do."""
    projected = []
    for kind in system.memories:
        layer = system.memory(kind).hopfield
        usual = layer.store
        monkeypatch.setattr(
            layer, "store", lambda bank, usual=usual: projected.append(len(bank)) or usual(bank)
        )
    return projected


def test_banks_are_projected_once_a_step_and_once_a_load(monkeypatch):
    system = built()
    rows = [len(system.memory(kind).bank) for kind in system.memories]
    projected = counted_projections(system, monkeypatch)
    system(batch(system))
    assert projected == rows  # two studies, one projection of each bank
    views, mask = views_of_two()
    decoding = DecodingConfig(beams=2, maximum_length=6)
    before = system.generate(views, mask, decoding)
    system.fold()
    projected.clear()
    after = system.generate(views, mask, decoding)
    assert projected == []
    assert after.texts == before.texts
    torch.testing.assert_close(after.logprob, before.logprob)


def test_banks_are_no_weights_and_do_not_train():
    system = built()
    assert not any("bank" in name.rpartition(".")[2] for name in system.own_state_dict())
    system.fold()
    assert not any(name.endswith(("keys", "values")) for name in system.own_state_dict())


def test_a_bank_of_another_width_is_refused(tmp_path):
    place = make_part("report-bank", store_of_parts(), tmp_path / "report-bank", width=8)
    with pytest.raises(RadScribeError, match=r"has width 8, and the queries have 16.*--width 16"):
        built(report_bank=str(place))


def test_disease_queries_without_a_q_former_are_refused(tmp_path):
    place = make_part("disease-queries", store_of_parts(), tmp_path / "disease-queries", head="pooled-mlp")
    with pytest.raises(RadScribeError, match=r"no Q-Former.*--system.query_former blip2-fresh"):
        built(disease_queries=str(place))
    built(disease_queries=str(place), query_former="blip2-fresh")


def test_an_empty_memory_is_refused():
    memory = Memory(HopfieldConfig(heads=1, hidden=4), 8)
    with pytest.raises(RadScribeError, match="no part fills it"):
        memory(torch.zeros(1, 8))


@pytest.mark.parametrize("form", ["released", "printed", "exact"])
def test_what_is_recalled(form):
    """A query that stands on a stored row recalls it, and a flat recall is spread among all rows."""
    torch.manual_seed(0)
    rows = torch.randn(12, 8)
    sharp = Memory(HopfieldConfig(form="printed", beta=1e-3), 8)
    sharp.fill(50 * rows)
    found = sharp.recalled(50 * rows[:3].unsqueeze(0))
    assert found.rows[0, :, 0].tolist() == [0, 1, 2]
    torch.testing.assert_close(found.perplexity, torch.ones(1, 3), atol=1e-3, rtol=0)
    memory = Memory(HopfieldConfig(form=form, beta=1e-6, heads=2, hidden=4), 8).eval()
    memory.fill(1e-3 * rows)
    flat = memory.recalled(1e-3 * rows[:3].unsqueeze(0), most=4)
    assert flat.rows.shape == (1, 3, 4)
    torch.testing.assert_close(flat.perplexity, torch.full((1, 3), 12.0), atol=1e-3, rtol=0)


# --- sizes and weights of the paper -----------------------------------------------------------------------


def count(module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_sizes_are_those_of_the_released_code():
    """440.7 M trained beside Llama-2-7B, by the released form."""
    config = get_recipe("am-mrg/mimic-cxr/released").build().system
    config.start_from_nothing()
    width, language_model = config.q_former.width, 4096
    with torch.device("meta"):
        encoder = create_backbone(config.backbone)
        built_q_former = config.q_former.build()
        memories = [Memory(config.hopfield, width) for _ in range(2)]
        beside = [
            torch.nn.Linear(encoder.num_features, config.q_former.channels),
            torch.nn.Linear(width, encoder.num_features),
            torch.nn.Linear(encoder.num_features, language_model),
            torch.nn.LayerNorm(language_model),
        ]
    assert count(built_q_former) == 105_137_664
    assert [count(memory) for memory in memories] == [16_537_344] * 2
    assert count(encoder) == 296_010_720
    everything = sum(map(count, [encoder, built_q_former, *memories, *beside]))
    assert everything + len(OBSERVATIONS) * width == pytest.approx(440.7e6, abs=0.05e6)


def released_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a Q-Former by the names of BLIP-2's released code, with those of its text."""
    released = {
        f"Qformer.bert.{name.replace('.attention.attention.', '.attention.self.')}": tensor
        for name, tensor in weights.items()
    }
    released = {
        name.replace(".crossattention.attention.", ".crossattention.self.").replace(
            "bert.layernorm.", "bert.embeddings.LayerNorm."
        ): tensor
        for name, tensor in released.items()
    }
    return released | {
        "Qformer.bert.embeddings.word_embeddings.weight": torch.zeros(3, 2),
        "Qformer.bert.encoder.layer.0.intermediate.dense.weight": torch.zeros(3, 2),
        "Qformer.cls.predictions.bias": torch.zeros(3),
        "query_tokens": torch.zeros(1, 32, 8),
    }


def test_weights_of_blip_2(tmp_path):
    torch.manual_seed(0)
    weights = q_former(8, 2, 2, 6).state_dict()
    torch.save({"model": released_names(weights)}, tmp_path / "blip2.pth")
    sizes = {"width": 8, "layers": 2, "heads": 2, "channels": 6}
    loaded = QFormerConfig(weights=str(tmp_path / "blip2.pth"), **sizes).build().state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    named = {f"qformer.{name}": tensor for name, tensor in weights.items()}
    assert q_former_weights(named).keys() == weights.keys()
    with pytest.raises(RadScribeError, match="does not fit"):
        QFormerConfig(weights=str(tmp_path / "blip2.pth"), **{**sizes, "layers": 3}).build()
    torch.save({"model": {"other": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(RadScribeError, match="no weights of a Q-Former"):
        QFormerConfig(weights=str(tmp_path / "other.pth"), **sizes).build()


def test_every_stage_of_a_variant_knows_its_bank():
    for name in ("am-mrg/iu-xray", "am-mrg/mimic-cxr", "am-mrg/chexpert-plus"):
        assert RECIPES[name].stages["visual-bank"] == {"queries": "disease-queries"}
        regions = RECIPES[f"{name}/regions-750"].stages["visual-bank"]
        assert regions == {"queries": "disease-queries", "most_rows": 750}
        assert RECIPES[f"{name}/reports-500"].stages["report-bank"] == {"rows": 500}
    assert RECIPES["am-mrg/phantom/maps-eigen"].stages["visual-bank"]["maps"] == "eigen"


# --- a run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory, path_without_java) -> RunDirectory:
    """A run whose parts are gone from where they were made."""
    folder = tmp_path_factory.mktemp("am-mrg")
    given = tiny.tiny_config(store_of_parts(), "am-mrg/phantom", epochs=1)
    for field, kind in given.system.parts.items():
        setattr(given.system, field, str(shutil.copytree(tiny_parts()[kind], folder / kind)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path_without_java)
        found = train(given, folder / "run", progress=False)
    for kind in given.system.parts.values():
        shutil.rmtree(folder / kind)
    return found


def test_it_drafts_with_its_own_banks(run):
    system = run.load_system()
    for kind in ("visual-bank", "report-bank"):
        assert system.memory(kind).keys is not None  # projected as it was loaded
    assert len(list(load(run.path).generate(store_of_parts()))) == 40


@pytest.mark.parametrize("kind", ["visual-bank", "report-bank", "disease-queries"])
def test_another_bank_in_its_place_is_refused(run, tmp_path, kind):
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    part = copied.path / "parts" / kind / "part.json"
    part.write_text(part.read_text().replace('"content_hash": "', '"content_hash": "0', 1))
    with pytest.raises(RadScribeError, match=r"part.json' is damaged|is not the one"):
        copied.load_system()


def test_an_explanation_says_what_was_recalled(run, tmp_path):
    trained, study = load(run.path), PreparedStore(store_of_parts()).studies("test")[0]
    (explanation,) = trained.explain([study])
    recall = explanation.recall
    assert recall.banks.keys() == {"visual-bank", "report-bank"}
    part = DiseaseQueries.load(tiny_parts()["disease-queries"], "cpu")
    assert recall.probabilities == pytest.approx(part.probabilities(study), abs=1e-6)
    train_ids = {study.id for study in PreparedStore(store_of_parts()).studies("train")}
    for kind, queries in recall.banks.items():
        bank = MemoryBank.load(tiny_parts()[kind], kind)
        assert list(queries) == list(OBSERVATIONS)
        for query in queries.values():
            weights = [entry.weight for entry in query.entries]
            assert weights == sorted(weights, reverse=True)
            assert 0 < sum(weights) <= 1 + 1e-5
            assert 1 <= query.perplexity <= len(bank.rows) + 1e-3
            assert {entry.of["study"] for entry in query.entries} <= train_ids
    write_explanations([explanation], tmp_path / "page", config=trained.config)
    page = (tmp_path / "page" / "index.html").read_text()
    entry = recall.banks["report-bank"]["Cardiomegaly"].entries[0]
    assert entry.of["study"] in page
    report = PreparedStore(store_of_parts()).study(entry.of["study"]).report("findings")
    assert report[:60] in page
    assert page.count("<rect x=") >= 14


def test_a_page_without_the_store_names_the_studies(run, tmp_path):
    trained = load(run.path)
    (explanation,) = trained.explain(PreparedStore(store_of_parts()).studies("test")[:1])
    config = replace(trained.config, store=str(tmp_path / "gone"))
    write_explanations([explanation], tmp_path / "page", config=config)
    page = (tmp_path / "page" / "index.html").read_text()
    assert "cannot be shown" in page
    assert explanation.recall.banks["visual-bank"]["Edema"].entries[0].of["study"] in page


# --- stages -------------------------------------------------------------------------------------------------


def test_stages_stand_in_order_and_know_each_other(tmp_path):
    """The visual bank is made by the queries of this run, and reports are encoded by its language model."""
    stages = stages_of(get_recipe("am-mrg/phantom").build(), tmp_path / "run")
    assert [stage.kind for stage in stages] == [
        "language-model",
        "disease-queries",
        "visual-bank",
        "report-bank",
    ]
    made = {stage.kind: stage for stage in stages}
    assert made["visual-bank"].settings.queries == str(made["disease-queries"].path.absolute())
    assert made["report-bank"].settings.encoder == str(made["language-model"].path.absolute())
    widths = {made[kind].settings.width for kind in ("disease-queries", "visual-bank", "report-bank")}
    assert len(widths) == 1


def test_a_part_that_only_another_is_made_of_is_a_stage_too(tmp_path):
    """The released form has no disease queries in it, but its visual bank is made by some."""
    config = get_recipe("am-mrg/mimic-cxr/released").build()
    stages = stages_of(config, tmp_path / "run")
    assert [stage.kind for stage in stages] == [
        "language-model",
        "disease-queries",
        "visual-bank",
        "report-bank",
    ]
    _, queries, visual, _ = stages
    assert (queries.option, queries.given) == ("", "")
    assert visual.settings.queries == str(queries.path.absolute())
    config.system.visual_bank = "parts/visual-bank"
    assert "disease-queries" not in [stage.kind for stage in stages_of(config, tmp_path / "run")]


@pytest.mark.slow
def test_stages_are_made_from_nothing(tmp_path, monkeypatch):
    """In one command, with the queries that the system itself does not use; then it drafts."""
    recipe, store = RECIPES["am-mrg/phantom"], store_of_parts()
    queries = {"architecture": "test_byobnet", "width": 16, "layers": 2, "attention_heads": 2, "epochs": 1}
    stages = {
        "disease-queries": recipe.stages["disease-queries"] | queries,
        "visual-bank": {
            "queries": "disease-queries",
            "width": 16,
            "most_rows": 4,
            "threshold": 0.3,
            "patch": 14,
        },
        "report-bank": {
            "encoder": str(tiny_language_model()),
            "pooling": "embeddings",
            "width": 16,
            "rows": 20,
        },
    }
    monkeypatch.setitem(RECIPES, recipe.name, replace(recipe, stages=stages))
    config = tiny.tiny_config(store, recipe.name, epochs=1)
    config.system = replace(config.system, encoder="own", query_former="blip2-fresh", disease_queries="")
    config.system.visual_bank = config.system.report_bank = ""
    run = train_in_stages(config, tmp_path / "run", progress=False)
    assert sorted(path.name for path in (run.path / "parts").iterdir() if path.is_dir()) == [
        "disease-queries",
        "report-bank",
        "visual-bank",
    ]
    assert set(json.loads(run.parts.read_text())) == {"visual_bank", "report_bank"}
    shutil.move(run.path, tmp_path / "moved")
    assert len(list(load(tmp_path / "moved").generate(PreparedStore(store).studies("test")))) > 0


def test_a_stage_takes_the_part_that_is_given_for_another(tmp_path):
    config = get_recipe("am-mrg/phantom/visual").build()
    config.system.disease_queries = "parts/queries"
    made = {stage.kind: stage for stage in stages_of(config, tmp_path / "run")}
    assert made["disease-queries"].given
    assert made["visual-bank"].settings.queries == "parts/queries"
    assert "report-bank" not in made
