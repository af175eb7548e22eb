"""What a ranker reads: how much worse it ranks where one feature's values are dealt out anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.features.profile import Array
from pocketrank.metrics import Interval, bootstrap
from pocketrank.schema import Schema
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each

REPEATS: Final = 5
"""Permutations of each feature; a slate's loss is their mean."""
MAX_SLATES: Final = 512
MAX_SCORED: Final = 5_000_000
"""Candidates that are scored at most, all features and repeats together; slates are left out until they fit."""


@dataclass(frozen=True)
class Importance:
    """One feature; ``loss`` of nDCG@10 where its values are permuted, ``private`` where only the device knows it."""

    feature: str
    columns: int
    private: bool
    loss: Interval


def importance(
    score: Callable[[Slates], Array], slates: Slates, schema: Schema, rng: np.random.Generator
) -> tuple[Importance, ...]:
    """Permutation importance of each feature of ``schema``, largest first.

    All columns of a feature are permuted together among the real candidates of each slate, so every slate keeps the
    values that it had, and what is the same for all of a slate's candidates has no importance on its own. An
    interaction is a feature of its own: permuting one of its parts leaves it as it was.

    Args:
        score: The ranker: ``[s, n]`` of slates.
        slates: With labels, one or more; of many a part is drawn.
        schema: Whose columns the features are.
        rng: Draws the permutations, the slates and the intervals.

    Returns:
        The mean loss over slates with its 95 % bootstrap interval over slates. A feature that the ranker ignores has
        exactly 0.

    Source: Breiman 2001, section 10, with the permutation within the slate, which is what a ranker compares.
    """
    features = [feature for feature in schema.features if schema.columns_of(feature)]
    taken = _sample(slates, len(features) * REPEATS, rng)
    whole = ndcg_each(score(taken), taken)
    found, start = [], 0
    for feature in features:
        width = len(schema.columns_of(feature))
        lost = np.zeros(len(taken))
        for _ in range(REPEATS):
            lost += whole - ndcg_each(score(permuted(taken, slice(start, start + width), rng)), taken)
        interval = bootstrap(lost / REPEATS, rng)
        found.append(Importance(feature.name, width, schema.is_private(feature), interval))
        start += width
    return tuple(sorted(found, key=lambda one: -one.loss.mean))


def permuted(slates: Slates, columns: slice, rng: np.random.Generator) -> Slates:
    """``slates`` with ``columns`` permuted among the real candidates of each slate, the same way for all of them."""
    # Random keys sort the real candidates of each slate among themselves; padding keeps its place.
    real = slates.mask > 0
    order = _sorted_within(rng.random(real.shape), real)
    features = slates.features.copy()
    features[..., columns] = np.take_along_axis(slates.features[..., columns], order[..., None], axis=1)
    return Slates(features, slates.labels, slates.mask, slates.relevant, slates.propensities)


def _sorted_within(keys: npt.NDArray[np.float64], real: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Rows ``[s, n]`` that bring the real candidates in the order of their keys, each into a real place."""
    order = np.broadcast_to(np.arange(keys.shape[1]), keys.shape).copy()
    for row, (values, here) in enumerate(zip(keys, real, strict=True)):
        places = np.flatnonzero(here)
        order[row, places] = places[np.argsort(values[places])]
    return order


def _sample(slates: Slates, passes: int, rng: np.random.Generator) -> Slates:
    """As many slates as may be scored ``passes`` times."""
    most = min(MAX_SLATES, max(1, MAX_SCORED // max(1, passes * slates.mask.shape[1])))
    if len(slates) <= most:
        return slates
    return slates.where(np.sort(rng.choice(len(slates), most, replace=False)))
