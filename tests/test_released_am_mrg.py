"""Released checkpoints of AM-MRG's stage 2: names, sizes, and a run directory that drafts."""

import re
import sys
from types import ModuleType

import numpy as np
import pytest
import tiny
import torch
from lightning.fabric.utilities.data import AttributeDict
from PIL import Image
from test_am_mrg import REPORTS, released_names
from test_released_banks import drawn_as_released, released_files
from test_vision_mamba import released_names as released_mamba
from tiny_language_models import tiny_language_model
from tiny_parts import tiny_parts

import radscribe
from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.interop.released_am_mrg import am_mrg_weights
from radscribe.interop.released_banks import read_released_bank
from radscribe.layers.hopfield import HopfieldConfig
from radscribe.layers.q_former import QFormerConfig
from radscribe.pages.explanation_page import write_explanations
from radscribe.parts.memory_bank import MemoryBank
from radscribe.studies.study import Study, View
from radscribe.vision.backbones import BackboneConfig
from radscribe.weights import read_state_dict

#: Of the kinds of weights in a released Hopfield layer, by ours.
HOPFIELD = {
    "state_norm": "norm_state_pattern",
    "stored_norm": "norm_stored_pattern",
    "value_norm": "norm_pattern_projection",
    "output": "association_core.out_proj",
}


def released_system():
    """The released form in tiny: a vision Mamba of its own, BLIP-2's Q-Former, blocks."""
    config = tiny.config(
        "am-mrg/phantom",
        encoder="own",
        query_former="blip2-fresh",
        order="blocks",
        backbone=BackboneConfig(architecture="test_arm_pz16", weights="none"),
        q_former=QFormerConfig(width=16, layers=2, heads=1, channels=24),
        hopfield=HopfieldConfig(hidden=8),
    )
    return tiny.system(config, REPORTS)


def released_weights(system) -> dict[str, torch.Tensor]:
    """The weights of a system by the names of the released code."""
    state = {
        f"visual_encoder.{name}": tensor.data
        for name, tensor in released_mamba(system.backbone.model).items()
    }
    state |= {
        name: tensor
        for name, tensor in released_names(system.q_former.state_dict()).items()
        if name.startswith("Qformer.bert.")
    }
    state["disease_tokens"] = system.queries.data.unsqueeze(0)
    for theirs, ours in {
        "Qformer_proj": system.encoder_projection,
        "output_proj": system.query_projection,
        "llama_proj": system.visual_projection,
        "layer_norm": system.visual_norm,
    }.items():
        state |= {f"{theirs}.{name}": tensor for name, tensor in ours.state_dict().items()}
    for theirs, kind in {"HopfieldLayers": "visual-bank", "R_HopfieldLayers": "report-bank"}.items():
        layer = system.memory(kind).hopfield.state_dict()
        prefix = f"{theirs}.hopfield."
        for ours, name in HOPFIELD.items():
            state |= {f"{prefix}{name}.{part}": layer[f"{ours}.{part}"] for part in ("weight", "bias")}
        for name in ("query", "key", "value"):
            state[f"{prefix}association_core.{name[0]}_proj_weight"] = layer[f"{name}.weight"]
        biases = [layer[f"{name}.bias"] for name in ("query", "key", "value")]
        state[f"{prefix}association_core.in_proj_bias"] = torch.cat(biases)
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def system():
    return released_system()


@pytest.fixture(scope="module")
def checkpoint(system, tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "checkpoint.pth"
    torch.save({"model": released_weights(system), "config": {}, "epoch": 3}, path)
    return path


def command(checkpoint, out) -> list[str]:
    return [
        *("interop", "import", "am-mrg", str(checkpoint), "--out", str(out), "--dataset", "chexpert-plus"),
        *("--language_model", str(tiny_language_model())),
        *("--visual_bank", tiny_parts()["visual-bank"], "--report_bank", tiny_parts()["report-bank"]),
    ]


def test_every_weight_has_its_place(system):
    """But for numbers that only text has, and that are dropped by name."""
    released = released_weights(system)
    renamed, own = am_mrg_weights(released), system.own_state_dict()
    assert renamed.keys() == own.keys()
    assert all(torch.equal(renamed[name], own[name]) for name in own)


def test_an_imported_checkpoint_is_a_run(system, checkpoint, tmp_path, capsys):
    main(command(checkpoint, tmp_path / "run"))
    assert "run directory" in capsys.readouterr().out
    trained = radscribe.load(tmp_path / "run", device="cpu")
    config = trained.config.system
    assert (config.query_former, config.order, config.encoder) == ("blip2-fresh", "blocks", "own")
    assert config.backbone.architecture == "test_arm_pz16"
    assert trained.config.data.transform.evaluation == "squash"
    loaded = trained.system.own_state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in system.own_state_dict().items())
    views = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    mask = torch.ones(1, 1, dtype=torch.bool)
    with torch.inference_mode():
        ours, theirs = (each.visual_embeddings(views, mask).tokens for each in (trained.system, system))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["optimizer", "Qformer.cls.bias"])
def test_a_strange_weight_is_named(system, name):
    with pytest.raises(RadScribeError, match=f"'{name}' is no weight of a released AM-MRG"):
        am_mrg_weights(released_weights(system) | {f"{name}.x".replace("bias.x", "bias"): torch.zeros(1)})


def test_weights_in_half_precision_become_whole(system):
    half = {name: tensor.bfloat16() for name, tensor in released_weights(system).items()}
    renamed = am_mrg_weights(half)
    assert {tensor.dtype for tensor in renamed.values()} == {torch.float32}
    assert torch.equal(renamed["queries"], system.queries.bfloat16().float())


