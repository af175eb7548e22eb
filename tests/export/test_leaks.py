"""Features of impression logs know nothing of what came later; leaks that are planted are caught and named."""

import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError, LeakError
from pocketrank.features.candidates import parse
from pocketrank_export.data.dataset import Dataset
from pocketrank_export.data.impressions import to_dataset
from pocketrank_export.data.leaks import check_past_only, check_times, without_future
from pocketrank_export.data.log import ImpressionLog, Logged
from tests import shop
from tests.export import logs

LOG = logs.log(logs.rows(1, users=("ann", "bob", "cem"), visits=6))
MOMENTS = [one.at_s for one in LOG.impressions]


def make(log: ImpressionLog) -> Dataset:
    return to_dataset(log, shop.SCHEMA, shop.bundle().files["vectors.npz"])


def with_ratings(log: ImpressionLog, values: Callable[[Logged], list[float]]) -> Dataset:
    """The slates, with the column ``rating`` out of ``values`` of each impression."""
    changed = [
        dataclasses.replace(one, candidates={**one.candidates, "rating": values(one)}) for one in log.impressions
    ]
    return make(dataclasses.replace(log, impressions=tuple(changed)))


def taken(impressions: Iterable[Logged]) -> dict[str, float]:
    """How often each item was taken."""
    counts: dict[str, float] = {}
    for one in impressions:
        for item, label in zip(one.candidates["id"], one.labels, strict=True):
            counts[item] = counts.get(item, 0.0) + (label > 0)
    return counts


def popular_at(log: ImpressionLog, known: Callable[[Logged, Logged], bool]) -> Dataset:
    """``rating`` counts how often the item was taken in the impressions that are ``known(one, other)`` at ``one``."""

    def values(one: Logged) -> list[float]:
        counts = taken(other for other in log.impressions if known(one, other))
        return [counts.get(item, 0.0) for item in one.candidates["id"]]

    return with_ratings(log, values)


# ----------------------------------------------------------------------------------------------------- what comes after


def test_what_is_replayed_knows_nothing_of_what_came_later() -> None:
    check_past_only(make, LOG, np.random.default_rng(0), cuts=100)


def test_a_count_of_what_came_before_is_no_leak() -> None:
    check_past_only(
        lambda log: popular_at(log, lambda one, other: other.at_s < one.at_s), LOG, np.random.default_rng(0), cuts=100
    )


@pytest.mark.parametrize(("seed", "at_s"), list(enumerate(MOMENTS[::2])))
def test_a_popularity_of_the_whole_log_is_caught_whatever_is_drawn(seed: int, at_s: float) -> None:
    with pytest.raises(LeakError, match=r"^rating: depends, at slates up to Unix time .*, on what came after"):
        check_past_only(lambda log: popular_at(log, lambda *_: True), LOG, np.random.default_rng(seed), at_s=at_s)


def test_a_slates_own_outcome_is_caught() -> None:
    """The count takes its own slate in: a comparison that should have been ``<``."""
    with pytest.raises(LeakError, match=r"^rating: depends"):
        check_past_only(
            lambda log: popular_at(log, lambda one, other: other.at_s <= one.at_s), LOG, np.random.default_rng(0)
        )


def test_an_outcome_that_came_later_is_caught() -> None:
    """A purchase of the next day, known to all slates after the one that it came of."""
    late_s = MOMENTS[-1] + 86_400.0
    rows = [{**row, "label_at_s": late_s if row["label"] else row["at_s"]} for row in logs.rows(1)]
    check_past_only(make, logs.log(rows), np.random.default_rng(0))
    log = logs.log(rows)
    with pytest.raises(LeakError, match=r"^rating: depends"):
        check_past_only(
            lambda log: popular_at(log, lambda one, other: other.at_s < one.at_s), log, np.random.default_rng(0)
        )


def test_a_mean_over_the_whole_log_is_caught() -> None:
    def standardised(log: ImpressionLog) -> Dataset:
        prices = [price for one in log.impressions for price in one.candidates["price"] if price is not None]
        return with_ratings(
            log, lambda one: [(price or 0.0) - np.mean(prices).item() for price in one.candidates["price"]]
        )

    with pytest.raises(LeakError, match=r"^rating: depends"):
        check_past_only(standardised, LOG, np.random.default_rng(0))


def test_the_number_of_impressions_is_caught_at_the_last_moment_too() -> None:
    def counted(log: ImpressionLog) -> Dataset:
        return with_ratings(log, lambda one: [float(len(log.impressions))] * len(one.labels))

    with pytest.raises(LeakError, match=r"^rating: depends"):
        check_past_only(counted, LOG, np.random.default_rng(0), at_s=MOMENTS[-1])


