"""The command line: one function per command. Its signature and docstring are its options and its help.

Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from json import dumps
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from radscribe import NOTICE, __version__
from radscribe.errors import RadScribeError, closest, unknown_name, warn
from radscribe.parsing import EPILOG, Parser, first_line
from radscribe.text.cleaning import CleaningName
from radscribe.text.protocols import ProtocolName

if TYPE_CHECKING:
    from radscribe.evaluation.evaluate import Evaluation
    from radscribe.studies.rejection import Rejection
    from radscribe.studies.study import Study


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
    progress: bool = True,
) -> None:
    """Read studies from any source once, and write a prepared store.

    Resumes where it was interrupted. What cannot be used is listed in STORE/rejected.csv with its reason.
    A source that has changed since the store was prepared is an error, unless --update is given.

    Args:
        source: Folder or file of studies; the word phantom stands for synthetic studies.
        out: Prepared store to write.
        reader: Reader of the source; auto chooses it by what the source holds.
        images: Folder of the images, where they do not lie beside the reports.
        columns: Names of your columns for those of RadScribe, as a JSON object such as '{"report": "notes",
            "patient": "subject"}'.
        split_fractions: Shares of patients in train, val and test, where the source has no split.
        seed: Random seed of the split and of the phantom.
        studies: Number of phantom studies to make; 1000 unless given.
        limit: Largest number of studies to read.
        short_side: Length in pixels of the shorter side of each stored view.
        workers: Number of processes that decode images; all CPUs unless given.
        study_pattern: Regular expression whose one group finds the study in the path of an image, as in
            --study_pattern '([^/]+)_[0-9]+[.]png'; for folders, and for tables without a column study.
        patient_pattern: Regular expression whose one group finds the patient in the path of an image; for
            folders, and for tables without a column patient.
        update: Make a store that was prepared before follow its source: add what is new, decode anew what has
            changed, and drop what is gone. Studies that are the same stay in their split.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
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
        progress=progress,
        **{name: value for name, value in options.items() if value is not None},
    )
    print(summary)


