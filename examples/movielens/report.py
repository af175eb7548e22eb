"""The demo's report: ``report.json`` for tools, and one self-contained page, ``report.html``, for people.

The page loads nothing and runs nothing. Its exact figures stand in ``<data value="...">``, and its sentences are
computed from them (``wording``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from examples.movielens import wording
from examples.movielens.figures import Gains, HeadWeight, Quality, Report
from pocketrank.durable import write_atomically
from pocketrank_export.report import plots
from pocketrank_export.report.plots import Bar, Change, Kind, Plot, Reference, Row, Series, both
from pocketrank_export.report.template import template
from pocketrank_export.report.wording import microseconds, signed, size

SHOWN_WEIGHTS = 20
"""So many columns of the head are drawn; the page's table has all of them."""

VARIANTS: Mapping[str, tuple[str, Kind]] = {
    "first_stage": ("First stage", Kind.BASELINE),
    "v1": ("v1", Kind.BASELINE),
    "v2": ("v2, no noise", Kind.OURS),
    "v2_private": ("v2 private", Kind.OURS),
    "v2_local": ("v2 local", Kind.OURS),
    "consented": ("Consented", Kind.FORBIDDEN),
    "central": ("Central", Kind.FORBIDDEN),
}
GAINS: Mapping[str, tuple[str, Kind]] = {
    "federated": ("Rounds, no noise", Kind.OURS),
    "federated_private": ("Private rounds", Kind.OURS),
    "local": ("Learning locally", Kind.OURS),
    "to_central": ("Central over v2", Kind.FORBIDDEN),
}
FILES: Mapping[str, tuple[str, Kind]] = {
    "teacher": ("Teacher", Kind.BASELINE),
    "float": ("Student, float32", Kind.BASELINE),
    "quantized": ("Student, int8", Kind.OURS),
    "update": ("Update to v2", Kind.OURS),
}


def write_report(report: Report, folder: Path) -> Path:
    """Write ``report.json`` and ``report.html``, each whole or not at all.

    Args:
        report: What was measured.
        folder: Where to; made if missing.

    Returns:
        The page.

    Raises:
        InputError: A value of ``report`` is of another type than its field's, or not finite. Nothing was written.
        OSError: The folder or a file can't be written.
    """
    content = report.to_json()
    page = render(content)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(
        folder / "report.json", json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    )
    path = folder / "report.html"
    write_atomically(path, page.encode())
    return path


def render(content: Mapping[str, object]) -> str:
    """The page of ``Report.to_json()``, or of a ``report.json`` that was read.

    Raises:
        InputError: ``content`` is no report; the message names the key.
    """
    report = Report.from_json(content)
    head = sorted(report.head, key=lambda weight: -abs(weight.change))
    return template(Path(__file__).with_name("report.html.j2")).render(
        report=report,
        plots=_plots(report, head[:SHOWN_WEIGHTS]),
        head=head,
        shown_weights=SHOWN_WEIGHTS,
        words=wording,
        size=size,
        variants=VARIANTS,
        gains=GAINS,
        files=FILES,
        n=report.ndcg_at_10.v2_private.n,
    )


def _plots(report: Report, head: list[HeadWeight]) -> dict[str, Plot]:
    """All plots of the page by name."""
    ndcg = report.ndcg_at_10
    series = (
        Series("no noise", Kind.OURS, report.ndcg_by_round.v2, dashed=True),
        Series("private", Kind.OURS, report.ndcg_by_round.v2_private),
    )
    references = (Reference("v1", Kind.BASELINE, ndcg.v1.mean), Reference("central", Kind.FORBIDDEN, ndcg.central.mean))
    sizes = [
        Bar(name, kind, max(getattr(report.size_bytes, key), 1), size(getattr(report.size_bytes, key)))
        for key, (name, kind) in FILES.items()
    ]
    latency = report.latency_us
    times = [
        Bar("Interpreter alone", Kind.BASELINE, latency.invoke_p50, microseconds(latency.invoke_p50)),
        Bar("All of rank()", Kind.OURS, latency.rank_p50, microseconds(latency.rank_p50)),
    ]
    changes = [Change(weight.column, weight.private, weight.v1, weight.v2_private) for weight in head]
    return {
        "ndcg": both(
            lambda width: plots.intervals(_rows(ndcg), "nDCG@10 of each variant with its 95 % interval", width)
        ),
        "gains": both(
            lambda width: plots.intervals(
                _rows(report.gains),
                "Paired differences in nDCG@10 with their 95 % intervals",
                width,
                show=signed,
            )
        ),
        "mrr": both(
            lambda width: plots.intervals(
                _rows(report.mrr_at_10), "MRR@10 of each variant with its 95 % interval", width, row_height=25
            )
        ),
        "rounds": both(
            lambda width: plots.curves(series, references, "nDCG@10 after each round, without noise and with it", width)
        ),
        "epsilon": both(
            lambda width: plots.spending(
                report.epsilon_by_round, report.epsilon, "Epsilon spent after each round, and the budget", width
            )
        ),
        "sizes": both(lambda width: plots.bars(sizes, "Sizes of files on a logarithmic scale", width, size, log=True)),
        "latency": both(lambda width: plots.bars(times, "Median time of one slate", width, microseconds)),
        "head": both(
            lambda width: plots.dumbbells(changes, "Weights of the head before and after the private rounds", width)
        ),
    }


def _rows(measured: Quality | Gains) -> list[Row]:
    """One row a variant, or one a difference."""
    named = VARIANTS if isinstance(measured, Quality) else GAINS
    return [Row.of(name, kind, getattr(measured, key)) for key, (name, kind) in named.items()]
