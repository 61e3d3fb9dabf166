"""The vision Mamba: its scan in two forms, its directions, its blocks, and the checkpoints that it reads."""

import argparse
import math
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from radscribe.errors import RadScribeError
from radscribe.vision.backbones import Backbone, BackboneConfig, Grid
from radscribe.vision.selective_scan import selective_scan, sequential_scan
from radscribe.vision.vision_mamba import VISION_MAMBAS, Block, VisionMamba, VisionMambaSizes, scan_orders
from radscribe.vision.vision_mamba_weights import load_released

TINY = "test_arm_pz16"
SUFFIXES = ("", "_b", "_c", "_c_b")


def scan_inputs(sequences=2, tokens=21, channels=3, state=4, dtype=torch.float64, largest_step=1.0):
    generator = torch.Generator().manual_seed(tokens)

    def random(*shape):
        return torch.randn(*shape, dtype=dtype, generator=generator)

    step = functional.softplus(random(sequences, tokens, channels)) * largest_step
    decay = -random(channels, state).exp()
    x, write, read = (random(sequences, tokens, size) for size in (channels, state, state))
    return [tensor.requires_grad_() for tensor in (x, step, decay, write, read)]


def values_and_gradients(scan, inputs):
    y = scan(*inputs)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), inputs)]


def largest_relative_difference(ours, expected):
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in zip(ours, expected, strict=True)
    )


