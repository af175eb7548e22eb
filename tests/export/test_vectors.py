"""Item vectors from logs: who is turned to together lies together."""

import numpy as np
import pytest

from pocketrank.bundle import load_arrays
from pocketrank.features.profile import ItemVectors
from pocketrank.store import Event
from pocketrank_export.data.vectors import _ppmi, item_vectors, to_npz

ITEMS = [f"item-{number}" for number in range(21)]
UNSEEN = ITEMS[20]


def histories(seed: int = 0, people: int = 60) -> list[list[Event]]:
    """People who want either the first ten items or the next ten, and rarely one of the others."""
    rng = np.random.default_rng(seed)
    made = []
    for person in range(people):
        own = 10 * (person % 2) + rng.permutation(10)[:6]
        numbers = [*own, *(10 - 10 * (person % 2) + rng.permutation(10)[:1])]
        made.append([Event(ITEMS[number], float(at)) for at, number in enumerate(numbers)])
    return made


def cosines(logs: list[list[Event]], width: int = 4) -> np.ndarray:
    arrays = load_arrays(to_npz(ITEMS, item_vectors(logs, ITEMS, width=width)))
    rows = ItemVectors(arrays["items"].tolist(), arrays["vectors"].astype(np.float32)).rows(ITEMS)
    return np.asarray(rows @ rows.T)


def test_items_of_the_same_people_point_the_same_way() -> None:
    found = cosines(histories())
    for own in (slice(0, 10), slice(10, 20)):
        other = slice(10, 20) if own.start == 0 else slice(0, 10)
        assert found[own, own].mean() > 0.6
        assert found[own, other].mean() < 0.2


def test_an_item_that_nobody_turned_to_has_no_vector() -> None:
    """Not even a rounding error, which a device would scale up to unit length."""
    noise = load_arrays(to_npz(["a", "b"], np.array([[0.5, 0.5], [1e-15, -2e-15]])))["vectors"]
    assert noise.tolist() == [[pytest.approx(0.5**0.5, abs=1e-3)] * 2, [0.0, 0.0]]
    arrays = load_arrays(to_npz(ITEMS, item_vectors(histories(), ITEMS)))
    at = arrays["items"].tolist().index(UNSEEN)
    assert not arrays["vectors"][at].any()
    assert np.linalg.norm(np.delete(arrays["vectors"], at, axis=0).astype(np.float32), axis=1) == pytest.approx(
        1, abs=2e-3
    )


def test_the_same_logs_give_the_same_file() -> None:
    one, other = (to_npz(ITEMS, item_vectors(histories(), ITEMS, width=8)) for _ in range(2))
    assert one == other
    assert one != to_npz(ITEMS, item_vectors(histories(seed=1), ITEMS, width=8))
    assert load_arrays(one)["vectors"].dtype == np.float16
    assert load_arrays(one)["vectors"].shape == (21, 8)


def test_people_come_in_any_order_and_may_have_done_nothing() -> None:
    logs = histories()
    expected = cosines(logs)
    np.testing.assert_allclose(cosines([[], *reversed(logs), []]), expected, atol=5e-3)


def test_items_close_in_time_are_closer_than_items_far_apart() -> None:
    """One long history of everybody: three walks through the same items, in blocks of four."""
    blocks = [list(range(start, start + 4)) for start in range(0, 20, 4)]
    logs = []
    for person in range(40):
        rng = np.random.default_rng(person)
        numbers = [n for block in rng.permutation(5).tolist() for n in rng.permutation(blocks[block]).tolist()]
        logs.append([Event(ITEMS[number], float(at)) for at, number in enumerate(numbers)])
    found = cosines(logs, width=6)
    within = np.mean([found[i, j] for block in blocks for i in block for j in block if i != j])
    across = np.mean([found[i, j] for i in range(20) for j in range(20) if i // 4 != j // 4])
    assert within > across + 0.3


def test_information_is_that_of_the_formula() -> None:
    """``max(log(p(i, j) / (p(i) p(j)**0.75 / Z)), 0)``, shrunken by ``count / (count + shrinkage)``, made symmetric."""
    rng = np.random.default_rng(4)
    counts = np.triu(rng.integers(0, 5, size=(6, 6)).astype(float), 1)
    counts += counts.T
    sums = counts.sum(axis=1)
    smoothed = sums**0.75 / (sums**0.75).sum()
    expected = np.zeros((6, 6))
    for i in range(6):
        for j in range(6):
            if counts[i, j]:
                information = max(np.log(counts[i, j] / (sums[i] * smoothed[j])), 0.0)
                expected[i, j] = information * counts[i, j] / (counts[i, j] + 2.0)
    np.testing.assert_allclose(_ppmi(counts, shrinkage=2.0), (expected + expected.T) / 2)
