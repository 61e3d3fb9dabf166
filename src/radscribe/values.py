"""Conversion of options and fields from text, YAML or JSON to their types, and the types in words."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

#: Number of characters of a value that messages show; longer values are cut.
_SHOWN = 60
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
#: Types in words, and the placeholders for their values in help.
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    dict: """a JSON object, such as '{"name": "value"}'""",
}
_PLACEHOLDERS = {int: "NUMBER", float: "NUMBER", bool: "true|false", str: "TEXT", Path: "PATH", dict: "JSON"}


def converted(value: Any, hint: Any) -> Any:
    """Convert a value to a type.

    Args:
        value: Text as it is typed on a command line, or a value from YAML or JSON.
        hint: Type to convert to: `int`, `float`, `bool`, `str`, `Path`, a `Literal`, or a list, a tuple, a
            dictionary with string keys or an optional one of these.

    Raises:
        ValueError: the value does not fit the type. The message says what is needed and is written after the
            name of the option or field, as in `needs a whole number, not 'few'`.
    """
    hint = required(hint)[0] if value is not None else hint
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Any or (value is None and required(hint)[1]):
        return value
    if kind is Literal:
        return _choice(value, parts)
    if kind in (list, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise _wrong(value, hint)
        if kind is list:
            return [converted(item, parts[0]) for item in value]
        if len(value) != len(parts):
            raise _wrong(value, hint)
        return tuple(converted(item, part) for item, part in zip(value, parts, strict=True))
    if kind is dict:
        mapping = _loaded(value) if isinstance(value, str) else value
        if not isinstance(mapping, Mapping) or not all(isinstance(key, str) for key in mapping):
            raise _wrong(value, hint)
        return {key: _converted_item(key, item, parts[1]) for key, item in mapping.items()}
    return _plain(value, kind)


def _converted_item(key: str, value: Any, hint: Any) -> Any:
    try:
        return converted(value, hint)
    except ValueError as error:
        raise ValueError(f"has a wrong value for '{key}': it {error}") from error


def _plain(value: Any, kind: type) -> Any:
    """A number, a truth value, a text or a path."""
    if kind is bool:
        truth = _TRUTHS.get(value.lower()) if isinstance(value, str) else value
        if isinstance(truth, bool):
            return truth
    elif isinstance(value, bool):
        pass  # Python counts a bool as a number
    elif kind is str:
        if isinstance(value, str):
            return value
    elif kind is Path:
        if isinstance(value, str | Path) and str(value):
            return Path(value)
    elif isinstance(value, str | kind) or (kind is float and isinstance(value, int)):
        try:
            number = kind(value)
        except (ValueError, OverflowError):
            raise _wrong(value, kind) from None
        if math.isfinite(number):
            return number
    raise _wrong(value, kind)


def _choice(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if str(value) == str(choice) and not isinstance(value, bool):
            return choice
    close = difflib.get_close_matches(str(value), map(str, choices), n=1, cutoff=0.7)
    suggestion = f" (did you mean {close[0]}?)" if close else ""
    raise ValueError(f"needs {in_words(Literal[choices])}, not {shown(value)}{suggestion}")


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _wrong(value: Any, hint: Any) -> ValueError:
    return ValueError(f"needs {in_words(hint)}, not {shown(value)}")


def typed(value: Any, hint: Any, name: str = "") -> Any:
    """Convert a JSON value back to the type that was written: the inverse of `dataclasses.asdict`.

    Fields that a dataclass does not have are ignored, so that a file may hold more than is read.

    Args:
        value: Value that `json.loads` gave.
        hint: Type to convert to: `int`, `float` or `str`, a `Literal`, a dataclass, a mapping with string
            keys, a tuple of values of one type, or an optional one of these.
        name: Name of the value in messages.

    Raises:
        ValueError: the value, or one within it, has another type or is missing. The message names it by its
            path, as in `'scores.system.BLEU-4.value' needs a number, not 'high'`.
    """
    hint, optional = required(hint)
    if value is None and optional:
        return None
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if dataclasses.is_dataclass(kind) or kind in (dict, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"'{name}' needs a JSON object, not {shown(value)}")
        if kind in (dict, Mapping):
            return {key: typed(item, parts[1], _path(name, key)) for key, item in value.items()}
        return _typed_record(value, kind, name)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(typed(item, parts[0], _path(name, place)) for place, item in enumerate(value))
    if kind is Literal and value in parts:
        return value
    types = {int: (int,), float: (int, float), str: (str,)}.get(kind, ())
    if isinstance(value, types) and not isinstance(value, bool):
        return value
    raise ValueError(f"'{name}' needs {in_words(hint)}, not {shown(value)}")


def _typed_record(values: dict[str, Any], kind: Any, name: str) -> Any:
    hints, found = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        path = _path(name, field.name)
        if field.name in values:
            found[field.name] = typed(values[field.name], hints[field.name], path)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"it has no '{path}'")
    return kind(**found)


def _path(name: str, part: object) -> str:
    return f"{name}.{part}" if name else str(part)


def required(hint: Any) -> tuple[Any, bool]:
    """The type inside an optional type, and whether it was optional: `int | None` gives `int` and True."""
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    (kind,) = (part for part in get_args(hint) if part is not type(None))
    return kind, True


def in_words(hint: Any) -> str:
    """The values that a type takes, in words, such as `a whole number` or `one of step, cosine`."""
    hint, _ = required(hint)
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if kind is tuple and parts[-1] is not Ellipsis:
        return f"{len(parts)} values, each {in_words(parts[0])}"
    if kind in (list, tuple):
        return f"one value or more, each {in_words(parts[0])}"
    return _WORDS[kind]


def placeholder(hint: Any) -> str:
    """The word that stands for a value of a type in help, such as `PATH`."""
    hint, _ = required(hint)
    kind = get_origin(hint) or hint
    if kind in (list, tuple):
        return placeholder(get_args(hint)[0])
    return "NAME" if kind is Literal else _PLACEHOLDERS[kind]


def shown(value: Any) -> str:
    """A value as a message shows it: as it is typed, in quotes, and cut if it is long."""
    text = " ".join(written(value).split())
    return f"'{text[:_SHOWN]}...'" if len(text) > _SHOWN else f"'{text}'"


def written(value: Any) -> str:
    """A value as it is typed on a command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return " ".join(map(written, value))
    return str(value)