def generate(
    run: Path,
    source: list[str],
    *,
    out: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    split: str | None = None,
    batch: int = 16,
    n_best: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    decoding: dict[str, Any] | None = None,
    progress: bool = True,
) -> None:
    """Draft reports with a trained run: one line of JSON per study, which also says where it comes from.

    Studies that cannot be read are named on standard error and left out; the others are drafted. A file is
    written whole or not at all; what an interrupted command has drafted is kept in OUT.partial.

    Args:
        run: The run directory of a trained system.
        source: Prepared stores, folders of images, tables of studies, or single image files.
        out: File to write the drafts to, .jsonl or .csv; without it they are printed as JSON Lines.
        overwrite: Replace the file if it is there.
        resume: Go on with an interrupted command; it ends with the same file.
        split: Split to draft where the source is a prepared store: train, val, test or all; without it all
            studies are drafted.
        batch: Number of studies that are decoded at the same time.
        n_best: Number of drafts for each study, best first; at most as many as the decoding has beams.
            Without it the number of the run is taken, which is usually 1.
        device: Device to compute on; auto takes a GPU where there is one.
        decoding: Fields of the run's decoding to change, as a JSON object such as '{"beams": 5,
            "minimum_length": 20}'.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.runs.draft_file import DraftFile, print_drafts, write_draft_file
    from radscribe.studies.given import given_studies

    if out is None and (overwrite or resume):
        raise RadScribeError("--overwrite and --resume go with --out FILE")
    if batch < 1:
        raise RadScribeError(f"--batch {batch} is no number of studies", "Give 1 or more")
    changes = dict(decoding or {})
    if n_best is not None and changes.setdefault("n_best", n_best) != n_best:
        raise RadScribeError(f"--n_best {n_best} and --decoding say different things", "Give one of them")
    target = DraftFile(out, overwrite=overwrite, resume=resume) if out else None
    from radscribe.runs.trained_system import load

    rejections: list[Rejection] = []
    trained = load(run, device)
    studies = list(given_studies(source, rejections.append, split=split))
    if target:
        written = write_draft_file(
            target, trained, studies, batch, rejections.append, progress=progress, **changes
        )
    else:
        written = print_drafts(trained, studies, batch, rejections.append, **changes)
    for rejection in rejections:
        print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)
    if not written:
        reasons = [rejection.reason for rejection in rejections] or ["there is none"]
        more = f", and {len(reasons) - 1} more are rejected" if len(reasons) > 1 else ""
        raise RadScribeError(f"no study of {', '.join(source)} could be drafted: {reasons[0]}{more}")
    if out:
        print(f"{written} drafts in {out}, {len(rejections)} rejected; {NOTICE}", file=sys.stderr)
    if caution := trained.caution:
        print(f"CAUTION: {run} was {caution}", file=sys.stderr)


def evaluate(
    run: Path | None = None,
    *,
    store: Path | None = None,
    split: str | None = None,
    predictions: Path | None = None,
    references: Path | None = None,
    protocol: ProtocolName | None = None,
    cleaning: CleaningName | None = None,
    section: str | None = None,
    vocabulary: Path | None = None,
    tokenizer: str | None = None,
    maximum_length: int | None = None,
    resamples: int = 1000,
    meteor: bool = True,
    draft_labels: Path | None = None,
    reference_labels: Path | None = None,
    drafts: Path | None = None,
    full: bool = False,
    json: bool = False,
    progress: bool = True,
) -> None:
    """Score drafts: of a run on a split of a store, or of any system from two files.

    Prints the usual scores (BLEU, METEOR where Java is there, ROUGE-L, CIDEr, clinical F1) with 95%
    intervals beside those of the baselines, and says in words whether the system beats these. --full prints
    every score, every difference, each observation, and the rules under which all were computed. The scores
    of a run are kept in its directory, where 'radscribe page' finds them.

    Args:
        run: A run directory. Its drafts of the split are made and scored.
        store: The prepared store to score a run on; the store that it was trained on unless given. With
            --predictions: a store with the same studies, whose train split the baselines learn from.
        split: The split to score a run on: train, val, test or all; test unless given.
        predictions: Drafts of any system, in place of a run: a JSON Lines file, each line with an id and a
            text.
        references: The reports that --predictions are scored against: such a file with the same ids.
        protocol: The text rules to score under: r2gen, r2gengpt, clean_full or raw. A run is scored under its
            own unless this is given; --predictions need it.
        cleaning: The text cleaning for --predictions: iu_xray, mimic_cxr, mimic_cxr_r2gengpt or none; iu_xray
            unless given.
        section: The report section that the baselines copy, for --predictions with --store; findings unless
            given.
        vocabulary: The vocabulary.json of a run, for --predictions under the protocol r2gen.
        tokenizer: The language model, by folder or hub name, whose tokens references are cut at, for
            --predictions under the protocol r2gengpt.
        maximum_length: The length at which references are cut, for --predictions under the protocols r2gen
            (in words, begin and end counted) and r2gengpt (in tokens); 60 unless given.
        resamples: How often the studies are resampled for intervals and p-values, from 1 to 100000.
        meteor: Also compute METEOR, for which Java takes some ten seconds to start.
        draft_labels: Observation labels of --predictions in place of RadScribe's own: a CSV file of CheXpert
            or CheXbert with a column study_id. It needs --reference_labels.
        reference_labels: Observation labels of --references, by the same labeller as --draft_labels.
        drafts: A file to write the run's drafts to as well.
        full: Print all tables instead of the summary.
        json: Print everything as JSON instead of the summary.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.evaluation.bootstrap import check_resamples
    from radscribe.evaluation.summary import short_summary
    from radscribe.runs.file_scoring import FileScoring, refuse_ignored, score_files

    if (run is None) == (predictions is None):
        raise RadScribeError(
            "evaluate needs either a run or --predictions with --references",
            "Type: radscribe evaluate RUN, or radscribe evaluate --predictions FILE --references FILE",
        )
    check_resamples(resamples)
    if full and json:
        raise RadScribeError("--full has no effect with --json, which has everything", "Leave out --full")
    closing = "Every score, difference and rule: the same command with --full"
    if run is not None:
        refuse_ignored(
            "on a run, which is scored by its own rules",
            references=references,
            cleaning=cleaning,
            section=section,
            vocabulary=vocabulary,
            tokenizer=tokenizer,
            maximum_length=maximum_length,
            draft_labels=draft_labels,
            reference_labels=reference_labels,
        )
        evaluation, kept = _evaluate_run(
            run,
            store,
            split or "test",
            protocol,
            drafts,
            meteor=meteor,
            resamples=resamples,
            progress=progress,
        )
        closing = f"{closing}. {kept}"
    else:
        refuse_ignored("with --predictions", split=split, drafts=drafts)
        if predictions is None or references is None or protocol is None:
            raise RadScribeError(
                "--predictions needs --references and --protocol (r2gen, r2gengpt, clean_full or raw)",
                "Type: radscribe evaluate --predictions FILE --references FILE --protocol clean_full",
            )
        scoring = FileScoring(
            protocol=protocol,
            cleaning=cleaning,
            section=section,
            vocabulary=vocabulary,
            tokenizer=tokenizer,
            maximum_length=maximum_length,
            store=store,
            draft_labels=draft_labels,
            reference_labels=reference_labels,
        )
        scoring.check()
        evaluation = score_files(predictions, references, scoring, resamples=resamples, meteor=meteor)
    if json:
        print(dumps(evaluation.to_json(), indent=2))
    else:
        print(f"{evaluation if full else short_summary(evaluation)}\n{closing}")


