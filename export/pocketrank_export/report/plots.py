"""The report's plots: pure functions from a few typed values to inline SVG.

Each takes the ``width`` to draw for; narrow drawings (a phone) put labels above their rows instead of beside them.
Words are 12 units high, so a drawing is shown at about the width that it was drawn for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pocketrank.metrics import Interval
from pocketrank_export.report.svg import Scale, decades, drawing, element, line, marked, spread, text, ticks, tip

WIDE, NARROW = 640, 340
_BESIDE = 480  # from this width on, labels stand beside their rows
_SMALL = 4  # from a label's middle down to its baseline


class Kind(StrEnum):
    """How a mark is drawn: the class of its elements."""

    OURS = "ours"  # accent, filled
    BASELINE = "baseline"  # grey, filled
    FORBIDDEN = "forbidden"  # outlined: privacy forbids it


@dataclass(frozen=True)
class Plot:
    """One plot as inline SVG, drawn for a page and for a phone; the style sheet shows the one that fits."""

    wide: str
    narrow: str


@dataclass(frozen=True)
class Row:
    """A mean with its interval; ``note`` is said when the pointer rests on it."""

    label: str
    kind: Kind
    mean: float
    low: float
    high: float
    note: str = ""

    @classmethod
    def of(cls, label: str, kind: Kind, interval: Interval) -> Row:
        """The row of ``interval``, which says how much it is of."""
        return cls(label, kind, interval.mean, interval.low, interval.high, f", n = {interval.n}")


@dataclass(frozen=True)
class Series:
    """One value before the first round and one after each."""

    label: str
    kind: Kind
    values: tuple[float, ...]
    dashed: bool = False


@dataclass(frozen=True)
class Reference:
    """A value that does not change with the rounds."""

    label: str
    kind: Kind
    value: float


@dataclass(frozen=True)
class Bar:
    """A value >= 0 with the words that stand at its end."""

    label: str
    kind: Kind
    value: float
    words: str


@dataclass(frozen=True)
class Change:
    """A value before and after; ``accent`` where it belongs to a private column."""

    label: str
    accent: bool
    before: float
    after: float


def both(draw: Callable[[float], str]) -> Plot:
    """A plot for each width."""
    return Plot(draw(WIDE), draw(NARROW))


def intervals(
    rows: Sequence[Row],
    label: str,
    width: float,
    row_height: float = 34,
    show: Callable[[float], str] = "{:.3f}".format,
    *,
    zero: bool = True,
) -> str:
    """Dots with intervals, one row each, over an axis that holds ``zero``; a rule before the first forbidden row."""
    gutter, height = _gutter(width, 168, row_height)
    x = _axis([*[0.0] * zero, *(row.low for row in rows), *(row.high for row in rows)], gutter, width - 62)
    top = 8.0
    rule = next((index for index, row in enumerate(rows) if row.kind is Kind.FORBIDDEN), len(rows))
    ruled = 0 < rule < len(rows)
    tops = [top + index * height + (24 if ruled and index >= rule else 0) for index in range(len(rows))]
    bottom = tops[-1] + height
    marks = _marks(x, width)
    parts = _grid(x, marks, marked(marks), top, bottom)
    if ruled:
        at = tops[rule] - 17
        parts += [
            line(0, at, width, at, "rule"),
            text("forbidden by privacy, shown for honesty", width, at + 16, class_="aside", text_anchor="end"),
        ]
    for row, row_top in zip(rows, tops, strict=True):
        middle = _middle(row_top, height, width)
        parts.append(_row_label(row.label, row_top, middle, gutter, str(row.kind)))
        parts.append(
            element(
                "g",
                tip(f"{row.label}: {show(row.mean)} [{show(row.low)}, {show(row.high)}]{row.note}"),
                element("rect", x=gutter, y=row_top, width=width - gutter, height=height, class_="hit"),
                line(x(row.low), middle, x(row.high), middle, "interval"),
                element("circle", cx=x(row.mean), cy=middle, r=5.5 if height > 26 else 4.5, class_="dot"),
                text(show(row.mean), max(x(row.high), x(row.mean)) + 9, middle + _SMALL, class_="value"),
                class_=f"mark {row.kind}",
            )
        )
    return drawing(width, bottom + 24, label, parts)


def curves(series: Sequence[Series], references: Sequence[Reference], label: str, width: float) -> str:
    """Values by round as lines, with horizontal references; each is named at its right end."""
    height = 300.0 if width >= _BESIDE else 280.0
    values = [value for each in series for value in each.values] + [each.value for each in references]
    marks = ticks(min(values), max(values), 5)
    x = Scale(0, max(1, *(len(each.values) - 1 for each in series)), 46, width - (136 if width >= _BESIDE else 112))
    y = Scale(marks[0], marks[-1], height - 46, 14)
    parts = _over_rounds(x, y, marks, width, height)
    ends: list[tuple[str, float, str]] = []
    for reference in references:
        at = y(reference.value)
        parts.append(
            element(
                "g",
                tip(f"{reference.label}: {reference.value:.3f}"),
                line(x.start, at, x.end, at, "reference"),
                class_=f"mark {reference.kind}",
            )
        )
        ends.append((reference.label, reference.value, str(reference.kind)))
    for each in series:
        points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(each.values))
        dots = (
            element(
                "g",
                tip(f"{each.label}, round {index}: {value:.3f}"),
                element("circle", cx=x(index), cy=y(value), r=2.6 if each.dashed else 3.6, class_="dot"),
            )
            for index, value in enumerate(each.values)
        )
        style = f"mark {each.kind} dashed" if each.dashed else f"mark {each.kind}"
        parts.append(element("g", element("polyline", points=points, class_="curve"), *dots, class_=style))
        ends.append((each.label, each.values[-1], str(each.kind)))
    for (name, value, kind), at in zip(ends, spread([y(value) for _, value, _ in ends], 16), strict=True):
        parts.append(line(x.end + 6, y(value), x.end + 14, at, "leader"))
        parts.append(text(f"{name} {value:.3f}", x.end + 18, at + _SMALL, class_=f"end {kind}"))
    return drawing(width, height, label, parts)


def spending(epsilon_by_round: Sequence[float], budget: float, label: str, width: float) -> str:
    """What the rounds spent so far, from zero, under the line of the budget."""
    height = 240.0
    marks = ticks(0.0, max(budget, *epsilon_by_round) * 1.05, 5)
    x = Scale(0, len(epsilon_by_round), 46, width - (136 if width >= _BESIDE else 112))
    y = Scale(0, marks[-1], height - 46, 14)
    parts = _over_rounds(x, y, marks, width, height)
    spent = [(x(index), y(value)) for index, value in enumerate((0.0, *epsilon_by_round))]
    points = " ".join(f"{at:.1f},{high:.1f}" for at, high in spent)
    parts.append(element("polygon", points=f"{points} {x.end:.1f},{y.start:.1f}", class_="area ours"))
    dots = (
        element(
            "g",
            tip(f"after round {index}: ε {value:.3f}"),
            element("circle", cx=x(index), cy=y(value), r=3.6, class_="dot"),
        )
        for index, value in enumerate(epsilon_by_round, start=1)
    )
    parts.append(element("g", element("polyline", points=points, class_="curve"), *dots, class_="mark ours"))
    parts.append(
        element(
            "g",
            tip(f"budget: ε {budget:.3f}"),
            line(x.start, y(budget), x.end, y(budget), "reference"),
            class_="mark forbidden",
        )
    )
    wanted = [y(budget) - 1, y(epsilon_by_round[-1]) + 1]
    for words, kind, at in zip(
        (f"budget {budget:.2f}", f"spent {epsilon_by_round[-1]:.2f}"),
        ("forbidden", "ours"),
        spread(wanted, 16),
        strict=True,
    ):
        parts.append(text(words, x.end + 12, at + _SMALL, class_=f"end {kind}"))
    return drawing(width, height, label, parts)


def bars(rows: Sequence[Bar], label: str, width: float, show: Callable[[float], str], *, log: bool = False) -> str:
    """Horizontal bars from zero; where ``log``, from a power of ten below the smallest value, which must be > 0."""
    gutter, height = _gutter(width, 168, 34)
    values = [row.value for row in rows]
    end = width - 76
    if log:
        marks = decades(min(values), max(values))
        x = Scale(marks[0], marks[-1], gutter, end, log=True)
        if width < _BESIDE and len(marks) > 4:
            marks = marks[::2]
    else:
        x = _axis([0.0, *values], gutter, end)
        marks = _marks(x, width)
    top, bottom = 8.0, 8.0 + height * len(rows)
    parts = _grid(x, marks, [show(mark) for mark in marks], top, bottom)
    for index, row in enumerate(rows):
        row_top = top + index * height
        middle = _middle(row_top, height, width)
        parts.append(_row_label(row.label, row_top, middle, gutter, str(row.kind)))
        bar = element(
            "rect", x=gutter, y=middle - 7, width=max(x(row.value) - gutter, 1), height=14, rx=3, class_="bar"
        )
        words = text(row.words, x(row.value) + 9, middle + _SMALL, class_="value")
        parts.append(element("g", tip(f"{row.label}: {row.words}"), bar, words, class_=f"mark {row.kind}"))
    return drawing(width, bottom + 24, label, parts)


def dumbbells(rows: Sequence[Change], label: str, width: float) -> str:
    """Before (hollow) and after (filled) of each row, joined, over an axis that holds zero."""
    gutter, height = _gutter(width, 190, 24)
    values = [0.0, *(row.before for row in rows), *(row.after for row in rows)]
    x = _axis(values, gutter, width - 16)
    top, bottom = 8.0, 8.0 + height * len(rows)
    marks = _marks(x, width)
    parts = _grid(x, marks, marked(marks), top, bottom)
    for index, row in enumerate(rows):
        row_top = top + index * height
        middle = _middle(row_top, height, width)
        kind = Kind.OURS if row.accent else Kind.BASELINE
        parts.append(_row_label(row.label, row_top, middle, gutter, str(kind)))
        parts.append(
            element(
                "g",
                tip(f"{row.label}: {row.before:+.3f} before, {row.after:+.3f} after"),
                element("rect", x=gutter, y=row_top, width=width - gutter, height=height, class_="hit"),
                line(x(row.before), middle, x(row.after), middle, "interval"),
                element("circle", cx=x(row.before), cy=middle, r=3.6, class_="before"),
                element("circle", cx=x(row.after), cy=middle, r=4.8, class_="dot"),
                class_=f"mark {kind}",
            )
        )
    return drawing(width, bottom + 24, label, parts)


def frame(
    x: Scale, y: Scale, marks: Sequence[float], words: Sequence[str], values: Sequence[float], height: float
) -> list[str]:
    """Horizontal lines with their values on the left, and the values of ``marks`` below."""
    parts = []
    for value, said in zip(values, marked(values), strict=True):
        parts.append(line(x.start, y(value), x.end, y(value), "grid"))
        parts.append(text(said, x.start - 10, y(value) + _SMALL, class_="tick", text_anchor="end"))
    parts += [
        text(said, x(mark), height - 26, class_="tick", text_anchor="middle")
        for mark, said in zip(marks, words, strict=True)
    ]
    return parts


def _gutter(width: float, beside: float, row_height: float) -> tuple[float, float]:
    """Room for labels left of the rows, and the height of a row: narrow drawings have the label above."""
    return (beside, row_height) if width >= _BESIDE else (14.0, row_height * 0.6 + 20)


def _middle(row_top: float, height: float, width: float) -> float:
    return row_top + height / 2 if width >= _BESIDE else row_top + 18 + (height - 18) / 2


def _row_label(words: str, row_top: float, middle: float, gutter: float, class_: str) -> str:
    if gutter > 100:
        return text(_short(words), gutter - 14, middle + _SMALL, class_=f"label {class_}", text_anchor="end")
    return text(_short(words, 40), gutter + 6, row_top + 15, class_=f"label {class_}")


def _short(words: str, most: int = 25) -> str:
    """Words that fit beside a row: a long name loses its middle."""
    return words if len(words) <= most else f"{words[: most // 2]}…{words[-(most // 2) :]}"


def _axis(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale whose ends are round."""
    marks = ticks(min(values), max(values), 8)
    return Scale(marks[0], marks[-1], start, end)


