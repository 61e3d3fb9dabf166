"""Every configuration, of every recipe: a field that is not there cannot be set, and all of them are kept."""

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from radscribe.recipes import RECIPES
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
    assert len(found) == 17


@pytest.mark.parametrize("name", RECIPES)
def test_configurations_are_copied_whole(name, tmp_path):
    config = RECIPES[name].build()
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, store="elsewhere").system == config.system
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
