"""Agreement of two rankings against an independent library, the definition and published figures."""

import itertools
import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pocketrank.errors import InputError
from pocketrank.metrics.agreement import kendall_tau, rank_biased_overlap

ITEMS = st.lists(st.sampled_from("abcdefghijklmnop"), unique=True, max_size=12)
PERSISTENCE = st.sampled_from([0.3, 0.7, 0.9, 0.95])
SCORES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=25)
VARIANTS: tuple[Literal["a", "b"], ...] = ("a", "b")


# -- rank-biased overlap -----------------------------------------------------------------------------------------------


def defined(one: list[str], other: list[str], persistence: float) -> float:
    """The infinite sum, each depth's agreement counted with sets, as far down as it has weight."""
    short, long = sorted((one, other), key=len)
    common = len(set(short) & set(long[: len(short)])) / len(short)

    def agreement(depth: int) -> float:
        depth = min(depth, len(long))
        shared = len(set(short[:depth]) & set(long[:depth]))
        return (shared + max(depth - len(short), 0) * common) / depth

    depths = range(1, len(long) + 1)
    head = (1 - persistence) * sum(persistence ** (depth - 1) * agreement(depth) for depth in depths)
    tail = sum((1 - persistence) * persistence ** (depth - 1) for depth in range(len(long) + 1, 2000))
    return head + tail * agreement(len(long))


@given(ITEMS, ITEMS, PERSISTENCE)
def test_overlap_is_the_infinite_sum_over_the_lists_and_their_extrapolation(
    one: list[str], other: list[str], persistence: float
) -> None:
    found = rank_biased_overlap(one, other, persistence=persistence)
    if one and other:
        assert found == pytest.approx(defined(one, other, persistence))
    assert found == pytest.approx(rank_biased_overlap(other, one, persistence=persistence))
    assert -1e-12 <= found <= 1 + 1e-12


@given(ITEMS, PERSISTENCE)
def test_a_list_overlaps_fully_with_itself_and_not_at_all_with_others(items: list[str], persistence: float) -> None:
    strangers = [item.upper() for item in items]
    assert rank_biased_overlap(items, items, persistence=persistence) == pytest.approx(1.0)
    assert rank_biased_overlap(items, strangers, persistence=persistence) == float(not items)
    assert rank_biased_overlap(items, [], persistence=persistence) == float(not items)


@given(ITEMS.filter(lambda items: len(items) > 1), PERSISTENCE)
def test_a_list_that_is_cut_off_is_taken_to_go_on_as_it_did(items: list[str], persistence: float) -> None:
    assert rank_biased_overlap(items, items[:-1], persistence=persistence) == pytest.approx(1.0)


@pytest.mark.parametrize("persistence", [0.7, 0.9, 0.98])
@pytest.mark.parametrize("depth", [1, 10, 50])
def test_the_weight_of_the_top_is_the_published_one(persistence: float, depth: int) -> None:
    """Webber et al. 2010, equation 21: what two lists overlap that have their first items in common and no others."""
    series = sum(persistence**i / i for i in range(1, depth))
    rest = (1 - persistence) / persistence * depth * (math.log(1 / (1 - persistence)) - series)
    weight = 1 - persistence ** (depth - 1) + rest
    one, other = ([*range(depth), *range(start, start + 4000)] for start in (10_000, 20_000))
    assert rank_biased_overlap(one, other, persistence=persistence) == pytest.approx(weight)
    if (persistence, depth) == (0.9, 10):
        assert weight == pytest.approx(0.86, abs=0.005)


def test_a_swap_at_the_top_costs_more_than_one_below() -> None:
    items = list(range(20))
    top, bottom = [1, 0, *items[2:]], [*items[:-2], 19, 18]
    assert rank_biased_overlap(items, top) < rank_biased_overlap(items, bottom) < 1.0


@pytest.mark.parametrize(
    ("one", "persistence", "message"),
    [
        (["a", "b", "a"], 0.9, "one: expected each item once, got 'a' more than once"),
        (["a"], 0.0, r"persistence: expected a number in \(0, 1\), got 0.0"),
        (["a"], 1.0, "persistence"),
        (["a"], float("nan"), "persistence"),
    ],
)
def test_lists_without_an_overlap_are_refused(one: list[str], persistence: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rank_biased_overlap(one, ["a"], persistence=persistence)


# -- Kendall's tau -----------------------------------------------------------------------------------------------------


@given(SCORES)
def test_tau_b_is_that_of_an_independent_library(rows: list[tuple[int, int]]) -> None:
    one, other = np.array(rows, np.float32).reshape(-1, 2).T
    found = kendall_tau(one, other)
    if len(set(one)) > 1 and len(set(other)) > 1:
        assert found == pytest.approx(stats.kendalltau(one, other).statistic)
    else:
        assert found == float(len(set(one)) < 2 and len(set(other)) < 2)


@given(SCORES)
def test_tau_a_is_the_share_of_pairs_in_the_same_order_less_those_in_the_opposite(rows: list[tuple[int, int]]) -> None:
    one, other = np.array(rows, np.float32).reshape(-1, 2).T
    pairs = itertools.combinations(rows, 2)
    signs = [np.sign(left[0] - right[0]) * np.sign(left[1] - right[1]) for left, right in pairs]
    assert kendall_tau(one, other, variant="a") == pytest.approx(np.mean(signs) if signs else 1.0)


@given(SCORES, st.randoms(use_true_random=False), st.sampled_from(VARIANTS))
def test_tau_does_not_depend_on_the_sequence_of_candidates(
    rows: list[tuple[int, int]], random: Any, variant: Literal["a", "b"]
) -> None:
    mixed = random.sample(rows, len(rows))
    (one, other), (left, right) = (np.array(table).reshape(-1, 2).T for table in (rows, mixed))
    found = kendall_tau(one, other, variant=variant)
    assert found == pytest.approx(kendall_tau(left, right, variant=variant))
    assert found == pytest.approx(kendall_tau(other, one, variant=variant))


@pytest.mark.parametrize("n", [2, 3, 100, 3000])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_order_agrees_fully_and_the_reverse_not_at_all(n: int, variant: Literal["a", "b"]) -> None:
    scores = np.random.default_rng(n).normal(size=n)
    assert kendall_tau(scores, np.exp(scores), variant=variant) == 1.0
    assert kendall_tau(scores, -scores, variant=variant) == -1.0


def test_tau_of_more_candidates_than_fit_a_table_of_pairs() -> None:
    one, other = np.random.default_rng(0).integers(0, 50_000, size=(2, 100_000))
    assert kendall_tau(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [([], [], 1.0), ([2.0], [5.0], 1.0), ([1.0, 1.0], [3.0, 3.0], 1.0), ([1.0, 1.0], [3.0, 4.0], 0.0)],
)
def test_what_orders_nothing_agrees_with_its_like_alone(one: list[float], other: list[float], tau: float) -> None:
    assert kendall_tau(one, other) == tau
    assert kendall_tau(other, one) == tau


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ([1.0, 2.0], [1.0], r"expected scores \[n\] of the same candidates, got \(2,\) and \(1,\)"),
        ([[1.0]], [[1.0]], "expected scores"),
        ([1.0, np.nan], [1.0, 2.0], "expected numbers, got NaN"),
        ([1.0, 2.0], [np.nan, 2.0], "expected numbers, got NaN"),
    ],
)
def test_scores_without_an_order_are_refused(one: Any, other: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kendall_tau(one, other)
