"""A shadow bundle: told how far it agrees, and never felt."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pocketrank import DeviceStore, Reranker
from pocketrank.errors import InputError, ModelError
from pocketrank.metrics.agreement import rank_biased_overlap
from pocketrank.policy import Condition, Pin, Policy
from pocketrank.shadow import Agreement, Shadow
from tests import faults, shop

ROOT = Path(__file__).parents[2]
ROWS = shop.candidates(range(30))
POLICY = Policy(deny=(Condition("kind", "contains", "book"),), pins=(Pin("item-25", 2),))
ALLOWED = [row for row in ROWS if "book" not in (row["kind"] or ())]
FAR = 600
"""Seconds that no test takes."""


def agreement(found: Reranker) -> Agreement:
    """What ``found`` says when all that waits was compared."""
    assert found.shadow is not None
    found.shadow.drain()
    told = found.stats().shadow
    assert told is not None
    return told


def tau(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Kendall's tau of two orders without ties, pair by pair."""
    place = {name: at for at, name in enumerate(other)}
    pairs = [(a, b) for i, a in enumerate(one) for b in one[i + 1 :]]
    return sum(1 if place[a] < place[b] else -1 for a, b in pairs) / len(pairs)


def test_a_shadow_of_another_bundle_tells_how_far_the_models_agree_before_any_rule_of_order() -> None:
    found = faults.reranker(policy=POLICY, shadow=faults.previous())
    for _ in range(3):
        found.rank(ROWS, k=5)
    shown, other = faults.ids_by("model", ALLOWED), faults.ids_by("previous", ALLOWED)
    told = agreement(found)
    assert (told.bundle, told.slates, told.dropped, told.failed) == ("before@1", 3, 0, 0)
    assert told.rank_biased_overlap == pytest.approx(rank_biased_overlap(shown, other))
    assert told.kendall_tau == pytest.approx(tau(shown, other))
    assert told.p95_ms > 0.0


def test_a_bundle_agrees_with_itself() -> None:
    found = faults.reranker(shadow=faults.engine())
    found.observe(shop.events(1, 20))
    found.rank(ROWS)
    told = agreement(found)
    assert told.slates == 1
    assert [told.rank_biased_overlap, told.kendall_tau] == pytest.approx([1.0, 1.0])


def test_a_shadow_is_loaded_beside_a_bundle() -> None:
    found = Reranker.load(shop.FOLDER, shadow=shop.bundle())
    found.rank(ROWS)
    assert agreement(found).rank_biased_overlap == pytest.approx(1.0)
    assert Reranker.load(shop.FOLDER).stats().shadow is None


@pytest.mark.parametrize("shadow", [faults.engine, faults.previous])
def test_slates_are_the_same_bit_for_bit_with_and_without_a_shadow(shadow: Any) -> None:
    without, beside = faults.reranker(policy=POLICY), faults.reranker(policy=POLICY, shadow=shadow())
    for turn in range(5):
        slates = [found.rank(ROWS, k=10) for found in (without, beside)]
        assert slates[0].items == slates[1].items
        assert slates[0].stages == slates[1].stages
        for slate in slates:
            slate.shown(4, at_s=1.75e9 + turn)
            slate.clicked(slate.ids[turn], at_s=1.75e9 + turn)
    assert agreement(beside).slates == 5
    kept = [(found.store.events(), [shown.items for shown in found.store.impressions()]) for found in (without, beside)]
    assert kept[0] == kept[1]


def test_a_shadow_learns_of_the_person_what_the_other_learns() -> None:
    """What it knows of the person is what it would know if it had been the one that ranked."""
    found = faults.reranker(shadow=faults.previous())
    found.observe(shop.events(1, 20))
    slate = found.rank(ROWS)
    slate.shown(at_s=1.7001e9)
    slate.clicked(slate.ids[0], at_s=1.7001e9)
    assert found._aside is not None
    alone = Reranker(faults.previous(), DeviceStore())
    alone.observe(found.store.events())
    for known, expected in zip(
        found._aside[2].profile().words.values(), alone._pipeline._person.profile().words.values(), strict=True
    ):
        assert known.tolist() == expected.tolist()


# -------------------------------------------------------------------------------------------------- a shadow that fails


