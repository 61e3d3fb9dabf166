"""Importing a released checkpoint: it becomes a run directory, with a vocabulary from its annotation file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from torch import Tensor

from radscribe.errors import RadScribeError, unknown_name
from radscribe.interop.released import RELEASED_SYSTEMS, sizes_of
from radscribe.interop.released_facts import released_facts
from radscribe.interruption import check_new_directory, disk_errors_explained
from radscribe.recipes import RECIPES, get_recipe
from radscribe.runs.model_card import write_model_card
from radscribe.runs.run_directory import RunDirectory
from radscribe.systems.registry import get_system
from radscribe.text.vocabulary import Vocabulary
from radscribe.weights import load_strictly, read_state_dict


def import_released(system: str, checkpoint: Path, annotation: Path, out: Path, dataset: str) -> RunDirectory:
    """Write a run directory from a released checkpoint.

    The sizes are taken from the shapes of the weights. Settings that the weights do not show (heads, threads,
    top-K) have the default values of the released code. The vocabulary is made from the annotation file as
    the released code makes it.

    Args:
        system: System that the checkpoint belongs to: `r2gen`, `r2gen-cmn` or `camanet`.
        checkpoint: Released file `model.pth`.
        annotation: File `annotation.json` in R2Gen's form.
        out: Run directory to write; it must not exist.
        dataset: Data set of the checkpoint: `iu-xray` or `mimic-cxr`.

    Raises:
        RadScribeError: a file is missing or has the wrong content, or a weight does not fit.
    """
    check_new_directory(out)
    name = f"{system}/{dataset}/released"
    if name not in RECIPES or system not in RELEASED_SYSTEMS:
        importable = sorted(recipe.rpartition("/")[0] for recipe in RECIPES if recipe.endswith("/released"))
        raise unknown_name("released checkpoint", f"{system}/{dataset}", importable)
    config = get_recipe(name).build()
    config.system.backbone.weights = "none"
    # The released code resizes the original image, not a stored view, to the short side of the recipe.
    transform = config.data.transform
    config.data.transform = dataclasses.replace(transform, store_short_side=transform.short_side)

    released = read_state_dict(checkpoint)
    names = RELEASED_SYSTEMS[system]
    network = _below(released, "encoder_decoder.")
    others = {name: tensor for name, tensor in released.items() if name.startswith(names.beside)}
    backbone = _below({name: released[name] for name in released if name not in others}, "visual_extractor.")
    if not network or not backbone or len(network) + len(others) + len(backbone) != len(released):
        raise RadScribeError(
            f"'{checkpoint}' is no checkpoint of {system}",
            "Its weights should be called "
            + ", ".join(f"{name}*" for name in ("encoder_decoder.", "visual_extractor.", *names.beside)),
        )
    try:
        config.system = dataclasses.replace(config.system, **sizes_of(network))
        renamed = names.network(network | others)
    except (KeyError, TypeError, ValueError) as error:
        raise RadScribeError(
            f"'{checkpoint}' is no checkpoint of {system} ({type(error).__name__}: {error})",
            "Name the system that it was released for",
        ) from error

    reports = _train_reports(annotation)
    vocabulary = Vocabulary.build(reports, config.data.cleaning, config.data.minimum_count)
    built = get_system(system).build(config.system, vocabulary, config.data.maximum_length)
    weights = {f"network.{name}": tensor for name, tensor in renamed.items()}
    weights |= {f"backbone.model.{name}": tensor for name, tensor in names.backbone(backbone).items()}
    what = f"'{checkpoint}' with a vocabulary of {len(vocabulary)} words"
    load_strictly(built, weights, what, own=built.own_state_dict())

    source = f"{checkpoint.name}, vocabulary from {annotation.name}"
    run = RunDirectory(out)
    with disk_errors_explained(out, f"Make room there or put it right, remove '{out}', and import again"):
        run.create(config, vocabulary, released_facts(config.recipe, system, source))
        run.save_weights(built)
        write_model_card(run)
    return run


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _train_reports(annotation: Path) -> list[str]:
    try:
        reports = [entry["report"] for entry in json.loads(annotation.read_text(encoding="utf-8"))["train"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RadScribeError(
            f"'{annotation}' is no annotation file ({type(error).__name__}: {error})",
            "Give the annotation.json that the checkpoint was trained with",
        ) from error
    if not reports or not all(isinstance(report, str) for report in reports):
        raise RadScribeError(
            f"'{annotation}' is no annotation file: its train split has "
            f"{'a report that is no text' if reports else 'no report'}",
            "Give the annotation.json that the checkpoint was trained with",
        )
    return reports
