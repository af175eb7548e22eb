"""Ranking metrics of one list, and intervals over many.

One convention for all of them. Each takes the labels of one list in ranked
order, which `ranked` makes of scores; labels are finite and >= 0, and an item
is relevant where its label is > 0. The first ``k`` >= 1 places count; a list
that is shorter is as if it were filled up with irrelevant items. Where nothing
is relevant a metric is 0. Items that are relevant but not in the list at all
can't be seen in it: ``relevant``, where a metric takes it, says how many there
are in all, no fewer than in the list. Over many lists a metric is the mean of
its values (`bootstrap`). What is not so raises `InputError`.
"""

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


def ranked(scores: npt.ArrayLike, labels: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Floats:
    """Labels in the order of their scores, highest first, as the metrics take them.

    Args:
        scores: ``[n]``, no NaN. Equal scores keep the order in which they were given.
        labels: ``[n]``.
        mask: ``[n]``, > 0 where there is a candidate; the others are padding and are dropped, whatever their scores.

    Returns:
        float64 ``[real]``, ``real`` the number of candidates.

    Raises:
        InputError: The shapes differ, or the score of a candidate is NaN.
    """
    given, gains = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    real = np.ones(given.shape, np.bool_) if mask is None else np.asarray(mask) > 0
    if given.ndim != 1 or not given.shape == gains.shape == real.shape:
        raise InputError(
            f"scores, labels, mask: expected one shape [n], got {given.shape}, {gains.shape}, {real.shape}; "
            "hand over one list at a time"
        )
    if np.isnan(given[real]).any():
        raise InputError(f"scores: expected numbers, got NaN at {np.flatnonzero(np.isnan(given) & real).tolist()}")
    order: Floats = gains[real][np.argsort(-given[real], kind="stable")]
    return order


def ndcg(labels: Floats, *, k: int = 10, relevant: int | None = None) -> float:
    """Normalised discounted cumulative gain of a ranked list with binary or graded labels, 0 to 1.

    ``sum(label_i / log2(i + 1), i <= k)`` over the same of the ideal order:
    ``relevant`` items of gain 1, by default the best order of ``labels``.

    Source: Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418.
    """
    gains = _gains(labels, k)
    ideal = np.sort(gains)[::-1] if relevant is None else np.ones(relevant)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    best = float(ideal[:k] @ discounts[: min(k, len(ideal))])
    return float(gains[:k] @ discounts[: min(k, len(gains))]) / best if best > 0 else 0.0


def mrr(labels: Floats, *, k: int = 10) -> float:
    """Reciprocal rank of the first relevant item (label > 0) among the first ``k``; 0 where there is none.

    Source: Voorhees 1999, TREC-8 question answering track.
    """
    hits = np.flatnonzero(_gains(labels, k)[:k])
    return 1.0 / (1.0 + float(hits[0])) if len(hits) else 0.0


def precision(labels: Floats, *, k: int = 10) -> float:
    """Relevant items among the first ``k``, over ``k``, also where the list is shorter."""
    return float(np.count_nonzero(_gains(labels, k)[:k])) / k


def recall(labels: Floats, *, k: int = 10, relevant: int | None = None) -> float:
    """Relevant items among the first ``k``, over all relevant items; ``relevant`` are by default those in the list."""
    hits = _gains(labels, k) > 0
    total = _relevant(hits, relevant)
    return float(np.count_nonzero(hits[:k])) / total if total else 0.0


def average_precision(labels: Floats, *, k: int = 10, relevant: int | None = None) -> float:
    """Mean over all relevant items of the precision at their place; its mean over lists is MAP.

    ``sum(precision at i, i <= k and item i is relevant) / relevant``: an item
    beyond ``k``, or not in the list, adds 0 and still counts in ``relevant``,
    as in trec_eval's ``map_cut``. ``relevant`` are by default those in the list.

    Source: Buckley and Voorhees 2000, doi:10.1145/345508.345543.
    """
    hits = _gains(labels, k) > 0
    total = _relevant(hits, relevant)
    places = np.flatnonzero(hits[:k]) + 1.0
    return float((np.arange(1, len(places) + 1) / places).sum()) / total if total else 0.0


def err(labels: Floats, *, k: int = 10, highest: float = 1.0) -> float:
    """Expected reciprocal rank: of the place at which somebody reading down the list is satisfied.

    Item ``i`` satisfies with ``R_i = (2 ** label_i - 1) / 2 ** highest``, and
    ``err = sum(R_i / i * product(1 - R_j, j < i), i <= k)``: what stands below a
    good item counts for less.

    Args:
        labels: Grades in ranked order, ``[n]``, 0 to ``highest``.
        k: Places that count.
        highest: The best grade of the scale, whether or not an item has it; > 0.

    Returns:
        0 to less than 1 (an item of the best grade satisfies with ``1 - 2 ** -highest``); 0 where nothing is relevant.

    Raises:
        InputError: A label is not in 0 to ``highest``.

    Source: Chapelle et al. 2009, doi:10.1145/1645953.1646033.
    """
    grades = _gains(labels, k)
    if not (grades <= highest).all():
        raise InputError(
            f"labels: expected 0 to highest={highest:g}, got {grades.max():g}; give the best grade there is"
        )
    satisfied = (np.exp2(grades[:k]) - 1.0) / np.exp2(highest)
    reached = np.cumprod(np.concatenate([[1.0], 1.0 - satisfied]))[:-1]
    return float((reached * satisfied / np.arange(1, len(satisfied) + 1)).sum())


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


def _gains(labels: npt.ArrayLike, k: int) -> npt.NDArray[np.float64]:
    """Labels that a metric can be computed of."""
    gains = np.asarray(labels, dtype=np.float64)
    if k < 1:
        raise InputError(f"k: expected >= 1, got {k}")
    if gains.ndim != 1 or not (np.isfinite(gains) & (gains >= 0)).all():
        raise InputError(f"labels: expected [n] finite and >= 0, in ranked order, got {list(gains.shape)}: {gains[:5]}")
    return gains


def _relevant(hits: npt.NDArray[np.bool_], relevant: int | None) -> int:
    """How many relevant items there are in all."""
    listed = int(np.count_nonzero(hits))
    if relevant is not None and relevant < listed:
        raise InputError(f"relevant: expected >= {listed}, which the list holds, got {relevant}; count those as well")
    return listed if relevant is None else relevant
