"""Every configuration, of every recipe: a field that is not there cannot be set, and all of them are kept."""

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from radscribe.recipes import RECIPES, get_recipe
from radscribe.runs.config import load_config, save_config
from radscribe.systems.registry import SYSTEMS


def configurations_in(config: Any) -> Iterator[Any]:
    """A configuration and all that its fields hold, however deep."""
    yield config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from configurations_in(value)


def test_a_field_that_is_not_there_cannot_be_set():
    """In Python too, as on the command line: `config.training.epoch = 3` would change nothing otherwise."""
    found = {type(part): part for recipe in RECIPES.values() for part in configurations_in(recipe.build())}
    for part in found.values():
        with pytest.raises(AttributeError, match="no attribute 'misspelt'"):
            part.misspelt = 3
    assert {type(entry.config()) for entry in SYSTEMS.values()} <= set(found)
    assert all(kind.__name__.endswith("Config") for kind in found)
    assert len(found) >= 23


@pytest.mark.parametrize("name", RECIPES)
def test_configurations_are_copied_whole(name, tmp_path):
    config = RECIPES[name].build()
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, store="elsewhere").system == config.system
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


#: The components beside backbone and language model, by the fields that hold them.
COMPONENTS = {
    "bidirectional/phantom": ("vision", "report_encoder"),
    "bidirectional/phantom/v2t": ("vision",),
    "bidirectional/iu-xray/r2gen-gpt": ("report_encoder",),
    "bidirectional/iu-xray/r2gen-gpt/v2t": (),
}


@pytest.mark.parametrize("name", [*COMPONENTS, *(f"{name}/phantom" for name in SYSTEMS)])
def test_a_configuration_lists_what_its_system_starts_from(name):
    config = get_recipe(name).build().system
    listed = COMPONENTS.get(name, ())
    assert config.components == tuple(getattr(config, field) for field in listed)
    assert (config.language_model is not None) == name.startswith(
        ("r2gen-gpt", "bidirectional", "cmeaa", "am-mrg")
    )
    weighted = [config.backbone, *config.components]
    for component in weighted:
        component.weights = "somewhere"
    config.start_from_nothing()
    assert {component.weights for component in weighted} == {"none"}
