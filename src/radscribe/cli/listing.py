"""Commands that list the systems and the recipes."""

from __future__ import annotations

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
