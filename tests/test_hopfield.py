"""Hopfield layers: each equation against NumPy, energies that never rise, the released layer, and recall."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.interop.golden import check_golden
from radscribe.interop.released_hopfield import hopfield_layer, hopfield_weights
from radscribe.layers.hopfield import (
    EnergyDescent,
    HopfieldAssociation,
    HopfieldConfig,
    association,
    energy,
    energy_gradient,
)
from radscribe.weights import load_strictly

WIDTH, ROWS = 16, 40
GOLDEN = Path(__file__).parent / "golden/hopfield/hopfield.safetensors"


@pytest.fixture(params=range(3))
def patterns(request):
    """Queries `[3, 5, WIDTH]` and a bank `[ROWS, WIDTH]`, in double precision."""
    generator = torch.Generator().manual_seed(request.param)
    queries = torch.randn(3, 5, WIDTH, generator=generator, dtype=torch.float64)
    return queries, torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)


# --- the printed equations, transcribed ---------------------------------------------------------------------


def printed_association(f, bank):
    """Eq. 5 for one state."""
    exponentials = np.array([np.exp(f @ m / np.sqrt(len(f))) for m in bank])
    return exponentials / exponentials.sum()


def printed_energy(f, query, bank, beta):
    """Eq. 2 for one state."""
    total = sum(np.exp(f @ m / np.sqrt(len(f))) for m in bank)
    return ((f - query) ** 2).sum() - beta * np.log(total)


def printed_gradient(f, query, bank, beta):
    """Eq. 4 for one state."""
    alpha = printed_association(f, bank)
    return 2 * (f - query) - beta * sum(a * m for a, m in zip(alpha, bank, strict=True))


def test_the_association_is_equation_5(patterns):
    queries, bank = patterns
    found = association(queries, bank)
    for state, weights in zip(queries.reshape(-1, WIDTH), found.reshape(-1, ROWS), strict=True):
        assert weights.numpy() == pytest.approx(printed_association(state.numpy(), bank.numpy()), abs=1e-12)


def test_the_energy_is_equation_2(patterns):
    queries, bank = patterns
    states = queries + 0.3
    found = energy(states, queries, bank, 4.0)
    assert found.shape == (3, 5)
    expected = [
        printed_energy(state.numpy(), query.numpy(), bank.numpy(), 4.0)
        for state, query in zip(states.reshape(-1, WIDTH), queries.reshape(-1, WIDTH), strict=True)
    ]
    assert found.flatten().numpy() == pytest.approx(np.array(expected), rel=1e-12)


def test_the_gradient_is_equation_4(patterns):
    queries, bank = patterns
    states = queries - 0.2
    found = energy_gradient(states, queries, bank, EnergyDescent(beta=4.0).weight(WIDTH))
    for state, query, gradient in zip(
        states.reshape(-1, WIDTH), queries.reshape(-1, WIDTH), found.reshape(-1, WIDTH), strict=True
    ):
        expected = printed_gradient(state.numpy(), query.numpy(), bank.numpy(), 4.0)
        assert gradient.numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("exact", [False, True])
def test_the_gradient_is_that_of_its_energy(patterns, exact):
    queries, bank = patterns
    weight = EnergyDescent(beta=4.0, exact=exact).weight(WIDTH)
    states = (queries + 0.1).requires_grad_()
    (expected,) = torch.autograd.grad(energy(states, queries, bank, weight).sum(), states)
    assert torch.allclose(energy_gradient(states, queries, bank, weight), expected, atol=1e-12)


def test_the_descent_is_equation_3_until_it_stands_still(patterns):
    queries, bank = patterns
    descent = EnergyDescent(beta=0.5, step_size=0.3, tolerance=1e-6)
    found = descent(queries, descent.store(bank))
    for query, end in zip(queries.reshape(-1, WIDTH), found.reshape(-1, WIDTH), strict=True):
        state = query.numpy()
        while True:
            step = 0.3 * printed_gradient(state, query.numpy(), bank.numpy(), 0.5)
            state = state - step
            if np.linalg.norm(step) <= 1e-6:
                break
        assert end.numpy() == pytest.approx(state, abs=1e-10)


# --- energies -----------------------------------------------------------------------------------------------


def energies(descent, queries, bank, steps=30):
    """The energy that is descended, before and after each step."""
    weight = descent.weight(WIDTH)
    states, found = queries, [energy(queries, queries, bank, weight)]
    for _ in range(steps):
        states = states - descent.step_size * energy_gradient(states, queries, bank, weight)
        found.append(energy(states, queries, bank, weight))
    return torch.stack(found)


@pytest.mark.parametrize("step_size", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("beta", [0.5, 4.0, 16.0])
@pytest.mark.parametrize("exact", [False, True])
def test_the_energy_never_rises(patterns, exact, beta, step_size):
    found = energies(EnergyDescent(beta=beta, exact=exact, step_size=step_size), *patterns)
    assert (found.diff(dim=0) <= 1e-9 * found[1:].abs()).all()
    assert (found[-1] < found[0]).all()


def test_a_step_that_is_too_long_raises_it(patterns):
    """So the test above could fail."""
    assert (energies(EnergyDescent(beta=0.5, step_size=1.2), *patterns).diff(dim=0) > 0).any()


def test_the_energy_of_equation_2_rises_with_equation_4(patterns):
    """Equation 4 is not its gradient."""
    queries, bank = patterns
    descent = EnergyDescent(beta=4.0)
    states = queries - 0.5 * energy_gradient(queries, queries, bank, descent.weight(WIDTH))
    assert (energy(states, queries, bank, 4.0) > energy(queries, queries, bank, 4.0)).all()


def test_the_energy_of_the_released_layer_never_rises_by_a_step(patterns):
    """That of Ramsauer et al. (Eq. 1) in the space of a head: a step is their update rule (Eq. 3)."""
    queries, bank = (tensor.float() for tensor in patterns)
    torch.manual_seed(0)
    layer = HopfieldAssociation(WIDTH, heads=2, hidden=6, beta=2.0).eval()
    for projection in (layer.query, layer.key):
        torch.nn.init.normal_(projection.weight)
    with torch.no_grad():
        keys = layer.store(bank).keys.double().numpy()
        start = layer._of_heads(layer.query(layer.state_norm(queries.reshape(-1, WIDTH)))).double().numpy()
        states = [start]
        for steps in (1, 2, 3, 4):
            layer.steps = steps
            found = layer.associations(queries.reshape(-1, WIDTH), layer.store(bank)).double().numpy()
            states.append(np.einsum("hqr,hrd->hqd", found, keys))
    levels = np.array(
        [
            -np.log(np.exp(2.0 * np.einsum("hqd,hrd->hqr", state, keys)).sum(-1)) / 2.0
            + (state**2).sum(-1) / 2
            for state in states
        ]
    )
    assert (np.diff(levels, axis=0) <= 1e-4).all()
    assert (levels[-1] < levels[0]).all()


# --- the released layer -------------------------------------------------------------------------------------


def read_golden(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["config"]), load_file(path)


def released_layer(config, tensors, further=0):
    layer = hopfield_layer(config | {"update_steps_max": further}).eval()
    weights = {name[8:]: value for name, value in tensors.items() if name.startswith("weights.")}
    load_strictly(layer, hopfield_weights(weights), "the golden file's weights")
    return layer


@pytest.mark.parametrize("further", [0, 1, 3])
@torch.no_grad()
def test_it_computes_what_the_released_layer_computes(further):
    config, tensors = read_golden(GOLDEN)
    layer = released_layer(config, tensors, further)
    stored = layer.store(tensors["input.bank"])
    retrieved = layer(tensors["input.queries"], stored)
    assert torch.allclose(retrieved, tensors[f"output.retrieved.{further}"], atol=1e-5)
    weights = layer.associations(tensors["input.queries"], stored).transpose(0, 1)
    assert torch.allclose(weights, tensors[f"output.association.{further}"], atol=1e-5)


def test_it_computes_the_golden_tensors_of_am_mrg(shared):
    result = check_golden(shared / "golden/hopfield_tiny.safetensors")
    assert result.passed
    assert result.differences["retrieved"] < 1e-5


def test_interop_check_compares_the_layer(tmp_path, capsys):
    config, tensors = read_golden(GOLDEN)
    tensors["output.retrieved"] = tensors["output.retrieved.1"].clone()
    path = tmp_path / "hopfield.safetensors"
    for steps, status in ((1, "passed"), (0, "differs")):
        save_file(tensors, path, {"config": json.dumps(config | {"update_steps_max": steps})})
        if status == "passed":
            main(["interop", "check", str(path)])
        else:
            with pytest.raises(SystemExit, match="1"):
                main(["interop", "check", str(path)])
        assert "largest difference of retrieved" in capsys.readouterr().out
    del tensors["input.bank"]
    save_file(tensors, path, {"config": json.dumps(config)})
    with pytest.raises(RadScribeError, match="no whole golden file of am-mrg"):
        check_golden(path)


@torch.no_grad()
def test_the_layer_transcribed():
    """Softmax over the rows of beta times states and keys, per head, and the mean of the values."""
    config, tensors = read_golden(GOLDEN)
    layer = released_layer(config, tensors)
    queries, bank = tensors["input.queries"][0].numpy(), tensors["input.bank"].numpy()

    def norm(x, of):
        centred = x - x.mean(-1, keepdims=True)
        scale, shift = of.weight.numpy(), of.bias.numpy()
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift

    def project(x, by):
        return x @ by.weight.numpy().T + by.bias.numpy()

    states = project(norm(queries, layer.state_norm), layer.query)
    keys = project(norm(bank, layer.stored_norm), layer.key)
    values = project(norm(bank, layer.value_norm), layer.value)
    heads = []
    for head in range(config["num_heads"]):
        of_keys, of_values = (
            slice(head * size, (head + 1) * size) for size in (config["hidden_size"], config["pattern_size"])
        )
        scores = np.exp(4.0 * states[:, of_keys] @ keys[:, of_keys].T)
        heads.append(scores / scores.sum(-1, keepdims=True) @ values[:, of_values])
    expected = project(np.concatenate(heads, -1), layer.output)
    found = layer(torch.from_numpy(queries), layer.store(torch.from_numpy(bank)))
    assert found.numpy() == pytest.approx(expected, abs=1e-4)


def test_the_layer_of_the_paper_has_16537344_weights():
    with torch.device("meta"):
        layer = HopfieldConfig().build(768)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 16_537_344
    assert layer.scaling == 4.0
    with torch.device("meta"):
        assert HopfieldConfig(scale="beta/sqrt(d)").build(768).scaling == 4.0 / 32


def test_other_weights_are_refused():
    weights = {f"association_core.{name}": torch.zeros(2, 2) for name in ("in_proj_weight", "in_proj_bias")}
    with pytest.raises(RadScribeError, match="not the weights of a Hopfield layer"):
        hopfield_weights(weights)


# --- recall -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_stored_patterns_are_recalled_from_noisy_cues():
    """With projections that keep the patterns, the layer gives a stored pattern back, in any step."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.nn.functional.layer_norm(torch.randn(200, 64, generator=generator), (64,))
    cues = bank[:50] + 0.5 * torch.randn(50, 64, generator=generator)
    for steps in (1, 2):
        layer = HopfieldAssociation(64, heads=1, hidden=64, beta=4.0, steps=steps).eval()
        for projection in (layer.query, layer.key, layer.value, layer.output):
            projection.weight.copy_(torch.eye(64))
        assert torch.allclose(layer(cues, layer.store(bank)), bank[:50], atol=1e-3)
        weights = layer.associations(cues, layer.store(bank))
        assert torch.equal(weights.argmax(-1)[0], torch.arange(50))
        soft = HopfieldAssociation(64, heads=1, hidden=64, beta=0.01, steps=steps).eval()
        soft.load_state_dict(layer.state_dict())
        assert not torch.allclose(soft(cues, soft.store(bank)), bank[:50], atol=1e-1)


