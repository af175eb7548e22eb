"""More slates for a teacher to score: candidates between and around real ones.

A small student that only sees the real candidates learns a teacher's scores there and little in between, least of a
teacher of trees, whose steps lie between them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pocketrank.errors import InputError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates

MAX_NUMBERS: Final = 1 << 28
"""Bound on the features of all synthetic candidates, padding included: 1 GiB."""


def synthesise(slates: Slates, rng: np.random.Generator, count: int) -> Slates:
    """Make slates of real ones: one half by crossing each candidate with any other, one half by adding noise.

    A crossed candidate has each feature from one of the two by a coin. Noise is normal, with the column's deviation
    times a factor of 0 to 1 that is drawn for each candidate.

    Args:
        slates: Real ones, to be trained on; their labels are not read.
        rng: Draws all of it.
        count: Slates to make, s >= 1; s * n * d at most ``MAX_NUMBERS``.

    Returns:
        ``count`` slates of the lengths of real ones, drawn with replacement; the first half, rounded up, is crossed.
        Labels are 0 (``relevant`` 0 and propensities 1, where ``slates`` has them), so that label losses skip them and
        they join with ``slates``. A loss with propensities takes one for a slate without a click: it adds nothing, but
        counts in the mean.

    Guarantees:
        A column that is constant stays so. A crossed feature is that of a real candidate.

    Raises:
        InputError: No slate with a real candidate, or ``count`` out of bounds.

    Source: after Cohen et al. 2018, "Universal approximation functions for fast learning to rank",
        doi:10.1145/3209978.3210137, who draw between the split points of trees; this asks nothing of the teacher.
    """
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
    mask, half = slates.mask[chosen], count - count // 2
    made = slates.features[chosen]
    made[:half] = _crossed(made[:half], slates.features[real], rng)
    made[half:] = _shaken(made[half:], slates.features[real], rng)
    return Slates(
        made * mask[..., None],
        np.zeros_like(mask),
        mask,
        None if slates.relevant is None else np.zeros(count, np.int64),
        None if slates.propensities is None else np.ones_like(mask),
    )


def _crossed(features: Array, rows: Array, rng: np.random.Generator) -> Array:
    """``features`` [s, n, d], each number by a coin that of one of ``rows`` [r, d]."""
    other = rows[rng.integers(len(rows), size=features.shape[:2])]
    return np.where(rng.integers(2, size=features.shape, dtype=np.uint8) > 0, features, other)


def _shaken(features: Array, rows: Array, rng: np.random.Generator) -> Array:
    """``features`` [s, n, d] with noise of up to the deviation that each column has in ``rows`` [r, d]."""
    # A mean in float32 may miss a constant by a rounding error, which would be taken for a deviation.
    deviation = np.where(np.ptp(rows, axis=0) > 0, rows.std(axis=0, dtype=np.float64), 0.0).astype(np.float32)
    factor = rng.random((*features.shape[:2], 1), dtype=np.float32)
    shaken: Array = features + factor * deviation * rng.standard_normal(features.shape, dtype=np.float32)
    return shaken
