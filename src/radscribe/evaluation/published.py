"""Scores that papers published, as typed from their tables into `published.json`, with what to know.

They are of other programs, other runs and often other text rules, so they stand beside our scores for
orientation, and are never tested against them.

Each number stands in `tables` of the file, where the paper prints it. A row there is the paper's name of it,
the variant of its recipe, and its scores; one that is not known is null. The rows of `others` are of systems
that are not the paper's own, and are not reproduced. `compared` says which rows a comparison shows, by which
names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from radscribe.files import parse_json

#: Data sets on which published scores are compared with ours.
Benchmark = Literal["iu_xray", "mimic_cxr"]
#: Names of the papers' clinical scores, which are by another labeller, where they stand beside ours.
CLINICAL_EFFICACY = {
    f"{average} {short}": f"CE {score}"
    for average in ("micro", "macro")
    for short, score in (("P", "precision"), ("R", "recall"), ("F1", "F1"))
}


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """The scores of one system in one table of a paper.

    Attributes:
        name: Name of the system, as in RadScribe's recipes, with the variant where it is an ablation.
        source: The paper and the number of the table.
        protocol: Text rules of the scores, as far as they are known.
        scores: Published scores by name. Scores named `CE` are clinical scores by another labeller.
        caveat: What to know before comparing the scores with others.
    """

    name: str
    source: str
    protocol: str
    scores: Mapping[str, float]
    caveat: str


def published_rows(data: Benchmark) -> list[PublishedRow]:
    """The published rows that a comparison on a data set shows, in the order of the file."""
    tables = {f"{table['paper']}/{table['key']}": table["data"] for table in published_tables()}
    found = []
    for entry in _published()["compared"]:
        if entry["data"] != data.replace("_", "-"):
            continue
        block = tables[entry["table"]][entry["data"]]
        names = [CLINICAL_EFFICACY.get(name, name) for name in block["scores"]]
        rows = {label: scores for label, _, *scores in [*block["rows"], *block.get("others", [])]}
        for label, name in entry["rows"].items():
            printed = zip(names, rows[label], strict=True)
            scores = {score: value for score, value in printed if value is not None}
            found.append(PublishedRow(name, entry["source"], entry["protocol"], scores, entry["caveat"]))
    return found


def published_tables() -> list[dict[str, Any]]:
    """The tables of the papers, in the form of the file."""
    tables: list[dict[str, Any]] = _published()["tables"]
    return tables


@cache
def _published() -> dict[str, Any]:
    text = files("radscribe.evaluation").joinpath("published.json").read_text(encoding="utf-8")
    content: dict[str, Any] = parse_json(text)
    return content
