"""Reading texts to score from files."""

from __future__ import annotations

import json
from pathlib import Path

from radscribe.errors import RadScribeError
from radscribe.files import read_text

#: Number of characters of a value that error messages show.
_SHOWN = 40


def read_texts(path: Path | str) -> dict[str, str]:
    """Read a JSON Lines file with one `{"id": ..., "text": ...}` per line: texts by study id.

    Raises:
        RadScribeError: the file cannot be read, a line is not such an object, or an id occurs twice; the
        message names the line.
    """
    path = Path(path)
    hint = 'Each line must read {"id": "...", "text": "..."}'
    texts: dict[str, str] = {}
    first_line: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RadScribeError(f"{where} is not valid JSON: {error}", hint) from error
        for name in ("id", "text"):
            if not isinstance(entry, dict) or not isinstance(entry.get(name), str):
                given = isinstance(entry, dict) and name in entry
                found = f": it is {json.dumps(entry[name])[:_SHOWN]}" if given else ""
                raise RadScribeError(f"{where} has no string '{name}'{found}", hint)
        study = entry["id"]
        if study in texts:
            raise RadScribeError(
                f"{where} repeats the id '{study}' of line {first_line[study]}", "Keep one text per study"
            )
        texts[study], first_line[study] = entry["text"], number
    if not texts:
        raise RadScribeError(f"{path} has no texts", hint)
    return texts
