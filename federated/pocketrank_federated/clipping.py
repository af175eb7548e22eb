"""Clipping: the bound on what one device can change."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import Array
from pocketrank.errors import InputError


def l2_norm(vector: npt.NDArray[Any]) -> float:
    """L2 norm in float64, which float32 values can't overflow."""
    return float(np.linalg.norm(vector.astype(np.float64)))


def clip_update(update: Array, clipping_norm: float) -> Array:
    """Scale an update so that its L2 norm is at most ``clipping_norm``.

    Args:
        update: Model difference, float32 ``[d]``, finite.
        clipping_norm: L2 bound, in the unit of ``update``; > 0.

    Returns:
        float32 ``[d]``; ``update`` itself where it is within the bound.

    Guarantees:
        Norm <= clipping_norm * (1 + 1e-6). Zero stays zero. The direction is kept.

    Raises:
        InputError: ``update`` is not finite, or ``clipping_norm`` is not a positive number.

    Source: McMahan et al. 2018, Algorithm 1, arXiv:1710.06963.
    """
    if not (np.isfinite(clipping_norm) and clipping_norm > 0):
        raise InputError(f"clipping_norm: expected a number > 0, got {clipping_norm}")
    if not np.isfinite(update).all():
        raise InputError("update: expected finite values; lower the learning rate or look at the examples")
    norm = l2_norm(update)
    if norm <= clipping_norm:
        return update
    return (update.astype(np.float64) * (clipping_norm / norm)).astype(np.float32)
