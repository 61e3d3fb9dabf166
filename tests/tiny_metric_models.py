"""A folder of models for metrics, of a few kilobytes: the published file names, random weights."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

CHEXBERT_GOLDEN = Path(__file__).parent / "golden" / "chexbert.safetensors"


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
