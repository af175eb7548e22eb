"""The plots of a build's report that no other page has: size against quality, and predicted against observed shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pocketrank_export.report.calibration import Bin
from pocketrank_export.report.plots import WIDE, Kind, frame
from pocketrank_export.report.svg import Scale, drawing, element, line, marked, spread, text, ticks, tip

_SMALL = 4  # from a label's middle down to its baseline
_GAP = 13  # between the middles of letters
_LEAST = 0.01  # of nDCG that an axis spans: what is closer together looks so
_LEGEND = 36  # characters of a name in a legend


@dataclass(frozen=True)
class Point:
    """A file: its size, and the quality that it gives; an interval of no length is not drawn."""

    label: str
    kind: Kind
    size_bytes: int
    mean: float
    low: float
    high: float


def scatter(points: Sequence[Point], label: str, width: float, show_size: Callable[[float], str]) -> str:
    """Quality over size on a logarithmic scale, with a letter a point and a legend below.

    Args:
        points: One or more, of sizes above 0.
        label: Of the drawing.
        width: To draw for.
        show_size: Bytes in words.
    """
    columns = 2 if width >= WIDE else 1
    plot_height, under = 290.0, 18.0 * math.ceil(len(points) / columns)
    sizes = [point.size_bytes for point in points]
    marks = _rounds(min(sizes), max(sizes), 6 if width >= WIDE else 4)
    low, high = min(point.low for point in points), max(point.high for point in points)
    spare = max(0.0, _LEAST - (high - low)) / 2
    values = ticks(low - spare, high + spare, 5)
    x = Scale(marks[0], marks[-1], 52, width - 26, log=True)
    y = Scale(values[0], values[-1], plot_height - 46, 14)
    parts = frame(x, y, marks, [show_size(mark) for mark in marks], values, plot_height)
    parts.append(text("size", (x.start + x.end) / 2, plot_height - 8, class_="tick", text_anchor="middle"))
    letters: list[str] = []
    places = [(x(point.size_bytes), y(point.mean)) for point in points]
    for number, (point, (across, down), at) in enumerate(zip(points, places, _apart(places, y), strict=True)):
        letter = _letter(number)
        said = f"{letter}: {point.label}, {show_size(point.size_bytes)}, {point.mean:.4f}"
        interval = [line(across, y(point.low), across, y(point.high), "interval")] if point.high > point.low else []
        dot = element("circle", cx=across, cy=down, r=5, class_="dot")
        parts.append(element("g", tip(said), *interval, dot, class_=f"mark {point.kind}"))
        letters.append(text(letter, across + 9, at + _SMALL, class_=f"label {point.kind}"))
        row, column = divmod(number, columns)
        words = f"{letter}: {point.label if len(point.label) <= _LEGEND else point.label[: _LEGEND - 1] + '…'}"
        letters.append(
            text(words, 52 + column * (width - 52) / 2, plot_height + 14 + 18 * row, class_=f"label {point.kind}")
        )
    return drawing(width, plot_height + under + 6, label, [*parts, *letters])


def reliability(bins: Sequence[Bin], label: str, width: float) -> str:
    """Observed over predicted share with intervals; on the diagonal they are the same. One bin or more."""
    height = 360.0 if width >= WIDE else 320.0
    largest = max(max(each.predicted, each.observed.high) for each in bins)
    marks = ticks(0.0, largest, 5)
    x = Scale(marks[0], marks[-1], 52, width - 26)
    y = Scale(marks[0], marks[-1], height - 46, 26)
    words = marked(marks)
    parts = frame(x, y, marks, words, marks, height)
    parts.append(text("observed share", 4, 11, class_="tick"))
    parts.append(text("predicted share", (x.start + x.end) / 2, height - 8, class_="tick", text_anchor="middle"))
    same = line(x.start, y.start, x.end, y.end, "reference")
    parts.append(element("g", tip("predicted = observed"), same, class_="mark forbidden"))
    points = " ".join(f"{x(each.predicted):.1f},{y(each.observed.mean):.1f}" for each in bins)
    parts.append(element("g", element("polyline", points=points, class_="curve"), class_="mark ours dashed"))
    for each in bins:
        across, seen = x(each.predicted), each.observed
        parts.append(
            element(
                "g",
                tip(f"{each.count:,} candidates: predicted {each.predicted:.4f}, observed {seen.mean:.4f}"),
                line(across, y(seen.low), across, y(seen.high), "interval"),
                element("circle", cx=across, cy=y(seen.mean), r=4.5, class_="dot"),
                class_="mark ours",
            )
        )
    return drawing(width, height, label, parts)


def _apart(places: Sequence[tuple[float, float]], y: Scale) -> list[float]:
    """Heights of the letters beside points, within the axis: those of points that stand close across are spread."""
    order = sorted(range(len(places)), key=lambda index: places[index][0])
    crowds: list[list[int]] = []
    for index in order:
        if crowds and places[index][0] - places[crowds[-1][-1]][0] < 2 * _GAP:
            crowds[-1].append(index)
        else:
            crowds.append([index])
    found = [0.0] * len(places)
    for crowd in crowds:
        gap = min(_GAP, (y.start - y.end) / len(crowd))
        placed = spread([places[index][1] for index in crowd], gap)
        # What went over an edge pushes the others back.
        floor, ceiling = y.start, y.end
        for at, index in sorted(zip(placed, crowd, strict=True), reverse=True):
            found[index] = min(at, floor)
            floor = found[index] - gap
        for index in sorted(crowd, key=found.__getitem__):
            found[index] = max(found[index], ceiling)
            ceiling = found[index] + gap
    return found


def _letter(number: int) -> str:
    """``a``, ``b``, ..., ``z``, ``a1``, ..."""
    turn, place = divmod(number, 26)
    return f"{chr(ord('a') + place)}{turn or ''}"


def _rounds(low: float, high: float, most: int) -> tuple[float, ...]:
    """Round values from below ``low`` to above ``high``: at most ``most``, or powers of ten where these are more."""
    marks: list[float] = []
    for factors in ((1, 2, 5), (1, 3), (1,)):
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        every = [factor * 10.0**power for power in powers for factor in factors]
        start = max(index for index, mark in enumerate(every) if mark <= low * 0.95)
        end = min(index for index, mark in enumerate(every) if mark >= high * 1.05)
        marks = every[start : end + 1]
        if len(marks) <= most:
            break
    return tuple(marks)
