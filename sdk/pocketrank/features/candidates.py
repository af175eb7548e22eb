"""What an app hands over is checked once and laid out as columns; each refusal names candidate, feature and value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError
from pocketrank.features.reading import Array, Reader, Rows, WordsAt, check_column, is_number, listed, said
from pocketrank.schema import ID, MAX_TEXT, Categories, Clock, Flag, Number, Schema

MAX_CANDIDATES: Final = 2_000

Candidates = Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""Mappings, one a candidate, or columns of equal length; both with ``id``."""

_PERIODS: Final = {"hour": 24.0, "weekday": 7.0}
_DAY_S: Final = 86_400.0
_FIRST_MONDAY_DAYS: Final = 4
"""1970 began with a Thursday."""


@dataclass(frozen=True, eq=False, repr=False)
class Columns:
    """``n`` candidates that were checked, and the context that they stand in.

    Attributes:
        ids: Of the candidates, ``[n]``.
        block: The public columns but embeddings, before any transform: ``[rows, n]``, rows as in ``Schema.layout``.
        fields: By name; of a category the column of each candidate's value, int ``[n]`` (the field's width where there
            is none), of categories 0 or 1 ``[v, n]``.
        vectors: The candidates' own vectors ``[n, w]`` by embedding feature; zero where missing.
        context_vectors: The context's, ``[w]``.
        defaulted: Feature to how many candidates took its default because it was missing.
        stale: The same, because it was older than its ``max_age_s``.
    """

    ids: tuple[str, ...]
    block: Array
    fields: Mapping[str, npt.NDArray[Any]]
    vectors: Mapping[str, Array]
    context_vectors: Mapping[str, Array]
    defaulted: Mapping[str, int]
    stale: Mapping[str, int]
    _given: Mapping[str, Any] | Rows
    _words: Mapping[str, WordsAt]
    _remembered: Sequence[str]
    _places: Sequence[int]
    """Where each candidate stood in what the app gave."""

    def raw(self, field: str) -> Sequence[Any]:
        """The app's own values ``[n]`` of any field, also one outside the schema; None where missing.

        Of categories that came as 0 and 1, the words.

        Raises:
            InputError: The app's column of this name has another length than its ids.
        """
        if field == ID:
            return self.ids
        values = self._given.get(field)
        if values is None:
            return [None] * len(self.ids)
        if not isinstance(self._given, Rows):
            check_column(field, values, len(self._given[ID]))
        words = self._words.get(field)
        if words is not None and isinstance(values, np.ndarray) and values.dtype.kind in "buif":
            return [words(place) for place in self._places]
        values = listed(values)
        return [values[place] for place in self._places]

    def only(self, kept: Sequence[int]) -> Columns:
        """The candidates at the positions ``kept``, in that order."""
        index = np.asarray(kept, dtype=np.intp)
        return dataclasses.replace(
            self,
            ids=tuple(self.ids[i] for i in kept),
            block=self.block[:, index],
            fields={name: values[..., index] for name, values in self.fields.items()},
            vectors={name: values[index] for name, values in self.vectors.items()},
            _places=[self._places[i] for i in kept],
        )

    def event_fields(self, position: int) -> dict[str, tuple[str, ...]]:
        """The categories of one candidate, as an ``Event`` takes them."""
        place = self._places[position]
        return {name: words(place) for name, words in self._words.items()}

    def embeddings(self, position: int) -> dict[str, tuple[float, ...]]:
        """The vectors of one candidate that device features read, as an ``Event`` takes them; none that is zero."""
        found = {name: self.vectors[name][position] for name in self._remembered}
        return {name: tuple(vector.tolist()) for name, vector in found.items() if vector.any()}


