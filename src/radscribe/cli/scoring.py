"""Commands that score drafts and show the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from radscribe.cli.output import print_json, print_rejections
from radscribe.errors import RadScribeError
from radscribe.text.cleaning import CleaningName
from radscribe.text.protocols import ProtocolName


def evaluate(
    run: Path | None = None,
    *,
    store: Path | None = None,
    split: str | None = None,
    predictions: Path | None = None,
    references: Path | None = None,
    protocol: ProtocolName | None = None,
    retriever: Path | None = None,
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
    """Score the drafts of a run on a split of a store, or the drafts of any system in a file.

    Prints the usual scores (BLEU, METEOR if Java is installed, ROUGE-L, CIDEr, clinical F1) with 95%
    intervals, the scores of the baselines, and a sentence that says whether the system beats these. --full
    prints every score, every difference, each observation, and the rules under which all were computed. The
    scores of a run are kept in its directory, where 'radscribe page' finds them.

    Args:
        run: Run directory whose drafts of the split are made and scored.
        store: Prepared store to score a run on; without it the store that the run was trained on is used.
            With --predictions: a store with the same studies, from whose train split the baselines learn.
        split: Split to score a run on: train, val, test or all; test unless given.
        predictions: Drafts of any system, which are scored in place of a run: a JSON Lines file with an id
            and a text in each line.
        references: Reference reports for --predictions: a JSON Lines file with the same ids.
        protocol: Protocol (text rules) to score under: r2gen, r2gengpt, clean_full or raw. A run is scored
            under its own protocol unless this is given; --predictions needs this option.
        retriever: Directory of a retriever, made by radscribe pretrain retriever. The report that it finds
            for each study is one more baseline. With --predictions it needs --store.
        cleaning: Text cleaning for --predictions: iu_xray, mimic_cxr, mimic_cxr_r2gengpt or none; iu_xray
            unless given.
        section: Report section that the baselines copy, for --predictions with --store; findings unless
            given.
        vocabulary: File vocabulary.json of a run, for --predictions under the protocol r2gen.
        tokenizer: Folder or hub name of the language model whose tokens references are cut at, for
            --predictions under the protocol r2gengpt.
        maximum_length: Length at which references are cut, for --predictions under the protocols r2gen (in
            words, begin and end counted) and r2gengpt (in tokens); 60 unless given.
        resamples: Number of bootstrap resamples for intervals and p-values, from 1 to 100000.
        meteor: Also compute METEOR; its Java process takes about ten seconds to start.
        draft_labels: Observation labels of --predictions, used instead of RadScribe's own: a CSV file of
            CheXpert or CheXbert with a column study_id. It needs --reference_labels.
        reference_labels: Observation labels of --references, by the same labeller as --draft_labels.
        drafts: Further file to write the drafts of the run to.
        full: Print all tables instead of the summary.
        json: Print everything as JSON instead of the summary.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    if (run is None) == (predictions is None):
        raise RadScribeError(
            "evaluate needs either a run or --predictions with --references",
            "Type: radscribe evaluate RUN, or radscribe evaluate --predictions FILE --references FILE",
        )
    from radscribe.evaluation.bootstrap import check_resamples
    from radscribe.evaluation.summary import short_summary
    from radscribe.runs.file_scoring import FileScoring, refuse_ignored, score_files

    check_resamples(resamples)
    if full and json:
        raise RadScribeError("--full has no effect with --json, which has everything", "Leave out --full")
    closing = "Every score, difference and rule: the same command with --full"
    rules: dict[str, Any] = {
        "cleaning": cleaning,
        "section": section,
        "vocabulary": vocabulary,
        "tokenizer": tokenizer,
        "maximum_length": maximum_length,
        "draft_labels": draft_labels,
        "reference_labels": reference_labels,
    }
    if run is not None:
        refuse_ignored("on a run, which is scored by its own rules", references=references, **rules)
        from radscribe.runs.scoring import score_and_keep

        scored = score_and_keep(
            run,
            store,
            split or "test",
            protocol=protocol,
            retriever=retriever,
            drafts_file=drafts,
            meteor=meteor,
            resamples=resamples,
            progress=progress,
        )
        evaluation, closing = scored.evaluation, f"{closing}. {scored.kept}"
        print_rejections(scored.rejections)
    else:
        refuse_ignored("with --predictions", split=split, drafts=drafts)
        if predictions is None or references is None or protocol is None:
            raise RadScribeError(
                "--predictions needs --references and --protocol (r2gen, r2gengpt, clean_full or raw)",
                "Type: radscribe evaluate --predictions FILE --references FILE --protocol clean_full",
            )
        scoring = FileScoring(protocol=protocol, store=store, retriever=retriever, **rules)
        evaluation = score_files(predictions, references, scoring, resamples=resamples, meteor=meteor)
    if json:
        print_json(evaluation.to_json())
    else:
        print(f"{evaluation if full else short_summary(evaluation)}\n{closing}")


