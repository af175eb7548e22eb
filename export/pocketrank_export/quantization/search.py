"""Which recipe ships: each is measured on each runtime, and the best that passes is taken.

The cost of a recipe on a runtime is ``p50 * size ** 0.25``: half the size is worth 16 % of the time. With a weighted
cost, the noise of a time (a few per cent) can't make a file of floats win against one of a quarter of its size.

Where one recipe passes on all runtimes and costs at most 19 % more than the best on each, one file is enough: of those
recipes the one whose greatest excess is least. Else the bundle carries a variant for each runtime. 19 % is what twice
the size costs, and a second file is that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pocketrank.errors import GateError, InputError, PocketRankError
from pocketrank.features.profile import Array
from pocketrank.metrics import Interval, bootstrap
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each
from pocketrank_export.gates import Limits, order_kept

SIZE_WEIGHT: Final = 0.25
"""Exponent of the size in the cost."""
NEAR: Final = 2**SIZE_WEIGHT
"""Greatest ratio of a shared file's cost to that of the best on a runtime: what a second file as large would cost."""
_UNKNOWN: Final = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Measured:
    """One recipe on one runtime.

    Attributes:
        recipe: Its name.
        runtime: Name of the runtime's distribution.
        size_bytes: Of the file, > 0.
        finite: Whether all scores are; where they are not, no other figure of the scores counts.
        kendall_tau: To the float model, as ``gates.order_kept`` measures it.
        ndcg: nDCG@10.
        ndcg_float: Of the float model, on the same slates.
        loss: Paired difference float less quantized, as a share of ``ndcg_float``, with its 95 % interval.
        p50_us: Median time of one call, microseconds, > 0.
        error: Why it could not be made or run; None where it could.
    """

    recipe: str
    runtime: str
    size_bytes: int = 0
    finite: bool = False
    kendall_tau: float = math.nan
    ndcg: float = math.nan
    ndcg_float: float = math.nan
    loss: Interval = _UNKNOWN
    p50_us: float = math.nan
    error: str | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Measured:
        """Read what ``pocketrank.commands.output.plain`` made of one, null for what is no number."""
        row, loss = (
            {name: math.nan if value is None else value for name, value in part.items()}
            for part in (body, body["loss"])
        )
        interval = Interval(loss["mean"], loss["low"], loss["high"], int(loss["n"]))
        return cls(**{**row, "loss": interval, "error": body["error"]})

    @property
    def cost(self) -> float:
        """What choosing minimises, among those that pass."""
        return self.p50_us * float(self.size_bytes**SIZE_WEIGHT)


@dataclass(frozen=True)
class Choice:
    """What ships.

    Attributes:
        recipes: By runtime; the same for all where one file is enough.
        failures: Of each recipe and runtime that did not pass, what it failed and by how much.
    """

    recipes: Mapping[str, str]
    failures: Mapping[tuple[str, str], tuple[str, ...]]

    @property
    def shared(self) -> str | None:
        """The recipe of all runtimes; None where the bundle carries variants."""
        names = set(self.recipes.values())
        return names.pop() if len(names) == 1 else None


def choose(measured: Sequence[Measured], limits: Limits, runtimes: Sequence[str]) -> Choice:
    """Take the best recipe that passes, for each runtime or for all of them; the module says how.

    Args:
        measured: Each recipe on each runtime, once.
        limits: What passes.
        runtimes: Those that the bundle is declared to run on, one or more.

    Guarantees:
        Nothing that fails a limit is chosen. The order of ``measured`` does not matter.

    Raises:
        GateError: On a runtime nothing passes. The message lists every recipe there, what it failed and by how much.
        InputError: No runtimes, or a recipe twice on one.
    """
    if not runtimes:
        raise InputError("runtimes: expected the runtimes that the bundle is declared for, got none")
    rows = {(row.recipe, row.runtime): row for row in measured}
    if len(rows) != len(measured):
        raise InputError("measured: expected each recipe once a runtime, got one twice")
    failed = {key: failures(row, limits) for key, row in rows.items() if key[1] in runtimes}
    passing = {
        runtime: [row for key, row in rows.items() if key[1] == runtime and not failed[key]] for runtime in runtimes
    }
    if none := [runtime for runtime, found in passing.items() if not found]:
        raise GateError("; ".join(_nothing(runtime, failed) for runtime in none))
    best = {runtime: min(found, key=_order) for runtime, found in passing.items()}
    excess = {
        recipe: max(rows[recipe, runtime].cost / best[runtime].cost for runtime in best)
        for recipe in sorted({row.recipe for row in measured})
        if all(rows.get((recipe, runtime)) in found for runtime, found in passing.items())
    }
    shared = min(excess, key=lambda recipe: excess[recipe], default=None)
    one = shared is not None and excess[shared] <= NEAR
    chosen = {runtime: shared if one and shared is not None else row.recipe for runtime, row in best.items()}
    return Choice(chosen, {key: words for key, words in failed.items() if words})


