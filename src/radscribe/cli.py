"""The command line: one function per command. Its signature and docstring are its options and its help.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from jsonargparse import ActionYesNo, ArgumentParser

from radscribe import NOTICE, __version__
from radscribe.errors import RadScribeError

if TYPE_CHECKING:
    from radscribe.evaluation.evaluate import Evaluation
    from radscribe.studies.rejection import Rejection
    from radscribe.studies.study import Study

EPILOG = f"{NOTICE.capitalize()}. Errors say what to type next; documentation in docs/."


def prepare(
    source: str,
    *,
    out: Path,
    reader: str = "auto",
    images: Path | None = None,
    columns: dict[str, str] | None = None,
    split_fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    studies: int | None = None,
    limit: int | None = None,
    short_side: int = 256,
    workers: int | None = None,
    study_pattern: str | None = None,
    patient_pattern: str | None = None,
    update: bool = False,
) -> None:
    """Read studies from any source once, and write a prepared store.

    Resumes where it was interrupted. What cannot be used is listed in STORE/rejected.csv with its reason.
    A source that has changed since the store was prepared is an error, unless --update is given.

    Args:
        source: a folder or file of studies, or 'phantom' for synthetic ones.
        out: the store to write.
        reader: how to read the source; 'auto' looks at what is in it.
        images: folder of the images, where it is not beside the reports.
        columns: names of your columns for ours, as in --columns '{"report": "notes", "patient": "subject"}'.
        split_fractions: train, val and test shares, by patient, where the source has no split.
        seed: of that split, and of the phantom.
        studies: how many phantom studies to make; 1000 unless given.
        limit: read at most this many studies.
        short_side: pixels of the shorter side of each stored view.
        workers: processes that decode images; all CPUs unless given.
        study_pattern: regular expression whose one group finds the study in the path of an image, as in
            --study_pattern '([^/]+)_[0-9]+[.]png'; for folders, and for tables without a column study.
        patient_pattern: likewise for the patient; for folders, and for tables without a column patient.
        update: make a store that was prepared before follow its source: add what is new, decode anew what has
            changed, and drop what is gone. Studies that are the same stay in their split.
    """
    from radscribe.studies.prepare import prepare as prepare_store

    options = {
        "studies": studies,
        "images": images,
        "columns": columns,
        "study_pattern": study_pattern,
        "patient_pattern": patient_pattern,
    }
    summary = prepare_store(
        source,
        out,
        reader=reader,
        short_side=short_side,
        split_fractions=split_fractions,
        seed=seed,
        workers=workers,
        limit=limit,
        update=update,
        **{name: value for name, value in options.items() if value is not None},
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
        dumps({"id": draft.id, "text": draft.text, "logprob": round(draft.logprob, 4)}) for draft in drafts
    )
    progress = tqdm(lines, total=len(studies), desc="drafting", unit="study", disable=out is None)
    written = 0
    with out.open("w", encoding="utf-8") if out else nullcontext(sys.stdout) as file:
        for line in progress:
            file.write(line + "\n")
            written += 1
        file.flush()
    for rejection in rejections:
        print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)
    if not written:
        raise RadScribeError(f"no study of {', '.join(source)} could be drafted")
    if out:
        print(f"{written} drafts in {out}, {len(rejections)} rejected; {NOTICE}", file=sys.stderr)


def _studies(source: list[str], split: str, rejections: list[Rejection]) -> Iterator[Study]:
    """The studies of a store, a folder or table, or of single image files."""
    from radscribe.studies.readers import open_source
    from radscribe.studies.rejection import Rejection
    from radscribe.studies.store import MANIFEST, PreparedStore
    from radscribe.studies.study import Study, View

    for each in map(Path, source):
        if (each / MANIFEST).is_file():
            yield from PreparedStore(each).studies(split)
        elif each.is_file() and each.suffix.lower() not in {".csv", ".tsv", ".jsonl", ".json"}:
            yield Study(id=each.stem, patient_id=each.stem, views=(View(each),))
        elif each.exists():
            for record in open_source(each):
                if isinstance(record, Rejection):
                    rejections.append(record)
                else:
                    yield record
        else:
            rejections.append(Rejection(each.stem, str(each), f"no such file or folder: {each}"))


def evaluate(
    run: Path | None = None,
    *,
    store: Path | None = None,
    split: str = "test",
    predictions: Path | None = None,
    references: Path | None = None,
    protocol: Literal["r2gen", "r2gengpt", "clean_full", "raw"] | None = None,
    cleaning: Literal["iu_xray", "mimic_cxr", "mimic_cxr_r2gengpt", "none"] = "iu_xray",
    section: str = "findings",
    vocabulary: Path | None = None,
    tokenizer: str | None = None,
    maximum_length: int = 60,
    resamples: int = 1000,
    meteor: bool = True,
    draft_labels: Path | None = None,
    reference_labels: Path | None = None,
    drafts: Path | None = None,
    json: bool = False,
) -> None:
    """Score drafts: of a run on a split of a store, or of any system from two files.

    Prints BLEU-1 to BLEU-4, METEOR (where Java is there), ROUGE-L and CIDEr with 95% intervals, the
    baselines, diversity, clinical efficacy (precision, recall and F1 on 14 observations) and the rules of
    the protocol.

    Args:
        run: a run directory; its drafts of the split are made and scored.
        store: the store to score a run on; the one it was trained on unless given. With --predictions: the
            store with the same studies, whose train split the baselines learn from.
        split: train, val, test or all.
        predictions: drafts of any system, JSON Lines with id and text.
        references: what they are scored against, with the same ids.
        protocol: text rules; a run's own unless given, and needed with --predictions.
        cleaning: text cleaning for --predictions: iu_xray, mimic_cxr, mimic_cxr_r2gengpt or none.
        section: report section that the baselines copy, for --predictions with --store.
        vocabulary: vocabulary.json of a run, for --predictions under the protocol r2gen.
        tokenizer: language model, by folder or hub name, whose tokens references are cut at, for
            --predictions under the protocol r2gengpt.
        maximum_length: of references under the protocols r2gen and r2gengpt, for --predictions.
        resamples: bootstrap resamples behind the intervals.
        meteor: also run METEOR, which starts Java for some ten seconds.
        draft_labels: observations in the drafts of --predictions, instead of RadScribe's own labels: a CSV of
            CheXpert or CheXbert with a column study_id.
        reference_labels: likewise those in the references, by the same labeller; both or neither.
        drafts: also write the run's drafts to this file.
        json: print JSON instead of tables.
    """
    from radscribe.evaluation.evaluate import evaluate_texts, read_texts

    if (run is None) == (predictions is None):
        raise RadScribeError("evaluate needs either a run or --predictions with --references")
    if (draft_labels is None) != (reference_labels is None) or (draft_labels and run):
        raise RadScribeError("--draft_labels and --reference_labels go together, with --predictions")
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
            raise RadScribeError(
                "--predictions needs --references and --protocol (r2gen, r2gengpt, clean_full or raw)"
            )
        texts, words = read_texts(references), Vocabulary.load(vocabulary) if vocabulary else None
        cutter = None
        if tokenizer is not None:
            from radscribe.text.language_model_files import LanguageModelFiles
            from radscribe.text.language_model_tokenizer import LanguageModelTokenizer

            cutter = LanguageModelTokenizer(LanguageModelFiles.find(tokenizer, tokenizer_only=True))
        beside = {}
        if store is not None:
            from radscribe.studies.store import PreparedStore
            from radscribe.training.config import DataConfig
            from radscribe.training.scoring import baselines

            data = DataConfig(
                section=section, cleaning=cleaning, protocol=protocol, maximum_length=maximum_length
            )
            prepared = PreparedStore(store)
            beside = baselines(prepared, [prepared.study(study) for study in texts], data, words, cutter)
        labels = None
        if draft_labels is not None and reference_labels is not None:
            from radscribe.evaluation.clinical import read_label_files

            labels = read_label_files(draft_labels, reference_labels, texts)
        evaluation = evaluate_texts(
            read_texts(predictions),
            texts,
            protocol=protocol,
            cleaning=cleaning,
            vocabulary=words,
            maximum_length=maximum_length if protocol in ("r2gen", "r2gengpt") else None,
            tokenizer=cutter,
            baselines=beside,
            resamples=resamples,
            meteor=meteor,
            labels=labels,
        )
    print(dumps(evaluation.to_json(), indent=2) if json else evaluation)


def compare(
    groups: list[str],
    *,
    store: Path | None = None,
    split: str = "test",
    protocol: Literal["r2gen", "clean_full", "raw"] | None = None,
    scores: list[str] | None = None,
    resamples: int = 1000,
    json: bool = False,
) -> None:
    """Score runs, or groups of runs with different seeds, and compare each with the first.

    Prints the mean over a group's runs with a 95% interval, its lowest and highest run, the difference to the
    first group and its p-value from the same resamples of studies; and after which epochs the runs' weights
    were chosen.

    Args:
        groups: runs, or groups as NAME=RUN,RUN,RUN; the first is what the others are compared with.
        store: the store to score on; the one that the first run was trained on unless given.
        split: train, val, test or all.
        protocol: text rules; the runs' own unless given.
        scores: which scores, as in --scores BLEU-4 "micro F1 (14, as_present)"; the usual ones unless given.
        resamples: bootstrap resamples behind the intervals.
        json: print JSON instead of a table.
    """
    from radscribe.evaluation.comparison import compare_groups, parse_groups
    from radscribe.studies.store import PreparedStore
    from radscribe.training.run_directory import RunDirectory
    from radscribe.training.scoring import score_run

    parsed = parse_groups(groups)
    if len(parsed) < 2:
        raise RadScribeError("there is nothing to compare", "Give at least two runs, or groups NAME=RUN,RUN")
    evaluated: dict[str, list[Evaluation]] = {}
    chosen: dict[str, list[int | None]] = {}
    for name, runs in parsed.items():
        evaluated[name], chosen[name] = [], []
        for run in map(RunDirectory, runs):
            prepared = PreparedStore(store or run.load_config().store)
            evaluation, _ = score_run(
                run, prepared, split, protocol=protocol, meteor=False, resamples=resamples
            )
            evaluated[name].append(evaluation)
            best = run.read_facts().get("best")  # which an imported run does not have
            chosen[name].append(best["epoch"] + 1 if best else None)
    comparison = compare_groups(evaluated, scores or (), resamples=resamples)
    if json:
        print(dumps(comparison.to_json() | {"chosen_epochs": chosen}, indent=2))
    else:
        epochs = "; ".join(
            f"{name} {', '.join(str(epoch or 'unknown') for epoch in each)}" for name, each in chosen.items()
        )
        print(f"{comparison}\n\nweights chosen after epoch: {epochs}")


def label(file: str, *, json: bool = False) -> None:
    """State the 14 CheXpert observations of report texts: present, absent, uncertain or not mentioned.

    Args:
        file: one text per line; - for standard input.
        json: print one JSON object per text, with the words that decided each state.
    """
    from io import StringIO

    from radscribe.studies.text_files import read_text
    from radscribe.text.observation_labeller import label_report

    with (
        open(0, encoding="utf-8", errors="replace", closefd=False)
        if file == "-"
        else StringIO(read_text(Path(file))) as texts
    ):
        for line in texts:
            labels = label_report(line.rstrip("\n"))
            print(dumps(labels.to_json()) if json else labels)


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


def explain(
    run: Path,
    *,
    out: Path,
    study: list[str] | None = None,
    images: list[str] | None = None,
    together: bool = False,
    store: Path | None = None,
    words: list[str] | None = None,
    layer: int | None = None,
    heads: str = "mean",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    decoding: dict[str, Any] | None = None,
) -> None:
    """Draft studies and show where the run looked at each word: PNG files, and one HTML page.

    Shows what the system has of: cross-attention of each word, VDM and TDM, class activation maps with
    probabilities, important words, memory vectors. Studies that cannot be read are reported on standard
    error and left out.

    Args:
        run: a run directory.
        out: folder to write; its index.html is the page.
        study: ids of studies in the store, as in --study A B.
        images: image files instead, each a study of its own.
        together: the images are the views of one study.
        store: where the studies are; the store that the run was trained on unless given.
        words: which words of the drafts get PNG files; unless given, those that the system selects as
            important, or else those that name an observation. The page has all words.
        layer: decoder layer of the PNG files, counted from 1; the last unless given.
        heads: attention heads of the PNG files: mean, max, or one of them, counted from 1.
        device: where to run.
        decoding: fields of the decoding to change, as for generate.
    """
    if (study is None) == (images is None):
        raise RadScribeError("explain needs either --study ID [ID ...] or --images FILE [FILE ...]")
    if images is not None and store is not None:
        raise RadScribeError("--store goes with --study, not with --images")
    if together and images is None:
        raise RadScribeError("--together goes with --images")
    from radscribe.explain.explanation_page import write_explanations
    from radscribe.studies.study import Study, View
    from radscribe.training.run_directory import RunDirectory
    from radscribe.training.trained_system import load

    trained = load(run, device)
    studies: list[Study | Path | str] = list(images or [])
    if study is not None:
        prepared = RunDirectory(run).open_store(store)
        studies = [prepared.study(each) for each in study]
    elif together:
        files = [Path(each) for each in images or []]
        name = files[0].stem
        studies = [Study(id=name, patient_id=name, views=tuple(map(View, files)))]
    rejections: list[Rejection] = []
    explanations = list(trained.explain(studies, on_rejection=rejections.append, **(decoding or {})))
    for rejection in rejections:
        print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)
    if not explanations:
        raise RadScribeError(f"no study of {', '.join(study or images or [])} could be explained")
    written = write_explanations(
        explanations, out, config=trained.config, words=words, layer=layer, heads=heads
    )
    print(f"look at it: {written.resolve().as_uri()}")


def embeddings(
    runs: list[str],
    *,
    store: Path | None = None,
    split: str = "test",
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Measure how near visual embeddings lie to the words of the language model, and draw histograms.

    Args:
        runs: run directories of systems with a frozen language model, or groups as NAME=RUN,RUN,RUN.
        store: where the studies are; each run's own unless given.
        split: train, val, test or all.
        out: write the histograms there: a .png, .pdf or .svg file.
        json: print JSON.
    """
    from radscribe.evaluation.comparison import parse_groups
    from radscribe.explain.embedding_distances import EmbeddingDistances, draw_distances, embedding_distances
    from radscribe.studies.store import PreparedStore
    from radscribe.training.trained_system import load

    found = {}
    for name, members in parse_groups(runs).items():
        measured = []
        for trained in map(load, members):
            studies = PreparedStore(store or trained.config.store).studies(split)
            measured.append(embedding_distances(trained, studies))
        found[name] = EmbeddingDistances.of_runs(measured)
        if not json:
            print(f"{name}: {found[name]}")
    if json:
        print(dumps({name: each.to_json() for name, each in found.items()}, indent=2))
    if out:
        draw_distances(found, out)


