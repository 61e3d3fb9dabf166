"""Commands for released checkpoints and golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from radscribe.about import NOTICE
from radscribe.errors import RadScribeError


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
    out: Path,
    annotation: Path | None = None,
    language_model: str | None = None,
    visual_bank: Path | None = None,
    report_bank: Path | None = None,
    stage_1: Path | None = None,
    dataset: Literal["iu-xray", "mimic-cxr", "chexpert-plus"] = "iu-xray",
) -> None:
    """Turn a released checkpoint into a run directory.

    A checkpoint of r2gen, r2gen-cmn or camanet needs --annotation. One of am-mrg (stage 2) has neither its
    language model nor its memory banks, and needs --language_model, --visual_bank and --report_bank.

    Args:
        system: System that the checkpoint belongs to; 'radscribe systems' lists the names.
        checkpoint: The released checkpoint file, such as model.pth.
        out: Run directory to write.
        annotation: The annotation.json that the checkpoint was trained with; the vocabulary is made from it.
        language_model: Folder of the language model that the checkpoint was trained with, or its name on the
            Hugging Face hub.
        visual_bank: Directory of the visual bank that the checkpoint was trained with; or the released
            CAM.pkl, of which those rows are taken that the released code draws with its seed. No released
            file was at hand to verify them.
        report_bank: Directory of the report bank that the checkpoint was trained with; or the released
            Report_Memory.pkl, as for --visual_bank.
        stage_1: The released Stage1ckpt.pth; its 14 queries are the first rows of the visual bank that is
            made from CAM.pkl.
        dataset: Data set whose released recipe the checkpoint was trained with.
    """
    options = {
        "annotation": annotation,
        "language_model": language_model,
        "visual_bank": visual_bank,
        "report_bank": report_bank,
        "stage_1": stage_1,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    needed = ("language_model", "visual_bank", "report_bank") if system == "am-mrg" else ("annotation",)
    if missing := [f"--{name}" for name in needed if name not in given]:
        raise RadScribeError(
            f"a checkpoint of {system} needs {' and '.join(missing)} too", "radscribe interop import --help"
        )
    useful = {*needed, "stage_1"} if system == "am-mrg" else needed
    if useless := [name for name in given if name not in useful]:
        raise RadScribeError(
            f"--{useless[0]} does nothing here: a checkpoint of {system} does not use it", "Leave it out"
        )
    if system == "am-mrg":
        from radscribe.interop.released_am_mrg import AMMRGFiles, import_am_mrg

        run = import_am_mrg(checkpoint, AMMRGFiles(**given), out, dataset)
    else:
        from radscribe.interop.checkpoints import import_released

        run = import_released(system, checkpoint, given["annotation"], out, dataset)
    print(f"run directory: {run.path}")
    print("It keeps no statistics of training images: its drafts do not say how unlike them a study is.")


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
