"""A page of a report as tests read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would see: words, elements, and the exact values of the figures."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.values: set[float] = set()
        self._raw = False
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = tag == "style"
        if tag == "data":
            self.values.add(float(dict(attrs)["value"] or "nan"))

    def handle_endtag(self, tag: str) -> None:
        self._raw = self._raw and tag != "style"

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def leaves(value: object) -> Iterator[object]:
    """Every value of a JSON document that holds no others."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value
