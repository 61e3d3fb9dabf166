"""Measuring what AM-MRG's memory banks cost: projected once for all studies, against once for each study."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from radscribe.bench.timing import check_ranges, device_on, measured_on, medians_in_turn, rounded
from radscribe.layers.memory import Memory
from radscribe.observations import OBSERVATIONS
from radscribe.parts.memory_bank import BankKind
from radscribe.systems.am_mrg import AMMRGConfig

#: Rows of the two banks in AM-MRG's paper (section IV-B).
ROWS: dict[BankKind, int] = {"visual-bank": 6943, "report-bank": 6000}


def bench_recall(*, batch: int, threads: int, repeats: int) -> dict[str, Any]:
    """Compare the time of recall from both banks at the paper's size, by how often these are projected.

    A training step projects the rows of both banks to keys and values once; drafting does so once when a
    trained system is loaded. Both are compared with a projection for each study.

    Args:
        batch: Number of studies.
        threads: Number of CPU threads.
        repeats: Number of measured runs after one warm-up; their median is the result.

    Returns:
        Seconds, their ratios and the largest difference of a result, as JSON values.

    Raises:
        RadScribeError: a number is out of range.
    """
    check_ranges(batch=batch, threads=threads, repeats=repeats)
    device = device_on(threads)
    config = AMMRGConfig()
    width = config.q_former.width
    memories = [Memory(config.hopfield, width).to(device).eval() for _ in ROWS]
    for memory, rows in zip(memories, ROWS.values(), strict=True):
        memory.fill(torch.randn(rows, width, device=device))
    queries = torch.randn(batch, len(OBSERVATIONS), width, device=device)

    def once() -> Tensor:
        return torch.stack([memory(queries) for memory in memories])

    def for_each_study() -> Tensor:
        return torch.stack([torch.cat([memory(study) for study in queries.split(1)]) for memory in memories])

    def step(recall: partial[Tensor]) -> None:
        for memory in memories:
            memory.zero_grad()
        recall().sum().backward()

    steps = [partial(step, partial(recall)) for recall in (once, for_each_study)]
    training, training_each = medians_in_turn(steps, repeats, device)
    with torch.no_grad():
        difference = (once() - for_each_study()).abs().max().item()
        (drafting_each,) = medians_in_turn([for_each_study], repeats, device)
        for memory in memories:
            memory.fold()
        (drafting,) = medians_in_turn([once], repeats, device)
    return {
        "task": "recall",
        "batch": batch,
        "rows": ROWS,
        "training_seconds": rounded(training),
        "training_seconds_per_study": rounded(training_each),
        "training_ratio": rounded(training / training_each),
        "drafting_seconds": rounded(drafting),
        "drafting_seconds_per_study": rounded(drafting_each),
        "drafting_ratio": rounded(drafting / drafting_each),
        "largest_difference": rounded(difference),
        **measured_on(threads, device),
    }