def failures(row: Measured, limits: Limits) -> tuple[str, ...]:
    """What a row fails, in words; nothing where it passes. What was not measured fails."""
    if row.error is not None:
        return (f"not usable: {row.error}",)
    if not row.finite:
        return ("finite: the scores hold NaN or infinity",)
    found: list[str] = []
    if limits.kendall_tau is not None and not row.kendall_tau >= limits.kendall_tau:
        short = limits.kendall_tau - row.kendall_tau
        found.append(f"kendall_tau {row.kendall_tau:.4f}, >= {limits.kendall_tau:g} wanted ({short:.4f} short)")
    if limits.ndcg_loss is not None and not row.loss.mean <= limits.ndcg_loss:
        found.append(
            f"ndcg loss {row.loss.mean:.2%} [{row.loss.low:.2%}, {row.loss.high:.2%}], <= {limits.ndcg_loss:.2%} "
            f"wanted ({row.loss.mean - limits.ndcg_loss:.2%} over)"
        )
    most = math.inf if limits.size_bytes is None else limits.size_bytes
    if not 0 < row.size_bytes <= most:
        found.append(f"size {row.size_bytes:,} bytes, <= {most:,.0f} wanted ({row.size_bytes - most:,.0f} over)")
    longest_us = math.inf if limits.latency_us is None else limits.latency_us
    if not (0 < row.p50_us <= longest_us and math.isfinite(row.p50_us)):
        found.append(f"p50 {row.p50_us:.0f} us, <= {longest_us:.0f} wanted ({row.p50_us - longest_us:.0f} over)")
    return tuple(found)


def measure(
    recipe: str,
    runtime: str,
    scores: Array,
    *,
    p50_us: float,
    size_bytes: int,
    reference: Array,
    slates: Slates,
    rng: np.random.Generator,
) -> Measured:
    """Figures of one recipe on one runtime.

    Args:
        recipe: Its name.
        runtime: Name of the runtime's distribution.
        scores: What it gave there, ``[s, n]``.
        p50_us: Median time of one call, microseconds.
        size_bytes: Of the file.
        reference: The float model's scores, ``[s, n]``.
        slates: Real slates with labels, which nothing was trained or calibrated on.
        rng: For the interval.
    """
    exact = ndcg_each(reference, slates)
    whole = float(exact.mean())
    if not np.isfinite(scores).all():
        return Measured(recipe, runtime, size_bytes, ndcg_float=whole, p50_us=p50_us)
    found = ndcg_each(scores, slates)
    return Measured(
        recipe,
        runtime,
        size_bytes,
        finite=True,
        kendall_tau=order_kept(scores, reference, slates.mask),
        ndcg=float(found.mean()),
        ndcg_float=whole,
        loss=bootstrap((exact - found) / whole if whole > 0 else exact - found, rng),
        p50_us=p50_us,
    )


def measure_all(
    recipes: Sequence[str],
    runtimes: Sequence[str],
    make: Callable[[str], bytes],
    score: Callable[[str, bytes, str], Measured],
    progress: Callable[[float], None] = lambda _: None,
) -> list[Measured]:
    """Make each recipe and score it on each runtime; one that is refused or fails becomes a row that says so.

    Args:
        recipes: Names.
        runtimes: Names of the runtimes' distributions.
        make: From a recipe to its file.
        score: From a recipe, its file and a runtime to the figures there.
        progress: Told the share that is done, 0 to 1.
    """
    found: list[Measured] = []
    for number, recipe in enumerate(recipes):
        try:
            content = make(recipe)
        except PocketRankError as error:
            found.extend(Measured(recipe, runtime, error=str(error)) for runtime in runtimes)
        else:
            for runtime in runtimes:
                try:
                    found.append(score(recipe, content, runtime))
                except PocketRankError as error:
                    found.append(Measured(recipe, runtime, len(content), error=str(error)))
        progress((number + 1) / len(recipes))
    return found


def _order(row: Measured) -> tuple[float, str]:
    return row.cost, row.recipe


def _nothing(runtime: str, failed: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """Why no recipe passes on ``runtime``."""
    lines = [f"{recipe}: {', '.join(words)}" for (recipe, where), words in failed.items() if where == runtime]
    return f"quantize ({runtime}): no recipe passes: {'; '.join(lines) or 'none was measured there'}"
