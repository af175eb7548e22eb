"""Which files are device stores, and how one is begun, brought up to date and unlocked."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Final

import numpy as np

from pocketrank.errors import StoreError
from pocketrank.store.encryption import SALT_BYTES, Cipher, Clear, Sealed
from pocketrank.store.records import (
    CLICK,
    DamagedError,
    Event,
    decoding,
    encode_event,
    encode_impression,
    encode_outcome,
)
from pocketrank.store.tables import (
    APPLICATION,
    OUTCOMES_BEGIN,
    SCHEMA_VERSION,
    TABLES,
    day,
    outcome_name,
    transaction,
)

_CHECK: Final = b"pocketrank"

# SQLite's file format, sqlite.org/fileformat.html: sections 1.3 (header), 1.6 (first page) and 4.1 (log).
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_MARK: Final = slice(68, 92)
_OUR_MARK: Final = APPLICATION.to_bytes(4, "big") + bytes(20)
"""The application_id, and the bytes after it, which are reserved and zero."""
_TABLE_PAGES: Final = (5, 13)
"""What the byte after the header may be."""
_CELLS: Final = slice(103, 105)
"""How many tables and indexes the first page tells of."""
_LARGEST_PAGE: Final = 1 << 16
_SECTOR_BYTES: Final = 512
_LOG_MAGIC: Final = b"\x37\x7f\x06"
_LOG_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24


# --- what is a store


def may_be_store(path: Path) -> bool:
    """Whether a file is a device store or what is left of one; it is only read.

    It is one where any of these holds; all else belongs to somebody:

    - its header bears our mark;
    - it is empty, all zeros (as a power cut leaves files), or begins as a database and ends within the header;
    - it is a database that nobody has marked or made a table in;
    - its first page holds the text of our tables, whatever became of the header;
    - the log beside it holds a first page with our mark.

    Raises:
        OSError: It can't be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.read(_LARGEST_PAGE)
        if first[_MARK] == _OUR_MARK or _is_begun(first) or _holds_our_tables(first, path.stat().st_size):
            return True
        if not any(first) and not any(map(any, iter(lambda: file.read(_LARGEST_PAGE), b""))):
            return True
    return _log_is_ours(path.with_name(f"{path.name}-wal"))


def _is_begun(first: bytes) -> bool:
    if not first.startswith(_MAGIC):
        return False
    return len(first) < _HEADER_BYTES or not (any(first[_MARK]) or any(first[_CELLS]))


def _holds_our_tables(first: bytes, size_bytes: int) -> bool:
    """The text alone stands in source files, too; those have no such byte there and no such size."""
    of_tables = first[_HEADER_BYTES : _HEADER_BYTES + 1] in map(bytes, zip(_TABLE_PAGES))
    return of_tables and size_bytes % _SECTOR_BYTES == 0 and OUTCOMES_BEGIN.encode() in first


def _log_is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as log:
            header = log.read(_LOG_HEADER_BYTES)
            page_bytes = int.from_bytes(header[8:12], "big")
            if not header.startswith(_LOG_MAGIC) or page_bytes < _SECTOR_BYTES:
                return False
            while frame := log.read(_FRAME_HEADER_BYTES + _HEADER_BYTES):
                page, header = int.from_bytes(frame[:4], "big"), frame[_FRAME_HEADER_BYTES:]
                if page == 1 and header[_MARK] == _OUR_MARK:
                    return True
                log.seek(page_bytes - _HEADER_BYTES, os.SEEK_CUR)
    except FileNotFoundError:
        pass
    return False


# --- opening


def version(db: sqlite3.Connection, path: str) -> int:
    """Version of the tables, 0 in an empty file.

    Raises:
        StoreError: The file is another application's, or of a newer version.
        DamagedError: The tables are ours, and the file's mark is not; or there is no such version.
    """
    # In this order: whoever makes the tables at this moment marks the file in the same transaction.
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (owner,) = db.execute("PRAGMA application_id").fetchone()
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if tables and owner != APPLICATION:
        ours = "SELECT count(*) FROM sqlite_master WHERE sql LIKE ?"
        if db.execute(ours, (f"{OUTCOMES_BEGIN}%",)).fetchone() != (0,):
            raise DamagedError(f"{path}: its mark was changed")
        raise StoreError(f"{path}: a database of another application; choose another path")
    if found < 0:
        raise DamagedError(f"{path}: its version is said to be {found}")
    if found > SCHEMA_VERSION:
        raise StoreError(f"{path}: written by a newer PocketRank (store version {found}); update the SDK")
    return int(found)


