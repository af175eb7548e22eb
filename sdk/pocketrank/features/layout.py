"""A schema as numpy computes it: features of one kind lie side by side in a block, so that one call serves them all.

A block is float64 ``[rows, n]``, a row for each of the model's columns. Public rows come first, in the order in which
``pocketrank.features.candidates`` fills them; ``order`` leads from rows to the schema's columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pocketrank.schema import (
    Affinity,
    Categories,
    Category,
    Clock,
    Count,
    DeviceFeature,
    Embedding,
    Fatigue,
    Feature,
    Flag,
    Interaction,
    Level,
    Number,
    Rate,
    Recency,
    Schema,
    Similarity,
)


class Words:
    """The columns of a field's words: the vocabulary's, then the buckets."""

    def __init__(self, field: Category | Categories) -> None:
        self.known: Mapping[str, int] = {word: column for column, word in enumerate(field.vocabulary)}
        self.width = field.width
        self.columns = np.arange(field.width)[:, None]
        self._buckets = field.hash_buckets
        self._unknown = len(field.vocabulary) if field.unknown_bucket else field.width

    def column(self, word: str) -> int:
        """The column of ``word``; ``width`` where it has none.

        The hash is CRC-32 of UTF-8, the same in every process and on every platform.
        """
        column = self.known.get(word)
        if column is not None:
            return column
        if self._buckets:
            return len(self.known) + zlib.crc32(word.encode("utf-8", "surrogatepass")) % self._buckets
        return self._unknown


class FieldGroup(NamedTuple):
    """Device features that look at one field, or (``field`` is None) at the item itself.

    Rows from ``row`` on: those of ``averaged``, means over a candidate's values, then those of ``newest``, maxima.
    """

    field: str | None
    averaged: tuple[Affinity | Level | Count | Rate | Fatigue, ...]
    newest: tuple[Recency, ...]
    row: int

    @property
    def features(self) -> tuple[DeviceFeature, ...]:
        """All of them, in the order of their rows."""
        return (*self.averaged, *self.newest)


class Transformed(NamedTuple):
    """Rows of numbers under one transform; low and high ``[k, 2, 1]`` of those that are clipped."""

    transform: str
    rows: slice
    bounds: npt.NDArray[np.float64]


class Layout:
    """What ``Schema.layout`` holds."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._spans: dict[str, slice] = {}
        self.rows = 0
        self.transformed: list[Transformed] = []
        """Rows of numbers that are transformed, of the candidates and of the context."""
        features = schema.features
        numbers = [f for f in features if isinstance(f, Number | Flag)]
        self.numbers = self._place_numbers(f for f in numbers if f.source == "candidate")
        self.fields = tuple(schema.categories.values())
        self._place(self.fields)
        self.context: tuple[Number | Flag | Category | Categories | Clock, ...] = (
            *self._place_numbers(f for f in numbers if f.source == "context"),
            *(f for f in features if isinstance(f, Category | Categories) and f.source == "context"),
            *(f for f in features if isinstance(f, Clock)),
        )
        self._place(f for f in self.context if not isinstance(f, Number | Flag))
        self.public_rows = self.rows
        """Rows that are known from the candidates and the context alone, embeddings left out."""
        self.words = {f.name: Words(f) for f in features if isinstance(f, Category | Categories)}
        self.embeddings = tuple(f for f in features if isinstance(f, Embedding))
        self._place(self.embeddings)
        groups = [self._group(name) for name in (*schema.categories, None)]
        self.groups = tuple(group for group in groups if group.features)
        similarities = [f for f in features if isinstance(f, Similarity)]
        self.similar = tuple(f for f in similarities if f.reduce == "mean")
        self._place(self.similar)
        self.nearest = tuple(f for f in similarities if f.reduce == "max")
        self._place(self.nearest)
        self.interactions = tuple(f for f in features if isinstance(f, Interaction))
        self._place(self.interactions)
        self.order: npt.NDArray[np.intp] = np.array(
            [self.row(f) + i for f in features for i in range(len(schema.columns_of(f)))], dtype=np.intp
        )
        """Row of each of the schema's columns, ``[d]``."""

    def row(self, feature: Feature) -> int:
        """The first of the rows of ``feature``."""
        start: int = self._spans[feature.name].start
        return start

    def span(self, feature: Feature) -> slice:
        """The rows of ``feature``."""
        return self._spans[feature.name]

    def parts(self, interaction: Interaction) -> tuple[slice, slice]:
        """The rows of the two features that ``interaction`` multiplies."""
        left, right = self._schema.parts(interaction)
        return self.span(left), self.span(right)

    def _place_numbers(self, numbers: Iterable[Number | Flag]) -> tuple[Number | Flag, ...]:
        """Give each number the next free row, those of one transform side by side; returns them in that order."""
        by_transform: dict[str, list[Number | Flag]] = {name: [] for name in ("identity", "clip", "log1p", "sqrt")}
        for feature in numbers:
            by_transform[feature.transform if isinstance(feature, Number) else "identity"].append(feature)
        for name, group in by_transform.items():
            start = self.rows
            self._place(group)
            if group and name != "identity":
                bounds = np.array([[f.low, f.high] for f in group if isinstance(f, Number) and f.low is not None])
                self.transformed.append(Transformed(name, slice(start, self.rows), bounds.reshape(-1, 2, 1)))
        return tuple(chain.from_iterable(by_transform.values()))

    def _place(self, features: Iterable[Feature]) -> None:
        """Give each feature the next free rows."""
        for feature in features:
            start = self.rows
            self.rows += len(self._schema.columns_of(feature))
            self._spans[feature.name] = slice(start, self.rows)

    def _group(self, name: str | None) -> FieldGroup:
        reading = [
            f
            for f in self._schema.features
            if isinstance(f, Affinity | Level | Count | Rate | Fatigue | Recency) and f.field == name
        ]
        averaged = tuple(f for f in reading if not isinstance(f, Recency))
        newest = tuple(f for f in reading if isinstance(f, Recency))
        group = FieldGroup(name, averaged, newest, self.rows)
        self._place(group.features)
        return group
