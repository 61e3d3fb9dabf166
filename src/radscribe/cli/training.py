"""The command that trains a recipe; every field of the recipe is an option."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from radscribe.cli.parsing import Parser
from radscribe.errors import RadScribeError


def _default_out(recipe: str) -> Path:
    return Path("runs") / recipe.replace("/", "-")


def train(
    recipe: str,
    *,
    out: Path | None = None,
    store: Path | None = None,
    stages: str = "all",
    resume: bool = False,
    print_config: bool = False,
    full: bool = False,
    progress: bool = True,
    **fields: Any,
) -> None:
    """Train a recipe, choose its weights on the validation split, and score the test split once.

    Every field of the recipe is an option, as in --training.epochs 10 or --system.top_k 64. 'radscribe train
    RECIPE --help' lists the fields and 'radscribe recipes' lists the recipes. Parts that a recipe needs and
    does not name, such as a small language model, are made first, as stages, in the folder parts of --out.
    The same command after an interruption uses finished stages again and goes on with an unfinished one.

    Args:
        recipe: Name of the recipe; 'radscribe recipes' lists the names.
        out: Run directory to write; without it runs/RECIPE is written.
        store: Prepared store to train on.
        stages: Stages to run: all makes the parts that are missing and then trains, names separated by commas
            make these parts alone, and list shows all stages with their states and does nothing.
        resume: Go on with the interrupted run in --out, with the same result as if it had not been
            interrupted.
        print_config: Print the full configuration and stop.
        full: Print all tables of scores at the end instead of the summary.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
        **fields: Fields of the recipe to change, by dotted name.
    """
    from radscribe.recipes.configuration import configuration
    from radscribe.runs.config import nested, to_yaml

    out = out or _default_out(recipe)
    config = configuration(recipe, out, resume=resume, store=store, fields=nested(fields))
    if print_config:
        print(to_yaml(config), end="")
        return
    from radscribe.training.stages import run_stages, stages_table, train_in_stages

    tell = partial(print, flush=True)
    if stages == "list":
        print(stages_table(config, out))
        return
    if stages != "all":
        run_stages(config, out, stages.split(","), progress=progress, tell=tell)
        return
    run = train_in_stages(config, out, resume=resume, progress=progress, tell=tell)
    shown = run.scores if full else run.summary
    if shown.is_file():
        print(shown.read_text(), end="")
        rest = f"{run.scores} has every score; " if not full else ""
        print(f"{rest}look at the drafts: radscribe page {run.path} --out page.html")
    print(f"run directory: {run.path}")


def read_train(parser: Parser, arguments: list[str]) -> dict[str, Any]:
    """Parse the options of `radscribe train`, and the fields of the recipe that the first word names.

    Args:
        parser: Parser of the options; the options of the fields are added to it.
        arguments: Words after `train`.

    Raises:
        RadScribeError: the first word is not a recipe; or see `Parser.parse`.
    """
    if not arguments or arguments[0].startswith("-"):
        parser.parse(arguments)
        raise RadScribeError("the recipe must be the first word after train", f"Example: {parser.example}")
    from radscribe.recipes import get_recipe
    from radscribe.recipes.configuration import configuration
    from radscribe.runs.config import SECTIONS

    recipe = get_recipe(arguments[0]).name
    parser.help_command = f"radscribe train {recipe} --help"
    # A resumed run uses the configuration that it was begun with, so its fields have other defaults.
    words = [word for word in arguments if word not in ("-h", "--help")]
    early = parser.parse(words, strict=False)
    out = early.get("out", _default_out(recipe))
    config = configuration(recipe, out, resume=early.get("resume", False))
    for section in SECTIONS:
        parser.add_fields(section, getattr(config, section))
    return parser.parse(arguments)
