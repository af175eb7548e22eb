from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank_export.report.svg import Scale, marked, spread, ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6), st.integers(2, 10))
def test_ticks_cover_the_range_evenly_and_are_few(low: float, span: float, most: int) -> None:
    marks = ticks(low, low + span, most)
    tolerance = 1e-6 * max(abs(low), span)
    assert len(marks) <= most + 1
    assert marks[0] <= low + tolerance
    assert marks[-1] >= low + span - tolerance
    steps = [after - before for before, after in itertools.pairwise(marks)]
    assert max(steps) - min(steps) <= tolerance


@given(st.lists(st.floats(0, 300), min_size=1, max_size=8))
def test_labels_that_are_spread_keep_their_order_and_their_distance(positions: list[float]) -> None:
    placed = spread(positions, 16)
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    for before, after in itertools.pairwise(order):
        assert placed[after] - placed[before] >= 16 - 1e-6


def test_labels_that_are_far_apart_stay_where_they_are() -> None:
    assert spread((40.0, 0.0, 80.0), 16) == (40.0, 0.0, 80.0)


def test_labels_of_one_place_spread_around_it() -> None:
    assert spread((50.0, 50.0, 50.0), 10) == (40.0, 50.0, 60.0)


def test_a_scale_is_straight_in_its_unit() -> None:
    assert Scale(0, 10, 100, 200)(2.5) == pytest.approx(125)
    assert Scale(1, 1_000, 0, 300, log=True)(10) == pytest.approx(100)
    assert Scale(3, 3, 0, 10)(3) == pytest.approx(5)


def test_the_values_of_an_axis_share_their_decimals() -> None:
    assert marked((-0.05, 0.0, 0.1)) == ("−0.05", "0.00", "0.10")
    assert marked((0.0, 20.0)) == ("0", "20")
