import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pocketrank.bundle import Array
from pocketrank.errors import InputError
from pocketrank_federated.clipping import clip_update, l2_norm

updates = arrays(np.float32, st.integers(0, 40), elements=st.floats(-(2.0**100), 2.0**100, width=32))
norms = st.floats(1e-6, 1e6)


@given(updates, norms)
def test_the_norm_is_at_most_the_clipping_norm(update: Array, clipping_norm: float) -> None:
    clipped = clip_update(update, clipping_norm)
    assert clipped.dtype == np.float32
    assert l2_norm(clipped) <= clipping_norm * (1 + 1e-6)


@given(arrays(np.float32, 8, elements=st.floats(-1e3, 1e3, width=32)), norms)
def test_the_direction_is_kept(update: Array, clipping_norm: float) -> None:
    clipped = clip_update(update, clipping_norm).astype(np.float64)
    norm = l2_norm(update)
    expected = update.astype(np.float64) * min(1.0, clipping_norm / norm if norm else 1.0)
    np.testing.assert_allclose(clipped, expected, rtol=1e-6, atol=1e-40)


def test_an_update_within_the_bound_is_returned_itself() -> None:
    update = np.array([3, 4], np.float32)
    assert clip_update(update, 5.0) is update


def test_an_update_just_beyond_the_bound_is_scaled_to_it() -> None:
    clipped = clip_update(np.array([0.6, 0.8], np.float32), 0.9999)
    assert l2_norm(clipped) == pytest.approx(0.9999, rel=1e-6)


def test_zero_stays_zero() -> None:
    zero = np.zeros(4, np.float32)
    np.testing.assert_array_equal(clip_update(zero, 0.1), zero)


def test_values_whose_squares_overflow_float32_are_clipped_right() -> None:
    np.testing.assert_allclose(clip_update(np.array([3e30, 4e30], np.float32), 1.0), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="finite"):
        clip_update(np.array([0, bad], np.float32), 1.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_clipping_norm_that_bounds_nothing_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="clipping_norm"):
        clip_update(np.ones(2, np.float32), bad)
