"""Gaussian noise on the sum of a cohort: the central mode of differential privacy."""

from __future__ import annotations

import math
import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError

Sum = npt.NDArray[np.float64]


class NoiseSource(Protocol):
    """Where standard normal numbers come from; ``numpy.random.Generator`` is one, for tests."""

    def standard_normal(self, size: int, /) -> Sum:
        """Independent N(0, 1) numbers, float64 ``[size]``."""


class SystemNoise:
    """Normal numbers made from the operating system's random bytes, for real rounds.

    A seeded generator could be run backwards from the models that it noised;
    here each number has its own bytes. Box-Muller on 53-bit uniforms: nothing
    beyond 8.5 standard deviations is drawn. Floating point leaves traces in the
    lowest bits (Mironov 2012); whoever must rule that out needs discrete noise.
    """

    def standard_normal(self, size: int, /) -> Sum:
        """Independent N(0, 1) numbers, float64 ``[size]``."""
        words = np.frombuffer(os.urandom(16 * size), np.uint64).reshape(2, size) >> np.uint64(11)
        uniform = (words.astype(np.float64) + 1.0) * 2.0**-53  # in (0, 1]
        normal: Sum = np.sqrt(-2.0 * np.log(uniform[0])) * np.cos(2.0 * math.pi * uniform[1])
        return normal


def add_noise(total: Sum, clipping_norm: float, noise_multiplier: float, rng: NoiseSource) -> Sum:
    """Add Gaussian noise to a sum of clipped updates.

    The noise belongs on the sum, and its scale doesn't depend on how many
    devices answered: lost devices can't make it too small.

    Args:
        total: Sum of updates whose norms are each at most ``clipping_norm``, float64 ``[d]``.
        clipping_norm: L2 bound of one update; > 0.
        noise_multiplier: Standard deviation / ``clipping_norm``; >= 0.
        rng: For a real round a ``SystemNoise``.

    Returns:
        float64 ``[d]``: ``total`` + N(0, (noise_multiplier * clipping_norm)^2), independent per value.

    Raises:
        InputError: A scale is not a number or out of range.

    Source: McMahan et al. 2018, Algorithm 1, arXiv:1710.06963.
    """
    if not (math.isfinite(clipping_norm) and clipping_norm > 0):
        raise InputError(f"clipping_norm: expected a number > 0, got {clipping_norm}")
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
        raise InputError(f"noise_multiplier: expected a number >= 0, got {noise_multiplier}")
    if noise_multiplier == 0:
        return total
    return total + noise_multiplier * clipping_norm * rng.standard_normal(total.size)
