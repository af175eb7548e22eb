"""Simulated people who click what they want and see, and what learning on their devices is worth to them.

``python -m tests.clickers`` prints the table of docs/learning.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.features.profile import Array
from pocketrank.learner import FitResult, Learner
from pocketrank.scorer import Scorer
from pocketrank.store import DeviceStore
from tests import shop

WIDTH: Final = len(shop.SCHEMA.columns)
PLACES: Final = 20
PEOPLE: Final = 30
TESTS: Final = 40
AT_S: Final = 1_700_000_000.0

Floats = npt.NDArray[np.float64]


def show(store: DeviceStore, features: Array, clicked: npt.NDArray[np.bool_]) -> None:
    """Record a slate [n, d] that was shown, and the clicks [n] in it."""
    names = [f"item-{i}" for i in range(len(features))]
    impression = store.record_impression(names, features, at_s=AT_S, bundle=shop.bundle().digest)
    for place in np.flatnonzero(clicked).tolist():
        store.record_outcome(impression, names[place], 1.0)


@dataclass(frozen=True)
class Outcome:
    """What learning did for one person: the worth of their slates to come, 1 in the best order, and how it went."""

    before: float
    after: float
    fit: FitResult


class Person:
    """Wants what the shop's model scores high, and ``strength`` times a taste of their own.

    Slates come in the model's order. The person looks at each place with the
    chance ``1 / (1 + position)``, and clicks what they see and want.
    """

    def __init__(self, seed: int, strength: float) -> None:
        self._rng = np.random.default_rng([seed, 4])
        taste = self._rng.normal(size=WIDTH)
        self._taste = strength * taste / np.linalg.norm(taste)
        self._scorer = Scorer(shop.bundle())

    def slates(self) -> Iterator[tuple[Array, Floats]]:
        """Slates [n, d] without end, and the chance [n] of each candidate to be wanted."""
        while True:
            features = (5.0 * self._rng.normal(size=(PLACES, WIDTH))).astype(np.float32)
            features = features[np.argsort(-self._scorer.scores(features))]
            likes = self._scorer.scores(features) + shop.standardised(features) @ self._taste
            yield features, 1.0 / (1.0 + np.exp(-2.0 * (likes - np.quantile(likes, 0.85))))

    def clicks(self, store: DeviceStore, count: int) -> None:
        """Have ``count`` slates with a click in the store."""
        looks = 1.0 / np.arange(1, PLACES + 1)
        slates = self.slates()
        while count:
            features, wanted = next(slates)
            clicked = (self._rng.random(PLACES) < wanted) & (self._rng.random(PLACES) < looks)
            if clicked.any():
                show(store, features, clicked)
                count -= 1

    def learns(self, learner: Learner, count: int) -> Outcome:
        """Learn from ``count`` slates, and rank others before and after."""
        store = DeviceStore()
        self.clicks(store, count)
        result = learner.fit(store, budget_s=float("inf"), min_slates=min(count, 10))
        tests = [slate for _, slate in zip(range(TESTS), self.slates(), strict=False)]
        personal = store.personal(shop.bundle().digest)
        worths = [
            float(np.mean([worth(self._scorer.scores(features, params), wanted) for features, wanted in tests]))
            for params in (None, personal)
        ]
        return Outcome(worths[0], worths[1], result)


def worth(scores: Array, wanted: Floats) -> float:
    """nDCG@10 of the order that ``scores`` [n] give, each candidate worth the chance [n] that it is wanted."""
    discounts = 1.0 / np.log2(np.arange(10) + 2.0)
    found, ideal = wanted[np.argsort(-scores, kind="stable")], np.sort(wanted)[::-1]
    return float((found[:10] @ discounts) / (ideal[:10] @ discounts))


def main() -> None:
    """Print what learning is worth, by how much people differ and how often they clicked, with weights and without."""
    print("| taste | slates | nDCG@10 before | weighted: after (kept, worst change) | unweighted: the same |")  # noqa: T201
    print("|---|---|---|---|---|")  # noqa: T201
    for strength in (0.0, 0.5, 1.0, 3.0):
        for count in (6, 10, 30, 100):
            found = [
                [Person(seed, strength).learns(learner, count) for seed in range(PEOPLE)]
                for learner in (Learner(shop.bundle(), eta=eta) for eta in (1.0, 0.0))
            ]
            before = np.mean([each.before for each in found[0]])
            weighted, unweighted = map(described, found)
            print(f"| {strength:g} | {count} | {before:.3f} | {weighted} | {unweighted} |", flush=True)  # noqa: T201


def described(found: list[Outcome]) -> str:
    """What learning did for some people, as a cell of the table."""
    kept = 100 * np.mean([each.fit.kept for each in found])
    worst = min(each.after - each.before for each in found)
    return f"{np.mean([each.after for each in found]):.3f} ({kept:.0f} %, {worst:+.3f})"


if __name__ == "__main__":
    main()
