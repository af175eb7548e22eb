"""Calibration: by formula on one slate, and on labels that are drawn from the scores themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.report.calibration import Calibration, calibration


def slates(labels: Array, mask: Array | None = None) -> Slates:
    return Slates(np.zeros((*labels.shape, 1), np.float32), labels, np.ones_like(labels) if mask is None else mask)


def found(scores: Array, given_slates: Slates, bins: int = 10) -> Calibration:
    return calibration(scores, given_slates, np.random.default_rng(0), bins=bins)


def drawn(count: int, n: int, seed: int = 1) -> tuple[Array, Array]:
    """Logits, and one label a slate that is drawn by their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, n)) * 1.5
    labels = np.zeros((count, n), np.float32)
    # The Gumbel trick: the largest of logits with such noise is a draw of their softmax.
    labels[np.arange(count), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)] = 1.0
    return logits.astype(np.float32), labels


THIRDS = np.array([[0.0, math.log(3.0)]], np.float32)
"""Predicted shares 1/4 and 3/4."""


@pytest.mark.parametrize(
    ("labels", "shares", "error"),
    [((0, 1), (0.0, 1.0), 0.25), ((1, 0), (1.0, 0.0), 0.75), ((1, 3), (0.25, 0.75), 0.0), ((2, 2), (0.5, 0.5), 0.25)],
)
def test_two_candidates_by_the_formula(labels: tuple[int, int], shares: tuple[float, float], error: float) -> None:
    it = found(THIRDS, slates(np.array([labels], np.float32)), bins=2)
    assert [each.predicted for each in it.bins] == pytest.approx([0.25, 0.75])
    assert [each.observed.mean for each in it.bins] == pytest.approx(shares)
    assert [each.count for each in it.bins] == [1, 1]
    assert it.error == pytest.approx(error, abs=1e-7)
    assert (it.mean_share, it.slates) == (0.5, 1)


def test_labels_drawn_from_the_scores_are_calibrated_and_scaled_scores_are_not() -> None:
    logits, labels = drawn(4000, 8)
    right, sharp, flat = (found(logits * scale, slates(labels)) for scale in (1.0, 3.0, 0.2))
    # A bin of 3200 candidates, about an eighth of them hits: its share is known to sqrt(1/8 * 7/8 / 3200) = 0.006.
    assert right.error < 2 * 0.006
    assert min(sharp.error, flat.error) > 6 * 0.006
    covered = [each.observed.low <= each.predicted <= each.observed.high for each in right.bins]
    assert sum(covered) >= 8
    assert sum(each.observed.low <= each.predicted <= each.observed.high for each in sharp.bins) <= 3


def test_bins_are_of_about_equal_count_and_in_order() -> None:
    logits, labels = drawn(100, 10)
    it = found(logits, slates(labels))
    assert [each.count for each in it.bins] == [100] * 10
    assert [each.predicted for each in it.bins] == sorted(each.predicted for each in it.bins)
    assert sum(each.count * each.observed.mean for each in it.bins) == pytest.approx(100)
    assert sum(each.count * each.predicted for each in it.bins) == pytest.approx(100)


def test_equal_scores_stay_in_one_bin() -> None:
    _, labels = drawn(50, 5)
    it = found(np.ones((50, 5), np.float32), slates(labels))
    assert len(it.bins) == 1
    assert it.error == pytest.approx(0.0, abs=1e-12)


def test_slates_without_a_label_are_left_out() -> None:
    logits, labels = drawn(30, 5)
    more = np.concatenate([labels, np.zeros((10, 5), np.float32)])
    assert found(np.concatenate([logits, logits[:10]]), slates(more)) == found(logits, slates(labels))


def test_labels_without_any_above_zero_are_refused() -> None:
    with pytest.raises(InputError, match="labels: expected one above 0"):
        found(THIRDS, slates(np.zeros((1, 2), np.float32)))


@given(st.integers(0, 10**6))
def test_neither_padding_nor_a_constant_changes_anything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = drawn(20, 4, seed)
    labels *= rng.integers(1, 4, labels.shape)
    plain = found(logits, slates(labels))
    wide = np.concatenate([logits + rng.normal(), np.full((20, 2), 50.0, np.float32)], axis=1).astype(np.float32)
    padded = np.pad(labels, ((0, 0), (0, 2)))
    mask = np.pad(np.ones_like(labels), ((0, 0), (0, 2)))
    with_padding = found(wide, slates(padded, mask))
    assert with_padding.error == pytest.approx(plain.error, abs=1e-5)
    assert with_padding.mean_share == plain.mean_share == 0.25
    assert [each.count for each in with_padding.bins] == [each.count for each in plain.bins]


def test_the_interval_of_a_bin_draws_whole_slates() -> None:
    # Two candidates of a slate, one hit: shares of a slate always add up to 1, so over both there is no doubt.
    rng = np.random.default_rng(5)
    labels = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 60)]
    (only,) = found(np.zeros((60, 2), np.float32), slates(labels)).bins
    assert (only.observed.low, only.observed.mean, only.observed.high) == (0.5, 0.5, 0.5)