def parse(
    candidates: Candidates,
    schema: Schema,
    context: Mapping[str, Any] | None = None,
    *,
    now_s: float = 0.0,
    utc_offset_s: float = 0.0,
) -> Columns:
    """Check ``candidates`` and lay them out as columns.

    What is missing (absent or None) or stale takes its feature's default.
    The fast path are columns: arrays of numbers, lists of strings.

    Args:
        candidates: At most ``MAX_CANDIDATES`` mappings, or columns. A column of categories may be an array of 0 and 1
            ``[n, v]`` over the vocabulary, one of an embedding an array ``[n, w]``.
        schema: What to read.
        context: Values of the context features.
        now_s: Unix time, for ages and clocks.
        utc_offset_s: What local time is ahead of UTC, for clocks.

    Raises:
        InputError: Ids are missing or repeated, columns are ragged, a value has the wrong type, is too large or not
            finite. The message names the candidate, the feature and the value.
    """
    given: Mapping[str, Any] | Rows = candidates if isinstance(candidates, Mapping) else Rows(candidates)
    ids = _ids(given.get(ID))
    layout, n = schema.layout, len(ids)
    reader = Reader(given, n, now_s, lambda at: f"candidate {ids[at]!r}")
    block = np.empty((layout.public_rows, n))
    reader.numbers(layout.numbers, block)
    fields, words = {}, {}
    for field in layout.fields:
        found, words[field.name] = reader.field(field, layout.words[field.name])
        fields[field.name] = found
        if field.model_input:
            rows = layout.span(field)
            block[rows] = found if isinstance(field, Categories) else found == layout.words[field.name].columns
    vectors = {feature.name: reader.vectors(feature) for feature in layout.embeddings}
    if not isinstance(context, Mapping | None):
        raise InputError(f"context: expected a mapping of names to values, got {type(context).__name__}")
    around, context_vectors = _around(schema, {} if context is None else context, now_s, utc_offset_s, block)
    if n:
        reader.defaulted |= dict.fromkeys(around.defaulted, n)
        reader.stale |= dict.fromkeys(around.stale, n)
    return Columns(
        ids=ids,
        block=block,
        fields=fields,
        vectors=vectors,
        context_vectors=context_vectors,
        defaulted=reader.defaulted,
        stale=reader.stale,
        _given=given,
        _words=words,
        _remembered=[feature.name for feature in layout.embeddings if feature.to == "device"],
        _places=range(n),
    )


def _around(
    schema: Schema, context: Mapping[str, Any], now_s: float, utc_offset_s: float, block: Array
) -> tuple[Reader, dict[str, Array]]:
    """Fill the context's rows of ``block``, the same for each candidate; returns who read them, and its vectors."""
    layout = schema.layout
    reader = Reader(Rows([context]), 1, now_s, lambda _: "context")
    for feature in layout.context:
        rows = layout.span(feature)
        if isinstance(feature, Number | Flag):
            value = np.empty((1, 1))
            reader.numbers((feature,), value)
            block[rows] = value
        elif isinstance(feature, Clock):
            block[rows] = _clock(feature, context.get(feature.name), now_s + utc_offset_s)
        elif feature.model_input:
            found, _ = reader.field(feature, layout.words[feature.name])
            block[rows] = found if isinstance(feature, Categories) else found == layout.words[feature.name].columns
    return reader, {f.name: reader.vectors(f)[0] for f in layout.embeddings if f.to == "context"}


def _ids(values: Any) -> tuple[str, ...]:
    if values is None:
        raise InputError(f"candidates: {ID!r} is missing; every candidate needs one")
    check_column(ID, values)
    if len(values) > MAX_CANDIDATES:
        raise InputError(f"candidates: expected at most {MAX_CANDIDATES}, got {len(values)}; retrieve fewer")
    values = listed(values)
    try:
        text = "".join(values)
        ids = tuple(values)
    except TypeError:
        ids = tuple(_id(at, value) for at, value in enumerate(values))
        text = "".join(ids)
    unique = set(ids)
    if "" in unique or max(map(len, ids), default=0) > MAX_TEXT or not _encodable(text):
        ids = tuple(_id(at, value) for at, value in enumerate(values))
    if len(unique) != len(ids):
        repeated = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"candidates: {ID} {repeated!r} stands {ids.count(repeated)} times; ids must be unique")
    return ids


def _id(at: int, value: Any) -> str:
    if not isinstance(value, str | int | np.integer) or isinstance(value, bool | np.timedelta64) or value == "":
        raise InputError(f"candidate {at}: {ID}: expected str or int, got {said(value)}")
    try:
        text = str(value)
    except ValueError:  # Python writes out no number of thousands of digits, other than so
        text = hex(int(value))
    if len(text) > MAX_TEXT or not _encodable(text):
        raise InputError(f"candidate {at}: {ID}: expected at most {MAX_TEXT} characters of Unicode, got {text!r:.80}")
    return text


def _encodable(text: str) -> bool:
    """Whether UTF-8 can write it, as the store will: half a surrogate pair can't."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clock(feature: Clock, given: Any, local_s: float) -> Array:
    """Sine and cosine ``[2, 1]`` of the hour with its fraction, or of the whole day of the week."""
    period = _PERIODS[feature.part]
    if given is None:
        if not math.isfinite(local_s):
            raise InputError(f"now_s: expected Unix seconds, got {local_s}")
        days = local_s / _DAY_S
        value = (days % 1.0) * period if feature.part == "hour" else float((math.floor(days) - _FIRST_MONDAY_DAYS) % 7)
    elif not is_number(given) or not 0 <= given <= period:
        raise InputError(f"context: {feature.name}: expected a number from 0 to {period:g}, got {said(given)}")
    else:
        value = float(given)
    angle = 2.0 * math.pi * value / period
    return np.array([[math.sin(angle)], [math.cos(angle)]])
