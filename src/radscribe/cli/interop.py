"""Commands for released checkpoints and golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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
        visual_bank: Directory of the visual bank that the checkpoint was trained with.
        report_bank: Directory of the report bank that the checkpoint was trained with.
        dataset: Data set whose released recipe the checkpoint was trained with.
    """
    needed: dict[str, object] = {"annotation": annotation}
    if system == "am-mrg":
        needed = {"language_model": language_model, "visual_bank": visual_bank, "report_bank": report_bank}
    if missing := [f"--{name}" for name, value in needed.items() if value is None]:
        raise RadScribeError(
            f"a checkpoint of {system} needs {' and '.join(missing)} too", "radscribe interop import --help"
        )
    if system == "am-mrg":
        from radscribe.interop.released_am_mrg import AMMRGFiles, import_am_mrg

        files = AMMRGFiles(
            language_model=str(language_model), visual_bank=str(visual_bank), report_bank=str(report_bank)
        )
        run = import_am_mrg(checkpoint, files, out, dataset)
    else:
        from radscribe.interop.checkpoints import import_released

        assert annotation is not None
        run = import_released(system, checkpoint, annotation, out, dataset)
    print(f"run directory: {run.path}")
    print("It keeps no statistics of training images: its drafts do not say how unlike them a study is.")