class TestScan:
    @pytest.mark.parametrize("tokens", [1, 2, 7, 8, 9, 31, 65])
    @pytest.mark.parametrize("chunk", [1, 3, 8, 32])
    def test_both_forms_agree(self, tokens, chunk):
        inputs = scan_inputs(tokens=tokens)
        ours = values_and_gradients(lambda *given: selective_scan(*given, chunk=chunk), inputs)
        assert largest_relative_difference(ours, values_and_gradients(sequential_scan, inputs)) < 1e-12

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    def test_both_forms_agree_at_the_length_of_a_view(self, dtype, tolerance):
        inputs = scan_inputs(tokens=197, channels=24, state=16, dtype=dtype)
        ours = values_and_gradients(selective_scan, inputs)
        assert ours[0].dtype == dtype
        assert largest_relative_difference(ours, values_and_gradients(sequential_scan, inputs)) < tolerance

    def test_a_scan_by_hand(self):
        """Two tokens, one channel, one number: what remains of the first is exp(-2 * 3)."""
        x, step, write, read = (
            torch.tensor(v).view(1, 2, 1) for v in ([5.0, 7], [1.0, 2], [1.0, 1], [1.0, 4])
        )
        y = selective_scan(x, step, torch.tensor([[-3.0]]), write, read)
        expected = [5, 4 * (5 * math.exp(-6) + 14)]
        assert y.flatten().tolist() == pytest.approx(expected)
        assert sequential_scan(
            x, step, torch.tensor([[-3.0]]), write, read
        ).flatten().tolist() == pytest.approx(expected)

    def test_gradients_by_finite_differences(self):
        inputs = scan_inputs(sequences=1, tokens=7, channels=2, state=2)
        assert torch.autograd.gradcheck(lambda *given: selective_scan(*given, chunk=3), inputs)

    @pytest.mark.parametrize("largest_step", [1e-30, 1e4, 1e30])
    def test_no_step_is_too_large(self, largest_step):
        inputs = scan_inputs(tokens=40, dtype=torch.float32, largest_step=largest_step)
        ours = values_and_gradients(selective_scan, inputs)
        assert all(bool(values.isfinite().all()) for values in ours)
        assert largest_relative_difference(ours, values_and_gradients(sequential_scan, inputs)) < 1e-5

    def test_under_autocast_the_state_has_32_bits(self):
        inputs = [tensor.detach() for tensor in scan_inputs(tokens=40, dtype=torch.float32)]
        halves = [tensor.bfloat16().requires_grad_() for tensor in inputs]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = selective_scan(*halves)
        assert y.dtype == torch.float32
        assert torch.equal(y, selective_scan(*(tensor.detach().float() for tensor in halves)))
        gradients = torch.autograd.grad(y.sum(), halves)
        assert all(gradient.dtype == torch.bfloat16 for gradient in gradients)
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)

    def test_memory_is_bounded_by_the_chunk(self):
        """Neither pass makes a tensor with more states than a few chunks have."""
        sizes = []

        class Sizes(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                result = func(*args, **(kwargs or {}))
                results = result if isinstance(result, (tuple, list)) else [result]
                sizes.extend(each.untyped_storage().nbytes() for each in results if torch.is_tensor(each))
                return result

        channels, state, chunk = 16, 8, 8
        inputs = scan_inputs(1, 128, channels, state, torch.float32)
        with Sizes():
            y = selective_scan(*inputs, chunk=chunk)
            torch.autograd.grad(y.sum(), inputs)
        of_a_state = channels * state * 4
        assert max(sizes) <= 4 * chunk * of_a_state
        sizes.clear()
        with Sizes(), torch.no_grad():
            sequential_scan(*inputs)
            selective_scan(*inputs, chunk=128)
        assert max(sizes) == 2 * 128 * of_a_state

    def test_a_backward_pass_keeps_one_state_per_chunk(self):
        kept = []
        inputs = scan_inputs(1, 128, 16, 8, torch.float32)
        with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
            selective_scan(*inputs, chunk=32)
        states = [tensor for tensor in kept if tensor.ndim == 4]
        assert [tuple(tensor.shape) for tensor in states] == [(4, 1, 16, 8)]


class TestDirections:
    def test_on_a_grid_of_four(self):
        """The patches are 0, 1 above 3, 4; the class token is 2."""
        assert scan_orders(2).tolist() == [
            [0, 1, 2, 3, 4],
            [4, 3, 2, 1, 0],
            [0, 3, 2, 1, 4],
            [4, 1, 2, 3, 0],
        ]

    @pytest.mark.parametrize("side", [2, 4, 14])
    def test_they_read_every_token_once_and_can_be_undone(self, side):
        model = VisionMamba(VisionMambaSizes(width=8, layers=1, image_size=side, patch_size=1))
        tokens = torch.arange(side * side + 1)
        for order, places in zip(model.orders, model.places, strict=True):
            assert sorted(order.tolist()) == tokens.tolist()
            assert torch.equal(tokens[order][places], tokens)
            assert order[side * side // 2] == model.class_position

    def test_columns_are_the_rows_of_the_turned_view(self):
        side, middle = 14, 98
        rows, _, columns, _ = scan_orders(side)
        patches = [torch.cat([order[:middle], order[middle + 1 :]]) for order in (rows, columns)]
        assert torch.equal(patches[0].view(side, side).T, patches[1].view(side, side))


def numpy_block(weights, tokens, side):
    """A block with the released names of its weights, written from the definitions, token by token."""

    def norm(values, name):
        centred = values - values.mean(-1, keepdims=True)
        normalised = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return normalised * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def silu(values):
        return values / (1 + np.exp(-values))

    def direction(x, suffix):
        convolved = np.zeros_like(x)
        for token in range(len(x)):
            for back in range(4):
                if token >= back:
                    convolved[token] += (
                        weights[f"mixer.conv1d{suffix}.weight"][:, 0, 3 - back] * x[token - back]
                    )
        x = silu(convolved + weights[f"mixer.conv1d{suffix}.bias"])
        projected = x @ weights[f"mixer.x_proj{suffix}.weight"].T
        rank = weights[f"mixer.dt_proj{suffix}.weight"].shape[1]
        raw = projected[:, :rank] @ weights[f"mixer.dt_proj{suffix}.weight"].T
        delta = np.log1p(np.exp(raw + weights[f"mixer.dt_proj{suffix}.bias"]))
        a = -np.exp(weights[f"mixer.A{suffix}_log"])
        state, outputs = np.zeros_like(a), []
        for token in range(len(x)):
            b, c = projected[token, rank : rank + 16], projected[token, rank + 16 :]
            state = np.exp(delta[token][:, None] * a) * state + np.outer(delta[token] * x[token], b)
            outputs.append(state @ c + weights[f"mixer.D{suffix}"] * x[token])
        return np.stack(outputs)

    def turned(values):
        """The grid's rows become its columns; the token in the middle stays."""
        middle = len(values) // 2
        grid = np.delete(values, middle, axis=0).reshape(side, side, -1).swapaxes(0, 1)
        return np.insert(grid.reshape(side * side, -1), middle, values[middle], axis=0)

    x, gate = np.split(norm(tokens, "norm1") @ weights["mixer.in_proj.weight"].T, 2, axis=-1)
    scanned = direction(x, "") + direction(x[::-1], "_b")[::-1]
    scanned += turned(direction(turned(x), "_c") + direction(turned(x)[::-1], "_c_b")[::-1])
    tokens = tokens + (scanned / 4 * silu(gate)) @ weights["mixer.out_proj.weight"].T
    x = norm(tokens, "norm2")
    hidden = silu(x @ weights["mlp.w1.weight"].T + weights["mlp.w1.bias"])
    hidden *= x @ weights["mlp.w2.weight"].T + weights["mlp.w2.bias"]
    return tokens + hidden @ weights["mlp.w3.weight"].T + weights["mlp.w3.bias"]


def released_shapes(width=32, layers=2, patches=16, rank=2, directions=SUFFIXES):
    """Names and shapes of the encoder's weights in the released code."""
    hidden = width * 8 // 3
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, patches + 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm_f.weight": (width,),
        "norm_f.bias": (width,),
    }
    for layer in range(layers):
        of_layer = {"mixer.in_proj.weight": (2 * width, width), "mixer.out_proj.weight": (width, width)}
        for suffix in directions:
            of_layer |= {
                f"mixer.A{suffix}_log": (width, 16),
                f"mixer.D{suffix}": (width,),
                f"mixer.conv1d{suffix}.weight": (width, 1, 4),
                f"mixer.conv1d{suffix}.bias": (width,),
                f"mixer.x_proj{suffix}.weight": (rank + 32, width),
                f"mixer.dt_proj{suffix}.weight": (width, rank),
                f"mixer.dt_proj{suffix}.bias": (width,),
            }
        for name, rows, columns in (("w1", hidden, width), ("w2", hidden, width), ("w3", width, hidden)):
            of_layer |= {f"mlp.{name}.weight": (rows, columns), f"mlp.{name}.bias": (rows,)}
        for name in ("norm1", "norm2"):
            of_layer |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in of_layer.items()}
    return shapes


