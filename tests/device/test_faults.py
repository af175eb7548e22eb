"""What a device does to a running reranker: files that rot, a runtime that goes away, a disk that is full."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pocketrank import Bundle, DeviceStore, Event, Reranker, Slate
from pocketrank.errors import BundleError, ModelError, StoreError
from pocketrank.policy import Condition, Pin, Policy
from pocketrank.runtime import MAX_POOL, RUNTIMES
from pocketrank.store import Limits
from tests import faults, shop

ROOT = Path(__file__).parents[2]
ROWS = shop.candidates(range(30))
BOOKS = Policy(deny=(Condition("kind", "contains", "book"),), pins=(Pin("item-25", 2),))
MANY = shop.candidates(range(100))
ALLOWED = [row for row in ROWS if "book" not in (row["kind"] or ())]

# ----------------------------------------------------------------------------------------------------------- the bundle


def overwritten(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def deleted(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [overwritten, truncated, deleted])
def test_a_bundle_that_rots_under_a_running_reranker_changes_nothing(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    """It holds what it verified: a new Interpreter, an explanation and a lesson need no file."""
    folder = shutil.copytree(shop.FOLDER, tmp_path / "bundle")
    found = Reranker.load(folder)
    expected = found.rank(ROWS, policy=BOOKS)
    for path in folder.iterdir():
        damage(path)
    with all_interpreters_but(1, found):
        again = found.rank(ROWS, policy=BOOKS)
    assert again.items == expected.items
    assert again.fallback is None
    assert again.explain(again.ids[0]).item == again.ids[0]
    again.clicked(again.ids[0])
    assert found.learn(budget_s=60.0).stopped == "no data"
    with pytest.raises(BundleError):
        Reranker.load(folder)


def test_a_bundle_that_is_gone_leaves_the_reranker_that_holds_it_usable_by_others(tmp_path: Path) -> None:
    folder = shutil.copytree(shop.FOLDER, tmp_path / "bundle")
    bundle = Bundle.open(folder)
    shutil.rmtree(folder)
    assert Reranker.load(bundle).rank(ROWS).items == Reranker.load(shop.FOLDER).rank(ROWS).items


# ---------------------------------------------------------------------------------------------------------- the runtime


@contextmanager
def all_interpreters_but(count: int, found: Reranker) -> Any:
    """As if other threads were in the middle of calls; the next ones need another Interpreter."""
    model = found._engine.scorer._model
    pool = model._pool
    taken = [pool.take() for _ in range(MAX_POOL - count)]
    idle, pool._idle = pool._idle, []
    pool._built -= len(idle)
    try:
        yield
    finally:
        for runners in taken:
            pool.give(runners)


def without_runtime(patch: pytest.MonkeyPatch) -> None:
    """As if the runtime had been uninstalled, or its library could not be loaded again."""
    for module in RUNTIMES.values():
        patch.setitem(sys.modules, module, None)


def test_a_runtime_that_has_gone_falls_back_and_keeps_the_policy_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Reranker.load(shop.bundle(), policy=BOOKS)
    expected = found.rank(ROWS).items
    with all_interpreters_but(1, found), monkeypatch.context() as patch:
        without_runtime(patch)
        slate = found.rank(ROWS)
        assert found.rank(ROWS).ids == slate.ids
    given = [row["id"] for row in ALLOWED if row["id"] != "item-25"]
    assert slate.ids == (*given[:2], "item-25", *given[2:])
    assert slate.fallback is not None
    assert slate.fallback.startswith("given order: ModelError: ")
    assert "worked when the model was opened, and has gone" in slate.fallback
    slate.clicked(slate.ids[0])
    assert len(found.store.events()) == 1
    found.forget()
    again = found.rank(ROWS)
    assert (again.items, again.fallback) == (expected, None)


def test_a_runtime_that_has_gone_leaves_the_calls_that_have_an_interpreter_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Reranker.load(shop.bundle())
    expected = found.rank(ROWS).items
    without_runtime(monkeypatch)
    assert found.rank(ROWS).items == expected


def test_without_the_runtime_the_cascade_and_the_previous_bundle_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The previous bundle holds an Interpreter of its own."""
    with_cascade, with_previous = faults.reranker(cascade=faults.BY_PLACE), faults.reranker(before=True)
    expected = {"cascade": with_cascade, "previous bundle": with_previous}
    with all_interpreters_but(1, with_cascade), monkeypatch.context() as patch:
        without_runtime(patch)
        slates = {name: found.rank(ROWS, policy=BOOKS) for name, found in expected.items()}
    for (name, slate), order in zip(slates.items(), ("cascade", "previous"), strict=True):
        assert str(slate.fallback).split(": ")[0] == name
        rest = [name for name in faults.ids_by(order, ALLOWED) if name != "item-25"]
        assert slate.ids == (*rest[:2], "item-25", *rest[2:])


