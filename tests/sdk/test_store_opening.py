"""What a store takes for a store: its own files in any state, and nobody else's."""

import os
import random
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketrank.errors import StoreError
from pocketrank.store import DeviceStore, Event
from pocketrank.store import opening as store_opening
from pocketrank.store.tables import APPLICATION, SCHEMA_VERSION

PAGE_BYTES = 4096
MAGIC = b"SQLite format 3\0"


def content(events: int = 300) -> bytes:
    """A closed store of several pages, as bytes."""
    path = Path("store.sqlite")
    store = DeviceStore(path)
    store.record(Event(f"item-{number}", 0.0, fields={"field": ("x" * 50,)}) for number in range(events))
    store.close()
    found = path.read_bytes()
    path.unlink()
    return found


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of each file by its name."""
    return {
        path.name: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns) for path in folder.iterdir()
    }


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the store is to be, alone in the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store.sqlite"


# ------------------------------------------------------------------------------------------------- somebody else's file


def newer(path: Path) -> None:
    path.write_bytes(content())
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()


def photos(path: Path, *pragmas: str) -> None:
    """A database of another application."""
    with sqlite3.connect(path) as db:
        for pragma in pragmas:
            db.execute(f"PRAGMA {pragma}")
        db.execute("CREATE TABLE photos (name TEXT)")
        db.executemany("INSERT INTO photos VALUES (?)", [("x" * 500,)] * 50)
    db.close()


def nothing_but_a_mark(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id=77")
    db.close()


def damaged_photos(path: Path, *pragmas: str) -> None:
    photos(path, *pragmas)
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 10_000)


def photos_in_use(path: Path) -> None:
    """Another application's database as it was killed: with a log."""
    db = sqlite3.connect(path.with_name("elsewhere"))
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE photos (name TEXT)")
    db.execute("PRAGMA wal_checkpoint")
    db.executemany("INSERT INTO photos VALUES (?)", [("x" * 500,)] * 50)
    db.commit()
    for end in ("", "-wal"):
        path.with_name(path.name + end).write_bytes(path.with_name(f"elsewhere{end}").read_bytes())
    db.close()
    path.with_name("elsewhere").unlink()


def noise_beside_photos(path: Path) -> None:
    photos_in_use(path)
    path.write_bytes(random.Random(1).randbytes(9_000))


