"""Complete, named training configurations; names have the form system / dataset / variant.

A recipe is a function that returns a `RunConfig`; a variant calls its base and changes one or two fields.
"""

from __future__ import annotations

from radscribe.recipes import am_mrg, bidirectional, camanet, cmeaa, r2gen, r2gen_cmn, r2gen_gpt
from radscribe.recipes.registry import RECIPES, Recipe, get_recipe

__all__ = [
    "RECIPES",
    "Recipe",
    "am_mrg",
    "bidirectional",
    "camanet",
    "cmeaa",
    "get_recipe",
    "r2gen",
    "r2gen_cmn",
    "r2gen_gpt",
]
