"""The run page: one HTML file with the scores, training curves and drafts of a trained run.

The page is self-contained: images, charts, style and script are in it, and its content security policy
forbids it to load anything. Its scores are read from the metrics of the run. The drafts that it shows are
scored again when it is written, so it never shows drafts that have other scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from radscribe.errors import RadScribeError, unknown_name
from radscribe.evaluation.families import SYSTEM
from radscribe.evaluation.metrics import StudyStatistics, text_statistics
from radscribe.evaluation.result import Evaluation, Provenance
from radscribe.evaluation.text_files import read_texts
from radscribe.files import check_output, replace_file
from radscribe.pages.page_parts import PAGE_MARK, page_file, render
from radscribe.pages.run_page_charts import histogram
from radscribe.pages.run_page_scores import scores_section
from radscribe.pages.run_page_studies import (
    SHARED_RUN,
    DraftedStudy,
    choose_studies,
    study_card,
)
from radscribe.pages.run_page_training import training_section
from radscribe.progress import track
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import SPLITS
from radscribe.text.protocols import get_protocol
from radscribe.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radscribe.runs.config import RunConfig
    from radscribe.runs.run_directory import KeptScores, RunDirectory

_SAME_SCORE = 1e-6


def write_run_page(
    run: Path | str,
    out: Path | str,
    *,
    store: Path | None = None,
    split: str = "test",
    studies: int = 12,
    progress: bool = False,
) -> None:
    """Write one self-contained HTML page that shows a trained run.

    Args:
        run: Run directory with the drafts and the metrics of the split.
        out: HTML file to write; its folder is made.
        store: Prepared store with the studies; by default the store that the run was trained on.
        split: Split whose drafts are shown: `train`, `val`, `test` or `all`.
        studies: Number of studies to show; see `choose_studies`.
        progress: Show the progress.

    Raises:
        RadScribeError: `run` is no run directory, it lacks drafts or metrics of the split, these do not match
        each other, the store is gone or has other studies, or the page cannot be written.
    """
    # The classes of the configuration are in modules that import torch.
    from radscribe.runs.run_directory import RunDirectory

    if split not in ("all", *SPLITS):
        raise unknown_name("split", split, ("all", *SPLITS))
    if studies < 1:
        raise RadScribeError(f"a page needs at least 1 study, not {studies}", "Pass --studies 12")
    directory, out = RunDirectory(run), Path(out)
    check_output(out, PAGE_MARK.encode(), "a page")
    config = directory.load_config()
    prepared = directory.open_store(store)
    kept = directory.kept_scores(prepared, split)
    evaluation = _read_evaluation(directory, kept, split, store)
    ranked = _rank_studies(directory, config, prepared, evaluation, kept, split)
    page = _page(directory, config, prepared, evaluation, ranked, split, studies, progress)
    # A study id that comes from a file name may have characters that UTF-8 cannot encode.
    replace_file(out, page.encode(errors="xmlcharrefreplace"))


def _read_evaluation(run: RunDirectory, kept: KeptScores, split: str, store: Path | None) -> Evaluation:
    absent = [str(path) for path in (kept.drafts, kept.metrics) if not path.is_file()]
    if absent:
        raise RadScribeError(
            f"the run '{run.path}' has no drafts or no metrics of the {split} split: there is no "
            f"{' and no '.join(absent)}",
            _how_to_score(run, split, store),
        )
    return Evaluation.read(kept.metrics, f"Delete it, and score again: {_score_command(run, split, store)}")


def _how_to_score(run: RunDirectory, split: str, store: Path | None) -> str:
    if split == "test" and store is None and run.read_facts().get("finished") is False:
        recipe = run.load_config().recipe
        return f"Training has not finished. Go on: radscribe train {recipe} --out {run.path} --resume"
    return f"Score it: {_score_command(run, split, store)}"


def _score_command(run: RunDirectory, split: str, store: Path | None) -> str:
    return f"radscribe evaluate {run.path} --split {split}{f' --store {store}' if store else ''}"


def _rank_studies(
    run: RunDirectory,
    config: RunConfig,
    store: PreparedStore,
    evaluation: Evaluation,
    kept: KeptScores,
    split: str,
) -> list[DraftedStudy]:
    """The drafted studies in order of ROUGE-L, best first, after a check that their scores are the run's."""
    drafts = read_texts(kept.drafts)
    stated = _read_stated(kept.drafts)
    studies = {study.id: study for study in store.studies(split)}
    strange = [study for study in drafts if study not in studies]
    if strange:
        raise RadScribeError(
            f"the store '{store.path}' has no study '{strange[0]}' in its {split} split, which "
            f"'{kept.drafts}' drafts",
            "Give the store that was scored: --store STORE",
        )
    ids = sorted(drafts)
    written = [studies[study].report(config.data.section) for study in ids]
    statistics = _statistics(run, evaluation.provenance, [drafts[study] for study in ids], written)
    _check_scores(run, evaluation, statistics, kept, store, split)
    # The corpus scores of a single study's statistics are the scores of that study.
    of_study = statistics.scores_of_sums(statistics.columns)
    order = sorted(range(len(ids)), key=lambda index: (-of_study["ROUGE-L"][index], ids[index]))
    return [
        DraftedStudy(
            study=studies[ids[index]],
            draft=drafts[ids[index]],
            logprob=stated[ids[index]].logprob,
            unlike_share=stated[ids[index]].unlike_share,
            unlike=stated[ids[index]].unlike,
            reference=written[index],
            rouge_l=float(of_study["ROUGE-L"][index]),
            bleu_4=float(of_study["BLEU-4"][index]),
            rank=rank,
        )
        for rank, index in enumerate(order, start=1)
    ]