def _evaluate_run(
    path: Path,
    store: Path | None,
    split: str,
    protocol: ProtocolName | None,
    drafts: Path | None,
    **options: Any,
) -> tuple[Evaluation, str]:
    """Score a run, keep its scores, and say where they are."""
    from radscribe.files import check_output
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.runs.scoring import keep_scores, score_run, write_drafts

    run = RunDirectory(path)
    prepared = run.open_store(store)
    run.check_weights()
    if drafts:
        check_output(drafts, b'"logprob": ', "drafts")
        if not drafts.parent.is_dir():
            raise RadScribeError(f"cannot write drafts to '{drafts}'", "Give a file in a folder that exists")
    rejections: list[Rejection] = []
    evaluation, made = score_run(
        run, prepared, split, protocol=protocol, on_rejection=rejections.append, **options
    )
    for rejection in rejections:
        print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)
    if drafts:
        write_drafts(made, drafts)
    try:
        return evaluation, keep_scores(run, prepared, split, evaluation, made)
    except RadScribeError as error:  # hours of drafting are not lost to a full disk
        warn(str(error), "They are printed, and not kept")
        return evaluation, "Not kept"


def compare(
    groups: list[str],
    *,
    store: Path | None = None,
    split: str = "test",
    protocol: ProtocolName | None = None,
    scores: list[str] | None = None,
    resamples: int = 1000,
    json: bool = False,
    progress: bool = True,
) -> None:
    """Score runs, or groups of runs with different seeds, and compare each group with the first one.

    Prints the mean over a group's runs with a 95% interval, its lowest and highest run, and the difference to
    the first group with two p-values: from resampling the studies, and from Welch's t-test over the runs. A
    difference is called clear where both are below .05. The second test needs three runs in each group.

    Args:
        groups: Two or more runs, or groups of runs as NAME=RUN,RUN,RUN. The others are compared with the
            first.
        store: The store to score on; each run's own store unless given.
        split: The split to score: train, val, test or all.
        protocol: The text rules to score under; each run's own unless given.
        scores: The scores to compare, as in --scores BLEU-4 "micro F1 (14, as_present)"; the usual ones
            unless given.
        resamples: How often the studies are resampled for intervals and p-values, from 1 to 100000.
        json: Print JSON instead of a table.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.evaluation.bootstrap import check_resamples
    from radscribe.evaluation.comparison import check_score_names, compare_groups, parse_groups

    parsed = parse_groups(groups)
    if len(parsed) < 2:
        raise RadScribeError("there is nothing to compare", "Give at least two runs, or groups NAME=RUN,RUN")
    check_score_names(scores or ())
    check_resamples(resamples)
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.runs.scoring import score_run

    # What is amiss with any run comes to light before the first is scored.
    opened = {
        name: [(run, run.open_store(store)) for run in map(RunDirectory, runs)]
        for name, runs in parsed.items()
    }
    for members in opened.values():
        for run, prepared in members:
            run.check_weights()
            prepared.studies(split)
    evaluated: dict[str, list[Evaluation]] = {}
    chosen: dict[str, list[int | None]] = {}
    for name, members in opened.items():
        evaluated[name], chosen[name] = [], []
        for run, prepared in members:
            evaluation, _ = score_run(
                run,
                prepared,
                split,
                protocol=protocol,
                meteor=False,
                resamples=resamples,
                progress=progress,
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

    Reports must be in English. A text with too few known English words is unreadable, and is not labelled.

    Args:
        file: A file with one report per line; - reads standard input.
        json: Print one JSON object per report: its states, and the words that decided each of them.
    """
    from radscribe.text.observation_labeller import label_report

    texts = unreadable = 0
    for line in _lines(file):
        labels = label_report(line)
        print(dumps(labels.to_json()) if json else labels)
        texts += 1
        unreadable += labels.unreadable
    if not texts:
        raise RadScribeError(f"{_named(file)} has no text", "Write one report per line")
    if unreadable:
        warn(
            f"{unreadable} of {texts} texts are unreadable: they have too few known English words",
            "They are not labelled, for the labeller knows English only",
        )


def _named(file: str) -> str:
    return "standard input" if file == "-" else f"'{file}'"


def _lines(file: str) -> Iterator[str]:
    """The lines of a text file, or of standard input as they come.

    Raises:
        RadScribeError: there is no such file or no standard input, or a line that is no text.
    """
    from io import StringIO

    from radscribe.files import read_text

    if file == "-" and sys.stdin is None:
        raise RadScribeError("standard input is closed", "Give a file, or pipe texts into this command")
    lines = (
        (line.decode("utf-8", errors="replace") for line in sys.stdin.buffer)
        if file == "-"
        else StringIO(read_text(Path(file)))
    )
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise RadScribeError(f"{_named(file)} is no text file: line {number} holds a NUL byte")
        yield line.rstrip("\r\n")


