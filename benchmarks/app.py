"""The app that the benchmarks stand for: its schema, its candidates and what its person did.

20 public columns, as a first stage and a catalogue would send them: 12 numbers, 2 flags and a category of 6 words. 12
private columns from a store of 1,000 events. All values are drawn at random: only what it costs to compute with them
counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.schema import (
    Affinity,
    Categories,
    Category,
    Count,
    Fatigue,
    Flag,
    Level,
    Number,
    Rate,
    Recency,
    Schema,
    Similarity,
)
from pocketrank.store import Event

CANDIDATES: Final = 100
EVENTS: Final = 1_000
ITEMS: Final = tuple(str(number) for number in range(1_000))
VECTOR_WIDTH: Final = 64

SCHEMA: Final = Schema(
    (
        Number(name="first_stage_score", transform="log1p"),
        Number(name="first_stage_rank", transform="sqrt"),
        Number(name="popularity", transform="log1p"),
        Number(name="trend"),
        Number(name="click_rate"),
        Number(name="mean_rating", default=3.0),
        Number(name="ratings", transform="log1p"),
        Number(name="price", transform="log1p"),
        Number(name="discount"),
        Number(name="age_days", transform="log1p"),
        Number(name="distance_km", transform="sqrt"),
        Number(name="stock", transform="sqrt"),
        Flag(name="is_new"),
        Flag(name="is_promoted"),
        Category(name="topic", vocabulary=("art", "food", "home", "music", "sport", "travel")),
        Category(name="brand", vocabulary=tuple(f"brand-{number}" for number in range(40)), model_input=False),
        Affinity(name="topic_affinity", field="topic"),
        Affinity(name="topic_affinity_recent", field="topic", half_life_events=10),
        Affinity(name="brand_affinity_recent", field="brand", half_life_events=10),
        Similarity(name="similarity"),
        Similarity(name="similarity_recent", half_life_events=10),
        Similarity(name="similarity_last", last=1),
        Level(name="brand_level", field="brand"),
        Recency(name="topic_recency", field="topic"),
        Count(name="item_count", half_life_events=100),
        Rate(name="item_rate"),
        Rate(name="topic_rate", field="topic"),
        Fatigue(name="item_fatigue", half_life_events=100),
    )
)


def item_vectors() -> npt.NDArray[np.float32]:
    """Vectors ``[N, k]`` of ``ITEMS``, the same every time."""
    return np.random.default_rng(0).normal(size=(len(ITEMS), VECTOR_WIDTH)).astype(np.float32)


def candidates(schema: Schema, rng: np.random.Generator, n: int = CANDIDATES) -> dict[str, Any]:
    """``n`` candidates as columns that fit ``schema``: numbers and flags as arrays, words as lists.

    Clocks, embeddings and the context are left to their defaults.
    """
    columns: dict[str, Any] = {"id": [ITEMS[row] for row in rng.permutation(len(ITEMS))[:n]]}
    for feature in schema.features:
        if isinstance(feature, Number) and feature.source == "candidate":
            columns[feature.name] = rng.gamma(2.0, size=n)
        elif isinstance(feature, Flag) and feature.source == "candidate":
            columns[feature.name] = rng.random(n) < 0.3
        elif isinstance(feature, Category) and feature.source == "candidate":
            columns[feature.name] = [words(feature, rng)[0] for _ in range(n)]
        elif isinstance(feature, Categories) and feature.source == "candidate":
            columns[feature.name] = [words(feature, rng) for _ in range(n)]
    return columns


def history(schema: Schema, rng: np.random.Generator, n: int = EVENTS) -> list[Event]:
    """``n`` events of items like the candidates, oldest first, a minute apart; by turns shown and engaged with."""
    return [
        Event(
            ITEMS[rng.integers(len(ITEMS))],
            at_s=60.0 * number,
            value=float(rng.integers(1, 6)),
            fields={field.name: words(field, rng) for field in schema.categories.values()},
            action="shown" if number % 2 == 0 else "engaged",
        )
        for number in range(n)
    ]


def rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same candidates as mappings, one each, of plain Python values."""
    plain = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*plain, strict=True)]


def words(field: Category | Categories, rng: np.random.Generator) -> tuple[str, ...]:
    """One word of the field's vocabulary, or one or two different ones where a candidate may have several."""
    most = 1 if isinstance(field, Category) else 2
    chosen = rng.permutation(len(field.vocabulary))[: rng.integers(1, most + 1)]
    return tuple(field.vocabulary[row] for row in chosen)
