"""Candidates and a device's profile become the model's input; the one place where features are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np

from pocketrank.errors import InputError
from pocketrank.profile import Array, ItemVectors, Profile, column, multi_hot
from pocketrank.schema import ID, Categories, Number, Schema

MAX_CANDIDATES: Final = 2_000

Candidates = Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""Mappings, one a candidate, or columns of equal length; both with ``id``."""

_PLAIN_IDS: Final = frozenset({str, int})
_PLAIN_ROWS: Final = frozenset({list, tuple})
_PLAIN_WORDS: Final = frozenset({str})
"""Types that need no look at each value; others are checked one by one."""

_TRANSFORMS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "identity": lambda x: x,
    "log1p": lambda x: np.log1p(np.maximum(x, 0)),
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0)),
}


@dataclass(frozen=True)
class Columns:
    """Candidates that were checked: ``ids`` [n], ``numbers`` [n] by feature, ``fields`` multi-hot [n, v] by feature."""

    ids: tuple[str, ...]
    numbers: Mapping[str, Array]
    fields: Mapping[str, Array]

    def values(self, position: int, schema: Schema) -> dict[str, tuple[str, ...]]:
        """The categories of one candidate, as an ``Event`` takes them."""
        return {
            name: tuple(field.vocabulary[i] for i in np.flatnonzero(self.fields[name][position]))
            for name, field in schema.categories.items()
        }


def parse(candidates: Candidates, schema: Schema, context: Mapping[str, Any] | None = None) -> Columns:
    """Check ``candidates`` and lay them out as columns.

    A missing feature takes its default. A categories column may come as a
    multi-hot array ``[n, v]`` already, which is the fast path.

    Raises:
        InputError: Ids are missing or repeated, columns are ragged, a value has the wrong type or is not finite.
            The message names the candidate, the feature and the value.
    """
    given: Mapping[str, Any] | _Rows = candidates if isinstance(candidates, Mapping) else _Rows(candidates)
    ids = _ids(given.get(ID))
    context = context or {}
    numbers: dict[str, Array] = {}
    fields: dict[str, Array] = {}
    # What is too large for float32 becomes infinite, and is refused for that.
    with np.errstate(over="ignore"):
        for feature in schema.features:
            if isinstance(feature, Number):
                if feature.source == "context":
                    (value,) = _numbers(feature, [context.get(feature.name)], (ID,))
                    numbers[feature.name] = np.full(len(ids), value, np.float32)
                else:
                    numbers[feature.name] = _numbers(feature, given.get(feature.name), ids)
            elif isinstance(feature, Categories):
                fields[feature.name] = _field(feature, given.get(feature.name), ids)
    return Columns(ids, numbers, fields)


def encode(columns: Columns, schema: Schema, profile: Profile, vectors: ItemVectors | None) -> Array:
    """The model's input, float32 ``[n, d]``, in the order of ``schema.columns``."""
    n = len(columns.ids)
    encoded = np.empty((n, len(schema.columns)), np.float32)
    candidate_vectors = vectors.rows(columns.ids) if vectors is not None else np.zeros((n, 0), np.float32)
    at = 0
    for feature in schema.features:
        width = len(feature.columns)
        if isinstance(feature, Number):
            encoded[:, at] = _TRANSFORMS[feature.transform](columns.numbers[feature.name])
        elif isinstance(feature, Categories):
            if feature.model_input:
                encoded[:, at : at + width] = columns.fields[feature.name]
        else:
            encoded[:, at] = column(feature, profile[feature.name], columns.fields, candidate_vectors)
        at += width
    return encoded


