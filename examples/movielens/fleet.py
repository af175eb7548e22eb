"""Simulated devices: each person's events exist in a store of their own, and every slate goes through the SDK."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from examples.movielens.catalog import FirstStage
from examples.movielens.settings import Learning
from pocketrank.engine import Engine
from pocketrank.learner import Example, Learner, examples
from pocketrank.metrics import mrr, ndcg
from pocketrank.reranker import Reranker
from pocketrank.slate import Slate
from pocketrank.store import DeviceStore, Limits
from pocketrank_export.data.movielens import RELEVANT, User
from pocketrank_export.data.replay import Visit, visits

Floats = npt.NDArray[np.float64]

CUTS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""When people come back: shares of their history."""

_LIMITS: Final = Limits(max_age_s=math.inf)
"""People's ratings span years, and all of them count here."""


@dataclass(frozen=True)
class Measured:
    """How well the devices' tests were ranked; one entry a person who liked something in the test."""

    ndcg: Floats
    mrr: Floats


def progress_over(things: Sequence[User], progress: Callable[[float], None]) -> Iterator[User]:
    """Go through ``things`` and tell the share that is done."""
    for done, thing in enumerate(things):
        yield thing
        progress((done + 1) / len(things))


class Fleet:
    """People and their devices, in a folder of stores."""

    def __init__(self, users: Sequence[User], first_stage: FirstStage, folder: Path) -> None:
        """Have each of ``users`` own a store in ``folder``."""
        self.users = tuple(users)
        self._first_stage = first_stage
        self._folder = folder

    def store(self, user: User) -> DeviceStore:
        """Open the store on the device of ``user``."""
        return DeviceStore(self._folder / f"{user.id}.sqlite", limits=_LIMITS)

    def live(self, engine: Engine, progress: Callable[[float], None]) -> None:
        """Let every person live through their history with ``engine`` on their device.

        A device that has lived already is left as it is; one that was stopped half way starts anew.
        """
        for user in progress_over(self.users, progress):
            store = self.store(user)
            events = len(store.events())
            if events == len(user.history):
                store.close()
                continue
            store.wipe()
            _live(Reranker(engine, store), user, visits(user.history, CUTS), self._first_stage)
            store.close()

    def examples(self, width: int) -> list[list[Example]]:
        """What each device can learn from, the outcomes of its last visit held out."""
        found = []
        for user in self.users:
            store = self.store(user)
            times = visits(user.history, CUTS)
            until_s = user.history[times[-1].at].at_s if times else 0.0
            found.append([example for example in examples(store, width) if example.at_s < until_s])
            store.close()
        return found

    def personalise(self, engine: Engine, learning: Learning | None, progress: Callable[[float], None]) -> int:
        """Let every device forget what it learned, and learn for itself; None only forgets.

        Returns how many devices kept something.
        """
        learner = Learner(engine.bundle, eta=0.0 if learning is None else learning.eta)
        kept = 0
        for user in progress_over(self.users, progress):
            store = self.store(user)
            store.keep_personal(engine.bundle.digest, None)
            store.keep_progress(engine.bundle.digest, None)
            if learning is not None:
                kept += learner.fit(store, budget_s=learning.budget_s, min_slates=learning.min_slates).kept
            store.close()
        return kept

    def slates(self, engine: Engine) -> Iterator[tuple[User, Slate]]:
        """The slate of each person's test."""
        for user in self.users:
            store = self.store(user)
            candidates = self._first_stage.retrieve(event.item for event in user.history)
            yield user, Reranker(engine, store).rank(candidates)
            store.close()

    def measure(self, engine: Engine) -> Measured:
        """Rank every person's test on their device and see what they liked."""
        return measured((user, slate.ids) for user, slate in self.slates(engine))

    def first_stage_alone(self) -> Measured:
        """The same of the first stage's own order."""
        return measured(
            (user, self._first_stage.retrieve(event.item for event in user.history)["id"]) for user in self.users
        )


def measured(rankings: Iterable[tuple[User, Sequence[str]]]) -> Measured:
    """nDCG@10 and MRR@10 of each person's ranking; what the first stage missed counts as missed."""
    scores = []
    for user, ids in rankings:
        liked = {event.item for event in user.test if event.value >= RELEVANT}
        if liked:
            labels = np.array([item in liked for item in ids], dtype=np.float64)
            scores.append((ndcg(labels, relevant=len(liked)), mrr(labels)))
    table = np.array(scores)
    return Measured(table[:, 0], table[:, 1])


def _live(reranker: Reranker, user: User, times: Sequence[Visit], first_stage: FirstStage) -> None:
    history = user.history
    reranker.observe(history[: times[0].at] if times else history)
    for visit in times:
        slate = reranker.rank(first_stage.retrieve(event.item for event in history[: visit.at]))
        shown = set(slate.ids)
        for event in history[visit.at : visit.until]:
            if event.item in shown and event.value >= RELEVANT:
                slate.clicked(event.item, value=event.value, at_s=event.at_s)
            else:
                reranker.observe([event])
