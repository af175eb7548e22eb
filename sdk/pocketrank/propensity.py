"""How likely a person was to look at a place of a slate, and what a click there is therefore worth.

What stands further up is seen, and so clicked, more often, whatever it is. A
click that counts the inverse of its propensity makes up for it: its
expectation is what the person would have clicked with every place seen
(Joachims, Swaminathan and Schnabel 2017, arXiv:1608.04468).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError

Array = npt.NDArray[np.float32]

MIN_PROPENSITY: Final = 0.1
"""Smaller propensities count as this one, so that no click counts more than ten times one at the top."""


def examination(n: int, eta: float = 1.0) -> Array:
    """Chance that each of ``n`` places is looked at: ``(1 / (1 + position)) ** eta``, position from 0.

    Args:
        n: Number of places.
        eta: How fast attention falls, >= 0; 0: every place is looked at.

    Returns:
        float32 ``[n]``, the first 1, none rising.

    Raises:
        InputError: ``n`` or ``eta`` is negative, or ``eta`` not finite.

    Source: the position-based model as in Joachims, Swaminathan and Schnabel 2017, section 6, arXiv:1608.04468.
    """
    if n < 0 or not 0.0 <= eta < math.inf:
        raise InputError(f"n, eta: expected 0 or more, finite, got {n} and {eta}")
    return np.power(np.arange(1, n + 1, dtype=np.float64), -eta).astype(np.float32)


def inverse_weighted(labels: npt.NDArray[Any], propensities: npt.NDArray[Any]) -> Array:
    """Labels as they would be with every place seen, in expectation: ``labels / max(propensities, MIN_PROPENSITY)``.

    The floor bounds the variance and biases: a place seen less often than
    ``MIN_PROPENSITY`` counts ``propensity / MIN_PROPENSITY`` of what it should,
    so what stands that deep is underrated as it is without weighting, only less.

    Args:
        labels: ``[n]``, >= 0.
        propensities: ``[n]``, from 0 to 1.

    Returns:
        float32 ``[n]``.

    Raises:
        InputError: The shapes differ, or a propensity is not from 0 to 1.
    """
    if labels.shape != propensities.shape:
        raise InputError(f"propensities: expected {labels.shape} as the labels, got {propensities.shape}")
    if not ((propensities >= 0.0) & (propensities <= 1.0)).all():
        raise InputError(f"propensities: expected chances from 0 to 1, got {propensities}")
    weighted: Array = (labels / np.maximum(propensities, MIN_PROPENSITY)).astype(np.float32)
    return weighted
