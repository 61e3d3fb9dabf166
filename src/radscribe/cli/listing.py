"""Commands that list the systems and the recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from radscribe.cli.output import print_json


def systems(*, json: bool = False) -> None:
    """List the published systems that can be trained.

    Args:
        json: Print JSON instead of text.
    """
    from dataclasses import asdict

    from radscribe.systems.registry import SYSTEMS

    if json:
        hidden = {"module", "class_name"}
        rows = [asdict(system) for system in SYSTEMS.values()]
        print_json([{name: row[name] for name in row if name not in hidden} for row in rows])
        return
    for system in SYSTEMS.values():
        print(f"{system.name}\n  {system.title}. {system.published}.\n  {system.summary}")
        print(f"  variants: {', '.join(system.variants)}; docs/{system.docs}")


def recipes(name: str = "", *, print_config: bool = False, rates: bool = False, json: bool = False) -> None:
    """List the recipes, or show one recipe.

    Args:
        name: Name of one recipe to show; without it all recipes are listed.
        print_config: Print every field of the configuration too.
        rates: Print the learning rates of each epoch. A visual extractor that is frozen has none.
        json: Print JSON instead of text.
    """
    from dataclasses import asdict

    from radscribe.recipes import RECIPES, get_recipe
    from radscribe.runs.config import to_yaml

    if rates:
        from radscribe.training.schedule import rates_table, recipe_rates

    chosen = [get_recipe(name)] if name else list(RECIPES.values())
    if json:
        rows = [
            {"name": recipe.name, "summary": recipe.summary, "docs": recipe.docs}
            | ({"config": asdict(recipe.build())} if print_config else {})
            | ({"rates": [asdict(epoch) for epoch in recipe_rates(recipe.build())]} if rates else {})
            for recipe in chosen
        ]
        print_json(rows)
        return
    for recipe in chosen:
        print(f"{recipe.name}\n  {recipe.summary}\n  docs/{recipe.docs}")
        if print_config:
            print(to_yaml(recipe.build()))
        if rates:
            print(rates_table(recipe_rates(recipe.build())))


def phrases(
    part: Path,
    *,
    observation: str | None = None,
    polarity: Literal["both", "positive", "negative"] = "both",
    json: bool = False,
) -> None:
    """Show a phrase table: the phrases of each observation, highest PMI first.

    Each phrase stands behind its pointwise mutual information (PMI) in bits, with its count in reports with
    the observation and in all reports. Phrases go with an observation in reports; they describe no image.

    Args:
        part: Directory of a phrase table, made by 'radscribe pretrain phrases'.
        observation: Name of one observation to show; without it all that have phrases are shown.
        polarity: Observations to show: positive (present or uncertain), negative (absent) or both.
        json: Print JSON instead of text.
    """
    from radscribe.errors import unknown_name
    from radscribe.observations import OBSERVATIONS
    from radscribe.parts.phrase_table import POLARITIES, PhraseTable

    if observation is not None and observation not in OBSERVATIONS:
        raise unknown_name("observation", observation, OBSERVATIONS)
    table = PhraseTable.load(part)
    wanted = [chosen for chosen in POLARITIES if polarity in (chosen, "both")]
    keys = (
        [(observation, chosen) for chosen in wanted]
        if observation
        else [key for key in table.lists if key[1] in wanted]
    )
    if json:
        print_json(table.to_json(keys))
        return
    for name, chosen in keys:
        found = table.lists.get((name, chosen))
        if found is None:
            print(f"{name}, {chosen}: no phrases")
            continue
        print(f"{name}, {chosen}, {found.reports:,} reports:")
        for phrase in found.phrases:
            counts = f"{phrase.count_with_observation:,} of {phrase.count:,}"
            print(f"  {phrase.pmi:7.3f}  {phrase.phrase:32}{counts}")
