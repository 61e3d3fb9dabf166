"""The sections of a comparison page on the runs themselves: training curves, parameters, time and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup
from safetensors import safe_open

from radscribe.pages.page_parts import PlainRow, PlainTable
from radscribe.pages.run_page_charts import Point, line_chart, thin
from radscribe.runs.group_scoring import ScoredGroups
from radscribe.runs.run_directory import RunDirectory

#: Number of colours of lines in `comparison_page.css`; further groups begin with the first one again.
_COLOURS = 8
_NOTHING = "–"
_VALIDATED = ("BLEU-4", "CIDEr")


def curves(scored: ScoredGroups) -> list[Markup]:
    """Training curves of all runs in the colours of their groups; empty if no run has a training log."""
    logs = {name: run.read_log() for name, run in _runs(scored).items()}
    logs = {name: log for name, log in logs.items() if log}
    groups = list(scored.groups)
    colours = {name: groups.index(name.split(" · ")[0]) % _COLOURS for name in logs}
    charts = [
        line_chart(
            f"Validation {score}",
            {name: _validations(log, score) for name, log in logs.items() if _validations(log, score)},
            notes={},
            colours=colours,
        )
        for score in _VALIDATED
    ]
    losses = {name: thin(_losses(log))[0] for name, log in logs.items() if _losses(log)}
    charts.append(line_chart("Training loss", losses, notes={}, colours=colours))
    return [chart for chart in charts if chart]


def cost_table(scored: ScoredGroups) -> PlainTable | None:
    """Parameters, time and memory of each run; None if there are only draft files."""
    rows = [PlainRow(name, _costs(run), marked=False) for name, run in _runs(scored).items()]
    if not rows:
        return None
    return PlainTable(
        "What each run is and what it took",
        [
            "recipe",
            "parameters\nin the run",
            "frozen\nlanguage model",
            "epochs\n(chosen)",
            "steps × batch",
            "training",
            "peak memory",
            "one validation",
        ],
        rows,
    )


def _runs(scored: ScoredGroups) -> dict[str, RunDirectory]:
    """All runs by the name of their group, with their number where the group has more than one member."""
    return {
        name if len(members) == 1 else f"{name} · {number}": member.run
        for name, members in scored.groups.items()
        for number, member in enumerate(members, start=1)
        if member.run is not None
    }


def _costs(run: RunDirectory) -> list[str]:
    facts, config, log = run.read_facts(), run.load_config(), run.read_log()
    model = config.system.language_model
    best = facts.get("best", {}).get("epoch")
    seconds = [line["validation"]["seconds"] for line in log if "seconds" in line.get("validation", {})]
    batch = config.training.batch_size * config.training.accumulate
    return [
        config.recipe,
        f"{_parameters(run.weights) / 1e6:,.2f} M",
        Path(model.name).name if model else _NOTHING,
        f"{facts.get('epochs_trained', _NOTHING)} ({_NOTHING if best is None else best + 1})",
        f"{facts['steps']:,} × {batch}" if "steps" in facts else _NOTHING,
        _duration(facts.get("training_seconds")),
        f"{facts['peak_memory_gb']:.2f} GB" if "peak_memory_gb" in facts else _NOTHING,
        _duration(median(seconds)) if seconds else _NOTHING,
    ]


def _parameters(weights: Path) -> int:
    """Number of values in a file of weights, from its header alone."""
    with safe_open(weights, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _NOTHING
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def _validations(log: Sequence[Mapping[str, Any]], score: str) -> list[Point]:
    return [(line["step"], line["validation"][score]) for line in log if score in line.get("validation", {})]


def _losses(log: Sequence[Mapping[str, Any]]) -> list[Point]:
    return [(line["step"], line["loss"]) for line in log if "loss" in line]
