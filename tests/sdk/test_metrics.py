"""Ranking metrics against an independent library and against the formula, and intervals against what they promise."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.metrics import bootstrap, mrr, ndcg

LABELS = st.lists(st.integers(0, 1), min_size=1, max_size=30)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 15))
def test_ndcg_is_the_gain_over_that_of_the_best_order(labels: list[int], k: int) -> None:
    def gain(order: list[int]) -> float:
        return sum(label / math.log2(place + 2) for place, label in enumerate(order[:k]))

    best = gain(sorted(labels, reverse=True))
    expected = gain(labels) / best if best else 0.0
    assert ndcg(np.array(labels), k=k) == pytest.approx(expected)


@given(LABELS, st.integers(0, 20), st.integers(1, 15))
def test_ndcg_knows_of_relevant_items_that_are_not_in_the_list(labels: list[int], missed: int, k: int) -> None:
    relevant = sum(labels) + missed
    expected = ndcg(np.array(labels + [0] * k + [1] * missed), k=k)
    assert ndcg(np.array(labels), k=k, relevant=relevant) == pytest.approx(expected)


@given(LABELS, st.integers(1, 15))
def test_mrr_is_one_over_the_place_of_the_first_relevant_item(labels: list[int], k: int) -> None:
    expected = next((1 / (place + 1) for place, label in enumerate(labels[:k]) if label), 0.0)
    assert mrr(np.array(labels), k=k) == expected


@given(LABELS)
def test_metrics_lie_between_none_and_perfect(labels: list[int]) -> None:
    best = sorted(labels, reverse=True)
    for metric in (ndcg, mrr):
        assert 0.0 <= metric(np.array(labels)) <= metric(np.array(best)) <= 1.0
        assert metric(np.array(best)) == pytest.approx(float(any(labels)))


@pytest.mark.slow  # the library is compiled when it is imported
def test_metrics_agree_with_an_independent_library() -> None:
    ranx = pytest.importorskip("ranx")
    rng = np.random.default_rng(0)
    labels = (rng.random((50, 40)) < 0.1).astype(int)
    labels[:, 0] |= labels.sum(axis=1) == 0
    places = [rng.permutation(40) for _ in labels]
    qrels = {f"q{q}": {f"d{d}": 1 for d in np.flatnonzero(row)} for q, row in enumerate(labels)}
    run = {f"q{q}": {f"d{d}": 1.0 - 0.01 * at for at, d in enumerate(order)} for q, order in enumerate(places)}
    expected = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), ["ndcg@10", "mrr@10"])
    ranked = [row[order] for row, order in zip(labels, places, strict=True)]
    assert np.mean([ndcg(row) for row in ranked]) == pytest.approx(expected["ndcg@10"])
    assert np.mean([mrr(row) for row in ranked]) == pytest.approx(expected["mrr@10"])


def covered(scale: float, trials: int = 400, n: int = 60) -> float:
    """How often the interval, its width times ``scale``, holds the true mean of skewed values."""
    hits = 0
    for trial in range(trials):
        rng = np.random.default_rng([trial, 11])
        found = bootstrap(rng.exponential(2.0, n), rng, resamples=400)
        low, high = (found.mean + scale * (end - found.mean) for end in (found.low, found.high))
        hits += low <= 2.0 <= high
    return hits / trials


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    assert 0.91 <= covered(1.0) <= 0.98
    # The test would notice an interval of a wrong width.
    assert covered(0.7) < 0.90
    assert covered(1.5) > 0.98


def test_a_paired_interval_is_as_narrow_as_the_differences() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(300)
    after = before + rng.normal(0.02, 0.01, 300)
    paired = bootstrap(after - before, rng)
    assert paired.low > 0
    assert paired.mean == pytest.approx(np.mean(after) - np.mean(before))
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * 0.01 / np.sqrt(300), rel=0.15)
    alone = bootstrap(after, rng)
    assert alone.high - alone.low > 10 * (paired.high - paired.low)


def test_an_interval_is_the_same_for_the_same_seed() -> None:
    values = np.random.default_rng(2).random(50)
    one, other = (bootstrap(values, np.random.default_rng(3)) for _ in range(2))
    assert one == other
    assert one.low < one.mean < one.high
    assert one.n == 50


def test_the_interval_of_one_value_is_the_value() -> None:
    found = bootstrap(np.array([0.5]), np.random.default_rng(0))
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 1)


@pytest.mark.parametrize("values", [[], [np.nan, 1.0], [np.inf]])
def test_values_that_have_no_mean_are_refused(values: list[Any]) -> None:
    with pytest.raises(InputError, match=r"values: expected \[n >= 1\] finite numbers"):
        bootstrap(np.array(values), np.random.default_rng(0))