def systems(*, json: bool = False) -> None:
    """List the published systems that can be trained.

    Args:
        json: print JSON.
    """
    from dataclasses import asdict

    from radscribe.systems.registry import SYSTEMS

    if json:
        hidden = {"module", "class_name"}
        rows = [{k: v for k, v in asdict(each).items() if k not in hidden} for each in SYSTEMS.values()]
        print(dumps(rows, indent=2))
        return
    for each in SYSTEMS.values():
        print(f"{each.name}\n  {each.title}. {each.published}.\n  {each.summary}")
        print(f"  variants: {', '.join(each.variants)}; docs/{each.docs}")


def recipes(name: str = "", *, print_config: bool = False, json: bool = False) -> None:
    """List the recipes, or show one.

    Args:
        name: a recipe; all unless given.
        print_config: print the full configuration.
        json: print JSON.
    """
    from dataclasses import asdict

    from radscribe.recipes import RECIPES, get_recipe
    from radscribe.training.config import to_yaml

    chosen = [get_recipe(name)] if name else list(RECIPES.values())
    if json:
        rows = [
            {"name": each.name, "summary": each.summary, "docs": each.docs}
            | ({"config": asdict(each.build())} if print_config else {})
            for each in chosen
        ]
        print(dumps(rows, indent=2))
        return
    for each in chosen:
        print(f"{each.name}\n  {each.summary}\n  docs/{each.docs}")
        if print_config:
            print(to_yaml(each.build()))


