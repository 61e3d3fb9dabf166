"""The grid of a reproduction: its cells, each a row and a seed, and the parts that cells share.

A cell is a row of a table with a seed. Rows of several tables with the same recipe are one cell. A part that
recipes need, such as a small language model, is made once for all cells that need it with the same settings:
its directory is named after a hash of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError, closest
from radscribe.recipes.registry import get_recipe
from radscribe.reproduction.papers import DATA_SETS, Table
from radscribe.runs.config import RunConfig, nested, override
from radscribe.runs.run_directory import RunDirectory
from radscribe.studies.store import PreparedStore
from radscribe.training.stage import Stage, stages_of

#: Settings of parts that decide where they are made, but not what they become.
_PLACES = ("threads", "device")


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of a table with a seed.

    Attributes:
        name: Name of the cell, and of its run directory.
        recipe: Recipe that is trained.
        fields: Fields of the recipe to change, by dotted name.
        seed: Random seed of the training.
        path: The run directory.
    """

    name: str
    recipe: str
    fields: Mapping[str, Any]
    seed: int
    path: Path

    def config(self, store: Path) -> RunConfig:
        """The configuration of the cell, without the parts that it shares.

        Raises:
            RadScribeError: a field does not exist, or has no such value.
        """
        config = override(
            get_recipe(self.recipe).build(), nested({**self.fields, "training.seed": self.seed})
        )
        return replace(config, store=str(store.absolute()))

    @property
    def finished(self) -> bool:
        """Whether it is trained and scored; the model card is the last file that a training writes."""
        run = RunDirectory(self.path)
        return run.metrics.is_file() and run.model_card.is_file()


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of some tables.

    Attributes:
        tables: The tables, with all their rows.
        cells: The cells to run, each once, in the order of the tables.
        seeds: The random seeds.
    """

    tables: Sequence[Table]
    cells: Sequence[Cell]
    seeds: Sequence[int]

    def of_recipe(self, recipe: str | None) -> list[Cell]:
        """The cells of a recipe, in the order of their seeds; empty if it is not run."""
        return [cell for cell in self.cells if cell.recipe == recipe]


def grid_of(
    tables: Sequence[Table], out: Path, *, seeds: int, only: Sequence[str], fields: Mapping[str, Any]
) -> Grid:
    """The grid of some tables.

    Args:
        tables: The tables.
        out: Directory of the reproduction.
        seeds: Number of seeds for each row; they are 0, 1, 2 and so on.
        only: Tables and rows to run, such as `table-4` or `table-4/base`; empty for all.
        fields: Fields of all recipes to change, by dotted name.

    Raises:
        RadScribeError: there is no such table, row or field, or no row has a recipe for the data set.
    """
    chosen = _chosen(tables, only)
    cells: dict[str, Cell] = {}
    first: dict[str, str] = {}
    for table in tables:
        for row in table.rows:
            if row.recipe is None:
                continue
            # The name is the same whichever rows are chosen, so that a later command finds the cell again.
            name = first.setdefault(row.recipe, f"{table.key}-{row.key.replace('/', '-')}")
            if (table.key, row.key) not in chosen:
                continue
            for seed in range(seeds):
                cell = f"{name}-seed{seed}"
                path = (out / "cells" / cell).absolute()
                cells.setdefault(cell, Cell(cell, row.recipe, fields, seed, path))
    if not cells:
        raise RadScribeError(
            f"none of these rows has a recipe for {DATA_SETS[tables[0].data]}",
            "Give a store of the paper's data set, or leave out --only",
        )
    return Grid(tables, list(cells.values()), range(seeds))


def _chosen(tables: Sequence[Table], only: Sequence[str]) -> set[tuple[str, str]]:
    """Keys of the tables and rows that are to be run."""
    every = {(table.key, row.key) for table in tables for row in table.rows}
    if not only:
        return every
    chosen = set()
    for word in only:
        table, _, row = word.partition("/")
        found = {pair for pair in every if pair[0] == table and row in ("", pair[1])}
        if not found:
            known = [table.key for table in tables] + [
                f"{table.key}/{row.key}" for table in tables for row in table.rows
            ]
            raise RadScribeError(
                f"there is no table or row '{word}'", f"Known: {', '.join(closest(word, known, 3) or known)}"
            )
        chosen |= found
    return chosen


def shared_stages(config: RunConfig, parts: Path, store: PreparedStore) -> list[Stage]:
    """The stages of a configuration, with directories that all cells with the same settings share.

    Args:
        config: Configuration of a cell.
        parts: Directory of the shared parts.
        store: The prepared store to learn from.
    """
    shared: dict[str, str] = {}
    stages = []
    for stage in stages_of(config, parts):
        if stage.given:
            continue
        values = {entry.name: getattr(stage.settings, entry.name) for entry in fields(stage.settings)}
        made_of = {
            name: shared[value]
            for name, value in values.items()
            if isinstance(value, str) and value in shared
        }
        settings = replace(stage.settings, **made_of)
        # Parts that a part is made of are known by their names, so that the directory can be moved.
        decisive = asdict(settings) | {name: Path(place).name for name, place in made_of.items()}
        decisive = {name: value for name, value in decisive.items() if name not in _PLACES}
        known = json.dumps([decisive, store.manifest["content_hash"]], sort_keys=True, default=str)
        path = parts / f"{stage.kind}-{hashlib.sha256(known.encode()).hexdigest()[:12]}"
        shared[str(stage.path.absolute())] = str(path.absolute())
        stages.append(replace(stage, path=path, settings=settings))
    return stages


def with_parts(config: RunConfig, stages: Sequence[Stage]) -> RunConfig:
    """A copy of a configuration that names the parts which the stages make."""
    made = {stage.option.removeprefix("--"): str(stage.path.absolute()) for stage in stages if stage.option}
    return override(config, nested(made))
