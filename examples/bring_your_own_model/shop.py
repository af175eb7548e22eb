"""What the module was trained on: a made-up shop, whose visitors want other things on a phone than on a television."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, profile
from pocketrank.schema import Category, Number, Schema
from pocketrank_export.data.slates import Slates

KINDS: Final = ("book", "film", "game")
SCREENS: Final = ("phone", "tv")
SCHEMA: Final = Schema(
    (
        Number(name="price", transform="log1p"),
        Number(name="rating", default=3.0),
        Category(name="kind", vocabulary=KINDS),
        Number(name="budget", source="context", transform="log1p", default=20.0),
        Category(name="screen", source="context", vocabulary=SCREENS),
    )
)
"""The item's columns, then what is asked."""
ITEM_COLUMNS: Final = 2 + len(KINDS)
_CANDIDATES: Final = 12


def visit(rng: np.random.Generator) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """Candidates, context, and the place of the one that the visitor takes."""
    context = {"budget": float(rng.uniform(5.0, 100.0)), "screen": str(rng.choice(SCREENS))}
    candidates: list[dict[str, Any]] = [
        {
            "id": f"item-{place}",
            "price": float(rng.uniform(1.0, 100.0)),
            "rating": float(rng.uniform(1.0, 5.0)),
            "kind": str(rng.choice(KINDS)),
        }
        for place in range(_CANDIDATES)
    ]
    wanted = "book" if context["screen"] == "phone" else "film"
    worth = [
        item["rating"] + 2.0 * (item["kind"] == wanted) - 3.0 * abs(np.log(item["price"] / context["budget"]))
        for item in candidates
    ]
    return candidates, context, int(np.argmax(np.asarray(worth) + rng.gumbel(size=_CANDIDATES)))


def features(candidates: list[dict[str, Any]], context: Mapping[str, Any]) -> Array:
    """What a device gives the module for these candidates, float32 ``[n, d]``: the SDK's own feature code."""
    nothing = profile(SCHEMA, History.of([], SCHEMA, None))
    return encode(parse(candidates, SCHEMA, context), SCHEMA, nothing, None)


def slates(count: int, seed: int) -> Slates:
    """Visits as arrays; 1 is what was taken."""
    rng = np.random.default_rng(seed)
    visits = [visit(rng) for _ in range(count)]
    labels = np.zeros((count, _CANDIDATES), np.float32)
    labels[np.arange(count), [taken for *_, taken in visits]] = 1.0
    read = np.stack([features(candidates, context) for candidates, context, _ in visits])
    return Slates(read, labels, np.ones_like(labels))
