"""What the making of both kinds of memory banks has in common: the directory, and the texts about a bank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from radscribe.errors import RadScribeError
from radscribe.interruption import check_empty, disk_errors_explained, empty, only_training
from radscribe.parts.memory_bank import FILES, BankKind, MemoryBank
from radscribe.parts.part import Origin, Part
from radscribe.pretraining.bank_settings import BankSettings
from radscribe.pretraining.facts import begun_facts, write_facts
from radscribe.pretraining.model_card import Section, write_model_card
from radscribe.pretraining.observation_task import LabelledStudies
from radscribe.studies.store import PreparedStore


class Filled(NamedTuple):
    """A bank whose rows were made.

    Attributes:
        bank: The bank.
        settings: The settings that it was made with, as they are kept.
        facts: Further facts about its rows.
    """

    bank: MemoryBank
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]


def labelled_train_studies(store: PreparedStore, settings: BankSettings) -> LabelledStudies:
    """The labelled studies of the train split.

    Raises:
        RadScribeError: there is none.
    """
    train = LabelledStudies.of(store, "train", settings)
    if not (train.labels == 1).any():
        raise RadScribeError(
            f"no study of the train split of '{store.path}' has an observation by its labels",
            "Choose another report section with --section, or other labels with --labels",
        )
    return train


def make_bank(
    kind: BankKind,
    made_from: PreparedStore | Origin,
    out: Path,
    fill: Callable[[], Filled],
    section: Callable[[Mapping[str, Any]], Section],
) -> dict[str, Any]:
    """Make a memory bank, and write its directory.

    Args:
        kind: Kind of the bank.
        made_from: The store that it is made from, or another origin.
        out: Directory to write. A making that fails leaves nothing there.
        fill: Makes the rows.
        section: The content of the model card, from the facts.

    Returns:
        The facts that `pretraining.json` holds.

    Raises:
        RadScribeError: there is something in `out` already, or the disk is full.
    """
    room = "Make room there or put it right, and give the same command again"
    with only_training(out), disk_errors_explained(out, room):
        check_empty(out)
        bank, settings, inputs = fill()
        facts = begun_facts(kind, made_from, settings, inputs)
        facts |= {"rows": len(bank.rows), "raw_width": bank.raw.size(1), "width": bank.width}
        try:
            bank.save(out)
            part = Part.write(out, kind, FILES, settings, made_from)
            facts |= {"content_hash": part.content_hash, "finished": True}
            write_model_card(out, facts, section(facts))
            write_facts(out, facts)
        except BaseException:  # whoever tries again finds the directory empty
            empty(out)
            raise
    return facts


def lines_of(facts: Mapping[str, Any]) -> list[str]:
    """The lines that are printed of any bank."""
    projected = facts["raw_width"] != facts["width"]
    return [
        f"rows           {facts['rows']:,} of width {facts['width']}"
        + (f", projected at random from {facts['raw_width']}" if projected else ""),
        f"content hash   {facts['content_hash'][:12]}",
    ]


def notes_of(facts: Mapping[str, Any]) -> list[str]:
    """What the model card of any bank says of its projection and its content hash."""
    if facts["raw_width"] == facts["width"]:
        projection = f"The features have the width of the bank, {facts['width']}, and are not projected."
    else:
        projection = (
            f"The features of width {facts['raw_width']} stay in the bank, beside the random projection to "
            f"width {facts['width']} (seed {facts['settings']['seed']})."
        )
    return [projection, f"Content hash: {facts['content_hash']}."]


def counts_table(facts: Mapping[str, Any], *columns: str) -> str:
    """The table of the model card: the counts of each observation, in their order.

    Args:
        facts: Facts with the counts of each observation.
        columns: Headings of the counts.
    """
    lines = [f"| observation | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, counts in facts["observations"].items():
        lines.append(f"| {name} | {' | '.join(f'{count:,}' for count in counts.values())} |")
    return "\n".join(lines)
