"""The registry of recipes, which finds a recipe by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    """

    name: str
    summary: str
    docs: str
    build: Callable[[], RunConfig]


RECIPES: dict[str, Recipe] = {}


def recipe(name: str, docs: str) -> Callable[[Callable[[], RunConfig]], Callable[[], RunConfig]]:
    """Register the decorated function as the recipe `name`, explained on the page `docs`."""

    def register(build: Callable[[], RunConfig]) -> Callable[[], RunConfig]:
        def named() -> RunConfig:
            config = build()
            config.recipe = name
            return config

        RECIPES[name] = Recipe(name, (build.__doc__ or "").strip().splitlines()[0], docs, named)
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
