"""One HTML file that shows a trained run as it is: scores beside baselines, curves, and drafts beside images.

The page needs nothing but itself: images, charts, style and script are in it, and its content security
policy forbids it to load anything. What it says of the scores is read from the run's metrics, and the drafts
it shows are scored again while it is written, so that it never shows drafts that have other scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from radscribe.about import NOTICE, VERSION
from radscribe.errors import RadScribeError, unknown_name
from radscribe.evaluation.bootstrap import SIGNIFICANT, Difference, Score, direction
from radscribe.evaluation.clinical import CLINICAL_BLOCKS, ObservationScore, UncertainPolicy
from radscribe.evaluation.diversity import Diversity
from radscribe.evaluation.evaluate import METRICS, SYSTEM, Provenance, read_texts
from radscribe.evaluation.metrics import text_statistics
from radscribe.evaluation.summary import CLINICAL_F1, verdicts
from radscribe.files import check_output, replace_file
from radscribe.pages.page_parts import PAGE_MARK, caution_banner, page_file
from radscribe.pages.run_page_charts import histogram, line_chart, thin, whisker
from radscribe.pages.run_page_studies import (
    SHARED_RUN,
    DraftedStudy,
    choose_studies,
    study_card,
)
from radscribe.progress import track
from radscribe.studies.store import PreparedStore
from radscribe.studies.study import SPLITS
from radscribe.text.cleaning import UNKNOWN_TOKEN
from radscribe.text.protocols import get_protocol
from radscribe.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from radscribe.runs.config import RunConfig
    from radscribe.runs.run_directory import KeptScores, RunDirectory

_SAME_SCORE = 1e-6
#: Names of the clinical F1 scores by heading, as HTML. They are in sight, precision and recall a click away.
_CLINICAL_F1 = {
    f"{short}<small>{block.title.replace(', ', '</small><small>')}</small>": name
    for block in CLINICAL_BLOCKS
    for short, name in block.names.items()
    if short.endswith("F1")
}


@dataclass(frozen=True)
class Metrics:
    """What `Evaluation.to_json` wrote, typed again. See there."""

    scores: Mapping[str, Mapping[str, Score]]
    differences: Mapping[str, Mapping[str, Difference]]
    observations: Mapping[str, Mapping[str, Mapping[str, ObservationScore]]]
    diversity: Mapping[str, Diversity]
    missing: Mapping[str, str]
    provenance: Provenance

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Metrics:
        """From the JSON values; those of before there were clinical scores will do.

        Raises:
            KeyError, TypeError: a value is missing, or has not its type.
        """
        metrics = cls(
            {
                row: {name: Score(**score) for name, score in each.items()}
                for row, each in values["scores"].items()
            },
            {
                row: {name: Difference(**difference) for name, difference in each.items()}
                for row, each in values["differences"].items()
            },
            {
                row: {
                    uncertain: {name: ObservationScore(**score) for name, score in scores.items()}
                    for uncertain, scores in each.items()
                }
                for row, each in values.get("observations", {}).items()
            },
            {row: Diversity(**diversity) for row, diversity in values["diversity"].items()},
            values["missing"],
            Provenance(**values["provenance"]),
        )
        numbers = [
            getattr(record, field.name)
            for table in (metrics.scores, metrics.differences)
            for records in table.values()
            for record in records.values()
            for field in fields(record)
        ]
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise TypeError("a score is no number")
        if SYSTEM not in metrics.scores or SYSTEM not in metrics.diversity:
            raise KeyError(SYSTEM)
        return metrics

    @property
    def text_metrics(self) -> dict[str, str]:
        """Names of the text metrics that are there, by heading."""
        return {name: name for name in METRICS if name in self.scores[SYSTEM]}


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
        run: a run directory with the drafts and the metrics of the split.
        out: the page to write; its folder is made.
        store: the prepared store with the studies; the one that the run was trained on unless given.
        split: whose drafts to show: `train`, `val`, `test` or `all`.
        studies: how many; see `choose_studies`.
        progress: show how far it is.

    Raises:
        RadScribeError: `run` is no run directory, it has no drafts or metrics of the split, they do not
            belong together, the store is gone or has other studies, or the page cannot be written.
    """
    # The configuration's classes stand where torch is imported.
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
    metrics = _read_metrics(directory, kept, split, store)
    ranked = _rank_studies(directory, config, prepared, metrics, kept, split)
    page = _page(directory, config, prepared, metrics, ranked, split, studies, progress)
    # A study id made from a file name may hold what UTF-8 has not.
    replace_file(out, page.encode(errors="xmlcharrefreplace"))


