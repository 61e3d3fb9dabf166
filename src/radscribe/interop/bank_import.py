"""Importing released memory banks of AM-MRG: each becomes a directory as `radscribe pretrain` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radscribe.errors import RadScribeError
from radscribe.files import sha256_of
from radscribe.interop.released_banks import (
    MOST_ROWS,
    RECOVERED,
    RELEASED_FILES,
    RELEASED_ORDER,
    REPORT_ROWS,
    SEED,
    WIDTH,
    ReleasedRow,
    all_rows,
    read_released_bank,
    recovered,
)
from radscribe.observations import OBSERVATIONS
from radscribe.parts.memory_bank import BankKind, MemoryBank
from radscribe.parts.part import Origin
from radscribe.pretraining.memory_bank import Filled, counts_table, lines_of, make_bank, notes_of
from radscribe.pretraining.model_card import Section
from radscribe.weights import read_state_dict

_QUERIES = "disease_tokens"
_TITLES: dict[str, str] = {"visual-bank": "Disease-aware visual bank", "report-bank": "Report memory"}


def import_bank(
    file: Path,
    kind: BankKind,
    out: Path,
    *,
    recover: bool = False,
    visual_bank: Path | None = None,
    stage_1: Path | None = None,
    width: int = WIDTH,
) -> str:
    """Write the directory of a bank from a released file.

    Args:
        file: `CAM.pkl` or `Report_Memory.pkl`.
        kind: Kind of the bank.
        out: Directory to write.
        recover: Take the rows that the released stage 2 draws, and not all.
        visual_bank: `CAM.pkl`, from which the released code draws before it draws reports.
        stage_1: Checkpoint of the released stage 1, whose queries are the first rows of a visual bank.
        width: Width that the features must have.

    Returns:
        What is printed of the bank.

    Raises:
        RadScribeError: the options do not fit each other, a file is not there or holds anything else, there
            is something in `out` already, or the disk is full.
    """
    _check_options(kind, recover=recover, visual_bank=visual_bank, stage_1=stage_1)
    content = read_released_bank(file, width)

    def fill() -> Filled:
        rows = _chosen(content, visual_bank, width) if recover else all_rows(content)
        queries = None if stage_1 is None else _queries_of(stage_1, width)
        settings: dict[str, Any] = {"released_file": file.name, "chosen": RECOVERED if recover else "all"}
        settings |= {"seed": SEED} if recover else {}
        for name, used in (("visual_bank", visual_bank), ("stage_1", stage_1)):
            settings |= {f"{name}_sha256": sha256_of(used)} if used else {}
        return Filled(_bank(content, rows, queries), settings, {"observations": _counts(content, rows)})

    return _summary(make_bank(kind, Origin.released(file), out, fill, _section))


def _check_options(kind: BankKind, *, recover: bool, visual_bank: Path | None, stage_1: Path | None) -> None:
    """Check that the options fit each other.

    Raises:
        RadScribeError: they do not.
    """
    first = RELEASED_FILES["visual-bank"]
    if kind == "visual-bank" and visual_bank:
        raise RadScribeError(f"--visual_bank is for a report bank, and {first} is given already")
    if kind == "report-bank" and stage_1:
        raise RadScribeError("--stage_1 is for a visual bank, whose first rows are the queries of stage 1")
    if kind == "report-bank" and recover and not visual_bank:
        raise RadScribeError(
            f"to recover the rows of a report bank, {first} is needed: the released code draws from it first",
            f"Give --visual_bank {first}",
        )
    if visual_bank and not recover:
        raise RadScribeError("--visual_bank is of use with --recover alone", "Give --recover too")


def _chosen(content: Mapping[str, np.ndarray], visual_bank: Path | None, width: int) -> Sequence[ReleasedRow]:
    """The rows that the released stage 2 draws of a bank."""
    if visual_bank is None:
        return recovered(content)[0]
    return recovered(read_released_bank(visual_bank, width), content)[1]


def _queries_of(checkpoint: Path, width: int) -> Tensor:
    """The queries `[observations, width]` in a checkpoint of the released stage 1.

    Raises:
        RadScribeError: there are none.
    """
    weights = read_state_dict(checkpoint)
    found = [tensor for name, tensor in weights.items() if _QUERIES in name]
    shape = (1, len(OBSERVATIONS), width)
    if not found or found[0].shape != shape:
        has = f"they are {tuple(found[0].shape)}, not {shape}" if found else f"nothing is called {_QUERIES}"
        raise RadScribeError(
            f"'{checkpoint}' has no queries of stage 1: {has}",
            "Give the Stage1ckpt.pth that the authors released, or leave out --stage_1",
        )
    return found[0][0].float()


def _bank(
    content: Mapping[str, np.ndarray], rows: Sequence[ReleasedRow], queries: Tensor | None
) -> MemoryBank:
    """The bank of these rows, which have the width of the bank already."""
    raw = torch.from_numpy(np.stack([content[name][number] for name, number in rows]))
    of_queries: list[dict[str, Any]] = []
    if queries is not None:
        of_queries = [{"observation": name, "query": True} for name in RELEASED_ORDER]
    return MemoryBank(raw, [*of_queries, *(row._asdict() for row in rows)], queries=queries)


def _counts(content: Mapping[str, np.ndarray], rows: Sequence[ReleasedRow]) -> dict[str, dict[str, int]]:
    """The numbers of rows of each observation: in the file, and in the bank without queries."""
    return {
        name: {"in_file": len(content[name]), "rows": sum(row.observation == name for row in rows)}
        for name in OBSERVATIONS
    }


def _summary(facts: Mapping[str, Any]) -> str:
    """What is printed of a bank that was imported."""
    lines = [
        f"{facts['kind'].replace('-', ' '):15}{facts['store_source']}",
        *lines_of(facts),
        f"chosen         {_choice(facts)}",
        "",
        f"{'':26}{'in the file':>13}{'rows':>7}",
    ]
    for name, counts in facts["observations"].items():
        lines.append(f"{name:26}{counts['in_file']:>13,}{counts['rows']:>7,}")
    return "\n".join(lines)


def _choice(facts: Mapping[str, Any]) -> str:
    """Which rows of the file the bank has, in words."""
    settings = facts["settings"]
    if "seed" not in settings:
        return "all rows of the file"
    most = f"{MOST_ROWS} of an observation" if facts["kind"] == "visual-bank" else f"{REPORT_ROWS:,} reports"
    return f"{settings['chosen']}: {most}, as the released stage 2 draws them with seed {settings['seed']}"


def _section(facts: Mapping[str, Any]) -> Section:
    """What the model card says."""
    queries = facts["rows"] - sum(counts["rows"] for counts in facts["observations"].values())
    notes = [f"Chosen: {_choice(facts)}.", *notes_of(facts)]
    if queries:
        notes.insert(
            1,
            f"The first {queries} rows are the queries of the released stage 1, under the observations in "
            "the order of its code. It averages what they read: none stands for its observation alone.",
        )
    return Section(
        title=f"{_TITLES[facts['kind']]}, imported",
        purpose="Features that the authors of AM-MRG released, under observations. A system retrieves from "
        "them when it drafts.",
        caution="Nothing says which images or reports the rows are of: they may be those of a test split.",
        learnt=f"{facts['rows']:,} rows",
        notes=notes,
        rest=counts_table(facts, "in the file", "rows"),
        where="studies unknown",
    )