def _marks(x: Scale, width: float) -> tuple[float, ...]:
    """Round values within the scale, few enough for the width."""
    return tuple(
        mark for mark in ticks(x.low, x.high, 6 if width >= _BESIDE else 5) if x.low - 1e-9 <= mark <= x.high + 1e-9
    )


def _grid(x: Scale, marks: Sequence[float], words: Sequence[str], top: float, bottom: float) -> list[str]:
    """Vertical lines with their values below; zero stands out."""
    parts = []
    for mark, said in zip(marks, words, strict=True):
        parts.append(line(x(mark), top, x(mark), bottom, "zero" if mark == 0 else "grid"))
        parts.append(text(said, x(mark), bottom + 17, class_="tick", text_anchor="middle"))
    return parts


def _over_rounds(x: Scale, y: Scale, marks: Sequence[float], width: float, height: float) -> list[str]:
    """A frame whose values below are rounds."""
    spaced = ticks(0, x.high, 10 if width >= _BESIDE else 5)
    rounds = [mark for mark in spaced if mark == int(mark) and mark <= x.high]
    label = text("round", (x.start + x.end) / 2, height - 8, class_="tick", text_anchor="middle")
    return [*frame(x, y, rounds, [f"{mark:.0f}" for mark in rounds], marks, height), label]
