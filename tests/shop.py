"""A small shop that the tests rank in: 60 items, people who buy, and the bundle in ``tests/data/shop`` made for it.

Needs no more than a device has; ``tests/make_test_bundle.py`` makes the bundle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from pocketrank.bundle import Bundle, build, save_arrays
from pocketrank.features.profile import Array
from pocketrank.schema import (
    Affinity,
    Categories,
    Category,
    Clock,
    Count,
    Embedding,
    Fatigue,
    Flag,
    Interaction,
    Level,
    Number,
    Rate,
    Recency,
    Schema,
    Similarity,
)
from pocketrank.store import Event

FOLDER: Final = Path(__file__).parent / "data" / "shop"
FEATURES: Final = FOLDER.with_name("shop_features.npz")
"""Features ``[n, d]`` of each of ``moments``, by its name, as the builder's replay computed them."""
KINDS: Final = ("book", "game", "music")
MAKERS: Final = ("north", "south")
COLOURS: Final = ("red", "blue")
SHADES: Final = (*COLOURS, "crimson", "teal", "olive")
LIKED: Final = 4.0
ITEMS: Final = 60
VECTOR_WIDTH: Final = 6
OPENED_S: Final = 1_700_000_000.0
LONG_AGO_S: Final = 1_000_000_000.0

SCHEMA: Final = Schema(
    (
        Number(name="price", transform="log1p", default=10.0),
        Number(name="place", transform="sqrt"),
        Number(name="rating"),
        Number(name="discount", transform="clip", low=5.0, high=40.0, default=7.5, max_age_s=10 * 365 * 86_400.0),
        Number(name="basket", source="context", default=2.0),
        Flag(name="in_stock", default=True),
        Clock(name="hour", part="hour"),
        Categories(name="kind", vocabulary=KINDS),
        Categories(name="maker", vocabulary=MAKERS, model_input=False),
        Category(name="colour", vocabulary=COLOURS, hash_buckets=2),
        Category(name="screen", source="context", vocabulary=("phone", "tv"), unknown_bucket=True),
        Embedding(name="style", width=4),
        Embedding(name="taste", width=4, to="device", half_life_events=10),
        Affinity(name="kind_affinity", field="kind", half_life_events=10),
        Level(name="maker_level", field="maker"),
        Recency(name="kind_recency", field="kind", last=20),
        Similarity(name="similarity", min_value=LIKED),
        Similarity(name="similarity_max", reduce="max", last=10),
        Count(name="bought"),
        Rate(name="kind_rate", field="kind"),
        Fatigue(name="fatigue", half_life_events=20),
        Interaction(name="stock_on_screen", of=("in_stock", "screen")),
        Interaction(name="basket_affinity", of=("basket", "kind_affinity")),
    )
)
"""Every kind of feature."""


@dataclass(frozen=True)
class Moment:
    """After the first ``at`` events of ``log``, a person is offered ``candidates``."""

    log: list[Event]
    at: int
    candidates: dict[str, Any]
    context: dict[str, Any]
    now_s: float


def item(number: int) -> dict[str, Any]:
    """Item ``number`` of the shop, as an app hands it over.

    Every fifth has a discount of long ago, every seventh no price, every eleventh no kind, every thirteenth no taste.
    """
    rng = np.random.default_rng(number)
    found: dict[str, Any] = {
        "id": f"item-{number}",
        "price": float(rng.integers(1, 200)),
        "rating": float(rng.integers(10, 50)) / 10,
        "kind": [KINDS[i] for i in sorted(rng.permutation(len(KINDS))[: rng.integers(1, 3)].tolist())],
        "maker": MAKERS[int(rng.integers(len(MAKERS)))],
        "discount": float(rng.integers(0, 60)),
        "in_stock": bool(rng.random() < 0.7),
        "colour": SHADES[int(rng.integers(len(SHADES)))],
        "style": rng.normal(size=4).tolist(),
        "taste": rng.normal(size=4).tolist(),
    }
    if number % 5 == 0:
        found["discount_at_s"] = LONG_AGO_S
    if number % 7 == 0:
        del found["price"]
    if number % 11 == 0:
        found["kind"] = None
    if number % 13 == 0:
        del found["taste"]
    return found


def candidates(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Items as mappings; their ``place`` is where they stand in ``numbers``."""
    return [{**item(number), "place": float(place)} for place, number in enumerate(numbers)]


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same candidates as columns, the fast path."""
    return {name: [row.get(name) for row in rows] for name in (*item(1), "place", "discount_at_s")}


def events(seed: int, count: int) -> list[Event]:
    """What a person bought, and how they rated it, 1 to 5."""
    rng = np.random.default_rng([seed, 1])
    numbers = rng.integers(ITEMS, size=count).tolist()
    return [_event(number, at, value=float(rng.integers(1, 6))) for at, number in enumerate(numbers)]


def browsing(seed: int, count: int) -> list[Event]:
    """``count`` events of a person who is shown two or three times as much as they buy."""
    rng = np.random.default_rng([seed, 3])
    made = []
    for at, number in enumerate(rng.integers(ITEMS, size=count).tolist()):
        bought = rng.random() < 0.3
        made.append(_event(number, at, value=float(rng.integers(1, 6))) if bought else _event(number, at, "shown"))
    return made


def _event(number: int, at: int, action: Literal["engaged", "shown"] = "engaged", value: float = 1.0) -> Event:
    found = item(number)
    fields = {"kind": tuple(found["kind"] or ()), "maker": (found["maker"],), "colour": (found["colour"],)}
    own = {"taste": tuple(found["taste"])} if "taste" in found else {}
    return Event(found["id"], OPENED_S + 60.0 * at, value, fields, own, action)


def moments(seed: int) -> dict[str, Moment]:
    """Moments of a person's browsing at which candidates are ranked, by name; so many events came before each."""
    log = browsing(seed, 80)
    rng = np.random.default_rng([seed, 4])
    made = {}
    for at in (0, 1, 8, 30, 79):
        context: dict[str, Any] = {"screen": ("phone", "tv", "watch")[at % 3], "style": rng.normal(size=4).tolist()}
        if at % 2:
            context |= {"basket": at, "hour": 20.5}
        rows = candidates(rng.permutation(100)[: 20 + at].tolist())
        made[f"person-{seed}-after-{at}"] = Moment(log, at, columns(rows), context, OPENED_S + 60.0 * at)
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
