"""The training section of a run page: curves of loss and validation scores, and a table of validations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from radscribe.pages.page_parts import PlainRow, PlainTable, render
from radscribe.pages.run_page_charts import line_chart, thin

#: Validation scores in the table: the heading of each score by its name.
_VALIDATIONS = {"BLEU-4": "BLEU-4", "ROUGE-L": "ROUGE-L", "CIDEr": "CIDEr", "distinct": "distinct reports"}


def training_section(log: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Markup:
    """The section on the training as HTML.

    Args:
        log: Lines of the training log.
        best: Validation scores of the chosen weights, and their epoch; empty if they are not known.
    """
    losses = [(line["step"], line["loss"]) for line in log if "loss" in line]
    validations = [line for line in log if "validation" in line]
    of_best = [line["step"] for line in validations if line["epoch"] == best.get("epoch")]
    chosen = of_best[-1] if of_best else None
    notes = {line["step"]: f"step {line['step']:,}, epoch {line['epoch']}" for line in log}
    shown, values_in_a_point = thin(losses)

    def scores(*names: str) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [
                (line["step"], line["validation"][name]) for line in validations if name in line["validation"]
            ]
            for name in names
        }

    charts = [
        line_chart("Training loss", {"loss": shown}, notes=notes, chosen=chosen),
        line_chart("Validation", scores("BLEU-4", "ROUGE-L"), notes=notes, chosen=chosen),
        line_chart("Validation CIDEr", scores("CIDEr"), notes=notes, chosen=chosen),
    ]
    return render(
        "training.html",
        charts=[chart for chart in charts if chart],
        chosen=None if chosen is None else f"{chosen:,}",
        values_in_a_point=values_in_a_point,
        validations=_validation_table(validations, chosen) if validations else None,
    )


def _validation_table(validations: Sequence[Mapping[str, Any]], chosen: int | None) -> PlainTable:
    rows = []
    for line in validations:
        scores = line["validation"]
        cells = [
            "–" if name not in scores else f"{scores[name]:.{0 if name == 'distinct' else 3}f}"
            for name in _VALIDATIONS
        ]
        marked = line["step"] == chosen
        rows.append(PlainRow(f"epoch {line['epoch']}", [f"{line['step']:,}", *cells], marked))
    caption = "Scores on the validation split; the chosen weights are marked"
    return PlainTable(caption, ["step", *_VALIDATIONS.values()], rows)
