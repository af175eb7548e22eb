"""What another policy would have earned, estimated from the logs of the one that ran.

A row is one decision of the logging policy: what it showed at one place, the
probability with which it showed that there, and the reward that came of it. The
target policy would have shown the same with another probability, and the ratio
of the two is the row's weight. A list of several places is several rows, one a
place, each with its propensity at that place: the value is then the mean reward
of a place, over the logs' own mix of places, and holds where a reward depends on
the item and its place and not on the items beside it. ``units`` then names the
list (or the person) of each row, since the rows of one are not independent.

The intervals are normal approximations, 95 %. A few heavy weights make them too
narrow: read ``effective_n`` first, and take the interval for no more than a hint
where it is below some hundred. Where no reward was seen at all they have no
width, and say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError

Floats = npt.NDArray[np.float64]

_Z: Final = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A target policy's mean reward, ``low`` to ``high`` its 95 % interval, from ``n`` rows.

    ``effective_n``: ``sum(w) ** 2 / sum(w ** 2)``, how many equally weighted
    rows the weights are worth (Kish 1965). ``mean_weight``: 1 in expectation,
    where propensities are right and nothing is clipped; far from it, they are
    wrong or the logs miss what the target policy does. ``clipped``: rows whose
    weight was cut.
    """

    value: float
    low: float
    high: float
    n: int
    effective_n: float
    mean_weight: float
    clipped: int


def ips(
    rewards: npt.ArrayLike,
    logging: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    max_weight: float = math.inf,
    units: Sequence[str | int] | None = None,
) -> Estimate:
    """Inverse propensity score estimate: ``mean(w_i * r_i)`` with ``w_i = min(target_i / logging_i, max_weight)``.

    Unbiased where propensities are right, the logging policy can show whatever
    the target policy can, and nothing is clipped. Clipping lowers the variance,
    and the value of rewards >= 0.

    Args:
        rewards: ``[m]``, finite, ``m`` >= 2.
        logging: ``[m]``, the logging policy's probability of what it showed, in (0, 1].
        target: ``[m]``, the target policy's probability of the same, in [0, 1]; not all 0.
        max_weight: Weights are cut to this; > 0.
        units: ``[m]``, the list or person of each row; by default each row is its own. At least 2 different ones.

    Returns:
        The estimate; its interval is over units.

    Raises:
        InputError: Something is not as above.

    Source: Horvitz and Thompson 1952, doi:10.1080/01621459.1952.10483446; clipped as in Bottou et al. 2013,
    arXiv:1209.2355.
    """
    earned, weights, clipped = _rows(rewards, logging, target, max_weight)
    values = weights * earned
    value = float(values.mean())
    return _estimate(value, values - value, weights, clipped, units)


def snips(
    rewards: npt.ArrayLike,
    logging: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    max_weight: float = math.inf,
    units: Sequence[str | int] | None = None,
) -> Estimate:
    """Self-normalised estimate: ``sum(w_i * r_i) / sum(w_i)``.

    Consistent rather than unbiased, within the range of the rewards, and most
    often of less variance than `ips`. The interval is by the delta method, from
    ``w_i * (r_i - value) / mean(w)``.

    Arguments, result and errors are those of `ips`.

    Source: Swaminathan and Joachims 2015, "The self-normalized estimator for counterfactual learning", NeurIPS 28.
    """
    earned, weights, clipped = _rows(rewards, logging, target, max_weight)
    value = float((weights * earned).sum() / weights.sum())
    return _estimate(value, weights * (earned - value) / weights.mean(), weights, clipped, units)


def doubly_robust(
    rewards: npt.ArrayLike,
    logging: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    predicted: npt.ArrayLike,
    expected: npt.ArrayLike,
    max_weight: float = math.inf,
    units: Sequence[str | int] | None = None,
) -> Estimate:
    """Doubly robust estimate: ``mean(expected_i + w_i * (r_i - predicted_i))``.

    A reward model says what the target policy would earn, and the logs correct
    it. Unbiased where the propensities are right, whatever the model, or where
    the model is right, whatever the propensities; of less variance than `ips`
    where the model is any good. The model must not have been fitted on the same
    rows.

    Arguments, result and errors are those of `ips`, and beside them finite
    ``[m]``: ``predicted``, the model's reward of what was shown, and
    ``expected``, ``sum(target probability of x * the model's reward of x)`` over
    all ``x`` that the target policy could have shown there. Clipping biases by
    the model's error on the rows that are clipped.

    Source: Dudík, Langford and Li 2011, arXiv:1103.4601.
    """
    earned, weights, clipped = _rows(rewards, logging, target, max_weight)
    modelled, baseline = _finite("predicted", predicted, len(earned)), _finite("expected", expected, len(earned))
    values = baseline + weights * (earned - modelled)
    value = float(values.mean())
    return _estimate(value, values - value, weights, clipped, units)


def _rows(
    rewards: npt.ArrayLike, logging: npt.ArrayLike, target: npt.ArrayLike, max_weight: float
) -> tuple[Floats, Floats, int]:
    """Rewards, weights, and how many of them were cut."""
    earned = _finite("rewards", rewards)
    was, would = _finite("logging", logging, len(earned)), _finite("target", target, len(earned))
    if not ((was > 0) & (was <= 1)).all():
        raise InputError(
            f"logging: expected propensities in (0, 1], got {was.min():g} to {was.max():g}; leave out rows whose "
            "propensity is not known"
        )
    if not ((would >= 0) & (would <= 1)).all():
        raise InputError(f"target: expected propensities in [0, 1], got {would.min():g} to {would.max():g}")
    if not would.any():
        raise InputError("target: expected a propensity > 0, got 0 everywhere; these logs say nothing of that policy")
    if not max_weight > 0:
        raise InputError(f"max_weight: expected > 0, got {max_weight}; leave it out to clip nothing")
    weights = would / was
    return earned, np.minimum(weights, max_weight), int((weights > max_weight).sum())


def _finite(name: str, values: npt.ArrayLike, rows: int | None = None) -> Floats:
    """``values`` as finite numbers ``[rows]``."""
    found = np.asarray(values, dtype=np.float64)
    wanted = "m >= 2" if rows is None else str(rows)
    if found.ndim != 1 or len(found) != (rows or max(len(found), 2)):
        raise InputError(f"{name}: expected [{wanted}], got {list(found.shape)}; one value a row")
    if not np.isfinite(found).all():
        raise InputError(f"{name}: expected finite numbers, got {found[~np.isfinite(found)][0]}")
    return found


def _estimate(
    value: float, influence: Floats, weights: Floats, clipped: int, units: Sequence[str | int] | None
) -> Estimate:
    """The estimate whose error is the mean of ``influence`` [m], which is 0 in all and independent between units."""
    n = len(influence)
    sums = influence
    if units is not None:
        if len(units) != n:
            raise InputError(f"units: expected [{n}], got [{len(units)}]; one value a row")
        different, rows = np.unique(np.asarray(units), return_inverse=True)
        sums = np.zeros(len(different))
        np.add.at(sums, rows, influence)
        if len(different) < 2:
            raise InputError("units: expected at least 2 different ones, got 1; one list alone has no interval")
    half = _Z * float(np.sqrt(len(sums) / (len(sums) - 1) * (sums @ sums))) / n
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        n=n,
        effective_n=float(weights.sum() ** 2 / (weights @ weights)),
        mean_weight=float(weights.mean()),
        clipped=clipped,
    )
