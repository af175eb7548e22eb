"""What a device knows of its person: its history, and from that the state of each device feature.

Both run on the device and in the exporter's replay alike, with the same result
to the last bit (``pocketrank.features.states`` says how). A profile is made once per
change of the history; ranking then costs a few small products.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import VECTORS, load_arrays
from pocketrank.errors import BundleError
from pocketrank.features.event_log import EventLog
from pocketrank.features.layout import FieldGroup
from pocketrank.features.states import (
    FIELD_BITS,
    VECTOR_BITS,
    distinct_vectors,
    fixed,
    mean_vector,
    over_words,
    without_words,
)
from pocketrank.schema import Schema
from pocketrank.store import DEFAULT_LIMITS, Event, Limits

Array = npt.NDArray[np.float32]
State = npt.NDArray[np.float64]
_SPARE_PLACES: Final = 1_000


class ItemVectors:
    """Unit vectors of the catalogue's items, shipped in the bundle; an unknown item is the zero vector.

    Their numbers are rounded to multiples of 2^-23, so that a cosine has no rounding error.
    """

    def __init__(self, items: Sequence[str], vectors: Array) -> None:
        """Take ``vectors`` [N, k] of ``items`` [N]; rows are scaled to unit length, zero rows stay zero.

        Raises:
            BundleError: The shapes don't agree, or a value is not finite.
        """
        if vectors.ndim != 2 or len(items) != len(vectors) or not np.isfinite(vectors).all():
            raise BundleError(f"item vectors: expected finite [{len(items)}, k], got {vectors.shape}")
        exact = vectors.astype(np.float64)
        norms = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
        unit = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
        self._rows = np.zeros((len(items) + 1, vectors.shape[1]), np.float32)
        self._rows[:-1] = np.rint(unit * 2.0**VECTOR_BITS) * 2.0**-VECTOR_BITS
        self._index = {item: row for row, item in enumerate(items)}
        self.width = vectors.shape[1]

    @classmethod
    def of(cls, vectors: bytes) -> ItemVectors:
        """Read a bundle's ``vectors.npz``.

        Raises:
            BundleError: It lacks an array, or the arrays don't fit each other.
        """
        arrays = load_arrays(vectors)
        if missing := {"items", "vectors"} - arrays.keys():
            raise BundleError(f"{VECTORS}: expected the arrays items and vectors, {sorted(missing)} missing")
        return cls(arrays["items"].tolist(), arrays["vectors"].astype(np.float32))

    def rows(self, items: Sequence[str]) -> Array:
        """Vectors ``[n, k]`` of ``items``."""
        unknown = len(self._rows) - 1
        get = self._index.get
        return self._rows.take([get(item, unknown) for item in items], axis=0)


class History:
    """Events of one device as arrays, the newest of each action as far as the store's limits go.

    ``engaged`` and ``shown`` hold them; ``places`` gives each item that came up its place in the states over items.
    """

    def __init__(self, schema: Schema, vectors: ItemVectors | None, limits: Limits) -> None:
        layout = schema.layout
        read = {group.field for group in layout.groups}
        words = {field.name: layout.words[field.name] for field in layout.fields if field.name in read}
        own = {feature.name: feature.width for feature in layout.embeddings if feature.to == "device"}
        self._limits = limits
        self._vectors = vectors if schema.uses_vectors else None
        self.engaged = EventLog(words, own, self._vectors.width if self._vectors is not None else 0)
        self.shown = EventLog(words, {}, 0)
        self.places: dict[str, int] = {}

    @classmethod
    def of(
        cls, events: Iterable[Event], schema: Schema, vectors: ItemVectors | None, limits: Limits = DEFAULT_LIMITS
    ) -> History:
        """The history of ``events``, which are ordered oldest first."""
        made = cls(schema, vectors, limits)
        made.add(events)
        return made

    def add(self, events: Iterable[Event]) -> None:
        """Append ``events``, oldest first, in amortised constant time each; the oldest beyond the limits go."""
        engaged: list[Event] = []
        shown: list[Event] = []
        shown_before: list[int] = []
        before = len(self.shown) + self.shown.forgotten
        for event in events:
            if event.action == "shown":
                shown.append(event)
            else:
                engaged.append(event)
                shown_before.append(before + len(shown))
            self.places.setdefault(event.item, len(self.places))
        self._extend(self.engaged, engaged, shown_before, self._vectors)
        self._extend(self.shown, shown, [0] * len(shown), None)
        self._forget()

    def first(self, events: int, limits: Limits = DEFAULT_LIMITS) -> History:
        """The history as it was after the first ``events`` that were ever added; none of them may be forgotten."""
        # The i-th engagement came after i others and after what was shown before it.
        before = np.arange(len(self.engaged)) + self.engaged.shown_before
        engaged = int(np.searchsorted(before, events))
        made = object.__new__(History)
        made._limits, made._vectors, made.places = limits, self._vectors, self.places
        made.engaged = self.engaged.first(engaged)
        made.shown = self.shown.first(min(events - engaged, len(self.shown)))
        made._forget()
        return made

    def _extend(
        self, log: EventLog, events: Sequence[Event], shown_before: Sequence[int], vectors: ItemVectors | None
    ) -> None:
        rows = np.zeros((len(events), 0)) if vectors is None else vectors.rows([event.item for event in events])
        log.extend(events, [self.places[event.item] for event in events], shown_before, rows)

    def _forget(self) -> None:
        """Drop what is beyond the limits, and at times the places of items that no event names any more."""
        for log, most in ((self.engaged, self._limits.max_events), (self.shown, self._limits.max_shown)):
            log.drop(max(len(log) - most, 0))
        if len(self.places) > 2 * (len(self.engaged) + len(self.shown)) + _SPARE_PLACES:
            live = np.unique(np.concatenate([self.engaged.items, self.shown.items]))
            moved = np.zeros(len(self.places), np.intp)
            moved[live] = np.arange(len(live))
            names = list(self.places)
            # Another dictionary: profiles that were made before go on with theirs.
            self.places = {names[place]: at for at, place in enumerate(live.tolist())}
            self.engaged.items, self.shown.items = moved[self.engaged.items], moved[self.shown.items]


class Profile(NamedTuple):
    """The state of every device feature after a history.

    Attributes:
        words: By field, of the features of each ``Layout.groups``: ``[k, v + 1]``; the last column is for a candidate
            without a known value. Under None, over the items' ``places``.
        places: Item to column of ``words[None]``.
        vectors: What item vectors are compared with, ``[m, w]``: the means of the similarities that take one, then the
            items' own vectors for each that takes the maximum.
        nearest: The rows of ``vectors`` for each of the latter.
        tastes: ``[w]`` by embedding feature that compares with the device's own.
    """

    words: Mapping[str | None, State]
    places: Mapping[str, int]
    vectors: State
    nearest: tuple[slice, ...]
    tastes: Mapping[str, State]


def profile(schema: Schema, history: History) -> Profile:
    """The state of every device feature of ``schema`` after ``history``."""
    layout, engaged = schema.layout, history.engaged
    means = [fixed(mean_vector(f, engaged.values, engaged.vectors), VECTOR_BITS)[None] for f in layout.similar]
    items = [distinct_vectors(feature, engaged) for feature in layout.nearest]
    ends = list(accumulate(map(len, items), initial=len(means)))
    return Profile(
        words={group.field: _over_words(group, history, schema) for group in layout.groups},
        places=history.places,
        vectors=np.concatenate([engaged.vectors[:0], *means, *items]),
        nearest=tuple(map(slice, ends, ends[1:])),
        tastes={
            feature.name: mean_vector(feature, engaged.values, engaged.embeddings(feature.name))
            for feature in layout.embeddings
            if feature.to == "device"
        },
    )


def _over_words(group: FieldGroup, history: History, schema: Schema) -> State:
    width = len(history.places) if group.field is None else schema.layout.words[group.field].width
    states = np.zeros((len(group.features), width + 1))
    for row, feature in enumerate(group.features):
        state = over_words(feature, history.engaged, history.shown, width)
        states[row, :-1] = state if group.field is None else fixed(state, FIELD_BITS)
        states[row, -1] = without_words(feature)
    return states
