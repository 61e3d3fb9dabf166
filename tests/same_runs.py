"""Whether two runs are the same, bit for bit."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file

from radscribe.runs.run_directory import RunDirectory


def weights_of(run: RunDirectory) -> dict[str, torch.Tensor]:
    """All trained tensors of the last state, and the best weights."""
    state = torch.load(run.checkpoint, weights_only=True)
    optimizer = {
        f"optimizer.{index}.{name}": value
        for index, values in state["optimizer_states"][0]["state"].items()
        for name, value in values.items()
    }
    best = {f"best.{name}": value for name, value in load_file(run.weights).items()}
    return state["state_dict"] | optimizer | best


def assert_equal_runs(first: RunDirectory, second: RunDirectory):
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []

    def drafts(run):
        lines = [json.loads(line) for line in run.drafts("test").read_text().splitlines()]
        assert {line.pop("run") for line in lines} == {run.path.name}
        return lines

    assert drafts(first) == drafts(second)

    def log(run):
        lines = [json.loads(line) for line in run.log.read_text().splitlines()]
        for line in lines:
            line.get("validation", {}).pop("seconds", None)
        return lines

    assert log(first) == log(second)