def test_several_columns_are_all_named() -> None:
    def leaking(log: ImpressionLog) -> Dataset:
        count = float(len(log.impressions))
        changed = [dataclasses.replace(one, context={**one.context, "basket": count}) for one in log.impressions]
        return with_ratings(dataclasses.replace(log, impressions=tuple(changed)), lambda one: [count] * len(one.labels))

    with pytest.raises(LeakError, match=r"^rating, basket, basket\*kind_affinity: depends"):
        check_past_only(leaking, LOG, np.random.default_rng(0), at_s=MOMENTS[9])


def test_candidates_that_are_left_out_by_what_came_later_are_caught() -> None:
    def kept(log: ImpressionLog) -> Dataset:
        """Only people who come back."""
        last = {one.group: one.at_s for one in log.impressions}
        known = tuple(one for one in log.impressions if last[one.group] > MOMENTS[-1])
        return make(dataclasses.replace(log, impressions=known or log.impressions))

    with pytest.raises(LeakError, match=r"^the candidates of the slates"):
        check_past_only(kept, LOG, np.random.default_rng(0), at_s=MOMENTS[8])


def test_what_is_not_deterministic_is_not_taken_for_a_leak() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(LeakError, match="rating: differs between two builds of one log; make it deterministic"):
        check_past_only(
            lambda log: with_ratings(log, lambda one: rng.random(len(one.labels)).tolist()),
            LOG,
            np.random.default_rng(0),
        )


def test_slates_without_times_are_refused() -> None:
    with pytest.raises(InputError, match="at_s: the slates have no times"):
        check_past_only(lambda log: dataclasses.replace(make(log), at_s=None), LOG, np.random.default_rng(0))


@given(st.integers(0, 1000), st.sampled_from(MOMENTS))
def test_scrambling_changes_all_that_comes_after_and_no_candidate_before(seed: int, at_s: float) -> None:
    other = without_future(LOG, at_s, np.random.default_rng(seed))
    past = [one for one in LOG.impressions if one.at_s <= at_s]
    for one, changed in zip(past, other.impressions, strict=False):
        labels = one.labels if one.at_s < at_s else tuple(float(not label) for label in one.labels)
        assert changed == dataclasses.replace(one, labels=labels)
    future = other.impressions[len(past) :]
    assert len(future) == len(LOG.impressions) - len(past) + 1
    assert all(one.at_s > at_s for one in future)
    assert not {one.at_s for one in future} & set(MOMENTS)
    check_times(other)
    for one in other.impressions:
        parse(one.candidates, shop.SCHEMA, one.context, now_s=one.at_s)


# ------------------------------------------------------------------------------------------------- values' own times


def test_values_of_the_moment_and_before_are_no_leak() -> None:
    rows = logs.rows(2)
    for row in rows:
        row |= {"price_at_s": row["at_s"], "item_at_s": row["at_s"] - 1.0, "context.basket_at_s": row["at_s"]}
    check_times(logs.log(rows))
    check_past_only(make, logs.log(rows), np.random.default_rng(0))


@pytest.mark.parametrize("name", ["price_at_s", "kind_at_s", "style_at_s", "item_at_s"])
@pytest.mark.parametrize("late_s", [1e-3, 60.0])
def test_a_value_from_after_its_impression_is_named(name: str, late_s: float) -> None:
    rows = logs.rows(2)
    rows[2] |= {name: rows[2]["at_s"] + late_s}
    message = f"rows:1: impression 'i0': item '{rows[2]['item']}': {name}: .* is after the impression at"
    for check in (check_times, make):
        with pytest.raises(LeakError, match=message):
            check(logs.log(rows))


def test_a_value_of_the_session_from_after_it_is_named() -> None:
    rows = logs.rows(2)
    for row in rows[:4]:
        row |= {"context.basket_at_s": row["at_s"] + 1.0}
    with pytest.raises(LeakError, match=r"rows:1: impression 'i0': context\.basket_at_s: .* is after the impression"):
        make(logs.log(rows))


@pytest.mark.parametrize("time", ["noon", math.nan, math.inf, True])
def test_a_values_time_that_is_none_is_named(time: object) -> None:
    rows = logs.rows(2)
    rows[1]["price_at_s"] = time
    with pytest.raises(InputError, match="price_at_s: expected Unix seconds, got"):
        check_times(logs.log(rows))
