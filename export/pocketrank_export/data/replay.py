"""Logs replayed in time order through the SDK's own features, so that training sees what a device would compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pocketrank.errors import InputError
from pocketrank.features.candidates import Columns, parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, ItemVectors, profile
from pocketrank.schema import Schema
from pocketrank.store import DEFAULT_LIMITS, Event, Limits
from pocketrank_export.data.slates import Slates

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


class Timeline:
    """The events of one person, oldest first, looked at as a device would have after the first so many of them.

    The limits of age and bytes of its store are not replayed.
    """

    def __init__(
        self, events: Sequence[Event], schema: Schema, vectors: ItemVectors | None, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._schema, self._vectors, self._limits = schema, vectors, limits
        unlimited = dataclasses.replace(limits, max_events=len(events), max_shown=len(events))
        self._everything = History.of(events, schema, vectors, unlimited)

    def features(self, columns: Columns, events: int) -> Array:
        """The model's input for ``columns``, float32 ``[n, d]``, after the first ``events``; none later is looked at.

        Guarantees:
            Equal, bit for bit, to those of a device that has seen the same events.
        """
        known = profile(self._schema, self._everything.first(events, self._limits))
        return encode(columns, self._schema, known, self._vectors)


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
    timeline = Timeline(history, schema, vectors, limits)
    for visit in times:
        if not 0 <= visit.at < visit.until <= len(history):
            raise InputError(f"{visit}: reaches outside a history of {len(history)} events; its labels would leak")
        before, window = history[: visit.at], history[visit.at : visit.until]
        now_s = visit.now_s if visit.now_s is not None else before[-1].at_s if before else 0.0
        found = retrieve(event.item for event in before if event.action == "engaged")
        columns = parse(found, schema, visit.context, now_s=now_s, utc_offset_s=utc_offset_s)
        liked = {event.item for event in window if event.action == "engaged" and event.value >= relevant}
        labels = np.array([item in liked for item in columns.ids], dtype=np.float32)
        slates.append((timeline.features(columns, visit.at if private else 0), labels, len(liked)))
    return Slates.of(
        [features for features, _, _ in slates],
        [labels for _, labels, _ in slates],
        width=len(schema.columns),
        relevant=[count for *_, count in slates],
    )
