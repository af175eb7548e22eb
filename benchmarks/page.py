"""The page of ``make bench``: what was measured, beside its goals. It loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pocketrank_export.report import plots
from pocketrank_export.report.plots import Bar, Kind
from pocketrank_export.report.template import template

CALLS: Final[Mapping[str, tuple[str, Kind]]] = {
    "rank_columns_us": ("rank(), columns", Kind.OURS),
    "rank_mappings_us": ("rank(), mappings", Kind.OURS),
    "runner_us": ("signature runner", Kind.BASELINE),
    "invoke_us": ("invoke alone", Kind.BASELINE),
}
STARTS: Final[Mapping[str, tuple[str, Kind]]] = {
    "cold_start_ms": ("SDK", Kind.OURS),
    "bare_start_ms": ("bare", Kind.BASELINE),
}


def page(documents: Sequence[Mapping[str, Any]]) -> str:
    """HTML of what ``rows.document`` made of each runtime, with the plots inline."""
    drawn = [
        {
            "document": document,
            "slate": _both(_slate(document["detail"]), "Time of one slate, microseconds"),
            "starts": _both(_starts(document["detail"]), "Cold start, milliseconds"),
        }
        for document in documents
    ]
    return template(Path(__file__).with_name("page.html.j2")).render(runtimes=drawn)


def _slate(detail: Mapping[str, Any]) -> list[Bar]:
    bars = [
        Bar(f"{label}, {name}", kind, student[key]["p50"], f"{student[key]['p50']:.0f} us")
        for name, student in detail["students"].items()
        for key, (label, kind) in CALLS.items()
    ]
    trees = detail["lightgbm_us"]["p50"]
    return [*bars, Bar("LightGBM, bare predict", Kind.BASELINE, trees, f"{trees:.0f} us")]


def _starts(detail: Mapping[str, Any]) -> list[Bar]:
    return [
        Bar(f"{label}, {name}", kind, student[key]["p50"], f"{student[key]['p50']:.0f} ms")
        for name, student in detail["students"].items()
        for key, (label, kind) in STARTS.items()
    ]


def _both(bars: Sequence[Bar], label: str) -> dict[str, str]:
    """The plot for a page and for a phone."""
    widths = {"wide": plots.WIDE, "narrow": plots.NARROW}
    return {name: plots.bars(bars, label, width, "{:.0f}".format) for name, width in widths.items()}
