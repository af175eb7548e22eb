"""One engine's order of the candidates that the filters left: features, cascade, model.

Where the model can't score, the order degrades step by step, and says so: from
personal parameters to the bundle's own, to the cascade's order, to the one given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from pocketrank.cascade import Cascade, Pruned, prune
from pocketrank.engine import Engine
from pocketrank.features.candidates import Columns
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array
from pocketrank.latency import Trace
from pocketrank.person import Person
from pocketrank.slate import CASCADE, GIVEN_ORDER, SHARED_PARAMETERS

Params = Mapping[str, Array]
FEATURES: Final = "features"
PRUNE: Final = "prune"
PERSONAL: Final = "personal model"
MODEL: Final = "model"


@dataclass(frozen=True)
class Ranking:
    """Candidates in the order of their scores.

    Attributes:
        engine: What ranked.
        columns: The candidates that the filters left, ``n``.
        order: All their indices, best first.
        scores: float32 ``[n]``, NaN for those that the model didn't see; None where no model scored.
        features: float32 ``[n, d]``; None where they could not be computed.
        scored: Indices of those that the model saw, in its order.
        params: Personal parameters that the model was given; None for the bundle's own.
        fallback: What ranked instead of what should have, and why.
    """

    engine: Engine
    columns: Columns
    order: list[int]
    scores: Array | None = None
    features: Array | None = None
    scored: list[int] | None = None
    params: Params | None = None
    fallback: str | None = None


def score(
    engine: Engine,
    person: Person,
    columns: Columns,
    trace: Trace,
    *,
    k: int | None = None,
    cascade: Cascade = (),
    choose: Callable[[Pruned], Pruned] | None = None,
    params: Params | None = None,
) -> Ranking:
    """Rank with one engine alone, and with personal ``params`` where there are some.

    ``cascade`` chooses the candidates that the model sees, by ``k``, how many of the best the app asked for; ``choose``
    has the last word on that, where there are more than the model takes.
    """
    n = len(columns.ids)
    given = list(range(n))
    features = None
    if trace.fits(FEATURES):
        features = trace.run(FEATURES, lambda: encode(columns, engine.schema, person.profile(), engine.vectors))
    if features is None:
        return Ranking(engine, columns, given, fallback=f"{GIVEN_ORDER}: {trace.why(FEATURES)}")
    largest = engine.scorer.largest
    pruned = Pruned(given[:largest], given[largest:], scored=False, final=False)
    if cascade or n > largest:
        pruned = trace.run(PRUNE, _prune, engine, features, cascade, choose, k) or pruned
    kept, rest = pruned.kept, pruned.rest
    if pruned.final:
        return Ranking(engine, columns, [*kept, *rest], features=features)
    seen = features if kept == given else features[kept]
    found, used, fallback = None, params, None
    if params is not None and trace.fits(PERSONAL):
        found = trace.run(PERSONAL, engine.scorer.scores, seen, params)
    if found is None and trace.fits(MODEL):
        found, used = trace.run(MODEL, engine.scorer.scores, seen), None
        fallback = None if params is None else f"{SHARED_PARAMETERS}: {trace.why(PERSONAL)}"
    if found is None:
        instead = f"{CASCADE if pruned.scored else GIVEN_ORDER}: {trace.why(MODEL, PERSONAL)}"
        return Ranking(engine, columns, [*kept, *rest], features=features, fallback=instead)
    by_score = np.argsort(-found, kind="stable").tolist()
    if seen is features:
        return Ranking(engine, columns, by_score, found, features, given, used, fallback)
    scores = np.full(n, np.nan, np.float32)
    scores[kept] = found
    return Ranking(engine, columns, [*(kept[i] for i in by_score), *rest], scores, features, kept, used, fallback)


def _prune(
    engine: Engine, features: Array, cascade: Cascade, choose: Callable[[Pruned], Pruned] | None, k: int | None
) -> Pruned:
    pruned = prune(cascade, features, engine.columns, largest=engine.scorer.largest, k=k)
    return pruned if choose is None or pruned.final or not pruned.rest else choose(pruned)
