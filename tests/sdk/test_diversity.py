"""Diversity: MMR against its formula, the DPP against determinants, and what is refused."""

import sys
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import ExtraMissingError, InputError
from pocketrank.policy.diversity import MAX_WIDTH, OWN, POOL, diversify, multi_hot

Floats = npt.NDArray[np.float64]
METHODS: list[Literal["mmr", "dpp"]] = ["mmr", "dpp"]


def case(seed: int, n: int = 7, width: int = 4) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(size=(n, width))


def cosines(vectors: Floats) -> Floats:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def textbook_mmr(scores: Floats, vectors: Floats, weight: float, top: int) -> list[int]:
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    similar = np.clip(cosines(vectors), 0, 1)
    taken = [int(np.argmax(relevance))]
    while len(taken) < top:
        gains = {
            i: (1 - weight) * relevance[i] - weight * max(similar[i, j] for j in taken)
            for i in range(len(scores))
            if i not in taken
        }
        taken.append(max(gains, key=lambda i: gains[i]))
    return taken


def textbook_dpp(scores: Floats, vectors: Floats, weight: float, top: int) -> list[int]:
    quality = np.exp((1 - weight) * (scores - scores.mean()) / scores.std())
    similar = (1 - OWN) * cosines(vectors) + OWN * np.eye(len(scores))
    kernel = quality[:, None] * similar * quality
    taken: list[int] = []
    while len(taken) < top:
        gains = {
            i: np.linalg.det(kernel[np.ix_([*taken, i], [*taken, i])]) for i in range(len(scores)) if i not in taken
        }
        taken.append(max(gains, key=lambda i: gains[i]))
    return taken


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
@given(seed=st.integers(0, 10_000))
def test_mmr_takes_what_its_formula_says(seed: int, weight: float) -> None:
    scores, vectors = case(seed)
    assert diversify(scores, vectors, method="mmr", weight=weight, top=5)[:5] == textbook_mmr(
        scores, vectors, weight, 5
    )


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
@given(seed=st.integers(0, 10_000))
def test_the_dpp_takes_what_makes_the_determinant_largest(seed: int, weight: float) -> None:
    scores, vectors = case(seed)
    found = diversify(scores, vectors, method="dpp", weight=weight, top=4)[:4]
    assert found == textbook_dpp(scores, vectors, weight, 4)


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10_000), weight=st.floats(0, 1), top=st.integers(1, 12))
def test_all_come_back_once_and_the_rest_stays_in_the_order_of_scores(
    method: Literal["mmr", "dpp"], seed: int, weight: float, top: int
) -> None:
    scores, vectors = case(seed)
    found = diversify(scores, vectors, method=method, weight=weight, top=top)
    assert sorted(found) == list(range(len(scores)))
    rest = found[top:]
    assert rest == sorted(rest, key=lambda i: -scores[i])
    assert found[0] == int(np.argmax(scores)) or (method == "dpp" and weight == 1)


@pytest.mark.parametrize("method", METHODS)
def test_weight_zero_is_the_order_of_scores_and_equal_scores_stay_as_given(method: Literal["mmr", "dpp"]) -> None:
    scores = np.array([1.0, 3.0, 1.0, 3.0, 2.0])
    found = diversify(scores, np.ones((5, 2)), method=method, weight=0.0, top=5)
    assert found == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("method", METHODS)
def test_two_that_are_alike_do_not_stand_first_together(method: Literal["mmr", "dpp"]) -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert diversify(np.array([3.0, 2.9, 2.0]), vectors, method=method, weight=0.7, top=3) == [0, 2, 1]


def test_when_each_direction_is_taken_the_dpp_goes_on_by_relevance() -> None:
    scores = np.linspace(2, 0, 12)
    vectors = np.eye(2)[np.arange(12) % 2]
    found = diversify(scores, vectors, method="dpp", weight=0.5, top=12)
    # Without a part of their own, items that repeat others would come in the order of rounding errors.
    assert [i % 2 for i in found] == [0, 1] * 6
    assert found[::2] == sorted(found[::2])
    assert found[1::2] == sorted(found[1::2])


@pytest.mark.parametrize("method", METHODS)
def test_items_without_a_vector_are_unlike_any_other(method: Literal["mmr", "dpp"]) -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert diversify(np.array([4.0, 3.9, 3.0, 2.9]), vectors, method=method, weight=0.8, top=4) == [0, 2, 3, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_scale_of_scores_and_vectors_does_not_matter(method: Literal["mmr", "dpp"], factor: float) -> None:
    scores, vectors = case(3)
    expected = diversify(scores, vectors, method=method, weight=0.5, top=5)
    assert diversify(scores * factor + 5, vectors * factor, method=method, weight=0.5, top=5) == expected


@pytest.mark.parametrize("method", METHODS)
def test_equal_scores_and_few_items_are_no_trouble(method: Literal["mmr", "dpp"]) -> None:
    assert diversify(np.zeros(0), np.zeros((0, 3)), method=method, weight=0.5, top=3) == []
    assert diversify(np.ones(1), np.ones((1, 3)), method=method, weight=0.5, top=3) == [0]
    assert sorted(diversify(np.ones(4), np.eye(4), method=method, weight=1.0, top=9)) == [0, 1, 2, 3]


def test_only_the_best_are_considered() -> None:
    n = POOL + 5
    vectors = np.zeros((n, 2))
    vectors[:POOL, 0], vectors[POOL:, 1] = 1.0, 1.0
    found = diversify(-np.arange(float(n)), vectors, method="mmr", weight=1.0, top=5)
    assert max(found[:5]) < POOL
    assert found[-5:] == list(range(POOL, n))


def test_a_missing_extra_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyversity", None)
    with pytest.raises(ExtraMissingError, match=r'pip install "pocketrank\[diversity\]"'):
        diversify(np.arange(3.0), np.eye(3), method="mmr", weight=0.5, top=2)


def test_a_fields_values_become_vectors() -> None:
    hot = multi_hot(["a", ["b", "a"], None, 3, True, object(), float("nan")])
    assert hot.dtype == np.float32
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert hot.tolist() == expected
    assert multi_hot([None, None]).tolist() == [[0], [0]]
    with pytest.raises(InputError, match="at most 4096 different values"):
        multi_hot([list(range(MAX_WIDTH + 1))])
