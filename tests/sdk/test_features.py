"""Candidates become columns: what is read, what stands in for what is missing, and what is refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.features import MAX_CANDIDATES, encode, parse
from pocketrank.profile import Array, History, ItemVectors, profile
from pocketrank.schema import Categories, Number, Schema
from tests import shop

SCHEMA = Schema(
    (
        Number(name="price", transform="log1p", default=10.0),
        Number(name="age", transform="sqrt"),
        Number(name="hour", source="context", default=12.0),
        Categories(name="tags", vocabulary=("red", "green", "blue")),
    )
)
NOBODY = profile(SCHEMA, History.of([], SCHEMA, None))


def encoded(candidates: Any, context: dict[str, Any] | None = None) -> Array:
    return encode(parse(candidates, SCHEMA, context), SCHEMA, NOBODY, None)


def test_each_feature_is_transformed_into_its_column() -> None:
    rows = [
        {"id": 1, "price": 99, "age": 4.0, "tags": ["green", "red"]},
        {"id": "b", "price": 0, "age": 2, "tags": "blue"},
    ]
    expected = [[np.log(100), 2.0, 20.0, 1, 1, 0], [0.0, np.sqrt(2), 20.0, 0, 0, 1]]
    np.testing.assert_allclose(encoded(rows, {"hour": 20}), expected, rtol=1e-6)
    assert encoded(rows).dtype == np.float32
    assert parse(rows, SCHEMA).ids == ("1", "b")


@pytest.mark.parametrize("transform", ["log1p", "sqrt"])
def test_a_transform_takes_what_is_negative_for_zero(transform: Any) -> None:
    schema = Schema((Number(name="x", transform=transform),))
    columns = parse({"id": ["a", "b"], "x": [-3.0, 0.0]}, schema)
    assert encode(columns, schema, {}, None).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    "candidates",
    [
        [{"id": "a"}, {"id": "b"}],
        [{"id": "a", "price": None, "tags": None}, {"id": "b", "age": None}],
        {"id": ["a", "b"]},
        {"id": ["a", "b"], "price": None, "age": [None, None], "tags": [None, []]},
        {"id": np.array(["a", "b"]), "tags": np.zeros((2, 3), np.uint8)},
    ],
)
def test_what_is_missing_takes_the_default(candidates: Any) -> None:
    expected = [[np.log1p(10.0), 0.0, 12.0, 0, 0, 0]] * 2
    np.testing.assert_allclose(encoded(candidates), expected, rtol=1e-6)
    np.testing.assert_allclose(encoded(candidates, {"hour": None, "other": "x"}), expected, rtol=1e-6)


def test_what_the_schema_doesnt_know_is_ignored() -> None:
    rows = [{"id": "a", "price": 3, "colour": object(), "hour": "not of the candidate", "tags": ["purple", "red"]}]
    np.testing.assert_allclose(encoded(rows), [[np.log(4), 0, 12, 1, 0, 0]], rtol=1e-6)


@given(st.lists(st.sets(st.sampled_from(("red", "green", "blue", "other"))), max_size=8))
def test_a_multi_hot_column_equals_lists_of_names(tags: list[set[str]]) -> None:
    ids = list(range(len(tags)))
    hot = np.array([[name in names for name in ("red", "green", "blue")] for names in tags]).reshape(len(tags), 3)
    expected = encoded({"id": ids, "tags": [sorted(names) for names in tags]})
    for kind in (np.bool_, np.uint8, np.int64, np.float32, np.float64):
        np.testing.assert_array_equal(encoded({"id": ids, "tags": hot.astype(kind)}), expected)


@given(
    st.lists(st.floats(0, 1e6, width=32) | st.none(), min_size=1, max_size=8), st.sampled_from([tuple, list, np.array])
)
def test_columns_and_mappings_read_alike(prices: list[float | None], kind: Callable[[list[str]], Any]) -> None:
    ids = [f"item-{number}" for number in range(len(prices))]
    rows = [{"id": name, "price": price} for name, price in zip(ids, prices, strict=True)]
    columns: dict[str, Any] = {"id": kind(ids), "price": prices}
    np.testing.assert_array_equal(encoded(rows), encoded(columns))
    filled = np.array([10.0 if price is None else price for price in prices])
    np.testing.assert_array_equal(encoded(rows), encoded({"id": ids, "price": filled}))


def test_the_apps_arrays_may_change_after_the_call() -> None:
    hot = np.eye(3, dtype=np.float32)
    columns = parse({"id": [1, 2, 3], "tags": hot}, SCHEMA)
    hot[:] = 0
    assert columns.values(1, SCHEMA) == {"tags": ("green",)}


def test_private_columns_come_from_the_profile() -> None:
    arrays = shop.item_vectors()
    vectors = ItemVectors(arrays["items"].tolist(), arrays["vectors"].astype(np.float32))
    columns = parse(shop.candidates(range(20)), shop.SCHEMA)
    private = shop.SCHEMA.private_columns
    someone = profile(shop.SCHEMA, History.of(shop.events(0, 30), shop.SCHEMA, vectors))
    nobody = profile(shop.SCHEMA, History.of([], shop.SCHEMA, vectors))
    found, empty = (encode(columns, shop.SCHEMA, known, vectors) for known in (someone, nobody))
    np.testing.assert_array_equal(found[:, ~private], empty[:, ~private])
    assert (empty[:, private] == 0).all()
    assert found[:, private].any(axis=0).all()


class Rowlike:
    """Looks like a mapping and is none."""

    def get(self, name: str) -> str:
        return name


def many() -> Any:
    return {"id": range(MAX_CANDIDATES + 1)}


BAD: list[tuple[Any, str]] = [
    (None, r"candidates: expected a sequence of mappings or columns, got NoneType"),
    ("abc", r"candidates: expected a sequence of mappings or columns, got str"),
    ({1, 2}, r"candidates: expected a sequence of mappings or columns, got set"),
    ([{"id": "a"}, "b"], r"candidates: expected mappings, got str: 'b'"),
    ([Rowlike()], r"candidates: expected mappings, got Rowlike"),
    ({}, r"candidates: 'id' is missing"),
    ({"price": [1.0]}, r"candidates: 'id' is missing"),
    ([{"price": 1.0}], r"candidates: 'id' is missing"),
    ({"id": "abc"}, r"id: expected a column, one entry a candidate, got 'abc'"),
    ({"id": 17}, r"id: expected a column, one entry a candidate, got 17"),
    ({"id": np.array(3)}, r"id: expected a column"),
    ([{"id": "a"}, {"id": None}], r"candidate 1: id: expected str or int, got NoneType"),
    ([{"id": 1.0}], r"candidate 0: id: expected str or int, got float: 1.0"),
    ([{"id": True}], r"candidate 0: id: expected str or int, got bool"),
    ([{"id": ""}], r"candidate 0: id: expected str or int, got str: ''"),
    ([{"id": "a"}, {"id": "b"}, {"id": "a"}], r"id 'a' stands 2 times; ids must be unique"),
    ([{"id": 1}, {"id": "1"}], r"id '1' stands 2 times"),
    ({"id": ["a", "b"], "price": [1.0]}, r"price: expected 2 entries, one a candidate, got 1"),
    ({"id": ["a"], "price": 3.0}, r"price: expected a column, one entry a candidate, got 3.0"),
    ({"id": ["a"], "price": np.array(3.0)}, r"price: expected a column"),
    ({"id": ["a"], "price": "3"}, r"price: expected a column, one entry a candidate, got '3'"),
    ({"id": ["a", "b"], "price": np.ones((2, 2))}, r"candidate 'a': price: expected a number, got ndarray"),
    ([{"id": "a", "price": 1}, {"id": "b", "price": "2"}], r"candidate 'b': price: expected a number, got str: '2'"),
    ([{"id": "a", "price": [1, 2]}, {"id": "b", "price": 1}], r"candidate 'a': price: expected a number, got list"),
    ([{"id": "a", "price": {}}], r"candidate 'a': price: expected a number, got dict"),
    ([{"id": "a", "price": 1j}], r"candidate 'a': price: expected a number, got complex: 1j"),
    ([{"id": "a", "price": 10**40}], r"price: expected numbers that fit a float32"),
    ([{"id": "a"}, {"id": "b", "price": float("nan")}], r"candidate 'b': price: expected a finite float32, got nan"),
    ([{"id": "a", "price": -np.inf}], r"candidate 'a': price: expected a finite float32, got -inf"),
    ([{"id": "a", "price": 1e39}], r"candidate 'a': price: expected a finite float32, got 1e\+39"),
    ({"id": ["a", "b"], "tags": [["red"]]}, r"tags: expected 2 entries"),
    ({"id": ["a"], "tags": "r"}, r"tags: expected a column, one entry a candidate, got 'r'"),
    ({"id": ["a"], "tags": np.ones((1, 2))}, r"tags: expected 0 or 1 \[1, 3\], got float64 \(1, 2\)"),
    ({"id": ["a"], "tags": np.full((1, 3), 2)}, r"tags: expected 0 or 1 \[1, 3\]"),
    ({"id": ["a"], "tags": np.full((1, 3), np.nan)}, r"tags: expected 0 or 1 \[1, 3\]"),
    ([{"id": "a", "tags": 5}], r"candidate 'a': tags: expected a string or a list of strings, got 5"),
    (
        [{"id": "a", "tags": ["red", 5]}],
        r"candidate 'a': tags: expected a string or a list of strings, got \['red', 5\]",
    ),
    (many(), r"expected at most 2000, got 2001; retrieve fewer"),
]


@pytest.mark.parametrize(("candidates", "message"), BAD)
def test_a_bad_candidate_is_refused_by_name_feature_and_value(candidates: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(candidates, SCHEMA)


@pytest.mark.parametrize("hour", ["8", [8], float("nan"), np.ones(3), object()])
def test_a_bad_context_is_refused_by_name(hour: object) -> None:
    with pytest.raises(InputError, match=r"context: hour: expected a (number|finite float32), got"):
        parse([{"id": "a"}], SCHEMA, {"hour": hour})


@pytest.mark.parametrize("empty", [list, dict, tuple])
def test_no_candidates_have_no_rows(empty: Callable[[], Any]) -> None:
    candidates = empty() if empty is not dict else {"id": [], "price": np.array([]), "tags": np.zeros((0, 3))}
    assert encoded(candidates).shape == (0, 6)
