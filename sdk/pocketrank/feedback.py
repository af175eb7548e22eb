"""A slate's way back to the store; the impression is kept with the first word of its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pocketrank.errors import InputError
from pocketrank.features.candidates import Columns
from pocketrank.features.profile import Array
from pocketrank.scoring import Ranking
from pocketrank.store import Action, DeviceStore, Event

if TYPE_CHECKING:
    from pocketrank.explanation import Explanation
    from pocketrank.reranker import Reranker


class Feedback:
    """What an app may say of one slate."""

    def __init__(self, reranker: Reranker, ranking: Ranking, order: list[int], read: Columns) -> None:
        """Keep what made the slate.

        ``order`` holds the slate's items, as indices among the candidates of ``ranking``. ``read`` holds the candidates
        as the schema of the bundle reads them that was asked, whichever ranked in the end.
        """
        self._reranker = reranker
        self._generation = reranker.generation
        self._ranking = ranking
        self._order = order
        self._read = read
        self._shown = 0
        """How many of the first items were on the screen; 0 where the app has not said it."""
        self._propensities: Sequence[float] | None = None
        self._impression: int | None = None
        self._lock = reranker.store.lock

    def shown(self, count: int, propensities: Sequence[float] | None, at_s: float) -> None:
        """The first ``count`` items were on the screen; those said so before are not counted again."""
        ids = self._ranking.columns.ids
        with self._lock:
            events = [self._event(ids[i], at_s, action="shown") for i in self._order[self._shown : count]]
            self._keep("shown", events, at_s, shown=count, propensities=propensities)

    def engaged(self, item: str, value: float, label: float, at_s: float) -> None:
        """The person engaged with ``item``."""
        self._keep("clicked", [self._event(item, at_s, value=value)], at_s, outcome=(item, "click", label))

    def outcome(self, item: str, kind: str, value: float, at_s: float) -> None:
        """Something else came of ``item``."""
        self._keep({"skip": "skipped", "dwell": "dwelled"}.get(kind, "labelled"), [], at_s, outcome=(item, kind, value))

    def explain(self, item: str) -> Explanation:
        """Why ``item`` has its score.

        Raises:
            InputError: No model scored it.
            ModelError: The model failed.
        """
        from pocketrank.explanation import explain

        ranking, engine = self._ranking, self._ranking.engine
        i = ranking.columns.ids.index(item)
        if ranking.features is None or ranking.scored is None or i not in ranking.scored:
            raise InputError(f"item {item!r}: no model scored it; see the slate's fallback and omitted stages")
        return explain(
            ranking.scored.index(i),
            ranking.features[ranking.scored],
            engine.baseline,
            engine.schema,
            engine.scorer,
            ranking.params,
            item=item,
        )

    def _event(self, item: str, at_s: float, *, value: float = 1.0, action: Action = "engaged") -> Event:
        i = self._read.ids.index(item)
        return Event(item, at_s, value, self._read.event_fields(i), self._read.embeddings(i), action)

    def _keep(
        self,
        kind: str,
        events: Sequence[Event],
        at_s: float,
        *,
        outcome: tuple[str, str, float] | None = None,
        shown: int = 0,
        propensities: Sequence[float] | None = None,
    ) -> None:
        with self._lock:
            number, known = self._impression, self._propensities
            shown = max(shown, self._shown)
            if outcome is not None and shown:  # what something came of was on the screen, too
                shown = max(shown, 1 + [self._ranking.columns.ids[i] for i in self._order].index(outcome[0]))
            if propensities is not None or shown != self._shown:
                known = propensities if propensities is not None and len(propensities) == shown else None

            def write(store: DeviceStore) -> None:
                nonlocal number
                # What was known before all was forgotten may not come back.
                if self._ranking.features is None or self._generation != self._reranker.generation:
                    return
                if number is None or (shown, known) != (self._shown, self._propensities):
                    number = self._write(store, self._ranking.features, at_s, shown, known)
                if outcome is not None:
                    item, name, value = outcome
                    store.record_outcome(number, item, value, kind=name)

            self._reranker.keep(kind, events, write)
            before = self._impression, self._shown, self._propensities
            self._impression, self._shown, self._propensities = number, shown, known

            def go_back(kept: bool) -> None:  # noqa: FBT001  (as the store tells it)
                if not kept:
                    self._impression, self._shown, self._propensities = before

            self._reranker.store.settled(go_back)

    def _write(
        self, store: DeviceStore, features: Array, at_s: float, shown: int, propensities: Sequence[float] | None
    ) -> int:
        """The items that were on the screen; all, where the app has not said it."""
        ranking, order = self._ranking, self._order[: shown or None]
        return store.record_impression(
            [ranking.columns.ids[i] for i in order],
            features[order],
            at_s=at_s,
            bundle=ranking.engine.bundle.digest,
            scores=None if ranking.scores is None else ranking.scores[order].tolist(),
            propensities=propensities,
            number=self._impression,
        )
