"""Permutation importance: by formula on slates whose best order is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.features.profile import Array
from pocketrank.schema import Category, Number, Schema
from pocketrank_export.data.slates import Slates
from pocketrank_export.report import importance as module
from pocketrank_export.report.importance import importance, permuted
from tests import shop

SCHEMA = Schema((Number(name="used"), Number(name="ignored"), Category(name="kind", vocabulary=("a", "b"))))
SWAPPED = 1 - 1 / math.log2(3)
"""What nDCG loses where the one relevant of two candidates comes second."""


def pairs(count: int) -> Slates:
    """Slates of two candidates; the first column says which one is relevant, the last two are one-hot."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(count, 2, 4)).astype(np.float32)
    labels = np.zeros((count, 2), np.float32)
    labels[np.arange(count), rng.integers(0, 2, count)] = 1.0
    features[..., 0] = labels
    kind = rng.integers(0, 2, (count, 2))
    features[..., 2], features[..., 3] = kind, 1 - kind
    return Slates(features, labels, np.ones_like(labels))


def by(score: Callable[[Array], Array], slates: Slates, schema: Schema = SCHEMA, seed: int = 2) -> dict[str, float]:
    found = importance(lambda some: score(some.features), slates, schema, np.random.default_rng(seed))
    return {one.feature: one.loss.mean for one in found}


def test_the_only_feature_that_is_read_loses_what_half_of_all_swaps_lose() -> None:
    slates = pairs(400)
    found = importance(lambda some: some.features[..., 0], slates, SCHEMA, np.random.default_rng(2))
    assert found[0].feature == "used"
    loss = found[0].loss
    # Of the two orders of a slate each is as likely; a mean over slates and repeats has this deviation.
    deviation = SWAPPED * 0.5 / math.sqrt(400 * module.REPEATS)
    assert loss.mean == pytest.approx(SWAPPED / 2, abs=4 * deviation)
    assert abs(loss.mean - SWAPPED) > 20 * deviation
    assert loss.low < SWAPPED / 2 < loss.high
    assert loss.high - loss.low < 6 * deviation


def test_a_feature_that_is_ignored_has_exactly_no_importance() -> None:
    found = importance(lambda some: some.features[..., 0], pairs(50), SCHEMA, np.random.default_rng(2))
    rest = [one.loss for one in found if one.feature != "used"]
    assert [(loss.mean, loss.low, loss.high) for loss in rest] == [(0.0, 0.0, 0.0)] * 2


def test_all_columns_of_a_feature_move_together() -> None:
    # One-hot columns add up to 1 in any order of the candidates; taken apart they would not.
    assert by(lambda features: features[..., 0] * features[..., 2:].sum(axis=-1), pairs(50))["kind"] == 0.0
    assert by(lambda features: features[..., 0] * features[..., 2], pairs(50))["kind"] > 0.0


def test_each_feature_has_the_columns_of_its_place() -> None:
    schema = Schema((Category(name="kind", vocabulary=("a", "b")), Number(name="used"), Number(name="ignored")))
    slates = pairs(50)
    slates.features[:] = slates.features[..., [2, 3, 0, 1]]
    found = by(lambda features: features[..., 2], slates, schema)
    assert found["used"] > 0.0 == found["kind"] == found["ignored"]


def test_what_is_the_same_for_all_candidates_of_a_slate_has_no_importance() -> None:
    slates = pairs(50)
    slates.features[..., 1] = slates.features[:, :1, 1]
    assert by(lambda features: features[..., 0] * features[..., 1], slates)["ignored"] == 0.0


def test_a_ranker_that_reads_a_feature_the_wrong_way_gains_without_it_and_comes_last() -> None:
    found = by(lambda features: -features[..., 0], pairs(50))
    assert list(found)[-1] == "used"
    assert found["used"] < 0


def test_the_same_seed_gives_the_same_figures() -> None:
    slates, score = pairs(20), lambda features: features[..., 0] + features[..., 1]
    assert by(score, slates) == by(score, slates) != by(score, slates, seed=3)


def test_features_without_columns_are_left_out_and_private_ones_are_marked() -> None:
    width = len(shop.SCHEMA.columns)
    rng = np.random.default_rng(3)
    slates = Slates(
        rng.normal(size=(4, 5, width)).astype(np.float32),
        rng.integers(0, 2, (4, 5)).astype(np.float32),
        np.ones((4, 5), np.float32),
    )
    found = importance(lambda some: some.features.sum(axis=-1), slates, shop.SCHEMA, rng)
    assert sum(one.columns for one in found) == width
    assert all(one.columns for one in found)
    private = {one.feature: one.private for one in found}
    assert private == {f.name: shop.SCHEMA.is_private(f) for f in shop.SCHEMA.features if shop.SCHEMA.columns_of(f)}
    assert set(private.values()) == {True, False}


@pytest.mark.parametrize(("most_slates", "most_scored"), [(7, 10**9), (10**9, 3 * 5 * 2 * 7)])
def test_the_work_is_bounded(most_slates: int, most_scored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SLATES", most_slates)
    monkeypatch.setattr(module, "MAX_SCORED", most_scored)
    scored = []

    def score(some: Slates) -> Array:
        scored.append(len(some))
        return some.features[..., 0]

    found = importance(score, pairs(50), SCHEMA, np.random.default_rng(2))
    assert scored == [7] * (1 + 3 * module.REPEATS)
    assert found[0].loss.n == 7


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))
def test_permuting_keeps_each_slates_values_and_its_padding(seed: int, count: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2, (count, n)).astype(np.float32)
    features = rng.normal(size=(count, n, 4)).astype(np.float32)
    slates = Slates(features, mask.copy(), mask)
    before = features.copy()
    made = permuted(slates, slice(1, 3), rng)
    np.testing.assert_array_equal(features, before)
    np.testing.assert_array_equal(made.features[..., [0, 3]], features[..., [0, 3]])
    np.testing.assert_array_equal(made.features[mask == 0], features[mask == 0])
    for one, other, real in zip(made.features, features, mask > 0, strict=True):
        assert sorted(map(tuple, one[real, 1:3].tolist())) == sorted(map(tuple, other[real, 1:3].tolist()))


def test_every_order_of_the_real_candidates_is_as_likely() -> None:
    mask = np.tile(np.array([1, 0, 1, 1], np.float32), (6000, 1))
    features = np.tile(np.arange(4, dtype=np.float32)[:, None], (6000, 1, 1))
    made = permuted(Slates(features, mask, mask), slice(0, 1), np.random.default_rng(4)).features[..., 0]
    orders, counts = np.unique(made, axis=0, return_counts=True)
    assert {tuple(order) for order in orders.tolist()} == {
        (a, 1.0, b, c) for a in (0.0, 2.0, 3.0) for b in (0.0, 2.0, 3.0) for c in (0.0, 2.0, 3.0) if len({a, b, c}) == 3
    }
    assert abs(counts - 1000).max() < 5 * math.sqrt(6000 * (1 / 6) * (5 / 6))
