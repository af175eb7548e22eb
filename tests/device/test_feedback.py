"""What an app says of a slate: what it writes, all of it or nothing, and what the next slate makes of it."""

import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrank import DeviceStore, Reranker
from pocketrank.errors import InputError, ModelError, StoreError
from pocketrank.feedback import Feedback
from pocketrank.policy import Policy, Quota
from pocketrank.slate import Slate
from tests import faults, shop

ROOT = Path(__file__).parents[2]
ROWS = shop.candidates(range(20))
COLUMNS = shop.SCHEMA.columns
AT_S = 1.75e9
Told = Callable[[Slate], None]
TOLD: Mapping[str, Told] = {
    "clicked": lambda slate: slate.clicked(slate.ids[1], value=4.0, label=0.5, at_s=AT_S),
    "shown": lambda slate: slate.shown(6, at_s=AT_S),
    "skipped": lambda slate: slate.skipped(slate.ids[1], at_s=AT_S),
    "dwelled": lambda slate: slate.dwelled(slate.ids[1], 12.5, at_s=AT_S),
    "labelled": lambda slate: slate.labelled(slate.ids[1], "saved", 0.75, at_s=AT_S),
}


def fresh(**parts: Any) -> tuple[Reranker, Slate]:
    found = faults.reranker(**parts)
    return found, found.rank(ROWS)


@pytest.mark.parametrize(
    ("kind", "outcome", "value"),
    [("clicked", "click", 0.5), ("skipped", "skip", 1.0), ("dwelled", "dwell", 12.5), ("labelled", "saved", 0.75)],
)
def test_each_word_is_kept_as_the_outcome_of_its_kind(kind: str, outcome: str, value: float) -> None:
    found, slate = fresh()
    TOLD[kind](slate)
    (kept,) = found.store.impressions()
    assert kept.outcomes == {outcome: {slate.ids[1]: value}}
    expected = np.zeros(len(ROWS))
    expected[1] = value
    np.testing.assert_array_equal(kept.labels, expected if outcome == "click" else 0.0)
    assert (kept.items, kept.at_s, kept.bundle) == (slate.ids, AT_S, found.bundle.digest)
    np.testing.assert_array_equal(kept.scores, np.array([item.score for item in slate], np.float32))


@pytest.mark.parametrize(
    ("kind", "events"), [("clicked", 1), ("shown", 6), ("skipped", 0), ("dwelled", 0), ("labelled", 0)]
)
def test_only_a_click_and_a_showing_become_events(kind: str, events: int) -> None:
    found, slate = fresh()
    TOLD[kind](slate)
    kept = found.store.events()
    assert [event.item for event in kept] == list(slate.ids[:events] if kind == "shown" else slate.ids[1 : 1 + events])
    assert {(event.action, event.at_s) for event in kept} <= {("shown" if kind == "shown" else "engaged", AT_S)}


def test_a_showing_keeps_what_was_on_the_screen_and_its_propensities() -> None:
    found, slate = fresh()
    slate.shown(3, propensities=[0.9, 0.5, 0.25])
    (kept,) = found.store.impressions()
    assert kept.items == slate.ids[:3]
    assert kept.features.shape == (3, len(COLUMNS))
    np.testing.assert_array_equal(kept.propensities, np.array([0.9, 0.5, 0.25], np.float32))
    assert kept.outcomes == {}


def test_a_showing_is_of_the_whole_slate_by_default() -> None:
    found, slate = fresh()
    slate.shown()
    assert found.store.impressions()[0].items == slate.ids
    assert found.store.impressions()[0].propensities is None
    assert len(found.store.events()) == len(slate)


def test_however_much_is_said_of_a_slate_it_is_one_impression() -> None:
    found, slate = fresh()
    for told in (*TOLD.values(), *TOLD.values()):
        told(slate)
    (kept,) = found.store.impressions()
    name = slate.ids[1]
    assert kept.outcomes == {"click": {name: 0.5}, "skip": {name: 1.0}, "dwell": {name: 12.5}, "saved": {name: 0.75}}
    again = found.rank(ROWS)
    again.skipped(again.ids[0], at_s=AT_S)
    assert len(found.store.impressions()) == 2


def test_the_impression_has_the_order_that_the_policy_made() -> None:
    found = faults.reranker(policy=Policy(quotas=(Quota("maker", 1, 2),)))
    slate = found.rank(ROWS, k=5)
    slate.shown()
    (kept,) = found.store.impressions()
    assert kept.items == slate.ids
    makers = [shop.item(int(name.removeprefix("item-")))["maker"] for name in kept.items[:2]]
    assert len(set(makers)) == 2
    rating = kept.features[:, COLUMNS.index("rating")]
    np.testing.assert_allclose(rating, [shop.item(int(name.removeprefix("item-")))["rating"] for name in slate.ids])