@torch.no_grad()
def test_the_descent_goes_to_the_pattern_that_the_cue_is_nearest_to():
    generator = torch.Generator().manual_seed(0)
    bank = 3 * torch.randn(100, 64, generator=generator)
    cues = bank[:20] + torch.randn(20, 64, generator=generator)
    descent = EnergyDescent(beta=16.0)
    ends = descent(cues, descent.store(bank))
    towards = (ends - cues) / 8  # beta / 2 times the associated mean of the bank
    assert torch.allclose(towards, bank[:20], atol=1e-3)


# --- how they are used --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["released", "printed", "exact"])
def test_a_query_retrieves_the_same_whatever_stands_beside(patterns, form):
    queries, bank = (tensor.float() for tensor in patterns)
    torch.manual_seed(0)
    layer = HopfieldConfig(form=form, heads=2, hidden=8).build(WIDTH).eval()
    stored = layer.store(bank)
    together = layer(queries, stored)
    assert together.shape == queries.shape
    assert torch.allclose(layer(queries[1, 2], stored), together[1, 2], atol=1e-5)
    assert torch.allclose(layer(queries[1:], stored), together[1:], atol=1e-5)


def test_queries_never_project_the_bank(patterns):
    queries, bank = (tensor.float() for tensor in patterns)
    layer = HopfieldAssociation(WIDTH, heads=2, hidden=8)
    calls = []
    for projection in (layer.key, layer.value):
        projection.register_forward_hook(lambda *_: calls.append(1))
    stored = layer.store(bank)
    for study in queries:
        layer(study, stored)
    assert len(calls) == 2


@pytest.mark.parametrize("form", ["released", "printed", "exact"])
def test_everything_that_can_learn_learns(patterns, form):
    queries, bank = (tensor.float() for tensor in patterns)
    layer = HopfieldConfig(form=form, heads=2, hidden=8).build(WIDTH)
    queries.requires_grad_()
    layer(queries, layer.store(bank)).square().sum().backward()
    assert queries.grad.abs().sum() > 0
    for name, parameter in layer.named_parameters():
        # A key's bias moves the scores of all rows alike, which softmax does not see.
        assert name == "key.bias" or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("field", "value"),
    [("form", "both"), ("scale", "1"), ("beta", 0), ("steps", 0), ("step_size", 1), ("tolerance", 0)],
)
def test_what_cannot_be_is_refused(field, value):
    with pytest.raises(ValueError, match=f"system.memory.{field} must be"):
        HopfieldConfig(**{field: value}).check("system.memory.")
