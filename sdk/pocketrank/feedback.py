"""A slate's way back to the store; the impression is kept with the first word of its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from pocketrank.errors import InputError
from pocketrank.scoring import Ranking
from pocketrank.store import DeviceStore, Event
from pocketrank.store_records import Action

if TYPE_CHECKING:
    from pocketrank.explanation import Explanation


class Keeper(Protocol):
    """Writes to the store, and then to what memory holds of the person.

    Attributes:
        generation: How often all was forgotten.
    """

    generation: int

    @property
    def store(self) -> DeviceStore:
        """Where it is kept."""

    def keep(self, kind: str, events: Sequence[Event], also: Callable[[DeviceStore], None]) -> None:
        """Keep ``events``, and in the same transaction what ``also`` writes; ``kind`` is counted."""


class Feedback:
    """What an app may say of one slate; ``slate.Behind`` is its form."""

    def __init__(self, keeper: Keeper, ranking: Ranking, order: list[int]) -> None:
        """``order``: indices of the slate's items among the candidates of ``ranking``, best first."""
        self._keeper = keeper
        self._generation = keeper.generation
        self._ranking = ranking
        self._order = order
        self._impression: int | None = None
        self._lock = keeper.store.lock

    def shown(self, count: int, propensities: Sequence[float] | None, at_s: float) -> None:
        """The first ``count`` items were on the screen."""
        events = [self._event(i, at_s, action="shown") for i in self._order[:count]]
        self._keep("shown", events, at_s, None, count, propensities)

    def engaged(self, item: str, value: float, label: float, at_s: float) -> None:
        """The person engaged with ``item``."""
        i = self._ranking.columns.ids.index(item)
        self._keep("clicked", [self._event(i, at_s, value=value)], at_s, (item, "click", label))

    def outcome(self, item: str, kind: str, value: float, at_s: float) -> None:
        """Something else came of ``item``."""
        self._keep({"skip": "skipped", "dwell": "dwelled"}.get(kind, "labelled"), [], at_s, (item, kind, value))

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

    def _event(self, i: int, at_s: float, *, value: float = 1.0, action: Action = "engaged") -> Event:
        columns = self._ranking.columns
        return Event(columns.ids[i], at_s, value, columns.event_fields(i), columns.embeddings(i), action)

    def _keep(
        self,
        kind: str,
        events: Sequence[Event],
        at_s: float,
        outcome: tuple[str, str, float] | None,
        count: int | None = None,
        propensities: Sequence[float] | None = None,
    ) -> None:
        written = self._impression

        def write(store: DeviceStore) -> None:
            nonlocal written
            if written is None:
                written = self._write_impression(store, at_s, count, propensities)
            if outcome is not None and written is not None and self._generation == self._keeper.generation:
                item, name, value = outcome
                store.record_outcome(written, item, value, kind=name)

        with self._lock:
            written = self._impression
            self._keeper.keep(kind, events, write)
            self._impression = written

    def _write_impression(
        self, store: DeviceStore, at_s: float, count: int | None, propensities: Sequence[float] | None
    ) -> int | None:
        """Nothing where no features could be computed, or where they know of what was forgotten since."""
        ranking, order = self._ranking, self._order[:count]
        if ranking.features is None or self._generation != self._keeper.generation:
            return None
        ids = ranking.columns.ids
        return store.record_impression(
            [ids[i] for i in order],
            ranking.features[order],
            at_s=at_s,
            bundle=ranking.engine.bundle.digest,
            scores=None if ranking.scores is None else ranking.scores[order].tolist(),
            propensities=propensities,
        )
