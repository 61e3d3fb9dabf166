"""Reading JSON that RadScribe wrote: what is cut or damaged is one clear error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from radscribe.errors import RadScribeError


def read_json_object(path: Path, hint: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: of the file.
        hint: what to do where the file is damaged.

    Raises:
        RadScribeError: the file cannot be read, or does not hold a JSON object.
    """
    return _object(_text(path, hint), f"'{path}'", hint)


def read_json_lines(path: Path, hint: str) -> list[dict[str, Any]]:
    """The objects in a JSON Lines file, blank lines left out.

    Args:
        path: of the file.
        hint: what to do where the file is damaged.

    Raises:
        RadScribeError: the file cannot be read, or a line does not hold a JSON object; it names the line.
    """
    lines = enumerate(_text(path, hint).split("\n"), start=1)
    return [_object(line, f"'{path}', line {number},", hint) for number, line in lines if line.strip()]


def _text(path: Path, hint: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RadScribeError(f"cannot read '{path}': {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise RadScribeError(f"'{path}' is damaged: it is no text", hint) from error


def _object(text: str, where: str, hint: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RadScribeError(f"{where} is damaged: {reason}", hint) from error
    if not isinstance(value, dict):
        raise RadScribeError(f"{where} is damaged: it holds no JSON object", hint)
    return value
