"""One column of an app at a time: read, checked, and turned into numbers; a refusal names whose value it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Any, Final, TypeGuard

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError
from pocketrank.features.layout import Words
from pocketrank.schema import AT, LARGEST, MAX_TEXT, Categories, Category, Embedding, Feature, Flag, Number

MAX_WORDS: Final = 64
"""Categories of one candidate in one field."""

Array = npt.NDArray[np.float64]
WordsAt = Callable[[int], tuple[str, ...]]
"""The words of the candidate at a position."""

_PLAIN: Final = frozenset({int, float})
_LISTS: Final = frozenset({list, tuple})
"""Types that need no look at each value; others are checked one by one."""


class Rows:
    """Mappings, one a candidate, read as columns."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if isinstance(rows, str | bytes) or not isinstance(rows, Sequence):
            raise InputError(f"candidates: expected a sequence of mappings or columns, got {type(rows).__name__}")
        for row in rows:
            if not isinstance(row, Mapping):
                raise InputError(f"candidates: expected mappings, got {type(row).__name__}: {row!r:.80}")
        self._rows = rows

    def get(self, name: str) -> list[Any] | None:
        """The values of a field, None where a candidate lacks it; None where all do."""
        values = [row.get(name) for row in self._rows]
        return None if self._rows and all(value is None for value in values) else values


