"""Cheap scores that choose what the model sees."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.cascade import MAX_STAGES, Prune, check, from_json, prune
from pocketrank.errors import InputError

COLUMNS = ("price", "fit")


def features(*rows: tuple[float, float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(rows, np.float32).reshape(-1, 2)


def test_a_stage_keeps_the_best_by_its_weights() -> None:
    found = prune(
        [Prune(keep=2, weights={"fit": 1.0})],
        features((1, 0.1), (2, 0.9), (3, 0.5)),
        COLUMNS,
        largest=10,
        k=None,
    )
    assert found.kept == [1, 2]
    assert found.rest == [0]
    assert found.scored
    assert not found.final


def test_weights_count_in_standard_deviations_of_their_columns() -> None:
    """Price varies a thousand times as much as fit; with equal weights both count the same."""
    rows = features((3000, 0.0), (0, 3.0), (2000, 2.5))
    found = prune([Prune(keep=1, weights={"price": 1.0, "fit": 1.0})], rows, COLUMNS, largest=10, k=None)
    assert found.kept == [int((rows / rows.std(axis=0)).sum(axis=1).argmax())] == [2]


def test_without_weights_the_first_given_are_kept() -> None:
    found = prune([Prune(keep=2)], features(*[(1, float(i)) for i in range(5)]), COLUMNS, largest=10, k=None)
    assert (found.kept, found.rest, found.scored) == ([0, 1], [2, 3, 4], False)


def test_what_is_left_is_cut_to_the_models_largest_slate() -> None:
    found = prune(
        [Prune(keep=4, weights={"fit": -1.0})], features(*[(0, float(i)) for i in range(6)]), COLUMNS, largest=3, k=None
    )
    assert (found.kept, found.rest) == ([0, 1, 2], [3, 4, 5])


def test_later_stages_order_what_earlier_ones_kept() -> None:
    stages = [Prune(keep=3, weights={"price": 1.0}), Prune(keep=1, weights={"fit": 1.0})]
    found = prune(stages, features((9, 1), (8, 3), (7, 2), (1, 9)), COLUMNS, largest=10, k=None)
    assert found.kept == [1]
    assert found.rest == [2, 0, 3]


@pytest.mark.parametrize(
    ("k", "margin", "final"),
    [(1, 0.5, True), (2, 0.5, False), (None, 0.5, False), (1, 5.0, False), (1, None, False), (0, 0.5, True)],
)
def test_a_wide_margin_makes_the_order_final(k: int | None, margin: float | None, final: bool) -> None:  # noqa: FBT001
    """The best leads by far; the second and third are almost alike."""
    rows = features((0, 10.0), (0, 1.0), (0, 0.99), (0, 0.0))
    found = prune([Prune(keep=2, weights={"fit": 1.0}, stop_margin=margin)], rows, COLUMNS, largest=10, k=k)
    assert found.final == final
    if final:
        assert found.kept == [0, 1, 2, 3]


@given(
    st.lists(st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32)), max_size=40),
    st.lists(st.tuples(st.integers(1, 50), st.floats(-2, 2), st.sampled_from([None, 0.1, 1.0])), max_size=3),
    st.integers(1, 30),
    st.none() | st.integers(0, 10),
)
def test_no_candidate_is_lost_or_doubled(
    rows: list[tuple[float, float]], drawn: list[tuple[int, float, float | None]], largest: int, k: int | None
) -> None:
    stages = [Prune(keep=keep, weights={"fit": weight}, stop_margin=margin) for keep, weight, margin in drawn]
    found = prune(stages, features(*rows), COLUMNS, largest=largest, k=k)
    assert sorted([*found.kept, *found.rest]) == list(range(len(rows)))
    assert found.final or len(found.kept) <= largest


def test_equal_scores_keep_the_order_given() -> None:
    found = prune([Prune(keep=2, weights={"fit": 1.0})], features(*[(0, 1.0)] * 4), COLUMNS, largest=10, k=None)
    assert (found.kept, found.rest) == ([0, 1], [2, 3])


@pytest.mark.parametrize("stages", [[{"keep": 5}], "prune", [None]])
def test_what_is_no_stage_is_refused(stages: Any) -> None:
    with pytest.raises(InputError, match=r"cascade: expected (stages of Prune|at most 4 stages), got"):
        check(stages, ["fit"])


@pytest.mark.parametrize(
    "body",
    [
        {"keep": 0},
        {"keep": 1.5},
        {"keep": True},
        {"keep": 5, "weights": {"fit": float("nan")}},
        {"keep": 5, "weights": {"fit": 10**400}},
        {"keep": 5, "weights": {"fit": 1e39}},
        {"keep": 5, "weights": {"fit": "much"}},
        {"keep": 5, "weights": ["fit"]},
        {"keep": 5, "stop_margin": 0},
        {"keep": 5, "stop_margin": float("inf")},
        {"keep": 5, "speed": 1},
        {},
        "prune",
    ],
)
def test_a_stage_that_could_not_run_is_refused(body: Any) -> None:
    with pytest.raises(InputError, match="cascade: expected"):
        from_json([body])


def test_a_column_that_the_schema_lacks_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="no column 'rating'; expected among"):
        check([Prune(keep=5, weights={"rating": 1.0})], COLUMNS)


def test_too_many_stages_are_refused() -> None:
    with pytest.raises(InputError, match=f"at most {MAX_STAGES} stages"):
        check([Prune(keep=5)] * (MAX_STAGES + 1), COLUMNS)
