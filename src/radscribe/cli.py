"""The command line: one function per command. Its signature and docstring are its options and its help.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from radscribe.errors import RadScribeError

if TYPE_CHECKING:
    from radscribe.studies.rejection import Rejection
    from radscribe.training.config import RunConfig

EPILOG = "Research use, not for clinical diagnosis. Errors say what to type next; documentation in docs/."


def prepare(
    source: str,
    *,
    out: Path,
    reader: str = "auto",
    images: Path | None = None,
    columns: dict[str, str] | None = None,
    split_fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    studies: int = 1000,
    limit: int | None = None,
    short_side: int = 256,
    workers: int | None = None,
) -> None:
    """Read studies from any source once, and write a prepared store.

    Resumes where it was interrupted. What cannot be used is listed in STORE/rejected.csv with its reason.

    Args:
        source: a folder or file of studies, or 'phantom' for synthetic ones.
        out: the store to write.
        reader: how to read the source; 'auto' looks at what is in it.
        images: folder of the images, where it is not beside the reports.
        columns: names of your columns for ours, as in --columns '{"report": "notes", "patient": "subject"}'.
        split_fractions: train, val and test shares, by patient, where the source has no split.
        seed: of that split, and of the phantom.
        studies: how many phantom studies to make.
        limit: read at most this many studies.
        short_side: pixels of the shorter side of each stored view.
        workers: processes that decode images; all CPUs unless given.
    """
    from radscribe.studies.prepare import prepare as prepare_store

    options: dict[str, Any] = {}
    if source == "phantom":
        options["studies"] = studies
    if images is not None:
        options["images"] = images
    if columns is not None:
        options["columns"] = columns
    summary = prepare_store(
        source,
        out,
        reader=reader,
        short_side=short_side,
        split_fractions=split_fractions,
        seed=seed,
        workers=workers,
        limit=limit,
        **options,
    )
    print(summary)


def generate(
    run: Path,
    source: list[str],
    *,
    out: Path | None = None,
    split: str = "all",
    batch: int = 16,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    decoding: dict[str, Any] | None = None,
) -> None:
    """Draft reports with a trained run, one JSON object per line: id, text, logprob.

    Studies that cannot be read are reported on standard error and left out; the rest is drafted.

    Args:
        run: a run directory.
        source: a prepared store, a folder of images, or single image files.
        out: where to write the drafts; standard output unless given.
        split: of a prepared store: train, val, test or all.
        batch: studies decoded side by side.
        device: where to run.
        decoding: fields of the decoding to change, as in --decoding '{"beams": 5, "minimum_length": 20}'.
    """
    from tqdm import tqdm

    from radscribe.training.trained_system import load

    rejections: list[Rejection] = []
    trained = load(run, device)
    studies = list(_studies(source, split, rejections))
    drafts = trained.generate(studies, batch_size=batch, on_rejection=rejections.append, **(decoding or {}))
    lines = (
        json.dumps({"id": draft.id, "text": draft.text, "logprob": round(draft.logprob, 4)}) for draft in drafts
    )
    progress = tqdm(lines, total=len(studies), desc="drafting", unit="study", disable=out is None)
    written = 0
    with out.open("w", encoding="utf-8") if out else sys.stdout as file:
        for line in progress:
            file.write(line + "\n")
            written += 1
        file.flush()
    for rejection in rejections:
        print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)
    if not written:
        raise RadScribeError(f"no study of {', '.join(source)} could be drafted")
    if out:
        print(f"{written} drafts in {out}, {len(rejections)} rejected", file=sys.stderr)


def evaluate(
    run: Path | None = None,
    *,
    store: Path | None = None,
    split: str = "test",
    predictions: Path | None = None,
    references: Path | None = None,
    protocol: Literal["r2gen", "clean_full", "raw"] | None = None,
    cleaning: str = "iu_xray",
    vocabulary: Path | None = None,
    maximum_length: int = 60,
    resamples: int = 1000,
    meteor: bool = True,
    drafts: Path | None = None,
    as_json: bool = False,
) -> None:
    """Score drafts: of a run on a split of a store, or of any system from two files.

    Prints BLEU-1 to BLEU-4, METEOR (where Java is there), ROUGE-L and CIDEr with 95% intervals, the
    baselines, diversity and the rules of the protocol.

    Args:
        run: a run directory; its drafts of the split are made and scored.
        store: the store to score a run on; the one it was trained on unless given.
        split: train, val, test or all.
        predictions: drafts of any system, JSON Lines with id and text.
        references: what they are scored against, with the same ids.
        protocol: text rules; a run's own unless given, and needed with --predictions.
        cleaning: text cleaning for --predictions: iu_xray, mimic_cxr or none.
        vocabulary: vocabulary.json of a run, for --predictions under the protocol r2gen.
        maximum_length: of references under the protocol r2gen, for --predictions.
        resamples: bootstrap resamples behind the intervals.
        meteor: also run METEOR, which starts Java for some ten seconds.
        drafts: also write the run's drafts to this file.
        as_json: print JSON instead of tables (--json for short).
    """
    from radscribe.evaluation.evaluate import evaluate_texts, read_texts

    if (run is None) == (predictions is None):
        raise RadScribeError("evaluate needs either a run or --predictions with --references")
    if run is not None:
        from radscribe.studies.store import PreparedStore
        from radscribe.training.run_directory import RunDirectory
        from radscribe.training.scoring import score_run, write_drafts

        rejections: list[Rejection] = []
        directory = RunDirectory(run)
        evaluation, made = score_run(
            directory,
            PreparedStore(store or directory.load_config().store),
            split,
            protocol=protocol,
            meteor=meteor,
            resamples=resamples,
            on_rejection=rejections.append,
        )
        for rejection in rejections:
            print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)
        if drafts:
            write_drafts(made, drafts)
    else:
        from radscribe.text.vocabulary import Vocabulary

        if references is None or predictions is None or protocol is None:
            raise RadScribeError("--predictions needs --references and --protocol (r2gen, clean_full or raw)")
        evaluation = evaluate_texts(
            read_texts(predictions),
            read_texts(references),
            protocol=protocol,
            cleaning=cleaning,
            vocabulary=Vocabulary.load(vocabulary) if vocabulary else None,
            maximum_length=maximum_length if protocol == "r2gen" else None,
            resamples=resamples,
            meteor=meteor,
        )
    print(json.dumps(evaluation.to_json(), indent=2) if as_json else evaluation)


def page(run: Path, *, out: Path, store: Path | None = None, split: str = "test", studies: int = 12) -> None:
    """Write one self-contained HTML page: drafts beside images and masks, the loss curve, the scores.

    Args:
        run: a run directory.
        out: the page to write.
        store: where the studies are; the store that the run was trained on unless given.
        split: whose drafts to show.
        studies: how many.
    """
    from radscribe.explain.run_page import write_run_page

    write_run_page(run, out, store=store, split=split, studies=studies)
    print(f"look at it: {out.resolve().as_uri()}")


def systems(*, as_json: bool = False) -> None:
    """List the published systems that can be trained.

    Args:
        as_json: print JSON (--json for short).
    """
    from dataclasses import asdict

    from radscribe.systems.registry import SYSTEMS

    if as_json:
        hidden = {"module", "class_name"}
        rows = [{k: v for k, v in asdict(each).items() if k not in hidden} for each in SYSTEMS.values()]
        print(json.dumps(rows, indent=2))
        return
    for each in SYSTEMS.values():
        print(f"{each.name}\n  {each.title}. {each.published}.\n  {each.summary}")
        print(f"  variants: {', '.join(each.variants)}; docs/{each.docs}")


def recipes(name: str = "", *, print_config: bool = False, as_json: bool = False) -> None:
    """List the recipes, or show one.

    Args:
        name: a recipe; all unless given.
        print_config: print the full configuration.
        as_json: print JSON (--json for short).
    """
    from dataclasses import asdict

    from radscribe.recipes import RECIPES, get_recipe
    from radscribe.training.config import to_yaml

    chosen = [get_recipe(name)] if name else list(RECIPES.values())
    if as_json:
        rows = [
            {"name": each.name, "summary": each.summary, "docs": each.docs}
            | ({"config": asdict(each.build())} if print_config else {})
            for each in chosen
        ]
        print(json.dumps(rows, indent=2))
        return
    for each in chosen:
        print(f"{each.name}\n  {each.summary}\n  docs/{each.docs}")
        if print_config:
            print(to_yaml(each.build()))


def bench(
    task: Literal["decode", "train"],
    *,
    system: str = "r2gen-cmn",
    batch: int = 16,
    views: int = 2,
    beam: int = 3,
    length: int = 60,
    threads: int = 2,
    repeats: int = 3,
    paper_size: bool = True,
) -> None:
    """Measure seconds and peak memory of a system, as ratios to its own backbone in the same run.

    Args:
        task: decode (all tokens forced) or train (forward, backward, optimiser step).
        system: its name.
        batch: studies.
        views: per study.
        beam: beams of the decoding.
        length: tokens of a report.
        threads: CPU threads.
        repeats: measured runs; the median counts.
        paper_size: the paper's sizes; otherwise those of the phantom recipe.
    """
    from radscribe.bench import bench as measure

    result = measure(
        task,
        system=system,
        batch=batch,
        views=views,
        beam=beam,
        length=length,
        threads=threads,
        repeats=repeats,
        paper_size=paper_size,
    )
    print(json.dumps(result, indent=2))


class Interop:
    """Released checkpoints and golden tensors."""

    def check(self, golden: Path) -> None:
        """Build a released architecture from a golden file and compare; exits 1 on a difference.

        Args:
            golden: a .safetensors file with configuration, weights, inputs and outputs.
        """
        from radscribe.interop.golden import check_golden

        result = check_golden(golden)
        print(result)
        if not result.passed:
            raise SystemExit(1)

    def import_(
        self,
        system: str,
        checkpoint: Path,
        *,
        annotation: Path,
        out: Path,
        dataset: Literal["iu-xray", "mimic-cxr"] = "iu-xray",
    ) -> None:
        """Turn a released checkpoint into a run directory (radscribe interop import).

        Args:
            system: which system the checkpoint is of.
            checkpoint: the released model.pth.
            annotation: the annotation.json that it was trained with; its vocabulary is made from it.
            out: the run directory to write.
            dataset: which dataset's released recipe the checkpoint goes with.
        """
        from radscribe.interop.released import import_released

        run = import_released(system, checkpoint, annotation, out, dataset)
        print(f"run directory: {run.path}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that users can put right are one line on standard error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _dispatch(arguments)
    except RadScribeError as error:
        raise SystemExit(f"radscribe: {error}") from error
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()


def _dispatch(arguments: list[str]) -> None:
    from jsonargparse import auto_cli

    if arguments[:1] == ["train"]:
        _train(arguments[1:])
        return
    commands = {
        "prepare": prepare,
        "train": _train_help,
        "generate": generate,
        "evaluate": evaluate,
        "page": page,
        "systems": systems,
        "recipes": recipes,
        "bench": bench,
        "interop": Interop,
    }
    auto_cli(commands, args=arguments)
