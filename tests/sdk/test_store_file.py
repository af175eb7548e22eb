"""The device store's file: wiping it, damage that shows in use, and who may hold it at once."""

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketrank.errors import StoreError
from pocketrank.store import DeviceStore, Event
from pocketrank.store.file import is_damage

FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)
LARGE = np.full(64, 1234.5, np.float32)


def shown(store: DeviceStore, items: tuple[str, ...] = ("a", "b")) -> int:
    return store.record_impression(items, FEATURES[: len(items)], at_s=1.0, bundle="digest")


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def filled(path: Path, key: bytes | None = None) -> DeviceStore:
    store = DeviceStore(path, key=key)
    store.record(
        [Event("SECRET-EVENT", 1.0, 2.0, {"SECRET-FIELD": ("SECRET-VALUE",)}, {"SECRET-VECTOR": (1234.5,) * 64})]
    )
    store.record_outcome(shown(store, ("SECRET-SHOWN", "b")), "SECRET-SHOWN", 1.0)
    store.keep_personal("SECRET-DIGEST", {"SECRET-NAME": LARGE})
    store.keep_progress("SECRET-DIGEST", b"SECRET-PROGRESS")
    return store


def damage(path: Path, start: int = 0) -> None:
    """Overwrite a closed file from ``start`` on, so that every table is hit."""
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xff" * (len(content) - start))


# ------------------------------------------------------------------------------------------------------------- wiping


