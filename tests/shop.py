"""A small shop that the tests rank in: 60 items, people who buy, and the bundle in ``tests/data/shop`` made for it.

Needs no more than a device has; ``tests/make_test_bundle.py`` makes the bundle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketrank.bundle import Bundle, build, save_arrays
from pocketrank.profile import Array
from pocketrank.schema import Affinity, Categories, Level, Number, Recency, Schema, Similarity
from pocketrank.store import Event

FOLDER: Final = Path(__file__).parent / "data" / "shop"
KINDS: Final = ("book", "game", "music")
MAKERS: Final = ("north", "south")
LIKED: Final = 4.0
ITEMS: Final = 60
VECTOR_WIDTH: Final = 6

SCHEMA: Final = Schema(
    (
        Number(name="price", transform="log1p", default=10.0),
        Number(name="place", transform="sqrt"),
        Number(name="rating"),
        Number(name="hour", source="context", default=12.0),
        Categories(name="kind", vocabulary=KINDS),
        Categories(name="maker", vocabulary=MAKERS, model_input=False),
        Affinity(name="kind_affinity", field="kind", half_life_events=10),
        Level(name="maker_level", field="maker"),
        Recency(name="kind_recency", field="kind", last=20),
        Similarity(name="similarity", min_value=LIKED),
        Similarity(name="similarity_max", reduce="max", last=10),
    )
)
"""Every kind of feature; twelve columns."""


def item(number: int) -> dict[str, Any]:
    """Item ``number`` of the shop, as an app hands it over; every seventh has no price, every eleventh no kind."""
    rng = np.random.default_rng(number)
    found: dict[str, Any] = {
        "id": f"item-{number}",
        "price": float(rng.integers(1, 200)),
        "rating": float(rng.integers(10, 50)) / 10,
        "kind": [KINDS[i] for i in sorted(rng.permutation(len(KINDS))[: rng.integers(1, 3)].tolist())],
        "maker": MAKERS[int(rng.integers(len(MAKERS)))],
    }
    if number % 7 == 0:
        del found["price"]
    if number % 11 == 0:
        found["kind"] = None
    return found


def candidates(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Items as mappings; their ``place`` is where they stand in ``numbers``."""
    return [{**item(number), "place": float(place)} for place, number in enumerate(numbers)]


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same candidates as columns, the fast path."""
    names = ("id", "price", "place", "rating", "kind", "maker")
    return {name: [row.get(name) for row in rows] for name in names}


def events(seed: int, count: int) -> list[Event]:
    """What a person bought, and how they rated it, 1 to 5."""
    rng = np.random.default_rng([seed, 1])
    made = []
    for at, number in enumerate(rng.integers(ITEMS, size=count).tolist()):
        bought = item(number)
        fields = {"kind": tuple(bought["kind"] or ()), "maker": (bought["maker"],)}
        made.append(Event(bought["id"], 1_700_000_000.0 + 60.0 * at, float(rng.integers(1, 6)), fields))
    return made


def item_vectors() -> dict[str, Any]:
    """Arrays of the bundle's ``vectors.npz``; the last two items have no vector."""
    vectors = np.random.default_rng(3).integers(-8, 9, size=(ITEMS - 2, VECTOR_WIDTH))
    return {"items": np.array([f"item-{number}" for number in range(ITEMS - 2)]), "vectors": vectors.astype(np.float16)}


@cache
def bundle() -> Bundle:
    """The bundle of the shop."""
    return Bundle.open(FOLDER)


def with_files(files: Mapping[str, bytes], **changes: Any) -> Bundle:
    """The bundle with some files and some of its manifest replaced, its hashes right again."""
    original = bundle()
    return build(dataclasses.replace(original.manifest, **changes), {**original.files, **files})


def with_params(params: Mapping[str, Array]) -> Bundle:
    """The bundle with other trainable parameters, as a round makes it."""
    return with_files({"params.npz": save_arrays(params)})


def linear(weights: Array) -> dict[str, Array]:
    """Parameters that score by ``standardised @ weights`` [d] alone: the backbone counts nothing."""
    params = {parameter.name: np.zeros(parameter.shape, np.float32) for parameter in bundle().manifest.trainable}
    params["head.weight"][: len(weights)] = weights
    return params


def standardised(features: Array) -> Array:
    """The model's own view of a slate ``[n, d]``: each column to zero mean and unit deviation, clipped to ±4."""
    exact = np.asarray(features, np.float64)
    deviation = exact.std(axis=0)
    scaled = np.divide(exact - exact.mean(axis=0), deviation, out=np.zeros_like(exact), where=deviation > 1e-6)
    clipped: Array = np.clip(scaled, -4.0, 4.0).astype(np.float32)
    return clipped
