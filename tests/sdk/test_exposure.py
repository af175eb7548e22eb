"""Exposure and diversity against their definitions."""

import itertools
import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance as spatial

from pocketrank.errors import InputError
from pocketrank.metrics.exposure import exposure, intra_list_diversity

GROUPS = st.lists(st.sampled_from(["drama", "comedy", "horror"]), min_size=1, max_size=20)
HOT = st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), max_size=12)


# -- exposure ----------------------------------------------------------------------------------------------------------


@given(GROUPS, st.none() | st.integers(1, 25))
def test_exposure_is_the_discounted_share_of_the_places_that_are_seen(groups: list[str], k: int | None) -> None:
    seen = len(groups) if k is None else min(k, len(groups))
    attention = [1 / math.log2(1 + place) if place <= seen else 0.0 for place in range(1, len(groups) + 1)]
    found = exposure(groups, k=k)
    assert list(found) == list(dict.fromkeys(groups))
    for name, part in found.items():
        given = sum(own for own, group in zip(attention, groups, strict=True) if group == name)
        assert part.share == pytest.approx(given / sum(attention))
        assert part.items == groups.count(name)
        assert part.mean == pytest.approx(given / groups.count(name))


@given(st.lists(st.sets(st.sampled_from("abc"), min_size=1), min_size=1, max_size=12), st.integers(1, 15))
def test_shares_sum_to_one_where_every_item_has_a_group(groups: list[set[str]], k: int) -> None:
    found = exposure(groups, k=k)
    assert sum(part.share for part in found.values()) == pytest.approx(1.0)
    assert sum(part.items for part in found.values()) == pytest.approx(len(groups))


def test_an_item_of_several_groups_divides_itself_among_them() -> None:
    found = exposure([("drama", "comedy", "drama"), "drama"])
    second = 1 / math.log2(3)
    assert found["comedy"].share == pytest.approx(0.5 / (1 + second))
    assert found["drama"].share == pytest.approx((0.5 + second) / (1 + second))
    assert found["drama"].items == 1.5
    assert found["drama"].mean == pytest.approx((0.5 + second) / 1.5)


def test_what_an_item_without_a_group_gets_is_nobodys() -> None:
    found = exposure([None, "drama", ()])
    assert list(found) == ["drama"]
    assert found["drama"].share == pytest.approx(1 / math.log2(3) / (1 + 1 / math.log2(3) + 1 / 2))


def test_a_group_below_the_fold_is_there_and_has_no_exposure() -> None:
    found = exposure(["drama", "drama", "horror"], k=2)
    assert (found["horror"].share, found["horror"].items, found["horror"].mean) == (0.0, 1.0, 0.0)
    assert found["drama"].share == 1.0


def test_an_empty_list_exposes_nobody() -> None:
    assert exposure([]) == {}


# -- diversity ---------------------------------------------------------------------------------------------------------


@given(HOT, st.integers(1, 14))
def test_jaccard_diversity_is_the_mean_over_pairs_of_sets(rows: list[list[int]], k: int) -> None:
    sets = [{column for column, value in enumerate(row) if value} for row in rows[:k]]
    pairs = list(itertools.combinations(sets, 2))
    apart = [1 - len(one & other) / len(one | other) if one | other else 0.0 for one, other in pairs]
    found = intra_list_diversity(np.array(rows).reshape(-1, 4), k=k, distance="jaccard")
    assert found == pytest.approx(np.mean(apart) if apart else 0.0, abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 40])
@pytest.mark.parametrize("distance", ["cosine", "jaccard"])
def test_diversity_agrees_with_an_independent_library(n: int, distance: Literal["cosine", "jaccard"]) -> None:
    rng = np.random.default_rng(n)
    rows: Any = rng.normal(size=(n, 8)) if distance == "cosine" else rng.random((n, 8)) < 0.4
    expected = spatial.pdist(rows, distance).mean()
    assert intra_list_diversity(rows, k=n, distance=distance) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rows", "distance", "diversity"),
    [
        ([[1, 0], [2, 0]], "cosine", 0.0),
        ([[1, 0], [0, 3]], "cosine", 1.0),
        ([[1, 0], [-1, 0]], "cosine", 2.0),
        ([[0, 0], [1, 0]], "cosine", 1.0),
        ([[0, 0], [0, 0]], "cosine", 1.0),
        ([[0, 0], [0, 0]], "jaccard", 0.0),
        ([[0, 0], [1, 0]], "jaccard", 1.0),
        ([[1, 0]], "cosine", 0.0),
        (np.zeros((0, 3)), "jaccard", 0.0),
    ],
)
def test_diversity_at_its_edges(rows: Any, distance: Literal["cosine", "jaccard"], diversity: float) -> None:
    assert intra_list_diversity(rows, distance=distance) == pytest.approx(diversity)


def test_only_the_first_items_count() -> None:
    rows = [[1, 0], [1, 0], [0, 1]]
    assert intra_list_diversity(rows, k=2) == 0.0
    assert intra_list_diversity(rows, k=3) == pytest.approx(2 / 3)


@pytest.mark.parametrize("rows", [[1.0, 2.0], [[np.nan]], [[np.inf, 0.0]]])
def test_rows_without_a_distance_are_refused(rows: Any) -> None:
    with pytest.raises(InputError, match=r"rows: expected finite \[n, d\]"):
        intra_list_diversity(rows)


def test_at_least_one_place_is_seen() -> None:
    with pytest.raises(InputError, match="k: expected >= 1 or None for all places, got 0"):
        exposure(["drama"], k=0)
    with pytest.raises(InputError, match="k: expected >= 1"):
        intra_list_diversity([[1.0]], k=0)
