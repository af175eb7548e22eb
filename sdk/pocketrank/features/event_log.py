"""Events of one action as arrays that grow at one end and are forgotten at the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.features.layout import Words
from pocketrank.schema import LARGEST
from pocketrank.store import Event

Ints = npt.NDArray[np.intp]
_LEAST_ROOM: Final = 16


class Growing:
    """Rows ``[m]`` or ``[m, width]``, oldest first; adding one takes amortised constant time."""

    def __init__(self, dtype: npt.DTypeLike, width: int | None = None) -> None:
        self._data: npt.NDArray[Any] = np.empty((0,) if width is None else (0, width), dtype)
        self._start = 0
        self._stop = 0

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def view(self) -> npt.NDArray[Any]:
        """The rows; valid until the next one is added."""
        return self._data[self._start : self._stop]

    def extend(self, rows: Any) -> None:
        """Add ``rows`` behind the others."""
        count, live = len(rows), len(self)
        if self._stop + count > len(self._data):
            # Twice what is live: the move is paid for by as many rows that come before the next one.
            room = max(2 * (live + count), _LEAST_ROOM)
            data = np.empty((room, *self._data.shape[1:]), self._data.dtype)
            data[:live] = self.view
            self._data, self._start, self._stop = data, 0, live
        if count:
            self._data[self._stop : self._stop + count] = rows
            self._stop += count

    def drop(self, count: int) -> None:
        """Forget the oldest ``count`` rows."""
        self._start += count

    def first(self, count: int) -> Growing:
        """The oldest ``count`` rows, by themselves."""
        made = Growing(self._data.dtype)
        # No room behind them: the first row that is added moves them, and writes nothing into these.
        made._data, made._stop = self._data[self._start : self._start + count], count
        return made


class EventLog:
    """Events of one action, oldest first.

    ``values`` [m]; ``items`` int [m], the items' places; ``shown_before`` int
    [m], how many events of showing ever came before; ``vectors`` [m, k] of the
    items, where the schema has use for them.
    """

    def __init__(self, words: Mapping[str, Words], embeddings: Mapping[str, int], vector_width: int) -> None:
        """Keep the ``words`` of some fields, and ``embeddings`` of some widths."""
        self.forgotten = 0
        self._values = Growing(np.float64)
        self._items = Growing(np.intp)
        self._shown_before = Growing(np.int64)
        self._vectors = Growing(np.float64, vector_width)
        self._words = words
        self._columns = {name: Growing(np.intp) for name in words}
        self._counts = {name: Growing(np.intp) for name in words}
        self._widths = embeddings
        self._embeddings = {name: Growing(np.float64, width) for name, width in embeddings.items()}

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """What each event was worth, ``[m]``."""
        return self._values.view

    @property
    def items(self) -> Ints:
        """Each event's item, ``[m]``."""
        return self._items.view

    @items.setter
    def items(self, places: Ints) -> None:
        self._items = Growing(np.intp)
        self._items.extend(places)

    @property
    def shown_before(self) -> npt.NDArray[np.int64]:
        """How many events of showing ever came before each event, ``[m]``."""
        return self._shown_before.view

    @property
    def vectors(self) -> npt.NDArray[np.float64]:
        """Vectors of the items, ``[m, k]``."""
        return self._vectors.view

    def embeddings(self, name: str) -> npt.NDArray[np.float64]:
        """The events' own vectors of an embedding feature, ``[m, w]``; NaN where an event has none that fits."""
        return self._embeddings[name].view

    def words(self, field: str | None) -> tuple[Ints, Ints, Ints]:
        """What the events say of a field: column and event of each word, ``[p]`` both, and words an event, ``[m]``.

        Of no field: each event's item, as its only word.
        """
        if field is None:
            return self.items, np.arange(len(self)), np.ones(len(self), np.intp)
        counts = self._counts[field].view
        return self._columns[field].view, np.repeat(np.arange(len(counts)), counts), counts

    def extend(
        self, events: Sequence[Event], items: Sequence[int], shown_before: Sequence[int], vectors: npt.NDArray[Any]
    ) -> None:
        """Add ``events``, oldest first, and what is known of each."""
        self._values.extend([event.value for event in events])
        self._items.extend(items)
        self._shown_before.extend(shown_before)
        self._vectors.extend(vectors)
        for name, words in self._words.items():
            found = [_columns(words, event.fields.get(name, ())) for event in events]
            self._columns[name].extend(list(chain.from_iterable(found)))
            self._counts[name].extend(list(map(len, found)))
        for name, width in self._widths.items():
            self._embeddings[name].extend(_fitting([event.embeddings.get(name) for event in events], width))

    def drop(self, count: int) -> None:
        """Forget the oldest ``count`` events."""
        self.forgotten += count
        for name in self._words:
            self._columns[name].drop(int(self._counts[name].view[:count].sum()))
        for rows in (*self._each(), *self._counts.values(), *self._embeddings.values()):
            rows.drop(count)

    def first(self, count: int) -> EventLog:
        """The oldest ``count`` events, by themselves."""
        made = EventLog({}, {}, 0)
        made.forgotten, made._words, made._widths = self.forgotten, self._words, self._widths
        made._values, made._items, made._shown_before, made._vectors = (rows.first(count) for rows in self._each())
        words = {name: int(counts.view[:count].sum()) for name, counts in self._counts.items()}
        made._columns = {name: rows.first(words[name]) for name, rows in self._columns.items()}
        made._counts = {name: rows.first(count) for name, rows in self._counts.items()}
        made._embeddings = {name: rows.first(count) for name, rows in self._embeddings.items()}
        return made

    def _each(self) -> tuple[Growing, Growing, Growing, Growing]:
        return self._values, self._items, self._shown_before, self._vectors


def _columns(words: Words, said: Sequence[str]) -> Sequence[int]:
    """The columns of what an event says of a field, each once, also where two words share a bucket."""
    if len(said) == 1:
        column = words.column(said[0])
        return (column,) if column != words.width else ()
    return sorted({words.column(word) for word in said} - {words.width})


def _fitting(vectors: Sequence[Sequence[float] | None], width: int) -> npt.NDArray[np.float64]:
    """Events' vectors ``[m, width]``, NaN where one has none or, of another bundle's days, one that does not fit."""
    missing = (np.nan,) * width
    rows = [missing if vector is None or len(vector) != width else vector for vector in vectors]
    found = np.array(rows, np.float64).reshape(-1, width)
    found[~(np.abs(found) <= LARGEST).all(axis=1)] = np.nan
    return found