def page(
    run: Path,
    *,
    out: Path,
    store: Path | None = None,
    split: str = "test",
    studies: int = 12,
    progress: bool = True,
) -> None:
    """Write one HTML page about a run: drafts beside images and masks, the loss curve, and the scores.

    Args:
        run: The run directory of a trained system.
        out: HTML file to write.
        store: Prepared store with the studies; without it the store that the run was trained on is used.
        split: Split whose drafts are shown: train, val, test or all.
        studies: Number of studies to show.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.pages.run_page import write_run_page

    write_run_page(run, out, store=store, split=split, studies=studies, progress=progress)
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
    progress: bool = True,
) -> None:
    """Draft studies and show where the run looked as it wrote each word: PNG files and one HTML page.

    Shows what the system has of these: cross-attention of each word, visual and textual discriminative maps
    (VDM and TDM), class activation maps with probabilities, important words, memory vectors. Studies that
    cannot be read are named on standard error and left out.

    Args:
        run: The run directory of a trained system.
        out: Folder to write; open its index.html.
        study: Ids of studies in the store, separated by spaces.
        images: Image files to explain instead of studies of the store; each file is a study of its own.
        together: Take all files of --images as the views of one study.
        store: Prepared store with the studies; without it the store that the run was trained on is used.
        words: Words of the drafts for which PNG files are written. Without it these are the words that the
            system itself selects as important, or else the words that name an observation. The page always
            shows all words.
        layer: Decoder layer whose attention the PNG files show, counted from 1; without it the last layer is
            shown.
        heads: Attention head that the PNG files show: mean or max over all heads, or the number of one head,
            counted from 1.
        device: Device to compute on; auto takes a GPU where there is one.
        decoding: Fields of the run's decoding to change, as a JSON object such as '{"beams": 5,
            "minimum_length": 20}'.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    if (study is None) == (images is None):
        raise RadScribeError("explain needs either --study ID [ID ...] or --images FILE [FILE ...]")
    if images is not None and store is not None:
        raise RadScribeError("--store goes with --study, not with --images")
    if together and images is None:
        raise RadScribeError("--together goes with --images")
    from radscribe.pages.explanation_page import check_folder, write_explanations
    from radscribe.progress import track
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.runs.trained_system import load
    from radscribe.studies.given import file_id
    from radscribe.studies.study import Study, View

    check_folder(out)
    trained = load(run, device)
    studies: list[Study | Path | str] = list(images or [])
    if study is not None:
        prepared = RunDirectory(run).open_store(store)
        studies = [prepared.study(each) for each in study]
    elif together:
        files = [Path(each) for each in images or []]
        name = file_id(files[0])
        studies = [Study(id=name, patient_id=name, views=tuple(map(View, files)))]
    rejections: list[Rejection] = []
    explained = trained.explain(studies, on_rejection=rejections.append, **(decoding or {}))
    explanations = list(track(explained, len(studies), "explaining", "studies", show=progress))
    for rejection in rejections:
        print(f"rejected {rejection.study_id}: {rejection.reason}", file=sys.stderr)
    if not explanations:
        named = ", ".join(study or images or [])
        reasons = "; ".join(dict.fromkeys(rejection.reason for rejection in rejections))
        raise RadScribeError(f"no study of {named} could be explained: {reasons or 'there is none'}")
    written = write_explanations(
        explanations, out, config=trained.config, words=words, layer=layer, heads=heads
    )
    print(f"look at it: {written.resolve().as_uri()}")
    if caution := trained.caution:
        print(f"CAUTION: {run} was {caution}", file=sys.stderr)


def embeddings(
    runs: list[str],
    *,
    store: Path | None = None,
    split: str = "test",
    out: Path | None = None,
    json: bool = False,
    progress: bool = True,
) -> None:
    """Measure how near visual embeddings lie to words, and whether text to vision reads the report.

    Args:
        runs: Run directories of systems with a frozen language model, or groups of runs written
            NAME=RUN,RUN,RUN.
        store: Prepared store with the studies; without it the store that each run was trained on is used.
        split: Split whose views are measured: train, val, test or all.
        out: File to draw the histograms to; its name ends in .png, .pdf or .svg.
        json: Print JSON instead of text.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.evaluation.comparison import parse_groups
    from radscribe.pages.embedding_distances import (
        EmbeddingDistances,
        check_figure,
        draw_distances,
        embedding_distances,
    )
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.runs.trained_system import load

    if out:
        check_figure(out)
    found = {}
    for name, members in parse_groups(runs).items():
        measured = []
        for member in members:
            studies = RunDirectory(member).open_store(store).studies(split)
            measured.append(embedding_distances(load(member), studies, progress=progress))
        found[name] = EmbeddingDistances.of_runs(measured)
        if not json:
            print(f"{name}: {found[name]}")
    if json:
        print(dumps({name: each.to_json() for name, each in found.items()}, indent=2))
    if out:
        draw_distances(found, out)


def check(path: Path) -> None:
    """Check that a run or a prepared store is whole: reads every file of it, and compares hashes.

    Says what was checked, each part in a line. Exits with 1 if something is damaged.

    Args:
        path: a run directory or a prepared store.
    """
    from radscribe.studies.store_files import MANIFEST

    if (path / MANIFEST).exists():
        from radscribe.studies.check_store import check_store

        found = check_store(path)
    elif (path / "config.yaml").exists() or (path / "run.json").exists():
        from radscribe.runs.check_run import check_run

        found = check_run(path)
    else:
        raise RadScribeError(
            f"'{path}' is neither a run directory nor a prepared store",
            "Give what radscribe train, interop import or prepare wrote",
        )
    for part in found:
        print(part)
    if damaged := [part.part for part in found if part.damaged]:
        print(f"radscribe: '{path}' is damaged: {'; '.join(damaged)}", file=sys.stderr)
        raise SystemExit(1)
    print(f"{path}: OK")


def systems(*, json: bool = False) -> None:
    """List the published systems that can be trained.

    Args:
        json: Print JSON instead of text.
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


