from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.bundle import Parameter
from pocketrank.errors import InputError
from pocketrank_federated.parameters import flatten, unflatten, width

layouts = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), max_size=5).map(
    lambda shapes: tuple(Parameter(f"p{i}", shape) for i, shape in enumerate(shapes))
)
LAYOUT = (Parameter("w", (2, 2)), Parameter("b", (1,)))


@given(layouts, st.integers(0, 2**32 - 1))
def test_a_vector_comes_back_as_it_was(layout: tuple[Parameter, ...], seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=width(layout)).astype(np.float32)
    params = unflatten(layout, vector)
    assert {name: value.shape for name, value in params.items()} == {p.name: p.shape for p in layout}
    np.testing.assert_array_equal(flatten(layout, params), vector)


def test_the_order_is_the_layouts_whatever_the_mappings() -> None:
    params = {"b": np.array([5], np.float32), "w": np.array([[1, 2], [3, 4]], np.float32)}
    np.testing.assert_array_equal(flatten(LAYOUT, params), [1, 2, 3, 4, 5])


def test_parameters_do_not_share_memory_with_the_vector() -> None:
    vector = np.zeros(5, np.float32)
    unflatten(LAYOUT, vector)["w"][0, 0] = 1
    assert not vector.any()


@pytest.mark.parametrize(
    "params",
    [
        {"w": np.zeros((2, 2), np.float32)},
        {"w": np.zeros((2, 2), np.float32), "b": np.zeros(1, np.float32), "c": np.zeros(1, np.float32)},
        {"w": np.zeros(4, np.float32), "b": np.zeros(1, np.float32)},
        {"w": np.zeros((2, 2)), "b": np.zeros(1, np.float32)},
        {"w": np.zeros((2, 2), np.float32), "b": np.array([np.nan], np.float32)},
    ],
    ids=["missing", "surplus", "shape", "dtype", "not finite"],
)
def test_parameters_of_another_bundle_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="params"):
        flatten(LAYOUT, params)


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="vector"):
        unflatten(LAYOUT, np.zeros(4, np.float32))
