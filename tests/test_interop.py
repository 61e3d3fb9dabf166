"""Golden tensors and released checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import radscribe
from radscribe.cli import main
from radscribe.decoding.search import DecodingConfig
from radscribe.errors import RadScribeError
from radscribe.interop.checkpoints import import_released
from radscribe.interop.golden import check_golden
from radscribe.studies.study import Study, View

WIDTH, HIDDEN, LAYERS, SLOTS, MEMORY_SLOTS = 64, 48, 2, 40, 4


#: What the released code computes; `golden/make.py` made them.
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.safetensors"))


@pytest.fixture
def cmn_golden():
    return GOLDEN[1]


def changed_copy(golden, tmp_path, change):
    with safe_open(golden, framework="pt") as file:
        metadata, tensors = change(file.metadata(), load_file(golden))
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        tmp_path / "changed.safetensors",
        metadata,
    )
    return tmp_path / "changed.safetensors"


def test_cmn_golden(shared, capsys):
    golden = shared / "golden" / "cmn_tiny.safetensors"
    result = check_golden(golden)
    assert result.differences["logprobs"] < 1e-5
    assert result.sequences_equal == {"beam3": True, "greedy": True}
    main(["interop", "check", str(golden)])
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_of_this_repository(golden):
    result = check_golden(golden)
    assert result.system.replace("-", "_") == golden.stem
    assert result.differences["logprobs"] < 1e-4
    assert result.sequences_equal == {"beam3": True, "greedy": True}


def test_there_is_a_golden_file_of_each_architecture():
    assert [path.stem for path in GOLDEN] == ["r2gen", "r2gen_cmn"]


def test_r2gen_golden(shared):
    """Its random memory amplifies rounding: against float64 both differ by about half of this."""
    result = check_golden(shared / "golden" / "r2gen_tiny.safetensors")
    assert result.system == "r2gen"
    assert result.differences["logprobs"] < 1e-4
    assert result.sequences_equal == {"beam3": True}


def test_vision_mamba_golden(shared):
    result = check_golden(shared / "golden" / "vision_mamba_tiny.safetensors")
    assert result.system == "vision-mamba"
    assert result.passed
    assert result.differences["tokens"] < 1e-5


def test_camanet_golden(shared):
    """Its random memory amplifies rounding, too: the file itself is 6e-4 from what 64 bits give."""
    result = check_golden(shared / "golden" / "camanet_tiny.safetensors")
    assert result.passed
    assert result.system == "camanet"
    assert set(result.differences) == {"cams", "vdm", "discriminative_token", "tdm", "loss_mse", "logprobs"}
    assert all(result.differences[name] < 1e-5 for name in ("cams", "vdm", "discriminative_token"))
    assert result.differences["tdm"] < 1e-4
    assert result.differences["logprobs"] < 1e-3
    assert result.sequences_equal == {"beam3": True}


@pytest.mark.parametrize(
    "name",
    [
        "weights.fore_back_learn.norm.gamma",
        "weights.visual_extractor.head.weight",
        "weights.encoder_decoder.model.rm.W.bias",
        "output.cams",
        "output.vdm",
        "output.tdm",
        "output.loss_mse",
        "input.labels",
    ],
)
def test_a_difference_of_camanet_fails(shared, tmp_path, name):
    def change(metadata, tensors):
        changed = 1 - tensors[name] if name == "input.labels" else tensors[name] + 0.05
        for each in (name, name.replace(".norm.", ".fore_norm.")):
            tensors[each] = changed.clone()
        return metadata, tensors

    assert not check_golden(
        changed_copy(shared / "golden" / "camanet_tiny.safetensors", tmp_path, change)
    ).passed


@pytest.mark.parametrize(
    "name", ["weights.model.decoder.layers.0.src_attn.linears.1.weight", "output.logprobs"]
)
def test_a_difference_fails(cmn_golden, tmp_path, name):
    def change(metadata, tensors):
        tensors[name] = tensors[name] + 0.01 * torch.randn_like(tensors[name])
        return metadata, tensors

    with pytest.raises(SystemExit) as caught:
        main(["interop", "check", str(changed_copy(cmn_golden, tmp_path, change))])
    assert caught.value.code == 1


def test_a_differing_beam_fails(cmn_golden, tmp_path):
    def change(metadata, tensors):
        tensors["output.beam3"][0, 0] += 1
        return metadata, tensors

    result = check_golden(changed_copy(cmn_golden, tmp_path, change))
    assert result.sequences_equal["beam3"] is False
    assert not result.passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, t: (m, {k: v for k, v in t.items() if k != "weights.logit.bias"}), "missing logits.bias"),
        (lambda m, t: (m, t | {"weights.extra": torch.ones(1)}), "unexpected extra"),
        (lambda m, t: ({}, t), "not a golden file"),
        (
            lambda m, t: (m, t | {"weights.model.cmn.linears.0.bias": torch.ones(32)}),
            "two copies of the memory",
        ),
        (lambda m, t: (m, t | {"weights.model.tgt_embed.1.pe": torch.ones(1, 5000, 32)}), "not sinusoidal"),
        (lambda m, t: (m, {k: v for k, v in t.items() if "memory" not in k}), "does not know"),
    ],
)
def test_a_wrong_file_is_named(cmn_golden, tmp_path, change, message):
    with pytest.raises(RadScribeError, match=message):
        check_golden(changed_copy(cmn_golden, tmp_path, change))


def test_no_file(tmp_path):
    with pytest.raises(RadScribeError, match="no golden file"):
        check_golden(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(RadScribeError, match="not a safetensors file"):
        check_golden(tmp_path / "text.safetensors")


def released_checkpoint(path, words: int, system: str):
    """A checkpoint as the released training code saves it: its names, torchvision's backbone, a pickle."""
    import numpy as np
    import torchvision

    torch.manual_seed(0)
    if system == "camanet":
        extractor = torchvision.models.densenet121(weights=None).features
    else:
        resnet = torchvision.models.resnet101(weights=None)
        extractor = torch.nn.Sequential(*list(resnet.children())[:-2])
    channels = {"camanet": 1024}.get(system, 2048)
    driven_by_memory = system in ("r2gen", "camanet")
    state = {f"visual_extractor.model.{name}": value for name, value in extractor.state_dict().items()}

    def linear(name, width_in, width_out):
        state[f"encoder_decoder.{name}.weight"] = 0.3 * torch.randn(width_out, width_in)
        state[f"encoder_decoder.{name}.bias"] = 0.1 * torch.randn(width_out)

    def attention(name):
        for number in range(4):
            linear(f"{name}.linears.{number}", WIDTH, WIDTH)

    scale, shift = ("gamma", "beta") if driven_by_memory else ("a_2", "b_2")

    def norm(name):
        state[f"encoder_decoder.{name}.{scale}"] = torch.ones(WIDTH)
        state[f"encoder_decoder.{name}.{shift}"] = torch.zeros(WIDTH)

    def sublayers(name, count, driven):
        for number in range(count):
            norm(f"{name}.sublayer.{number}.norm")
            for part in ("mlp_gamma", "mlp_beta") if driven else ():
                linear(f"{name}.sublayer.{number}.norm.{part}.0", MEMORY_SLOTS * WIDTH, WIDTH)
                linear(f"{name}.sublayer.{number}.norm.{part}.2", WIDTH, WIDTH)

    for layer in range(LAYERS):
        encoder, decoder = f"model.encoder.layers.{layer}", f"model.decoder.layers.{layer}"
        attention(f"{encoder}.self_attn")
        attention(f"{decoder}.self_attn")
        attention(f"{decoder}.src_attn")
        for name, count in ((encoder, 2), (decoder, 3)):
            linear(f"{name}.feed_forward.w_1", WIDTH, HIDDEN)
            linear(f"{name}.feed_forward.w_2", HIDDEN, WIDTH)
            sublayers(name, count, driven=driven_by_memory and name == decoder)
    for name in ("encoder", "decoder"):
        norm(f"model.{name}.norm")
    if driven_by_memory:
        attention("model.rm.attn")
        for name, width_out in (("mlp.0", WIDTH), ("mlp.2", WIDTH), ("W", 2 * WIDTH), ("U", 2 * WIDTH)):
            linear(f"model.rm.{name}", WIDTH, width_out)
    else:
        attention("cmn")
        for number in range(4):
            for part in ("weight", "bias"):
                copy = state[f"encoder_decoder.cmn.linears.{number}.{part}"].clone()
                state[f"encoder_decoder.model.cmn.linears.{number}.{part}"] = copy
        state["encoder_decoder.memory_matrix"] = torch.randn(SLOTS, WIDTH)
    state["encoder_decoder.model.tgt_embed.0.lut.weight"] = torch.randn(words + 1, WIDTH)
    position = torch.arange(5000).unsqueeze(1)
    angles = position * torch.exp(torch.arange(0, WIDTH, 2) * -(torch.log(torch.tensor(10000.0)) / WIDTH))
    code = torch.zeros(1, 5000, WIDTH)
    code[0, :, 0::2], code[0, :, 1::2] = angles.sin(), angles.cos()
    if system == "camanet":
        state["visual_extractor.head.weight"] = torch.randn(14, channels)
        state["visual_extractor.head.bias"] = torch.randn(14)
        for norm_name in ("norm", "fore_norm", "back_norm"):
            state[f"fore_back_learn.{norm_name}.gamma"] = torch.ones(channels)
            state[f"fore_back_learn.{norm_name}.beta"] = torch.zeros(channels)
    state["encoder_decoder.model.src_embed.0.pe"] = code
    state["encoder_decoder.model.tgt_embed.1.pe"] = code.clone()
    linear("att_embed.0", channels, WIDTH)
    linear("logit", WIDTH, words + 1)
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {}, "monitor_best": np.float64(0.17)}, path)
    return extractor.eval()


