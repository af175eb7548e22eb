"""One SQLite file: its connection, its lock and its transactions, and what happens when it is damaged."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from pocketrank.errors import StoreError
from pocketrank.forks import Lock, Part
from pocketrank.store.opening import may_be_store, version
from pocketrank.store.records import DamagedError
from pocketrank.store.tables import roll_back, transaction

MEMORY: Final = ":memory:"
_BUSY_S: Final = 5.0
_CORRUPT: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_FAILURES: Final = (sqlite3.Error, UnicodeDecodeError, MemoryError)
"""What sqlite3 raises; the second where its message quotes a damaged page, the third where one tells of huge rows."""
_BESIDE: Final = ("-wal", "-shm")

T = TypeVar("T")


class StoreFile(Part):
    """A database that is opened when it is needed, and begun anew when it is damaged.

    Every public call takes the lock, which the calling thread may hold already.
    """

    def __init__(self, path: str, prepare: Callable[[sqlite3.Connection], None], log_bytes: int) -> None:
        """Open or create the file at ``path``.

        Args:
            path: ``":memory:"`` keeps nothing.
            prepare: Makes the tables, or refuses the file; called whenever a connection was made.
            log_bytes: The log is written back into the file when it is larger.

        Raises:
            StoreError: The file can't be opened, or ``prepare`` refuses it.
        """
        self.path = path
        self.set_aside: Path | None = None
        self._prepare = prepare
        self._log_bytes = log_bytes
        self.lock = Lock()
        """Held by every call; who holds it keeps other threads out."""
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._closed = False
        self._grouped = False
        self._told: list[Callable[[bool], None]] = []
        """Who wants to know whether the group under way is kept."""
        self._failure: StoreError | None = None
        """Why the group of calls under way can't be kept."""
        self._inherited = False
        """Whether this process was forked while its parent was in the middle of a call."""
        super().__init__()
        with self.lock:
            self.connection()

    def close(self) -> None:
        """Close the file for good."""
        with self.lock:
            self._closed = True
            self._disconnect()

    # --- calls

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` finds, at one moment of the file."""
        return self._run(work, "BEGIN", "can't be read ({}); try again, or delete the file to start anew")

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in one transaction, or in that of the group under way.

        A damaged file is set aside, and ``work`` is done on a fresh one; within a group, the group fails.

        Raises:
            StoreError: It could not be done; nothing of it was kept.
        """
        return self._run(work, "BEGIN IMMEDIATE", "not written ({}); nothing of this call was kept")

    def outside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` outside of any transaction; a damaged file is set aside, and ``work`` is done on a fresh one.

        Raises:
            StoreError: It could not be done, or a group of calls is under way.
        """
        with self.lock:
            if self._grouped:
                raise StoreError(f"{self.path}: not while calls are made together; do it after them")
            try:
                return self._attempt_outside(work)
            except DamagedError:
                self._move_aside()
                return self._attempt_outside(work)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make the calls inside one transaction; other threads wait. A group within a group is part of it.

        Raises:
            StoreError: A call in it failed, or the whole could not be written; nothing of it was kept.
        """
        with self.lock:
            if self._grouped:
                yield
                return
            db = self.connection()
            refusal = "not written ({}); nothing of these calls was kept"
            try:
                db.execute("BEGIN IMMEDIATE")
            except _FAILURES as error:
                raise self._translated(error, refusal, db) from error
            self._grouped, self._failure = True, None
            kept = False
            try:
                yield
                if self._inherited:
                    raise StoreError(
                        f"{self.path}: this process was forked in the middle of calls; open the store anew"
                    )
                if self._failure is not None:
                    raise StoreError(f"{self.path}: {refusal.format('a call failed')}") from self._failure
                try:
                    db.execute("COMMIT")
                except _FAILURES as error:
                    self._failure = self._translated(error, refusal, db)
                    raise self._failure from error
                kept = True
            finally:
                if not self._inherited:  # else the transaction is the parent's, in memory that both share
                    roll_back(db)
                    self._grouped = False
                    told, self._told = self._told, []
                    for tell in told if kept else reversed(told):
                        tell(kept)
                    if isinstance(self._failure, DamagedError):
                        self._move_aside()

    def settled(self, tell: Callable[[bool], None]) -> None:
        """Say whether what was written so far is kept: at once, or when the group of calls under way has ended."""
        with self.lock:
            if self._grouped:
                self._told.append(tell)
            else:
                tell(True)

    def _run(self, work: Callable[[sqlite3.Connection], T], begin: str, refusal: str) -> T:
        with self.lock:
            if self._grouped:
                return self._run_in_group(work, refusal)
            try:
                return self._attempt(work, begin, refusal)
            except DamagedError:
                self._move_aside()
                return self._attempt(work, begin, refusal)

    def _attempt(self, work: Callable[[sqlite3.Connection], T], begin: str, refusal: str) -> T:
        db = self.connection()
        try:
            with transaction(db, begin):
                return work(db)
        except _FAILURES as error:
            raise self._translated(error, refusal, db) from error

    def _run_in_group(self, work: Callable[[sqlite3.Connection], T], refusal: str) -> T:
        if self._failure is not None or self._db is None:
            raise StoreError(f"{self.path}: {refusal.format('a call before it failed')}") from self._failure
        try:
            return work(self._db)
        except _FAILURES as error:
            self._failure = self._translated(error, refusal, self._db)
            raise self._failure from error
        except DamagedError as error:
            self._failure = error
            raise

    def _attempt_outside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        db = self.connection()
        try:
            return work(db)
        except _FAILURES as error:
            raise self._translated(error, "can't be changed ({}); try again", db) from error

    def _translated(self, error: Exception, refusal: str, db: sqlite3.Connection) -> StoreError:
        kind = DamagedError if is_damage(error, db) else StoreError
        return kind(f"{self.path}: {refusal.format(error)}")

    # --- connection

    def connection(self) -> sqlite3.Connection:
        """The connection, made anew where there is none, or where the file is no longer the one that was opened."""
        if self._closed:
            raise StoreError(f"{self.path}: the store is closed; open it again")
        if self._inherited:
            raise StoreError(f"{self.path}: this process was forked in the middle of a call; open the store anew")
        if self._db is not None and self._identity != self._identity_now():
            self._disconnect()
        if self._db is None:
            try:
                self._db = self._connect()
            except DamagedError:
                self._move_aside()
                self._db = self._connect()
            self._identity = self._identity_now()
        return self._db

    def _connect(self) -> sqlite3.Connection:
        refusal = "can't be used as a device store ({}); choose another path"
        try:
            if self.path != MEMORY:
                path = Path(self.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    path.touch(mode=0o600)
                elif not may_be_store(path):
                    raise StoreError(f"{self.path}: not a device store; choose another path (the file is as it was)")
            db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        except (*_FAILURES, OSError) as error:
            raise StoreError(f"{self.path}: {refusal.format(error)}") from error
        # A damaged row may call bytes text that is none; it is to reach those who decode it.
        db.text_factory = lambda data: data.decode(errors="replace")
        try:
            version(db, self.path)
            _switch_to_wal(db)
            (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
            for setting in (
                "synchronous=NORMAL",
                "foreign_keys=ON",
                # What is sorted or vacuumed must not lie in a folder for temporary files.
                "temp_store=MEMORY",
                f"wal_autocheckpoint={max(1, self._log_bytes // page_bytes)}",
                f"journal_size_limit={self._log_bytes}",
            ):
                db.execute(f"PRAGMA {setting}")
            self._prepare(db)
        except _FAILURES as error:
            translated = self._translated(error, refusal, db)
            db.close()
            raise translated from error
        except BaseException:
            db.close()
            raise
        return db

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _identity_now(self) -> tuple[int, int] | None:
        """Which file the path names: another process may have set ours aside."""
        if self.path == MEMORY:
            return None
        try:
            found = os.stat(self.path)  # noqa: PTH116  (on each call; a Path costs more than the call)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    # --- damage

    def _move_aside(self) -> None:
        """Rename a damaged file, unless another process has done so; older ones go."""
        identity, known = self._identity_now(), self._db is not None
        self._disconnect()
        if known and identity != self._identity:
            return
        path = Path(self.path)
        try:
            older = self.files_aside()
            numbers = [int(found.name.rpartition("-")[2]) for found in older if not found.name.endswith(_BESIDE)]
            target = path.with_name(f"{path.name}.corrupt-{max(numbers, default=0) + 1}")
            path.rename(target)
            for suffix in _BESIDE:
                beside = Path(self.path + suffix)
                if beside.exists():
                    beside.rename(f"{target}{suffix}")
            for found in older:
                found.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: damaged, and can't be set aside ({error}); move it away") from error
        self.set_aside = target

    def forget_aside(self) -> None:
        """Delete the damaged files that were set aside."""
        if self.path == MEMORY:
            return
        try:
            for found in self.files_aside():
                found.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: forgotten, but what was set aside is left ({error}); wipe again") from error
        self.set_aside = None

    def files_aside(self) -> list[Path]:
        """Damaged files that were set aside, with what lies beside them."""
        path = Path(self.path)
        start = f"{path.name}.corrupt-"
        names = sorted(found.name for found in path.parent.iterdir() if found.name.startswith(start))
        endings = ((name, name.removeprefix(start)) for name in names)
        return [
            path.with_name(name) for name, end in endings if end.removesuffix("-wal").removesuffix("-shm").isdigit()
        ]

    # --- forks

    def before_fork(self, deadline_s: float) -> None:  # noqa: ARG002  (the lock has waited)
        """Let go of the file; parent and child open it again, each its own way.

        SQLite counts a process's locks in the process's memory, which a child copies, and the system's locks, which it
        doesn't: a connection that was open at the fork would mislead every later one of the child.
        Source: sqlite.org/howtocorrupt.html, section 2.6.
        """
        if self.lock.whole and not self._grouped and self.path != MEMORY:
            self._disconnect()

    def begin_in_child(self) -> None:
        """Refuse to go on with a call that the parent was in the middle of."""
        self._inherited = self._inherited or not self.lock.whole or self._grouped
        self._grouped = False


def is_damage(error: Exception, db: sqlite3.Connection) -> bool:
    """Whether SQLite says that the file itself is not what it was."""
    if isinstance(error, MemoryError):
        try:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
        except _FAILURES:
            return True
    return isinstance(error, UnicodeDecodeError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """Wait for others that open the same new file: SQLite's own waiting leaves this switch out."""
    deadline_s = time.monotonic() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)
        else:
            return
