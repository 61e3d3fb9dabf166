"""The registry of recipes, which finds a recipe by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from radscribe.errors import unknown_name
from radscribe.runs.config import RunConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named recipe.

    Attributes:
        name: Name of the form system / dataset, or system / dataset / variant.
        summary: First line of the docstring of its function.
        docs: The page of the documentation that explains it.
        build: Makes a fresh configuration.
        stages: Settings of the parts that training makes where the recipe names none, by kind of part. The
            kind of another stage stands for what that stage makes. What is not in it follows the
            configuration, or is the default of `radscribe pretrain`.
    """

    name: str
    summary: str
    docs: str
    build: Callable[[], RunConfig]
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {}


def recipe(
    name: str, docs: str, *, stages: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[Callable[[], RunConfig]], Callable[[], RunConfig]]:
    """Register the decorated function as a recipe.

    Args:
        name: Name of the recipe.
        docs: Page of the documentation that explains it.
        stages: See `Recipe`. A variant without them has those of the recipe before the last slash of its
            name.
    """
    if stages is None:
        base = name.rpartition("/")[0]
        stages = RECIPES[base].stages if base in RECIPES else {}

    def register(build: Callable[[], RunConfig]) -> Callable[[], RunConfig]:
        def named() -> RunConfig:
            config = build()
            config.recipe = name
            return config

        summary = (build.__doc__ or "").strip().splitlines()[0]
        RECIPES[name] = Recipe(name, summary, docs, named, stages)
        return named

    return register


def get_recipe(name: str) -> Recipe:
    """Find a recipe by its name.

    Raises:
        RadScribeError: there is none; the error lists what exists.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]