def recipes(name: str = "", *, print_config: bool = False, rates: bool = False, json: bool = False) -> None:
    """List the recipes, or show one recipe.

    Args:
        name: Name of one recipe to show; without it all recipes are listed.
        print_config: Print every field of the configuration too.
        rates: Print the learning rates of each epoch. A visual extractor that is frozen has none.
        json: Print JSON instead of text.
    """
    from dataclasses import asdict

    from radscribe.recipes import RECIPES, get_recipe
    from radscribe.runs.config import to_yaml

    if rates:
        from radscribe.training.schedule import rates_table, recipe_rates

    chosen = [get_recipe(name)] if name else list(RECIPES.values())
    if json:
        rows = [
            {"name": each.name, "summary": each.summary, "docs": each.docs}
            | ({"config": asdict(each.build())} if print_config else {})
            | ({"rates": [asdict(epoch) for epoch in recipe_rates(each.build())]} if rates else {})
            for each in chosen
        ]
        print(dumps(rows, indent=2))
        return
    for each in chosen:
        print(f"{each.name}\n  {each.summary}\n  docs/{each.docs}")
        if print_config:
            print(to_yaml(each.build()))
        if rates:
            print(rates_table(recipe_rates(each.build())))


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
    """Measure seconds and peak memory, and print them as ratios within one run.

    decode and train compare a system with its own backbone, memory compares R2Gen's relational memory with
    the loop of the released code, and score compares the metrics with pycocoevalcap. 'radscribe bench plan
    RECIPE' has options of its own: it plans memory and time of a recipe with a frozen language model on a GPU
    that is not there.

    Args:
        task: What to measure: decode (drafting, every token forced), train (forward and backward pass and
            optimiser step), memory (R2Gen's relational memory) or score (the metrics).
        system: System to measure with decode and train; 'radscribe systems' lists the names.
        variant: Variant of the system's recipe, such as base; without it the paper's full system is measured.
        batch: Number of studies that are processed at the same time.
        views: Number of views per study.
        beam: Number of beams of the decoding.
        length: Number of tokens of a report.
        threads: Number of CPU threads.
        repeats: Number of measured repetitions; their median is printed.
        paper_size: Measure the system at the paper's size; otherwise at the size of the phantom recipe.
        pairs: Number of pairs of draft and reference that score measures.
        resamples: Number of bootstrap resamples that score measures.
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
    """Plan memory and time of a recipe with a frozen language model on a GPU that is not there.

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

    accelerator = Accelerator(memory_gb=memory_gb, bandwidth_tb=bandwidth_tb, teraflops=teraflops)
    print(dumps(bench_plan(recipe, accelerator, language_model=language_model), indent=2))


