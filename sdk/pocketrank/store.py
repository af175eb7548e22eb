"""The device store: what was shown and what came of it, in one SQLite file that never leaves the device.

One writer, write-ahead log, every change in a transaction: a kill at any point
loses nothing that a call had returned from. Rows are bounded; the oldest go first.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import load_arrays, save_arrays
from pocketrank.errors import InputError, StoreError

SCHEMA_VERSION: Final = 1
MAX_EVENTS: Final = 5_000
MAX_IMPRESSIONS: Final = 100
MAX_VALUE: Final = 1e9
"""Largest value of an event either way; sums of such stay finite in float32."""

_APPLICATION: Final = 0x506F5261
"""Marks the file as ours (SQLite's application_id)."""
_BUSY_S: Final = 5.0

_TABLES: Final = """
CREATE TABLE events (id INTEGER PRIMARY KEY, at_s REAL NOT NULL, item TEXT NOT NULL, value REAL NOT NULL,
    fields TEXT NOT NULL);
CREATE TABLE impressions (id INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, bundle TEXT NOT NULL,
    items TEXT NOT NULL, features BLOB NOT NULL, width INTEGER NOT NULL);
CREATE TABLE outcomes (impression INTEGER NOT NULL REFERENCES impressions(id) ON DELETE CASCADE, item TEXT NOT NULL,
    label REAL NOT NULL, PRIMARY KEY (impression, item)) WITHOUT ROWID;
CREATE TABLE personal (bundle TEXT PRIMARY KEY, params BLOB NOT NULL);
"""


@dataclass(frozen=True)
class Event:
    """One engagement of the person with an item.

    ``value`` says how much it was worth, in the app's own unit (a rating, a
    dwell time, 1 for a click); ``fields`` are the item's categories.
    """

    item: str
    at_s: float
    value: float = 1.0
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Impression:
    """A slate that was shown, with what came of it.

    ``features`` float32 ``[n, d]`` as they were at that moment, in the order
    of ``items``; ``labels`` float32 ``[n]``, 0 where nothing came back.
    """

    items: tuple[str, ...]
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]
    at_s: float
    bundle: str


