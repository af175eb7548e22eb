import math

import numpy as np
import pytest
from scipy import stats

from pocketrank.errors import InputError
from pocketrank_federated.noise import NoiseSource, Sum, SystemNoise, add_noise

SIZE = 20_000
SOURCES: list[NoiseSource] = [np.random.default_rng(7), SystemNoise()]


def scale_fits(samples: Sum, sigma: float) -> bool:
    """Chi-square test of the variance, two-sided, false alarms once in 10^9."""
    statistic = float(np.sum((samples / sigma) ** 2))
    low, high = stats.chi2.ppf([5e-10, 1 - 5e-10], samples.size)
    return bool(low < statistic < high)


@pytest.mark.parametrize("rng", SOURCES, ids=["generator", "system"])
def test_the_noise_has_its_scale_and_the_test_would_see_another(rng: NoiseSource) -> None:
    noise = add_noise(np.zeros(SIZE), clipping_norm=0.3, noise_multiplier=5.0, rng=rng)
    assert scale_fits(noise, 1.5)
    for wrong in (0.3, 5.0, 1.5 * 0.93, 1.5 * 1.07):
        assert not scale_fits(noise, wrong)


@pytest.mark.parametrize("rng", SOURCES, ids=["generator", "system"])
def test_the_noise_is_gaussian_and_the_test_would_see_another_shape(rng: NoiseSource) -> None:
    noise = rng.standard_normal(SIZE)
    assert stats.kstest(noise, "norm").pvalue > 1e-9
    uniform = np.random.default_rng(1).uniform(-math.sqrt(3), math.sqrt(3), SIZE)
    assert stats.kstest(uniform, "norm").pvalue < 1e-9


def test_system_noise_is_new_each_time() -> None:
    assert not np.array_equal(SystemNoise().standard_normal(8), SystemNoise().standard_normal(8))


def test_the_sum_is_kept_under_the_noise() -> None:
    total = np.array([1.0, -2.0])
    noised = add_noise(total, 1.0, 1.0, np.random.default_rng(3))
    np.testing.assert_allclose(noised - np.random.default_rng(3).standard_normal(2), total)


def test_no_noise_leaves_the_sum() -> None:
    np.testing.assert_array_equal(add_noise(np.ones(3), 1.0, 0.0, SystemNoise()), np.ones(3))


@pytest.mark.parametrize(
    ("clipping_norm", "noise_multiplier"),
    [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.nan), (1.0, math.inf)],
)
def test_a_scale_that_is_no_scale_is_refused(clipping_norm: float, noise_multiplier: float) -> None:
    with pytest.raises(InputError):
        add_noise(np.zeros(2), clipping_norm, noise_multiplier, SystemNoise())
