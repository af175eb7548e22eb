"""Tables of the device store: what is in them, and what leaves when they are full.

Only row ids, day numbers, whether an event was an engagement, and which impression an outcome is of stand in columns of
their own. All else is one sealed ``content``; its place (table and these columns) is authenticated with it.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from pocketrank.store.encryption import Cipher
from pocketrank.store.records import DamagedError, Limits, StoreSize, decoding

SCHEMA_VERSION: Final = 2
APPLICATION: Final = 0x506F5261
"""Marks the file as ours (SQLite's application_id)."""
KEPT_BUNDLES: Final = 2
"""Personal parameters and training are kept for the newest bundles: the one in use, and the one to go back to."""

DAY_S: Final = 86_400.0
_FAR_DAY: Final = 1e9

OUTCOMES_BEGIN: Final = "CREATE TABLE outcomes (impression INTEGER NOT NULL REFERENCES impressions(id)"
"""How the text of this table has begun in every version; SQLite keeps it in the file's first page."""
TABLES: Final = (
    "CREATE TABLE events (id INTEGER PRIMARY KEY, day INTEGER NOT NULL, shown INTEGER NOT NULL, content BLOB NOT NULL)",
    # AUTOINCREMENT: an outcome that comes late must not meet another slate of the same number.
    "CREATE TABLE impressions (id INTEGER PRIMARY KEY AUTOINCREMENT, day INTEGER NOT NULL, content BLOB NOT NULL)",
    f"""{OUTCOMES_BEGIN} ON DELETE CASCADE,
    tag BLOB NOT NULL, content BLOB NOT NULL, PRIMARY KEY (impression, tag)) WITHOUT ROWID""",
    "CREATE TABLE personal (id INTEGER PRIMARY KEY, bundle BLOB NOT NULL UNIQUE, content BLOB, before BLOB)",
    "CREATE TABLE progress (id INTEGER PRIMARY KEY, bundle BLOB NOT NULL UNIQUE, content BLOB NOT NULL)",
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID",
)
_PERSONAL_TABLES: Final = ("events", "impressions", "outcomes", "personal", "progress")

EVENTS: Final = """
SELECT * FROM (SELECT id, day, shown, content FROM events WHERE shown = 0 AND day >= :horizon
               ORDER BY id DESC LIMIT :max_events)
UNION ALL
SELECT * FROM (SELECT id, day, shown, content FROM events WHERE shown = 1 AND day >= :horizon
               ORDER BY id DESC LIMIT :max_shown)
ORDER BY id"""
"""Events within the limits, oldest first; ``bounds`` gives what the names stand for."""
IMPRESSIONS: Final = """
SELECT * FROM (SELECT id, day, content FROM impressions WHERE day >= :horizon ORDER BY id DESC LIMIT :max_impressions)
ORDER BY id"""
"""Impressions within the limits, oldest first."""

KEEP_IMPRESSION: Final = """
INSERT INTO impressions VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET day = excluded.day, content = excluded.content"""
"""Number, day and content; of an impression that is there, its outcomes stay."""

_TRIM: Final = (
    "DELETE FROM events WHERE day < :horizon",
    "DELETE FROM impressions WHERE day < :horizon",
    """DELETE FROM events WHERE shown = 0 AND id <=
    (SELECT id FROM events WHERE shown = 0 ORDER BY id DESC LIMIT 1 OFFSET :max_events)""",
    """DELETE FROM events WHERE shown = 1 AND id <=
    (SELECT id FROM events WHERE shown = 1 ORDER BY id DESC LIMIT 1 OFFSET :max_shown)""",
    "DELETE FROM impressions WHERE id <= (SELECT id FROM impressions ORDER BY id DESC LIMIT 1 OFFSET :max_impressions)",
)
_OLDEST: Final = (
    """DELETE FROM impressions WHERE id IN
    (SELECT id FROM impressions ORDER BY id LIMIT (SELECT (count(*) + 7) / 8 FROM impressions))""",
    "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT (SELECT (count(*) + 7) / 8 FROM events))",
)


# --- transactions


@contextmanager
def transaction(db: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """All that is done inside, or nothing."""
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


def roll_back(db: sqlite3.Connection) -> None:
    """Undo the transaction under way; on a full disk SQLite may have done so."""
    if db.in_transaction:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")


# --- places


def day(at_s: float) -> int:
    """Number of the day since 1970 (UTC), as it stands beside a row."""
    return int(max(-_FAR_DAY, min(_FAR_DAY, at_s // DAY_S)))


def place(kind: str, *beside: int | bytes) -> str:
    """What a row's content is bound to: what kind it is of, and what stands beside it in the clear."""
    return " ".join([kind, *(part.hex() if isinstance(part, bytes) else str(part) for part in beside)])


def outcome_name(impression: int, kind: str, item: str) -> str:
    """What an outcome is looked up by; the last word on it counts."""
    return f"{impression} {kind} {item}"


def next_event(db: sqlite3.Connection) -> int:
    """Number of the event to come."""
    return _after(db, "SELECT max(id) FROM events")


def next_impression(db: sqlite3.Connection) -> int:
    """Number of the impression to come; none is given twice."""
    return _after(db, "SELECT max(seq) FROM sqlite_sequence WHERE name = 'impressions'")


def has_impression(db: sqlite3.Connection, number: int, values: Mapping[str, int]) -> bool:
    """Whether there is an impression of that number within the limits; ``values`` from ``bounds``."""
    found = f"SELECT 1 FROM ({IMPRESSIONS}) WHERE id = :number"  # noqa: S608  (our own)
    return db.execute(found, {**values, "number": number}).fetchone() is not None


def _after(db: sqlite3.Connection, statement: str) -> int:
    (last,) = db.execute(statement).fetchone()
    with decoding():
        return int(last or 0) + 1


# --- bundles


def bundle_content(db: sqlite3.Connection, table: str, cipher: Cipher, bundle: str, column: str) -> bytes | None:
    """What ``table`` keeps for a bundle in ``column``.

    Raises:
        DamagedError: It was changed.
    """
    tag = cipher.tag(bundle)
    found = db.execute(f"SELECT {column} FROM {table} WHERE bundle = ?", (tag,)).fetchone()  # noqa: S608  (our names)
    if found is None or found[0] is None:
        return None
    with decoding():
        return cipher.unseal(found[0], place(f"{table} {column}", tag))


def replace_bundle(
    db: sqlite3.Connection, table: str, cipher: Cipher, bundle: str, contents: Mapping[str, bytes | None]
) -> None:
    """Keep ``contents`` by column for a bundle, nothing where all are None; only the newest bundles stay."""
    tag = cipher.tag(bundle)
    db.execute(f"DELETE FROM {table} WHERE bundle = ?", (tag,))  # noqa: S608
    if all(content is None for content in contents.values()):
        return
    sealed = [
        None if content is None else cipher.seal(content, place(f"{table} {column}", tag))
        for column, content in contents.items()
    ]
    places = ", ".join("?" * len(sealed))
    columns = ", ".join(contents)
    db.execute(f"INSERT INTO {table} (bundle, {columns}) VALUES (?, {places})", (tag, *sealed))  # noqa: S608
    newest = f"SELECT id FROM {table} ORDER BY id DESC LIMIT {KEPT_BUNDLES}"  # noqa: S608
    db.execute(f"DELETE FROM {table} WHERE id NOT IN ({newest})")  # noqa: S608


# --- bounds


def bounds(db: sqlite3.Connection, limits: Limits, now_s: float) -> dict[str, int]:
    """What the names in this module's statements stand for.

    Age is counted from the newest row, so that a replayed log keeps all of its span, but never from a day that has
    not come: one event that is dated wrongly takes nothing with it.
    """
    days = [
        found
        for table in ("events", "impressions")
        for (found,) in db.execute(f"SELECT day FROM {table} ORDER BY id DESC LIMIT 1")  # noqa: S608  (our names)
    ]
    with decoding():
        newest = min(max(days, default=0), day(now_s))
    return {
        "horizon": int(max(-_FAR_DAY, newest - math.ceil(min(limits.max_age_s / DAY_S, 2 * _FAR_DAY)))),
        "max_events": limits.max_events,
        "max_shown": limits.max_shown,
        "max_impressions": limits.max_impressions,
    }


def size(db: sqlite3.Connection, values: Mapping[str, int]) -> StoreSize:
    """How much there is within the limits, and in the file without its log; ``values`` from ``bounds``."""
    counted = f"SELECT count(*), coalesce(sum(shown), 0) FROM ({EVENTS})"  # noqa: S608  (our own)
    events, shown = db.execute(counted, values).fetchone()
    kept = f"SELECT id FROM ({IMPRESSIONS})"  # noqa: S608
    (impressions,) = db.execute(f"SELECT count(*) FROM ({kept})", values).fetchone()  # noqa: S608
    (outcomes,) = db.execute(f"SELECT count(*) FROM outcomes WHERE impression IN ({kept})", values).fetchone()  # noqa: S608
    return StoreSize(events - shown, shown, impressions, outcomes, file_bytes(db))


def trim(db: sqlite3.Connection, values: Mapping[str, int]) -> None:
    """Delete what is past the limits of age and rows; ``values`` from ``bounds``."""
    for statement in _TRIM:
        db.execute(statement, values)


def make_room(db: sqlite3.Connection, most_bytes: int) -> None:
    """Delete the oldest eighths of impressions and events until the tables take at most ``most_bytes``."""
    while used_bytes(db) > most_bytes:
        if not sum(db.execute(statement).rowcount for statement in _OLDEST):
            return


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the pages that hold something.

    Raises:
        DamagedError: More pages are said to be free than there are.
    """
    pages, free = _pragma(db, "page_count"), _pragma(db, "freelist_count")
    if not 0 <= free <= pages:
        raise DamagedError(f"{free} of {pages} pages are said to be free")
    return (pages - free) * _pragma(db, "page_size")


def file_bytes(db: sqlite3.Connection) -> int:
    """Bytes of all pages, the free ones too."""
    return _pragma(db, "page_count") * _pragma(db, "page_size")


def limit_file(db: sqlite3.Connection, most_bytes: int) -> None:
    """Have SQLite refuse to grow the file past ``most_bytes``."""
    db.execute(f"PRAGMA max_page_count={most_bytes // _pragma(db, 'page_size')}")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def empty(db: sqlite3.Connection) -> None:
    """Delete every row that tells of the person, overwriting it in its page."""
    db.execute("PRAGMA secure_delete=ON")
    for table in _PERSONAL_TABLES:
        db.execute(f"DELETE FROM {table}")  # noqa: S608
