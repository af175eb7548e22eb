"""An impression log: what was shown to whom, in which order, and what came of it; checked once, frozen from then on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pocketrank.checks import is_finite, is_whole
from pocketrank.errors import InputError
from pocketrank.features.candidates import MAX_CANDIDATES
from pocketrank.features.reading import said
from pocketrank.schema import AT, ID, MAX_TEXT, Clock, Schema
from pocketrank.store.records import MAX_VALUE
from pocketrank_export.data.tables import CONTEXT, MAX_ROWS, VALUES_AT, Row, candidate_columns, context_columns

REQUIRED: Final = ("impression", "at_s", "item", "position", "label")
"""Columns that each row fills."""
_MAX_POSITION: Final = 1_000_000
_DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Logged:
    """One slate as it was shown; ``n`` candidates, the first at the top.

    Attributes:
        id: The impression's.
        group: The user, or of a log of queries without users the query.
        at_s: Unix time.
        candidates: Columns by name, ``[n]`` each, as ``pocketrank.features.candidates.parse`` takes them.
        labels: Gains, >= 0; 0 where nothing came of it.
        labels_at_s: Unix time of what came of each.
        propensities: The chance that each place was looked at, above 0 to 1; None where the log has none.
        context: Of the session.
        utc_offset_s: What the person's local time was ahead of UTC.
        where: File and line of its first row.
    """

    id: str
    group: str
    at_s: float
    candidates: Mapping[str, Sequence[Any]]
    labels: tuple[float, ...]
    labels_at_s: tuple[float, ...]
    propensities: tuple[float, ...] | None
    context: Mapping[str, Any]
    utc_offset_s: float
    where: str


@dataclass(frozen=True)
class ImpressionLog:
    """Impressions by time, ties by id.

    Attributes:
        impressions: ``s`` of them.
        columns: Those that a row filled.
        of_users: Whether groups are people, who have a history; queries have none.
        about: What it is, in words for a person.
    """

    impressions: tuple[Logged, ...]
    columns: frozenset[str]
    of_users: bool
    about: str = ""

    @classmethod
    def of(cls, rows: Iterable[Row], schema: Schema, about: str = "") -> ImpressionLog:
        """Check ``rows`` and put together those of one impression; they need not stand together.

        Raises:
            InputError: A column is missing, a value out of range, or rows of one impression contradict each other; the
                message names file and line.
        """
        by_id: dict[str, list[Row]] = {}
        columns: set[str] = set()
        for count, (where, row) in enumerate(rows):
            if count >= MAX_ROWS:
                raise InputError(f"{where}: expected at most {MAX_ROWS} rows in all; take a part of the users")
            columns |= row.keys()
            by_id.setdefault(_text(where, row, "impression"), []).append((where, row))
        if not by_id:
            raise InputError(f"{about or 'impression log'}: expected rows, one a candidate shown, got none")
        check_columns(columns, schema)
        group = "user" if "user" in columns else "query"
        fields = sorted(columns & {name for own in candidate_columns(schema) for name in (own, f"{own}_{AT}")})
        likely = "propensity" in columns
        impressions = [_impression(name, found, group, fields, likely=likely) for name, found in by_id.items()]
        impressions.sort(key=lambda one: (one.at_s, one.id))
        return cls(tuple(impressions), frozenset(columns), group == "user", about)


def check_columns(columns: Iterable[str], schema: Schema) -> None:
    """Refuse ``columns`` that lack one that the format or ``schema`` asks for.

    A clock's context may be missing: the time of the impression stands in.

    Raises:
        InputError: The message names those that are missing.
    """
    context = {name for name, feature in context_columns(schema).items() if not isinstance(feature, Clock)}
    found = set(columns)
    missing = sorted({*REQUIRED, *candidate_columns(schema), *context} - found)
    if not found & {"user", "query"}:
        missing.append("user (or query)")
    if missing:
        raise InputError(
            f"impression log: no row fills {', '.join(missing)}; add them, or take features out of the schema"
        )


def _impression(id_: str, found: list[Row], group: str, fields: Sequence[str], *, likely: bool) -> Logged:
    """One impression of its rows."""
    where, first = found[0]
    if len(found) > MAX_CANDIDATES:
        raise InputError(f"{found[MAX_CANDIDATES][0]}: impression {id_!r}: expected at most {MAX_CANDIDATES} rows")
    positions: dict[int, str] = {}
    items: dict[str, str] = {}
    for place, row in found:
        _check_same(id_, where, first, place, row)
        _check_once(id_, place, "position", _position(place, row), positions)
        _check_once(id_, place, "item", _text(place, row, "item"), items)
    found.sort(key=lambda one: one[1]["position"])
    at_s = _number(where, first, "at_s")
    candidates: dict[str, Sequence[Any]] = {ID: [_text(place, row, "item") for place, row in found]}
    candidates |= {name: [row.get(name) for _, row in found] for name in fields}
    if any(VALUES_AT in row for _, row in found):
        candidates[AT] = [row.get(VALUES_AT) for _, row in found]
    offset_s = _number(where, first, "utc_offset_s", -_DAY_S, _DAY_S) if "utc_offset_s" in first else 0.0
    return Logged(
        id=id_,
        group=_text(where, first, group),
        at_s=at_s,
        candidates=candidates,
        labels=tuple(_number(place, row, "label", 0.0, MAX_VALUE) for place, row in found),
        labels_at_s=tuple(_label_at_s(place, row, at_s) for place, row in found),
        propensities=tuple(_propensity(place, row) for place, row in found) if likely else None,
        context={name.removeprefix(CONTEXT): value for name, value in first.items() if name.startswith(CONTEXT)},
        utc_offset_s=offset_s,
        where=where,
    )


def _check_same(id_: str, where: str, first: Mapping[str, Any], place: str, row: Mapping[str, Any]) -> None:
    """Refuse a row that says something else of its session than the first row of it."""
    session = {name for name in first.keys() | row.keys() if name.startswith(CONTEXT)}
    for name in ("at_s", "user", "query", "utc_offset_s", *sorted(session)):
        one, other = first.get(name), row.get(name)
        if isinstance(other, float) and math.isnan(other):
            raise InputError(f"{place}: impression {id_!r}: {name}: expected a number, got {other}; leave it empty")
        if one != other:
            wanted = f"{one!r:.80} as in {where}"
            raise InputError(f"{place}: impression {id_!r}: {name}: expected {wanted}, got {other!r:.80}")


def _check_once(id_: str, place: str, name: str, value: Any, seen: dict[Any, str]) -> None:
    if value in seen:
        raise InputError(f"{place}: impression {id_!r}: {name} {value!r} stands in {seen[value]} already; keep one")
    seen[value] = place


def _text(where: str, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where}: {name}: expected a name or a whole number, got {said(value)}")
    # Python writes out no number of thousands of digits.
    text = str(value) if isinstance(value, str) or abs(value) < 1 << 64 else ""
    # JSON can escape half a character, which no encoding has.
    if not 0 < len(text) <= MAX_TEXT or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise InputError(f"{where}: {name}: expected 1 to {MAX_TEXT} characters of Unicode, got {said(value)}")
    return text


def _number(where: str, row: Mapping[str, Any], name: str, least: float = -1e12, most: float = 1e12) -> float:
    value = row.get(name)
    if not is_finite(value) or not least <= value <= most:
        raise InputError(f"{where}: {name}: expected a number from {least:g} to {most:g}, got {said(value)}")
    return float(value)


def _position(where: str, row: Mapping[str, Any]) -> int:
    value = row.get("position")
    if not is_whole(value, 0, _MAX_POSITION):
        wanted = f"a whole number from 0, at the top, to {_MAX_POSITION}"
        raise InputError(f"{where}: position: expected {wanted}, got {said(value)}")
    return value


def _propensity(where: str, row: Mapping[str, Any]) -> float:
    value = row.get("propensity")
    if not is_finite(value, above=0.0) or value > 1.0:
        wanted = "a chance above 0 to 1 in each row, or in none"
        raise InputError(f"{where}: propensity: expected {wanted}, got {said(value)}")
    return float(value)


def _label_at_s(where: str, row: Mapping[str, Any], at_s: float) -> float:
    """When it came of it; with the impression, where the log doesn't say."""
    found = _number(where, row, "label_at_s") if "label_at_s" in row else at_s
    if found < at_s:
        raise InputError(f"{where}: label_at_s: expected a time from {at_s!r} on, when it was shown, got {found!r}")
    return found