def column(found: Reranker, name: str) -> dict[str, float]:
    """A column of the features as the device computes them now, by item."""
    slate = found.rank(ROWS)
    assert isinstance(slate._behind, Feedback)
    ranking = slate._behind._ranking
    assert ranking.features is not None
    return dict(zip(ranking.columns.ids, ranking.features[:, COLUMNS.index(name)].tolist(), strict=True))


def test_what_was_shown_tires_and_what_was_not_does_not() -> None:
    found, slate = fresh()
    before = column(found, "fatigue")
    slate.shown(6)
    after = column(found, "fatigue")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == set(slate.ids[:6])
    assert all(after[name] > before[name] for name in changed)
    slate.shown(6)
    assert column(found, "fatigue") == after, "said twice of one slate, it was on the screen once"
    found.rank(ROWS).shown(len(ROWS))
    assert all(column(found, "fatigue")[name] > after[name] for name in changed)


def test_a_person_who_scrolls_on_is_shown_more_of_the_same_slate() -> None:
    found, slate = fresh()
    slate.shown(2, propensities=[1.0, 0.5])
    slate.clicked(slate.ids[1])
    slate.shown(4)
    (shown,) = found.store.impressions()
    assert shown.items == slate.ids[:4]
    assert shown.labels.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert shown.propensities is None, "those of two items say nothing of four"
    slate.shown(4, propensities=[1.0, 0.5, 0.3, 0.2])
    slate.shown(3)
    (shown,) = found.store.impressions()
    assert shown.propensities == pytest.approx([1.0, 0.5, 0.3, 0.2])
    assert [event.item for event in found.store.events() if event.action == "shown"] == list(slate.ids[:4])


def test_what_is_clicked_further_down_was_on_the_screen_too() -> None:
    found, slate = fresh()
    slate.shown(2)
    slate.clicked(slate.ids[4])
    (shown,) = found.store.impressions()
    assert shown.items == slate.ids[:5]
    assert shown.labels.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_rates_fall_with_what_is_shown_and_rise_with_what_is_taken() -> None:
    found, slate = fresh()
    kinds = {row["id"]: row["kind"] for row in ROWS}
    name = next(name for name in slate.ids if kinds[name])
    before = column(found, "kind_rate")[name]
    slate.shown()
    shown = column(found, "kind_rate")[name]
    for _ in range(5):
        slate.clicked(name)
    assert shown < before
    assert column(found, "kind_rate")[name] > shown


@pytest.mark.parametrize("kind", ["skipped", "dwelled", "labelled"])
def test_what_is_no_event_changes_no_feature(kind: str) -> None:
    found, slate = fresh()
    found.observe(shop.events(1, 20))
    before = found.rank(ROWS)
    TOLD[kind](slate)
    assert found.rank(ROWS).items == before.items


# ------------------------------------------------------------------------------------------------------- all or nothing