def compare(
    groups: list[str],
    *,
    store: Path | None = None,
    split: str = "test",
    protocol: ProtocolName | None = None,
    references: Path | None = None,
    cleaning: CleaningName | None = None,
    scores: list[str] | None = None,
    resamples: int = 1000,
    out: Path | None = None,
    studies: int | None = None,
    latex: Path | None = None,
    markdown: Path | None = None,
    json: bool = False,
    progress: bool = True,
) -> None:
    """Score runs, groups of runs with different seeds, or files of drafts, and compare each with the first.

    Prints the mean over a group's runs with a 95% interval, its lowest and highest run, and the difference to
    the first group with two p-values: one from resampling the studies, one from Welch's t-test over the runs;
    each is also adjusted by Holm's method for the number of tests. A difference is called clear if both are
    below .05. The second test needs three runs in each group. --out writes one page with everything: scores,
    tests, baselines, observations, localisation, diversity, training curves, parameters, time and memory,
    studies side by side, and the published scores of the papers. Different references are refused.

    Args:
        groups: Two or more runs or draft files, or groups of them as NAME=RUN,RUN,RUN or NAME=FILE. The
            others are compared with the first. A draft file is JSON Lines or CSV with an id and a text, JSON
            of ReXrank, or JSON by id as R2GenGPT writes it.
        store: Prepared store to score on; without it each run's own store is used.
        split: Split to score: train, val, test or all.
        protocol: Protocol (text rules) to score under; without it each run's own protocol is used, and
            clean_full if there is no run.
        references: File of the reference reports, for draft files without a run and without a store.
        cleaning: Text cleaning for draft files without a run: iu_xray, mimic_cxr, mimic_cxr_r2gengpt or none;
            iu_xray unless given.
        scores: Names of the scores to compare, as in --scores BLEU-4 "micro F1 (14, as_present)"; the usual
            ones unless given.
        resamples: Number of bootstrap resamples for intervals and p-values, from 1 to 100000.
        out: HTML file to write: one self-contained page.
        studies: Number of studies to show side by side on the page; 6 unless given.
        latex: File to write the table to as LaTeX, for the package booktabs.
        markdown: File to write the table to as Markdown.
        json: Print JSON instead of a table.
        progress: Show how far it is: a bar on a terminal, otherwise a line every ten seconds.
    """
    from radscribe.evaluation.comparison import parse_groups
    from radscribe.evaluation.comparison_files import LATEX_MARK, MARKDOWN_MARK, latex_table, markdown_table
    from radscribe.files import check_output, replace_file
    from radscribe.runs.comparing import compare_runs
    from radscribe.runs.file_scoring import refuse_ignored

    parsed = parse_groups(groups)
    if len(parsed) < 2:
        raise RadScribeError("there is nothing to compare", "Give at least two runs, or groups NAME=RUN,RUN")
    if out:
        from radscribe.pages.comparison_page import STUDIES_SHOWN, check_comparison_page, save_comparison_page

        shown = STUDIES_SHOWN if studies is None else studies
        check_comparison_page(out, shown)
    else:
        refuse_ignored("without --out", studies=studies)
    if latex:
        check_output(latex, LATEX_MARK.encode(), "a LaTeX table", "--latex")
    if markdown:
        check_output(markdown, MARKDOWN_MARK.encode(), "a Markdown table", "--markdown")
    compared = compare_runs(
        parsed,
        store=store,
        split=split,
        protocol=protocol,
        references=references,
        cleaning=cleaning,
        scores=scores or (),
        resamples=resamples,
        progress=progress,
    )
    if json:
        print_json(compared.to_json())
    else:
        print(compared)
    if latex:
        replace_file(latex, latex_table(compared.comparison), "Choose another --latex")
    if markdown:
        replace_file(markdown, markdown_table(compared.comparison), "Choose another --markdown")
    if out:
        save_comparison_page(compared, out, studies=shown)
        if not json:
            print(f"look at it: {out.resolve().as_uri()}")


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


def embeddings(
    runs: list[str],
    *,
    store: Path | None = None,
    split: str = "test",
    out: Path | None = None,
    json: bool = False,
    progress: bool = True,
) -> None:
    """Measure distances of visual embeddings to word embeddings, and whether text to vision reads the report.

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
    from radscribe.pages.embedding_distances import check_figure, distances_of_groups, draw_distances

    if out:
        check_figure(out)
    found = {}
    groups = parse_groups(runs)
    for name, distances in distances_of_groups(groups, store=store, split=split, progress=progress):
        found[name] = distances
        if not json:
            print(f"{name}: {distances}")
    if json:
        print_json({name: distances.to_json() for name, distances in found.items()})
    if out:
        draw_distances(found, out)