class DeviceStore:
    """Events, impressions and personal parameters of one person on one device."""

    def __init__(self, path: str | Path = ":memory:") -> None:
        """Open or create the store at ``path``; ``":memory:"`` keeps nothing.

        Raises:
            StoreError: The file can't be opened, is not a store, or was written by a newer version.
        """
        self.path = str(path)
        self._lock = threading.Lock()
        try:
            if self.path != ":memory:":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path}: can't be used as a device store ({error}); choose another path") from error
        try:
            self._prepare()
        except BaseException as error:
            self._db.close()
            if not isinstance(error, sqlite3.Error):
                raise
            raise StoreError(f"{self.path}: can't be used as a device store ({error}); choose another path") from error

    def close(self) -> None:
        """Close the file; the store can't be used afterwards."""
        self._db.close()

    def _prepare(self) -> None:
        """Make the tables in an empty file; refuse another application's file before anything is written to it."""
        # In this order: whoever makes the tables at this moment marks the file in the same transaction.
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (owner,) = self._db.execute("PRAGMA application_id").fetchone()
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables and owner != _APPLICATION:
            raise StoreError(f"{self.path}: a database of another application; choose another path")
        if found > SCHEMA_VERSION:
            raise StoreError(f"{self.path}: written by a newer PocketRank (store version {found}); update the SDK")
        self._switch_to_wal()
        self._db.executescript("PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;")
        if found == SCHEMA_VERSION:
            return
        with self._transaction() as db:
            # Another process may have been faster.
            if db.execute("PRAGMA user_version").fetchone() == (0,):
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={_APPLICATION}")
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _switch_to_wal(self) -> None:
        """Wait for others that open the same new file: SQLite's own waiting leaves this switch out."""
        deadline_s = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.01)
            else:
                return

    def record(self, events: Iterable[Event]) -> None:
        """Keep ``events``, in order, all or none.

        Raises:
            InputError: An event has no item, its time is not finite, its value not within ``MAX_VALUE`` of 0, or a
                field is not a sequence of strings.
        """
        rows = []
        for event in events:
            _check(event)
            rows.append((event.at_s, event.item, event.value, json.dumps(dict(event.fields))))
        with self._transaction() as db:
            db.executemany("INSERT INTO events (at_s, item, value, fields) VALUES (?, ?, ?, ?)", rows)
            db.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (MAX_EVENTS,))

    def events(self) -> list[Event]:
        """All events, oldest first."""
        with self._reading() as db:
            rows = db.execute("SELECT item, at_s, value, fields FROM events ORDER BY id").fetchall()
            return [
                Event(item, at_s, value, {name: tuple(values) for name, values in json.loads(fields).items()})
                for item, at_s, value, fields in rows
            ]

    def record_impression(
        self, items: Sequence[str], features: npt.NDArray[np.float32], *, at_s: float, bundle: str
    ) -> int:
        """Keep a slate that was shown; returns its number, which ``record_outcome`` takes.

        Raises:
            InputError: ``features`` is not ``[n, d]``, n the number of ``items``.
        """
        if features.ndim != 2 or len(features) != len(items):
            raise InputError(f"features: expected [{len(items)}, d], got {features.shape}")
        blob = np.ascontiguousarray(features, dtype="<f4").tobytes()
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO impressions (at_s, bundle, items, features, width) VALUES (?, ?, ?, ?, ?)",
                (at_s, bundle, json.dumps(list(items)), blob, features.shape[1]),
            )
            db.execute("DELETE FROM impressions WHERE id <= (SELECT max(id) FROM impressions) - ?", (MAX_IMPRESSIONS,))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def record_outcome(self, impression: int, item: str, label: float) -> None:
        """Keep what came of ``item`` in a shown slate: ``label`` from 0 to 1; the last word counts.

        An impression that has been dropped for age in the meantime takes no outcome.
        """
        if not 0.0 <= label <= 1.0:
            raise InputError(f"label: expected 0 to 1, got {label} for item {item!r}")
        with self._transaction() as db:
            db.execute(
                "INSERT INTO outcomes SELECT id, ?, ? FROM impressions WHERE id = ? "
                "ON CONFLICT DO UPDATE SET label = excluded.label",
                (item, label, impression),
            )

    def impressions(self) -> list[Impression]:
        """All impressions, oldest first, with their outcomes."""
        with self._reading() as db:
            shown = db.execute(
                "SELECT id, at_s, bundle, items, features, width FROM impressions ORDER BY id"
            ).fetchall()
            outcomes: dict[int, dict[str, float]] = {}
            for number, item, label in db.execute("SELECT impression, item, label FROM outcomes"):
                outcomes.setdefault(number, {})[item] = label
            found = []
            for number, at_s, bundle, names, blob, width in shown:
                items = tuple(json.loads(names))
                labels = np.array([outcomes.get(number, {}).get(item, 0.0) for item in items], dtype=np.float32)
                features = np.frombuffer(blob, dtype="<f4").reshape(len(items), width)
                found.append(Impression(items, features, labels, at_s, bundle))
            return found

    def personal(self, bundle: str) -> dict[str, npt.NDArray[np.float32]] | None:
        """Personal parameters that were learned on the bundle with this digest, if any."""
        with self._reading() as db:
            row = db.execute("SELECT params FROM personal WHERE bundle = ?", (bundle,)).fetchone()
            return load_arrays(row[0]) if row else None

    def keep_personal(self, bundle: str, params: Mapping[str, npt.NDArray[np.float32]] | None) -> None:
        """Replace the personal parameters of ``bundle``; None forgets them."""
        with self._transaction() as db:
            db.execute("DELETE FROM personal WHERE bundle = ?", (bundle,))
            if params is not None:
                db.execute("INSERT INTO personal VALUES (?, ?)", (bundle, save_arrays(params)))

    def wipe(self) -> None:
        """Forget everything, overwriting it in the file.

        Raises:
            StoreError: It could not be done, or another process reads the file right now, so that its log still holds
                what was forgotten; wipe again.
        """
        with self._transaction() as db:
            db.execute("PRAGMA secure_delete=ON")
            for table in ("events", "impressions", "outcomes", "personal"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608  (our own names)
        with self._reading() as db:
            db.execute("VACUUM")
            (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError(f"{self.path}: forgotten, but another process is reading the file; wipe again")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
                # Besides SQLite's own errors: a damaged page may pass for rows of other types.
                raise StoreError(f"{self.path}: can't be used ({error}); delete the file to start anew") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise StoreError(f"{self.path}: not written ({error}); nothing of this call was kept") from error


def _check(event: Event) -> None:
    fits = isinstance(event.item, str) and event.item and np.isfinite(event.at_s) and abs(event.value) <= MAX_VALUE
    for values in event.fields.values():
        fits = fits and isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)
    if not fits:
        wanted = f"an item, a finite at_s, a value within ±{MAX_VALUE:.0e} and fields of strings"
        raise InputError(f"event: expected {wanted}, got {event}")