class _Rows:
    """Mappings, one a candidate, read as columns."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if isinstance(rows, str | bytes) or not isinstance(rows, Sequence):
            raise InputError(f"candidates: expected a sequence of mappings or columns, got {type(rows).__name__}")
        for row in rows:
            if not isinstance(row, Mapping):
                raise InputError(f"candidates: expected mappings, got {type(row).__name__}: {row!r:.80}")
        self._rows = rows

    def get(self, name: str) -> list[Any] | None:
        values = [row.get(name) for row in self._rows]
        return None if self._rows and all(value is None for value in values) else values


def _ids(values: Any) -> tuple[str, ...]:
    if values is None:
        raise InputError(f"candidates: {ID!r} is missing; every candidate needs one")
    _check_column(ID, values)
    if len(values) > MAX_CANDIDATES:
        raise InputError(f"candidates: expected at most {MAX_CANDIDATES}, got {len(values)}; retrieve fewer")
    ids = tuple(map(str, values))
    if not _PLAIN_IDS.issuperset(map(type, values)) or "" in ids:
        _check_ids(values)
    if len(set(ids)) != len(ids):
        repeated = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"candidates: {ID} {repeated!r} stands {ids.count(repeated)} times; ids must be unique")
    return ids


def _check_ids(values: Sequence[Any]) -> None:
    for position, value in enumerate(values):
        if not isinstance(value, str | int | np.integer) or isinstance(value, bool) or value == "":
            kind = type(value).__name__
            raise InputError(f"candidate {position}: {ID}: expected str or int, got {kind}: {value!r:.80}")


def _check_column(name: str, values: Any, n: int | None = None) -> None:
    """Refuse what has no length or is a string, whose letters would pass for entries."""
    try:
        found = None if isinstance(values, str | bytes | Mapping) else len(values)
    except TypeError:
        found = None
    if found is None:
        raise InputError(f"{name}: expected a column, one entry a candidate, got {values!r:.80}")
    if n is not None and found != n:
        raise InputError(f"{name}: expected {n} entries, one a candidate, got {found}")


def _numbers(feature: Number, values: Any, ids: Sequence[str]) -> Array:
    if values is None:
        return np.full(len(ids), feature.default, np.float32)
    _check_column(feature.name, values, len(ids))
    if isinstance(values, list | tuple):
        values = [feature.default if value is None else value for value in values]
    try:
        given = np.asarray(values)
    except ValueError:  # ragged
        given = np.empty(0, object)
    if given.shape != (len(ids),) or given.dtype.kind not in "buif":
        raise InputError(_odd_one(feature, values, ids))
    array = given.astype(np.float32)
    if not np.isfinite(array).all():
        at = int(np.argmin(np.isfinite(array)))
        raise InputError(f"{_whose(feature, ids[at])}: {feature.name}: expected a finite float32, got {given[at]}")
    return array


def _odd_one(feature: Number, values: Any, ids: Sequence[str]) -> str:
    """What to say of ``values``, which are not one number a candidate."""
    for name, value in zip(ids, values, strict=True):
        if not isinstance(value, int | float | np.number | np.bool_):
            kind = type(value).__name__
            return f"{_whose(feature, name)}: {feature.name}: expected a number, got {kind}: {value!r:.80}"
    return f"{feature.name}: expected numbers that fit a float32, got {np.asarray(values).dtype}"


def _whose(feature: Number, candidate: str) -> str:
    return "context" if feature.source == "context" else f"candidate {candidate!r}"


def _field(feature: Categories, values: Any, ids: Sequence[str]) -> Array:
    n, width = len(ids), len(feature.vocabulary)
    if values is None:
        return np.zeros((n, width), np.float32)
    if isinstance(values, np.ndarray) and values.dtype.kind in "buif" and values.size:
        if values.shape != (n, width) or not np.isin(values, (0, 1)).all():
            raise InputError(f"{feature.name}: expected 0 or 1 [{n}, {width}], got {values.dtype} {values.shape}")
        return values.astype(np.float32)
    _check_column(feature.name, values, n)
    rows = [(value,) if isinstance(value, str) else () if value is None else value for value in values]
    plain = _PLAIN_ROWS.issuperset(map(type, rows)) and _PLAIN_WORDS.issuperset(map(type, chain.from_iterable(rows)))
    if not plain:
        _check_rows(feature, rows, ids)
    return multi_hot(rows, feature)


def _check_rows(feature: Categories, rows: Sequence[Any], ids: Sequence[str]) -> None:
    for name, words in zip(ids, rows, strict=True):
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            wanted = "expected a string or a list of strings"
            raise InputError(f"candidate {name!r}: {feature.name}: {wanted}, got {words!r:.80}")