IN_A_CHILD = """
import os, sys
from pocketrank import Reranker
from pocketrank.policy import Condition, Policy
from pocketrank.runtime import RUNTIMES
from tests import shop
found = Reranker.load(shop.bundle(), policy=Policy(deny=(Condition("kind", "contains", "book"),)))
rows = shop.candidates(range(30))
expected = found.rank(rows)
gone = sys.argv[1] == "gone"
if os.fork():
    _, status = os.wait()
    assert found.rank(rows).items == expected.items
    sys.exit(os.waitstatus_to_exitcode(status))
if gone:
    for module in RUNTIMES.values():
        sys.modules[module] = None
slate = found.rank(rows)
assert set(slate.ids) == set(expected.ids)
assert (slate.fallback is not None and "has gone" in slate.fallback) == gone, slate.fallback
assert gone or slate.items == expected.items
os._exit(0)
"""


@pytest.mark.parametrize("runtime", ["gone", "here"])
def test_a_forked_child_goes_on_with_and_without_the_runtime(runtime: str) -> None:
    """A child builds an Interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_A_CHILD, runtime],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------------------- the disk


def fill(store: DeviceStore) -> None:
    """As a full disk: there is no room for another page."""
    db = store._file.connection()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count={pages}")


def free(store: DeviceStore) -> None:
    store._file.connection().execute("PRAGMA max_page_count=100000")


def on_disk(path: Path) -> Reranker:
    return Reranker.load(shop.bundle(), store=DeviceStore(path, limits=Limits(max_age_s=1e9)), policy=BOOKS)


@pytest.mark.parametrize("kind", ["clicked", "shown", "skipped", "observed"])
def test_a_full_disk_refuses_feedback_whole_and_ranking_goes_on(kind: str, tmp_path: Path) -> None:
    found = on_disk(tmp_path / "store")
    found.observe(shop.events(1, 20))
    slate = found.rank(MANY)
    fill(found.store)
    told: dict[str, Callable[[], None]] = {
        "clicked": lambda: slate.clicked(slate.ids[0], at_s=1.75e9),
        "shown": lambda: slate.shown(at_s=1.75e9),
        "skipped": lambda: slate.skipped(slate.ids[0], at_s=1.75e9),
        "observed": lambda: found.observe([Event("item-1" * 99, 1.75e9 + at) for at in range(99)]),
    }
    with pytest.raises(StoreError, match="full"):
        told[kind]()
    again = found.rank(MANY)
    assert (again.items, again.fallback, again.filtered) == (slate.items, None, slate.filtered)
    assert len(found.store.events()) == 20
    assert found.store.impressions() == []
    assert on_disk(tmp_path / "store").rank(MANY).items == slate.items
    free(found.store)
    told[kind]()
    assert found.rank(ROWS).items == on_disk(tmp_path / "store").rank(ROWS).items
    assert len(found.store.impressions()) == (kind in {"clicked", "shown", "skipped"})


def test_a_store_that_is_closed_under_a_running_reranker_leaves_ranking_as_it_is(tmp_path: Path) -> None:
    found = on_disk(tmp_path / "store")
    found.observe(shop.events(1, 20))
    slate = found.rank(ROWS)
    found.store.close()
    assert found.rank(ROWS).items == slate.items
    with pytest.raises(StoreError, match="closed"):
        slate.clicked(slate.ids[0])
    assert found.rank(ROWS).items == slate.items
    assert found.stats().store is None


def test_a_store_that_rots_is_set_aside_and_ranking_goes_on_with_what_memory_holds(tmp_path: Path) -> None:
    path = tmp_path / "store"
    found = on_disk(path)
    found.observe(shop.events(1, 20))
    slate = found.rank(ROWS)
    found.store._file._disconnect()
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * len(content[100:]))
    slate.clicked(slate.ids[0], at_s=1.75e9)
    assert [event.item for event in found.store.events()] == [slate.ids[0]]
    assert found.stats().store_set_aside
    known = [*shop.events(1, 20), *found.store.events()]
    other = Reranker.load(shop.bundle(), policy=BOOKS)
    other.observe(known)
    again = found.rank(ROWS)
    assert (again.items, again.fallback) == (other.rank(ROWS).items, None)


# ------------------------------------------------------------------------------------------------ threads and the store


def ranked_meanwhile(found: Reranker, busy: threading.Thread, done: threading.Event) -> Slate:
    """A slate that came while ``busy`` held what it holds; it is ``done`` afterwards."""
    ranked: list[Slate] = []
    other = threading.Thread(target=lambda: ranked.append(found.rank(ROWS)))
    other.start()
    other.join(60)
    waited = other.is_alive()
    done.set()
    busy.join(60)
    other.join(60)
    assert not waited
    return ranked[0]


def test_ranking_waits_for_no_transaction_of_the_store(tmp_path: Path) -> None:
    """The store's lock and a transaction are held in another thread all the while."""
    found = on_disk(tmp_path / "store")
    slate = found.rank(ROWS)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with found.store.together():
            held.set()
            assert done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    assert ranked_meanwhile(found, thread, done).items == slate.items


