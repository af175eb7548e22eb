"""More slates for a teacher to score: candidates between real ones.

A small student that only sees the real candidates learns a teacher's scores there and little in between, least of a
teacher of trees, whose steps lie between them.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from pocketrank.errors import InputError
from pocketrank_export.data.slates import Slates

Mixing = Literal["crossover", "interpolation"]
"""How two candidates make one: each feature from either of them by a coin, or a point on the line between them."""
Partners = Literal["slate", "any"]
"""Where the other candidate is from: the same slate, so that what is alike within a slate stays so, or any slate."""

MAX_NUMBERS: Final = 1 << 28
"""Bound on the features of all synthetic candidates, padding included: 1 GiB."""


def synthesise(
    slates: Slates,
    rng: np.random.Generator,
    count: int,
    *,
    mixing: Mixing = "crossover",
    partners: Partners = "slate",
) -> Slates:
    """Make slates by mixing each candidate of a real one with another candidate.

    Args:
        slates: Real ones, to be trained on; their labels are not read.
        rng: Draws the slates, the partners and the mixtures.
        count: Slates to make, s >= 1; s * n * d at most ``MAX_NUMBERS``.
        mixing: How two candidates make one.
        partners: Where the second is from.

    Returns:
        ``count`` slates of the lengths of real ones, drawn with replacement. Labels are 0 (``relevant`` 0 and
        propensities 1, where ``slates`` has them), so that label losses skip them and they join with ``slates``. A loss
        with propensities takes one for a slate without a click: it adds nothing, but counts in the mean.

    Guarantees:
        A crossed feature is that of one of two real candidates; an interpolated one lies between theirs, ends included.
        Where the candidates of a slate share a value, those made of it with partners of the slate share it too.

    Raises:
        InputError: No slate with a real candidate, ``count`` out of bounds, or an unknown name.

    Source: after Cohen et al. 2018, "Universal approximation functions for fast learning to rank",
        doi:10.1145/3209978.3210137, who draw between the split points of trees; this asks nothing of the teacher.
    """
    if mixing not in get_args(Mixing):
        raise InputError(f"mixing: expected one of {get_args(Mixing)}, got {mixing!r}")
    if partners not in get_args(Partners):
        raise InputError(f"partners: expected one of {get_args(Partners)}, got {partners!r}")
    real = slates.mask > 0
    held = np.flatnonzero(real.any(axis=1))
    _, n, d = slates.features.shape
    if not len(held):
        raise InputError("slates: expected one or more with a real candidate, got none")
    if not 1 <= count <= MAX_NUMBERS // (n * d):
        raise InputError(
            f"count: expected 1 to {MAX_NUMBERS // (n * d)} slates of [{n}, {d}], got {count}; make them in parts"
        )
    chosen = rng.choice(held, count)
    one = slates.features[chosen]
    if partners == "slate":
        # Real candidates first; then a place among those.
        order = np.argsort(~real, axis=1, kind="stable")[chosen]
        places = rng.integers(real[chosen].sum(axis=1)[:, None], size=(count, n))
        other = slates.features[chosen[:, None], np.take_along_axis(order, places, axis=1)]
    else:
        rows, places = np.nonzero(real)
        drawn = rng.integers(len(rows), size=(count, n))
        other = slates.features[rows[drawn], places[drawn]]
    if mixing == "crossover":
        made = np.where(rng.integers(2, size=one.shape, dtype=np.uint8) > 0, one, other)
    else:
        share = rng.random((count, n, 1), dtype=np.float32)
        # Rounding may step over an end.
        made = np.clip(one + share * (other - one), np.minimum(one, other), np.maximum(one, other))
    mask = slates.mask[chosen]
    return Slates(
        made * mask[..., None],
        np.zeros_like(mask),
        mask,
        None if slates.relevant is None else np.zeros(count, np.int64),
        None if slates.propensities is None else np.ones_like(mask),
    )