def png(path: Path) -> None:
    header = b"IHDR" + (1).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    parts = [header, b"IDAT" + zlib.compress(b"\0\xff"), b"IEND"]
    chunks = [(len(part) - 4).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big") for part in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


SOURCE = Path(store_opening.__file__).with_name("tables.py").read_bytes()
OTHERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("This is no database, however one looks at it. " * 100),
    "a word": lambda path: path.write_text("SQLite"),
    "source that holds our tables": lambda path: path.write_bytes(SOURCE),
    "source of that size": lambda path: path.write_bytes((SOURCE * 2)[: len(SOURCE) // 512 * 512 + 512]),
    "source with such a byte": lambda path: path.write_bytes(SOURCE[:100] + b"\r" + SOURCE[101 : 512 * 5 + 7]),
    "png": png,
    "noise": lambda path: path.write_bytes(random.Random(1).randbytes(9_000)),
    "an image that begins with nothing": lambda path: path.write_bytes(bytes(100_000) + b"CD001"),
    "another database": photos,
    "another database, marked": lambda path: photos(path, "application_id=77"),
    "another database of our version": lambda path: photos(path, f"user_version={SCHEMA_VERSION}"),
    "another database, large pages": lambda path: photos(path, "page_size=65536"),
    "another database, marked and empty": nothing_but_a_mark,
    "another database, damaged": damaged_photos,
    "another database, marked and damaged": lambda path: damaged_photos(path, "application_id=77"),
    "another database in use": photos_in_use,
    "noise beside another's log": noise_beside_photos,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("plant", OTHERS.values(), ids=OTHERS)
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(plant: Callable[[Path], object], path: Path) -> None:
    plant(path)
    before = everything(path.parent)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store\.sqlite: not a device store; choose another path"):
            DeviceStore(path)
    assert everything(path.parent) == before


def test_a_young_database_whose_tables_are_all_in_its_log_is_refused(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("CREATE TABLE photos (name TEXT)")
    with pytest.raises(StoreError, match="a database of another application"):
        DeviceStore(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]
    other.close()
    assert list(path.parent.iterdir()) == [path]


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    newer(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"newer PocketRank \(store version {SCHEMA_VERSION + 1}\); update the SDK"):
        DeviceStore(path)
    assert path.read_bytes() == before


# ------------------------------------------------------------------------------------------------------- what is ours


def replaced(whole: bytes, at: int, part: bytes) -> bytes:
    return whole[:at] + part + whole[at + len(part) :]


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda whole: bytes(len(whole)),
    "cut off within a page": lambda whole: whole[: len(whole) // 2 - 100],
    "cut off after a page": lambda whole: whole[: 3 * PAGE_BYTES],
    "cut off within the mark": lambda whole: whole[:80],
    "cut off within the header": lambda whole: whole[:50],
    "no magic": lambda whole: replaced(whole, 0, bytes(64)),
    "no header": lambda whole: replaced(whole, 0, bytes(100)),
    "a header of noise": lambda whole: replaced(whole, 0, random.Random(1).randbytes(100)),
    "no first page but the header": lambda whole: replaced(whole, 100, b"\xff" * (PAGE_BYTES - 100)),
    "nothing but the header": lambda whole: replaced(whole, 100, b"\xff" * (len(whole) - 100)),
    "another mark": lambda whole: replaced(whole, 68, b"\xff\xff"),
    "no mark": lambda whole: replaced(whole, 68, bytes(4)),
    "flipped within the second page": lambda whole: replaced(whole, PAGE_BYTES, b"\xff" * 64),
    "flipped in the middle": lambda whole: replaced(whole, len(whole) // PAGE_BYTES // 2 * PAGE_BYTES, b"\xff" * 64),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_store_is_set_aside_and_a_fresh_one_begun(damage: Callable[[bytes], bytes], path: Path) -> None:
    damaged = damage(content())
    path.write_bytes(damaged)
    store = DeviceStore(path)
    store.events(), store.impressions()
    assert store.set_aside == path.with_name("store.sqlite.corrupt-1")
    # What SQLite itself changes when it opens a file that looks sound: the version that a log asks for.
    assert replaced(store.set_aside.read_bytes(), 18, damaged[18:20]) == damaged
    store.record([Event("fresh", 0.0)])
    store.close()
    again = DeviceStore(path)
    assert ([event.item for event in again.events()], again.set_aside) == (["fresh"], None)


NEWER = {18: "readonly database", 47: "unsupported file format", **dict.fromkeys(range(61, 64), "newer PocketRank")}
"""What a changed byte of the header says of what may write the file, read it, or know its tables."""


def test_no_changed_byte_of_the_header_makes_a_store_somebody_elses(path: Path) -> None:
    """It is read, or set aside, or left alone where a newer SQLite or SDK might have written it."""
    whole = content(20)
    kept, set_aside, refused = 0, 0, {}
    for at in range(100):
        path.write_bytes(replaced(whole, at, bytes([whole[at] ^ 0xFF])))
        try:
            store = DeviceStore(path)
            found = len(store.events())
            assert found == (20 if store.set_aside is None else 0)
            store.record([Event("later", 0.0)])
            assert len(store.events()) == (21 if store.set_aside is None else 1)
            kept += store.set_aside is None
            set_aside += store.set_aside is not None
            store.close()
        except StoreError as error:
            refused[at] = str(error)
        path.unlink()
    assert refused.keys() == NEWER.keys()
    assert all(NEWER[at] in said for at, said in refused.items())
    assert kept > 16 < set_aside


@pytest.mark.parametrize("plant", [b"", b"\0", MAGIC], ids=["nothing", "a zero", "magic"])
def test_a_file_that_holds_nothing_becomes_a_store(plant: bytes, path: Path) -> None:
    path.write_bytes(plant)
    store = DeviceStore(path)
    store.record([Event("fresh", 0.0)])
    assert [event.item for event in store.events()] == ["fresh"]
    assert path.read_bytes().startswith(MAGIC)


def test_a_database_in_which_nothing_was_made_becomes_a_store(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
    db.close()
    assert path.read_bytes().startswith(MAGIC)
    store = DeviceStore(path)
    assert (store.events(), store.set_aside) == ([], None)
    store.close()
    assert path.read_bytes()[68:72] == APPLICATION.to_bytes(4, "big")


@pytest.mark.parametrize("left", ["sound", "noise", "zeros and noise"])
def test_a_killed_store_is_known_by_its_log(left: str, path: Path) -> None:
    """All that it held is in the log, the first page too, so that it lives on whatever became of the file."""
    alive = DeviceStore(path.with_name("alive"))
    alive.record(Event(f"item-{number}", 0.0) for number in range(20))
    whole = Path(alive.path).read_bytes()
    assert APPLICATION.to_bytes(4, "big") not in whole, "nothing was written back"
    noise = random.Random(1).randbytes(len(whole))
    path.write_bytes({"sound": whole, "noise": noise, "zeros and noise": bytes(100) + noise[100:]}[left])
    path.with_name("store.sqlite-wal").write_bytes(Path(f"{alive.path}-wal").read_bytes())
    store = DeviceStore(path)
    assert (store.events(), store.set_aside) == (alive.events(), None)
