"""The device store: what it keeps, and what it lets go of when it is full."""

import math
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
from pocketrank.store import DeviceStore, Event, Limits

DAY_S = 86_400.0
FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)
EVENTS = st.lists(
    st.builds(
        Event,
        item=st.text(min_size=1, max_size=8),
        at_s=st.floats(1.7e9, 1.71e9),
        value=st.floats(-1e9, 1e9),
        fields=st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=3).map(tuple), max_size=2),
        embeddings=st.dictionaries(
            st.text(max_size=5),
            st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4).map(tuple),
            max_size=2,
        ),
        action=st.sampled_from(["engaged", "shown"]),
    ),
    max_size=10,
)


def full(store: DeviceStore) -> None:
    """As a full disk: room for a page or two, not for ``large_events``."""
    db = store._file.connection()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count={pages + 1}")


def large_events() -> list[Event]:
    return [Event(f"lost-{number}" * 50, 0.0) for number in range(1000)]


def shown(store: DeviceStore, items: tuple[str, ...] = ("a", "b")) -> int:
    return store.record_impression(items, FEATURES[: len(items)], at_s=1.0, bundle="digest")


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


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


def test_outcomes_of_each_kind_stand_beside_each_other() -> None:
    store = DeviceStore()
    number = shown(store)
    told = [("a", "click", 0.5), ("a", "dwell", 12.5), ("b", "skip", 1.0), ("b", "bought_2", 1.0), ("a", "dwell", 40.0)]
    for item, kind, value in told:
        store.record_outcome(number, item, value, kind=kind)
    (found,) = store.impressions()
    assert found.outcomes == {"click": {"a": 0.5}, "dwell": {"a": 40.0}, "skip": {"b": 1.0}, "bought_2": {"b": 1.0}}
    assert found.labels.tolist() == [0.5, 0.0]
    assert store.size().outcomes == 4


def test_scores_and_propensities_come_back_with_their_slate() -> None:
    store = DeviceStore()
    store.record_impression(
        ("a", "b"), FEATURES, at_s=1.0, bundle="x", scores=[2.5, math.nan], propensities=np.array([0.25, 1.0])
    )
    shown(store)
    first, second = store.impressions()
    np.testing.assert_array_equal(first.scores, np.array([2.5, np.nan], np.float32))
    np.testing.assert_array_equal(first.propensities, np.array([0.25, 1.0], np.float32))
    np.testing.assert_array_equal(first.features, FEATURES)
    assert (second.scores, second.propensities) == (None, None)


SEALS = pytest.mark.parametrize("key", [None, bytes(32)], ids=["clear", "sealed"])


@SEALS
def test_an_impression_takes_the_place_of_the_one_of_its_number_and_keeps_its_outcomes(key: bytes | None) -> None:
    store = DeviceStore(key=key)
    first, second = shown(store), shown(store)
    store.record_outcome(first, "a", 1.0)
    more = np.arange(9, dtype=np.float32).reshape(3, 3)
    found = store.record_impression(
        ("b", "a", "c"),
        more,
        at_s=3 * DAY_S,
        bundle="other",
        scores=[3, 2, 1],
        propensities=[1, 0.5, 0.25],
        number=first,
    )
    assert found == first
    store.record_outcome(first, "c", 0.5)
    changed, same = store.impressions()
    assert (changed.items, changed.at_s, changed.bundle) == (("b", "a", "c"), 3 * DAY_S, "other")
    np.testing.assert_array_equal(changed.features, more)
    np.testing.assert_array_equal(changed.scores, [3, 2, 1])
    np.testing.assert_array_equal(changed.propensities, [1, 0.5, 0.25])
    assert changed.labels.tolist() == [0.0, 1.0, 0.5]
    assert (same.items, same.labels.tolist()) == (("a", "b"), [0.0, 0.0])
    assert shown(store) > second


def test_a_slate_without_scores_takes_those_of_the_one_before_with_it() -> None:
    store = DeviceStore()
    number = store.record_impression(("a",), FEATURES[:1], at_s=1.0, bundle="x", scores=[1], propensities=[1])
    assert store.record_impression(("a",), FEATURES[:1], at_s=1.0, bundle="x", number=number) == number
    (found,) = store.impressions()
    assert (found.scores, found.propensities) == (None, None)


@pytest.mark.parametrize("slates", [5, 400], ids=["past the limit", "gone from the file"])
def test_an_impression_that_was_dropped_comes_back_under_a_number_of_its_own(slates: int) -> None:
    store = DeviceStore(limits=Limits(max_impressions=5))
    first = shown(store)
    store.record_outcome(first, "a", 1.0)
    others = [shown(store) for _ in range(slates)]
    again = store.record_impression(("b", "a"), FEATURES, at_s=1.0, bundle="x", number=first)
    assert again not in {first, *others}
    found = store.impressions()
    assert len(found) == 5
    assert (found[-1].items, found[-1].labels.tolist()) == (("b", "a"), [0.0, 0.0])
    store.record_outcome(again, "b", 1.0)
    assert store.impressions()[-1].labels.tolist() == [1.0, 0.0]


