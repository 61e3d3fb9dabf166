"""Commands that list what there is."""

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
        rows = [{k: v for k, v in asdict(each).items() if k not in hidden} for each in SYSTEMS.values()]
        print_json(rows)
        return
    for each in SYSTEMS.values():
        print(f"{each.name}\n  {each.title}. {each.published}.\n  {each.summary}")
        print(f"  variants: {', '.join(each.variants)}; docs/{each.docs}")


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
            {"name": each.name, "summary": each.summary, "docs": each.docs}
            | ({"config": asdict(each.build())} if print_config else {})
            | ({"rates": [asdict(epoch) for epoch in recipe_rates(each.build())]} if rates else {})
            for each in chosen
        ]
        print_json(rows)
        return
    for each in chosen:
        print(f"{each.name}\n  {each.summary}\n  docs/{each.docs}")
        if print_config:
            print(to_yaml(each.build()))
        if rates:
            print(rates_table(recipe_rates(each.build())))
