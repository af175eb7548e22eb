"""What a device knows of its person: events as arrays, and from them the state of each device feature.

Everything here is a pure function of the events, and runs on the device and in
the exporter's replay alike. A profile is made once per change of the history;
ranking then costs one small product a feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import VECTORS, load_arrays
from pocketrank.errors import BundleError
from pocketrank.schema import Affinity, Categories, DeviceFeature, Level, Recency, Schema, Similarity
from pocketrank.store import Event

Array = npt.NDArray[np.float32]
Profile = Mapping[str, Array]
"""State by feature name: ``[v]`` over a vocabulary, ``[k]`` or ``[m, k]`` in the space of item vectors."""


class ItemVectors:
    """Unit vectors of the catalogue's items, shipped in the bundle; an unknown item is the zero vector."""

    def __init__(self, items: Sequence[str], vectors: Array) -> None:
        """Take ``vectors`` [N, k] of ``items`` [N]; rows are scaled to unit length, zero rows stay zero.

        Raises:
            BundleError: The shapes don't agree, or a value is not finite.
        """
        if vectors.ndim != 2 or len(items) != len(vectors) or not np.isfinite(vectors).all():
            raise BundleError(f"item vectors: expected finite [{len(items)}, k], got {vectors.shape}")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.divide(vectors, norms, out=np.zeros_like(vectors, dtype=np.float32), where=norms > 0)
        self._rows = np.vstack([unit, np.zeros((1, vectors.shape[1]), np.float32)])
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
        index = self._index
        return self._rows[[index.get(item, unknown) for item in items]]


@dataclass(frozen=True)
class History:
    """Events of one device, oldest first.

    ``values`` [m]; ``vectors`` [m, k]; ``fields``: bool-like ``[m, v]`` by the
    name of each categories feature.
    """

    values: Array
    vectors: Array
    fields: Mapping[str, Array]

    @classmethod
    def of(cls, events: Sequence[Event], schema: Schema, vectors: ItemVectors | None) -> History:
        """The arrays of ``events``, which are ordered oldest first."""
        return cls(
            values=np.array([event.value for event in events], dtype=np.float32),
            vectors=vectors.rows([event.item for event in events])
            if vectors is not None
            else np.zeros((len(events), 0), np.float32),
            fields={
                name: multi_hot([event.fields.get(name, ()) for event in events], field)
                for name, field in schema.categories.items()
            },
        )

    def first(self, events: int) -> History:
        """The history as it was after its first ``events``."""
        return History(
            self.values[:events], self.vectors[:events], {name: hot[:events] for name, hot in self.fields.items()}
        )

    def newest(self, events: int) -> History:
        """The history without all but its newest ``events``."""
        start = max(len(self.values) - events, 0)
        return History(
            self.values[start:], self.vectors[start:], {name: hot[start:] for name, hot in self.fields.items()}
        )

    def followed_by(self, later: History) -> History:
        """This history with ``later`` after it."""
        return History(
            np.concatenate([self.values, later.values]),
            np.concatenate([self.vectors, later.vectors]),
            {name: np.concatenate([self.fields[name], later.fields[name]]) for name in self.fields},
        )


def multi_hot(values: Sequence[Sequence[str]], field: Categories) -> Array:
    """``[n, v]``: 1 where a row has the value; values outside the vocabulary set nothing."""
    index = {value: column for column, value in enumerate(field.vocabulary)}
    hot = np.zeros((len(values), len(index)), np.float32)
    pairs = [(row, index[value]) for row, names in enumerate(values) for value in names if value in index]
    if pairs:
        rows, columns = zip(*pairs, strict=True)
        hot[rows, columns] = 1.0
    return hot


def profile(schema: Schema, history: History) -> Profile:
    """The state of every device feature of ``schema`` after ``history``."""
    return {feature.name: _state(feature, history) for feature in schema.features if isinstance(feature, DeviceFeature)}


def column(feature: DeviceFeature, state: Array, fields: Mapping[str, Array], vectors: Array) -> Array:
    """The feature's column ``[n]`` for candidates with ``fields`` (``[n, v]`` each) and ``vectors`` [n, k]."""
    if isinstance(feature, Similarity):
        likeness: Array = vectors @ state.T
        if feature.reduce == "mean":
            return likeness
        nearest: Array = likeness.max(axis=1, initial=-1.0)
        return nearest if len(state) else np.zeros(len(vectors), np.float32)
    hot = fields[feature.field]
    if isinstance(feature, Recency):
        newest: Array = (hot * state).max(axis=1, initial=0.0)
        return newest
    share: Array = (hot @ state) / np.maximum(hot.sum(axis=1), 1.0)
    return share


def _state(feature: DeviceFeature, history: History) -> Array:
    weights = _weights(feature, history.values)
    total = max(float(weights.sum()), 1e-12)
    state: Array
    match feature:
        case Similarity(reduce="mean"):
            state = weights @ history.vectors / np.float32(total)
        case Similarity():
            state = history.vectors[weights > 0]
        case Affinity():
            hot = history.fields[feature.field]
            state = (weights @ (hot / np.maximum(hot.sum(axis=1, keepdims=True), 1.0))) / np.float32(total)
        case Level():
            hot = history.fields[feature.field]
            above = history.values - np.float32(weights @ history.values / total)
            state = ((weights * above) @ hot) / (weights @ hot + np.float32(feature.prior_events))
        case Recency():
            hot = history.fields[feature.field]
            ages = np.arange(len(hot), 0, -1, dtype=np.float32)[:, None]
            state = (hot * (weights > 0)[:, None] / ages).max(axis=0, initial=0.0)
    return state


def _weights(feature: DeviceFeature, values: Array) -> Array:
    """Weight ``[m]`` of each event; ages count the events that ``min_value`` keeps."""
    kept = np.ones(len(values), np.bool_) if feature.min_value is None else values >= feature.min_value
    ages = (np.cumsum(kept[::-1])[::-1] - 1).astype(np.float32)
    if feature.last is not None:
        kept = kept & (ages < feature.last)
    if feature.half_life_events is None:
        return kept.astype(np.float32)
    return np.where(kept, np.exp2(-ages / np.float32(feature.half_life_events)), 0.0).astype(np.float32)
