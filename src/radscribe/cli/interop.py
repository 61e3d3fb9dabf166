"""Commands for released checkpoints and golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def check(golden: Path) -> None:
    """Compare RadScribe's form of a released architecture with a golden file; exit with 1 if they differ.

    Args:
        golden: A .safetensors file with configuration, weights, inputs and outputs.
    """
    from radscribe.interop.golden import check_golden

    result = check_golden(golden)
    print(result)
    if not result.passed:
        raise SystemExit(1)


def import_checkpoint(
    system: str,
    checkpoint: Path,
    *,
    annotation: Path,
    out: Path,
    dataset: Literal["iu-xray", "mimic-cxr"] = "iu-xray",
) -> None:
    """Turn a released checkpoint into a run directory.

    Args:
        system: System that the checkpoint belongs to; 'radscribe systems' lists the names.
        checkpoint: The released checkpoint file, such as model.pth.
        annotation: The annotation.json that the checkpoint was trained with; the vocabulary is made from it.
        out: Run directory to write.
        dataset: Data set whose released recipe the checkpoint was trained with.
    """
    from radscribe.interop.checkpoints import import_released

    run = import_released(system, checkpoint, annotation, out, dataset)
    print(f"run directory: {run.path}")
    print("It keeps no statistics of training images: its drafts do not say how unlike them a study is.")
