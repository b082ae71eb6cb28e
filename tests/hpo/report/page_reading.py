"""A report read as a browser's parser reads it."""

from __future__ import annotations

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

#: Elements that are never closed.
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements, their attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    @classmethod
    def read(cls, path: Path) -> Page:
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("td", "th", "caption"):
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    @property
    def shape(self) -> Counter[tuple[str, tuple[str, ...]]]:
        """How often each kind of element is there, with the names of its attributes."""
        return Counter((tag, tuple(sorted(attrs))) for tag, attrs in self.elements)

    @property
    def policy(self) -> str:
        (content,) = (
            attrs["content"]
            for tag, attrs in self.elements
            if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
        )
        assert content is not None
        return content

    @property
    def data(self) -> dict[str, Any]:
        """What the page's program draws."""
        scripts = [attrs for tag, attrs in self.elements if tag == "script"]
        index = next(i for i, attrs in enumerate(scripts) if attrs.get("id") == "data")
        loaded: dict[str, Any] = json.loads(self.texts["script"][index])
        return loaded

    @property
    def headings(self) -> list[str]:
        return [text.strip() for text in self.texts.get("h2", [])]

    def section(self, key: str) -> str:
        """The text of a section, with single spaces."""
        sections = [attrs for tag, attrs in self.elements if tag == "section"]
        index = next(i for i, attrs in enumerate(sections) if attrs.get("class") == key)
        return " ".join(self.texts["section"][index].split())
