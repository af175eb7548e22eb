"""Candidates become columns: what is read, what stands in for what is missing or stale, what is refused by name."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.features.candidates import MAX_CANDIDATES, Columns, parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, profile
from pocketrank.schema import Categories, Category, Clock, Embedding, Flag, Number, Schema

SCHEMA = Schema(
    (
        Number(name="price", transform="log1p", default=10.0),
        Number(name="age", transform="sqrt", max_age_s=60.0),
        Number(name="hour", source="context", default=12.0),
        Flag(name="fresh", default=True),
        Category(name="shop", vocabulary=("near", "far")),
        Categories(name="tags", vocabulary=("red", "green", "blue")),
        Embedding(name="look", width=2, to="device"),
    )
)
NOBODY = profile(SCHEMA, History.of([], SCHEMA, None))


def encoded(candidates: Any, context: dict[str, Any] | None = None) -> Array:
    return encode(parse(candidates, SCHEMA, context), SCHEMA, NOBODY, None)


# ------------------------------------------------------------------------------------------------------------- reading


def test_each_feature_is_read_into_its_column() -> None:
    rows = [
        {"id": 1, "price": 99, "age": 4.0, "fresh": False, "shop": "far", "tags": ["green", "red"], "look": (3, 4)},
        {"id": "b", "price": 0, "age": 2, "fresh": np.True_, "tags": "blue", "shop": "elsewhere"},
    ]
    expected = [
        [np.log(100), 2.0, 20.0, 0, 0, 1, 1, 1, 0, 0],
        [0.0, np.sqrt(2), 20.0, 1, 0, 0, 0, 0, 1, 0],
    ]
    np.testing.assert_allclose(encoded(rows, {"hour": 20}), expected, rtol=1e-6)
    assert encoded(rows).dtype == np.float32
    assert parse(rows, SCHEMA).ids == ("1", "b")


DEFAULTS = [np.log1p(10.0), 0.0, 12.0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "candidates",
    [
        [{"id": "a"}, {"id": "b"}],
        [{"id": "a", "price": None, "tags": None, "shop": None}, {"id": "b", "age": None, "look": None}],
        {"id": ["a", "b"]},
        {"id": ["a", "b"], "price": None, "age": [None, None], "tags": [None, []], "fresh": (None, None)},
        {"id": np.array(["a", "b"]), "tags": np.zeros((2, 3), np.uint8), "look": np.zeros((2, 2))},
        {"id": ["a", "b"], "price": np.array([None, None]), "shop": np.array([None, "x"], object)},
    ],
)
def test_what_is_missing_takes_the_default(candidates: Any) -> None:
    np.testing.assert_allclose(encoded(candidates), [DEFAULTS] * 2, rtol=1e-6)
    np.testing.assert_allclose(encoded(candidates, {"hour": None, "other": "x"}), [DEFAULTS] * 2, rtol=1e-6)


def test_defaults_are_counted_by_feature() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "price": 3, "tags": []},
        {"id": "b", "price": None, "age": 1, "shop": "far"},
    ]
    expected = {"price": 1, "age": 1, "hour": 2, "fresh": 2, "shop": 1, "tags": 1, "look": 2}
    assert parse(rows, SCHEMA).defaulted == expected
    assert parse(rows, SCHEMA, {"hour": 3}).defaulted == {k: v for k, v in expected.items() if k != "hour"}
    columns = {name: [row.get(name) for row in rows] for name in ("id", "price", "age", "shop", "tags")}
    assert parse(columns, SCHEMA).defaulted == expected
    assert parse([], SCHEMA).defaulted == {}


def test_what_the_schema_doesnt_know_is_ignored() -> None:
    rows = [{"id": "a", "price": 3, "colour": object(), "hour": "not of the candidate", "tags": ["purple", "red"]}]
    np.testing.assert_allclose(encoded(rows), [[np.log(4), 0, 12, 1, 0, 0, 1, 0, 0, 0]], rtol=1e-6)


@given(st.lists(st.sets(st.sampled_from(("red", "green", "blue", "other"))), max_size=8))
def test_a_multi_hot_column_equals_lists_of_names(tags: list[set[str]]) -> None:
    ids = list(range(len(tags)))
    hot = np.array([[name in names for name in ("red", "green", "blue")] for names in tags]).reshape(len(tags), 3)
    expected = encoded({"id": ids, "tags": [sorted(names) for names in tags]})
    for kind in (np.bool_, np.uint8, np.int64, np.float32, np.float64):
        np.testing.assert_array_equal(encoded({"id": ids, "tags": hot.astype(kind)}), expected)


VALUES = {
    "price": st.floats(0, 1e6, width=32) | st.none() | st.integers(0, 10**6),
    "age": st.floats(-5, 5) | st.none(),
    "fresh": st.booleans() | st.none() | st.sampled_from([0, 1, 0.0, 1.0]),
    "shop": st.sampled_from(["near", "far", "other", None]),
    "tags": st.none() | st.just("red") | st.lists(st.sampled_from(["red", "green", "x"]), max_size=4),
    "look": st.none() | st.lists(st.floats(-3, 3), min_size=2, max_size=2),
}


@given(st.lists(st.fixed_dictionaries({}, optional=VALUES), max_size=8), st.sampled_from([tuple, list, np.array]))
def test_columns_and_mappings_read_alike(rows: list[dict[str, Any]], kind: Callable[[list[str]], Any]) -> None:
    ids = [f"item-{number}" for number in range(len(rows))]
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in VALUES}
    columns["id"] = kind(ids)
    one = parse([{"id": name, **row} for name, row in zip(ids, rows, strict=True)], SCHEMA)
    other = parse(columns, SCHEMA)
    np.testing.assert_array_equal(encode(one, SCHEMA, NOBODY, None), encode(other, SCHEMA, NOBODY, None))
    assert (one.ids, one.defaulted) == (other.ids, other.defaulted)
    for at in range(len(rows)):
        assert one.event_fields(at) == other.event_fields(at)
        assert one.embeddings(at) == other.embeddings(at)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, np.bool_])
def test_an_array_reads_as_its_list(dtype: Any) -> None:
    values = np.array([0, 1, 1, 0], dtype)
    ids = list("abcd")
    for name in ("price", "age", "fresh"):
        one, other = (encoded({"id": ids, name: given}) for given in (values, values.tolist()))
        np.testing.assert_array_equal(one, other)


def test_the_apps_arrays_and_lists_may_change_after_the_call() -> None:
    given: dict[str, Any] = {
        "id": [1, 2, 3],
        "price": np.ones(3),
        "tags": np.eye(3, dtype=np.float32),
        "shop": ["near", "far", "near"],
        "look": np.ones((3, 2)),
    }
    tags = ["green", "red"]
    lists = {"id": [1], "tags": [tags]}
    columns, several = parse(given, SCHEMA), parse(lists, SCHEMA)
    before = encode(columns, SCHEMA, NOBODY, None)
    for name in ("price", "tags", "look"):
        given[name][:] = 0
    given["shop"][:] = "x", "x", "x"
    tags[:] = ["blue"]
    np.testing.assert_array_equal(encode(columns, SCHEMA, NOBODY, None), before)
    assert columns.event_fields(1) == {"shop": ("far",), "tags": ("green",)}
    assert columns.embeddings(1) == {"look": (1.0, 1.0)}
    assert several.event_fields(0)["tags"] == ("green", "red")


def test_an_event_keeps_words_that_this_schema_does_not_know() -> None:
    rows: list[dict[str, Any]] = [{"id": "a", "tags": ["purple", "red"], "shop": "online"}, {"id": "b", "tags": "teal"}]
    columns = parse(rows, SCHEMA)
    assert columns.event_fields(0) == {"shop": ("online",), "tags": ("purple", "red")}
    assert columns.event_fields(1) == {"shop": (), "tags": ("teal",)}


def test_an_event_keeps_no_vector_that_no_device_feature_reads() -> None:
    schema = Schema((Embedding(name="look", width=2), Embedding(name="taste", width=1, to="device")))
    columns = parse([{"id": "a", "look": [1, 2], "taste": [3]}, {"id": "b", "look": [1, 2], "taste": [0]}], schema)
    assert columns.embeddings(0) == {"taste": (3.0,)}
    assert columns.embeddings(1) == {}


# ----------------------------------------------------------------------------------------------------------- freshness

FRESH = Schema(
    (
        Number(name="price", default=-1.0, max_age_s=60.0),
        Flag(name="open", max_age_s=60.0),
        Category(name="shop", vocabulary=("near",), max_age_s=60.0),
        Categories(name="tags", vocabulary=("red",), max_age_s=60.0),
        Embedding(name="look", width=1, to="device", max_age_s=60.0),
        Number(name="weight"),
        Number(name="heat", source="context", default=-1.0, max_age_s=60.0),
    )
)
GIVEN: dict[str, Any] = {"price": 5.0, "open": True, "shop": "near", "tags": ["red"], "look": [1.0], "weight": 2.0}
STALE = {"price": 1, "open": 1, "shop": 1, "tags": 1, "look": 1}


def read(columns: Columns) -> list[float]:
    row: list[float] = encode(columns, FRESH, profile(FRESH, History.of([], FRESH, None)), None)[0].tolist()
    return [*row[:4], *row[5:6], *columns.vectors["look"][0].tolist()]


@pytest.mark.parametrize(
    ("times", "stale"),
    [
        ({}, {}),
        ({"at_s": 40}, {}),
        ({"at_s": 39.5}, STALE),
        ({"at_s": None}, {}),
        ({"at_s": 1000.0}, {}),
        ({"at_s": 0, "price_at_s": 90}, {name: 1 for name in STALE if name != "price"}),
        ({"at_s": 90, "price_at_s": 0}, {"price": 1}),
        ({"at_s": 0, "price_at_s": None}, STALE),
        ({"tags_at_s": 0, "look_at_s": np.float32(0)}, {"tags": 1, "look": 1}),
    ],
)
def test_a_value_older_than_its_limit_takes_the_default(times: dict[str, Any], stale: dict[str, int]) -> None:
    row = {"id": "a", **GIVEN, **times}
    rows = parse([row], FRESH, {"heat": 1.0}, now_s=100.0)
    arrays = parse({name: np.array([value]) for name, value in row.items()}, FRESH, {"heat": 1.0}, now_s=100.0)
    fresh, default = [5.0, 1.0, 1.0, 1.0, 2.0, 1.0], [-1.0, 0.0, 0.0, 0.0, 2.0, 0.0]
    names = ("price", "open", "shop", "tags", "weight", "look")
    expected = [default[at] if name in stale else fresh[at] for at, name in enumerate(names)]
    assert read(rows) == read(arrays) == expected
    assert rows.stale == arrays.stale == stale
    assert rows.defaulted == {}
    assert bool(rows.event_fields(0)["shop"]) == ("shop" not in stale)


def test_what_is_missing_is_not_stale() -> None:
    columns = parse([{"id": "a", "at_s": 0}, {"id": "b", "price": 3, "at_s": 0}], FRESH, {"heat": 1}, now_s=100.0)
    assert columns.stale == {"price": 1}
    assert columns.defaulted == {"price": 1, "open": 2, "shop": 2, "tags": 2, "look": 2, "weight": 2}


@pytest.mark.parametrize(("time", "stale"), [(None, {}), (50.0, {}), (39.0, {"heat": 3})])
def test_a_contexts_value_ages_for_all_candidates(time: float | None, stale: dict[str, int]) -> None:
    context = {"heat": 7.0, "heat_at_s": time}
    columns = parse({"id": [1, 2, 3], "weight": [0, 0, 0]}, FRESH, context, now_s=100.0)
    assert columns.stale == stale
    assert parse({"id": [1, 2, 3]}, FRESH, {"heat": 7.0, "at_s": time}, now_s=100.0).stale == stale


# -------------------------------------------------------------------------------------------------------------- clocks

CLOCKS = Schema((Clock(name="hour", part="hour"), Clock(name="day", part="weekday")))
NOON_OF_A_WEDNESDAY_S = 1_704_283_200.0
"""2024-01-03 12:00 UTC."""


def clock(context: dict[str, Any], now_s: float, utc_offset_s: float = 0.0) -> list[float]:
    columns = parse({"id": ["a"]}, CLOCKS, context, now_s=now_s, utc_offset_s=utc_offset_s)
    row: list[float] = encode(columns, CLOCKS, profile(CLOCKS, History.of([], CLOCKS, None)), None)[0].tolist()
    return row


@pytest.mark.parametrize(
    ("context", "offset_s", "hour", "day"),
    [
        ({}, 0.0, 12.0, 2),
        ({}, 3_600.0 * 5.5, 17.5, 2),
        ({}, 3_600.0 * 14, 2.0, 3),
        ({}, -3_600.0 * 13, 23.0, 1),
        ({"hour": 20}, 0.0, 20.0, 2),
        ({"hour": 24, "day": 6.5}, 0.0, 0.0, 6.5),
        ({"day": np.int64(7)}, 0.0, 12.0, 0),
    ],
)
def test_a_clock_is_a_circle(context: dict[str, Any], offset_s: float, hour: float, day: float) -> None:
    angles = [2 * math.pi * hour / 24, 2 * math.pi * day / 7]
    expected = [f(angle) for angle in angles for f in (math.sin, math.cos)]
    np.testing.assert_allclose(clock(context, NOON_OF_A_WEDNESDAY_S, offset_s), expected, atol=1e-6)


@pytest.mark.parametrize("context", [{"hour": 24.1}, {"hour": -1}, {"hour": "8"}, {"day": 7.5}, {"day": math.nan}])
def test_a_time_outside_the_circle_is_refused(context: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"context: (hour: expected a number from 0 to 24|day: .* from 0 to 7), got"):
        clock(context, 0.0)


def test_a_device_without_a_clock_says_so() -> None:
    with pytest.raises(InputError, match="now_s: expected Unix seconds, got nan"):
        clock({}, math.nan)


# ------------------------------------------------------------------------------------------------------- parts of it


ROWS = [{"id": str(n), "price": n, "tags": ["red"] * (n % 2), "shop": "near", "look": [n, n], "x": n} for n in range(6)]


@given(st.lists(st.integers(0, 5), unique=True), st.lists(st.integers(0, 5), unique=True))
def test_only_some_candidates_are_as_if_they_alone_were_given(kept: list[int], again: list[int]) -> None:
    found = parse(ROWS, SCHEMA).only(kept)
    expected = parse([ROWS[at] for at in kept], SCHEMA)
    again = [at for at in again if at < len(kept)]
    for some, same in ((found, expected), (found.only(again), expected.only(again))):
        assert some.ids == same.ids
        np.testing.assert_array_equal(encode(some, SCHEMA, NOBODY, None), encode(same, SCHEMA, NOBODY, None))
        for field in ("id", "x", "price", "nothing"):
            assert list(some.raw(field)) == list(same.raw(field))
        for at in range(len(some.ids)):
            assert some.event_fields(at) == same.event_fields(at)
            assert some.embeddings(at) == same.embeddings(at)


def test_raw_gives_the_apps_own_values_of_any_field() -> None:
    thing = object()
    given = {"id": [7, 8], "price": np.array([1.5, 2.5]), "x": (thing, None), "tags": [["red"], None]}
    columns = parse(given, SCHEMA)
    assert columns.raw("id") == ("7", "8")
    assert columns.raw("price") == [1.5, 2.5]
    assert columns.raw("x") == [thing, None]
    assert columns.raw("tags") == [["red"], None]
    assert columns.raw("nothing") == [None, None]
    assert parse([{"id": "a", "x": 1}, {"id": "b"}], SCHEMA).raw("x") == [1, None]


class Series:
    """As those of pandas: entries are found by label, and come in the order in which they were sorted."""

    def __init__(self, labels: list[int], values: list[str]) -> None:
        self._by_label = dict(zip(labels, values, strict=True))

    def __len__(self) -> int:
        return len(self._by_label)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_label.values())

    def __getitem__(self, label: int) -> str:
        return self._by_label[label]


def test_raw_goes_by_position_where_a_column_goes_by_label() -> None:
    columns = parse({"id": ["a", "b", "c"], "x": Series([2, 0, 1], ["first", "second", "third"])}, SCHEMA)
    assert columns.raw("x") == ["first", "second", "third"]
    assert columns.only([2, 0]).raw("x") == ["third", "first"]


def test_raw_gives_the_words_of_categories_that_came_as_0_and_1() -> None:
    hot = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 1]], np.bool_)
    columns = parse({"id": ["a", "b", "c"], "tags": hot}, SCHEMA)
    assert columns.raw("tags") == [("red",), (), ("green", "blue")]
    assert columns.only([2, 0]).raw("tags") == [("green", "blue"), ("red",)]


def test_raw_makes_no_numbers_of_times() -> None:
    times = np.array([1, 2], "M8[ns]")
    assert parse({"id": ["a", "b"], "until": times}, SCHEMA).raw("until") == list(times)


@pytest.mark.parametrize("ragged", [[1], 5, "xy"])
def test_raw_refuses_a_ragged_column(ragged: Any) -> None:
    with pytest.raises(InputError, match="x: expected"):
        parse({"id": ["a", "b"], "x": ragged}, SCHEMA).raw("x")


# ------------------------------------------------------------------------------------------------------------ refusals


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
    ({"id": {"a", "b"}}, r"id: expected a column, one entry a candidate, got {'"),
    ({"id": ["a", "b"], "price": {1, 2}}, r"price: expected a column, one entry a candidate, got {1, 2}"),
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
    ([{"id": "a", "price": 10**40}], r"candidate 'a': price: expected a finite float32, got 1e\+40"),
    ([{"id": "a", "price": 10**400}], r"candidate 'a': price: expected a finite float32, got inf"),
    ({"id": ["a", "b"], "price": np.array([1.0, np.nan])}, r"candidate 'b': price: expected a finite float32, got nan"),
    ({"id": ["a"], "price": np.array(["3"])}, r"candidate 'a': price: expected a number, got str: '3'"),
    ([{"id": "a", "fresh": 2}], r"candidate 'a': fresh: expected true or false, got 2"),
    ([{"id": "a", "fresh": 0.5}], r"candidate 'a': fresh: expected true or false, got 0.5"),
    ([{"id": "a", "fresh": "yes"}], r"candidate 'a': fresh: expected true or false, got str: 'yes'"),
    ({"id": ["a", "b"], "fresh": np.array([0, 3])}, r"candidate 'b': fresh: expected true or false, got 3"),
    ([{"id": "a", "fresh": float("nan")}], r"candidate 'a': fresh: expected true or false, got nan"),
    ([{"id": "a", "shop": ["x"]}], r"candidate 'a': shop: expected a string, got list: \['x'\]"),
    ([{"id": "a", "shop": 5}], r"candidate 'a': shop: expected a string, got int: 5"),
    ([{"id": "a", "shop": "x" * 10**6}], r"candidate 'a': shop: expected at most 256 characters, got 1000000: 'xxx"),
    ([{"id": "a", "tags": ["x" * 257]}], r"candidate 'a': tags: expected at most 256 characters, got 257"),
    ([{"id": "a", "tags": ["x"] * 65}], r"candidate 'a': tags: expected at most 64 values, got 65"),
    ([{"id": "a", "tags": {"red"}}], r"candidate 'a': tags: expected a string or a list of strings, got set"),
    ([{"id": "a", "tags": [["red"]]}], r"candidate 'a': tags: expected a string or a list of strings, got list"),
    ([{"id": "x" * 10**6}], r"candidate 0: id: expected at most 256 characters of Unicode, got 'xxx"),
    ([{"id": "\ud800"}], r"candidate 0: id: expected at most 256 characters of Unicode"),
    ([{"id": 10**9_999}], r"candidate 0: id: expected at most 256 characters"),
    ([{"id": np.timedelta64(3, "s")}], r"candidate 0: id: expected str or int, got timedelta64"),
    ({"id": np.array([1, 2], "M8[ns]")}, r"candidate 0: id: expected str or int, got datetime64"),
    ([{"id": "a", "price": np.timedelta64(3, "s")}], r"candidate 'a': price: expected a number, got timedelta64"),
    ({"id": ["a"], "price": np.array([3], "M8[ns]")}, r"candidate 'a': price: expected a number, got datetime64"),
    ([{"id": "a", "age": 1, "at_s": 10**400}], r"candidate 'a': at_s: expected Unix seconds, got int"),
    ([{"id": "a", "shop": 10**9_999}], r"candidate 'a': shop: expected a string, got int: what can't be shown"),
    ([{"id": 10**300}], r"candidate 0: id: expected at most 256 characters"),
    ([{"id": "a", "look": [1.0]}], r"candidate 'a': look: expected 2 numbers, got list: \[1.0\]"),
    ([{"id": "a", "look": 3}], r"candidate 'a': look: expected 2 numbers, got int: 3"),
    ([{"id": "a", "look": [1, "2"]}], r"candidate 'a': look: expected 2 numbers, got list"),
    ([{"id": "a", "look": [1, 10**400]}], r"candidate 'a': look: expected a finite float32, got inf"),
    ([{"id": "a", "look": [1, float("nan")]}], r"candidate 'a': look: expected a finite float32, got nan"),
    ({"id": ["a", "b"], "look": np.ones((2, 3))}, r"candidate 'a': look: expected 2 numbers, got ndarray"),
    ({"id": ["a", "b"], "look": np.array([[1, 2], [3, np.inf]])}, r"candidate 'b': look: expected a finite float32"),
    ([{"id": "a", "age": 1, "at_s": "today"}], r"candidate 'a': at_s: expected Unix seconds, got str: 'today'"),
    ([{"id": "a", "age": 1, "age_at_s": float("nan")}], r"candidate 'a': age_at_s: expected Unix seconds, got float"),
    ([{"id": "a"}, {"id": "b", "price": float("nan")}], r"candidate 'b': price: expected a finite float32, got nan"),
    ([{"id": "a", "price": -np.inf}], r"candidate 'a': price: expected a finite float32, got -inf"),
    ([{"id": "a", "price": 1e39}], r"candidate 'a': price: expected a finite float32, got 1e\+39"),
    ({"id": ["a", "b"], "tags": [["red"]]}, r"tags: expected 2 entries"),
    ({"id": ["a"], "tags": "r"}, r"tags: expected a column, one entry a candidate, got 'r'"),
    ({"id": ["a"], "tags": np.ones((1, 2))}, r"tags: expected 0 or 1 \[1, 3\], got float64 \(1, 2\)"),
    ({"id": ["a"], "tags": np.full((1, 3), 2)}, r"tags: expected 0 or 1 \[1, 3\]"),
    ({"id": ["a"], "tags": np.full((1, 3), np.nan)}, r"tags: expected 0 or 1 \[1, 3\]"),
    ([{"id": "a", "tags": 5}], r"candidate 'a': tags: expected a string or a list of strings, got int: 5"),
    (
        [{"id": "a", "tags": ["red", 5]}],
        r"candidate 'a': tags: expected a string or a list of strings, got int: 5",
    ),
    (many(), r"expected at most 2000, got 2001; retrieve fewer"),
]


@pytest.mark.parametrize(("candidates", "message"), BAD)
def test_a_bad_candidate_is_refused_by_name_feature_and_value(candidates: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(candidates, SCHEMA)


@pytest.mark.parametrize("hour", ["8", [8], float("nan"), np.ones(3), object(), 10**400])
def test_a_bad_context_is_refused_by_name(hour: object) -> None:
    with pytest.raises(InputError, match=r"context: hour: expected a (number|finite float32), got"):
        parse([{"id": "a"}], SCHEMA, {"hour": hour})


@pytest.mark.parametrize("context", [[("hour", 8)], "hour", 8, []])
def test_a_context_that_is_no_mapping_is_refused(context: Any) -> None:
    with pytest.raises(InputError, match="context: expected a mapping of names to values, got"):
        parse([{"id": "a"}], SCHEMA, context)


def test_a_refusal_never_repeats_a_long_value() -> None:
    for row in ({"id": "x" * 10**5}, {"id": "a", "shop": ["y" * 10**5]}, {"id": "a", "price": "z" * 10**5}):
        with pytest.raises(InputError) as caught:
            parse([row], SCHEMA)
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("empty", [list, dict, tuple])
def test_no_candidates_have_no_rows(empty: Callable[[], Any]) -> None:
    candidates = empty() if empty is not dict else {"id": [], "price": np.array([]), "tags": np.zeros((0, 3))}
    assert encoded(candidates).shape == (0, len(SCHEMA.columns))
