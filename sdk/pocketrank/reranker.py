"""The one object that an app holds: candidates in, an ordered slate out, feedback back in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketrank.bundle import VECTORS, Bundle
from pocketrank.cascade import Cascade
from pocketrank.engine import Engine
from pocketrank.errors import InputError, StoreError
from pocketrank.features.candidates import Candidates
from pocketrank.features.reading import is_number
from pocketrank.feedback import Feedback
from pocketrank.latency import Latencies, Trace
from pocketrank.person import Person
from pocketrank.pipeline import Outcome, Pipeline, Request, read_again, score_again
from pocketrank.policy.rules import Policy
from pocketrank.scoring import Params
from pocketrank.slate import RankedItem, Slate
from pocketrank.stats import Meter, Stats
from pocketrank.store import DeviceStore, Event

if TYPE_CHECKING:
    from pocketrank.learner import FitResult
    from pocketrank.shadow import Shadow


class Reranker:
    """Orders candidates with a bundle's model and what the device knows of its person."""

    def __init__(
        self,
        engine: Engine,
        store: DeviceStore,
        *,
        previous: Engine | None = None,
        shadow: Engine | None = None,
        policy: Policy | None = None,
        cascade: Cascade | None = None,
    ) -> None:
        """Use ``Reranker.load``; this is for those who share engines between stores."""
        manifest = engine.bundle.manifest
        self._engine = engine
        self._store = store
        self._policy = manifest.ranking if policy is None else manifest.ranking.followed_by(policy)
        self.generation = 0
        """How often ``forget`` was called: feedback on a slate from before keeps nothing that was known then."""
        self._recording = store.lock
        """Held while something is written, so that memory ends up with what the file has."""
        events = store.events()
        person = Person(engine.schema, engine.vectors, events, store.limits)

        def known_to(other: Engine) -> tuple[Engine, Person]:
            same = other.schema == engine.schema and _vectors(other) == _vectors(engine)
            return other, person if same else Person(other.schema, other.vectors, events, store.limits)

        before = None if previous is None else known_to(previous)
        self._aside = None
        if shadow is not None:
            from pocketrank.shadow import Shadow

            self._aside = Shadow(shadow.name), *known_to(shadow)
        self._people = {person, *([before[1]] if before else []), *([self._aside[2]] if self._aside else [])}
        stages = manifest.cascade if cascade is None else cascade
        self._pipeline = Pipeline(engine, person, previous=before, cascade=stages)
        self._personal: Params | None = store.personal(engine.bundle.digest)
        self._latencies = Latencies()
        self._meter = Meter()

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        store: DeviceStore | str | os.PathLike[str] | None = None,
        previous: str | os.PathLike[str] | Bundle | None = None,
        shadow: str | os.PathLike[str] | Bundle | None = None,
        policy: Policy | None = None,
        cascade: Cascade | None = None,
    ) -> Reranker:
        """Open and verify ``bundle`` and get ready to rank.

        Args:
            bundle: Folder of a bundle, or an opened one.
            store: Device store or its path; without one, feedback is kept in memory and forgotten at exit.
            previous: The bundle to rank with where this one can't.
            shadow: A bundle that ranks the same slates aside; ``stats`` says how far the two agree.
            policy: Rules of the app, on top of the bundle's own.
            cascade: Instead of the bundle's own.

        Raises:
            BundleError: A bundle is not what its manifest vouches for.
            InputError: The cascade does not fit the bundle.
            RuntimeMissingError: No TFLite runtime works here.
            ModelError: The runtime refuses a model.
            StoreError: The store can't be used.
        """
        if not isinstance(store, DeviceStore):
            store = DeviceStore(":memory:" if store is None else Path(store))

        def engine(given: str | os.PathLike[str] | Bundle) -> Engine:
            return Engine(given if isinstance(given, Bundle) else Bundle.open(given))

        before, aside = (None if other is None else engine(other) for other in (previous, shadow))
        return cls(engine(bundle), store, previous=before, shadow=aside, policy=policy, cascade=cascade)

    @property
    def bundle(self) -> Bundle:
        """The bundle that ranks."""
        return self._engine.bundle

    @property
    def store(self) -> DeviceStore:
        """The device store behind this reranker."""
        return self._store

    def rank(
        self,
        candidates: Candidates,
        *,
        context: Mapping[str, Any] | None = None,
        k: int | None = None,
        deadline_ms: float | None = None,
        policy: Policy | None = None,
    ) -> Slate:
        """Order ``candidates``, best first, and keep the first ``k``.

        Nothing but bad input fails the call: a stage that raises, or would not
        end before the deadline, is left out; the order degrades step by step
        (the cascade's, the previous bundle's, the one given), and the slate
        says so. The policy's filters hold on every such path.

        Args:
            candidates: Mappings, one a candidate, or columns of equal length; each with ``id``. At most
                ``candidates.MAX_CANDIDATES``; those past the bundle's largest slate are chosen by the cascade.
            context: Values of the context features.
            k: How many items to return; all by default.
            deadline_ms: Stages that would end later, by the time they took on this device so far, are left out.
            policy: Rules for this call, on top of the bundle's and the app's.

        Raises:
            InputError: The candidates don't fit the schema, or ``k`` or ``deadline_ms`` is negative.
        """
        started = time.perf_counter()
        if k is not None and not (isinstance(k, int | np.integer) and k >= 0):
            raise InputError(f"k: expected a whole number of 0 or more, got {k!r:.80}")
        if deadline_ms is not None and not (is_number(deadline_ms) and deadline_ms >= 0):
            raise InputError(f"deadline_ms: expected 0 or more, got {deadline_ms!r:.80}")
        rules = self._policy if policy is None else self._policy.followed_by(policy)
        trace = Trace(self._latencies, deadline_ms, started)
        request = Request(candidates, context, k, rules, time.time())
        outcome = self._pipeline.run(request, self._personal, trace)
        ranking, order = outcome.ranking, outcome.order[:k]
        slate = Slate(
            items=_items(outcome, order),
            bundle=ranking.engine.name,
            stages=tuple(trace.stages),
            omitted=trace.omitted,
            fallback=outcome.fallback,
            given_up=outcome.given_up,
            filtered=len(outcome.read.ids) - len(ranking.columns.ids),
            latency_ms=trace.elapsed_ms(),
            _behind=Feedback(self, ranking, order, outcome.read),
        )
        self._meter.slate(slate, outcome.read)
        if self._aside is not None and ranking.scores is not None:
            self._compare(request, outcome)
        return slate

    def observe(self, events: Sequence[Event]) -> None:
        """Keep engagements that did not come from a slate, oldest first.

        Raises:
            InputError: An event is not one; none is kept then.
            StoreError: They could not be kept.
        """
        self.keep("observed", list(events), lambda _: None)

    def keep(self, kind: str, events: Sequence[Event], also: Callable[[DeviceStore], None]) -> None:
        """Keep ``events`` and what ``also`` writes, both or neither; ``kind`` is counted. A slate's feedback uses it.

        Raises:
            InputError: An event is not one.
            StoreError: They could not be kept.
        """
        with self._recording:
            with self._store.together():
                also(self._store)
                if events:
                    self._store.record(events)

            def remember(kept: bool) -> None:  # noqa: FBT001  (as the store tells it)
                for person in self._people if kept and events else ():
                    person.add(events)

            self._store.settled(remember)
        self._meter.feedback(kind)

    def personalise(self, params: Params | None) -> None:
        """Rank with ``params`` from now on, and after a restart; None goes back to the bundle's own.

        Raises:
            InputError: They are not finite, or not the bundle's trainable parameters.
        """
        if params is not None:
            found = {name: np.shape(value) for name, value in params.items()}
            expected = {parameter.name: parameter.shape for parameter in self.bundle.manifest.trainable}
            if found != expected or not all(np.isfinite(value).all() for value in params.values()):
                raise InputError(f"params: expected finite {expected}, got {found}")
            params = {name: np.asarray(params[name], np.float32) for name in expected}

        def rank_with(kept: bool) -> None:  # noqa: FBT001  (as the store tells it)
            if kept:
                self._personal = params

        with self._recording:
            self._store.keep_personal(self._engine.bundle.digest, params)
            self._store.settled(rank_with)

    def learn(self, *, budget_s: float, eta: float = 1.0, progress: Callable[[float], None] | None = None) -> FitResult:
        """Train personal parameters on the store's own slates, and rank with them where they proved better.

        Args:
            budget_s: Wall time that it may take, seconds.
            eta: How fast attention falls with the position, where a slate has no propensities of its own; 0 is
                evenly, 1 as 1 / (1 + position).
            progress: Told how far it is, 0 to 1.

        Raises:
            BundleError: The bundle ships no train model.
            ModelError: The model failed.
            StoreError: The store can't be used.
        """
        from pocketrank.learner import Learner

        found = Learner(self.bundle, eta=eta).fit(self._store, budget_s=budget_s, progress=progress)
        with self._recording:
            self._personal = self._store.personal(self._engine.bundle.digest)
        return found

    def undo_learning(self) -> None:
        """Rank as before the last result of ``learn`` that was kept.

        Raises:
            StoreError: The store can't be used.
        """
        from pocketrank.learner import Learner

        with self._recording:
            self._personal = Learner(self.bundle).undo(self._store)

    def forget(self) -> None:
        """Wipe the store, and rank from now on as on a new device.

        Raises:
            StoreError: As ``DeviceStore.wipe``.
        """
        with self._recording:
            for person in self._people:
                person.forget()
            self._personal = None
            self.generation += 1
            self._store.wipe()

    @property
    def shadow(self) -> Shadow | None:
        """What compares the shadow bundle, where there is one; its ``drain`` waits for the slates under way."""
        return None if self._aside is None else self._aside[0]

    def stats(self) -> Stats:
        """Counts since this reranker was made; nothing in them is of the person."""
        try:
            size = self._store.size()
        except StoreError:
            size = None
        agreement = None if self.shadow is None else self.shadow.agreement()
        return self._meter.read(self._engine.name, size, agreement, set_aside=self._store.set_aside is not None)

    def _compare(self, request: Request, outcome: Outcome) -> None:
        """Let the shadow rank the same candidates; its order and the model's own are compared, before any policy."""
        assert self._aside is not None
        shadow, engine, person = self._aside
        ids = outcome.ranking.columns.ids
        try:
            columns = read_again(engine, request, outcome.ranking)
            shadow.offer(
                [ids[i] for i in outcome.ranking.order],
                lambda: [ids[i] for i in score_again(engine, person, columns).order],
            )
        except Exception:  # noqa: BLE001  (values that don't fit its schema, no thread to be had: the slate stands)
            shadow.fail()


def _items(outcome: Outcome, order: list[int]) -> tuple[RankedItem, ...]:
    ranking, reasons = outcome.ranking, outcome.reasons
    ids = ranking.columns.ids
    scores: list[float | None] = [None] * len(ids) if ranking.scores is None else ranking.scores.tolist()
    if ranking.scored is not None and len(ranking.scored) < len(ids):
        seen = set(ranking.scored)
        scores = [score if i in seen else None for i, score in enumerate(scores)]
    why = [reasons.get(i, ()) for i in order] if reasons else repeat(())
    rows = zip([ids[i] for i in order], [scores[i] for i in order], range(len(order)), why, strict=False)
    # Past the constructor of a named tuple, which is written in Python: three times as fast.
    return tuple(map(tuple.__new__, repeat(RankedItem), rows))


def _vectors(engine: Engine) -> bytes | None:
    return engine.bundle.files.get(VECTORS)