def _statistics(
    run: RunDirectory, provenance: Provenance, drafts: Sequence[str], written: Sequence[str]
) -> StudyStatistics:
    """Text metrics of drafts against the references `written`, under the rules of the run's scores."""
    rules = get_protocol(provenance.protocol)
    vocabulary = Vocabulary.load(run.vocabulary) if rules.through_vocabulary else None
    tokenizer = run.load_tokenizer() if rules.through_tokenizer else None
    return text_statistics(
        [rules.hypothesis(text, cleaning=provenance.cleaning) for text in drafts],
        [
            rules.reference(
                text,
                cleaning=provenance.cleaning,
                vocabulary=vocabulary,
                maximum_length=provenance.maximum_length,
                tokenizer=tokenizer,
            )
            for text in written
        ],
    )


def _check_scores(
    run: RunDirectory,
    evaluation: Evaluation,
    statistics: StudyStatistics,
    kept: KeptScores,
    store: PreparedStore,
    split: str,
) -> None:
    """Raise an error if the scores of the drafts differ from the scores in the metrics file."""
    for name, value in statistics.scores().items():
        stated = evaluation.rows[SYSTEM].scores.get(name)
        if stated is None or abs(stated.value - value) > _SAME_SCORE:
            raise RadScribeError(
                f"'{kept.drafts}' does not have the scores that '{kept.metrics}' states: {name} "
                f"against the reports in '{store.path}' is {value:.4f}, not "
                f"{'absent' if stated is None else f'{stated.value:.4f}'}",
                "Give the store that was scored with --store STORE. Otherwise delete the metrics, and score "
                f"again: {_score_command(run, split, None)}",
            )


class _Stated(NamedTuple):
    """What a file of drafts states of a draft beside its text; None where it does not.

    Attributes:
        logprob: Log-probability of the draft.
        unlike_share: Share of the training studies that are less unlike.
        unlike: Whether the study is flagged as unlike them.
    """

    logprob: float | None
    unlike_share: float | None
    unlike: bool


def _read_stated(path: Path) -> dict[str, _Stated]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def number(line: Mapping[str, Any], name: str) -> float | None:
        return line[name] if isinstance(line.get(name), (int, float)) else None

    return {
        line["id"]: _Stated(number(line, "logprob"), number(line, "unlike_share"), line.get("unlike") is True)
        for line in lines
    }