@pytest.mark.parametrize("error", [StoreError("planted"), RuntimeError("planted"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("record_impression", "clicked"),
        ("record_outcome", "clicked"),
        ("record", "clicked"),
        ("record_impression", "shown"),
        ("record", "shown"),
        ("record_outcome", "dwelled"),
    ],
)
def test_feedback_that_fails_half_way_keeps_nothing_and_may_be_said_again(
    call: str, kind: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, slate = fresh()
    original = getattr(DeviceStore, call)

    def broken(*arguments: Any, **named: Any) -> None:
        original(*arguments, **named)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(DeviceStore, call, broken)
        with pytest.raises(type(error)):
            TOLD[kind](slate)
    assert (found.store.events(), found.store.impressions()) == ([], [])
    assert found.rank(ROWS).items == slate.items
    assert found.stats().feedback == {}
    TOLD[kind](slate)
    other, same = fresh()
    TOLD[kind](same)
    assert found.store.events() == other.store.events()
    assert found.store.impressions()[0].outcomes == other.store.impressions()[0].outcomes


KILLED = """
import os, sys
from pocketrank import DeviceStore, Reranker
from tests import shop
slate = Reranker.load(shop.bundle(), store=sys.argv[1]).rank(shop.candidates(range(20)))
slate.shown(5, at_s=1.75e9)
original = getattr(DeviceStore, sys.argv[2])
def kill(*arguments, **named):
    original(*arguments, **named)
    os._exit(9)
setattr(DeviceStore, sys.argv[2], kill)
slate.clicked(slate.ids[0], at_s=1.75e9)
"""


@pytest.mark.parametrize("call", ["record_outcome", "record"])
def test_a_process_that_is_killed_in_the_middle_of_a_click_has_kept_nothing_of_it(call: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "store"), call], check=False, capture_output=True, cwd=ROOT
    )
    assert done.returncode == 9, done.stderr
    store = DeviceStore(tmp_path / "store")
    assert [event.action for event in store.events()] == ["shown"] * 5
    (kept,) = store.impressions()
    assert kept.outcomes == {}


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (lambda slate: slate.shown(0), "count: expected 1 to 20"),
        (lambda slate: slate.shown(21), "count: expected 1 to 20"),
        (lambda slate: slate.shown(2, propensities=[0.5]), "propensities: expected 2"),
        (lambda slate: slate.shown(2, propensities=[0.5, 0.0]), "propensities: expected 2 above 0 to 1"),
        (lambda slate: slate.shown(2, propensities=[0.5, 1.1]), "propensities: expected 2 above 0 to 1"),
        (lambda slate: slate.shown(2, propensities=[0.5, math.nan]), "propensities: expected 2 above 0 to 1"),
        (lambda slate: slate.shown(2, at_s=math.inf), "at_s: expected a finite Unix time"),
        (lambda slate: slate.clicked("item-99"), "'item-99' is not in this slate"),
        (lambda slate: slate.skipped("item-99"), "'item-99' is not in this slate"),
        (lambda slate: slate.skipped("item-1", at_s=math.nan), "at_s: expected a finite Unix time"),
        (lambda slate: slate.dwelled("item-99", 1.0), "'item-99' is not in this slate"),
        (lambda slate: slate.dwelled("item-1", -0.1), "duration_s of 0 or more, got -0.1"),
        (lambda slate: slate.dwelled("item-1", math.nan), "duration_s of 0 or more, got nan"),
        (lambda slate: slate.dwelled("item-1", math.inf), "duration_s of 0 or more, got inf"),
        (lambda slate: slate.labelled("item-99", "saved", 1.0), "'item-99' is not in this slate"),
        (lambda slate: slate.labelled("item-1", "saved", 1.5), "a value 0 to 1, got 'saved' and 1.5"),
        (lambda slate: slate.labelled("item-1", "saved", math.nan), "a value 0 to 1"),
        (lambda slate: slate.labelled("item-1", "click", 1.0), "other than"),
        (lambda slate: slate.labelled("item-1", "Saved", 1.0), "a label of a-z"),
        (lambda slate: slate.labelled("item-1", "", 1.0), "a label of a-z"),
        (lambda slate: slate.labelled("item-1", "a" * 33, 1.0), "a label of a-z"),
        (lambda slate: slate.labelled("item-1", "saved\n", 1.0), "a label of a-z"),
        (lambda slate: slate.explain("item-99"), "'item-99' is not in this slate"),
        (lambda slate: slate.shown("2"), "count: expected 1 to 20"),
        (lambda slate: slate.shown(2.0), "count: expected 1 to 20"),
        (lambda slate: slate.shown(1, propensities=iter([0.5])), "propensities: expected 1 above 0 to 1"),
        (lambda slate: slate.shown(1, propensities=["likely"]), "propensities: expected 1 above 0 to 1"),
        (lambda slate: slate.clicked("item-1", value="5"), "value within .* got 1.0 and '5'"),
        (lambda slate: slate.clicked("item-1", label=None), "label 0 to 1 .* got None and 1.0"),
        (lambda slate: slate.clicked("item-1", at_s=10**400), "at_s: expected a finite Unix time"),
        (lambda slate: slate.clicked("item-1", at_s=datetime.now(UTC)), "at_s: expected a finite Unix time"),
        (lambda slate: slate.dwelled("item-1", "3"), "duration_s of 0 or more, got '3'"),
        (lambda slate: slate.labelled("item-1", 5, 1.0), "a label of a-z"),
    ],
)
def test_what_can_not_be_is_refused_and_nothing_of_it_kept(told: Told, message: str) -> None:
    found, slate = fresh()
    with pytest.raises(InputError, match=message):
        told(slate)
    assert (found.store.events(), found.store.impressions()) == ([], [])
    assert found.stats().feedback == {}


def say_and_fail(found: Reranker, slate: Slate) -> None:
    with found.store.together():
        slate.shown(5)
        slate.clicked(slate.ids[0])
        found.personalise({name: value + 1 for name, value in found.bundle.params().items()})
        raise KeyError


def test_what_a_group_of_calls_took_back_was_never_said() -> None:
    found, slate = fresh()
    before = found.rank(ROWS).items
    with pytest.raises(KeyError):
        say_and_fail(found, slate)
    assert found.rank(ROWS).items == before
    slate.shown(5)
    slate.clicked(slate.ids[1])
    (kept,) = found.store.impressions()
    assert (kept.items, kept.outcomes) == (slate.ids[:5], {"click": {slate.ids[1]: 1.0}})
    assert found.rank(ROWS).items == faults.reranker(store=found.store).rank(ROWS).items


