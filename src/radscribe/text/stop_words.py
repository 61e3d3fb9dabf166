"""English stop words, such as `the` and `of`, which say little by themselves."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def stop_words() -> frozenset[str]:
    """The words of `stop_words.txt`, in lower case."""
    lines = files("radscribe.text").joinpath("stop_words.txt").read_text(encoding="ascii").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
