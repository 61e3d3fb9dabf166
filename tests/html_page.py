"""An HTML page as the tests of pages read it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "link", "input"}
DRAWN = {"line", "circle", "rect", "path", "polyline"}


class Page(HTMLParser):
    """What a test asks of a page; parsing fails on tags that are not closed in order."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        assert tag in DRAWN
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        where = tuple(name for tag, attrs in self.open for name in (tag, *(attrs.get("class") or "").split()))
        self.texts.append((where, data))

    def text(self, *inside: str) -> str:
        """All text within elements of these tags or classes."""
        found = (data for where, data in self.texts if set(inside) <= set(where))
        return " ".join(" ".join(found).split())

    def studies(self) -> list[str]:
        """The ids of the cards, in their order."""
        return [data for where, data in self.texts if where[-1:] == ("h3",)]

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]