REPORT = "The heart is normal in size. No effusion."


@pytest.fixture(scope="module", params=["r2gen", "r2gen-cmn", "camanet"])
def released(request, tmp_path_factory):
    """(folder, extractor, system) of a released checkpoint with its annotation."""
    folder = tmp_path_factory.mktemp("released")
    entries = [
        {"id": f"CXR{n}_IM-{n}", "report": REPORT, "image_path": [], "split": "train"} for n in range(4)
    ]
    (folder / "annotation.json").write_text(json.dumps({"train": entries, "val": [], "test": []}))
    words = {"the", "heart", "is", "normal", "in", "size", "no", "effusion", ".", "<unk>"}
    extractor = released_checkpoint(folder / "model.pth", len(words), request.param)
    import_released(
        request.param, folder / "model.pth", folder / "annotation.json", folder / "run", "iu-xray"
    )
    return folder, extractor, request.param


@pytest.mark.slow
def test_an_imported_checkpoint_is_a_run(released, tmp_path):
    from PIL import Image

    folder, _, system = released
    trained = radscribe.load(folder / "run", device="cpu")
    sizes = trained.config.system
    assert (sizes.width, sizes.feed_forward, sizes.layers) == (WIDTH, HIDDEN, LAYERS)
    if system == "camanet":
        assert (sizes.classifier, sizes.word_anchor) == ("sigmoid", "first_patch")
    if system in ("r2gen", "camanet"):
        assert sizes.memory_slots == MEMORY_SLOTS
    else:
        assert (sizes.memory_size, sizes.memory_input) == (SLOTS, "features_and_responses")
    assert trained.config.data.transform.evaluation == "squash"
    Image.radial_gradient("L").save(tmp_path / "view.png")
    study = Study("one", "one", (View(tmp_path / "view.png"), View(tmp_path / "view.png")))
    (draft,) = trained.generate([study], maximum_length=8)
    assert set(draft.text.split()) <= {
        "the",
        "heart",
        "is",
        "normal",
        "in",
        "size",
        "no",
        "effusion",
        ".",
        "<unk>",
    }