def bench(
    task: Literal["decode", "train", "memory", "score"],
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
    """Measure seconds and peak memory, as ratios within one run.

    decode and train measure a system against its own backbone, memory R2Gen's relational memory against the
    released loop, score the metrics against pycocoevalcap. 'radscribe bench plan RECIPE' plans instead, with
    options of its own: what a recipe with a frozen language model would take on a GPU that is not there.

    Args:
        task: decode (all tokens forced), train (forward, backward, optimiser step), memory or score.
        system: its name.
        variant: of its recipe, such as base; the paper's full system unless given.
        batch: studies.
        views: per study.
        beam: beams of the decoding.
        length: tokens of a report.
        threads: CPU threads.
        repeats: measured runs; the median counts.
        paper_size: the paper's sizes; otherwise those of the phantom recipe.
        pairs: drafts and references to score.
        resamples: bootstrap resamples to score.
    """
    from radscribe.bench.speed import bench as measure
    from radscribe.bench.speed import bench_memory, bench_scoring

    if task == "memory":
        print(dumps(bench_memory(batch=batch, length=length, threads=threads, repeats=repeats), indent=2))
        return
    if task == "score":
        print(dumps(bench_scoring(pairs=pairs, resamples=resamples), indent=2))
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
    print(dumps(result, indent=2))


def plan(
    recipe: str,
    *,
    language_model: Path | None = None,
    memory_gb: float = 80.0,
    bandwidth_tb: float = 2.04,
    teraflops: float = 312.0,
) -> None:
    """Plan memory and time of a recipe with a frozen language model on a GPU.

    One training step of one study is run here, with the recipe's parts at their sizes, random weights, and
    one and two layers of the language model; the rest is counted from it. No weights are downloaded; it takes
    some minutes and gigabytes.

    Args:
        recipe: to plan for, such as bidirectional/iu-xray.
        language_model: a folder whose config.json has the shapes; those of the recipe's model unless given.
        memory_gb: of the GPU, in 10^9 bytes; an A100's unless given, as in the next two.
        bandwidth_tb: of its memory, in 10^12 bytes a second.
        teraflops: its 10^12 operations a second in the language model's format.
    """
    from radscribe.bench.plan import Accelerator, bench_plan

    accelerator = Accelerator(memory_gb=memory_gb, bandwidth_tb=bandwidth_tb, teraflops=teraflops)
    print(dumps(bench_plan(recipe, accelerator, language_model=language_model), indent=2))


def interop_check(golden: Path) -> None:
    """Build a released architecture from a golden file and compare; exits 1 on a difference.

    Args:
        golden: a .safetensors file with configuration, weights, inputs and outputs.
    """
    from radscribe.interop.golden import check_golden

    result = check_golden(golden)
    print(result)
    if not result.passed:
        raise SystemExit(1)


def interop_import(
    system: str,
    checkpoint: Path,
    *,
    annotation: Path,
    out: Path,
    dataset: Literal["iu-xray", "mimic-cxr"] = "iu-xray",
) -> None:
    """Turn a released checkpoint into a run directory.

    Args:
        system: which system the checkpoint is of.
        checkpoint: the released model.pth.
        annotation: the annotation.json that it was trained with; its vocabulary is made from it.
        out: the run directory to write.
        dataset: which dataset's released recipe the checkpoint goes with.
    """
    from radscribe.interop.checkpoints import import_released

    run = import_released(system, checkpoint, annotation, out, dataset)
    print(f"run directory: {run.path}")


def train(
    recipe: str,
    *,
    out: Path | None = None,
    store: Path | None = None,
    resume: bool = False,
    print_config: bool = False,
    progress: bool = True,
) -> None:
    """Train a recipe, choose the weights on validation, and score the test split once.

    Every field of the recipe can be overridden, as in --training.epochs 10 or --system.top_k 64;
    'radscribe train RECIPE --help' lists them, 'radscribe recipes' lists the recipes. With options of their
    own, 'radscribe train view-classifier' trains what tells frontal from lateral views, and 'radscribe train
    masked-autoencoder' a vision encoder to start from.

    Args:
        recipe: name of a recipe.
        out: the run directory to write; runs/RECIPE unless given.
        store: the prepared store to train on.
        resume: go on with the run in --out, exactly as if it had not been interrupted.
        print_config: print the full configuration and stop.
        progress: show progress bars.
    """


def train_view_classifier(
    *,
    store: Path,
    out: Path,
    epochs: int = 5,
    batch: int = 32,
    learning_rate: float = 1e-3,
    architecture: str = "resnet18",
    weights: str = "none",
    seed: int = 0,
    threads: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: bool = True,
) -> None:
    """Train a classifier of frontal and lateral views, for views whose projection is unknown.

    Learns the views of the train split whose projection is known, and prints how many of the val split's it
    recognises; the test split is left alone.

    Args:
        store: a prepared store.
        out: the directory to write, for --data.view_classifier of a recipe.
        epochs: passes over the views.
        batch: views per step.
        learning_rate: the first; it falls to 0.
        architecture: a convolutional network of timm.
        weights: those it starts from: none, the tag of published weights, or a file.
        seed: of all that is random.
        threads: CPU threads; 0 takes all.
        device: where to run.
        progress: show a progress bar.
    """
    from radscribe.studies.store import PreparedStore
    from radscribe.training.view_classifier import summary
    from radscribe.training.view_classifier import train_view_classifier as train_classifier
    from radscribe.training.view_training import ViewTraining
    from radscribe.vision.backbones import BackboneConfig

    facts = train_classifier(
        PreparedStore(store),
        out,
        backbone=BackboneConfig(architecture=architecture, weights=weights),
        training=ViewTraining(
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            threads=threads,
            device=device,
            progress=progress,
        ),
    )
    print(summary(facts))
    print(f"view classifier: {out}; {NOTICE}")


def train_masked_autoencoder(
    *,
    store: Path,
    out: Path,
    recipe: str = "bidirectional/phantom",
    epochs: int = 100,
    batch: int = 64,
    learning_rate: float = 1.5e-3,
    weights: str = "none",
    seed: int = 0,
    threads: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: bool = True,
) -> None:
    """Train a masked autoencoder on the images of a store, for a recipe of bidirectional learning.

    Learns to draw what is left out of the train split's views, and prints how well it does on the val split;
    the test split is left alone. Writes a model in the format of transformers.

    Args:
        store: a prepared store.
        out: the folder to write, for --system.vision.weights of the recipe.
        recipe: the one that it is for, which gives sizes and image geometry.
        epochs: passes over the views.
        batch: views per step.
        learning_rate: the highest; it rises first and falls to 0.
        weights: those it starts from: none, a name on the Hugging Face hub, or a folder.
        seed: of all that is random.
        threads: CPU threads; 0 takes all.
        device: where to run.
        progress: show a progress bar.
    """
    from dataclasses import replace

    from radscribe.recipes import get_recipe
    from radscribe.studies.store import PreparedStore
    from radscribe.training.masked_autoencoder import summary
    from radscribe.training.masked_autoencoder import train_masked_autoencoder as train_autoencoder
    from radscribe.training.view_training import ViewTraining

    config = get_recipe(recipe).build()
    if not hasattr(config.system, "vision"):
        raise RadScribeError(
            f"the recipe '{recipe}' has no masked autoencoder", "Pass one such as bidirectional/phantom"
        )
    facts = train_autoencoder(
        PreparedStore(store),
        out,
        vision=replace(config.system.vision, weights=weights),
        data=config.data,
        training=ViewTraining(
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            threads=threads,
            device=device,
            progress=progress,
        ),
    )
    print(summary(facts))
    print(f"masked autoencoder: {out}; {NOTICE}")


def pretrain_lm(
    store: Path,
    *,
    out: Path,
    size: str = "1m",
    text: list[str] | None = None,
    section: str = "findings",
    cleaning: str = "iu_xray",
    vocabulary_size: int | None = None,
    epochs: int = 8,
    batch: int = 8,
    learning_rate: float | None = None,
    seed: int = 0,
    threads: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    progress: bool = True,
    resume: bool = False,
) -> None:
    """Pretrain a small language model on the reports of a store, for systems with a frozen language model.

    Learns the train split and keeps the weights with the best loss on validation; the test split is left
    alone. Writes a model and a tokenizer in the format of transformers.

    Args:
        store: a prepared store.
        out: the folder to write.
        size: 1m, 8m or 30m: about so many million parameters.
        text: text files to learn from too, a blank line between texts, as in --text A.txt B.txt.
        section: of the reports.
        cleaning: text cleaning of reports and text files, that of the systems to come: iu_xray, mimic_cxr,
            mimic_cxr_r2gengpt or none.
        vocabulary_size: most entries of the tokenizer; by size unless given.
        epochs: most passes over the texts; it stops earlier when validation gets no better.
        batch: texts per step.
        learning_rate: the highest; by size unless given.
        seed: of all that is random.
        threads: CPU threads; 0 takes all.
        device: where to run.
        progress: show a progress bar.
        resume: go on with the training in --out, exactly as if it had not been interrupted.
    """
    from radscribe.studies.store import PreparedStore
    from radscribe.training.pretrain_language_model import Pretraining, pretrain_language_model, summary

    settings = Pretraining(
        size=size,
        section=section,
        cleaning=cleaning,
        vocabulary_size=vocabulary_size,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
    )
    facts = pretrain_language_model(
        PreparedStore(store),
        out,
        settings,
        text=text or (),
        threads=threads,
        device=device,
        resume=resume,
        progress=progress,
    )
    print(summary(facts))
    print(f"language model: {out}; {NOTICE}")


COMMANDS: dict[str, Callable[..., None] | dict[str, Callable[..., None]]] = {
    "prepare": prepare,
    "train": train,
    "pretrain-lm": pretrain_lm,
    "generate": generate,
    "evaluate": evaluate,
    "compare": compare,
    "label": label,
    "page": page,
    "embeddings": embeddings,
    "explain": explain,
    "recipes": recipes,
    "systems": systems,
    "bench": bench,
    "interop": {"check": interop_check, "import": interop_import},
}


#: What has options of its own behind a command and the word that follows it.
COMMANDS_OF_TWO_WORDS: dict[tuple[str, ...], Callable[..., None]] = {
    ("train", "view-classifier"): train_view_classifier,
    ("train", "masked-autoencoder"): train_masked_autoencoder,
    ("bench", "plan"): plan,
}

#: Options whose name may be left out when they stand first.
FIRST_OPTIONS = {"evaluate": "--run", "recipes": "--name"}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. An error that the user can put right is one line on standard error."""
    arguments = [_underscored(each) for each in (sys.argv[1:] if arguments is None else arguments)]
    if len(arguments) > 1 and arguments[0] in FIRST_OPTIONS and not arguments[1].startswith("-"):
        arguments = [arguments[0], FIRST_OPTIONS[arguments[0]], *arguments[1:]]
    try:
        if _names_a_recipe(arguments):
            _train(arguments[1:])
        else:
            command, values = _parse(arguments)
            command(**values)
    except RadScribeError as error:
        print(f"radscribe: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()


def _names_a_recipe(arguments: list[str]) -> bool:
    """Whether the arguments are `train RECIPE ...`, whose options depend on the recipe."""
    if arguments[:1] != ["train"] or not arguments[1:]:
        return False
    return not arguments[1].startswith("-") and tuple(arguments[:2]) not in COMMANDS_OF_TWO_WORDS


def _underscored(argument: str) -> str:
    """`--paper-size` is `--paper_size`: both spellings of an option are habits."""
    option, equals, value = argument.partition("=")
    return (
        option.replace("-", "_").replace("__", "--", 1) + equals + value if option[:2] == "--" else argument
    )


class _Parser(ArgumentParser):
    """A parser whose errors are one line, and whose switches need no value."""

    def add_argument(self, *names: Any, **options: Any) -> Any:
        if options.get("type") is bool:
            del options["type"]
            options["action"] = ActionYesNo(yes_prefix="", no_prefix="no_")
            if "." in names[0]:  # fields take a value too, as all fields do
                options["nargs"] = "?"
        action = super().add_argument(*names, **options)
        if getattr(action, "_typehint", None) in (list[str], list[str] | None):
            action.nargs, action._typehint = "+", str  # `a b c` instead of one list
            action.option_strings = [name for name in action.option_strings if not name.endswith("+")]
        return action

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise RadScribeError(" ".join(message.split()), "See radscribe --help") from ex


def _parser(description: str) -> ArgumentParser:
    return _Parser(description=description, epilog=EPILOG, allow_abbrev=False, print_config=None)


def _command_parser(command: Callable[..., None]) -> ArgumentParser:
    description = inspect.cleandoc(command.__doc__ or "").partition("\nArgs:")[0].strip()
    parser = _parser(description)
    parser.add_function_arguments(command, as_group=False, as_positional=True)
    return parser


def _parse(arguments: list[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """The command function that the arguments name, and what to call it with."""
    if of_two_words := COMMANDS_OF_TWO_WORDS.get(tuple(arguments[:2])):
        parser = _command_parser(of_two_words)
        parser.prog = " ".join([parser.prog, *arguments[:2]])
        return of_two_words, parser.parse_args(arguments[2:]).as_dict()
    parser = _parser("From chest X-ray studies to draft radiology reports.")
    parser.add_argument("--version", action="version", version=f"radscribe {__version__}")
    commands = parser.add_subcommands(required=True)
    for name, command in COMMANDS.items():
        if callable(command):
            commands.add_subcommand(name, _command_parser(command), help=_first_line(command))
            continue
        group = _parser("Released checkpoints and golden tensors.")
        commands.add_subcommand(name, group, help=group.description)
        inner = group.add_subcommands(required=True)
        for inner_name, inner_command in command.items():
            inner.add_subcommand(inner_name, _command_parser(inner_command), help=_first_line(inner_command))
    values = parser.parse_args(arguments)
    chosen, values = COMMANDS[values.subcommand], values[values.subcommand]
    if not callable(chosen):
        chosen, values = chosen[values.subcommand], values[values.subcommand]
    return chosen, values.as_dict()


def _first_line(command: Callable[..., None]) -> str:
    return (command.__doc__ or "").splitlines()[0]


def _train(arguments: list[str]) -> None:
    """`radscribe train RECIPE`: the options of `train` and one for each field of the recipe."""
    from radscribe.recipes import get_recipe
    from radscribe.training.config import add_config_arguments, field_error, from_namespace, to_yaml
    from radscribe.training.run_directory import RunDirectory

    config = get_recipe(arguments[0]).build()
    default_out = Path("runs") / config.recipe.replace("/", "-")
    # A resumed run goes by the configuration that it was begun with.
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--out", type=Path, default=default_out)
    early.add_argument("--resume", action="store_true")
    known, _ = early.parse_known_args(arguments)
    if known.resume:
        config = RunDirectory(known.out).load_config()
    parser = _command_parser(train)
    add_config_arguments(parser, config)
    try:
        values = parser.parse_args(arguments)
        config = from_namespace(config, parser.instantiate_classes(values))
    except (RadScribeError, ValueError) as error:
        raise field_error(error.__cause__ or error, config) from error
    if values.store:
        config.store = str(values.store)
    if values.print_config:
        print(to_yaml(config), end="")
        return
    from radscribe.training.train import train as train_system

    run = train_system(config, values.out or default_out, resume=values.resume, progress=values.progress)
    if run.scores.is_file():
        print(run.scores.read_text(), end="")
    print(f"run directory: {run.path}")
