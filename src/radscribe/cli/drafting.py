"""Commands that draft reports with a trained run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from radscribe.about import NOTICE
from radscribe.cli.output import (
    print_caution,
    print_json,
    print_notes,
    print_rejections,
    print_studies,
    warn_of_unlike,
)
from radscribe.errors import RadScribeError

if TYPE_CHECKING:
    from radscribe.studies.given import Given
    from radscribe.studies.rejection import Rejection


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
    chest_only: bool = True,
    read_text: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    decoding: dict[str, Any] | None = None,
    progress: bool = True,
) -> None:
    """Draft reports with a trained run: one line of JSON per study, which also names the run.

    Studies that cannot be read are named on standard error and left out; the others are drafted. Named there,
    too, are studies that are unlike the images that the run learnt from. A file is written whole or not at
    all; the drafts of an interrupted command are kept in OUT.partial.

    Args:
        run: The run directory of a trained system.
        source: Prepared stores, folders of images, tables of studies, or single image files; of DICOM files
            also zip archives and a DICOMDIR.
        out: File to write the drafts to, .jsonl or .csv; without it they are printed as JSON Lines.
        overwrite: Replace the file if it is there.
        resume: Go on with an interrupted command; it ends with the same file.
        split: Split to draft where the source is a prepared store: train, val, test or all; without it all
            studies are drafted.
        batch: Number of studies that are decoded at the same time.
        n_best: Number of drafts for each study, best first; at most as many as the decoding has beams.
            Without it the number of the run is taken, which is usually 1.
        chest_only: Refuse DICOM files that are no radiographs of the chest by their tags or their pixels;
            --no_chest_only takes every DICOM file with pixels.
        read_text: Read text in the pixels of each view, and note views with a name, an id or a date; needs
            the extra ocr.
        device: Device to compute on; auto takes a GPU where there is one.
        decoding: Fields of the run's decoding to change, as a JSON object such as '{"beams": 5,
            "minimum_length": 20}'.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.runs.draft_file import DraftFile, print_drafts, write_draft_file
    from radscribe.studies.given import given_studies
    from radscribe.studies.opening import Opening

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
    opening = Opening(chest_only, read_text)
    studies = list(given_studies(source, rejections.append, split=split, opening=opening))
    if target:
        written = write_draft_file(
            target,
            trained,
            studies,
            batch,
            rejections.append,
            opening=opening,
            progress=progress,
            **changes,
        )
    else:
        written = print_drafts(trained, studies, batch, rejections.append, **changes)
    print_rejections(rejections)
    if not written.drafts:
        reasons = [rejection.reason for rejection in rejections] or ["there is none"]
        more = f", and {len(reasons) - 1} more are rejected" if len(reasons) > 1 else ""
        raise RadScribeError(f"no study of {', '.join(source)} could be drafted: {reasons[0]}{more}")
    print_notes(written.notes)
    warn_of_unlike(run, written.unlike)
    if out:
        print(f"{written.drafts} drafts in {out}, {len(rejections)} rejected; {NOTICE}", file=sys.stderr)
    print_caution(run, trained)