@pytest.mark.slow
def test_the_imported_backbone_computes_what_the_released_one_does(released):
    folder, extractor, _ = released
    backbone = radscribe.load(folder / "run", device="cpu").system.backbone
    grey = torch.randint(0, 256, (1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        ours = backbone.encode_views(grey)
        rgb = grey.unsqueeze(1).expand(-1, 3, -1, -1) / 255
        theirs = (
            extractor((rgb - backbone.normalise.mean) / backbone.normalise.std).flatten(2).transpose(1, 2)
        )
        theirs = theirs.relu()  # the released CAMANet does so too; a ResNet has done it already
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.slow
def test_import_says_what_is_wrong(released, tmp_path):
    folder, _, system = released
    arguments = [system, folder / "model.pth", folder / "annotation.json", tmp_path / "run", "iu-xray"]

    def attempt(position, value, message):
        changed = [*arguments[:position], value, *arguments[position + 1 :]]
        with pytest.raises(RadScribeError, match=message):
            import_released(*changed)

    attempt(0, "r2gan", "unknown released checkpoint 'r2gan/iu-xray'")
    others = {"r2gen": "r2gen-cmn", "r2gen-cmn": "r2gen", "camanet": "r2gen"}
    attempt(0, others[system], "does not fit|no checkpoint of|unexpected weight")
    attempt(1, tmp_path / "none.pth", "no checkpoint")
    attempt(2, tmp_path / "none.json", "no annotation file")
    attempt(3, folder / "run", "exists already")
    (tmp_path / "text.pth").write_text("no pickle")
    attempt(1, tmp_path / "text.pth", "could not be read as a checkpoint")
    torch.save({"state_dict": {"other.weight": torch.ones(1)}}, tmp_path / "other.pth")
    attempt(1, tmp_path / "other.pth", f"no checkpoint of {system}")
    more = json.loads((folder / "annotation.json").read_text())
    for entry in more["train"]:
        entry["report"] += " Another word."
    (tmp_path / "more.json").write_text(json.dumps(more))
    attempt(2, tmp_path / "more.json", r"vocabulary of 12 words does not fit .*\(11, 64\), not \(13, 64\)")
    assert not (tmp_path / "run").exists()


def test_a_pickle_that_runs_code_is_refused(released, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder, *_ = released
    torch.save({"state_dict": {"weight": Payload()}}, tmp_path / "evil.pth")
    with pytest.raises(RadScribeError, match="could not be read as a checkpoint"):
        import_released(
            "r2gen-cmn", tmp_path / "evil.pth", folder / "annotation.json", tmp_path / "run", "iu-xray"
        )
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_decoding_fields_are_checked(released):
    folder, *_ = released
    trained = radscribe.load(folder / "run", device="cpu")
    with pytest.raises(RadScribeError, match="no decoding field 'beam'.*beams"):
        list(trained.generate([], beam=3))
    with pytest.raises(RadScribeError, match="at least 1"):
        list(trained.generate([], beams=0))
    assert DecodingConfig().beams == 3
