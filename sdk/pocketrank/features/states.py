"""The state of each kind of device feature after some events.

Sums run in the order of the events (``bincount``, and sums of numpy over one
axis), and weights come of multiplications alone, so that two devices, and two
versions of numpy, agree to the last bit. What candidates will be multiplied with
is rounded to fixed point (``fixed``).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.features.event_log import EventLog
from pocketrank.schema import Affinity, Count, DeviceFeature, Embedding, Fatigue, Level, Rate, Recency, Similarity

Array = npt.NDArray[np.float64]

FIELD_BITS: Final = 44
"""Of a state over words: a sum of up to ``MAX_WORDS`` such is exact in float64."""
VECTOR_BITS: Final = 23
"""Of an item vector and of a mean of such: their product's sum is exact in float64."""
_NEGLIGIBLE: Final = 2.0**-64
_LEAST_TOTAL: Final = 1e-12
_LEAST_EXPONENT: Final = -1_000


def over_words(feature: DeviceFeature, engaged: EventLog, shown: EventLog, width: int) -> Array:
    """State ``[width]`` of a feature over the columns of its field, or over the items' places."""
    field = None if isinstance(feature, Similarity) else feature.field
    columns, owners, counts = engaged.words(field)

    def summed(weights: Array) -> Array:
        return _per_column(columns, weights[owners], width)

    if isinstance(feature, Fatigue):
        return _fatigue(feature, engaged, shown, width)
    if isinstance(feature, Rate):
        taken = summed(_kept(feature.min_value, engaged.values).astype(np.float64))
        seen = np.bincount(shown.words(field)[0], minlength=width)
        rate: Array = (taken + feature.prior_taken) / (seen + feature.prior_shown)
        return rate
    weights = weights_of(feature, engaged.values)
    total = max(float(weights.sum()), _LEAST_TOTAL)
    match feature:
        case Affinity():
            return summed(weights / np.maximum(counts, 1)) / total
        case Level():
            above = engaged.values - float((weights * engaged.values).sum()) / total
            level: Array = summed(weights * above) / (summed(weights) + feature.prior_events)
            return level
        case Recency():
            since = np.full(width, np.inf)
            counting = weights[owners] > 0
            # Where a column stands several times, the last one, which is the newest, stays.
            since[columns[counting]] = len(engaged) - 1 - owners[counting]
            recency: Array = 1.0 / (1.0 + since)
            return recency
        case _:
            return summed(weights)


def without_words(feature: DeviceFeature) -> float:
    """What a candidate without a known word, or an item that never came up, gets."""
    return feature.prior_taken / feature.prior_shown if isinstance(feature, Rate) else 0.0


def mean_vector(feature: Similarity | Embedding, values: Array, vectors: Array) -> Array:
    """Weighted mean ``[k]`` of the events' ``vectors`` [m, k]; events whose vector is NaN don't count."""
    weights = weights_of(feature, values)
    counting = weights >= _NEGLIGIBLE
    if isinstance(feature, Embedding):
        counting &= ~np.isnan(vectors[:, 0])
    # A slice where all count, else a copy.
    oldest = int(counting.argmax()) if counting.any() else len(counting)
    weights, vectors = weights[oldest:], vectors[oldest:]
    if not counting[oldest:].all():
        weights, vectors = weights[counting[oldest:]], vectors[counting[oldest:]]
    total = max(float(weights.sum()), _LEAST_TOTAL)
    mean: Array = (weights[:, None] * vectors).sum(axis=0) / total
    return mean


def distinct_vectors(feature: Similarity, engaged: EventLog) -> Array:
    """The vectors ``[m, k]`` of the items whose events count, each once."""
    counting = np.flatnonzero(weights_of(feature, engaged.values) > 0)
    _, first = np.unique(engaged.items[counting], return_index=True)
    vectors: Array = engaged.vectors[counting[first]]
    return vectors


def fixed(state: Array, bits: int) -> Array:
    """``state`` rounded to so many bits after the leading one of its largest value: sums of such are exact."""
    largest = float(np.abs(state).max(initial=0.0))
    unit = math.ldexp(1.0, max(math.frexp(largest)[1] - bits, _LEAST_EXPONENT))
    rounded: Array = np.rint(state / unit) * unit
    return rounded


def weights_of(feature: Affinity | Level | Recency | Count | Similarity | Embedding, values: Array) -> Array:
    """Weight ``[m]`` of each event; ages count the events that ``min_value`` keeps."""
    kept = _kept(feature.min_value, values)
    count = int(kept.sum())
    weights = _decayed(feature.half_life_events, count)
    if feature.last is not None and feature.last < count:
        weights[: count - feature.last] = 0.0
    if count == len(values):
        return weights
    spread = np.zeros(len(values))
    spread[kept] = weights
    return spread


def _kept(least: float | None, values: Array) -> npt.NDArray[np.bool_]:
    return np.ones(len(values), np.bool_) if least is None else values >= least


def _fatigue(feature: Fatigue, engaged: EventLog, shown: EventLog, width: int) -> Array:
    columns, owners, _ = shown.words(feature.field)
    taken, events, _ = engaged.words(feature.field)
    since = np.zeros(width, np.int64)
    # The last engagement with a column stays.
    since[taken] = engaged.shown_before[events] - shown.forgotten
    weights = _decayed(feature.half_life_events, len(shown))[owners]
    return _per_column(columns, weights * (owners >= since[columns]), width)


def _per_column(columns: npt.NDArray[np.intp], weights: Array, width: int) -> Array:
    """Sum ``[width]`` of the weights of each column, in the order given."""
    sums: Array = np.bincount(columns, weights=weights, minlength=width)  # type: ignore[assignment]  # of weights: float
    return sums


def _decayed(half_life: float | None, count: int) -> Array:
    """Weights ``[count]``, the newest last; the caller's own."""
    if half_life is None:
        return np.ones(count)
    return _decay(half_life, 1 << max(count - 1, 0).bit_length())[:count][::-1].copy()


@lru_cache(maxsize=64)
def _decay(half_life: float, count: int) -> Array:
    """``0.5 ** (age / half_life)`` of ages from 0, each from the one before: a power may differ between platforms."""
    factors = np.full(count, _half_to(1.0 / half_life))
    factors[0] = 1.0
    return np.multiply.accumulate(factors)


def _half_to(power: float) -> float:
    """``0.5 ** power`` for a power above 0, of additions, multiplications and divisions alone."""
    power = min(power, 2_000.0)
    whole = math.floor(power)
    exponent = -(power - whole) * 0.6931471805599453
    total = term = 1.0
    for step in range(1, 24):
        term *= exponent / step
        total += term
    return math.ldexp(total, -whole)
