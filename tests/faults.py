"""A reranker in which any stage can be made to fail, and whose order tells which step of the degradation made it.

Each step orders by another column of the shop's items, so the expected order of
each is a plain sort: the model by rating, a person's own parameters by
discount, the cascade by its place from behind, the previous bundle by price.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import numpy as np
import pytest

from pocketrank import DeviceStore, Reranker, pipeline, scoring
from pocketrank.bundle import save_arrays
from pocketrank.cascade import Prune
from pocketrank.engine import Engine
from pocketrank.features.profile import Array
from pocketrank.policy import Policy, arrangement
from pocketrank.schema import Number, Schema
from tests import shop

Rows = list[dict[str, Any]]

_RULES: Final = frozenset({"policy", "policy with diversity"})
STAGES: Final[Mapping[str, frozenset[str]]] = {
    "input": frozenset({"input"}),
    "filters": frozenset({"filters"}),
    "profile": frozenset({"features"}),
    "features": frozenset({"features"}),
    "prune": frozenset({"prune"}),
    "personal": frozenset({"personal model"}),
    "model": frozenset({"model"}),
    "previous": frozenset({"previous bundle"}),
    "previous features": frozenset({"previous bundle"}),
    "policy": _RULES,
    "diversity": _RULES | {"prune"},
    "vectors": _RULES | {"prune"},
}
"""Where a fault can be planted, and the stages of which one then gives nothing."""

BY_PLACE: Final = (Prune(keep=100, weights={"place": 1.0}),)
"""A cascade that turns the given order around."""

_RENAMED: Final = tuple(
    dataclasses.replace(feature, name="stars") if isinstance(feature, Number) and feature.name == "rating" else feature
    for feature in shop.SCHEMA.features
)


def _by(column: str) -> dict[str, Array]:
    """Parameters that order by ``column``, the highest first."""
    return shop.linear(np.array([float(name == column) for name in shop.SCHEMA.columns], np.float32))


@cache
def engine() -> Engine:
    """Orders by rating; its baseline is made here, before any fault can be planted."""
    made = Engine(shop.with_params(_by("rating")))
    assert made.baseline.shape == (len(made.columns),)
    return made


@cache
def previous() -> Engine:
    """Orders by price, with a schema of its own."""
    files = {"params.npz": save_arrays(_by("price"))}
    return Engine(shop.with_files(files, name="before", schema=Schema(_RENAMED)))


def reranker(
    *,
    store: DeviceStore | None = None,
    personal: bool = False,
    before: bool = False,
    cascade: Sequence[Prune] = (),
    policy: Policy | None = None,
    shadow: Engine | None = None,
) -> Reranker:
    """A reranker with the parts asked for."""
    found = Reranker(
        engine(),
        DeviceStore() if store is None else store,
        previous=previous() if before else None,
        cascade=cascade,
        policy=policy,
        shadow=shadow,
    )
    if personal:
        found.personalise(_by("discount"))
    return found


def ids_by(order: str, rows: Rows) -> tuple[str, ...]:
    """Ids of ``rows`` as a step of the degradation orders them; equals as given."""
    keys: Mapping[str, Callable[[dict[str, Any]], float]] = {
        "given": lambda _: 0.0,
        "model": lambda row: -row["rating"],
        "personal": lambda row: -discount_of(row),
        "cascade": lambda row: -row["place"],
        "previous": lambda row: -row.get("price", 10.0),
    }
    return tuple(row["id"] for row in sorted(rows, key=keys[order]))


def discount_of(row: Mapping[str, Any]) -> float:
    """A row's discount as the schema wants it: clipped, and its default where it is from long ago."""
    return 7.5 if "discount_at_s" in row else float(min(max(row["discount"], 5.0), 40.0))


@contextmanager
def planted(found: Reranker, faults: Mapping[str, BaseException]) -> Iterator[list[str]]:
    """``found`` with faults: each place of ``STAGES`` that is reached raises its error.

    Yields:
        The places that were reached so far.
    """
    fired: list[str] = []

    def failing(place: str, original: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
        def stage(*arguments: Any, **named: Any) -> Any:
            if when(*arguments, **named):
                fired.append(place)
                raise faults[place]
            return original(*arguments, **named)

        return stage

    def always(*_: Any, **__: Any) -> bool:
        return True

    own, other, person = engine(), previous(), found._pipeline._person
    places: dict[str, tuple[Any, str, Callable[..., bool]]] = {
        "input": (pipeline.Request, "parsed", lambda _, of: of is own),
        "filters": (pipeline, "kept", always),
        "profile": (person, "profile", always),
        "features": (scoring, "encode", lambda _, schema, *__: schema is own.schema),
        "previous features": (scoring, "encode", lambda _, schema, *__: schema is other.schema),
        "prune": (scoring, "prune", lambda _, __, columns, **___: columns is own.columns),
        "personal": (own.scorer, "scores", lambda _, params=None: params is not None),
        "model": (own.scorer, "scores", lambda _, params=None: params is None),
        "previous": (other.scorer, "scores", always),
        "policy": (arrangement, "arrange", always),
        "diversity": (arrangement, "diversify", always),
        "vectors": (pipeline, "_vectors", always),
    }
    with pytest.MonkeyPatch.context() as patch:
        for place in faults:
            target, name, when = places[place]
            patch.setattr(target, name, failing(place, getattr(target, name), when))
        yield fired
