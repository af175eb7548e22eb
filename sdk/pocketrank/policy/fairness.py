"""FA*IR: how many members of a group every prefix of a ranking must hold.

A ranking is fair when its prefixes could have come from drawing each place's
group by a coin that shows the group with probability ``share``: prefix ``i``
with ``x`` members passes where ``P(X <= x) > alpha``, ``X`` binomial. As each
prefix is another test, ``alpha`` is adjusted so that a ranking drawn by that
coin fails any of them with probability ``alpha`` at most.

Source: Zehlike et al. 2017, arXiv:1706.06368.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CACHED: Final = 64


def minimum_targets(k: int, share: float, alpha: float) -> Ints:
    """The least ``x`` with ``P(X <= x) > alpha``, ``X ~ Binomial(i, share)``, for ``i`` = 1 to ``k``: int64 ``[k]``.

    They do not fall, and rise by at most 1. ``share`` is above 0 and below 1, ``alpha``, of each single test, 0 to 0.5.

    Source: Zehlike et al. 2017, definition 3.1 and table 2.
    """
    return _targets(_left_tails(k, share), alpha)


def fail_probability(targets: Ints, share: float) -> float:
    """How probable it is that a ranking drawn with ``share`` misses one of ``targets`` [k]; exact but for rounding.

    Source: Zehlike et al. 2017, section 4.3; here by dynamic programming over the count of members.
    """
    # Whoever has reached the last target can't miss any, so only smaller counts are followed.
    passing = np.zeros(int(targets[-1]) if len(targets) else 0)
    passing[:1] = 1.0
    failed, least = 0.0, 0
    for target in targets.tolist():
        passing = _tossed(passing, share)
        if target > least:
            failed += float(passing[least:target].sum())
            passing[least:target] = 0.0
            least = target
    return failed


def adjusted_alpha(k: int, share: float, alpha: float) -> float:
    """A significance of each test with which all ``k`` together fail a fair ranking with probability <= ``alpha``.

    Of all such it gives the strictest targets; a larger one that is still at
    most ``alpha`` gives others, which fail too many.

    Source: Zehlike et al. 2017, section 4.3; the search over tables, not over numbers, is that of Zehlike et al.
    2020, arXiv:2012.12795.
    """
    tails = _left_tails(k, share)
    # Targets change only where alpha passes one of these.
    steps = np.unique(tails[tails <= alpha])
    low, high = -1, len(steps)
    while high - low > 1:
        middle = (low + high) // 2
        fails = fail_probability(_targets(tails, float(steps[middle])), share)
        low, high = (middle, high) if fails <= alpha else (low, middle)
    ends = [0.0, *steps.tolist(), alpha]
    return float(ends[low + 1] + ends[low + 2]) / 2


@lru_cache(maxsize=_CACHED)
def fair_targets(k: int, share: float, alpha: float) -> Ints:
    """``minimum_targets`` with the adjusted significance, which a slate of ``k`` is held to; not to be written to."""
    targets = minimum_targets(k, share, adjusted_alpha(k, share, alpha))
    targets.flags.writeable = False
    return targets


def _left_tails(k: int, share: float) -> Floats:
    """``P(X <= x)``, ``X ~ Binomial(i, share)``: float64 ``[k, w]``, as far as it is at most 0.5."""
    # The median is at most k * share rounded up.
    width = min(k, int(k * share) + 1) + 1
    tails = np.zeros((k, width))
    members = np.zeros(width)
    members[0] = 1.0
    for i in range(k):
        tails[i] = members = _tossed(members, share)
    return np.cumsum(tails, axis=1, out=tails)


def _tossed(members: Floats, share: float) -> Floats:
    """The distribution of the count of members after one more place: sums of products, none of them negative."""
    after = members * (1 - share)
    after[1:] += members[:-1] * share
    return after


def _targets(tails: Floats, alpha: float) -> Ints:
    return np.asarray((tails <= alpha).sum(axis=1), np.int64)
