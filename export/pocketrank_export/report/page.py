"""A build's report: ``report.json`` for tools, and one self-contained page, ``report.html``, for people.

The page loads nothing and runs nothing. Its exact figures stand in ``<data value="...">``, and its sentences are
computed from them (``wording``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pocketrank.durable import write_atomically
from pocketrank.metrics import Interval
from pocketrank_export.report import plots, wording
from pocketrank_export.report.charts import Point, reliability, scatter
from pocketrank_export.report.figures import Figures, Recipe
from pocketrank_export.report.plots import Bar, Kind, Plot, Row, both
from pocketrank_export.report.template import template

SHOWN: Final = 20
"""So many features are drawn; the table beside has all of them."""
_DRAWN: Final = {"baseline": Kind.BASELINE, "teacher": Kind.BASELINE, "student": Kind.OURS, "runtime": Kind.OURS}


def write(figures: Figures, folder: Path) -> Path:
    """Write ``report.json`` and ``report.html``, each whole or not at all.

    Args:
        figures: What was measured.
        folder: Where to; made if missing.

    Returns:
        The page.

    Raises:
        InputError: A figure that must be there is not a finite number. Nothing was written.
        OSError: The folder or a file can't be written.
    """
    content = figures.to_json()
    page = render(content)
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", f"{written}\n".encode())
    path = folder / "report.html"
    write_atomically(path, page.encode())
    return path


def render(content: object) -> str:
    """The page of ``Figures.to_json()``, or of a ``report.json`` that was read.

    Raises:
        InputError: ``content`` is no report; the message names the key.
    """
    figures = Figures.from_json(content)
    runtimes = list(dict.fromkeys(row.runtime for row in figures.recipes))
    return template(Path(__file__).with_name("page.html.j2")).render(
        figures=figures,
        failed=[verdict for verdict in figures.verdicts if not verdict.passed],
        plots=_plots(figures),
        recipes={runtime: _recipes(figures, runtime) for runtime in runtimes},
        shown=SHOWN,
        words=wording,
    )


def _plots(figures: Figures) -> dict[str, Plot]:
    """The plots that are always there, by name, and those that there is something for."""
    quality = [Row.of(each.label, _DRAWN[each.kind], each.ndcg) for each in figures.quality]
    differences = [Row.of(each.label, _DRAWN[each.kind], each.ndcg) for each in figures.differences]
    found = {
        "ndcg": both(lambda width: plots.intervals(quality, "nDCG@10 with 95 % intervals", width, zero=False)),
        "differences": both(
            lambda width: plots.intervals(
                differences, "Paired differences in nDCG@10 with 95 % intervals", width, show=wording.fine
            )
        ),
    }
    points = [
        Point(size.label, _DRAWN[size.kind], size.size_bytes, size.ndcg.mean, size.ndcg.low, size.ndcg.high)
        for size in figures.sizes
        if size.ndcg is not None and size.size_bytes > 0
    ]
    if points:
        found["sizes"] = _scattered(points, "nDCG@10 on the test part over the size of the file")
    if tried := _tried(figures.recipes):
        found["recipes"] = _scattered(tried, "nDCG@10 on the validation part over the size of the file, by recipe")
    if figures.latency:
        times = [
            Bar(f"on {each.runtime}", Kind.OURS, each.p50_us, wording.microseconds(each.p50_us))
            for each in figures.latency
        ]
        found["latency"] = both(lambda width: plots.bars(times, "Median time of one call", width, wording.microseconds))
    if figures.importance:
        # Without private features nothing is to be told apart.
        plain = Kind.BASELINE if any(each.private for each in figures.importance) else Kind.OURS
        features = [
            Row.of(each.feature, Kind.OURS if each.private else plain, each.loss) for each in figures.importance[:SHOWN]
        ]
        found["importance"] = both(
            lambda width: plots.intervals(
                features, "Loss of nDCG@10 where a feature is permuted, with 95 % intervals", width, 25, wording.fine
            )
        )
    if figures.calibration is not None:
        bins = figures.calibration.bins
        found["calibration"] = both(lambda width: reliability(bins, "Observed over predicted share", width))
    return found


def _recipes(figures: Figures, runtime: str) -> dict[str, Plot]:
    """What the search found on one runtime: the loss of quality and the time of each recipe that could be measured."""
    here = [row for row in figures.recipes if row.runtime == runtime]
    losses = [Row.of(row.recipe, _taken(row), _hundredfold(row.loss)) for row in here if row.loss is not None]
    times = [
        Bar(row.recipe, _taken(row), row.p50_us, wording.microseconds(row.p50_us))
        for row in here
        if row.p50_us is not None
    ]
    found = {}
    if losses:
        label = f"Relative loss of nDCG@10 in percent on {runtime} by recipe, with 95 % intervals"
        found["loss"] = both(lambda width: plots.intervals(losses, label, width, 28, wording.hundredths))
    if times:
        found["time"] = both(
            lambda width: plots.bars(
                times, f"Median time of one call on {runtime} by recipe", width, wording.microseconds
            )
        )
    return found


def _tried(recipes: Sequence[Recipe]) -> list[Point]:
    """One point a recipe: its nDCG@10 is the mean of the runtimes that gave one."""
    found = []
    for name in dict.fromkeys(row.recipe for row in recipes):
        rows = [row for row in recipes if row.recipe == name]
        values = [row.ndcg for row in rows if row.ndcg is not None]
        if values:
            kind = Kind.OURS if any(row.shipped for row in rows) else Kind.BASELINE
            mean = sum(values) / len(values)
            found.append(Point(name, kind, rows[0].size_bytes, mean, mean, mean))
    return found


def _hundredfold(share: Interval) -> Interval:
    """A share in percent, as an axis shows it."""
    return Interval(100 * share.mean, 100 * share.low, 100 * share.high, share.n)


def _taken(row: Recipe) -> Kind:
    return Kind.OURS if row.shipped else Kind.BASELINE


def _scattered(points: Sequence[Point], label: str) -> Plot:
    return both(lambda width: scatter(points, label, width, wording.size))
