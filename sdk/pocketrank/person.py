"""What one engine knows of the person: the history in memory, and the profile that ranking reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pocketrank.features.profile import History, ItemVectors, Profile, profile
from pocketrank.forks import Lock
from pocketrank.schema import Schema
from pocketrank.store import DEFAULT_LIMITS, Event, Limits


class Person:
    """A history that grows, and its profile, made anew only where there was an event since the last slate.

    Nothing here waits for the disk.
    """

    def __init__(
        self, schema: Schema, vectors: ItemVectors | None, events: Sequence[Event], limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Take ``events``, oldest first; no more of them are held than ``limits`` allow."""
        self._schema = schema
        self._vectors = vectors
        self._lock = Lock()
        self._limits = limits
        self._history = History.of(events, schema, vectors, limits)
        self._profile: Profile | None = None

    def add(self, events: Iterable[Event]) -> None:
        """What happened since, oldest first."""
        with self._lock:
            self._history.add(list(events))
            self._profile = None

    def forget(self) -> None:
        """Know nothing again."""
        with self._lock:
            self._history = History.of([], self._schema, self._vectors, self._limits)
            self._profile = None

    def profile(self) -> Profile:
        """The state of every device feature after all events so far."""
        with self._lock:
            if self._profile is None:
                self._profile = profile(self._schema, self._history)
            return self._profile
