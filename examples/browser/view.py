"""What is shown: pure functions from what the reranker says to something that rich can print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from examples.browser.catalogue import Item
from pocketrank import RankedItem, Slate
from pocketrank.explanation import Explanation
from pocketrank.learner import FitResult
from pocketrank.stats import Stats

BAR: Final = 24
"""Characters of the longest bar."""
FEATURES: Final = 10
"""How many features an explanation shows."""


def page(
    slate: Slate,
    items: Sequence[RankedItem],
    movies: Mapping[str, Item],
    places: Mapping[str, int],
    before: Mapping[str, int],
) -> RenderableType:
    """The ``items`` of a slate that are shown, and how it came about.

    ``movies``, ``places`` and ``before``, the places as they were last, are by id; ``before`` is empty at first.
    """
    table = Table("", "moved", "title", "year", "genres", Column("score", justify="right"), "rules", box=None)
    for item in items:
        movie, place = movies[item.id], places[item.id]
        table.add_row(
            str(place),
            moved(before.get(item.id), place) if before else "",
            Text(movie["title"]),
            str(movie.get("year", "")),
            Text(", ".join(movie.get("genres") or ())),
            "-" if item.score is None else f"{item.score:+.2f}",
            Text("; ".join(item.reasons), style="dim"),
        )
    stages, count = ", ".join(slate.stages), len(slate) + slate.filtered
    head = f"\n{slate.bundle}: {count} candidates, {slate.filtered} hidden; {slate.latency_ms:.1f} ms ({stages})"
    omitted = [f"{stage} did not run: {why}" for stage, why in slate.omitted.items()]
    notes = [*([slate.fallback] if slate.fallback else []), *omitted, *slate.given_up]
    return Group(Text(head, style="bold"), *(Text(note, style="yellow") for note in notes), table)


def moved(before: int | None, place: int) -> Text:
    """How far an item came from ``before`` to ``place``."""
    if before is None:
        return Text("new", style="cyan")
    if before == place:
        return Text("=", style="dim")
    return Text(f"▲ {before - place}", style="green") if before > place else Text(f"▼ {place - before}", style="red")


def why(movie: Item, item: RankedItem, explanation: Explanation) -> RenderableType:
    """What each feature adds to an item's score, against the feature's default; the largest first, as bars."""
    added = [(name, value) for name, value in explanation.contributions.items() if value][:FEATURES]
    table = Table(box=None, show_header=False)
    for name, value in added:
        length = max(1, round(BAR * abs(value / added[0][1])))
        table.add_row(Text(name), f"{value:+.3f}", Text("█" * length, style="green" if value > 0 else "red"))
    rules = f"; rules: {', '.join(item.reasons)}" if item.reasons else ""
    return Group(Text(f"{movie['title']}: score {explanation.score:+.3f}{rules}", style="bold"), table)


def learned(result: FitResult) -> str:
    """What came of learning."""
    slates = f"{result.slates} slates with a movie that was liked"
    if not result.kept or result.before is None or result.after is None:
        return f"The order stays as it is: {result.stopped}, {slates}."
    return f"Learned from {slates}: loss on the newest {result.before:.3f} -> {result.after:.3f}. u takes it back."


def stats(counted: Stats) -> RenderableType:
    """All counts but those that are zero."""
    table = Table(box=None, show_header=False)
    for name, value in counted.to_json().items():
        if value:
            table.add_row(name, Text(_words(value)))
    return table


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_words(entry)}" for name, entry in value.items() if entry)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
