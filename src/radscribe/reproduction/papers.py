"""The tables of the papers: each row with its recipe and with the scores that are published.

The scores come from `radscribe.evaluation.published`. A row of a table is trained on the data set of the
store; its published scores are of the paper's data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radscribe.errors import RadScribeError, unknown_name
from radscribe.evaluation.published import published_tables
from radscribe.recipes import RECIPES
from radscribe.studies.store import PreparedStore
from radscribe.systems.registry import SYSTEMS
from radscribe.text.protocols import ProtocolName

#: Data sets with recipes, and their names as papers write them.
DATA_SETS = {
    "iu-xray": "IU X-Ray",
    "mimic-cxr": "MIMIC-CXR",
    "chexpert-plus": "CheXpert Plus",
    "phantom": "the phantom",
}
#: Takes the place of a paper: all systems at one budget, without published scores.
BENCHMARK = "benchmark"
_BENCHMARK_SCORES = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr", "micro F1", "macro F1")
#: The data set of a store, by the reader that it was prepared with. Other forms may hold any data set.
_DATA_SET_OF = {
    "iu-xray-kaggle": "iu-xray",
    "iu-xray-openi": "iu-xray",
    "mimic-cxr": "mimic-cxr",
    "chexpert-plus": "chexpert-plus",
    "phantom": "phantom",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        label: The row's name as the paper prints it.
        key: The row's name on the command line: the variant of its recipe, or `full` for the whole system.
        recipe: Recipe that makes it; None if there is none for the data set.
        published: Published scores by name; those that are not known are left out.
    """

    label: str
    key: str
    recipe: str | None
    published: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a paper, for one data set.

    Attributes:
        key: The table's name on the command line, such as `table-4`.
        title: Its number, its paper, and what it compares.
        note: What to know about its numbers; may be empty.
        data: Data set of the recipes.
        published_on: Data set of the published scores.
        scores: Names of the scores that the paper prints, in its order.
        rows: The rows in the paper's order.
        protocol: Protocol under which all rows are scored at the end; None if each recipe has the paper's.
    """

    key: str
    title: str
    note: str
    data: str
    published_on: str
    scores: Sequence[str]
    rows: Sequence[Row]
    protocol: ProtocolName | None = None


def data_set_of(store: PreparedStore, data: str | None) -> str:
    """The data set whose rows apply to a store.

    Args:
        store: The prepared store.
        data: Data set that the user names; None lets the source of the store decide.

    Raises:
        RadScribeError: the source does not say which data set it is, or is another one than the user names.
    """
    reader = store.manifest["reader"]
    found = _DATA_SET_OF.get(reader)
    if data is None and found is None:
        raise RadScribeError(
            f"the store '{store.path}' does not say of which data set it is: it was prepared from "
            f"{store.manifest['source']} by the reader {reader}",
            f"Name the data set whose recipes apply with --data: {', '.join(DATA_SETS)}",
        )
    if data and found and data != found:
        raise RadScribeError(
            f"the store '{store.path}' is of {DATA_SETS[found]}, not of {DATA_SETS[data]}",
            "Leave out --data, or give another --store",
        )
    return data or found or ""


def tables_of(paper: str, data: str) -> list[Table]:
    """The tables of a paper for a data set.

    Each table has the rows that the paper prints for the data set. On the phantom these are the rows for the
    data set for which the table has the most.

    Args:
        paper: Name of the system that the paper describes, or `BENCHMARK`.
        data: Data set to train on, a key of `DATA_SETS`.

    Raises:
        RadScribeError: there is no such paper, or it has no table for the data set.
    """
    if paper == BENCHMARK:
        return [_benchmark(data)]
    if paper not in SYSTEMS:
        raise unknown_name("paper", paper, [*SYSTEMS, BENCHMARK])
    tables = []
    for table in published_tables():
        if table["paper"] != paper:
            continue
        blocks = table["data"]
        fullest = max(blocks, key=lambda name: len(blocks[name]["rows"]))
        published_on = data if data in blocks else fullest if data == "phantom" else None
        if published_on is None:
            continue
        names = blocks[published_on]["scores"]
        rows = [_row(paper, data, names, entry) for entry in blocks[published_on]["rows"]]
        tables.append(Table(table["key"], table["title"], table["note"], data, published_on, names, rows))
    if not tables:
        known = sorted(
            {name for table in published_tables() if table["paper"] == paper for name in table["data"]}
        )
        if not known:
            raise RadScribeError(
                f"no published table of {paper} is known",
                f"The word {BENCHMARK} trains {paper} beside all others",
            )
        raise RadScribeError(
            f"the paper of {paper} has no table for {DATA_SETS[data]}",
            f"Give a store of {' or '.join(known)}, or of the phantom",
        )
    return tables


def _benchmark(data: str) -> Table:
    """The whole system of every paper, as the rows of one table."""
    recipes = {system: f"{system}/{data}" for system in SYSTEMS}
    rows = [
        Row(system, system, recipe if recipe in RECIPES else None, {}) for system, recipe in recipes.items()
    ]
    title = "All systems, each with its recipe and the fields of --set"
    return Table("systems", title, "", data, data, _BENCHMARK_SCORES, rows, protocol="clean_full")


def _row(paper: str, data: str, names: Sequence[str], entry: Sequence[str | float | None]) -> Row:
    label, variant, *scores = entry
    recipe = None if variant is None else "/".join(filter(None, [paper, data, str(variant)]))
    published = {name: float(value) for name, value in zip(names, scores, strict=True) if value is not None}
    key = str(label).lower() if variant is None else str(variant) or "full"
    return Row(str(label), key, recipe if recipe in RECIPES else None, published)
