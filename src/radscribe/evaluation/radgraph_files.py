"""Reading entities and relations of reports from JSON files, as RadGraph's annotations are published.

Two forms are in use. That of RadGraph 1.0 on PhysioNet, which the package `radgraph` also returns, has a
numbered list of entities for each report, and each entity names the entities that its relations lead to:

    {"s50414267": {"text": "...", "entities": {"1": {"tokens": "left", "label": "ANAT-DP", "relations": []},
        "2": {"tokens": "effusion", "label": "OBS-DP", "relations": [["located_at", "1"]]}}}}

That of DyGIE++, in which RadGraph-XL is published and the models are trained, has the words, and spans of
words by the places of their first and last word:

    {"doc_key": "s50414267", "sentences": [["left", "effusion"]],
        "ner": [[[0, 0, "ANAT-DP"], [1, 1, "OBS-DP"]]], "relations": [[[1, 1, 0, 0, "located_at"]]]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError
from radscribe.evaluation.radgraph import Entity, Graph
from radscribe.files import parse_json, read_text

_FORMS = (
    'Each report needs either "entities", as RadGraph on PhysioNet and the package radgraph write it, or '
    '"sentences" with "ner" and "relations", as DyGIE++ does'
)


def read_graphs(path: Path, ids: Sequence[str]) -> list[Graph]:
    """Read the entities and relations of reports, in the order of `ids`.

    Args:
        path: A JSON object with an annotation by study id, or JSON lines or a list of annotations, each with
            its study id as `doc_key`. An annotation has either published form.
        ids: Ids of the studies that must be there; others are ignored.

    Raises:
        RadScribeError: the file cannot be read or is no such file, a study is not there, or its annotation is
            damaged; the error names the study.
    """
    annotations = _annotations(path)
    missing = [study for study in ids if study not in annotations]
    if missing:
        raise RadScribeError(
            f"'{path}' has no annotation of {len(missing)} of {len(ids)} studies, such as '{missing[0]}'",
            "Name each annotation by the id of its study; a list from the package radgraph only counts them",
        )
    return [_graph(annotations[study], f"'{path}', study '{study}'") for study in ids]


def graph_of_spans(
    words: Sequence[str],
    entities: Iterable[tuple[int, int, str]],
    relations: Iterable[tuple[int, int, int, int, str]],
) -> Graph:
    """The graph of labelled spans; a relation from or to a span that is no entity is left out.

    Args:
        words: Words of the report.
        entities: First and last place of the words of each entity, both inclusive, and its label.
        relations: First and last place of the entity that the relation starts at, and of that which it leads
            to, and its type.
    """
    found = list(entities)
    keys = {(start, end): str(number) for number, (start, end, _) in reversed(list(enumerate(found, 1)))}
    starting: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for start, end, target_start, target_end, kind in relations:
        if (target_start, target_end) in keys:
            starting.setdefault((start, end), []).append((kind, keys[target_start, target_end]))
    return {
        str(number): Entity(" ".join(words[start : end + 1]), label, tuple(starting.get((start, end), ())))
        for number, (start, end, label) in enumerate(found, 1)
    }


def _annotations(path: Path) -> Mapping[str, Any]:
    """The annotations in a file by study id."""
    text = read_text(path)
    try:
        content = parse_json(text)
    except ValueError as error:
        try:  # one annotation on each line
            content = [parse_json(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise RadScribeError(f"'{path}' is no JSON: {error}", _FORMS) from error
    if isinstance(content, dict) and "doc_key" in content:
        content = [content]
    if isinstance(content, list):
        if not all(isinstance(entry, dict) and isinstance(entry.get("doc_key"), str) for entry in content):
            raise RadScribeError(
                f"'{path}' is a list in which an annotation has no study id",
                'Give an object with an annotation by study id, or give each annotation its id as "doc_key"',
            )
        by_id = {entry["doc_key"]: entry for entry in content}
        if len(by_id) < len(content):
            raise RadScribeError(f"'{path}' has two annotations of one study", "Leave one of them out")
        return by_id
    if not isinstance(content, dict):
        raise RadScribeError(f"'{path}' holds no annotations, but {json.dumps(content)[:40]}", _FORMS)
    return content


def _graph(annotation: Any, where: str) -> Graph:
    """The entities of one annotation in either form."""
    if isinstance(annotation, dict) and "entities" in annotation:
        return _numbered(annotation["entities"], where)
    if isinstance(annotation, dict) and "sentences" in annotation:
        return _spans(annotation, where)
    if isinstance(annotation, dict) and "labeler_1" in annotation:
        raise RadScribeError(
            f"{where} was annotated by two persons",
            "Choose one: write what stands under labeler_1 in its place",
        )
    raise RadScribeError(f"{where} is no annotation", _FORMS)


def _numbered(entities: Any, where: str) -> Graph:
    try:
        graph = {
            key: Entity(
                _string(entity["tokens"]),
                _string(entity["label"]),
                tuple((_string(kind), _string(target)) for kind, target in entity["relations"]),
            )
            for key, entity in entities.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RadScribeError(
            f"{where} is damaged: an entity lacks its tokens, label or relations", _FORMS
        ) from error
    for key, entity in graph.items():
        for _, target in entity.relations:
            if target not in graph:
                raise RadScribeError(
                    f"{where} is damaged: a relation of entity {key} leads to entity {target}, which is "
                    "not there",
                    "Write the annotation again",
                )
    return graph


def _spans(annotation: dict[str, Any], where: str) -> Graph:
    try:
        words = [_string(word) for sentence in annotation["sentences"] for word in sentence]
        entities = [
            (int(start), int(end), _string(label))
            for sentence in _predicted(annotation, "ner")
            for start, end, label, *_ in sentence
        ]
        relations = [
            (int(start), int(end), int(target_start), int(target_end), _string(kind))
            for sentence in _predicted(annotation, "relations")
            for start, end, target_start, target_end, kind, *_ in sentence
        ]
        if not all(0 <= start <= end < len(words) for start, end, _ in entities):
            raise ValueError("a span outside of the words")
    except (KeyError, TypeError, ValueError) as error:
        raise RadScribeError(
            f"{where} is damaged: its spans are no first and last places of its words with labels", _FORMS
        ) from error
    return graph_of_spans(words, entities, relations)


def _predicted(annotation: dict[str, Any], name: str) -> Any:
    """What a model predicted, otherwise what persons annotated."""
    return annotation[f"predicted_{name}"] if f"predicted_{name}" in annotation else annotation[name]


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
