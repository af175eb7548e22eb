"""Logs replayed in time order through the SDK's own features, so that training sees what a device would compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError
from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, ItemVectors, profile
from pocketrank.schema import Schema
from pocketrank.store import DEFAULT_LIMITS, Event, Limits

Retrieve = Callable[[Iterable[str]], dict[str, Any]]
"""Items that were engaged with to candidates as columns: the first stage."""


@dataclass(frozen=True)
class Visit:
    """A moment at which a slate was shown.

    Attributes:
        at: How many events came before it.
        until: What follows up to this event came of it.
        context: What the app knew of the session.
        now_s: Unix time of the moment; by default that of the event before it, or 0 where there is none.
    """

    at: int
    until: int
    context: Mapping[str, Any] = field(default_factory=dict)
    now_s: float | None = None


@dataclass(frozen=True)
class Slates:
    """Slates to train or measure on.

    Attributes:
        features: float32 ``[s, n, d]``; rows of padding are 0.
        labels: float32 ``[s, n]``; 1 where the candidate was relevant.
        mask: float32 ``[s, n]``.
        relevant: int ``[s]``; how many relevant items there were in all, retrieved or not.
    """

    features: Array
    labels: Array
    mask: Array
    relevant: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """How many slates there are."""
        return len(self.features)

    def where(self, rows: npt.NDArray[np.bool_]) -> Slates:
        """The slates of ``rows``, bool ``[s]``."""
        return Slates(self.features[rows], self.labels[rows], self.mask[rows], self.relevant[rows])

    @classmethod
    def joined(cls, parts: Sequence[Slates]) -> Slates:
        """All slates of ``parts``, which have the same ``n`` and ``d``."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def visits(history: Sequence[Event], cuts: Sequence[float], *, min_events: int = 5) -> list[Visit]:
    """Cut a history at shares of its length into visits whose windows don't overlap; the last ends with the history.

    A visit with fewer than ``min_events`` before it, or an empty window, is left out.
    """
    places = [int(share * len(history) + 1e-9) for share in cuts]
    spans = zip(places, [*places[1:], len(history)], strict=True)
    return [Visit(at, until) for at, until in spans if min_events <= at < until]


def replay(  # noqa: PLR0913  (a person's log, and how to read it)
    history: Sequence[Event],
    times: Sequence[Visit],
    retrieve: Retrieve,
    schema: Schema,
    vectors: ItemVectors | None,
    *,
    relevant: float,
    private: bool = True,
    utc_offset_s: float = 0.0,
    limits: Limits = DEFAULT_LIMITS,
) -> Slates:
    """The slates that one person would have been shown at ``times``, with what came of them.

    Args:
        history: The person's events, oldest first, what was shown among them.
        times: Moments within ``history``.
        retrieve: The first stage.
        schema: What to compute.
        vectors: Item vectors, where the schema needs them.
        relevant: Engagements valued so high are relevant.
        private: False computes device features as on a device without any event.
        utc_offset_s: What the person's local time is ahead of UTC.
        limits: How many events the person's device store keeps; its limits of age and bytes are not replayed.

    Guarantees:
        Features equal, bit for bit, those of a device that has seen the same events.

    Raises:
        InputError: A visit's window reaches past ``history``, so that a label would come from elsewhere.
    """
    slates = []
    unlimited = dataclasses.replace(limits, max_events=len(history), max_shown=len(history))
    everything = History.of(history, schema, vectors, unlimited)
    for visit in times:
        if not 0 <= visit.at < visit.until <= len(history):
            raise InputError(f"{visit}: reaches outside a history of {len(history)} events; its labels would leak")
        before, window = history[: visit.at], history[visit.at : visit.until]
        now_s = visit.now_s if visit.now_s is not None else before[-1].at_s if before else 0.0
        known = profile(schema, everything.first(visit.at if private else 0, limits))
        found = retrieve(event.item for event in before if event.action == "engaged")
        columns = parse(found, schema, visit.context, now_s=now_s, utc_offset_s=utc_offset_s)
        liked = {event.item for event in window if event.action == "engaged" and event.value >= relevant}
        labels = np.array([item in liked for item in columns.ids], dtype=np.float32)
        slates.append((encode(columns, schema, known, vectors), labels, len(liked)))
    n = max((len(labels) for _, labels, _ in slates), default=0)
    features = np.zeros((len(slates), n, len(schema.columns)), np.float32)
    labels, mask = np.zeros((len(slates), n), np.float32), np.zeros((len(slates), n), np.float32)
    for row, (encoded, outcome, _) in enumerate(slates):
        features[row, : len(outcome)], labels[row, : len(outcome)], mask[row, : len(outcome)] = encoded, outcome, 1.0
    return Slates(features, labels, mask, np.array([count for *_, count in slates], dtype=np.int64))
