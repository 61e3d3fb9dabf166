"""Commands for released checkpoints and golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from radscribe.about import NOTICE


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


def import_bank(
    file: Path,
    *,
    kind: Literal["visual-bank", "report-bank"],
    out: Path,
    recover: bool = False,
    visual_bank: Path | None = None,
    stage_1: Path | None = None,
) -> None:
    """Turn a memory bank that the authors of AM-MRG released into a directory of a bank.

    The released files are pickles. Nothing in them is run: arrays of numbers under the names of the 14
    observations are read, and a file with anything else is refused. A row keeps its observation and its
    number in the file; of which study it is, the file does not say. Pass the directory to a recipe of am-mrg
    with --system.visual_bank or --system.report_bank.

    Args:
        file: The released file: CAM.pkl (regions) or Report_Memory.pkl (reports).
        kind: Kind of the bank: visual-bank (regions) or report-bank (reports).
        out: Directory to write.
        recover: Take the rows that the released stage 2 draws at random, by drawing them again with its seed,
            42: 500 of each observation with more regions, and 6,000 reports. No released checkpoint was at
            hand to verify them. Without it all rows are taken.
        visual_bank: The CAM.pkl, which --recover needs for a report bank too: the released code draws from it
            before it draws reports.
        stage_1: The released Stage1ckpt.pth; its 14 queries become the first rows of a visual bank, as in the
            released stage 2.
    """
    from radscribe.interop.bank_import import import_bank as write_bank

    print(write_bank(file, kind, out, recover=recover, visual_bank=visual_bank, stage_1=stage_1))
    print(f"{kind.replace('-', ' ')}: {out}; {NOTICE}")