def retrieve(
    retriever: Path,
    source: list[str],
    *,
    count: int = 5,
    own: bool = False,
    json: bool = False,
    split: str | None = None,
    chest_only: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Print the reports of a retriever's train split that are most similar to the images of each study.

    Of the reports with the same text, one is printed. Studies that cannot be read are named on standard error
    and left out.

    Args:
        retriever: Directory that 'radscribe pretrain retriever' wrote.
        source: Prepared stores, folders of images, tables of studies, or single image files; of DICOM files
            also zip archives and a DICOMDIR.
        count: Largest number of reports for each study.
        own: Print reports of a study's own patient too, which are left out otherwise. A patient of the train
            split is known by the ids of study and patient, and by the pixels of an image.
        json: Print one JSON object per study, which also says where the reports come from.
        split: Split to take where the source is a prepared store: train, val, test or all; without it all
            studies are taken.
        chest_only: Refuse DICOM files that are no radiographs of the chest by their tags or their pixels;
            --no_chest_only takes every DICOM file with pixels.
        device: Device to compute on; auto takes a GPU where there is one.
    """
    from radscribe.ranges import COUNT, check_options
    from radscribe.runs.retrieved_reports import ReportFinder
    from radscribe.studies.given import given_studies
    from radscribe.studies.opening import Opening

    check_options({"--count": (count, COUNT)})
    rejections: list[Rejection] = []
    finder = ReportFinder.load(retriever, device)
    studies = given_studies(source, rejections.append, split=split, opening=Opening(chest_only))
    found = finder.find(studies, count, exclude_own=not own, on_rejection=rejections.append)
    print_studies(found, source, rejections, json=json)
    print_caution(retriever, finder)


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
    chest_only: bool = True,
    read_text: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    decoding: dict[str, Any] | None = None,
    progress: bool = True,
) -> None:
    """Draft studies and show where the run looked as it wrote each word: PNG files and one HTML page.

    The page shows what the system has of the following: cross-attention of each word, visual and textual
    discriminative maps (VDM and TDM), class activation maps with probabilities, important words, memory
    vectors, phrases that were read, entries that were recalled from memory banks. Studies that cannot be read
    are named on standard error and left out.

    Args:
        run: The run directory of a trained system.
        out: Folder to write; open its index.html.
        study: Ids of studies in the store, separated by spaces.
        images: Image files to explain instead of studies of the store, in DICOM too; each file is a study of
            its own. Folders, tables and archives of DICOM files give all their studies.
        together: Take all files of --images as the views of one study.
        store: Prepared store with the studies; without it the store that the run was trained on is used.
        words: Words of the drafts for which PNG files are written. Without it these are the words that the
            system itself selects as important, or else the words that name an observation. The page always
            shows all words.
        layer: Decoder layer whose attention the PNG files show, counted from 1; without it the last layer is
            shown.
        heads: Attention head that the PNG files show: mean or max over all heads, or the number of one head,
            counted from 1.
        chest_only: Refuse DICOM files that are no radiographs of the chest by their tags or their pixels;
            --no_chest_only takes every DICOM file with pixels.
        read_text: Read text in the pixels of each view, and note views with a name, an id or a date; needs
            the extra ocr.
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
    from radscribe.runs.draft_file import Written
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.runs.trained_system import load
    from radscribe.studies.given import given_studies
    from radscribe.studies.opening import Opening

    check_folder(out)
    trained = load(run, device)
    studies: list[Given] = [tuple(images or [])] if together else [*(images or [])]
    if study is not None:
        prepared = RunDirectory(run).open_store(store)
        studies = [prepared.study(study_id) for study_id in study]
    rejections: list[Rejection] = []
    opening = Opening(chest_only, read_text)
    found = list(given_studies(studies, rejections.append, opening=opening))
    explained = trained.explain(found, on_rejection=rejections.append, **(decoding or {}))
    explanations = list(track(explained, len(found), "explaining", "studies", show=progress))
    print_rejections(rejections)
    if not explanations:
        named = ", ".join(study or images or [])
        reasons = "; ".join(dict.fromkeys(rejection.reason for rejection in rejections))
        raise RadScribeError(f"no study of {named} could be explained: {reasons or 'there is none'}")
    written = write_explanations(
        explanations, out, config=trained.config, words=words, layer=layer, heads=heads
    )
    summary = Written()
    for explanation in explanations:
        summary.add(explanation.draft.to_json())
    print_notes(summary.notes)
    warn_of_unlike(run, summary.unlike)
    print(f"look at it: {written.resolve().as_uri()}")
    print_caution(run, trained)


def unlike(
    run: Path,
    source: list[str],
    *,
    store: Path | None = None,
    json: bool = False,
    batch: int = 16,
    chest_only: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Print how unlike the images that a run learnt from the studies of each source are; nothing is drafted.

    The run's own test split is measured too. For each source: the median share of training studies that are
    less unlike, the share of studies that drafting flags, and the area under the curve (AUC) with which the
    distance tells its studies from those of the test split: 0.5 if it cannot, 1 if it always can.

    Args:
        run: The run directory of a trained system.
        source: Prepared stores, folders of images, tables of studies, or single image files; of DICOM files
            also zip archives and a DICOMDIR.
        store: Prepared store whose test split is measured; without it the store that the run was trained on.
        json: Print the figures as JSON.
        batch: Number of studies that are encoded at the same time.
        chest_only: Refuse DICOM files that are no radiographs of the chest by their tags or their pixels;
            --no_chest_only takes every DICOM file with pixels.
        device: Device to compute on; auto takes a GPU where there is one.
    """
    from radscribe.ranges import BATCH, check_options
    from radscribe.runs.run_directory import RunDirectory
    from radscribe.runs.trained_system import load
    from radscribe.runs.unlike_sources import measure_sources
    from radscribe.studies.opening import Opening

    check_options({"--batch": (batch, BATCH)})
    rejections: list[Rejection] = []
    rows = measure_sources(
        RunDirectory(run),
        load(run, device),
        source,
        store=store,
        batch_size=batch,
        on_rejection=rejections.append,
        opening=Opening(chest_only),
    )
    print_rejections(rejections)
    if not any(row.studies for row in rows[1:]):
        reasons = [rejection.reason for rejection in rejections] or ["there is none"]
        raise RadScribeError(f"no study of {', '.join(source)} could be read: {reasons[0]}")
    if json:
        print_json([row.to_json() for row in rows])
        return
    width = max(len(row.source) for row in rows)
    print(f"{'':{width}}  studies  rejected  median share  flagged    AUC")
    for row in rows:
        share, flagged = ("-" if value is None else f"{value:.1%}" for value in (row.share, row.flagged))
        auc = "-" if row.auc is None else f"{row.auc:.3f}"
        print(
            f"{row.source:{width}}  {row.studies:7,}  {row.rejected:8,}  {share:>12}  {flagged:>7}  {auc:>5}"
        )
