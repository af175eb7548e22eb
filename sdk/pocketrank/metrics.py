"""Ranking metrics and their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` units, ``low`` to ``high`` its 95 % percentile-bootstrap interval over those units."""

    mean: float
    low: float
    high: float
    n: int


def ndcg(labels: Floats, *, k: int = 10, relevant: int | None = None) -> float:
    """Normalised discounted cumulative gain of a ranked list with binary or graded labels.

    ``sum(label_i / log2(i + 1), i <= k)`` over the same of the ideal order.

    Args:
        labels: Gains in ranked order, ``[n]``, >= 0.
        k: Positions that count.
        relevant: How many relevant items (gain 1) there are in all, where some
            may not be in the list at all; the ideal then knows them. By
            default the ideal is the best order of ``labels``.

    Returns:
        0 to 1; 0 where nothing is relevant.

    Source: Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418.
    """
    gains = np.asarray(labels, dtype=np.float64)
    ideal = np.sort(gains)[::-1] if relevant is None else np.ones(relevant)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    best = float(ideal[:k] @ discounts[: min(k, len(ideal))])
    return float(gains[:k] @ discounts[: min(k, len(gains))]) / best if best > 0 else 0.0


def mrr(labels: Floats, *, k: int = 10) -> float:
    """Reciprocal rank of the first relevant item (label > 0) among the first ``k``; 0 where there is none.

    Source: Voorhees 1999, TREC-8 question answering track.
    """
    hits = np.flatnonzero(np.asarray(labels)[:k] > 0)
    return 1.0 / (1.0 + float(hits[0])) if len(hits) else 0.0


def bootstrap(values: Floats, rng: np.random.Generator, *, resamples: int = 2000) -> Interval:
    """Mean of ``values`` [n] with its 95 % interval; hand over differences for a paired comparison.

    Raises:
        InputError: There is no value, or one is not finite.

    Source: Efron 1979, percentile bootstrap over units.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample) or not np.isfinite(sample).all():
        raise InputError(f"values: expected [n >= 1] finite numbers, got {sample[:5]}")
    counts = rng.multinomial(len(sample), np.full(len(sample), 1 / len(sample)), size=resamples)
    low, high = np.quantile(counts @ sample / len(sample), [0.025, 0.975])
    return Interval(float(sample.mean()), float(low), float(high), len(sample))
