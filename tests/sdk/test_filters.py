"""Filters: each operator on each kind of value, and nothing that can't be told gets through."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.policy.filters import entries, kept, matches
from pocketrank.policy.rules import Condition, Op, Policy

YES, NO, UNKNOWN = True, False, None


class Raises:
    """An app's object that raises whatever is asked of it."""

    def _raise(self, *_: object) -> NoReturn:
        raise RuntimeError("an app's own error")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __iter__ = _raise
    __len__ = __bool__ = __str__ = __float__ = __int__ = __index__ = _raise
    __hash__ = _raise


class RaisingText(str):
    """A string that raises when it is compared."""

    __slots__ = ()

    def __eq__(self, other: object) -> NoReturn:
        raise RuntimeError("an app's own error")

    __hash__ = str.__hash__


class RaisingList(list[str]):
    """A list that raises when it is read."""

    def __iter__(self) -> NoReturn:
        raise RuntimeError("an app's own error")


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    THREE = 3


STRANGE = [
    Raises(),
    RaisingList(["red"]),
    object(),
    {"red": 1},
    b"red",
    Decimal(3),
    datetime(2024, 1, 1, tzinfo=UTC),
    math.nan,
    np.float32("nan"),
    np.array(3.0),
    [["red"]],
    [Raises()],
    [None],
    complex(1, 1),
]


@pytest.mark.parametrize(
    ("op", "wanted", "value", "holds"),
    [
        ("eq", "red", "red", YES),
        ("eq", "red", "blue", NO),
        ("eq", "red", None, NO),
        ("eq", "red", 3, UNKNOWN),
        ("eq", "red", np.str_("red"), YES),
        ("eq", "red", Colour.RED, YES),
        ("eq", "red", RaisingText("red"), YES),
        ("eq", "red", ["blue", "red"], YES),
        ("eq", "red", ("blue",), NO),
        ("eq", "red", [], NO),
        ("eq", "red", {"red"}, YES),
        ("eq", "red", ["blue", 3], UNKNOWN),
        ("eq", "red", ["red", 3], YES),
        ("eq", "red", np.array(["red", "blue"]), YES),
        ("eq", 3, 3.0, YES),
        ("eq", 3, np.int64(3), YES),
        ("eq", 3, Level.THREE, YES),
        ("eq", 3.0, 3, YES),
        ("eq", 3, "3", UNKNOWN),
        ("eq", 1, True, UNKNOWN),
        ("eq", True, True, YES),
        ("eq", True, np.True_, YES),
        ("eq", True, 1, UNKNOWN),
        ("eq", True, False, NO),
        ("eq", 0.5, math.inf, NO),
        ("ne", "red", "blue", YES),
        ("ne", "red", "red", NO),
        ("ne", "red", None, NO),
        ("ne", "red", 3, UNKNOWN),
        ("ne", "red", ["blue"], YES),
        ("ne", "red", ["blue", "red"], NO),
        ("ne", "red", [], YES),
        ("in", ("red", 3), "red", YES),
        ("in", ("red", 3), 3.0, YES),
        ("in", ("red", 3), "blue", NO),
        ("in", ("red", 3), True, UNKNOWN),
        ("in", ("red",), ["blue", "red"], YES),
        ("in", ("red",), None, NO),
        ("not_in", ("red", "blue"), "green", YES),
        ("not_in", ("red", "blue"), "blue", NO),
        ("not_in", ("red", "blue"), None, NO),
        ("not_in", ("red",), 3, UNKNOWN),
        ("lt", 3, 2, YES),
        ("lt", 3, 3, NO),
        ("le", 3, 3.0, YES),
        ("gt", 3, np.float32(3.5), YES),
        ("ge", 3, 10**400, YES),
        ("ge", 3, None, NO),
        ("ge", 3, "4", UNKNOWN),
        ("ge", 3, True, UNKNOWN),
        ("ge", 3, [4], UNKNOWN),
        ("lt", 3, -math.inf, YES),
        ("contains", "red", "dark red", YES),
        ("contains", "red", "blue", NO),
        ("contains", "red", ["dark red"], NO),
        ("contains", "red", ["red"], YES),
        ("contains", "red", None, NO),
        ("contains", "red", 3, UNKNOWN),
        ("contains", 3, [1, 3], YES),
        ("contains", 3, "3", UNKNOWN),
        ("exists", True, "red", YES),
        ("exists", True, None, NO),
        ("exists", True, [], YES),
        ("exists", True, math.nan, UNKNOWN),
        ("exists", False, None, YES),
        ("exists", False, 0, NO),
        ("exists", True, np.datetime64("NaT"), UNKNOWN),
        ("exists", False, Raises(), UNKNOWN),
    ],
)
def test_a_condition_holds_does_not_or_cannot_be_told(op: Op, wanted: Any, value: Any, holds: bool | None) -> None:  # noqa: FBT001
    condition = Condition("field", op, wanted)
    assert matches(condition, [value]) == [holds]
    # Alone or among others, the fast path or not: the same.
    assert matches(condition, [value, None, value, STRANGE[0]])[::2] == [holds, holds]


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "condition",
    [
        Condition("field", "eq", "red"),
        Condition("field", "ne", "red"),
        Condition("field", "in", ("red", 3)),
        Condition("field", "not_in", ("red", 3, True)),
        Condition("field", "lt", 3),
        Condition("field", "ge", 3),
        Condition("field", "contains", "red"),
    ],
    ids=str,
)
def test_what_cannot_be_told_is_dropped_by_every_rule(condition: Condition, value: Any) -> None:
    column = [value, None]
    assert kept(Policy(deny=(condition,)), lambda _: column, 2, 0.0) == [1]
    assert kept(Policy(require=(condition,)), lambda _: column, 2, 0.0) == []
    assert kept(Policy(expire=("field",)), lambda _: column, 2, 0.0) == [1]


