"""The model card of a pretrained model: what it is, where it came from, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radscribe.about import NOTICE

MODEL_CARD = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class Section:
    """The content of a model card that depends on the kind of pretraining.

    Attributes:
        title: What the model is, in a few words.
        purpose: What the model is for.
        caution: What the model must not be taken for.
        learnt: How much the model learnt from.
        notes: One sentence for each further point, such as how good the model is.
        rest: Text below the list, such as a table.
        where: What of the source it was made from.
    """

    title: str
    purpose: str
    caution: str
    learnt: str
    notes: Sequence[str]
    rest: str = ""
    where: str = "train split only"


def write_model_card(out: Path, facts: Mapping[str, Any], section: Section) -> None:
    """Write the model card.

    Args:
        out: The directory of the model.
        facts: Facts about the training that made the model.
        section: The content that depends on the kind of pretraining.
    """
    settings = [f"{name} {value}" for name, value in facts["settings"].items() if value is not None]
    points = [
        f"Made from `{facts['store_source']}` (content hash {facts['store_content_hash'][:12]}), "
        f"{section.where}: {section.learnt}.",
        *section.notes,
        f"Settings: {', '.join(settings)}.",
        f"RadScribe {facts['radscribe']}, torch {facts['torch']}, transformers {facts['transformers']}; "
        f"began {facts['began']}.",
    ]
    parts = [
        f"# {section.title}",
        section.purpose,
        f"**Intended use:** {NOTICE}. {section.caution}",
        "\n".join(f"- {point}" for point in points),
    ]
    text = "\n\n".join([*parts, section.rest] if section.rest else parts)
    (out / MODEL_CARD).write_text(f"{text}\n", encoding="utf-8")
