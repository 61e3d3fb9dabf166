"""RadGraph F1 of the scored studies, from annotations that were given or from a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radscribe.device import chosen_device
from radscribe.errors import RadScribeError
from radscribe.evaluation.family import SYSTEM, FamilyScores, ScoredStudies, ScoreTable
from radscribe.evaluation.radgraph import LEVELS, Graph, combined, reward_statistics, score_names
from radscribe.evaluation.radgraph_files import read_graphs
from radscribe.progress import track

#: The published models, and the name of the scores by each: models do not have the same labels.
RADGRAPHS = {
    "radgraph": "RadGraph F1",
    "radgraph-xl": "RadGraph-XL F1",
    "modern-radgraph-xl": "Modern RadGraph-XL F1",
}
#: The model that RadCliQ was fitted with.
_OF_RADCLIQ = "radgraph"


@dataclass(frozen=True)
class _Annotated:
    """Entities of the drafts of each row that was annotated, and of the references.

    Attributes:
        drafts: Entities of each draft, by row.
        references: Entities of each reference report.
        source: Who annotated, in words.
    """

    drafts: Mapping[str, Sequence[Graph]]
    references: Sequence[Graph]
    source: str


def radgraph_tables(model: str) -> tuple[ScoreTable, ...]:
    """The tables of the scores by a model: words in lower case, and as `radgraph` 0.1.18 compares them."""
    name = RADGRAPHS[model]
    names = score_names(name)
    return tuple(
        ScoreTable(title, dict(zip(LEVELS, part, strict=True)))
        for title, part in ((name, names[:3]), (f"{name}, case-sensitive", names[3:]))
    )


def radgraph_f1(model: str, studies: ScoredStudies) -> FamilyScores:
    """The family of scores by a model; without its files the scores are missing, with the reason.

    Only the first model is reported as missing where there is nothing of it: the others are alternatives.
    """
    name, files = RADGRAPHS[model], studies.files
    if model != _OF_RADCLIQ and not any((files.model(model), *_given(model, studies))):
        return FamilyScores()
    try:
        annotated = _annotated(model, studies)
    except RadScribeError as error:
        return FamilyScores(missing={name: str(error)})
    statistics = {
        row: reward_statistics(graphs, annotated.references, name) for row, graphs in annotated.drafts.items()
    }
    missing = {}
    if studies.whole_drafts.keys() - statistics.keys():
        missing[f"{name} of the baselines"] = "the annotations in --outputs do not cover them"
    return FamilyScores(statistics, missing, rules=annotated.source)


def radgraph_combined(studies: ScoredStudies) -> dict[str, np.ndarray]:
    """RadGraph's column of RadCliQ for each study `[studies]`, by row: see `radgraph.combined`.

    Raises:
        RadScribeError: there is neither the model `radgraph` nor what it said, or it cannot be used.
    """
    annotated = _annotated(_OF_RADCLIQ, studies)
    return {
        row: np.array([combined(*pair) for pair in zip(graphs, annotated.references, strict=True)])
        for row, graphs in annotated.drafts.items()
    }


def _given(model: str, studies: ScoredStudies) -> list[Path | None]:
    """The files of annotations of drafts and of references by a model, each None if it is not there."""
    return [studies.files.output(name) for name in _names(model)]


def _names(model: str) -> tuple[str, str]:
    return f"{model}_drafts.json", f"{model}_references.json"


def _annotated(model: str, studies: ScoredStudies) -> _Annotated:
    """Entities from the files of annotations, else from the model."""

    def compute() -> _Annotated:
        drafts, references = _given(model, studies)
        if drafts and references:
            digest = hashlib.sha256(references.read_bytes()).hexdigest()[:12]
            return _Annotated(
                {SYSTEM: read_graphs(drafts, studies.ids)},
                read_graphs(references, studies.ids),
                f"given annotations by {model} (those of the references: {digest})",
            )
        if drafts or references:
            there, other = _names(model) if drafts else reversed(_names(model))
            raise RadScribeError(f"--outputs has '{there}' and no '{other}'", "Give both")
        return _by_model(model, studies)

    return studies.files.once(RADGRAPHS[model], compute)


def _by_model(model: str, studies: ScoredStudies) -> _Annotated:
    """Entities that a model finds in the whole texts; each distinct text is read once."""
    folder = studies.files.model(model)
    if folder is None:
        around = studies.files.models
        archives = sorted(around.glob(f"{model}.tar*")) if around else []
        packed = "".join(
            f"; '{archive}' is still packed: unpack it into '{model}'" for archive in archives[:1]
        )
        raise RadScribeError(
            f"there is no folder '{model}' in --models, and no '{_names(model)[0]}' in --outputs{packed}"
        )
    from radscribe.evaluation.radgraph_model import load_radgraph

    network = load_radgraph(folder, chosen_device("auto"))
    texts = dict.fromkeys(
        text for texts in (studies.whole_references, *studies.whole_drafts.values()) for text in texts
    )
    tracked = track(texts, len(texts), RADGRAPHS[model], "texts", show=studies.files.progress)
    found = {text: network.find(text).graph for text in tracked}
    return _Annotated(
        {row: [found[text] for text in texts] for row, texts in studies.whole_drafts.items()},
        [found[text] for text in studies.whole_references],
        f"the entities that {model} finds (weights {network.digest})",
    )