def prepare(db: sqlite3.Connection, path: str, key: bytes | None) -> Cipher:
    """Make the tables or bring them up to date, and give the cipher that their contents are kept with.

    Raises:
        StoreError: The file is not ours, newer, or not to be opened with ``key``; nothing is changed.
        ExtraMissingError: There is a key, and cryptography is missing.
    """
    if version(db, path) < SCHEMA_VERSION:
        with transaction(db):
            _update(db, path, key)
    return _cipher(db, path, key)


def _update(db: sqlite3.Connection, path: str, key: bytes | None) -> None:
    found = version(db, path)  # once more: another process may have been faster
    if found == 0:
        _make_tables(db)
        if key is not None:
            salt = os.urandom(SALT_BYTES)
            secrets = {"salt": salt, "check": Sealed(key, salt).seal(_CHECK, "check")}
            db.executemany("INSERT INTO secrets VALUES (?, ?)", secrets.items())
    elif found < SCHEMA_VERSION:
        if key is not None:
            raise _not_encrypted(path)
        _to_version_2(db)


def _make_tables(db: sqlite3.Connection) -> None:
    for statement in TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION}")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _to_version_2(db: sqlite3.Connection) -> None:
    """Version 1 had a column for each value, clicks alone for outcomes, and no encryption."""
    for table in ("events", "impressions", "outcomes", "personal"):
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    _make_tables(db)
    tag = Clear().tag
    with decoding():
        events = db.execute("SELECT id, at_s, item, value, fields FROM old_events ORDER BY id")
        db.executemany(
            "INSERT INTO events VALUES (?, ?, 0, ?)",
            (
                (number, day(at_s), encode_event(Event(item, at_s, value, json.loads(fields))))
                for number, at_s, item, value, fields in events
            ),
        )
        impressions = db.execute("SELECT id, at_s, bundle, items, features, width FROM old_impressions ORDER BY id")
        db.executemany(
            "INSERT INTO impressions VALUES (?, ?, ?)",
            ((number, day(at_s), _old_impression(at_s, *columns)) for number, at_s, *columns in impressions),
        )
        outcomes = db.execute("SELECT impression, item, label FROM old_outcomes")
        db.executemany(
            "INSERT INTO outcomes VALUES (?, ?, ?)",
            (
                (impression, tag(outcome_name(impression, CLICK, item)), encode_outcome(item, CLICK, label))
                for impression, item, label in outcomes
            ),
        )
        personal = db.execute("SELECT bundle, params FROM old_personal ORDER BY rowid")
        db.executemany(
            "INSERT INTO personal (bundle, content) VALUES (?, ?)",
            ((tag(bundle), params) for bundle, params in personal),
        )
    # Numbers of slates that are long gone stay used up.
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'impressions'")
    db.execute("UPDATE sqlite_sequence SET name = 'impressions' WHERE name = 'old_impressions'")
    for table in ("outcomes", "events", "impressions", "personal"):
        db.execute(f"DROP TABLE old_{table}")


def _old_impression(at_s: float, bundle: str, items: str, features: bytes, width: int) -> bytes:
    names = json.loads(items)
    array = np.frombuffer(features, "<f4").reshape(len(names), width)
    return encode_impression(names, array, at_s=at_s, bundle=bundle)


def _cipher(db: sqlite3.Connection, path: str, key: bytes | None) -> Cipher:
    secrets = dict(db.execute("SELECT name, content FROM secrets"))
    if not secrets:
        if key is not None:
            raise _not_encrypted(path)
        return Clear()
    if key is None:
        raise StoreError(f"{path}: encrypted; open it with its key")
    with decoding():
        cipher = Sealed(key, secrets.get("salt", b""))
    try:
        cipher.unseal(secrets.get("check", b""), "check")
    except ValueError as error:
        raise StoreError(f"{path}: encrypted with another key; open it with its own (nothing was changed)") from error
    return cipher


def _not_encrypted(path: str) -> StoreError:
    return StoreError(f"{path}: not encrypted; open it without a key, or choose another path for an encrypted store")
