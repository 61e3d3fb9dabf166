"""The plan for a GPU: what it counts on one and two layers is what more layers and studies take."""

import json

import pytest
import torch
from tiny_language_models import tiny_language_model

from radscribe.bench.plan import Accelerator, _count, _shapes, bench_plan
from radscribe.cli import main
from radscribe.errors import RadScribeError
from radscribe.recipes import get_recipe
from radscribe.systems.registry import get_system
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.text.vocabulary import Vocabulary

TINY = tiny_language_model("llama")


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", ["bidirectional/phantom", "r2gen-gpt/phantom", "cmeaa/phantom", "am-mrg/phantom"]
)
def test_four_layers_are_counted_from_one_and_two(recipe):
    one, two, four = (_count(get_recipe(recipe).build(), _shapes("", TINY), layers) for layers in (1, 2, 4))
    assert one.further(two, 3) == four


def test_parameters_are_the_systems_own(capsys):
    main(["bench", "plan", "bidirectional/phantom", "--language_model", str(TINY), "--memory_gb", "0.001"])
    plan = json.loads(capsys.readouterr().out)

    config = get_recipe("bidirectional/phantom").build()
    config.system.language_model.name = str(TINY)
    vocabulary = Vocabulary((UNKNOWN_TOKEN,), cleaning="none", minimum_count=1)
    system = get_system("bidirectional").build(config.system, vocabulary, 100)
    trained = [parameter for parameter in system.parameters() if parameter.requires_grad]
    # The phantom's text encoder has as many words as the language model has.
    assert plan["parameters"]["trained"] == sum(parameter.numel() for parameter in trained)
    assert sum(plan["parameters"]["trained_parts"].values()) == plan["parameters"]["trained"]
    assert plan["parameters"]["frozen"] == sum(
        parameter.numel() for parameter in system.parameters() if not parameter.requires_grad
    )
    gb = plan["training_gb"]
    assert gb["optimiser"] == pytest.approx(2 * gb["gradients"], rel=0.01)
    assert gb["all"] == pytest.approx(sum(value for name, value in gb.items() if name != "all"), rel=0.01)
    assert plan["fits"] is False
    assert plan["language_model"] == str(TINY)


def test_the_text_encoder_is_counted_with_its_own_vocabulary():
    fewer, more = (get_recipe("bidirectional/phantom").build() for _ in range(2))
    fewer.system.report_encoder.words, more.system.report_encoder.words = 700, 701
    counts = [_count(config, _shapes("", TINY), 1).trained["report_encoder"] for config in (fewer, more)]
    assert counts[1] - counts[0] == more.system.report_encoder.width


def test_bounds_follow_the_accelerator():
    slow, fast = (
        bench_plan(
            get_recipe("r2gen-gpt/phantom").build(),
            Accelerator(bandwidth_tb=speed, teraflops=speed),
            language_model=TINY,
        )
        for speed in (1.0, 2.0)
    )
    assert slow["training_step"]["seconds_at_least"] == pytest.approx(
        2 * fast["training_step"]["seconds_at_least"], rel=0.01
    )
    assert fast["drafting"]["tokens_per_second_at_most"] == pytest.approx(
        2 * slow["drafting"]["tokens_per_second_at_most"], rel=0.01
    )
    # Two key and value heads of 8, in 32 bits, of all layers.
    cached = slow["drafting"]["key_value_cache_gb"] * 1e9
    rows, length = (
        slow["batch"] * slow["drafting"]["beams"],
        slow["prompt_tokens"] + slow["drafting"]["tokens"],
    )
    assert cached == pytest.approx(rows * length * 2 * slow["layers"] * 16 * torch.float32.itemsize, rel=0.01)


def test_recipes_without_a_language_model_are_refused():
    with pytest.raises(RadScribeError, match="has no language model to plan for"):
        bench_plan(get_recipe("camanet/phantom").build(), Accelerator())


def test_unknown_shapes_are_asked_for():
    with pytest.raises(RadScribeError, match="shapes of the language model .* are not known"):
        bench_plan(get_recipe("r2gen-gpt/phantom").build(), Accelerator())
