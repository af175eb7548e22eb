import math

import pytest
from scipy import optimize
from scipy.stats import norm

from pocketrank.errors import InputError
from pocketrank_federated.accountant import epsilon, noise_multiplier_for


def gaussian_delta(sigma: float, eps: float) -> float:
    """Balle and Wang 2018, Theorem 8: delta of a Gaussian mechanism of sensitivity 1."""
    return float(norm.cdf(1 / (2 * sigma) - eps * sigma) - math.exp(eps) * norm.cdf(-1 / (2 * sigma) - eps * sigma))


def sampled_delta(sigma: float, eps: float, q: float) -> float:
    """Hockey-stick divergence of (1 - q) N(0, s^2) + q N(1, s^2) from N(0, s^2), and the other way round."""

    def tails(x: float) -> tuple[float, float]:
        without = norm.sf(x / sigma)
        return (1 - q) * without + q * norm.sf((x - 1) / sigma), without

    crossing = sigma**2 * math.log((math.exp(eps) - 1 + q) / q) + 0.5
    mixture, plain = tails(crossing)
    removed = mixture - math.exp(eps) * plain
    if math.exp(-eps) <= 1 - q:  # the ratio never falls below 1 - q
        return removed
    crossing = sigma**2 * math.log((math.exp(-eps) - 1 + q) / q) + 0.5
    mixture, plain = tails(crossing)
    return max(removed, (1 - plain) - math.exp(eps) * (1 - mixture))


@pytest.mark.parametrize("noise_multiplier", [0.5, 1.0, 5.49, 40.0])
@pytest.mark.parametrize("rounds", [1, 10, 50])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_epsilon_of_rounds_is_that_of_one_gaussian_with_their_noise_over_root_rounds(
    noise_multiplier: float, rounds: int, delta: float
) -> None:
    found = epsilon(noise_multiplier, rounds, delta)
    sigma = noise_multiplier / math.sqrt(rounds)
    if found == 0:
        assert gaussian_delta(sigma, 0) <= delta
    else:
        assert gaussian_delta(sigma, found) == pytest.approx(delta, rel=1e-6)


@pytest.mark.parametrize(("noise_multiplier", "probability"), [(1.0, 0.1), (2.0, 0.01), (0.8, 0.5)])
def test_epsilon_with_poisson_sampling_is_a_tight_bound_on_the_closed_form(
    noise_multiplier: float, probability: float
) -> None:
    delta = 1e-5
    exact = optimize.brentq(lambda eps: sampled_delta(noise_multiplier, eps, probability) - delta, 1e-4, 20)
    found = epsilon(noise_multiplier, 1, delta, probability)
    assert exact - 1e-9 <= found <= exact * 1.01 + 1e-3


def test_sampling_lowers_epsilon() -> None:
    assert epsilon(1.55, 50, 1e-5, 0.1) < epsilon(1.55, 50, 1e-5) / 3


def test_no_noise_is_unbounded_and_no_round_is_free() -> None:
    assert epsilon(0.0, 1, 1e-5) == math.inf
    assert epsilon(0.0, 0, 1e-5) == 0


@pytest.mark.parametrize("target", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("rounds", [1, 10, 50])
def test_the_noise_for_an_epsilon_costs_at_most_it_and_hardly_less(target: float, rounds: int) -> None:
    spent = epsilon(noise_multiplier_for(target, 1e-5, rounds), rounds, 1e-5)
    assert target * (1 - 1e-6) <= spent <= target


def test_the_noise_for_an_epsilon_with_sampling_costs_at_most_it() -> None:
    multiplier = noise_multiplier_for(2.0, 1e-5, 50, 0.1)
    assert 1.99 <= epsilon(multiplier, 50, 1e-5, 0.1) <= 2.0


@pytest.mark.parametrize(
    ("noise_multiplier", "rounds", "delta", "probability"),
    [
        (-1.0, 1, 1e-5, 1.0),
        (math.nan, 1, 1e-5, 1.0),
        (1.0, -1, 1e-5, 1.0),
        (1.0, 1, 0.0, 1.0),
        (1.0, 1, 1.0, 1.0),
        (1.0, 1, 1e-5, 0.0),
        (1.0, 1, 1e-5, 1.1),
    ],
)
def test_arguments_out_of_range_are_refused(
    noise_multiplier: float, rounds: int, delta: float, probability: float
) -> None:
    with pytest.raises(InputError):
        epsilon(noise_multiplier, rounds, delta, probability)


@pytest.mark.parametrize(("target", "rounds"), [(0.0, 1), (-1.0, 1), (math.inf, 1), (1.0, 0)])
def test_an_epsilon_that_can_not_be_reached_is_refused(target: float, rounds: int) -> None:
    with pytest.raises(InputError):
        noise_multiplier_for(target, 1e-5, rounds)