class Reader:
    """Columns of ``n`` candidates, or of the one context, each checked as its feature wants."""

    def __init__(self, given: Mapping[str, Any] | Rows, n: int, now_s: float, whose: Callable[[int], str]) -> None:
        self._given, self._n, self._now_s, self._whose = given, n, now_s, whose
        self.defaulted: dict[str, int] = {}
        self.stale: dict[str, int] = {}

    def numbers(self, features: Sequence[Number | Flag], block: Array) -> None:
        """Fill the first rows of ``block`` with the values of ``features``."""
        get, shape = self._given.get, (self._n,)
        for row, feature in enumerate(features):
            values = get(feature.name)
            if type(values) is np.ndarray and values.dtype.kind in "buif" and values.shape == shape:
                block[row] = values if feature.max_age_s is None else self._listed(feature, values)
                sure = values.dtype.kind == "b"
            else:
                block[row] = self._listed(feature, values)
                sure = False
            if isinstance(feature, Flag) and not sure:
                self._check_flag(feature, block[row])
        filled = block[: len(features)].ravel()
        # One product tells of anything that is too large or not a number; the look at each value is for the message.
        if not np.dot(filled, filled) <= LARGEST:
            for feature, values in zip(features, block, strict=False):
                self._check_finite(feature, values)

    def field(self, field: Category | Categories, words: Words) -> tuple[npt.NDArray[Any], WordsAt]:
        """The columns that each candidate's words have, as ``Columns.fields`` holds them, and the words themselves."""
        values = self._values(field)
        if isinstance(field, Category):
            return self._category(field, words, values)
        if isinstance(values, np.ndarray) and values.dtype.kind in "buif" and values.size:
            return self._multi_hot(field, values)
        return self._categories(field, words, values)

    def vectors(self, feature: Embedding) -> Array:
        """The vectors ``[n, w]`` of ``feature``, zero where missing."""
        shape = (self._n, feature.width)
        values = self._values(feature)
        if isinstance(values, np.ndarray) and values.dtype.kind in "buif" and values.shape == shape:
            found = values.astype(np.float64)
        else:
            self._count_missing(feature.name, values)
            found = np.zeros(shape)
            for at, value in enumerate(values):
                if value is not None:
                    found[at] = self._vector(feature, at, value)
        if not np.dot(found.ravel(), found.ravel()) <= LARGEST:
            self._check_finite(feature, np.abs(found).max(axis=1))
        return found

    def _values(self, feature: Feature) -> Any:
        """The app's column of ``feature``, None in place of what is missing or stale."""
        values = self._given.get(feature.name)
        if values is None:
            if self._n:
                self.defaulted[feature.name] = self._n
            return [None] * self._n
        check_column(feature.name, values, self._n)
        if isinstance(values, np.ndarray) and values.dtype.kind not in "buif":
            values = listed(values)
        max_age_s = getattr(feature, "max_age_s", None)
        return values if max_age_s is None else self._fresh(feature.name, list(values), max_age_s)

    def _count_missing(self, name: str, values: Sequence[Any]) -> None:
        """Note how many of ``values``, as ``_values`` gave them, are missing; what is stale was counted as such."""
        missing = sum(value is None for value in values) - self.stale.get(name, 0)
        if missing:
            self.defaulted[name] = missing

    def _fresh(self, name: str, values: list[Any], max_age_s: float) -> list[Any]:
        """``values`` with None where they are older than ``max_age_s``."""
        own, common = (self._times(key) for key in (f"{name}_{AT}", AT))
        stale = 0
        for at, (value, *times) in enumerate(zip(values, own, common, strict=True)):
            made_s = next((time for time in times if time is not None), None)
            if value is not None and made_s is not None and self._now_s - made_s > max_age_s:
                values[at] = None
                stale += 1
        if stale:
            self.stale[name] = stale
        return values

    def _times(self, name: str) -> list[Any]:
        times = self._given.get(name)
        if times is None:
            return [None] * self._n
        check_column(name, times, self._n)
        for at, time in enumerate(times):
            if time is not None and not (is_number(time) and abs(time) <= LARGEST):
                raise InputError(f"{self._whose(at)}: {name}: expected Unix seconds, got {said(time)}")
        return list(times)

    def _listed(self, feature: Number | Flag, given: Any) -> Any:
        """Numbers that did not come as an array of one a candidate, defaults in their places."""
        values = self._values(feature)
        if given is None:
            return feature.default
        if not isinstance(values, list | tuple):
            values = list(values)
        if not _PLAIN.issuperset(map(type, values)):
            self._count_missing(feature.name, values)
            values = [feature.default if value is None else value for value in values]
            for at, value in enumerate(values):
                if not is_number(value):
                    wanted = "true or false" if isinstance(feature, Flag) else "a number"
                    raise InputError(f"{self._whose(at)}: {feature.name}: expected {wanted}, got {said(value)}")
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError:  # an int beyond any float
            return np.array([float(value) if abs(value) <= LARGEST else math.inf for value in values])

    def _check_flag(self, feature: Flag, values: Array) -> None:
        odd = (values != 0) & (values != 1)
        if odd.any():
            at = int(odd.argmax())
            raise InputError(f"{self._whose(at)}: {feature.name}: expected true or false, got {values[at]:g}")

    def _check_finite(self, feature: Feature, values: Array) -> None:
        fits = np.abs(values) <= LARGEST
        if not fits.all():
            at = int(fits.argmin())
            raise InputError(f"{self._whose(at)}: {feature.name}: expected a finite float32, got {values[at]}")

    def _category(self, field: Category, words: Words, values: Sequence[Any]) -> tuple[npt.NDArray[Any], WordsAt]:
        known = words.known.get
        try:
            columns = [known(value, -1) for value in values]
        except TypeError:  # a list is no key
            columns = [-1] * len(values)
        if -1 in columns:
            self._count_missing(field.name, values)
            for at, value in enumerate(values):
                if columns[at] == -1:
                    columns[at] = words.width if value is None else words.column(self._word(field, at, value))
        words_of = tuple(values)
        return np.array(columns, dtype=np.intp), lambda at: () if words_of[at] is None else (words_of[at],)

    def _word(self, field: Category | Categories, at: int, value: Any) -> str:
        if not isinstance(value, str):
            wanted = "a string" if isinstance(field, Category) else "a string or a list of strings"
            raise InputError(f"{self._whose(at)}: {field.name}: expected {wanted}, got {said(value)}")
        if len(value) > MAX_TEXT:
            wanted = f"at most {MAX_TEXT} characters"
            raise InputError(f"{self._whose(at)}: {field.name}: expected {wanted}, got {len(value)}: {value!r:.80}")
        return value

    def _categories(self, field: Categories, words: Words, values: Sequence[Any]) -> tuple[npt.NDArray[Any], WordsAt]:
        rows = values
        if not _LISTS.issuperset(map(type, values)):
            self._count_missing(field.name, values)
            rows = [self._row(field, at, value) for at, value in enumerate(values)]
        counts = list(map(len, rows))
        if max(counts, default=0) > MAX_WORDS:
            at = next(at for at, count in enumerate(counts) if count > MAX_WORDS)
            raise InputError(f"{self._whose(at)}: {field.name}: expected at most {MAX_WORDS} values, got {counts[at]}")
        owners = np.repeat(np.arange(self._n), counts)
        spoken = list(chain.from_iterable(rows))
        known = words.known.get
        try:
            columns = [known(word, -1) for word in spoken]
        except TypeError:
            columns = [-1] * len(spoken)
        if -1 in columns:
            for place, (word, owner) in enumerate(zip(spoken, owners.tolist(), strict=True)):
                if columns[place] == -1:
                    columns[place] = words.column(self._word(field, owner, word))
        hot = np.zeros((words.width + 1, self._n))
        hot[columns, owners] = 1.0

        def words_at(at: int) -> tuple[str, ...]:
            start = sum(counts[:at])
            return tuple(spoken[start : start + counts[at]])

        return hot[:-1], words_at

    def _row(self, field: Categories, at: int, value: Any) -> Sequence[Any]:
        if value is None:
            return ()
        return value if isinstance(value, list | tuple) else (self._word(field, at, value),)

    def _multi_hot(self, field: Categories, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], WordsAt]:
        shape = (self._n, len(field.vocabulary))
        if values.shape != shape or not ((values == 0) | (values == 1)).all():
            raise InputError(f"{field.name}: expected 0 or 1 {list(shape)}, got {values.dtype} {values.shape}")
        hot = np.zeros((field.width, self._n))
        hot[: shape[1]] = values.T
        return hot, lambda at: tuple(field.vocabulary[column] for column in np.flatnonzero(hot[:, at]).tolist())

    def _vector(self, feature: Embedding, at: int, value: Any) -> Any:
        vector = value if isinstance(value, np.ndarray) else None
        if isinstance(value, list | tuple) and len(value) == feature.width and all(map(is_number, value)):
            vector = np.array([math.inf if abs(number) > LARGEST else number for number in value], dtype=np.float64)
        if vector is None or vector.shape != (feature.width,) or vector.dtype.kind not in "buif":
            raise InputError(f"{self._whose(at)}: {feature.name}: expected {feature.width} numbers, got {said(value)}")
        return vector


