"""A folder of models for metrics, of a few kilobytes: the published file names, random weights."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

RADGRAPH_GOLDEN = Path(__file__).parent / "golden/metrics/radgraph.safetensors"
CHEXBERT_GOLDEN = Path(__file__).parent / "golden/metrics/chexbert.safetensors"


@functools.cache
def golden_chexbert() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and outputs of CheXbert's released code at tiny sizes; and its texts, words and conditions."""
    with safe_open(CHEXBERT_GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, {name: json.loads(value) for name, value in file.metadata().items()}


@functools.cache
def tiny_chexbert() -> Path:
    """A folder with `chexbert.pth` and `bert-base-uncased`, for `--models`; copy it before changing it."""
    folder = Path(tempfile.mkdtemp(prefix="radscribe-metric-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tensors, given = golden_chexbert()
    state = {
        name.removeprefix("weights."): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
        if name.startswith("weights.")
    }
    torch.save({"epoch": 7, "model_state_dict": state}, folder / "chexbert.pth")
    (folder / "bert-base-uncased").mkdir()
    words = "".join(f"{word}\n" for word in given["vocabulary"])
    (folder / "bert-base-uncased" / "vocab.txt").write_text(words)
    return folder


def golden_radgraph(key: str) -> Any:
    """A part of what RadGraph's package was given at tiny sizes, or its `outputs` by model, then by text."""
    with safe_open(RADGRAPH_GOLDEN, "pt") as file:
        return json.loads(file.metadata()[key])


@functools.cache
def tiny_radgraph() -> Path:
    """A folder with two models of RadGraph and their encoder, for `--models`; copy it before changing it."""
    folder = Path(tempfile.mkdtemp(prefix="radscribe-radgraph-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with safe_open(RADGRAPH_GOLDEN, "pt") as file:
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    for model in golden_radgraph("outputs"):
        (folder / model / "vocabulary").mkdir(parents=True)
        (folder / model / "config.json").write_text(json.dumps(golden_radgraph("config")))
        torch.save(weights, folder / model / "weights.th")
        for name, content in golden_radgraph("vocabulary").items():
            (folder / model / "vocabulary" / f"{name}.txt").write_text(content)
    (folder / "tiny-encoder").mkdir()
    for name, content in golden_radgraph("encoder").items():
        (folder / "tiny-encoder" / name).write_text(content)
    return folder


def write_radgraph_outputs(folder: Path, ids: Sequence[str]) -> Path:
    """Write what each of RadGraph's models would have said of drafts and references with these ids."""
    with (RADGRAPH_GOLDEN.parent / "radgraph_rewards.json").open() as file:
        pairs = [pair for pair in json.load(file) if pair["rewards"]["0.1.18"][2]]
    for model in ("radgraph", "radgraph-xl", "modern-radgraph-xl"):
        for side in ("draft", "reference"):
            annotations = {study: pair[side] for study, pair in zip(ids, pairs, strict=False)}
            (folder / f"{model}_{side}s.json").write_text(json.dumps(annotations))
    return folder
