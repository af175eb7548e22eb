"""Propensities: the position-based model, and labels that make up for it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.propensity import MIN_PROPENSITY, examination, inverse_weighted


@pytest.mark.parametrize(
    ("n", "eta", "expected"),
    [
        (0, 1.0, []),
        (1, 3.0, [1.0]),
        (4, 1.0, [1, 1 / 2, 1 / 3, 1 / 4]),
        (3, 2.0, [1, 1 / 4, 1 / 9]),
        (3, 0.5, [1, 2**-0.5, 3**-0.5]),
        (3, 0.0, [1, 1, 1]),
    ],
)
def test_examination_is_the_inverse_of_the_place_to_the_power_of_eta(n: int, eta: float, expected: list[float]) -> None:
    np.testing.assert_allclose(examination(n, eta), expected, rtol=1e-6)


@given(st.integers(0, 200), st.floats(0, 5))
def test_the_first_place_is_always_looked_at_and_none_more_than_the_one_before(n: int, eta: float) -> None:
    chances = examination(n, eta)
    assert chances.dtype == np.float32
    assert chances.shape == (n,)
    assert (chances[:1] == 1.0).all()
    assert (np.diff(chances) <= 0.0).all()
    assert (chances >= 0.0).all()


@given(
    st.lists(st.tuples(st.floats(MIN_PROPENSITY, 1.0), st.floats(0.0, 1.0, width=32)), min_size=1, max_size=20),
)
def test_weighted_labels_are_expected_to_be_those_of_a_slate_seen_whole(places: list[tuple[float, float]]) -> None:
    """A label is seen with the chance of its place: ``propensity * weighted = label``."""
    chances, labels = np.array(places).T
    np.testing.assert_allclose(chances * inverse_weighted(labels, chances), labels, rtol=1e-6, atol=1e-30)


@given(st.floats(0.0, MIN_PROPENSITY), st.floats(0.0, 1.0, width=32))
def test_below_the_floor_a_label_counts_for_the_share_that_the_page_says(chance: float, label: float) -> None:
    (weighted,) = inverse_weighted(np.array([label]), np.array([chance]))
    assert chance * weighted == pytest.approx(label * chance / MIN_PROPENSITY, rel=1e-6, abs=1e-30)
    assert weighted <= label / MIN_PROPENSITY * (1 + 1e-6) + 1e-30


@pytest.mark.parametrize("eta", [-0.1, float("nan"), float("inf")])
def test_an_attention_that_grows_or_is_none_is_refused(eta: float) -> None:
    with pytest.raises(InputError, match="eta: expected 0 or more, finite"):
        examination(3, eta)


@pytest.mark.parametrize("chances", [[1.0, -0.1], [1.0, 1.5], [float("nan"), 1.0]])
def test_propensities_that_are_no_chances_are_refused(chances: list[float]) -> None:
    with pytest.raises(InputError, match="propensities: expected chances from 0 to 1"):
        inverse_weighted(np.ones(2, np.float32), np.array(chances))


@pytest.mark.parametrize("chances", [np.ones(3), np.ones((2, 1)), np.array(1.0)])
def test_propensities_that_dont_fit_the_labels_are_refused(chances: Any) -> None:
    with pytest.raises(InputError, match=r"propensities: expected \(2,\) as the labels"):
        inverse_weighted(np.ones(2, np.float32), chances)
