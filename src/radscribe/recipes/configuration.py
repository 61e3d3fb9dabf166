"""The configuration of a training: from a recipe or from the run that is resumed, with changed fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.recipes.registry import get_recipe
from radscribe.runs.config import RunConfig, load_config, override
from radscribe.runs.run_directory import RunDirectory


def configuration(
    recipe: str,
    out: Path | str,
    *,
    resume: bool = False,
    store: Path | str | None = None,
    fields: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The complete configuration of a run.

    Args:
        recipe: Name of the recipe.
        out: The run directory.
        resume: If there is a run in `out`, or parts of its stages, start from the configuration that it was
            begun with.
        store: The prepared store; by default the store that the configuration names.
        fields: Fields to change, by section, as in `{"training": {"epochs": 3}}`.

    Raises:
        RadScribeError: there is no such recipe or field, a value is wrong, or the run was begun with another
            recipe.
    """
    config = get_recipe(recipe).build()
    run = RunDirectory(out)
    if resume and (run.config.is_file() or run.stages_config.is_file()):
        config = run.load_config() if run.config.is_file() else load_config(run.stages_config)
        if config.recipe != recipe:
            raise RadScribeError(
                f"the run in '{out}' was begun with the recipe {config.recipe}, not {recipe}",
                f"Go on with it: radscribe train {config.recipe} --out {out} --resume",
            )
    config = override(config, fields or {})
    return replace(config, store=str(store)) if store else config