def test_ranking_waits_for_no_feedback_that_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A click stands in the middle of its write, with every lock that it takes."""
    found = on_disk(tmp_path / "store")
    slate = found.rank(ROWS)
    writing, done = threading.Event(), threading.Event()
    record = DeviceStore.record

    def slow(store: DeviceStore, events: Any) -> None:
        writing.set()
        assert done.wait(60)
        record(store, events)

    monkeypatch.setattr(DeviceStore, "record", slow)
    clicking = threading.Thread(target=slate.clicked, args=(slate.ids[0],), kwargs={"at_s": 1.75e9})
    clicking.start()
    assert writing.wait(60)
    assert ranked_meanwhile(found, clicking, done).items == slate.items
    assert len(found.store.events()) == 1


class Crowd:
    """Threads that use one reranker at once, and what was wrong with what they got."""

    def __init__(self, found: Reranker) -> None:
        self.found = found
        self.wrong: list[object] = []
        self.stop = threading.Event()

    def rank(self) -> None:
        allowed = {row["id"] for row in ALLOWED}
        while not self.stop.is_set():
            slate = self.found.rank(ROWS)
            if set(slate.ids) != allowed or slate.ids[2] != "item-25" or slate.fallback is not None:
                self.wrong.append(slate)

    def tell(self) -> None:
        for turn in range(12):
            slate = self.found.rank(ROWS, k=8)
            slate.shown(5)
            slate.clicked(slate.ids[turn % 8], at_s=1.75e9)
            slate.dwelled(slate.ids[0], 3.0)
            self.found.observe(shop.events(turn, 2))

    def change(self) -> None:
        for turn in range(6):
            self.found.personalise(shop.bundle().params() if turn % 2 else None)
            self.found.learn(budget_s=0.05)
            self.found.undo_learning()
            self.found.stats()
            if turn % 3 == 2:
                self.found.forget()

    def start(self, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  (whatever it is, the test fails with it)
                self.wrong.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread


def test_many_threads_that_rank_click_learn_and_forget_at_once_get_whole_slates(tmp_path: Path) -> None:
    crowd = Crowd(on_disk(tmp_path / "store"))
    readers = [crowd.start(crowd.rank) for _ in range(3)]
    for thread in [crowd.start(work) for work in (crowd.tell, crowd.tell, crowd.tell, crowd.change)]:
        thread.join()
    crowd.stop.set()
    for thread in readers:
        thread.join()
    assert crowd.wrong == []
    assert crowd.found.rank(ROWS).items == on_disk(tmp_path / "store").rank(ROWS).items


def test_forgetting_while_it_learns_leaves_nothing_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``forget`` comes between the end of the training and the look at what it kept."""
    found = on_disk(tmp_path / "store")
    fresh = found.rank(ROWS).items
    own = {name: -value for name, value in shop.bundle().params().items()}
    personal = DeviceStore.personal

    def read_then_forget(store: DeviceStore, bundle: str) -> Any:
        kept = personal(store, bundle)
        monkeypatch.setattr(DeviceStore, "personal", personal)
        other = threading.Thread(target=found.forget)
        other.start()
        # It must wait until what was read is in use; where it did not wait, it is over by now.
        other.join(0.2)
        others.append(other)
        return kept

    others: list[threading.Thread] = []
    found.personalise(own)
    monkeypatch.setattr("pocketrank.learner.Learner.fit", lambda *_, **__: None)
    monkeypatch.setattr(DeviceStore, "personal", read_then_forget)
    found.learn(budget_s=1.0)
    others[0].join(60)
    assert found.rank(ROWS).items == fresh


def test_a_model_that_fails_in_an_explanation_fails_the_explanation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Reranker.load(shop.bundle())
    slate = found.rank(ROWS)

    def broken(*_: Any, **__: Any) -> Any:
        raise ModelError("planted")

    monkeypatch.setattr(found._engine.scorer, "variants", broken)
    with pytest.raises(ModelError, match="planted"):
        slate.explain(slate.ids[0])
    slate.clicked(slate.ids[0])
    assert found.rank(ROWS).fallback is None