def interop_check(golden: Path) -> None:
    """Build a released architecture from a golden file and compare; a difference gives exit code 1.

    Args:
        golden: A .safetensors file with configuration, weights, inputs and outputs.
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
        system: System that the checkpoint belongs to; 'radscribe systems' lists the names.
        checkpoint: The released checkpoint file, such as model.pth.
        annotation: The annotation.json that the checkpoint was trained with; the vocabulary is made from it.
        out: Run directory to write.
        dataset: Data set whose released recipe the checkpoint was trained with.
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
    full: bool = False,
    progress: bool = True,
) -> None:
    """Train a recipe, choose its weights on the validation split, and score the test split once.

    Every field of the recipe is an option, as in --training.epochs 10 or --system.top_k 64. 'radscribe train
    RECIPE --help' lists the fields and 'radscribe recipes' lists the recipes. Two trainings have options of
    their own: 'radscribe train view-classifier' trains a classifier of frontal and lateral views, and
    'radscribe train masked-autoencoder' trains a vision encoder to start from.

    Args:
        recipe: Name of the recipe; 'radscribe recipes' lists the names.
        out: Run directory to write; without it runs/RECIPE is written.
        store: Prepared store to train on.
        resume: Go on with the interrupted run in --out, with the same result as if it had not been
            interrupted.
        print_config: Print the full configuration and stop.
        full: Print all tables of scores at the end instead of the summary.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
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

    It learns from the views of the train split whose projection is known, and prints how many views of the
    val split it recognises; the test split is not used.

    Args:
        store: Prepared store to learn from.
        out: Directory to write; pass it to a recipe with --data.view_classifier.
        epochs: Number of passes over the training views.
        batch: Number of views per training step.
        learning_rate: Learning rate at the start; it falls to 0.
        architecture: Convolutional network, by its name in timm.
        weights: Weights to start from: none (random weights), the tag of published weights, or a file.
        seed: Random seed of the weights, the order of views and the crops.
        threads: Number of CPU threads; 0 takes all CPUs.
        device: Device to compute on; auto takes a GPU where there is one.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.pretraining.loop import ViewTraining
    from radscribe.pretraining.view_classifier import summary
    from radscribe.pretraining.view_classifier import train_view_classifier as train_classifier
    from radscribe.studies.store import PreparedStore
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

    It learns to draw the patches that are left out of the views of the train split, and prints how well it
    does so on the val split; the test split is not used. It writes a model in the format of transformers.

    Args:
        store: Prepared store to learn from.
        out: Folder to write; pass it to a recipe with --system.vision.weights.
        recipe: Recipe that the encoder is for; it gives the sizes and the image geometry.
        epochs: Number of passes over the training views.
        batch: Number of views per training step.
        learning_rate: Highest learning rate; it rises to this and then falls to 0.
        weights: Weights to start from: none (random weights), a name on the Hugging Face hub, or a folder.
        seed: Random seed of the weights, the order of views, the crops and the masks.
        threads: Number of CPU threads; 0 takes all CPUs.
        device: Device to compute on; auto takes a GPU where there is one.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from dataclasses import replace

    from radscribe.pretraining.loop import ViewTraining
    from radscribe.pretraining.masked_autoencoder import summary
    from radscribe.pretraining.masked_autoencoder import train_masked_autoencoder as train_autoencoder
    from radscribe.recipes import get_recipe
    from radscribe.studies.store import PreparedStore
    from radscribe.vision.masked_autoencoder import MaskedAutoencoderConfig

    config = get_recipe(recipe).build()
    components = config.system.components
    sizes = next((part for part in components if isinstance(part, MaskedAutoencoderConfig)), None)
    if sizes is None:
        raise RadScribeError(
            f"the recipe '{recipe}' has no masked autoencoder", "Pass one such as bidirectional/phantom"
        )
    facts = train_autoencoder(
        PreparedStore(store),
        out,
        vision=replace(sizes, weights=weights),
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
    size: Literal["1m", "8m", "30m"] = "1m",
    text: list[str] | None = None,
    section: str = "findings",
    cleaning: CleaningName = "iu_xray",
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

    It learns the train split and keeps the weights with the lowest loss on the validation split; the test
    split is not used. It writes a model and a tokenizer in the format of transformers.

    Args:
        store: Prepared store whose reports are learnt.
        out: Folder to write.
        size: Size of the model: about this many million parameters.
        text: Text files to learn from too, separated by spaces; in a file a blank line separates two texts.
        section: Report section to learn; several sections are joined by ' + '.
        cleaning: Text cleaning of reports and text files; take that of the systems that will use the model.
        vocabulary_size: Largest number of entries of the tokenizer; without it the size decides.
        epochs: Largest number of passes over the texts; training stops earlier when validation gets no
            better.
        batch: Number of texts per training step.
        learning_rate: Highest learning rate; without it the size decides.
        seed: Random seed of everything that is random in the training.
        threads: Number of CPU threads; 0 takes all CPUs.
        device: Device to compute on; auto takes a GPU where there is one.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
        resume: Go on with the interrupted training in --out, with the same result as if it had not been
            interrupted.
    """
    from radscribe.pretraining.language_model import Pretraining, pretrain_language_model
    from radscribe.pretraining.language_model_card import summary
    from radscribe.studies.store import PreparedStore

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
    "check": check,
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

#: A whole command line of each command, which its help shows.
EXAMPLES: dict[str, str] = {
    "prepare": "radscribe prepare my_studies/reports.csv --out stores/mine",
    "train": "radscribe train r2gen-cmn/phantom --store stores/mine --out runs/mine",
    "train view-classifier": "radscribe train view-classifier --store stores/mine --out runs/views",
    "train masked-autoencoder": "radscribe train masked-autoencoder --store stores/mine --out runs/encoder",
    "pretrain-lm": "radscribe pretrain-lm stores/mine --out language-models/mine",
    "generate": "radscribe generate runs/mine my_studies/images --out drafts.jsonl",
    "evaluate": "radscribe evaluate runs/mine --split test",
    "compare": "radscribe compare base=runs/base-1,runs/base-2 mine=runs/mine-1,runs/mine-2",
    "label": "radscribe label reports.txt --json",
    "page": "radscribe page runs/mine --out page.html",
    "embeddings": "radscribe embeddings runs/mine --out distances.png",
    "explain": "radscribe explain runs/mine --images chest-pa.png --out where",
    "check": "radscribe check runs/mine",
    "recipes": "radscribe recipes r2gen-cmn/phantom --print_config",
    "systems": "radscribe systems",
    "bench": "radscribe bench decode --system r2gen --no_paper_size",
    "bench plan": "radscribe bench plan bidirectional/iu-xray",
    "interop check": "radscribe interop check golden.safetensors",
    "interop import": "radscribe interop import r2gen model.pth --annotation annotation.json --out runs/x",
}

#: What `radscribe --help` says to do first.
START = """\
Start here, with a synthetic data set:
  radscribe prepare phantom --out stores/phantom --studies 400
  radscribe train r2gen-cmn/phantom --store stores/phantom --out runs/phantom
  radscribe page runs/phantom --out phantom.html"""

#: What each task of `bench` takes.
TASK_OPTIONS: dict[str, set[str]] = {
    "decode": {"system", "variant", "batch", "views", "beam", "length", "threads", "repeats", "paper_size"},
    "train": {"system", "variant", "batch", "views", "length", "threads", "repeats", "paper_size"},
    "memory": {"batch", "length", "threads", "repeats"},
    "score": {"pairs", "resamples"},
}

#: Dashes that word processors and chat programs make of hyphens.
LONG_DASH = re.compile("[‐‑‒–—―−]+-*(?=[a-z])")

#: Exit codes: Ctrl-C, and a fault of the program.
INTERRUPTED, INTERNAL_ERROR = 130, 70


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. An error that the user can put right is one line on standard error.

    Args:
        arguments: the words behind `radscribe`; those of the process unless given.

    Raises:
        SystemExit: with code 2 where the user can put something right, 130 after Ctrl-C, and 70 for a fault
            of the program. With the environment variable RADSCRIBE_TRACEBACK such a fault is raised itself.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _run(arguments)
    except RadScribeError as error:
        _end(str(error), error.exit_code, error)
    except KeyboardInterrupt as error:
        _end("interrupted", INTERRUPTED, error)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        _drop_output()
    except OSError as error:
        _drop_output()
        _end(_said_of_file(error, arguments), 2, error)
    except Exception as error:
        if os.environ.get("RADSCRIBE_TRACEBACK"):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        hint = "Please report it. RADSCRIBE_TRACEBACK=1 in front of the command shows where it happened"
        _end(f"internal error ({reason}). {hint}", INTERNAL_ERROR, error)


def _run(arguments: list[str]) -> None:
    for argument in arguments:
        if "\0" in argument:
            raise RadScribeError("an argument holds a NUL character", "Check the paths of the command")
        if dash := LONG_DASH.match(argument):
            raise RadScribeError(
                f"'{argument}' begins with a long dash", f"Type --{argument[dash.end() :]} with two hyphens"
            )
    if sys.stdin is None and "-" in arguments:
        raise RadScribeError("standard input is closed", "Give a file, or < FILE")
    if sys.stdout is None:
        raise RadScribeError("standard output is closed", "Write to a file, as in > FILE")
    with suppress(AttributeError):  # what a terminal cannot show is written as \uXXXX
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if _names_a_recipe(arguments):
        _train(arguments[1:])
    else:
        command, values = _parse(arguments)
        if command is train:
            raise RadScribeError("the recipe stands right behind train", f"Example: {EXAMPLES['train']}")
        command(**values)
    sys.stdout.flush()


def _end(message: str, code: int, error: BaseException) -> NoReturn:
    print(f"radscribe: {message}", file=sys.stderr)
    raise SystemExit(code) from error


def _drop_output() -> None:
    """Give up what standard output does not take: Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _said_of_file(error: OSError, arguments: list[str]) -> str:
    """What the operating system says, and of which file: of what is written where it does not say it."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    if not names and "--out" in arguments[:-1]:
        names = [arguments[arguments.index("--out") + 1]]
    return f"{error.strerror or error}: {' -> '.join(names) or 'standard input or output'}"


def _names_a_recipe(arguments: list[str]) -> bool:
    """Whether the arguments are `train RECIPE ...`, whose options depend on the recipe."""
    if arguments[:1] != ["train"] or not arguments[1:]:
        return False
    return not arguments[1].startswith("-") and tuple(arguments[:2]) not in COMMANDS_OF_TWO_WORDS


def _parse(arguments: list[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """The command function that the arguments name, and what to call it with."""
    words, command = _named_command(arguments)
    parser = _command_parser(command, *words)
    given = parser.parse(arguments[len(words) :])
    _refuse_unused(command, given)
    return command, parser.defaults() | given


def _command_parser(command: Callable[..., None], *words: str) -> Parser:
    return Parser(command, " ".join(["radscribe", *words]), EXAMPLES.get(" ".join(words), ""))


def _commands() -> dict[tuple[str, ...], Callable[..., None]]:
    """All commands by their one or two words."""
    found: dict[tuple[str, ...], Callable[..., None]] = {}
    for name, command in COMMANDS.items():
        if callable(command):
            found[(name,)] = command
            found |= {words: inner for words, inner in COMMANDS_OF_TWO_WORDS.items() if words[0] == name}
        else:
            found |= {(name, word): inner for word, inner in command.items()}
    return found


def _named_command(arguments: list[str]) -> tuple[tuple[str, ...], Callable[..., None]]:
    """The words and the function of the command that the arguments name."""
    commands = _commands()
    for count in (2, 1):
        if (words := tuple(arguments[:count])) in commands:
            return words, commands[words]
    group = tuple(word for word in arguments[:1] if word in COMMANDS)  # such as `interop`
    commands = {words: command for words, command in commands.items() if words[: len(group)] == group}
    program = " ".join(["radscribe", *group])
    word = "".join(arguments[len(group) : len(group) + 1])
    if word in ("-h", "--help"):
        print(_overview(program, commands))
        raise SystemExit(0)
    if word == "--version" and not group:
        print(f"radscribe {__version__}")
        raise SystemExit(0)
    known = {words[len(group)] for words in commands}
    if word.startswith("-"):
        close = closest(word.lstrip("-"), ["help", "version"])
        suggestion = f"Did you mean --{close[0]}? " if close else ""
        raise RadScribeError(f"{program} has no option {word}", f"{suggestion}See {program} --help")
    if not word:
        raise RadScribeError(f"{program} needs a command", f"Known: {', '.join(sorted(known))}")
    raise unknown_name("command", word, known)


def _overview(program: str, commands: dict[tuple[str, ...], Callable[..., None]]) -> str:
    """The help of `radscribe`, or of a command that is only the first of two words."""
    names = {" ".join(words): first_line(command) for words, command in commands.items()}
    wide = max(map(len, names)) + 4
    width = get_terminal_size().columns - 2
    lines = [
        fill(text, width, initial_indent=f"  {name}".ljust(wide), subsequent_indent=" " * wide)
        for name, text in names.items()
    ]
    parts = [
        f"usage: {program} COMMAND [options]",
        "From chest X-ray studies to draft radiology reports.",
        *([START] if program == "radscribe" else []),
        "\n".join(["Commands; put --help behind one to see its options:", *lines]),
        fill(EPILOG, width),
    ]
    return "\n\n".join(parts)


def _refuse_unused(command: Callable[..., None], given: dict[str, Any]) -> None:
    """Refuse options that would do nothing beside the others."""
    unused: set[str] = set()
    why = ""
    if command is prepare and "phantom" not in (given["source"], given.get("reader")):
        unused, why = {"studies"}, "that is the number of phantom studies; --limit limits any other source"
    elif command is bench:
        unused, why = (
            set(given) - {"task"} - TASK_OPTIONS[given["task"]],
            f"{given['task']} has no use for it",
        )
    if wrong := [name for name in given if name in unused]:
        raise RadScribeError(f"--{wrong[0]} does nothing here: {why}", f"Leave --{wrong[0]} out")


def _train(arguments: list[str]) -> None:
    """`radscribe train RECIPE`: the options of `train` and one for each field of the recipe."""
    from radscribe.recipes import get_recipe
    from radscribe.runs.config import SECTIONS, nested, override, to_yaml
    from radscribe.runs.run_directory import RunDirectory

    config = get_recipe(arguments[0]).build()
    default_out = Path("runs") / config.recipe.replace("/", "-")
    parser = _command_parser(train, "train")
    parser.help_command = f"radscribe train {config.recipe} --help"
    # A resumed run goes by the configuration that it was begun with.
    early = parser.parse([word for word in arguments if word not in ("-h", "--help")], strict=False)
    out = early.get("out", default_out)
    if early.get("resume") and RunDirectory(out).config.is_file():
        config = RunDirectory(out).load_config()
        if config.recipe != arguments[0]:
            raise RadScribeError(
                f"the run in '{out}' was begun with the recipe {config.recipe}, not {arguments[0]}",
                f"Go on with it: radscribe train {config.recipe} --out {out} --resume",
            )
    for section in SECTIONS:
        parser.add_fields(section, getattr(config, section))
    given = parser.parse(arguments)
    fields = {name: value for name, value in given.items() if name.split(".")[0] in SECTIONS}
    config = override(config, nested(fields))
    values = parser.defaults() | given
    if values["store"]:
        config.store = str(values["store"])
    if values["print_config"]:
        print(to_yaml(config), end="")
        return
    from radscribe.training.train import train as train_system

    run = train_system(
        config, values["out"] or default_out, resume=values["resume"], progress=values["progress"]
    )
    shown = run.scores if values["full"] else run.summary
    if shown.is_file():
        print(shown.read_text(), end="")
        rest = f"{run.scores} has every score; " if not values["full"] else ""
        print(f"{rest}look at the drafts: radscribe page {run.path} --out page.html")
    print(f"run directory: {run.path}")
