"""What an app can tell its monitoring: counts that add up, and nothing of the person."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank import Bundle, DeviceStore, Event, Reranker
from pocketrank.errors import InputError, StoreError
from pocketrank.policy import Boost, Condition, Pin, Policy, Quota
from pocketrank.stats import BUCKETS_MS
from tests import faults, shop

ROWS = shop.candidates(range(30))
BOOKS = Policy(deny=(Condition("kind", "contains", "book"),))
BOOK_COUNT = sum("book" in (row["kind"] or ()) for row in ROWS)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.sampled_from([None, "model", "features", "filters", "input"]),
            st.sampled_from([RuntimeError("x"), MemoryError(), KeyError("x")]),
        ),
        max_size=8,
    )
)
def test_counts_add_up(calls: list[tuple[int, str | None, Exception]]) -> None:
    found = faults.reranker(policy=BOOKS)
    candidates = filtered = 0
    fallbacks: Counter[str] = Counter()
    omitted: Counter[str] = Counter()
    latency_sum_ms = 0.0
    for count, place, error in calls:
        with faults.planted(found, {place: error} if place else {}):
            slate = found.rank(shop.candidates(range(count)))
        candidates += count
        filtered += slate.filtered
        latency_sum_ms += slate.latency_ms
        omitted.update(f"{stage}: {why.split(': ')[0]}" for stage, why in slate.omitted.items())
        if slate.fallback is not None:
            fallbacks[": ".join(slate.fallback.split(": ")[:2])] += 1
    told = found.stats()
    assert (told.slates, told.candidates, told.filtered) == (len(calls), candidates, filtered)
    assert told.fallbacks == fallbacks
    assert told.omitted == omitted
    assert sum(told.latency_ms.values()) == len(calls)
    assert told.latency_sum_ms == pytest.approx(latency_sum_ms)
    assert told.bundle == "shop@1"


def test_each_latency_is_counted_in_the_first_bucket_that_holds_it() -> None:
    found = faults.reranker()
    expected = dict.fromkeys([*(f"{bound:g}" for bound in BUCKETS_MS), "inf"], 0)
    for _ in range(20):
        took_ms = found.rank(ROWS).latency_ms
        expected[next((f"{bound:g}" for bound in BUCKETS_MS if took_ms <= bound), "inf")] += 1
    assert found.stats().latency_ms == expected


def test_fallbacks_are_counted_by_what_ranked_and_the_kind_of_the_cause() -> None:
    found = faults.reranker(personal=True, before=True)
    for failing, error in [
        (["personal"], RuntimeError("some words")),
        (["personal"], RuntimeError("other words")),
        (["personal", "model"], ValueError("x")),
        (["features", "previous"], KeyError("x")),
    ]:
        with faults.planted(found, dict.fromkeys(failing, error)):
            found.rank(ROWS)
    found.rank(ROWS, deadline_ms=0.0)
    told = found.stats()
    assert told.fallbacks == {
        "shared parameters: RuntimeError": 2,
        "previous bundle: ValueError": 1,
        "given order: KeyError": 1,
        "given order: deadline": 1,
    }
    assert told.omitted == {
        "personal model: RuntimeError": 2,
        "personal model: ValueError": 1,
        "model: ValueError": 1,
        "features: KeyError": 1,
        "previous bundle: ModelError": 1,
        "features: deadline": 1,
        "previous bundle: deadline": 1,
    }


def test_shares_of_missing_and_of_stale_values_are_told_by_feature() -> None:
    found = faults.reranker()
    found.rank(ROWS)
    found.rank(ROWS[:10])
    seen = [*ROWS, *ROWS[:10]]
    told = found.stats()
    assert told.default_rates["price"] == pytest.approx(sum("price" not in row for row in seen) / 40)
    assert told.default_rates["taste"] == pytest.approx(sum("taste" not in row for row in seen) / 40)
    assert told.default_rates["screen"] == 1.0
    assert told.stale_rates == {"discount": pytest.approx(sum("discount_at_s" in row for row in seen) / 40)}
    assert set(told.default_rates) <= {feature.name for feature in shop.SCHEMA.features}


def test_a_policy_that_could_not_be_kept_in_full_is_counted() -> None:
    found = faults.reranker(policy=Policy(pins=(Pin("gone", 0),)))
    found.rank(ROWS)
    found.rank([*ROWS[:3], {**ROWS[4], "id": "gone"}])
    assert found.stats().given_up == 1


def test_feedback_is_counted_by_kind_and_not_what_was_refused() -> None:
    found = faults.reranker()
    slate = found.rank(ROWS)
    slate.shown()
    slate.clicked(slate.ids[0])
    slate.clicked(slate.ids[1])
    slate.skipped(slate.ids[2])
    slate.dwelled(slate.ids[2], 2.0)
    slate.labelled(slate.ids[2], "saved", 1.0)
    found.observe(shop.events(1, 5))
    with pytest.raises(InputError):
        slate.clicked("elsewhere")
    assert found.stats().feedback == {
        "shown": 1,
        "clicked": 2,
        "skipped": 1,
        "dwelled": 1,
        "labelled": 1,
        "observed": 1,
    }


def test_input_that_is_refused_is_no_slate() -> None:
    found = faults.reranker()
    for bad in ([{"price": 1.0}], [{"id": "a", "price": "much"}], [ROWS[0], ROWS[0]]):
        with pytest.raises(InputError):
            found.rank(bad)
    assert found.stats().slates == 0
    assert found.stats().candidates == 0


def test_the_store_is_told_by_its_size_and_by_none_where_it_can_not_be_read(tmp_path: Path) -> None:
    found = faults.reranker(store=DeviceStore(tmp_path / "store"))
    slate = found.rank(ROWS)
    slate.shown(4)
    slate.clicked(slate.ids[0])
    size = found.stats().store
    assert size is not None
    assert (size.events, size.shown, size.impressions, size.outcomes) == (1, 4, 1, 1)
    found.store.close()
    assert found.stats().store is None
    assert found.stats().slates == 1


def test_stats_of_a_new_reranker_are_zero() -> None:
    told = faults.reranker().stats()
    assert (told.slates, told.candidates, told.filtered, told.given_up, told.latency_sum_ms) == (0, 0, 0, 0, 0.0)
    assert (told.fallbacks, told.omitted, told.default_rates, told.stale_rates, told.feedback) == ({}, {}, {}, {}, {})
    assert sum(told.latency_ms.values()) == 0


def test_a_copy_that_was_taken_does_not_change_later() -> None:
    found = faults.reranker()
    found.rank(ROWS)
    told = found.stats()
    before = json.dumps(told.to_json())
    found.rank(ROWS, deadline_ms=0.0)
    assert json.dumps(told.to_json()) == before


# ------------------------------------------------------------------------------------------------ nothing of the person

SECRET = "zqxSECRETxqz"


class SecretError(Exception):
    """Says what it found."""


def secret_rows() -> list[dict[str, Any]]:
    """Candidates with something unmistakable wherever there is room for it; a number stands for the vectors."""
    return [
        {
            **row,
            "id": f"{SECRET}-id-{at}",
            "kind": [f"{SECRET}-kind"],
            "maker": [f"{SECRET}-maker"],
            "colour": f"{SECRET}-colour",
            "price": 123456.25 + at,
            "taste": [0.98765625] * 4,
            "note": f"{SECRET}-note",
            f"{SECRET}-field": at,
        }
        for at, row in enumerate(ROWS)
    ]


def test_nothing_of_the_person_is_in_the_stats(tmp_path: Path) -> None:
    """Through all that holds something of theirs: ids, fields, context, vectors, rules, labels, errors, files."""
    rules = Policy(
        deny=(Condition("note", "eq", f"{SECRET}-denied"),),
        pins=(Pin(f"{SECRET}-id-3", 0), Pin(f"{SECRET}-gone", 1)),
        boosts=(Boost(Condition(f"{SECRET}-field", "gt", 3), 0.5),),
        quotas=(Quota("note", 1, 3),),
    )
    store = DeviceStore(tmp_path / f"{SECRET}-store")
    found = faults.reranker(store=store, policy=rules, personal=True, before=True, shadow=faults.previous())
    context = {"screen": f"{SECRET}-screen", "basket": 123456.25, f"{SECRET}-context": SECRET}
    slate = found.rank(secret_rows(), context=context)
    for places in ([], ["input"], ["filters"], ["features", "previous"], ["personal", "model"], ["policy"], ["prune"]):
        errors = (SecretError(f"{SECRET}: {SECRET}"), KeyError(SECRET), OSError(2, SECRET, str(tmp_path / SECRET)))
        for error in errors:
            with faults.planted(found, dict.fromkeys(places, error)):
                slate = found.rank(secret_rows(), context=context)
            for name in slate.ids[:2]:
                slate.shown(2)
                slate.clicked(name, value=123456.25)
                slate.labelled(name, SECRET.lower(), 0.5)
    found.observe([Event(f"{SECRET}-event", 1.75e9, 2.0, {"kind": (f"{SECRET}-word",)}, {"taste": (0.98765625,) * 4})])
    assert found.shadow is not None
    found.shadow.drain()
    store._file._disconnect()
    content = (tmp_path / f"{SECRET}-store").read_bytes()
    (tmp_path / f"{SECRET}-store").write_bytes(content[:100] + SECRET.encode() * 999)
    with pytest.raises((StoreError, InputError)):
        slate.clicked(f"{SECRET}-elsewhere")
    slate.clicked(slate.ids[0])
    told = json.dumps(found.stats().to_json())
    assert found.stats().slates == 22
    assert found.stats().store_set_aside
    assert SECRET.lower() not in told.lower()
    assert "123456" not in told
    assert "0.98765625" not in told
    assert str(tmp_path) not in told


def test_the_names_in_the_stats_are_those_of_the_bundle_and_of_errors_alone() -> None:
    found = Reranker.load(Bundle.open(shop.FOLDER))
    found.rank(secret_rows(), deadline_ms=0.0)
    told = found.stats()
    assert set(told.default_rates) | set(told.stale_rates) <= {feature.name for feature in shop.SCHEMA.features}
    assert set(told.fallbacks) == {"given order: deadline"}
    assert set(told.omitted) == {"features: deadline"}