def test_what_is_said_in_a_group_of_calls_is_known_after_it() -> None:
    found, slate = fresh()
    with found.store.together():
        slate.shown(5)
        slate.clicked(slate.ids[0])
        slate.clicked(slate.ids[1])
    (kept,) = found.store.impressions()
    assert kept.outcomes == {"click": dict.fromkeys(slate.ids[:2], 1.0)}
    assert found.rank(ROWS).items == faults.reranker(store=found.store).rank(ROWS).items


def test_an_empty_slate_has_nothing_to_say() -> None:
    slate = faults.reranker().rank([])
    with pytest.raises(InputError, match="count: expected 1 to 0"):
        slate.shown()


# ----------------------------------------------------------------------------------------------------- after a fallback


@pytest.mark.parametrize("kind", sorted(TOLD))
@pytest.mark.parametrize("failing", ["input", "features", "model"])
def test_feedback_on_a_fallback_keeps_the_events_and_an_impression_where_there_are_features(
    failing: str, kind: str
) -> None:
    found = faults.reranker()
    with faults.planted(found, {failing: RuntimeError("planted")}):
        slate = found.rank(ROWS)
    TOLD[kind](slate)
    assert len(found.store.events()) == {"clicked": 1, "shown": 6}.get(kind, 0)
    kept = found.store.impressions()
    assert len(kept) == (failing == "model")
    if kept:
        assert kept[0].scores is None
        assert kept[0].features.shape == (len(kept[0].items), len(COLUMNS))
    assert found.stats().feedback == {kind: 1}
    assert found.rank(ROWS).fallback is None


def test_an_impression_of_the_previous_bundle_is_kept_under_its_own_digest() -> None:
    found = faults.reranker(before=True)
    with faults.planted(found, {"model": RuntimeError("planted")}):
        slate = found.rank(ROWS)
    slate.clicked(slate.ids[0])
    (kept,) = found.store.impressions()
    assert kept.bundle == faults.previous().bundle.digest != found.bundle.digest
    stars = kept.features[:, faults.previous().columns.index("stars")]
    assert (stars == 0.0).all()


def test_what_was_said_before_a_restart_is_known_after_it(tmp_path: Path) -> None:
    found = faults.reranker(store=DeviceStore(tmp_path / "store"))
    slate = found.rank(ROWS)
    for told in TOLD.values():
        told(slate)
    again = faults.reranker(store=DeviceStore(tmp_path / "store"))
    assert column(again, "fatigue") == column(found, "fatigue")
    assert column(again, "kind_rate") == column(found, "kind_rate")


@pytest.mark.parametrize("kept_before", ["nothing", "an impression"])
def test_feedback_on_a_slate_from_before_forgetting_brings_nothing_of_it_back(kept_before: str) -> None:
    found = faults.reranker()
    found.observe(shop.events(1, 20))
    slate = found.rank(ROWS)
    if kept_before == "an impression":
        slate.shown()
    found.forget()
    slate.clicked(slate.ids[0])
    assert found.store.impressions() == []
    assert [event.item for event in found.store.events()] == [slate.ids[0]]


# --------------------------------------------------------------------------------------------------------- explanations


def test_a_slate_explains_the_score_that_it_shows_in_whatever_place_the_policy_put_the_item() -> None:
    found = faults.reranker(personal=True, policy=Policy(quotas=(Quota("maker", 1, 2),)))
    slate = found.rank(ROWS)
    for item in slate.items[:4]:
        assert slate.explain(item.id).score == pytest.approx(item.score, abs=2e-4)
    largest = next(iter(slate.explain(slate.ids[0]).contributions))
    assert largest == "discount"


@pytest.mark.parametrize("failing", ["input", "features", "model"])
def test_a_slate_that_no_model_scored_explains_nothing(failing: str) -> None:
    found = faults.reranker()
    with faults.planted(found, {failing: RuntimeError("planted")}):
        slate = found.rank(ROWS)
    with pytest.raises(InputError, match=r"no model scored it; see the slate's fallback"):
        slate.explain(slate.ids[0])


def test_an_item_that_the_model_did_not_see_is_not_explained() -> None:
    slate = faults.reranker(cascade=faults.BY_PLACE).rank(shop.candidates(range(150)))
    assert slate.explain(slate.ids[99]).score == pytest.approx(slate.items[99].score, abs=2e-4)
    with pytest.raises(InputError, match="no model scored it"):
        slate.explain(slate.ids[100])


def test_the_previous_bundle_explains_its_own_scores() -> None:
    found = faults.reranker(before=True)
    with faults.planted(found, {"model": ModelError("planted")}):
        slate = found.rank(ROWS)
    explained = slate.explain(slate.ids[0])
    assert next(iter(explained.contributions)) == "price"
    assert "stars" in explained.contributions
