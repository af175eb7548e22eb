"""A process that forks while its threads rank and record: each child goes on with the reranker. On the runtime here."""

from __future__ import annotations

import os
import queue
import threading
import time
from pathlib import Path

import pytest

from pocketrank import DeviceStore, Event, Reranker
from pocketrank.errors import StoreError
from pocketrank.forks import PATIENCE_S, Lock
from pocketrank.latency import Latencies
from pocketrank.person import Person
from pocketrank.shadow import Shadow
from pocketrank.stats import Meter
from tests import shop
from tests.forked import TIMEOUT_S, in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")

FORKS = 30
ROWS = shop.candidates(range(20))


def use(reranker: Reranker, item: str) -> str:
    """What an app does with a slate; the ids in it, in a fixed order."""
    slate = reranker.rank(ROWS, context={"hour": 20})
    slate.shown(5)
    slate.clicked(slate.ids[0])
    reranker.observe([Event(item, time.time(), value=4.0, fields={"kind": ("book",)})])
    assert slate.omitted == {}
    assert reranker.stats().slates > 0
    assert item in {event.item for event in reranker.store.events()[-100:]}
    return " ".join(sorted(slate.ids))


def rerankers(folder: Path) -> dict[str, Reranker]:
    return {
        "in memory": Reranker.load(shop.FOLDER),
        "in a file": Reranker.load(shop.FOLDER, store=folder / "store.sqlite"),
        "with a shadow": Reranker.load(shop.FOLDER, store=folder / "store.sqlite", shadow=shop.FOLDER),
    }


@pytest.mark.parametrize("kind", ["in memory", "in a file", "with a shadow"])
def test_a_child_forked_while_threads_rank_and_record_goes_on(kind: str, tmp_path: Path) -> None:
    reranker = rerankers(tmp_path)[kind]
    shared = reranker.rank(ROWS, context={"hour": 20})
    expected = " ".join(sorted(shared.ids))
    ended, errors = threading.Event(), queue.SimpleQueue[BaseException]()

    def work() -> None:
        try:
            while not ended.is_set():
                slate = reranker.rank(ROWS, context={"hour": 20})
                slate.clicked(slate.ids[0])
                shared.clicked(shared.ids[1])
                reranker.observe([Event("item-1", time.time())])
                reranker.stats()
        except BaseException as error:  # noqa: BLE001  (told to the test)
            errors.put(error)

    def in_fork() -> str:
        shared.clicked(shared.ids[2])
        return use(reranker, f"item-{os.getpid()}")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        said = [in_child(in_fork) for _ in range(FORKS)]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert errors.empty(), errors.get()
    assert said == [expected] * FORKS
    assert use(reranker, "item-2") == expected
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# --------------------------------------------------------------------------------------------- one lock after the other


def inside(lock: Lock) -> tuple[threading.Thread, threading.Event]:
    """A thread that holds ``lock`` until the event is set."""
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            enough.wait(TIMEOUT_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(TIMEOUT_S)
    return thread, enough


def take(lock: Lock) -> str:
    with lock:
        return "taken"


def test_a_fork_waits_for_the_thread_that_is_inside() -> None:
    """What the lock guards is changed as a whole or not at all, in the child too."""
    lock, changed, inside = Lock(), [0, 0], threading.Event()

    def change() -> None:
        with lock:
            changed[0] += 1
            inside.set()
            time.sleep(0.2)  # the fork waits for the lock in this time, and nothing tells that it does
            changed[1] += 1

    thread = threading.Thread(target=change)
    thread.start()
    assert inside.wait(TIMEOUT_S)
    assert in_child(lambda: (changed, take(lock))) == "([1, 1], 'taken')"
    thread.join()
    assert take(lock) == "taken"


@pytest.mark.parametrize(
    "part", [Person(shop.SCHEMA, None, []), Meter(), Latencies(), Shadow("shop")], ids=lambda part: type(part).__name__
)
def test_each_part_of_a_reranker_has_such_a_lock(part: Person | Meter | Latencies | Shadow) -> None:
    assert isinstance(part._lock, Lock)


def test_a_fork_waits_for_a_thread_that_stays_inside_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketrank.forks.PATIENCE_S", 0.5)
    locks = [Lock() for _ in range(30)]
    holders = [inside(lock) for lock in locks]
    started = time.monotonic()
    assert in_child(lambda: {take(lock) for lock in locks}) == "{'taken'}"
    assert time.monotonic() - started < PATIENCE_S, "the locks are waited for all together"
    for thread, enough in holders:
        enough.set()
        thread.join()
    assert {take(lock) for lock in locks} == {"taken"}


def test_a_thread_that_forks_inside_its_own_lock_stays_inside_and_leaves_it() -> None:
    lock = Lock()

    def leave() -> str:
        lock.__exit__()
        thread = threading.Thread(target=take, args=(lock,))
        thread.start()
        thread.join(TIMEOUT_S)
        return f"alive: {thread.is_alive()}"

    with lock:
        assert in_child(leave) == "alive: False"
        thread = threading.Thread(target=take, args=(lock,))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


def test_threads_that_fork_at_once_do_not_wait_for_each_other() -> None:
    lock, said = Lock(), queue.SimpleQueue[str]()
    threads = [threading.Thread(target=lambda: said.put(in_child(lambda: take(lock)))) for _ in range(8)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [said.get() for _ in threads] == ["taken"] * 8
    assert time.monotonic() - started < PATIENCE_S
    assert take(lock) == "taken"


def test_a_child_of_a_child_goes_on() -> None:
    lock = Lock()
    thread, enough = inside(lock)
    enough.set()
    assert in_child(lambda: in_child(lambda: take(lock))) == "taken"
    thread.join()


# -------------------------------------------------------------------------------------------------- what can't go on


@pytest.mark.parametrize("where", [":memory:", "store.sqlite"])
def test_a_store_that_a_thread_is_in_the_middle_of_is_refused_in_the_child_and_nowhere_else(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketrank.forks.PATIENCE_S", 0.1)
    store = DeviceStore(where if where == ":memory:" else tmp_path / where)
    thread, enough = inside(store.lock)
    assert in_child(store.events).startswith("StoreError: ")
    assert in_child(lambda: in_child(store.events)).startswith("StoreError: ")
    enough.set()
    thread.join()
    store.record([Event("a", 0.0)])
    assert in_child(lambda: len(store.events())) == "1"


def test_a_child_ranks_though_its_store_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketrank.forks.PATIENCE_S", 0.1)
    reranker = Reranker.load(shop.FOLDER)
    thread, enough = inside(reranker.store.lock)

    def rank() -> str:
        slate = reranker.rank(ROWS)
        with pytest.raises(StoreError, match="forked in the middle of a call"):
            slate.clicked(slate.ids[0])
        return f"{len(slate)} {slate.fallback} {reranker.stats().store}"

    assert in_child(rank) == "20 None None"
    enough.set()
    thread.join()


def test_what_a_shadow_was_about_to_compare_is_left_to_the_parent() -> None:
    shadow, begun, enough = Shadow("shop"), threading.Event(), threading.Event()

    def order() -> list[str]:
        begun.set()
        enough.wait(TIMEOUT_S)
        return ["a"]

    def compare() -> int:
        shadow.drain()
        shadow.offer(["a"], lambda: ["a"])
        shadow.drain()
        return shadow.agreement().slates

    shadow.offer(["a"], order)
    assert begun.wait(TIMEOUT_S)
    shadow.offer(["a"], order)
    assert in_child(compare) == "1"
    enough.set()
    shadow.drain()
    assert shadow.agreement().slates == 2