def random_weights(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


def pretraining_weights(patches=9):
    """An encoder in pretraining: one direction, other positions, no class token, and a decoder."""
    shapes = released_shapes(directions=("",)) | {"pos_embed": (1, patches, 32)}
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith(("cls_token", "norm_f"))}
    decoder = ["ar_token", "dec_pos_embed", "enc2dec.weight", "dec_block.0.attn2.q.weight", "norm_1.weight"]
    decoder += ["norm_4.bias", "ar_norm.bias", "ar_pred.weight"]
    return random_weights(shapes | dict.fromkeys(decoder, (2, 2)))


def test_a_block_in_numpy():
    weights = random_weights(released_shapes(layers=1))
    below = {n.removeprefix("layers.0."): t.double() for n, t in weights.items() if n.startswith("layers.0.")}
    model = VisionMamba(VisionMambaSizes(width=32, layers=1, image_size=64)).double()
    named = released_names(model)
    for name, tensor in below.items():
        named[f"layers.0.{name}"].data.copy_(tensor)
    tokens = torch.randn(2, 17, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    block = model.layers[0]
    assert isinstance(block, Block)
    with torch.no_grad():
        ours = block(tokens, model.orders, model.places).numpy()
    arrays = {name: tensor.numpy() for name, tensor in below.items()}
    for view, expected in zip(ours, (numpy_block(arrays, view.numpy(), 4) for view in tokens), strict=True):
        assert np.abs(view - expected).max() < 1e-10


def released_names(model):
    """Our weights by the released names, spelled out direction by direction."""
    named = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        for number, suffix in enumerate(SUFFIXES):
            for part in ("conv1d", "x_proj", "dt_proj", "D"):
                name = name.replace(f".scans.{number}.{part}", f".{part}{suffix}")
            name = name.replace(f".scans.{number}.A_log", f".A{suffix}_log")
        named[name] = tensor
    return named


@pytest.mark.parametrize(
    ("architecture", "parameters", "sizes"),
    [
        ("arm_base_pz16", 84_262_656, {"width": 768, "layers": 12, "patches": 196, "rank": 48}),
        ("arm_large_pz16", 296_010_720, {"width": 1024, "layers": 24, "patches": 196, "rank": 64}),
    ],
)
def test_released_sizes(architecture, parameters, sizes):
    """Every name and shape, and the number of parameters of the released code at these sizes."""
    with torch.device("meta"):
        model = VisionMamba(VISION_MAMBAS[architecture])
    shapes = {name: tuple(tensor.shape) for name, tensor in released_names(model).items()}
    assert shapes == released_shapes(**sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def tiny_backbone(weights="none", **options):
    torch.manual_seed(0)
    return Backbone(BackboneConfig(architecture=TINY, weights=str(weights)), **options).eval()


class TestCheckpoints:
    def loaded(self, path):
        return released_names(tiny_backbone(path).model)

    @pytest.mark.parametrize("form", ["safetensors", "state_dict", "model"])
    def test_an_encoder(self, tmp_path, form, capsys):
        weights = random_weights(released_shapes())
        path = tmp_path / f"encoder.{'safetensors' if form == 'safetensors' else 'pth'}"
        if form == "safetensors":
            save_file(weights, path)
        else:
            torch.save({"model": weights, "epoch": 3} if form == "model" else weights, path)
        loaded = self.loaded(path)
        assert loaded.keys() == weights.keys()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
        assert capsys.readouterr().err == ""

    def test_a_system_with_its_configuration(self, tmp_path, capsys):
        """Nothing but the encoder is taken; what lies beside the weights needs none of its packages."""
        weights = random_weights(released_shapes())
        system = {f"visual_encoder.{name}": tensor for name, tensor in weights.items()}
        system |= {name: torch.ones(2) for name in ("vision_proj.weight", "text_encoder.x", "logit_scale")}
        options = argparse.Namespace(batch_size=12, model="arm_base_pz16")
        path = tmp_path / "clip.pth"
        torch.save({"model": system, "args": options, "config": OrderedDict(type="base")}, path)
        loaded = self.loaded(path)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
        assert (
            "Left out, the rest of the system: logit_scale, text_encoder, vision_proj"
            in capsys.readouterr().err
        )

    @pytest.mark.parametrize("patches", [9, 16])
    def test_a_pretraining(self, tmp_path, patches, capsys):
        weights = pretraining_weights(patches)
        path = tmp_path / "checkpoint-100.pth"
        torch.save({"model": weights, "epoch": 100}, path)
        loaded = self.loaded(path)
        for suffix in SUFFIXES:
            for name in ("A_log", "D", "conv1d.weight", "x_proj.weight", "dt_proj.bias"):
                part, dot, rest = name.partition("." if "." in name else "_")
                copied = loaded[f"layers.1.mixer.{part}{suffix}{dot}{rest}"]
                assert torch.equal(copied, weights[f"layers.1.mixer.{name}"])
        side = math.isqrt(patches)
        grid = weights["pos_embed"].view(side, side, 32).permute(2, 0, 1)[None]
        expected = functional.interpolate(grid, size=(4, 4), mode="bicubic")[0].flatten(1).T
        positions = loaded["pos_embed"][0]
        assert torch.allclose(torch.cat([positions[:8], positions[9:]]), expected, atol=1e-6)
        assert positions[8].abs().max() == 0
        assert loaded["cls_token"].abs().max() > 0
        error = capsys.readouterr().err
        assert "the decoder of the pretraining: ar_norm, ar_pred, ar_token, dec_block, dec_pos_embed" in error
        assert "New: cls_token, norm_f.weight, norm_f.bias" in error

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda w: w.pop("layers.1.mixer.D_c_b"), "missing layers.1.mixer.scans.3.D"),
            (lambda w: w.update(head=torch.ones(1)), "unexpected head"),
            (lambda w: w.update({"layers.0.mixer.D_d": torch.ones(32)}), "unexpected layers.0.mixer.D_d"),
            (
                lambda w: w.update(cls_token=torch.ones(1, 1, 8)),
                r"cls_token is \(1, 1, 8\), not \(1, 1, 32\)",
            ),
            (lambda w: w.update({"visual_encoder.norm_f.bias": torch.ones(32)}), "beside its visual encoder"),
            (lambda w: w.update(norm_1=torch.ones(1)), "unexpected norm_1"),
            (lambda w: w["norm_f.bias"].fill_(torch.nan), "not finite"),
            (lambda w: w.clear(), "no state dict"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, change, message):
        weights = random_weights(released_shapes())
        change(weights)
        torch.save(weights, tmp_path / "encoder.pth")
        with pytest.raises(RadScribeError, match=message):
            tiny_backbone(tmp_path / "encoder.pth")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda w: w.update(ar_tokens=torch.ones(1)), "unexpected ar_tokens"),
            (lambda w: w.pop("layers.0.mixer.A_log"), "missing layers.0.mixer.scans.0.A_log"),
            (lambda w: w.pop("pos_embed"), "missing pos_embed"),
            (lambda w: w.update(pos_embed=torch.ones(1, 10, 32)), r"pos_embed is \(1, 10, 32\)"),
        ],
    )
    def test_what_does_not_fit_in_a_pretraining_is_named(self, tmp_path, change, message):
        weights = pretraining_weights()
        change(weights)
        torch.save({"model": weights}, tmp_path / "pretraining.pth")
        with pytest.raises(RadScribeError, match=message):
            tiny_backbone(tmp_path / "pretraining.pth")

    def test_a_pickle_runs_nothing(self, tmp_path):
        class Runs:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "ran"),)

        torch.save({"model": random_weights(released_shapes()), "args": Runs()}, tmp_path / "encoder.pth")
        with pytest.raises(RadScribeError, match="could not be read as a checkpoint"):
            tiny_backbone(tmp_path / "encoder.pth")
        assert not (tmp_path / "ran").exists()

    def test_a_name_that_is_no_file(self):
        with pytest.raises(
            RadScribeError, match="neither a file nor a published tag. Tags of test_arm_pz16: none"
        ):
            tiny_backbone("tv_in1k")

    def test_pixels(self, tmp_path):
        save_file(random_weights(released_shapes()), tmp_path / "encoder.safetensors")
        assert tiny_backbone(tmp_path / "encoder.safetensors").pixels.interpolation == "bicubic"
        assert tiny_backbone().pixels.interpolation == "bilinear"


