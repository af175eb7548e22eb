"""The device store: what it keeps, what it lets go of, and what it doesn't take for itself."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError, StoreError
from pocketrank.store import MAX_EVENTS, MAX_IMPRESSIONS, DeviceStore, Event

FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)
EVENTS = st.lists(
    st.builds(
        Event,
        item=st.text(min_size=1, max_size=8),
        at_s=st.floats(0, 4e9),
        value=st.floats(-1e9, 1e9),
        fields=st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=3).map(tuple), max_size=2),
    ),
    max_size=10,
)


def shown(store: DeviceStore, items: tuple[str, ...] = ("a", "b")) -> int:
    return store.record_impression(items, FEATURES[: len(items)], at_s=1.0, bundle="digest")


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def filled(path: Path) -> DeviceStore:
    store = DeviceStore(path)
    store.record([Event("SECRET-EVENT", 1.0, 2.0, {"SECRET-FIELD": ("SECRET-VALUE",)})])
    store.record_outcome(shown(store, ("SECRET-SHOWN", "b")), "SECRET-SHOWN", 1.0)
    store.keep_personal("SECRET-DIGEST", {"SECRET-NAME": np.full(64, 1234.5, np.float32)})
    return store


# ------------------------------------------------------------------------------------------------------------- keeping


@given(st.lists(EVENTS, max_size=3))
def test_events_come_back_in_the_order_in_which_they_came(parts: list[list[Event]]) -> None:
    store = DeviceStore()
    for part in parts:
        store.record(part)
    assert store.events() == [event for part in parts for event in part]


def test_everything_survives_reopening(tmp_path: Path) -> None:
    store = filled(tmp_path / "folder" / "store.sqlite")
    before = store.events(), store.impressions(), store.personal("SECRET-DIGEST")
    store.close()
    again = DeviceStore(tmp_path / "folder" / "store.sqlite")
    assert again.events() == before[0]
    (impression,), (expected,) = again.impressions(), before[1]
    assert (impression.items, impression.at_s, impression.bundle) == (expected.items, 1.0, "digest")
    np.testing.assert_array_equal(impression.features, FEATURES)
    np.testing.assert_array_equal(impression.labels, [1.0, 0.0])
    np.testing.assert_array_equal((again.personal("SECRET-DIGEST") or {})["SECRET-NAME"], np.full(64, 1234.5))


def test_what_a_call_returned_from_survives_a_kill(tmp_path: Path) -> None:
    """The files as they are while the store is open: that is what a killed process leaves behind."""
    store = filled(tmp_path / "store.sqlite")
    for path in list(tmp_path.iterdir()):
        (tmp_path / path.name.replace("store", "copy")).write_bytes(path.read_bytes())
    assert DeviceStore(tmp_path / "copy.sqlite").events() == store.events()
    assert len(DeviceStore(tmp_path / "copy.sqlite").impressions()) == 1


def test_the_last_word_on_an_item_counts() -> None:
    store = DeviceStore()
    number = shown(store)
    for item, label in (("a", 1.0), ("b", 0.5), ("a", 0.0), ("unknown", 1.0)):
        store.record_outcome(number, item, label)
    assert store.impressions()[0].labels.tolist() == [0.0, 0.5]


def test_impressions_keep_their_outcomes_apart() -> None:
    store = DeviceStore()
    numbers = [shown(store) for _ in range(3)]
    store.record_outcome(numbers[1], "b", 1.0)
    assert [found.labels.tolist() for found in store.impressions()] == [[0, 0], [0, 1], [0, 0]]


def test_personal_parameters_belong_to_a_bundle() -> None:
    store = DeviceStore()
    assert store.personal("one") is None
    for value in (1.0, 2.0):
        store.keep_personal("one", {"w": np.array([value], np.float32)})
    assert store.personal("other") is None
    found = store.personal("one")
    assert found is not None
    assert found["w"].tolist() == [2.0]
    store.keep_personal("one", None)
    assert store.personal("one") is None


# -------------------------------------------------------------------------------------------------------------- bounds


def test_the_oldest_events_go_first() -> None:
    store = DeviceStore()
    store.record([Event(f"{number}", 0.0) for number in range(MAX_EVENTS - 1)])
    store.record([Event("x", 0.0), Event("y", 0.0), Event("z", 0.0)])
    items = [event.item for event in store.events()]
    assert len(items) == MAX_EVENTS
    assert items[0] == "2"
    assert items[-3:] == ["x", "y", "z"]


def test_more_events_at_once_than_fit_leave_the_newest() -> None:
    store = DeviceStore()
    store.record(Event(f"{number}", 0.0) for number in range(MAX_EVENTS + 10))
    items = [event.item for event in store.events()]
    assert (len(items), items[0]) == (MAX_EVENTS, "10")


def test_the_oldest_impressions_go_with_their_outcomes() -> None:
    store = DeviceStore()
    numbers = [shown(store) for _ in range(MAX_IMPRESSIONS)]
    store.record_outcome(numbers[0], "a", 1.0)
    store.record_outcome(numbers[1], "b", 1.0)
    shown(store)
    assert len(store.impressions()) == MAX_IMPRESSIONS
    assert store.impressions()[0].labels.tolist() == [0.0, 1.0]
    assert store._db.execute("SELECT count(*) FROM outcomes").fetchone() == (1,)
    # An outcome may arrive late, when nobody remembers the slate.
    store.record_outcome(numbers[0], "a", 1.0)
    assert store._db.execute("SELECT count(*) FROM outcomes").fetchone() == (1,)


def test_the_file_stays_bounded(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    features = np.zeros((100, 42), np.float32)
    sizes = []
    for _ in range(3):
        for _ in range(MAX_IMPRESSIONS):
            store.record_impression([f"{i}" for i in range(100)], features, at_s=0.0, bundle="digest")
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert sizes[2] < 1.2 * sizes[1]


# ------------------------------------------------------------------------------------------------------------ rollback

BAD: dict[str, Callable[[DeviceStore], object]] = {
    "an event that is none": lambda store: store.record([Event("good", 0.0), Event("", 0.0)]),
    "an event of a number": lambda store: store.record([Event("good", 0.0), Event(5, 0.0)]),  # type: ignore[arg-type]
    "a value that is none": lambda store: store.record([Event("good", 0.0), Event("b", 0.0, float("nan"))]),
    "a value past all bounds": lambda store: store.record([Event("good", 0.0), Event("b", 0.0, -1e10)]),
    "a time that is none": lambda store: store.record([Event("good", 0.0), Event("b", float("inf"))]),
    "a label above 1": lambda store: store.record_outcome(1, "a", 1.01),
    "a label that is none": lambda store: store.record_outcome(1, "a", float("nan")),
    "features of another length": lambda store: store.record_impression(["a"], FEATURES, at_s=0.0, bundle="x"),
    "features of no slate": lambda store: store.record_impression(["a"], FEATURES[0], at_s=0.0, bundle="x"),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_bad_input_is_refused_and_nothing_of_it_kept(call: Callable[[DeviceStore], object]) -> None:
    store = DeviceStore()
    shown(store)
    with pytest.raises(InputError, match="expected"):
        call(store)
    assert store.events() == []
    assert [found.labels.tolist() for found in store.impressions()] == [[0.0, 0.0]]


def test_a_write_that_fails_half_way_keeps_nothing_of_the_call(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    store.record([Event("kept", 0.0)])
    # As on a full disk: room for a page or two, not for all of it.
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(StoreError, match=r"not written .*nothing of this call was kept"):
        store.record(Event(f"lost-{number}" * 50, 0.0) for number in range(1000))
    assert [event.item for event in store.events()] == ["kept"]
    store._db.execute("PRAGMA max_page_count=100000")
    store.record([Event("later", 0.0)])
    assert [event.item for event in store.events()] == ["kept", "later"]


def test_an_iterable_that_fails_leaves_the_store_usable() -> None:
    store = DeviceStore()

    def broken() -> Any:
        yield Event("a", 0.0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.record(broken())
    assert store.events() == []
    store.record([Event("b", 0.0)])
    assert len(store.events()) == 1


def test_a_file_that_another_writer_holds_is_a_store_error(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    store._db.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"store.sqlite: not written \(database is locked\)"):
        store.record([Event("a", 0.0)])
    other.execute("COMMIT")
    other.close()
    store.record([Event("a", 0.0)])
    assert len(store.events()) == 1


# ------------------------------------------------------------------------------------------------------------- wiping


def test_wiping_leaves_no_byte_of_it_in_the_files(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite")
    # Rows that had gone before the wipe lie in free pages, unless this SQLite was built to overwrite them at once.
    store._db.execute("PRAGMA secure_delete=OFF")
    store.record(Event(f"SECRET-{number}", 0.0) for number in range(MAX_EVENTS))
    store.record(Event("x", 0.0) for _ in range(MAX_EVENTS))
    secrets = (b"SECRET", FEATURES[1].tobytes(), np.full(8, 1234.5, "<f4").tobytes())
    assert all(secret in bytes_in(tmp_path) for secret in secrets)
    store.wipe()
    assert not any(secret in bytes_in(tmp_path) for secret in secrets)
    assert (store.events(), store.impressions(), store.personal("SECRET-DIGEST")) == ([], [], None)
    store.record([Event("new", 0.0)])
    store.close()
    assert b"SECRET" not in bytes_in(tmp_path)
    assert [event.item for event in DeviceStore(tmp_path / "store.sqlite").events()] == ["new"]


def test_wiping_while_another_process_reads_says_that_bytes_are_left(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite")
    store._db.execute("PRAGMA busy_timeout=10")
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM events").fetchall()
    with pytest.raises(StoreError, match="another process is reading the file; wipe again"):
        store.wipe()
    assert store.events() == []
    other.execute("COMMIT")
    other.close()
    store.wipe()
    assert b"SECRET" not in bytes_in(tmp_path)


def test_a_store_in_memory_can_be_wiped() -> None:
    store = DeviceStore()
    store.record([Event("a", 0.0)])
    store.wipe()
    assert store.events() == []


# ------------------------------------------------------------------------------------------------------------ refusals


def newer(path: Path) -> None:
    DeviceStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=2")
    db.close()


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE photos (name TEXT)")
    db.close()


def foreign_of_our_version(path: Path) -> None:
    foreign(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=1")
    db.close()


def text(path: Path) -> None:
    path.write_text("This is no database, however one looks at it. " * 100)


def beginning_destroyed(path: Path) -> None:
    filled(path).close()
    content = bytearray(path.read_bytes())
    content[:64] = bytes(64)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (newer, r"written by a newer PocketRank \(store version 2\); update the SDK"),
        (foreign, "a database of another application"),
        (foreign_of_our_version, "a database of another application"),
        (text, "can't be used as a device store"),
        (beginning_destroyed, "can't be used as a device store"),
        (Path.mkdir, "can't be used as a device store"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(
    plant: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "store.sqlite"
    plant(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=message):
        DeviceStore(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cant_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be used as a device store"):
        DeviceStore(tmp_path / "file" / "store.sqlite")


def test_damage_inside_the_file_is_a_store_error_wherever_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = filled(path)
    store.record(Event(f"item-{number}", 0.0, fields={"field": ("x" * 50,)}) for number in range(500))
    store.close()
    sound = path.read_bytes()
    failures = 0
    for start in range(100, len(sound), 1024):
        path.write_bytes(sound[:start] + bytes([0xFF]) * 64 + sound[start + 64 :])
        try:
            damaged = DeviceStore(path)
            damaged.events(), damaged.impressions(), damaged.personal("SECRET-DIGEST")
            damaged.close()
        except StoreError:
            failures += 1
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
    assert failures > 10


CALLS: list[Callable[[DeviceStore], object]] = [
    lambda store: store.record([Event("a", 0.0)]),
    lambda store: store.events(),
    lambda store: store.impressions(),
    lambda store: store.personal("x"),
    lambda store: store.keep_personal("x", None),
    lambda store: store.wipe(),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_store_is_a_store_error(call: Callable[[DeviceStore], object], tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    store.close()
    with pytest.raises(StoreError, match="closed"):
        call(store)


# ------------------------------------------------------------------------------------------------------------- threads


def run_all(works: list[Callable[[], object]]) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (told to the test)
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_threads_that_share_a_store_lose_nothing(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")

    def work(name: str) -> None:
        for number in range(30):
            store.record([Event(f"{name}-{number}", 0.0)])
            store.record_outcome(shown(store), "a", 1.0)
            store.events(), store.impressions()

    assert run_all([lambda name=name: work(name) for name in "abcd"]) == []  # type: ignore[misc]
    items = [event.item for event in store.events()]
    assert len(items) == 120
    for name in "abcd":
        assert [item for item in items if item.startswith(name)] == [f"{name}-{number}" for number in range(30)]
    assert all(found.labels[0] == 1.0 for found in store.impressions())


def test_a_file_that_several_open_at_once_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    assert run_all([lambda: DeviceStore(path).record([Event("a", 0.0)])] * 8) == []
    assert len(DeviceStore(path).events()) == 8
