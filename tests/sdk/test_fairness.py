"""FA*IR: targets against scipy and published tables, and the adjusted significance against every ranking there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.policy.fairness import adjusted_alpha, fail_probability, fair_targets, minimum_targets

# Zehlike et al. 2017, table 2: share, and the targets of places 1 to 12 at alpha 0.1.
PUBLISHED = {
    0.1: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    0.2: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    0.3: [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2],
    0.4: [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3],
    0.5: [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4],
    0.6: [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
    0.7: [0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6],
}
SHARES = st.floats(0.02, 0.98)
ALPHAS = st.floats(0.005, 0.5)


@pytest.mark.parametrize("share", PUBLISHED)
def test_targets_are_those_of_the_papers_table(share: float) -> None:
    assert minimum_targets(12, share, 0.1).tolist() == PUBLISHED[share]


@pytest.mark.parametrize(
    ("k", "share", "alpha", "expected"),
    [
        (10, 0.2, 0.15, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]),
        (20, 0.25, 0.1, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]),
    ],
)
def test_targets_are_those_that_the_authors_library_documents(
    k: int, share: float, alpha: float, expected: list[int]
) -> None:
    assert minimum_targets(k, share, alpha).tolist() == expected


@given(st.integers(1, 80), SHARES, ALPHAS)
def test_a_target_is_the_least_count_that_is_probable_enough(k: int, share: float, alpha: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    places = np.arange(1, k + 1)
    targets = minimum_targets(k, share, alpha)
    assert (stats.binom.cdf(targets, places, share) > alpha * (1 - 1e-9)).all()
    assert (stats.binom.cdf(targets - 1, places, share) <= alpha * (1 + 1e-9)).all()


@given(st.integers(1, 200), SHARES, ALPHAS)
def test_targets_do_not_fall_and_rise_by_one_at_most(k: int, share: float, alpha: float) -> None:
    for targets in (minimum_targets(k, share, alpha), fair_targets(k, share, alpha)):
        steps = np.diff(targets, prepend=0)
        assert set(steps.tolist()) <= {0, 1}
    assert (fair_targets(k, share, alpha) <= minimum_targets(k, share, alpha)).all()


def enumerated(targets: list[int], share: float) -> float:
    """How probable the rankings are that miss a target, one by one."""
    total = 0.0
    for ranking in itertools.product((0, 1), repeat=len(targets)):
        if any(count < target for count, target in zip(itertools.accumulate(ranking), targets, strict=True)):
            total += share ** sum(ranking) * (1 - share) ** (len(ranking) - sum(ranking))
    return total


@given(st.integers(1, 9), SHARES, ALPHAS)
def test_the_probability_to_fail_is_that_of_all_rankings_that_do(k: int, share: float, alpha: float) -> None:
    targets = minimum_targets(k, share, alpha)
    assert fail_probability(targets, share) == pytest.approx(enumerated(targets.tolist(), share), abs=1e-12)


@given(st.integers(1, 60), SHARES, ALPHAS)
def test_with_the_adjusted_alpha_a_fair_ranking_fails_no_more_often_than_alpha(
    k: int, share: float, alpha: float
) -> None:
    adjusted = adjusted_alpha(k, share, alpha)
    assert 0 <= adjusted <= alpha
    targets = minimum_targets(k, share, adjusted)
    assert fail_probability(targets, share) <= alpha
    # And no stricter table of this family would do.
    stats = pytest.importorskip("scipy.stats")
    cdf = stats.binom.cdf(targets, np.arange(1, k + 1), share)
    step = float(cdf.min())
    if step * (1 + 1e-9) < alpha:
        assert fail_probability(minimum_targets(k, share, step * (1 + 1e-9)), share) > alpha


def test_rankings_drawn_at_random_fail_as_often_as_computed_and_a_wrong_share_shows() -> None:
    rng = np.random.default_rng(5)
    k, share, alpha, trials = 30, 0.4, 0.1, 40_000
    targets = fair_targets(k, share, alpha)

    def failing(drawn: float) -> float:
        counts = np.cumsum(rng.random((trials, k)) < drawn, axis=1)
        return float((counts < targets).any(axis=1).mean())

    expected = fail_probability(targets, share)
    noise = 4 * (expected * (1 - expected) / trials) ** 0.5
    assert failing(share) == pytest.approx(expected, abs=noise)
    assert failing(share - 0.1) > expected + 10 * noise


def test_without_the_adjustment_a_fair_ranking_fails_too_often() -> None:
    assert fail_probability(minimum_targets(30, 0.4, 0.1), 0.4) > 0.2
    assert fail_probability(fair_targets(30, 0.4, 0.1), 0.4) <= 0.1


def test_long_slates_and_empty_ones_have_targets() -> None:
    stats = pytest.importorskip("scipy.stats")
    assert fair_targets(0, 0.5, 0.1).tolist() == []
    assert fail_probability(fair_targets(0, 0.5, 0.1), 0.5) == 0.0
    for share in (0.01, 0.99):
        found = minimum_targets(2_000, share, 0.1)
        assert found.tolist() == stats.binom.ppf(0.1, np.arange(1, 2_001), share).tolist()


def test_targets_that_are_shared_cannot_be_written_to() -> None:
    targets = fair_targets(10, 0.5, 0.1)
    assert fair_targets(10, 0.5, 0.1) is targets
    with pytest.raises(ValueError, match="read-only"):
        targets[0] = 5