@pytest.mark.parametrize("place", ["previous", "previous features"])
@pytest.mark.parametrize("error", [RuntimeError("planted"), MemoryError(), InputError("planted"), ModelError("x")])
def test_a_shadow_that_raises_is_counted_and_changes_nothing(place: str, error: Exception) -> None:
    found = faults.reranker(shadow=faults.previous())
    expected = faults.reranker().rank(ROWS)
    with faults.planted(found, {place: error}):
        slate = found.rank(ROWS)
        told = agreement(found)
    assert (slate.items, slate.omitted, slate.fallback) == (expected.items, {}, None)
    assert (told.slates, told.failed) == (0, 1)
    found.rank(ROWS)
    assert agreement(found).slates == 1


@pytest.mark.parametrize("error", [RuntimeError("planted"), OSError("planted"), InputError("planted")])
def test_candidates_that_a_shadow_can_not_read_fail_the_shadow_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any) -> NoReturn:
        raise error

    found = faults.reranker(shadow=faults.previous())
    expected = faults.reranker().rank(ROWS)
    monkeypatch.setattr("pocketrank.reranker.read_again", unreadable)
    slate = found.rank(ROWS)
    assert (slate.items, slate.fallback) == (expected.items, None)
    assert agreement(found).failed == 1


def test_where_no_thread_can_be_had_the_slate_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    found = faults.reranker(shadow=faults.engine())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert found.rank(ROWS).items == faults.reranker().rank(ROWS).items
    assert found.stats().shadow == Agreement("shop@1", 0, 0, 1, 0.0, 0.0, 0.0)
    found.rank(ROWS)
    assert agreement(found).slates == 1


def test_a_slate_that_no_model_scored_is_not_compared() -> None:
    found = faults.reranker(shadow=faults.engine())
    with faults.planted(found, {"features": RuntimeError("planted")}):
        found.rank(ROWS)
    told = found.stats().shadow
    assert told is not None
    assert (told.slates, told.failed, told.dropped) == (0, 0, 0)


# ------------------------------------------------------------------------------------------------ a shadow that is slow


def test_a_slow_shadow_drops_slates_and_never_blocks() -> None:
    """The shadow stands still; every slate comes nevertheless, and those that find no room are counted."""
    shadow, busy, go_on = Shadow("slow@1"), threading.Event(), threading.Event()

    def order() -> list[str]:
        busy.set()
        assert go_on.wait(FAR)
        return ["a", "b"]

    shadow.offer(["a", "b"], order)
    assert busy.wait(FAR)
    for _ in range(100):
        shadow.offer(["a", "b"], lambda: ["a", "b"])
    dropped = shadow.agreement().dropped
    assert shadow.agreement().slates == 0
    go_on.set()
    shadow.drain()
    told = shadow.agreement()
    assert 0 < dropped < 100
    assert (told.slates, told.dropped, told.failed) == (101 - dropped, dropped, 0)


def test_a_reranker_does_not_wait_for_a_shadow_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def still(*_: Any) -> NoReturn:
        assert go_on.wait(FAR)
        raise RuntimeError("planted")

    found = faults.reranker(shadow=faults.previous())
    monkeypatch.setattr(faults.previous().scorer, "scores", still)
    expected = faults.reranker().rank(ROWS).items
    assert all(found.rank(ROWS).items == expected for _ in range(30))
    go_on.set()
    told = agreement(found)
    assert told.slates == 0
    assert told.failed + told.dropped == 30
    assert told.dropped > 0


def test_a_shadow_with_nothing_to_do_keeps_no_thread() -> None:
    found = faults.reranker(shadow=faults.engine())
    others = set(threading.enumerate())
    found.rank(ROWS)
    (thread,) = set(threading.enumerate()) - others
    assert agreement(found).slates == 1
    thread.join(FAR)
    assert not thread.is_alive()
    found.rank(ROWS)
    assert agreement(found).slates == 2


IN_A_CHILD = """
import os, sys
from pocketrank import Reranker
from tests import shop
found = Reranker.load(shop.bundle(), shadow=shop.bundle())
rows = shop.candidates(range(30))
found.rank(rows)
found.shadow.drain()
child = os.fork()
found.rank(rows)
found.shadow.drain()
assert found.stats().shadow.slates == 2, found.stats()
if not child:
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_forked_child_has_a_shadow_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CHILD], check=False, capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
