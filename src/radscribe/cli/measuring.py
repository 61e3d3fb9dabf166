"""Commands that measure speed and memory, compare them with released code, and plan them for a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from radscribe.cli.output import print_json
from radscribe.cli.parsing import Parser
from radscribe.errors import RadScribeError

#: Options of each task of `bench`.
TASK_OPTIONS: dict[str, set[str]] = {
    "decode": {"system", "variant", "batch", "views", "beam", "length", "threads", "repeats", "paper_size"},
    "train": {"system", "variant", "batch", "views", "length", "threads", "repeats", "paper_size"},
    "memory": {"batch", "length", "threads", "repeats"},
    "scan": {"batch", "length", "threads", "repeats"},
    "recall": {"batch", "threads", "repeats"},
    "score": {"pairs", "resamples"},
}


def bench(
    task: Literal["decode", "train", "memory", "scan", "recall", "score"],
    *,
    system: str = "r2gen-cmn",
    variant: str = "",
    batch: int = 16,
    views: int = 2,
    beam: int = 3,
    length: int = 60,
    threads: int = 2,
    repeats: int = 3,
    paper_size: bool = True,
    pairs: int = 3858,
    resamples: int = 1000,
) -> None:
    """Measure seconds and peak memory, and print them as ratios within one run.

    decode and train compare a system with its own backbone, memory compares R2Gen's relational memory with
    the loop of the released code, scan compares the vision Mamba's parallel scan with a sequential one,
    recall compares how often AM-MRG's memory banks are projected, and score compares the metrics with
    pycocoevalcap. 'radscribe bench plan RECIPE' has options of its own: it plans memory and time of a recipe
    with a frozen language model on a GPU that you do not have.

    Args:
        task: What to measure: decode (drafting, every token forced), train (forward and backward pass and
            optimiser step), memory (R2Gen's relational memory), scan (the vision Mamba's selective scan),
            recall (AM-MRG's memory banks) or score (the metrics).
        system: System to measure with decode and train; 'radscribe systems' lists the names.
        variant: Variant of the system's recipe, such as base; without it the paper's full system is measured.
        batch: Number of studies, or of views with scan, that are processed at the same time.
        views: Number of views per study.
        beam: Number of beams of the decoding.
        length: Number of tokens of a report, or of a view with scan.
        threads: Number of CPU threads.
        repeats: Number of measured repetitions; their median is printed.
        paper_size: Measure the system at the paper's size; otherwise at the size of the phantom recipe.
        pairs: Number of pairs of draft and reference that score measures.
        resamples: Number of bootstrap resamples that score measures.
    """
    from radscribe.bench.recall import bench_recall
    from radscribe.bench.speed import bench as measure
    from radscribe.bench.speed import bench_memory, bench_scan, bench_scoring

    if task == "memory":
        print_json(bench_memory(batch=batch, length=length, threads=threads, repeats=repeats))
        return
    if task == "scan":
        print_json(bench_scan(batch=batch, length=length, threads=threads, repeats=repeats))
        return
    if task == "recall":
        print_json(bench_recall(batch=batch, threads=threads, repeats=repeats))
        return
    if task == "score":
        print_json(bench_scoring(pairs=pairs, resamples=resamples))
        return
    result = measure(
        task,
        system=system,
        variant=variant,
        batch=batch,
        views=views,
        beam=beam,
        length=length,
        threads=threads,
        repeats=repeats,
        paper_size=paper_size,
    )
    print_json(result)


def read_bench(parser: Parser, arguments: list[str]) -> dict[str, Any]:
    """Parse the options of `radscribe bench`, and check that its task takes them.

    Raises:
        RadScribeError: the task does not take a given option; or see `Parser.parse`.
    """
    given = parser.parse(arguments)
    task = given["task"]
    for name in given:
        if name not in TASK_OPTIONS[task] | {"task"}:
            raise RadScribeError(f"--{name} does nothing here: {task} does not use it", f"Leave --{name} out")
    return given


def plan(
    recipe: str,
    *,
    language_model: Path | None = None,
    memory_gb: float = 80.0,
    bandwidth_tb: float = 2.04,
    teraflops: float = 312.0,
) -> None:
    """Plan memory and time of a recipe with a frozen language model on a GPU that you do not have.

    One training step of one study runs here, with the recipe's parts at their sizes, random weights, and one
    and two layers of the language model; everything else is computed from it. No weights are downloaded. It
    takes some minutes and gigabytes.

    Args:
        recipe: Recipe to plan for, such as bidirectional/iu-xray.
        language_model: Folder whose config.json gives the shapes of the language model; without it the shapes
            of the recipe's own model are used.
        memory_gb: Memory of the GPU, in 10^9 bytes; the default is an A100's.
        bandwidth_tb: Memory bandwidth of the GPU, in 10^12 bytes per second; the default is an A100's.
        teraflops: Speed of the GPU in the format of the language model, in 10^12 operations per second; the
            default is an A100's.
    """
    from radscribe.bench.plan import Accelerator, bench_plan
    from radscribe.recipes import get_recipe

    accelerator = Accelerator(memory_gb=memory_gb, bandwidth_tb=bandwidth_tb, teraflops=teraflops)
    print_json(bench_plan(get_recipe(recipe).build(), accelerator, language_model=language_model))