def _read_metrics(run: RunDirectory, kept: KeptScores, split: str, store: Path | None) -> Metrics:
    absent = [str(path) for path in (kept.drafts, kept.metrics) if not path.is_file()]
    if absent:
        raise RadScribeError(
            f"the run '{run.path}' has no drafts or no metrics of the {split} split: there is no "
            f"{' and no '.join(absent)}",
            _how_to_score(run, split, store),
        )
    try:
        return Metrics.of(json.loads(kept.metrics.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RadScribeError(
            f"'{kept.metrics}' does not hold the scores of an evaluation ({type(error).__name__}: {error})",
            f"Delete it, and score again: {_score_command(run, split, store)}",
        ) from error


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
    metrics: Metrics,
    kept: KeptScores,
    split: str,
) -> list[DraftedStudy]:
    """The drafted studies, best ROUGE-L first, after a check that they have the run's scores."""
    drafts = read_texts(kept.drafts)
    logprobs = _read_logprobs(kept.drafts)
    studies = {study.id: study for study in store.studies(split)}
    strange = [study for study in drafts if study not in studies]
    if strange:
        raise RadScribeError(
            f"the store '{store.path}' has no study '{strange[0]}' in its {split} split, which "
            f"'{kept.drafts}' drafts",
            "Give the store that was scored: --store STORE",
        )
    provenance, section = metrics.provenance, config.data.section
    rules = get_protocol(provenance.protocol)
    vocabulary = Vocabulary.load(run.vocabulary) if rules.through_vocabulary else None
    tokenizer = run.load_tokenizer() if rules.through_tokenizer else None
    ids = sorted(drafts)
    written = [studies[each].report(section) for each in ids]
    statistics = text_statistics(
        [rules.hypothesis(drafts[each], cleaning=provenance.cleaning) for each in ids],
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
    for name, value in statistics.scores().items():
        stated = metrics.scores[SYSTEM].get(name)
        if stated is None or abs(stated.value - value) > _SAME_SCORE:
            raise RadScribeError(
                f"'{kept.drafts}' has not the scores that '{kept.metrics}' states: {name} "
                f"against the reports in '{store.path}' is {value:.4f}, not "
                f"{'absent' if stated is None else f'{stated.value:.4f}'}",
                "Give the store that was scored with --store STORE. Otherwise delete the metrics, and score "
                f"again: {_score_command(run, split, None)}",
            )
    # The corpus scores of one study's statistics are that study's scores.
    of_study = statistics.scores_of_sums(statistics.columns)
    order = sorted(range(len(ids)), key=lambda index: (-of_study["ROUGE-L"][index], ids[index]))
    return [
        DraftedStudy(
            study=studies[ids[index]],
            draft=drafts[ids[index]],
            logprob=logprobs.get(ids[index]),
            reference=written[index],
            rouge_l=float(of_study["ROUGE-L"][index]),
            bleu_4=float(of_study["BLEU-4"][index]),
            rank=rank,
        )
        for rank, index in enumerate(order, start=1)
    ]


def _read_logprobs(path: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {line["id"]: line["logprob"] for line in lines if isinstance(line.get("logprob"), (int, float))}


def _page(
    run: RunDirectory,
    config: RunConfig,
    store: PreparedStore,
    metrics: Metrics,
    ranked: Sequence[DraftedStudy],
    split: str,
    number: int,
    progress: bool,
) -> str:
    from radscribe.systems.registry import get_system

    facts, entry = run.read_facts(), get_system(config.system_name)
    chosen = choose_studies(ranked, number)
    transform = config.data.transform
    crop_share = transform.crop / transform.short_side if transform.evaluation == "center_crop" else None
    cards = [
        study_card(each, index=index, ranked=len(ranked), views=config.data.views, crop_share=crop_share)
        for index, each in enumerate(track(chosen, len(chosen), "drawing", "studies", show=progress), start=1)
    ]
    return Template(page_file("run_page.html")).substitute(
        style=page_file("page.css", "run_page.css"),
        script=page_file("masks.js", "run_page.js"),
        notice=NOTICE.capitalize(),
        caution=caution_banner(f"this run was {run.caution}" if run.caution else ""),
        system=escape(config.system_name),
        recipe=escape(config.recipe),
        title=escape(entry.title),
        published=escape(entry.published),
        summary=escape(entry.summary),
        facts=_facts(facts, config, store, metrics, split),
        split=split,
        verdicts=_verdicts(metrics),
        scores=_score_table(metrics, metrics.text_metrics, "Scores"),
        score_notes=_score_notes(metrics),
        differences=_difference_table(metrics, metrics.text_metrics),
        clinical=_clinical(metrics, f"Score it: {_score_command(run, split, None)}"),
        further=_further(metrics),
        diversity=_diversity_table(metrics),
        provenance=escape(str(metrics.provenance)),
        curves=_curves(run.read_log(), facts.get("best", {})),
        choice=_choice(ranked, chosen, split, config, store, facts),
        section=escape(config.data.section),
        run_of_words=SHARED_RUN,
        cards="".join(cards),
        version=VERSION,
    )


def _facts(
    facts: Mapping[str, Any], config: RunConfig, store: PreparedStore, metrics: Metrics, split: str
) -> str:
    source = facts.get("store_source", store.manifest["source"])
    pairs = {
        "Data": f"{source} ({metrics.provenance.studies} {split} studies scored)",
        "Drafts": f"the section “{config.data.section}” from up to {config.data.views} views",
        "Weights": _chosen_weights(facts.get("best", {})),
        "Training": _training(facts, config),
        "Decoding": _decoding(config),
        "Began": f"{facts.get('began', 'not known')}, RadScribe {facts.get('radscribe', 'not known')}",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in pairs.items())


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


def _verdicts(metrics: Metrics) -> str:
    """What the scores mean, in words."""
    found = verdicts(
        metrics.differences,
        metrics.diversity,
        metrics.text_metrics,
        {name: name for name in CLINICAL_F1},
    )
    return "".join(
        f'<li class="{verdict.kind}">'
        f"{f'<b>{escape(verdict.headline)}</b>' if verdict.headline else ''}{escape(verdict.detail)}</li>"
        for verdict in found
    )


def _score_table(metrics: Metrics, names: Mapping[str, str], what: str) -> str:
    """The scores of all rows that have them; `names` is by heading, and headings and `what` are HTML."""
    rows = {row: each for row, each in metrics.scores.items() if all(name in each for name in names.values())}
    best = {name: max(row[name].value for row in rows.values()) for name in names.values()}
    most = {name: max(row[name].high for row in rows.values()) for name in names.values()}
    lines = []
    for row, scores in rows.items():
        cells = "".join(
            _score_cell(scores[name], best=best[name], most=most[name]) for name in names.values()
        )
        kind = "system" if row == SYSTEM else "baseline"
        label = "this system" if row == SYSTEM else f"{escape(row)} <small>baseline</small>"
        lines.append(f'<tr class="{kind}"><th scope="row">{label}</th>{cells}</tr>')
    caption = f"{what} with 95% intervals, drawn on a scale from 0; ★ marks the best of each column"
    return _table(_head(names), lines, caption)


def _head(headings: Iterable[str]) -> str:
    return "".join(f'<th scope="col">{heading}</th>' for heading in headings)


def _score_cell(score: Score, *, best: float, most: float) -> str:
    kind = ' class="best"' if score.value == best > 0 else ""
    return (
        f'<td{kind}><span class="number">{score.value:.3f}</span>'
        f"<small>{score.low:.3f} – {score.high:.3f}</small>"
        f"{whisker(score.value, score.low, score.high, most)}</td>"
    )


def _score_notes(metrics: Metrics) -> str:
    return "".join(
        f"<li><b>{escape(name)}</b> is not there: {escape(reason)}</li>"
        for name, reason in metrics.missing.items()
    )


def _difference_table(metrics: Metrics, names: Mapping[str, str]) -> str:
    """The differences to all baselines that have these scores; `names` as for `_score_table`."""
    rows = []
    for baseline, differences in metrics.differences.items():
        if all(name in differences for name in names.values()):
            cells = "".join(_difference_cell(differences[name]) for name in names.values())
            rows.append(f'<tr><th scope="row">this system − {escape(baseline)}</th>{cells}</tr>')
    if not rows:
        return ""
    caption = (
        "Differences to the baselines on the same studies, with 95% intervals and two-sided p-values that "
        f"are not corrected for their number; clear means p below {SIGNIFICANT:g}"
    )
    return _table(_head(names), rows, caption)


def _clinical(metrics: Metrics, score_command: str) -> str:
    """Clinical F1 and the F1 of each observation; precision, recall and differences one click away."""
    if SYSTEM not in metrics.observations:
        return f'<p class="note">This run was scored without clinical efficacy. {escape(score_command)}</p>'
    details = "".join(
        _score_table(metrics, block.names, block.title) + _difference_table(metrics, block.names)
        for block in CLINICAL_BLOCKS
    )
    return (
        _score_table(metrics, _CLINICAL_F1, f"{escape(metrics.provenance.clinical_efficacy)}. F1")
        + _observation_table(metrics, "as_absent")
        + "<details><summary>Clinical precision, recall and differences to the baselines; each observation "
        f"with uncertain as present</summary>{details}{_observation_table(metrics, 'as_present')}</details>"
    )


def _observation_table(metrics: Metrics, uncertain: UncertainPolicy) -> str:
    """F1 of each observation in every row that has it, beside its share of the references."""
    studies = metrics.provenance.studies
    columns = {row: scores[uncertain] for row, scores in metrics.observations.items()}
    rows = []
    for name, ours in columns[SYSTEM].items():
        share = ours.support / studies
        cells = [f'<td><small>{ours.support}</small> <span class="number">{share:.1%}</span></td>']
        for row, scores in columns.items():
            each, kind = scores[name], "system" if row == SYSTEM else "baseline"
            cells.append(
                f'<td class="{kind}"><small>P {each.precision:.3f} · R {each.recall:.3f}</small> '
                f'<span class="number">{each.f1:.3f}</span>{whisker(each.f1, 0, each.f1, 1)}</td>'
            )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    headings = ["references", *("this system" if row == SYSTEM else escape(row) for row in columns)]
    caption = (
        f"Each observation, uncertain {uncertain.replace('_', ' ')}: how many of the {studies} references "
        "have it, and F1 with precision and recall, drawn on a scale from 0 to 1"
    )
    return _table(_head(headings), rows, caption, kind="plain by-observation")


def _further(metrics: Metrics) -> str:
    """A table of each further family of scores, whose names begin with the family's."""
    tables = []
    for family, rules in metrics.provenance.further.items():
        names = {
            escape(name.removeprefix(f"{family} ")): name
            for name in metrics.scores[SYSTEM]
            if name.startswith(f"{family} ")
        }
        tables.append(_score_table(metrics, names, escape(f"The {family} (against {rules})")))
    return "".join(tables)


def _table(head: str, rows: Sequence[str], caption: str, kind: str = "") -> str:
    """A table with its caption that scrolls sideways where the page is narrow."""
    return (
        f'<figure class="panel"><figcaption>{caption}</figcaption>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="{kind}">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></figure>"
    )


def _difference_cell(difference: Difference) -> str:
    return (
        f'<td class="{direction(difference)}"><span class="number">{_signed(difference.value)}</span>'
        f"<small>{_signed(difference.low)} to {_signed(difference.high)}</small>"
        f"<small>p {difference.p:.3f}</small></td>"
    )


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _diversity_table(metrics: Metrics) -> str:
    first = next(iter(metrics.diversity.values()))
    names = ["distinct", "most frequent", UNKNOWN_TOKEN, *first.distinct_ngrams, "mean words"]
    names.append(f"words at {' · '.join(each.rstrip('%') for each in first.length_percentiles)}%")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = []
    for row, each in metrics.diversity.items():
        cells = [
            f"{each.distinct_reports} of {each.reports}",
            f"{each.most_frequent:.1%}",
            f"{each.unknown_words:.1%}",
            *(f"{share:.3f}" for share in each.distinct_ngrams.values()),
            f"{each.length_mean:.1f}",
            " · ".join(f"{length:.0f}" for length in each.length_percentiles.values()),
        ]
        label = "this system" if row == SYSTEM else escape(row)
        kind = ' class="system"' if row == SYSTEM else ""
        cells_html = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr{kind}><th scope="row">{label}</th>{cells_html}</tr>')
    return _table(head, rows, "Variety and length of the reports as scored", kind="plain")


def _curves(log: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> str:
    losses = [(line["step"], line["loss"]) for line in log if "loss" in line]
    validations = [line for line in log if "validation" in line]
    chosen = [line["step"] for line in validations if line["epoch"] == best.get("epoch")]
    mark = chosen[-1] if chosen else None
    notes = {line["step"]: f"step {line['step']:,}, epoch {line['epoch']}" for line in log}
    shown, size = thin(losses)

    def scores(*names: str) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [
                (line["step"], line["validation"][name]) for line in validations if name in line["validation"]
            ]
            for name in names
        }

    charts = [
        line_chart("Training loss", {"loss": shown}, notes=notes, chosen=mark),
        line_chart("Validation", scores("BLEU-4", "ROUGE-L"), notes=notes, chosen=mark),
        line_chart("Validation CIDEr", scores("CIDEr"), notes=notes, chosen=mark),
    ]
    if not any(charts):
        return '<p class="empty">This run has no training log: its weights were not trained here.</p>'
    remarks = ["Point at a chart for the values of a step. Epochs are counted from 0."]
    if mark is not None:
        remarks.insert(0, f"The dashed line marks the chosen weights, of step {mark:,}.")
    if size > 1:
        remarks.append(f"Each point of the loss is the mean of {size} logged values.")
    return (
        f'<div class="charts">{"".join(charts)}</div><p class="note">{" ".join(remarks)}</p>'
        f"{_validation_table(validations, mark)}"
    )


def _validation_table(validations: Sequence[Mapping[str, Any]], chosen: int | None) -> str:
    if not validations:
        return ""
    names = {
        "BLEU-4": "BLEU-4",
        "ROUGE-L": "ROUGE-L",
        "CIDEr": "CIDEr",
        "distinct": "distinct reports",
    }
    head = "".join(f'<th scope="col">{name}</th>' for name in ("step", *names.values()))
    rows = []
    for line in validations:
        scores = line["validation"]
        cells = [f"{line['step']:,}"]
        cells += [
            "–" if name not in scores else f"{scores[name]:.{0 if name == 'distinct' else 3}f}"
            for name in names
        ]
        kind = ' class="system"' if line["step"] == chosen else ""
        cells_html = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr{kind}><th scope="row">epoch {line["epoch"]}</th>{cells_html}</tr>')
    table = _table(head, rows, "Scores on the validation split; the chosen weights are marked", kind="plain")
    return f"<details><summary>Validations as a table</summary>{table}</details>"


def _choice(
    ranked: Sequence[DraftedStudy],
    chosen: Sequence[DraftedStudy],
    split: str,
    config: RunConfig,
    store: PreparedStore,
    facts: Mapping[str, Any],
) -> str:
    marks = [
        (
            each.rouge_l,
            f"study-{index}",
            f"{each.study.id}: rank {each.rank}, ROUGE-L {each.rouge_l:.3f}",
        )
        for index, each in enumerate(chosen, start=1)
    ]
    chart = histogram(
        f"ROUGE-L of each of the {len(ranked)} {split} studies",
        [each.rouge_l for each in ranked],
        marks,
        label="ROUGE-L of one study; the triangles are the studies shown, and lead to them",
    )
    transform = config.data.transform
    seen = (
        "inside the dashed frame" if transform.evaluation == "center_crop" else "squashed to a square"
    ) + f", at {transform.crop} × {transform.crop} pixels"
    paragraphs = [
        f"<b>How these {len(chosen)} were chosen: by a rule, not by hand.</b> All {len(ranked)} drafted "
        f"{split} studies were ranked by ROUGE-L, and the ranking was cut into {len(chosen)} equal groups. "
        "Each group, from the best to the worst, gives one study: of those that have an observation present "
        "that no study before them showed, the one nearest to the group's middle; where there are none, of "
        "all.",
        f"The system saw each view {seen}.",
    ]
    trained_on = facts.get("store_content_hash")
    if trained_on and trained_on != store.manifest["content_hash"]:
        paragraphs.append(
            "<b>These studies are not from the store that the run was trained on</b>, but from "
            f"{escape(str(store.manifest['source']))}."
        )
    return chart + "<div>" + "".join(f"<p>{text}</p>" for text in paragraphs) + "</div>"
