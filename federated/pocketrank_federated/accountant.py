"""The privacy accountant: what a run of noised sums costs one device.

The unit is one device: neighbouring cohorts differ by one device added or
removed. Each round releases the sum of clipped updates plus Gaussian noise of
standard deviation noise_multiplier * clipping_norm, so the sensitivity is 1 in
units of the clipping norm. The size of the cohort counts as public.

Without sampling, T rounds are exactly one Gaussian mechanism of noise
multiplier z / sqrt(T), and epsilon is exact. Sampling lowers epsilon only where
each device joins each round by its own secret coin (Poisson); a cohort of
whoever is available is no sampling, whatever its size.
"""

from __future__ import annotations

import math
from typing import Final

import dp_accounting
from dp_accounting import pld

from pocketrank.errors import InputError

_SLACK: Final = 1e-9
"""Relative; covers the tolerance of the root finders, on the private side."""


def epsilon(noise_multiplier: float, rounds: int, delta: float, sampling_probability: float = 1.0) -> float:
    """Epsilon of ``rounds`` noised sums at ``delta``, for one device.

    Args:
        noise_multiplier: Standard deviation of the noise on the sum / clipping norm; >= 0.
        rounds: Rounds charged; >= 0.
        delta: Of (epsilon, delta) differential privacy; 0 < delta < 1.
        sampling_probability: Of a device joining a round, by Poisson sampling; 1 for no sampling.

    Returns:
        Epsilon >= 0; infinite without noise. Exact without sampling, else a tight upper bound.

    Raises:
        InputError: An argument is outside its range.

    Source: Balle and Wang 2018, Theorem 8, arXiv:1805.06530; with sampling, privacy loss
    distributions, Koskela et al. 2020, arXiv:1906.03049. Both through dp-accounting.
    """
    _check(rounds=rounds, delta=delta, sampling_probability=sampling_probability)
    if not noise_multiplier >= 0:
        raise InputError(f"noise_multiplier: expected a number >= 0, got {noise_multiplier}")
    if rounds == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    if sampling_probability == 1:
        return float(dp_accounting.get_epsilon_gaussian(noise_multiplier / math.sqrt(rounds), delta))
    return float(_sampled(noise_multiplier, rounds, sampling_probability).get_epsilon(delta))


def noise_multiplier_for(epsilon: float, delta: float, rounds: int, sampling_probability: float = 1.0) -> float:
    """The noise multiplier at which ``rounds`` cost at most ``epsilon`` at ``delta``, and hardly less.

    Raises:
        InputError: An argument is outside its range.
    """
    _check(rounds=rounds, delta=delta, sampling_probability=sampling_probability)
    if not (math.isfinite(epsilon) and epsilon > 0 and rounds > 0):
        raise InputError(f"epsilon, rounds: expected both > 0 and finite, got {epsilon}, {rounds}")
    if sampling_probability == 1:
        return float(dp_accounting.get_sigma_gaussian(epsilon, delta)) * math.sqrt(rounds) * (1 + _SLACK)
    # Sampling only lowers the noise that is needed. The search stays near it: little noise is slow to account for.
    high = noise_multiplier_for(epsilon, delta, rounds) * 1.01
    low = high / 2
    while _sampled(low, rounds, sampling_probability).get_epsilon(delta) <= epsilon:
        high, low = low, low / 2
    found = dp_accounting.calibrate_dp_mechanism(
        pld.PLDAccountant,
        lambda z: _event(z, rounds, sampling_probability),
        epsilon,
        delta,
        dp_accounting.ExplicitBracketInterval(low, high),
        tol=1e-3,
    )
    return float(found)


def _event(noise_multiplier: float, rounds: int, sampling_probability: float) -> dp_accounting.DpEvent:
    gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
    sampled = dp_accounting.PoissonSampledDpEvent(sampling_probability, gaussian)
    return dp_accounting.SelfComposedDpEvent(sampled, rounds)


def _sampled(noise_multiplier: float, rounds: int, sampling_probability: float) -> pld.PLDAccountant:
    return pld.PLDAccountant().compose(_event(noise_multiplier, rounds, sampling_probability))


def _check(*, rounds: int, delta: float, sampling_probability: float) -> None:
    if rounds < 0:
        raise InputError(f"rounds: expected 0 or more, got {rounds}")
    if not 0 < delta < 1:
        raise InputError(f"delta: expected between 0 and 1, got {delta}; take it well below 1 / devices")
    if not 0 < sampling_probability <= 1:
        raise InputError(f"sampling_probability: expected above 0 and at most 1, got {sampling_probability}")