def _page(
    run: RunDirectory,
    config: RunConfig,
    store: PreparedStore,
    evaluation: Evaluation,
    ranked: Sequence[DraftedStudy],
    split: str,
    number: int,
    progress: bool,
) -> Markup:
    from radscribe.systems.registry import get_system

    facts, entry = run.read_facts(), get_system(config.system_name)
    chosen = choose_studies(ranked, number)
    transform = config.data.transform
    cropped = transform.evaluation == "center_crop"
    crop_share = transform.crop / transform.short_side if cropped else None
    shown = track(chosen, len(chosen), "drawing", "studies", show=progress)
    cards = [
        study_card(drafted, index=index, ranked=len(ranked), views=config.data.views, crop_share=crop_share)
        for index, drafted in enumerate(shown, start=1)
    ]
    moved = facts.get("store_content_hash") not in (None, store.manifest["content_hash"])
    return render(
        "run_page.html",
        style=page_file("page.css", "run_page.css"),
        script=page_file("masks.js", "run_page.js"),
        kind="run",
        caution=run.caution,
        system=config.system_name,
        recipe=config.recipe,
        title=entry.title,
        published=entry.published,
        introduction=entry.summary,
        facts=_facts(facts, config, store, evaluation, split) | _unlike_studies(ranked),
        split=split,
        scores=scores_section(evaluation, _score_command(run, split, None)),
        training=training_section(run.read_log(), facts.get("best", {})),
        ranking=_ranking(ranked, chosen, split),
        ranked=len(ranked),
        cropped=cropped,
        side=transform.crop,
        other_source=store.manifest["source"] if moved else None,
        section=config.data.section,
        run_of_words=SHARED_RUN,
        cards=cards,
    )


def _facts(
    facts: Mapping[str, Any], config: RunConfig, store: PreparedStore, evaluation: Evaluation, split: str
) -> dict[str, str]:
    source = facts.get("store_source", store.manifest["source"])
    return {
        "Data": f"{source} ({evaluation.provenance.studies} {split} studies scored)",
        "Drafts": f"the section “{config.data.section}” from up to {config.data.views} views",
        "Weights": _chosen_weights(facts.get("best", {})),
        "Training": _training(facts, config),
        "Decoding": _decoding(config),
        "Began": f"{facts.get('began', 'not known')}, RadScribe {facts.get('radscribe', 'not known')}",
    }


def _unlike_studies(ranked: Sequence[DraftedStudy]) -> dict[str, str]:
    """How many studies are unlike the training images; empty if the run keeps no statistics of these."""
    measured = [drafted.unlike for drafted in ranked if drafted.unlike_share is not None]
    if not measured:
        return {}
    return {"Unlike": f"{sum(measured)} of {len(measured)} studies, by their distance to the training images"}


def _decoding(config: RunConfig) -> str:
    method, beams = config.decoding.method, config.decoding.beams
    if method != "beam":
        return method
    return f"beam search, {beams} beam{'s' if beams > 1 else ''}"


def _training(facts: Mapping[str, Any], config: RunConfig) -> str:
    if "epochs_trained" not in facts:
        return "not finished" if facts.get("finished") is False else "not by RadScribe"
    return f"{facts['epochs_trained']} epochs, {facts['steps']:,} steps, seed {config.training.seed}"


def _chosen_weights(best: Mapping[str, Any]) -> str:
    scores = [f"{name} {value:.3f}" for name, value in best.items() if name != "epoch"]
    if not scores:
        return "no validation is on record"
    return f"best validation {', '.join(scores)}, epoch {best.get('epoch')} (counted from 0)"


def _ranking(ranked: Sequence[DraftedStudy], chosen: Sequence[DraftedStudy], split: str) -> Markup:
    """A chart of the scores of all studies, with links to the studies that are shown."""
    marks = [
        (
            drafted.rouge_l,
            f"study-{index}",
            f"{drafted.study.id}: rank {drafted.rank}, ROUGE-L {drafted.rouge_l:.3f}",
        )
        for index, drafted in enumerate(chosen, start=1)
    ]
    return histogram(
        f"ROUGE-L of each of the {len(ranked)} {split} studies",
        [drafted.rouge_l for drafted in ranked],
        marks,
        label="ROUGE-L of one study; triangles mark the studies that are shown, and link to them",
    )
