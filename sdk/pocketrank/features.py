"""Candidates and a device's profile become the model's input; the one place where features are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError
from pocketrank.profile import Array, ItemVectors, Profile, column, multi_hot
from pocketrank.schema import Categories, Number, Schema

ID: Final = "id"
MAX_CANDIDATES: Final = 2_000

Candidates = Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""Mappings, one a candidate, or columns of equal length; both with ``id``."""

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
    """
    by_column = isinstance(candidates, Mapping)
    given = candidates if by_column else _Rows(candidates)
    ids = _ids(given.get(ID))
    context = context or {}
    numbers: dict[str, Array] = {}
    fields: dict[str, Array] = {}
    for feature in schema.features:
        if isinstance(feature, Number):
            value = context.get(feature.name) if feature.source == "context" else given.get(feature.name)
            numbers[feature.name] = _numbers(feature, value, len(ids))
        elif isinstance(feature, Categories):
            fields[feature.name] = _field(feature, given.get(feature.name), len(ids))
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


def _ids(values: Sequence[Any] | None) -> tuple[str, ...]:
    if values is None:
        raise InputError(f"candidates: {ID!r} is missing; every candidate needs one")
    if len(values) > MAX_CANDIDATES:
        raise InputError(f"candidates: expected at most {MAX_CANDIDATES}, got {len(values)}; retrieve fewer")
    for value in values:
        if not isinstance(value, str | int | np.integer) or isinstance(value, bool) or value == "":
            raise InputError(f"candidates: {ID}: expected str or int, got {type(value).__name__}: {value!r:.80}")
    ids = tuple(map(str, values))
    if len(set(ids)) != len(ids):
        repeated = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"candidates: {ID} {repeated!r} stands {ids.count(repeated)} times; ids must be unique")
    return ids


def _numbers(feature: Number, values: Any, n: int) -> Array:
    if values is None:
        return np.full(n, feature.default, np.float32)
    if feature.source == "context":
        values = [values] * n
    if isinstance(values, list | tuple):
        values = [feature.default if value is None else value for value in values]
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{feature.name}: expected numbers, got {values!r:.80}") from error
    if array.shape != (n,):
        raise InputError(f"{feature.name}: expected {n} numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{feature.name}: expected finite numbers, got {array[~np.isfinite(array)][0]}")
    return array


def _field(feature: Categories, values: Any, n: int) -> Array:
    if values is None:
        return np.zeros((n, len(feature.vocabulary)), np.float32)
    if isinstance(values, np.ndarray) and values.dtype.kind in "bif":
        if values.shape != (n, len(feature.vocabulary)) or not np.isin(values, (0, 1)).all():
            raise InputError(f"{feature.name}: expected 0 or 1 [{n}, {len(feature.vocabulary)}], got {values.shape}")
        return values.astype(np.float32, copy=False)
    if len(values) != n:
        raise InputError(f"{feature.name}: expected {n} entries, got {len(values)}")
    rows: list[Sequence[str]] = []
    for value in values:
        names = (value,) if isinstance(value, str) else () if value is None else value
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{feature.name}: expected a string or a list of strings, got {value!r:.80}")
        rows.append(names)
    return multi_hot(rows, feature)
