"""Small pieces of SVG: elements, text, scales, ticks.

Colours are classes, never values: the page's style sheet gives them, so that a drawing follows dark mode and print.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass


def element(name: str, *children: str, **attributes: str | float) -> str:
    """One element. ``children`` are markup already, attribute values are escaped.

    In their names a last underscore falls away (``class_``), any other becomes a hyphen (``text_anchor``).
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_number(value) if not isinstance(value, str) else value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def text(content: str, x: float, y: float, **attributes: str | float) -> str:
    """Words at a point."""
    return element("text", html.escape(content), x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def tip(content: str) -> str:
    """What a browser shows when the pointer rests on the element that holds this."""
    return element("title", html.escape(content))


def drawing(width: float, height: float, label: str, children: Sequence[str]) -> str:
    """A whole picture that screen readers announce as ``label``; the table beside it holds its figures."""
    return element(
        "svg", *children, viewBox=f"0 0 {_number(width)} {_number(height)}", role="img", aria_label=label, class_="plot"
    )


@dataclass(frozen=True)
class Scale:
    """A straight map of ``low .. high`` to ``start .. end``, of logarithms where ``log``; one value: the middle."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where ``value`` lies on the drawing."""
        low, high = self._unit(self.low), self._unit(self.high)
        share = (self._unit(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _unit(self, value: float) -> float:
        return math.log10(value) if self.log else value


def ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """At most ``most`` + 1 round values that cover ``low .. high``: 1, 2, 2.5 or 5 times a power of ten apart."""
    span = max(high - low, 1e-9)
    for exponent in range(math.floor(math.log10(span)) - 2, math.ceil(math.log10(span)) + 2):
        for factor in (1.0, 2.0, 2.5, 5.0):
            step = factor * 10.0**exponent
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            if last - first <= most:
                return tuple(round(index * step, 12) for index in range(first, last + 1))
    raise AssertionError(f"no ticks for {low} .. {high}")


def marked(marks: Sequence[float]) -> tuple[str, ...]:
    """Values of an axis in words: as many decimals as the finest needs, the same for all."""
    digits = next(digits for digits in range(13) if all(abs(round(mark, digits) - mark) < 1e-12 for mark in marks))
    return tuple(f"{mark:.{digits}f}".replace("-", "−") for mark in marks)


def decades(low: float, high: float) -> tuple[float, ...]:
    """The powers of ten from below ``low`` to at least ``high``."""
    first, last = math.floor(math.log10(low * 0.9)), math.ceil(math.log10(high))
    return tuple(10.0**exponent for exponent in range(first, last + 1))


def spread(positions: Sequence[float], gap: float) -> tuple[float, ...]:
    """Move positions apart until neighbours are ``gap`` apart; their order stays, and so does each crowd's centre."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    crowds: list[tuple[float, list[int]]] = []  # centre, members from low to high
    for index in order:
        centre, members = positions[index], [index]
        while (
            crowds and centre - (len(members) - 1) * gap / 2 < crowds[-1][0] + (len(crowds[-1][1]) - 1) * gap / 2 + gap
        ):
            before, others = crowds.pop()
            centre = (before * len(others) + centre * len(members)) / (len(others) + len(members))
            members = others + members
        crowds.append((centre, members))
    placed = list(positions)
    for centre, members in crowds:
        for rank, index in enumerate(members):
            placed[index] = centre + (rank - (len(members) - 1) / 2) * gap
    return tuple(placed)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
