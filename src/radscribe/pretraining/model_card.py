"""The model card of what was pretrained: what it is, where it came from, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radscribe.about import NOTICE

MODEL_CARD = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class Section:
    """What one kind of pretraining says in its model card.

    Attributes:
        title: what it is, in a few words.
        purpose: what it is for.
        caution: what it must not be taken for.
        learnt: how much it learnt from the train split.
        notes: one sentence on each further point, among them how good it is.
        rest: what stands below the list, such as a table.
    """

    title: str
    purpose: str
    caution: str
    learnt: str
    notes: Sequence[str]
    rest: str = ""


def write_model_card(out: Path, facts: Mapping[str, Any], section: Section) -> None:
    """Write the model card.

    Args:
        out: the directory of the model.
        facts: of the training that made it.
        section: what its kind says.
    """
    settings = [f"{name} {value}" for name, value in facts["settings"].items() if value is not None]
    points = [
        f"Made from `{facts['store_source']}` (content hash {facts['store_content_hash'][:12]}), "
        f"train split only: {section.learnt}.",
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