def check_column(name: str, values: Any, n: int | None = None) -> None:
    """Refuse what has no length or order, or is a string, whose letters would pass for entries."""
    try:
        found = None if isinstance(values, str | bytes | Mapping | AbstractSet) else len(values)
    except TypeError:
        found = None
    if found is None:
        raise InputError(f"{name}: expected a column, one entry a candidate, got {worded(values)}")
    if n is not None and found != n:
        raise InputError(f"{name}: expected {n} entries, one a candidate, got {found}")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a real number; yes and no count as 1 and 0."""
    # numpy counts a duration among its integers.
    return isinstance(value, int | float | np.integer | np.floating | np.bool_) and not isinstance(
        value, np.timedelta64
    )


def listed(values: Any) -> Sequence[Any]:
    """The entries of a column by position; numbers, words and truths of an array as Python's own."""
    # A series of pandas looks entries up by their labels, and an array makes plain numbers of times in nanoseconds.
    if isinstance(values, np.ndarray) and values.dtype.kind not in "mM":
        plain: list[Any] = values.tolist()
        return plain
    return values if isinstance(values, list | tuple) else list(values)


def said(value: Any) -> str:
    """A value as a message shows it."""
    return f"{type(value).__name__}: {worded(value)}"


def worded(value: Any) -> str:
    """``repr``, cut short."""
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001  (an app's object may raise anything, and a number be too long to write out)
        return "what can't be shown"
