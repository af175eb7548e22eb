"""Filters: who may be shown at all, decided the same way on every path.

A condition holds, does not hold, or can't be told: the value is of a type
that it can't be compared with, is NaN, or raises when it is looked at. What
can't be told is never shown: ``deny`` keeps whom it surely does not mean,
``require`` whom it surely means.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.policy.rules import EXISTS, ORDER, Condition, Key, Policy

Values = Sequence[Any] | npt.NDArray[Any]
Fields = Callable[[str], Values]
"""A field's values by its name, one a candidate, None where it has none."""

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_LISTS: Final = (list, tuple, set, frozenset, np.ndarray)
_NEGATIVE: Final = frozenset({"ne", "not_in"})
_NONE: Final = type(None)
_PLAIN: Final[Mapping[type, type]] = {str: str, int: int, float: int}
"""Type of a condition's value to the type that can be looked up without a second look; a float might be NaN."""


def kept(policy: Policy, fields: Fields, n: int, now_s: float) -> list[int]:
    """Positions of the candidates that ``policy`` lets be shown, in order.

    Args:
        policy: Its ``deny``, ``require`` and ``expire`` rules are applied.
        fields: Values of a field, ``[n]``.
        n: How many candidates there are.
        now_s: Unix time.

    Guarantees:
        Fails closed, and never raises for what a candidate holds. A candidate without the field passes ``deny`` (it
        is not what was denied) and ``expire`` (it never expires), and fails ``require`` unless that wants it missing.
    """
    passed: Sequence[int] = range(n)
    for condition in policy.deny:
        holds = matches(condition, fields(condition.field))
        passed = [i for i in passed if holds[i] is False]
    for condition in policy.require:
        holds = matches(condition, fields(condition.field))
        passed = [i for i in passed if holds[i] is True]
    for name in policy.expire:
        values = _listed(fields(name))
        passed = [i for i in passed if values[i] is None or _is_later(values[i], now_s)]
    return list(passed)


def matches(condition: Condition, values: Values) -> list[bool | None]:
    """Whether ``condition`` holds for each of ``values``; None where it can't be told.

    ``eq``, ``in`` and ``contains`` hold for a list where any entry matches,
    ``ne`` and ``not_in`` where none does; ``contains`` finds a part of a
    string. Nothing but ``exists`` holds for a missing value.
    """
    values = _listed(values)
    op = condition.op
    if op in {"eq", "in"}:
        plain = {_PLAIN.get(type(wanted)) for wanted in condition.keys} | {_NONE}
        if plain.issuperset(map(type, values)):
            return list(map(condition.keys.__contains__, values))
    return [_holds(condition, value) for value in values]


def entries(values: Values) -> list[tuple[Key, ...]]:
    """What each of ``values`` counts as: itself, or each entry of a list; what can't be compared counts as nothing."""
    values = _listed(values)
    if {str, int}.issuperset(map(type, values)):
        return [(value,) for value in values]
    return [_entries(value) for value in values]


def _listed(values: Values) -> Sequence[Any]:
    if not isinstance(values, np.ndarray):
        return values
    # ``tolist`` would make plain numbers of times in nanoseconds.
    return list(values if values.dtype.kind in "mM" else values.tolist())


def _is_later(value: Any, now_s: float) -> bool:
    """Whether ``value`` is surely a time at or after ``now_s``."""
    try:
        moment = _key(value)
        return isinstance(moment, int | float) and moment >= now_s
    except Exception:  # noqa: BLE001  (an app's object may raise anything; what can't be told is not shown)
        return False


def _holds(condition: Condition, value: Any) -> bool | None:
    try:
        return _told(condition, value)
    except Exception:  # noqa: BLE001  (an app's object may raise anything; what can't be told is not shown)
        return None


def _told(condition: Condition, value: Any) -> bool | None:
    op, kind = condition.op, type(value)
    if op == EXISTS:
        # What differs from itself, as NaN does, stands for a gap.
        odd = not issubclass(kind, _LISTS) and value != value  # noqa: PLR0124
        return None if odd else (value is not None) is condition.value
    if value is None:
        return False
    if op in ORDER:
        number = _key(value)
        return _COMPARE[op](number, condition.value) if isinstance(number, int | float) else None
    if op == "contains" and issubclass(kind, str):
        return condition.value in str.__str__(value) if isinstance(condition.value, str) else None
    found = _any(condition, list(value) if issubclass(kind, _LISTS) else [value])
    return found if found is None or op not in _NEGATIVE else not found


def _any(condition: Condition, values: Sequence[Any]) -> bool | None:
    """Whether any of ``values`` is wanted; None where none is, and one can't be compared."""
    found = list(map(_key, values))
    if not condition.keys.isdisjoint(found):
        return True
    comparable = {_sort(wanted) for wanted in condition.keys}
    return False if all(_sort(one) in comparable for one in found) else None


def _sort(value: Key | None) -> type:
    """What a value can be compared with: strings, numbers or truths; nothing for None."""
    return float if isinstance(value, int) else type(value)


def _entries(value: Any) -> tuple[Key, ...]:
    try:
        found = map(_key, list(value) if issubclass(type(value), _LISTS) else [value])
        return tuple(dict.fromkeys(one for one in found if one is not None))
    except Exception:  # noqa: BLE001  (an app's object may raise anything; it then counts as nothing)
        return ()


def _key(value: Any) -> Key | None:
    """What a value is compared by; None where it can't be. Calls no method that an app's class could have changed."""
    kind = type(value)
    if kind is bool or kind is np.bool_:
        return (bool(value),)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return int.__int__(value)
    if issubclass(kind, np.integer) and not issubclass(kind, np.timedelta64):
        return int(value)
    if issubclass(kind, float | np.floating):
        number = float(value) if issubclass(kind, np.floating) else float.__float__(value)
        return None if number != number else number  # noqa: PLR0124  (NaN)
    return None
