"""The device store: what was shown and what came of it, in one SQLite file that never leaves the device.

One writer, write-ahead log, every change in a transaction: a kill at any point
loses nothing that a call had returned from. Age, rows and bytes are bounded;
the oldest go first. With a key of the app, what is kept is encrypted.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Final, TypeVar

import numpy.typing as npt

from pocketrank.bundle import load_arrays, save_arrays
from pocketrank.errors import InputError, StoreError
from pocketrank.store import tables
from pocketrank.store.encryption import Cipher, Clear, check_key
from pocketrank.store.file import MEMORY, StoreFile
from pocketrank.store.opening import prepare
from pocketrank.store.records import (
    CLICK,
    DEFAULT_LIMITS,
    Array,
    Event,
    Impression,
    Limits,
    StoreSize,
    decode_event,
    decode_impression,
    decode_outcome,
    decoding,
    encode_event,
    encode_impression,
    encode_outcome,
)

# Shares of Limits.max_bytes. While a transaction changes every page (a wipe), the log holds all that the file does.
_TABLES_SHARE: Final = 5 / 16
_CALL_SHARE: Final = 1 / 16
"""Of the contents of one call; on pages they may take twice that."""
_FILE_SHARE: Final = _TABLES_SHARE + 2 * _CALL_SHARE
_ROW_BYTES: Final = 64
"""What a row takes besides its content, at most: seal, tag and header."""
_PARAMS_SHARE: Final = 1 / 32
_LOG_SHARE: Final = 1 / 16
_LOOK_SHARE: Final = 1 / 64
"""So much may be written before the bounds are looked at again..."""
_LOOK_ROWS: Final = 128
"""... and so many rows."""

_T = TypeVar("_T")


class DeviceStore:
    """Events, impressions and personal parameters of one person on one device; threads may share it."""

    def __init__(
        self,
        path: str | Path = MEMORY,
        *,
        key: bytes | None = None,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or create the store at ``path``; ``":memory:"`` keeps nothing.

        A device store that is damaged is set aside and a fresh one is begun; ``set_aside`` names it. Any other file at
        ``path`` is refused, and neither changed nor moved.

        Args:
            path: The file; its log lies beside it.
            key: 32 bytes that the app keeps in the system's key store; what is kept is encrypted with it.
            limits: How much is kept.
            clock: Unix time; bounds what a wrongly dated event can do to the age of others.

        Raises:
            StoreError: The file can't be opened, is not a store, was written by a newer version, or is encrypted with
                another key or none; it is left as it was.
            InputError: The key is not one.
            ExtraMissingError: There is a key, and cryptography is missing.
        """
        if key is not None:
            check_key(key)
        self.path = str(path)
        self.limits = limits
        self._key = key
        self._clock = clock
        self._cipher: Cipher = Clear()
        self._rows_left = 0
        self._bytes_left = 0
        self._numbered = 0
        """Largest number of an impression that was given out; a fresh file goes on from it."""
        self._file = StoreFile(self.path, self._prepare, self._share(_LOG_SHARE))
        self.lock: Final = self._file.lock  # held by every call; a thread that holds it keeps the others out
        self.settled: Final = self._file.settled  # tells whether a group of calls was kept

    @property
    def set_aside(self) -> Path | None:
        """Where a damaged file was moved when the store was opened or used; None where none was."""
        return self._file.set_aside

    def close(self) -> None:
        """Close the file; the store can't be used afterwards."""
        self._file.close()

    # --- events

    def record(self, events: Iterable[Event]) -> None:
        """Keep ``events``, in order, all or none; of more than the limits allow, the newest.

        Raises:
            InputError: An event is not one (as ``records.encode_event`` says), or takes more than a sixteenth of
                ``max_bytes``; none is kept.
            StoreError: They could not be kept.
        """
        rows = [(encode_event(event), tables.day(event.at_s), int(event.action == "shown")) for event in events]
        most = self._share(_CALL_SHARE)
        for content, *_ in rows:
            _check_size("event", content, most)
        sizes = accumulate(len(content) + _ROW_BYTES for content, *_ in reversed(rows))
        rows = rows[len(rows) - sum(1 for _ in takewhile(lambda size: size <= most, sizes)) :]

        def write(db: sqlite3.Connection) -> None:
            seal = self._cipher.seal
            db.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                [
                    (number, day, shown, seal(content, tables.place("event", number, day, shown)))
                    for number, (content, day, shown) in enumerate(rows, tables.next_event(db))
                ],
            )

        if rows:
            self._write(write, rows=len(rows), size=sum(len(content) for content, *_ in rows))

    def events(self) -> list[Event]:
        """All events, oldest first."""

        def find(db: sqlite3.Connection) -> list[Event]:
            rows = db.execute(tables.EVENTS, self._bounds(db)).fetchall()
            unseal, place = self._cipher.unseal, tables.place
            with decoding():
                return [
                    decode_event(unseal(content, place("event", number, day, shown)), "shown" if shown else "engaged")
                    for number, day, shown, content in rows
                ]

        return self._file.read(find)

    # --- impressions

    def record_impression(
        self,
        items: Sequence[str],
        features: Array,
        *,
        at_s: float,
        bundle: str,
        scores: npt.ArrayLike | None = None,
        propensities: npt.ArrayLike | None = None,
        number: int | None = None,
    ) -> int:
        """Keep a slate that was shown; returns its number, which ``record_outcome`` takes.

        Args:
            items: Ids in the order shown; n of them.
            features: ``[n, d]``, in that order.
            at_s: Unix time.
            bundle: Digest of the bundle that ranked.
            scores: ``[n]``, NaN where the model gave none.
            propensities: ``[n]``, above 0 and at most 1.
            number: Of an impression that this one takes the place of; its outcomes stay. One that has been dropped
                comes back under a number of its own, without them.

        Raises:
            InputError: An array has another shape, a propensity is out of range, the time is not finite, or all of it
                takes more than a sixteenth of ``max_bytes``.
            StoreError: It could not be kept.
        """
        content = encode_impression(items, features, at_s=at_s, bundle=bundle, scores=scores, propensities=propensities)
        _check_size("impression", content, self._share(_CALL_SHARE))
        day = tables.day(at_s)

        def write(db: sqlite3.Connection) -> int:
            kept = number
            if kept is None or not tables.has_impression(db, kept, self._bounds(db)):
                kept = self._numbered = max(tables.next_impression(db), self._numbered + 1)
            sealed = self._cipher.seal(content, tables.place("impression", kept, day))
            db.execute(tables.KEEP_IMPRESSION, (kept, day, sealed))
            return kept

        return self._write(write, size=len(content))

    def record_outcome(self, impression: int, item: str, label: float, *, kind: str = CLICK) -> None:
        """Keep what came of ``item`` in a shown slate; the last word of a kind counts.

        An impression that has been dropped in the meantime takes no outcome.

        Args:
            impression: Number that ``record_impression`` gave.
            item: Id of an item of it.
            label: 0 to 1; seconds for "dwell".
            kind: "click", "skip", "dwell" or the app's own: lower-case letters, digits and ``_``, at most 32.

        Raises:
            InputError: The label or the kind is out of range.
            StoreError: It could not be kept.
        """
        content = encode_outcome(item, kind, label)
        _check_size("outcome", content, self._share(_CALL_SHARE))

        def write(db: sqlite3.Connection) -> None:
            tag = self._cipher.tag(tables.outcome_name(impression, kind, item))
            sealed = self._cipher.seal(content, tables.place("outcome", impression, tag))
            db.execute(
                "INSERT INTO outcomes SELECT id, ?, ? FROM impressions WHERE id = ? "
                "ON CONFLICT DO UPDATE SET content = excluded.content",
                (tag, sealed, impression),
            )

        self._write(write, size=len(content))

    def impressions(self) -> list[Impression]:
        """All impressions, oldest first, with their outcomes."""

        def find(db: sqlite3.Connection) -> list[Impression]:
            shown = db.execute(tables.IMPRESSIONS, self._bounds(db)).fetchall()
            rows = db.execute("SELECT impression, tag, content FROM outcomes").fetchall()
            unseal, place = self._cipher.unseal, tables.place
            outcomes: dict[int, dict[str, dict[str, float]]] = {}
            with decoding():
                for number, tag, content in rows:
                    item, kind, value = decode_outcome(unseal(content, place("outcome", number, tag)))
                    outcomes.setdefault(number, {}).setdefault(kind, {})[item] = value
                return [
                    decode_impression(unseal(content, place("impression", number, day)), outcomes.get(number, {}))
                    for number, day, content in shown
                ]

        return self._file.read(find)

    # --- learning

    def personal(self, bundle: str) -> dict[str, Array] | None:
        """Personal parameters that were learned on the bundle with this digest, if any."""
        return self._file.read(lambda db: self._params(db, bundle))

    def keep_personal(self, bundle: str, params: Mapping[str, Array] | None) -> None:
        """Replace the personal parameters of ``bundle``; None forgets them. What was before can be had back once.

        Raises:
            InputError: They take more than a thirty-second of ``max_bytes``.
            StoreError: They could not be kept; the old ones stay.
        """
        data = None if params is None else save_arrays(params)
        _check_size("params", data or b"", self._share(_PARAMS_SHARE))

        def write(db: sqlite3.Connection) -> None:
            before = tables.bundle_content(db, "personal", self._cipher, bundle, "content")
            tables.replace_bundle(db, "personal", self._cipher, bundle, {"content": data, "before": before})

        self._write(write, size=2 * len(data or b""))

    def undo_personal(self, bundle: str) -> dict[str, Array] | None:
        """Go back to the parameters from before the last ``keep_personal``, and return them; None where none were.

        Undoing twice goes no further back.
        """

        def write(db: sqlite3.Connection) -> dict[str, Array] | None:
            before = tables.bundle_content(db, "personal", self._cipher, bundle, "before")
            tables.replace_bundle(db, "personal", self._cipher, bundle, {"content": before, "before": before})
            return self._params(db, bundle)

        return self._write(write)

    def progress(self, bundle: str) -> bytes | None:
        """What was kept of a training run on ``bundle`` that has not come to its end, if anything."""
        return self._file.read(lambda db: tables.bundle_content(db, "progress", self._cipher, bundle, "content"))

    def keep_progress(self, bundle: str, data: bytes | None) -> None:
        """Keep ``data`` of a training run on ``bundle`` that is to be resumed; None forgets it.

        Raises:
            InputError: It takes more than a thirty-second of ``max_bytes``.
            StoreError: It could not be kept; the old stays.
        """
        _check_size("progress", data or b"", self._share(_PARAMS_SHARE))

        def write(db: sqlite3.Connection) -> None:
            tables.replace_bundle(db, "progress", self._cipher, bundle, {"content": data})

        self._write(write, size=len(data or b""))

    def _params(self, db: sqlite3.Connection, bundle: str) -> dict[str, Array] | None:
        data = tables.bundle_content(db, "personal", self._cipher, bundle, "content")
        with decoding():
            return None if data is None else load_arrays(data)

    # --- whole

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make the calls inside one transaction: all are kept, or none. Other threads wait for it.

        Raises:
            StoreError: One of the calls could not be kept, so that none was, even if its own error was caught.
        """
        try:
            with self._file.together():
                yield
        except BaseException:
            self._rows_left = 0
            raise

    def size(self) -> StoreSize:
        """How much there is."""
        found = self._file.read(lambda db: tables.size(db, self._bounds(db)))
        if self.path != MEMORY:
            found = replace(found, bytes=sum(_size(Path(self.path + suffix)) for suffix in ("", "-wal", "-shm")))
        return found

    def wipe(self) -> None:
        """Forget everything, overwriting it in the file, and delete files that were set aside.

        Raises:
            StoreError: It could not be done, or another process reads the file right now, so that its log still holds
                what was forgotten; wipe again.
        """

        def shrink(db: sqlite3.Connection) -> bool:
            with tables.transaction(db):
                tables.empty(db)
            db.execute("VACUUM")
            return bool(db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

        busy = self._file.outside(shrink)
        self._file.forget_aside()
        if busy:
            raise StoreError(f"{self.path}: forgotten, but another process is reading the file; wipe again")

    # --- bounds

    def _prepare(self, db: sqlite3.Connection) -> None:
        self._cipher = prepare(db, self.path, self._key)
        self._rows_left = 0
        if tables.file_bytes(db) > self._share(_FILE_SHARE):
            with tables.transaction(db):
                self._look(db, 0)
            db.execute("VACUUM")
        # A last guard: whatever the estimates miss is a full disk to SQLite, and nothing of the call is kept.
        tables.limit_file(db, self._share(_FILE_SHARE))

    def _write(self, work: Callable[[sqlite3.Connection], _T], *, rows: int = 1, size: int = 0) -> _T:
        """Do ``work``, which adds so many rows of so many bytes, after what has to go for it."""
        size += rows * _ROW_BYTES

        def write(db: sqlite3.Connection) -> _T:
            self._rows_left -= rows
            self._bytes_left -= size
            if self._rows_left < 0 or self._bytes_left < 0:
                self._look(db, size)
                self._rows_left, self._bytes_left = _LOOK_ROWS - rows, self._share(_LOOK_SHARE) - size
            return work(db)

        try:
            return self._file.change(write)
        except BaseException:
            self._rows_left = 0
            raise

    def _look(self, db: sqlite3.Connection, size: int) -> None:
        """Hold the tables to their limits, with room for ``size`` bytes more."""
        tables.trim(db, self._bounds(db))
        tables.make_room(db, min(self._share(_TABLES_SHARE), self._share(_FILE_SHARE) - 2 * size))

    def _bounds(self, db: sqlite3.Connection) -> dict[str, int]:
        return tables.bounds(db, self.limits, self._clock())

    def _share(self, part: float) -> int:
        return int(part * self.limits.max_bytes)


def _check_size(name: str, data: bytes, most: int) -> None:
    if len(data) + _ROW_BYTES > most:
        raise InputError(f"{name}: expected at most {most} bytes, got {len(data)}; raise Limits.max_bytes")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process may take the log away at any moment
        return 0