class TestBackbone:
    views = torch.randint(
        0, 256, (2, 2, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mask = torch.tensor([[True, True], [True, False]])

    def test_tokens_of_a_batch(self):
        """Studies of a batch do not see each other, and a padded view is an absent one."""
        model = tiny_backbone()
        with torch.inference_mode():
            visual = model(self.views, self.mask)
            alone = model(self.views[1:, :1], self.mask[1:, :1])
        assert visual.tokens.shape == (2, 2 * 16, 32)
        assert visual.grid == Grid(4, 4)
        assert visual.mask.sum(dim=1).tolist() == [32, 16]
        assert visual.tokens[1, 16:].abs().max() == 0
        assert (visual.tokens[1, :16] - alone.tokens[0]).abs().max() < 1e-5

    def test_the_class_token_can_be_kept(self):
        with torch.inference_mode():
            without, visual = (
                tiny_backbone(class_token=kept)(self.views, self.mask) for kept in (False, True)
            )
        assert visual.grid is None
        first = visual.tokens[0, :17]
        assert torch.equal(torch.cat([first[:8], first[9:]]), without.tokens[0, :16])

    def test_an_absent_view_has_no_gradient(self):
        model = tiny_backbone()
        gradients = []
        for pixels in (0, 255):
            views = self.views.clone()
            views[1, 1] = pixels
            model.zero_grad()
            model(views, self.mask).tokens.square().sum().backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
        assert all(bool(gradient.abs().max() > 0) for gradient in gradients[0])

    def test_training_lowers_the_loss(self):
        model = tiny_backbone().train()
        head = torch.nn.Linear(32, 1)
        optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], 1e-3)
        losses = []
        for _ in range(12):
            visual = model(self.views, self.mask)
            pooled = visual.tokens.sum(1) / visual.mask.sum(1, keepdim=True)
            loss = functional.binary_cross_entropy_with_logits(head(pooled)[:, 0], torch.tensor([0.0, 1]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2

    def test_in_16_bits(self):
        model = tiny_backbone()
        with torch.inference_mode():
            exact = model(self.views, self.mask).tokens
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rounded = model(self.views, self.mask).tokens
        assert (rounded - exact).abs().max() < 0.1

    def test_views_of_another_size(self):
        with pytest.raises(RadScribeError, match="views of 64 pixels, not 48. .*crop 64"):
            tiny_backbone()(self.views[..., :48, :48], self.mask)

    def test_no_output_stride(self):
        with pytest.raises(RadScribeError, match="no output stride 16"):
            Backbone(BackboneConfig(architecture=TINY, weights="none", output_stride=16))


def test_a_new_network_remembers_in_all_directions():
    model = VisionMamba(VISION_MAMBAS[TINY])
    steps = [
        functional.softplus(tensor)
        for name, tensor in model.state_dict().items()
        if name.endswith("dt_proj.bias")
    ]
    assert len(steps) == 8
    assert all(step.min() > 0.0009 and step.max() < 0.11 for step in steps)


def test_loading_changes_nothing_when_it_fails(tmp_path):
    model = VisionMamba(VISION_MAMBAS[TINY])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = random_weights(released_shapes())
    del weights["norm_f.bias"]
    torch.save(weights, tmp_path / "encoder.pth")
    with pytest.raises(RadScribeError, match="missing norm_f.bias"):
        load_released(model, tmp_path / "encoder.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
