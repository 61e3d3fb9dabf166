"""Metrics from what a model said elsewhere: entities for RaTEScore, replies for GREEN.

Both files are of the system's drafts, so that baselines have no such scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from radscribe.errors import RadScribeError
from radscribe.evaluation.family import SYSTEM, FamilyScores, ScoredStudies, ScoreTable
from radscribe.evaluation.green import ERROR_SCORES, GREEN, MATCHED, green_statistics, read_reply
from radscribe.evaluation.metrics import mean_statistics
from radscribe.evaluation.ratescore import TYPES, WEIGHTS, Entities, ratescore
from radscribe.evaluation.text_encoder import TextEncoder
from radscribe.files import read_json_object

#: File of the replies of GREEN's model: the text of each reply by study id.
REPLIES = "green_replies.json"
#: File of the entities of RaTEScore's model: by study id, then `draft` and `reference`.
ENTITIES = "ratescore_entities.json"
#: Folder of the encoder of entities.
ENTITY_ENCODER = "BioLORD-2023-C"
#: The released code cuts entities at this number of tokens.
_LONGEST_ENTITY = 30

GREEN_TABLES = (
    ScoreTable("GREEN", {"score": GREEN, "matched": MATCHED}),
    ScoreTable("GREEN errors (lower is better)", ERROR_SCORES, lower_is_better=True),
)
RATESCORE_TABLE = ScoreTable("RaTEScore", dict(zip(("long", "short"), WEIGHTS, strict=True)))


def score_green(studies: ScoredStudies) -> FamilyScores:
    """GREEN of the system from the replies of GREEN's model, if they are there."""
    path = studies.files.output(REPLIES)
    if path is None:
        return FamilyScores(missing={GREEN: f"--outputs has no file '{REPLIES}'"})
    try:
        replies = _of_studies(path, studies.ids, "Give the text of a reply by study id")
        for study, reply in replies.items():
            if not isinstance(reply, str):
                raise RadScribeError(f"{path}: the reply to '{study}' is no text", "Give it as a string")
    except RadScribeError as error:
        return FamilyScores(missing={GREEN: str(error)})
    return FamilyScores({SYSTEM: green_statistics([read_reply(reply) for reply in replies.values()])})


def score_ratescore(studies: ScoredStudies) -> FamilyScores:
    """RaTEScore of the system from the entities of RaTEScore's model, if they are there."""
    path = studies.files.output(ENTITIES)
    if path is None:
        return FamilyScores(missing={"RaTEScore": f"--outputs has no file '{ENTITIES}'"})
    try:
        pairs = _read_entities(path, studies)
    except RadScribeError as error:
        return FamilyScores(missing={"RaTEScore": str(error)})
    scores = {
        name: np.array([ratescore(*pair, weights) for pair in pairs]) for name, weights in WEIGHTS.items()
    }
    return FamilyScores({SYSTEM: mean_statistics(scores)})


def _of_studies(path: Path, ids: Sequence[str], hint: str) -> dict[str, Any]:
    """The values of the studies in a JSON file, in the order of `ids`."""
    content = read_json_object(path, hint)
    missing = [study for study in ids if study not in content]
    if missing:
        raise RadScribeError(
            f"'{path}' lacks {len(missing)} of {len(ids)} studies, the first is '{missing[0]}'", hint
        )
    return {study: content[study] for study in ids}


def _read_entities(path: Path, studies: ScoredStudies) -> list[tuple[Entities, Entities]]:
    """The entities of draft and reference of each study, with their vectors."""
    hint = 'Give {"draft": [{"text": ..., "type": ...}, ...], "reference": [...]} by study id'
    found = [
        [_checked(value, side, f"{path}, study '{study}'", hint) for side in ("draft", "reference")]
        for study, value in _of_studies(path, studies.ids, hint).items()
    ]
    every = [entity for pair in found for of_side in pair for entity in of_side]
    without = sorted({entity["text"] for entity in every if "vector" not in entity})
    vectors = _encoded(without, studies) if without else {}
    widths = {len(entity.get("vector", ())) or len(vectors[entity["text"]]) for entity in every}
    if len(widths) > 1:
        raise RadScribeError(f"{path} has vectors of {sorted(widths)} numbers", "Give all the same length")

    def entities(of_side: Sequence[Mapping[str, Any]]) -> Entities:
        rows = [entity["vector"] if "vector" in entity else vectors[entity["text"]] for entity in of_side]
        types = [entity["type"].lower() for entity in of_side]
        return Entities(types, np.array(rows, dtype=np.float64))

    return [(entities(draft), entities(reference)) for draft, reference in found]


def _checked(value: Any, side: str, where: str, hint: str) -> list[dict[str, Any]]:
    """The entities of one side of a study, each with text and type and perhaps a vector."""
    entities = value.get(side) if isinstance(value, dict) else None
    if not isinstance(entities, list):
        raise RadScribeError(f"{where} has no list '{side}'", hint)
    for entity in entities:
        if not isinstance(entity, dict) or not isinstance(entity.get("text"), str):
            raise RadScribeError(f"{where}: an entity of '{side}' has no string 'text'", hint)
        if str(entity.get("type")).lower() not in TYPES:
            raise RadScribeError(
                f"{where}: '{entity['text']}' has the type '{entity.get('type')}'",
                f"The types are {', '.join(TYPES)}",
            )
        numbers = entity.get("vector", [0.0])
        if not isinstance(numbers, list) or not numbers or not all(type(n) in (int, float) for n in numbers):
            raise RadScribeError(f"{where}: the vector of '{entity['text']}' is no list of numbers", hint)
    return entities


def _encoded(texts: Sequence[str], studies: ScoredStudies) -> dict[str, Sequence[float]]:
    """The vector of each text: that of its first token, in the last layer of the encoder of entities."""
    folder = studies.files.model(ENTITY_ENCODER)
    if folder is None:
        raise RadScribeError(
            f"the entities have no vectors, and --models has no folder '{ENTITY_ENCODER}'",
            "Put the encoder there, or give each entity its 'vector'",
        )
    encoder = TextEncoder(folder, longest=_LONGEST_ENTITY)
    return {
        text: vectors[0].tolist() for text, (_, vectors) in zip(texts, encoder.vectors(texts), strict=True)
    }