def test_configurations_in_checkpoints_need_none_of_their_packages(system, tmp_path, monkeypatch):
    """As the released codes save them: a dictionary of Lightning's, and a node of yacs."""

    class CfgNode(dict):
        """What yacs saves: items, and attributes of its own."""

        __module__ = "yacs.config"
        __qualname__ = "CfgNode"

    weights, node = released_weights(system), CfgNode(EPOCHS=300, AUG=CfgNode(REPROB=0.25))
    node.__dict__["__immutable__"] = True
    monkeypatch.setitem(sys.modules, "yacs", ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", ModuleType("yacs.config"))
    sys.modules["yacs.config"].CfgNode = CfgNode
    torch.save({"model": weights, "config": node, "lr_scheduler": {"last_epoch": 3}}, tmp_path / "1.pth")
    torch.save({"model": weights, "config": AttributeDict(max_length=100, type="large")}, tmp_path / "2.pth")
    monkeypatch.undo()
    for name in ("1.pth", "2.pth"):
        assert any(word in (tmp_path / name).read_bytes() for word in (b"CfgNode", b"AttributeDict"))
        found = read_state_dict(tmp_path / name)
        assert all(torch.equal(found[key], tensor) for key, tensor in weights.items())


def test_banks_come_from_the_released_files(system, checkpoint, tmp_path):
    """Beside the checkpoint, with the queries of stage 1 as the first rows."""
    width = system.queries.size(1)
    folder = released_files(tmp_path / "released", width)
    files = folder / "CAM.pkl", folder / "Report_Memory.pkl"
    words = command(checkpoint, tmp_path / "run")
    for option, file in zip(("--visual_bank", "--report_bank"), files, strict=True):
        words[words.index(option) + 1] = str(file)
    main([*words, "--stage_1", str(folder / "Stage1ckpt.pth")])
    trained = radscribe.load(tmp_path / "run", device="cpu")
    drawn = drawn_as_released(*(read_released_bank(file, width) for file in files))
    queries = torch.load(folder / "Stage1ckpt.pth")["model"]["disease_tokens"][0]
    expected = np.concatenate([queries, drawn[0]]), drawn[1]
    for kind, rows in zip(("visual-bank", "report-bank"), expected, strict=True):
        own = tmp_path / "run" / "parts" / kind
        assert np.array_equal(MemoryBank.load(own, kind).patterns, rows)
        assert np.array_equal(trained.system.memory(kind).bank, rows)
        assert "recovered, unverified" in (own / "MODEL_CARD.md").read_text()
    card = (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert "banks from CAM.pkl and Report_Memory.pkl (recovered, unverified)" in card
    assert "train split only" not in card


def test_a_page_of_released_banks_names_observations(system, checkpoint, tmp_path):
    """Their rows name no study, and there is no store to look one up in."""
    folder = released_files(tmp_path / "released", system.queries.size(1))
    words = command(checkpoint, tmp_path / "run")
    words[words.index("--visual_bank") + 1] = str(folder / "CAM.pkl")
    main(words)
    trained = radscribe.load(tmp_path / "run", device="cpu")
    Image.radial_gradient("L").save(tmp_path / "view.png")
    (explanation,) = trained.explain([Study("one", "one", (View(tmp_path / "view.png"),))])
    write_explanations([explanation], tmp_path / "page", config=trained.config)
    entry = explanation.recall.banks["visual-bank"]["Edema"].entries[0].of
    assert entry.keys() == {"observation", "number"}
    assert "cannot be shown" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"--report_bank": "Report_Memory.pkl"}, "draws from CAM.pkl before it draws from"),
        ({"--stage_1": "Stage1ckpt.pth"}, "--stage_1 is for a visual bank from a released file"),
        ({"--visual_bank": "Stage1ckpt.pth"}, "could not be read as a bank"),
        ({"--annotation": "Stage1ckpt.pth"}, "--annotation does nothing here"),
    ],
    ids=["first", "queries", "bank", "annotation"],
)
def test_files_that_do_not_fit_are_named(checkpoint, tmp_path, capsys, changed, says):
    folder = released_files(tmp_path / "released", 16)
    words = command(checkpoint, tmp_path / "run")
    for option, name in changed.items():
        if option in words:
            words[words.index(option) + 1] = str(folder / name)
        else:
            words += [option, str(folder / name)]
    with pytest.raises(SystemExit):
        main(words)
    assert re.search(says, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_another_language_model_is_named(system, tmp_path, capsys):
    weights = released_weights(system)
    weights["llama_proj.weight"] = torch.zeros(48, weights["llama_proj.weight"].size(1))
    torch.save({"model": weights}, tmp_path / "x.pth")
    with pytest.raises(SystemExit):
        main(command(tmp_path / "x.pth", tmp_path / "run"))
    assert re.search("language model of width 48, and .* has width 32.*Qwen", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("disease_tokens", "it lacks 'queries'"),
        ("llama_proj.bias", "missing visual_projection.bias"),
        ("HopfieldLayers.hopfield.association_core.in_proj_bias", "not the weights of a Hopfield layer"),
    ],
)
def test_a_missing_weight_is_named(system, tmp_path, capsys, name, says):
    kept = {key: value for key, value in released_weights(system).items() if key != name}
    torch.save({"model": kept}, tmp_path / "x.pth")
    with pytest.raises(SystemExit):
        main(command(tmp_path / "x.pth", tmp_path / "run"))
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
