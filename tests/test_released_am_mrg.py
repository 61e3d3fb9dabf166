"""Released checkpoints of AM-MRG's stage 2: names, sizes, and a run directory that drafts."""

import pytest
import tiny
import torch
from test_am_mrg import REPORTS, released_names
from test_vision_mamba import released_names as released_mamba
from tiny_language_models import tiny_language_model
from tiny_parts import tiny_parts

import radscribe
from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.interop.released_am_mrg import am_mrg_weights
from radscribe.layers.hopfield import HopfieldConfig
from radscribe.layers.q_former import QFormerConfig
from radscribe.vision.backbones import BackboneConfig

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


def test_a_strange_weight_is_named(system):
    with pytest.raises(RadScribeError, match="'optimizer' is no weight of a released AM-MRG"):
        am_mrg_weights(released_weights(system) | {"optimizer.x": torch.zeros(1)})


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