def test_wiping_leaves_no_byte_of_it_in_the_files(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite")
    # Rows that had gone before the wipe lie in free pages, unless this SQLite was built to overwrite them at once.
    store._file.connection().execute("PRAGMA secure_delete=OFF")
    store.record(Event(f"SECRET-{number}", 0.0) for number in range(5_000))
    store.record(Event("x", 0.0) for _ in range(5_000))
    secrets = (b"SECRET", FEATURES[1].tobytes(), np.full(8, 1234.5, "<f4").tobytes())
    assert all(secret in bytes_in(tmp_path) for secret in secrets)
    store.wipe()
    assert not any(secret in bytes_in(tmp_path) for secret in secrets)
    assert (store.events(), store.impressions(), store.personal("SECRET-DIGEST")) == ([], [], None)
    store.record([Event("new", 0.0)])
    store.close()
    assert b"SECRET" not in bytes_in(tmp_path)
    assert [event.item for event in DeviceStore(tmp_path / "store.sqlite").events()] == ["new"]


def test_wiping_deletes_what_was_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    filled(path).close()
    damage(path, start=4096)
    (tmp_path / "store.sqlite.corrupt-7").write_bytes(b"SECRET")
    (tmp_path / "store.sqlite.corrupt-of-mine").touch()
    store = DeviceStore(path)
    store.events()
    assert store.set_aside is not None
    assert b"SECRET" in bytes_in(tmp_path) or store.set_aside.exists()
    store.wipe()
    assert store.set_aside is None
    store.close()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["store.sqlite", "store.sqlite.corrupt-of-mine"]


def test_a_store_that_turns_out_damaged_when_it_is_wiped_is_wiped(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    filled(path).close()
    content = path.read_bytes()
    root = 4096  # the page after the first: the root of the first table
    path.write_bytes(content[:root] + b"\xff" * 200 + content[root + 200 :])
    store = DeviceStore(path)
    store.wipe()
    assert b"SECRET" not in bytes_in(tmp_path)
    assert store.set_aside is None
    store.record([Event("new", 0.0)])
    assert [event.item for event in store.events()] == ["new"]


def test_wiping_while_another_process_reads_says_that_bytes_are_left(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite")
    store._file.connection().execute("PRAGMA busy_timeout=10")
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


def test_a_folder_that_cant_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be used as a device store"):
        DeviceStore(tmp_path / "file" / "store.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open any file")
def test_a_file_that_may_not_be_opened_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    filled(path).close()
    path.chmod(0)
    with pytest.raises(StoreError, match="can't be used as a device store"):
        DeviceStore(path)
    path.chmod(0o600)
    assert len(DeviceStore(path).events()) == 1


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    store.close()


# -------------------------------------------------------------------------------------------------------------- damage


def test_one_damaged_file_is_kept_with_what_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    for number in (1, 2, 3):
        path.write_bytes(bytes(4096))
        (tmp_path / "store.sqlite-wal").write_bytes(f"log {number}".encode())
        store = DeviceStore(path)
        assert store.set_aside == tmp_path / f"store.sqlite.corrupt-{number}"
        store.close()
    names = {found.name for found in tmp_path.iterdir()} - {"store.sqlite.corrupt-3-wal"}
    assert names == {"store.sqlite", "store.sqlite.corrupt-3"}


def damaged_in_use(path: Path) -> DeviceStore:
    """A store that is open, and whose pages (but the first, which is in its memory) went bad after it was opened."""
    filled(path).close()
    store = DeviceStore(path)
    damage(path, start=4096)
    return store


USES: dict[str, Callable[[DeviceStore], object]] = {
    "events": lambda store: store.events(),
    "impressions": lambda store: store.impressions(),
    "personal": lambda store: store.personal("SECRET-DIGEST"),
    "progress": lambda store: store.progress("SECRET-DIGEST"),
    "size": lambda store: store.size(),
    "record": lambda store: store.record([Event("a", 0.0)]),
    "record_impression": shown,
    "record_outcome": lambda store: store.record_outcome(1, "a", 1.0),
    "keep_personal": lambda store: store.keep_personal("x", {"w": LARGE}),
    "keep_progress": lambda store: store.keep_progress("x", b"data"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_damage_that_shows_in_use_costs_what_was_kept_and_no_call(
    use: Callable[[DeviceStore], object], tmp_path: Path
) -> None:
    store = damaged_in_use(tmp_path / "store.sqlite")
    use(store)
    assert store.set_aside == tmp_path / "store.sqlite.corrupt-1"
    before = len(store.events())
    store.record([Event("later", 0.0)])
    assert [event.item for event in store.events()][before:] == ["later"]


def test_a_group_that_meets_damage_fails_as_a_whole_and_the_next_call_goes_on(tmp_path: Path) -> None:
    store = damaged_in_use(tmp_path / "store.sqlite")

    def record_both() -> None:
        with store.together():
            store.record([Event("a", 0.0)])
            store.record([Event("b", 0.0)])

    with pytest.raises(StoreError):
        record_both()
    assert store.set_aside == tmp_path / "store.sqlite.corrupt-1"
    record_both()
    assert [event.item for event in store.events()] == ["a", "b"]


def test_a_store_that_another_set_aside_is_left_and_the_fresh_one_used(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    filled(path).close()
    first, second = DeviceStore(path), DeviceStore(path)
    damage(path, start=4096)
    assert first.events() == []
    first.record([Event("fresh", 0.0)])
    assert [event.item for event in second.events()] == ["fresh"]
    assert (first.set_aside, second.set_aside) == (tmp_path / "store.sqlite.corrupt-1", None)


def test_a_file_that_was_deleted_is_begun_anew(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite")
    for path in list(tmp_path.iterdir()):
        path.unlink()
    store.record([Event("fresh", 0.0)])
    assert [event.item for event in store.events()] == ["fresh"]
    assert (tmp_path / "store.sqlite").exists()


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["clear", "sealed"])
def test_damage_anywhere_leaves_a_store_that_works(key: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = filled(path, key)
    store.record(Event(f"item-{number}", 0.0, fields={"field": ("x" * 50,)}) for number in range(300))
    store.close()
    sound = path.read_bytes()
    set_aside = 0
    # At another place of each page, and in about every page.
    for start in range(100, len(sound), 3_500):
        path.write_bytes(sound[:start] + bytes([0xFF]) * 64 + sound[start + 64 :])
        try:
            found = DeviceStore(path, key=key)
        except StoreError as error:
            assert "another key" in str(error)  # noqa: PT017  (most places don't raise)
            path.unlink()
            continue
        found.events(), found.impressions(), found.personal("SECRET-DIGEST"), found.progress("SECRET-DIGEST")
        set_aside += found.set_aside is not None
        count = len(found.events())
        found.record([Event("later", 0.0)])
        assert len(found.events()) == count + 1
        found.close()
        for beside in tmp_path.iterdir():
            beside.unlink()
    assert set_aside > 5


def test_a_lack_of_memory_is_no_damage(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite")

    def fail(_: object) -> None:
        raise MemoryError

    with pytest.raises(StoreError, match="can't be read"):
        store._file.read(fail)
    assert (len(store.events()), store.set_aside) == (1, None)


def test_a_lack_of_memory_that_a_check_can_tell_nothing_of_is_damage(tmp_path: Path) -> None:
    """As where a page tells of a row of gigabytes: the check asks for them, too."""
    (tmp_path / "store.sqlite").write_bytes(b"no page " * 1024)
    db = sqlite3.connect(tmp_path / "store.sqlite")
    assert is_damage(MemoryError(), db)
    db.close()


# -------------------------------------------------------------------------------------------------------------- closed


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


# --------------------------------------------------------------------------------------------------------------- forks


def record_in_fork(store: DeviceStore, item: str) -> int | None:
    """Record in a forked child; its exit code."""
    child = multiprocessing.get_context("fork").Process(target=lambda: store.record([Event(item, 0.0)]))
    child.start()
    child.join(30)
    return child.exitcode


def test_a_forked_child_opens_the_file_for_itself(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite", bytes(32))
    for number in range(3):
        store.record([Event(f"parent-{number}", 0.0)])
        assert record_in_fork(store, f"child-{number}") == 0
    items = [event.item for event in store.events()][1:]
    assert items == ["parent-0", "child-0", "parent-1", "child-1", "parent-2", "child-2"]
    assert store._file.connection().execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_child_that_lives_on_keeps_what_it_records_after_its_parent_closed_the_file(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    store.record([Event("parent", 0.0)])
    context = multiprocessing.get_context("fork")
    opened, closed = context.Event(), context.Event()

    def live() -> None:
        store.record([Event("before", 0.0)])
        opened.set()
        assert closed.wait(30)
        store.record([Event("after", 0.0)])

    child = context.Process(target=live)
    child.start()
    assert opened.wait(30)
    store.record([Event("parent again", 0.0)])
    store.close()
    closed.set()
    child.join(30)
    assert child.exitcode == 0
    items = [event.item for event in DeviceStore(tmp_path / "store.sqlite").events()]
    assert items == ["parent", "before", "parent again", "after"]


def test_a_child_forked_within_a_group_is_told_to_open_the_store_anew(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")

    def use() -> None:
        with pytest.raises(StoreError, match="forked in the middle of a call"):
            store.record([Event("child", 0.0)])

    with store.together():
        store.record([Event("parent", 0.0)])
        child = multiprocessing.get_context("fork").Process(target=use)
        child.start()
        child.join(30)
    assert child.exitcode == 0
    assert [event.item for event in store.events()] == ["parent"]


def test_a_store_in_memory_is_copied_by_a_fork() -> None:
    store = DeviceStore()
    store.record([Event("parent", 0.0)])
    assert record_in_fork(store, "child") == 0
    assert [event.item for event in store.events()] == ["parent"]


IN_A_GROUP = """
import os, sys
from pocketrank import DeviceStore, Event
from pocketrank.errors import StoreError
store = DeviceStore(sys.argv[1])
child = -1
try:
    with store.together():
        store.record([Event("taken back", 0.0)])
        child = os.fork()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            raise KeyError
except (KeyError, StoreError) as error:
    if not child:
        os._exit(7 if "forked in the middle" in str(error) else 8)
finally:
    if not child:
        os._exit(9)
assert store.events() == []
store.record([Event("later", 0.0)])
store.close()
assert [event.item for event in DeviceStore(sys.argv[1]).events()] == ["later"]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes don't fork here")
def test_a_child_that_leaves_a_group_of_its_parent_writes_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", IN_A_GROUP, str(tmp_path / "store.sqlite")]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