def test_a_number_that_was_never_given_is_not_taken() -> None:
    store = DeviceStore()
    assert store.record_impression(("a",), FEATURES[:1], at_s=1.0, bundle="x", number=10**9) == 1


def test_no_number_comes_twice_though_the_file_was_begun_anew(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    before = [shown(store) for _ in range(3)]
    for path in tmp_path.iterdir():
        path.unlink()
    assert shown(store) not in before
    store.record_outcome(before[0], "a", 1.0)
    assert [found.labels.tolist() for found in store.impressions()] == [[0.0, 0.0]]


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


def params(value: float) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    return {"w": np.array([value], np.float32)}


def test_undoing_goes_back_one_step() -> None:
    store = DeviceStore()
    assert store.undo_personal("one") is None
    store.keep_personal("one", params(1.0))
    store.keep_personal("one", params(2.0))
    assert store.undo_personal("one") == params(1.0) == store.personal("one")
    assert store.undo_personal("one") == params(1.0) == store.personal("one")


def test_undoing_the_first_step_goes_back_to_none() -> None:
    store = DeviceStore()
    store.keep_personal("one", params(1.0))
    assert store.undo_personal("one") is None
    assert store.personal("one") is None


def test_parameters_that_were_forgotten_can_be_had_back() -> None:
    store = DeviceStore()
    store.keep_personal("one", params(1.0))
    store.keep_personal("one", None)
    assert store.personal("one") is None
    assert store.undo_personal("one") == params(1.0)


def test_the_newest_bundles_keep_their_parameters_and_their_training() -> None:
    store = DeviceStore()
    for bundle in ("one", "two", "one", "three"):
        store.keep_personal(bundle, params(1.0))
        store.keep_progress(bundle, bundle.encode())
    assert [store.personal(bundle) for bundle in ("one", "two", "three")] == [params(1.0), None, params(1.0)]
    assert [store.progress(bundle) for bundle in ("one", "two", "three")] == [b"one", None, b"three"]
    store.keep_progress("one", None)
    assert store.progress("one") is None


# ------------------------------------------------------------------------------------------------------------ together


def test_calls_made_together_are_kept_together(tmp_path: Path) -> None:
    store, other = DeviceStore(tmp_path / "store.sqlite"), DeviceStore(tmp_path / "store.sqlite")
    with store.together():
        store.record([Event("a", 0.0)])
        with store.together():
            store.record_outcome(shown(store), "a", 1.0)
        assert len(store.events()) == 1
        assert (other.events(), other.impressions()) == ([], [])
    assert (len(other.events()), other.impressions()[0].labels.tolist()) == (1, [1.0, 0.0])


def test_calls_made_together_are_undone_together() -> None:
    store = DeviceStore()

    def fail() -> None:
        with store.together():
            store.record([Event("a", 0.0)])
            shown(store)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (store.events(), store.impressions()) == ([], [])
    store.record([Event("b", 0.0)])
    assert [event.item for event in store.events()] == ["b"]


def test_a_group_whose_call_failed_is_not_kept_even_if_the_error_was_caught(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    full(store)

    def go_on() -> None:
        with store.together():
            store.record([Event("before", 0.0)])
            with pytest.raises(StoreError, match="not written"):
                store.record(large_events())
            with pytest.raises(StoreError, match="a call before it failed"):
                store.record([Event("after", 0.0)])

    with pytest.raises(StoreError, match="nothing of these calls was kept"):
        go_on()
    assert store.events() == []
    store._file.connection().execute("PRAGMA max_page_count=100000")
    store.record([Event("later", 0.0)])
    assert [event.item for event in store.events()] == ["later"]


def test_bad_input_within_a_group_leaves_the_group_as_it_was() -> None:
    store = DeviceStore()
    with store.together():
        store.record([Event("a", 0.0)])
        with pytest.raises(InputError):
            store.record([Event("", 0.0)])
    assert [event.item for event in store.events()] == ["a"]


def test_a_store_cant_be_wiped_within_a_group() -> None:
    store = DeviceStore()
    with pytest.raises(StoreError, match="not while calls are made together"), store.together():
        store.wipe()


def test_other_threads_wait_for_a_group() -> None:
    store = DeviceStore()
    started = threading.Event()

    def record() -> None:
        started.set()
        store.record([Event("other", 0.0)])

    thread = threading.Thread(target=record)
    with store.together():
        thread.start()
        started.wait()
        for number in range(100):
            store.record([Event(f"{number}", 0.0)])
    thread.join()
    assert [event.item for event in store.events()] == [*(f"{number}" for number in range(100)), "other"]


# -------------------------------------------------------------------------------------------------------------- bounds


def test_the_oldest_events_go_first() -> None:
    store = DeviceStore(limits=Limits(max_events=50))
    store.record([Event(f"{number}", 0.0) for number in range(49)])
    store.record([Event("x", 0.0), Event("y", 0.0), Event("z", 0.0)])
    items = [event.item for event in store.events()]
    assert len(items) == 50
    assert items[0] == "2"
    assert items[-3:] == ["x", "y", "z"]


def test_more_events_at_once_than_fit_leave_the_newest() -> None:
    store = DeviceStore(limits=Limits(max_events=50))
    store.record(Event(f"{number}", 0.0) for number in range(60))
    items = [event.item for event in store.events()]
    assert (len(items), items[0]) == (50, "10")


def test_events_of_either_action_have_their_own_bound() -> None:
    store = DeviceStore(limits=Limits(max_events=3, max_shown=5))
    store.record([Event("liked", 0.0)])
    for number in range(300):
        store.record([Event(f"seen-{number}", 0.0, action="shown")])
    assert [event.item for event in store.events()] == ["liked", *(f"seen-{number}" for number in range(295, 300))]
    assert store.size().events == 1
    assert store.size().shown == 5


def test_the_oldest_impressions_go_with_their_outcomes() -> None:
    store = DeviceStore(limits=Limits(max_impressions=10))
    numbers = [shown(store) for _ in range(10)]
    store.record_outcome(numbers[0], "a", 1.0)
    store.record_outcome(numbers[1], "b", 1.0)
    assert store.size().outcomes == 2
    numbers.append(shown(store))
    assert [found.labels.tolist() for found in store.impressions()] == [[0.0, 1.0], *([[0.0, 0.0]] * 9)]
    assert store.size().outcomes == 1
    for _ in range(200):
        shown(store)
    # An outcome may arrive late, when nobody remembers the slate.
    store.record_outcome(numbers[1], "a", 1.0)
    assert store._file.read(lambda db: db.execute("SELECT count(*) FROM outcomes").fetchone()) == (0,)


NOW_S = 20_000 * DAY_S


@pytest.mark.parametrize(
    ("ages_days", "max_age_days", "kept"),
    [
        ([10, 3, 2, 0], 2, [2, 0]),
        ([3, 2, 0], 1.5, [2, 0]),
        ([400, 399], 2, [400, 399]),  # a log that is replayed keeps its span
        ([3, 2, -500], 2, [2, -500]),  # a wrong date in the future counts as today's
        ([9, 1], math.inf, [9, 1]),
        ([1, 0], 0, [0]),
    ],
)
def test_what_is_older_than_the_limit_goes(ages_days: list[int], max_age_days: float, kept: list[int]) -> None:
    store = DeviceStore(limits=Limits(max_age_s=max_age_days * DAY_S), clock=lambda: NOW_S)
    for age in ages_days:
        store.record([Event(f"{age}", NOW_S - age * DAY_S)])
        store.record_impression([f"{age}"], FEATURES[:1], at_s=NOW_S - age * DAY_S, bundle="digest")
    assert [event.item for event in store.events()] == [f"{age}" for age in kept]
    assert [found.items for found in store.impressions()] == [(f"{age}",) for age in kept]
    assert store.size().impressions == len(kept)


def test_what_is_too_old_leaves_the_file(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite", limits=Limits(max_age_s=DAY_S), clock=lambda: NOW_S)
    store.record([Event("old", NOW_S - 9 * DAY_S)])
    for _ in range(200):
        store.record([Event("new", NOW_S)])
    assert store._file.read(lambda db: db.execute("SELECT count(*), min(day) FROM events").fetchone()) == (200, 20_000)


LARGE: dict[str, tuple[int, Callable[[DeviceStore, int], object]]] = {
    "events": (
        150,
        lambda store, number: store.record(
            [Event(f"{number}", NOW_S, fields={"text": ("x" * 6_000,)}, action="shown" if number % 2 else "engaged")]
        ),
    ),
    "small events": (300, lambda store, _: store.record([Event("x", NOW_S) for _ in range(50)])),
    "batches": (60, lambda store, _: store.record([Event("x" * 400, NOW_S) for _ in range(50)])),
    "impressions": (
        80,
        lambda store, _: store.record_outcome(
            store.record_impression(
                [f"{i}" for i in range(100)], np.ones((100, 42), np.float32), at_s=NOW_S, bundle="d"
            ),
            "5",
            1.0,
        ),
    ),
    "outcomes": (
        350,
        lambda store, number: store.record_outcome(
            shown(store) if number % 250 == 0 else number // 250 + 1, "x" * 3_000 + str(number), 1.0
        ),
    ),
    "parameters": (50, lambda store, number: store.keep_personal(f"{number}", {"w": np.ones(7_000, np.float32)})),
    "progress": (50, lambda store, number: store.keep_progress(f"{number % 5}", bytes(30_000))),
}
"""So many calls bring a megabyte or more."""


@SEALS
@pytest.mark.parametrize(("calls", "write"), LARGE.values(), ids=LARGE)
def test_the_files_stay_below_the_limit(
    calls: int, write: Callable[[DeviceStore, int], object], key: bytes | None, tmp_path: Path
) -> None:
    rows = 1_000_000
    limits = Limits(max_events=rows, max_shown=rows, max_impressions=rows, max_bytes=1 << 20)
    store = DeviceStore(tmp_path / "store.sqlite", key=key, limits=limits)
    sizes = []
    for number in range(calls):
        write(store, number)
        if number % 5 == 0:
            sizes.append(bytes_of(tmp_path))
    assert max(sizes) < limits.max_bytes
    assert store.size().bytes == bytes_of(tmp_path)
    store.wipe()
    assert bytes_of(tmp_path) < limits.max_bytes


def test_events_of_all_kinds_at_once_stay_below_the_limit(tmp_path: Path) -> None:
    limits = Limits(max_bytes=1 << 20)
    store = DeviceStore(tmp_path / "store.sqlite", limits=limits)
    for number in range(40):
        with store.together():
            for _, write in LARGE.values():
                write(store, number)
        assert bytes_of(tmp_path) < limits.max_bytes
    assert store.events()[-1].item == "x" * 400


def test_a_store_that_is_opened_with_a_lower_limit_shrinks(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite")
    store.record(Event(f"{number}", NOW_S, fields={"text": ("x" * 900,)}) for number in range(1_000))
    store.record([Event("newest", NOW_S)])
    store.close()
    assert bytes_of(tmp_path) > 900_000
    store = DeviceStore(tmp_path / "store.sqlite", limits=Limits(max_bytes=1 << 20))
    store.close()
    assert bytes_of(tmp_path) < 1 << 19
    assert DeviceStore(tmp_path / "store.sqlite").events()[-1].item == "newest"


def test_a_group_of_any_size_leaves_the_newest(tmp_path: Path) -> None:
    store = DeviceStore(tmp_path / "store.sqlite", limits=Limits(max_bytes=1 << 20))
    store.record(Event(f"{number}", NOW_S, fields={"text": ("x" * 90,)}) for number in range(20_000))
    found = [int(event.item) for event in store.events()]
    assert found == list(range(found[0], 20_000))
    assert bytes_of(tmp_path) < 1 << 20


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_bytes": 1_000}, "max_bytes of at least 1048576, got 1000"),
        ({"max_events": -1}, "0 or more"),
        ({"max_age_s": math.nan}, "0 or more"),
    ],
)
def test_limits_out_of_range_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Limits(**limits)


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
    "scores of another length": lambda store: store.record_impression(
        ["a", "b"], FEATURES, at_s=0.0, bundle="x", scores=[1.0]
    ),
    "a propensity of nothing": lambda store: store.record_impression(
        ["a", "b"], FEATURES, at_s=0.0, bundle="x", propensities=[1.0, 0.0]
    ),
    "a slate at no time": lambda store: store.record_impression(["a", "b"], FEATURES, at_s=math.nan, bundle="x"),
    "an action that is none": lambda store: store.record([Event("a", 0.0, action="x")]),  # type: ignore[arg-type]
    "an embedding that is not finite": lambda store: store.record([Event("a", 0.0, embeddings={"e": (math.inf,)})]),
    "an event past the size": lambda store: store.record([Event("x" * (2 << 20), 0.0)]),
    "parameters past the size": lambda store: store.keep_personal("x", {"w": np.ones(1 << 20, np.float32)}),
    "training past the size": lambda store: store.keep_progress("x", bytes(1 << 20)),
    "a kind that is no name": lambda store: store.record_outcome(1, "a", 1.0, kind="Clicked!"),
    "a dwell time below 0": lambda store: store.record_outcome(1, "a", -1.0, kind="dwell"),
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
    full(store)
    with pytest.raises(StoreError, match=r"not written .*nothing of this call was kept"):
        store.record(large_events())
    assert [event.item for event in store.events()] == ["kept"]
    store._file.connection().execute("PRAGMA max_page_count=100000")
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
    store._file.connection().execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"store.sqlite: not written \(database is locked\)"):
        store.record([Event("a", 0.0)])
    other.execute("COMMIT")
    other.close()
    store.record([Event("a", 0.0)])
    assert len(store.events()) == 1