FIELDS: Mapping[str, Sequence[Any]] = {
    "publisher": ["us", "de", None, "us", 7],
    "until": [100.0, None, 99.5, np.float64(101), "101"],
}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), [0, 1, 2, 3, 4]),
        (Policy(deny=(Condition("publisher", "eq", "us"),)), [1, 2]),
        (Policy(require=(Condition("publisher", "eq", "us"),)), [0, 3]),
        (Policy(require=(Condition("publisher", "ne", "us"),)), [1]),
        (Policy(require=(Condition("publisher", "exists", False),)), [2]),
        (Policy(expire=("until",)), [0, 1, 3]),
        (Policy(deny=(Condition("publisher", "eq", "de"),), expire=("until",)), [0, 3]),
        (Policy(deny=(Condition("publisher", "eq", "us"), Condition("publisher", "eq", "de"))), [2]),
        (Policy(require=(Condition("publisher", "eq", "us"), Condition("publisher", "eq", "de"))), []),
    ],
)
def test_candidates_pass_that_no_rule_drops(policy: Policy, expected: list[int]) -> None:
    assert kept(policy, FIELDS.__getitem__, 5, 100.0) == expected


def test_a_candidate_expires_when_its_time_is_past_and_not_before() -> None:
    moments = [99.999, 100.0, 100.001, None, math.nan, math.inf, -math.inf, True, [200.0], "200"]
    assert kept(Policy(expire=("until",)), lambda _: moments, len(moments), 100.0) == [1, 2, 3, 5]
    assert kept(Policy(expire=("until",)), lambda _: [1e12, None], 2, math.nan) == [1]


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_columns_of_arrays_are_read_as_their_numbers(dtype: type) -> None:
    column: npt.NDArray[Any] = np.arange(5, dtype=dtype)
    condition = Condition("price", "ge", 3)
    assert kept(Policy(deny=(condition,)), lambda _: column, 5, 0.0) == [0, 1, 2]
    assert kept(Policy(expire=("price",)), lambda _: column, 5, 2.0) == [2, 3, 4]


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2)
VALUES = JSON_VALUES | st.lists(JSON_VALUES, max_size=3) | st.integers(0, len(STRANGE) - 1).map(STRANGE.__getitem__)
PAIRS: list[tuple[Literal["eq", "in", "exists"], Any, Literal["ne", "not_in", "exists"], Any]] = [
    ("eq", "a", "ne", "a"),
    ("in", ("a", 1, True), "not_in", ("a", 1, True)),
    ("exists", True, "exists", False),
]


@given(st.lists(VALUES, max_size=8), st.sampled_from(PAIRS))
def test_a_condition_and_its_opposite_never_both_hold(values: list[Any], pair: tuple[Op, Any, Op, Any]) -> None:
    op, wanted, opposite, unwanted = pair
    one = matches(Condition("field", op, wanted), values)
    other = matches(Condition("field", opposite, unwanted), values)
    for value, holds, fails in zip(values, one, other, strict=True):
        if value is None and op != "exists":
            assert (holds, fails) == (NO, NO)
        else:
            assert fails is (None if holds is None else not holds)


@given(st.lists(VALUES, max_size=8), st.sampled_from(PAIRS))
def test_all_values_at_once_are_judged_as_each_alone(values: list[Any], pair: tuple[Op, Any, Op, Any]) -> None:
    condition = Condition("field", pair[0], pair[1])
    assert matches(condition, values) == [matches(condition, [value, STRANGE[0]])[0] for value in values]


def test_entries_are_what_a_value_counts_as() -> None:
    values = ["a", 1, 1.0, True, None, ["b", "a", "b"], [1, math.nan, None], [], Raises(), np.array([2, 3]), math.nan]
    expected = [("a",), (1,), (1.0,), ((True,),), (), ("b", "a"), (1,), (), (), (2, 3), ()]
    assert entries(values) == expected
    assert entries(np.array([1, 2])) == [(1,), (2,)]


@pytest.mark.parametrize("unit", ["D", "us", "ns"])
@pytest.mark.parametrize("kind", ["M8", "m8"])
def test_a_time_of_numpy_is_no_number_of_seconds_and_never_shown(kind: str, unit: str) -> None:
    past = np.array([1, 10**5], f"{kind}[{unit}]")
    for values in (past, list(past)):
        assert kept(Policy(expire=("until",)), {"until": values}.__getitem__, 2, now_s=1e4) == []
        assert matches(Condition("until", "lt", 1e30), values) == [UNKNOWN, UNKNOWN]
