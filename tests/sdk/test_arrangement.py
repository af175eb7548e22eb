"""Arrangement: rules against every permutation of small slates, what is said when they can't be held, and reasons."""

import itertools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pocketrank.policy.arrangement import Arrangement, arrange, diversified
from pocketrank.policy.diversity import diversify
from pocketrank.policy.fairness import fair_targets
from pocketrank.policy.filters import entries
from pocketrank.policy.places import MAX_CHECKS_IN_ALL, TOGETHER, Effort, HeldQuota, HeldShare, Places, Search
from pocketrank.policy.rules import MAX_PLACES, Boost, Condition, Diversity, MinShare, Pin, Policy, Quota

Columns = Mapping[str, Sequence[Any]]
LOCAL = Condition("local", "eq", True)
FRESH = Condition("fresh", "eq", True)
NO_FIELDS: Columns = {}
IDS = [f"item{i}" for i in range(2_000)]


def arranged(policy: Policy, columns: Columns, k: int, scores: Sequence[float] | None = None) -> Arrangement:
    """All candidates in the order given, or in that of ``scores``."""
    n = len(next(iter(columns.values())))
    values = None if scores is None else np.array(scores, np.float32)
    order = list(range(n)) if values is None else np.argsort(-values, kind="stable").tolist()
    return arrange(order, values, IDS[:n], columns.__getitem__, policy, k)


# -- every rule by its definition, apart from the code -----------------------------------------------------------------


def breaks_quota(order: Sequence[int], quota: Quota, columns: Columns, k: int) -> bool:
    shown = [columns[quota.field][i] for i in order[: min(k, quota.top)]]
    counts = Counter(one for value in shown for one in (set(value) if isinstance(value, list) else {value} - {None}))
    return any(count > quota.at_most for count in counts.values())


def breaks_share(order: Sequence[int], share: MinShare, columns: Columns, k: int) -> bool:
    members = np.cumsum([columns[share.condition.field][i] is True for i in order[:k]])
    return bool((members < fair_targets(min(k, len(order)), share.share, share.alpha)).any())


def breaks_pin(order: Sequence[int], pin: Pin, k: int) -> bool:
    return pin.position >= k or pin.position >= len(order) or IDS[order[pin.position]] != pin.id


def broken(order: Sequence[int], policy: Policy, columns: Columns, k: int) -> list[str]:
    """Quotas, shares and pins that an order does not hold."""
    return [
        *(str(rule) for rule in policy.pins if breaks_pin(order, rule, k)),
        *(str(rule) for rule in policy.shares if breaks_share(order, rule, columns, k)),
        *(str(rule) for rule in policy.quotas if breaks_quota(order, rule, columns, k)),
    ]


def first_that_holds(policy: Policy, columns: Columns, k: int) -> list[int] | None:
    """The first permutation, by preference, that holds all; the preference is the order given."""
    n = len(next(iter(columns.values())))
    orders = itertools.permutations(range(n))
    return next((list(order) for order in orders if not broken(order, policy, columns, k)), None)


@st.composite
def slates(
    draw: st.DrawFn, *, several: bool = False, quotas: int = 2, shares: int = 1, most: int = 6
) -> tuple[Policy, Columns, int]:
    """A small slate and rules of it; with ``several``, items have several values."""
    n = draw(st.integers(1, most))
    words = st.sampled_from(["a", "b", "c", None])
    values = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True) if several else words

    def column(of: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(of, min_size=n, max_size=n))

    columns = {
        "publisher": column(values),
        "genre": column(words),
        "local": column(st.booleans()),
        "fresh": column(st.booleans()),
    }
    fields = st.sampled_from(["publisher", "genre"])
    pins = draw(st.lists(st.integers(0, n - 1), max_size=2, unique=True))
    at = draw(st.lists(st.integers(0, n - 1), min_size=len(pins), max_size=len(pins), unique=True))
    policy = Policy(
        pins=tuple(Pin(IDS[item], place) for item, place in zip(pins, at, strict=True)),
        quotas=tuple(draw(st.lists(st.builds(Quota, fields, st.integers(1, 2), st.integers(1, 6)), max_size=quotas))),
        shares=tuple(
            draw(
                st.lists(
                    st.builds(
                        MinShare, st.sampled_from([LOCAL, FRESH]), st.sampled_from([0.3, 0.5, 0.7, 0.9]), st.just(0.3)
                    ),
                    max_size=shares,
                )
            )
        ),
    )
    return policy, columns, draw(st.integers(1, n))


def rules_in(given_up: Sequence[str]) -> list[str]:
    return [line.partition(":")[0] for line in given_up]


def check_against_every_permutation(case: tuple[Policy, Columns, int]) -> None:
    policy, columns, k = case
    found = arranged(policy, columns, k)
    assert sorted(found.order) == list(range(len(columns["local"])))
    assert sorted(rules_in(found.given_up)) == sorted(broken(found.order, policy, columns, k))
    best = first_that_holds(policy, columns, k)
    if best is not None:
        assert found.given_up == ()
        assert found.order == best
    else:
        assert found.given_up


# Neither the first nor the second can stand in front: the search must remember both.
TWO_DEAD_ENDS: tuple[Policy, Columns, int] = (
    Policy(quotas=(Quota("publisher", 1, 3), Quota("genre", 1, 3))),
    {"publisher": list("cccacb"), "genre": list("yxzyzx"), "local": [True] * 6},
    3,
)
# The first may stand in front by the quota and by the share, each alone; then no local item is left for the quota.
SCARCE: tuple[Policy, Columns, int] = (
    Policy(quotas=(Quota("publisher", 1, 2),), shares=(MinShare(LOCAL, 0.6, 0.3),)),
    {"publisher": ["a", "a", "b"], "local": [False, True, False]},
    2,
)


def test_a_share_needs_an_item_that_the_quota_would_shut_out() -> None:
    policy, columns, k = SCARCE
    assert fair_targets(k, 0.6, 0.3).tolist() == [0, 1]
    assert arranged(policy, columns, k).order == [1, 2, 0]


@example(TWO_DEAD_ENDS)
@given(slates().filter(lambda case: len(set(case[0].quotas)) == len(case[0].quotas)))
def test_single_valued_quotas_one_share_and_pins_are_held_wherever_an_order_holds_them(
    case: tuple[Policy, Columns, int],
) -> None:
    check_against_every_permutation(case)


def different(case: tuple[Policy, Columns, int]) -> bool:
    policy = case[0]
    return len(set(policy.quotas)) == len(policy.quotas) and len(set(map(str, policy.shares))) == len(policy.shares)


@given(slates(several=True, shares=2).filter(different))
def test_several_shares_and_quotas_of_several_values_are_held_on_small_slates(
    case: tuple[Policy, Columns, int],
) -> None:
    check_against_every_permutation(case)


def held(policy: Policy, columns: Columns, k: int) -> tuple[Places, list[HeldQuota], list[HeldShare]]:
    n = len(columns["local"])
    pinned = {pin.position: IDS.index(pin.id) for pin in policy.pins if pin.position < k}
    places = Places([item for item in range(n) if item not in pinned.values()], pinned, k)
    quotas = [HeldQuota(quota, entries(columns[quota.field]), quota.at_most) for quota in policy.quotas]
    shares = [
        HeldShare(share, columns[share.condition.field], fair_targets(k, share.share, share.alpha).tolist())
        for share in policy.shares
    ]
    return places, quotas, shares


@example(SCARCE)
@given(slates(quotas=1, most=30))
def test_one_quota_one_share_and_pins_never_need_a_step_back(case: tuple[Policy, Columns, int]) -> None:
    places, quotas, shares = held(*case)
    effort = Effort(left=0)
    search = Search(places, [*quotas, *shares], effort)
    assert (search.run() is not None) is search.possible
    assert not effort.spent


@given(slates())
def test_a_softer_rule_never_costs_a_harder_one(case: tuple[Policy, Columns, int]) -> None:
    policy, columns, k = case
    without_quotas = Policy(pins=policy.pins, shares=policy.shares)
    if first_that_holds(without_quotas, columns, k) is not None:
        assert not [line for line in arranged(policy, columns, k).given_up if not line.startswith("quota")]
    for earlier in range(len(policy.quotas)):
        fewer = Policy(pins=policy.pins, shares=policy.shares, quotas=policy.quotas[: earlier + 1])
        if first_that_holds(fewer, columns, k) is not None:
            kept = {str(quota) for quota in fewer.quotas}
            assert not kept & set(rules_in(arranged(policy, columns, k).given_up))


@given(st.permutations(range(6)), st.lists(st.sampled_from("abc"), min_size=6, max_size=6))
def test_the_order_of_preference_is_what_rules_start_from(order: list[int], publishers: list[str]) -> None:
    columns = {"publisher": publishers}
    policy = Policy(quotas=(Quota("publisher", 1, 2),))
    found = arrange(order, None, IDS[:6], columns.__getitem__, policy, 6)
    permutations = itertools.permutations(order)
    held_first = (list(one) for one in permutations if not breaks_quota(one, policy.quotas[0], columns, 6))
    assert found.order == next(held_first, order)


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "columns", "k", "given_up"),
    [
        (
            Policy(quotas=(Quota("publisher", 2, 10),)),
            {"publisher": ["us"] * 12},
            10,
            "quota publisher<=2 of 10: only 1 publisher among 12 candidates; held to <=10",
        ),
        (
            Policy(quotas=(Quota("publisher", 2, 10),)),
            {"publisher": ["us", "de", "fr"] * 5},
            10,
            "quota publisher<=2 of 10: only 3 publisher among 15 candidates; held to <=4",
        ),
        (
            Policy(shares=(MinShare(LOCAL, 0.5),)),
            {"local": [False] * 11 + [True]},
            12,
            f"share local>=0.5: {fair_targets(12, 0.5, 0.1)[-1]} needed among 12, 1 among 12 candidates; held to 1",
        ),
        (
            Policy(pins=(Pin("gone", 2),)),
            {"local": [True] * 3},
            3,
            "pin gone at 2: no such candidate, or a filter removed it",
        ),
        (
            Policy(pins=(Pin("item0", 7),)),
            {"local": [True] * 3},
            3,
            "pin item0 at 7: the slate ends at 2, so it is at 2",
        ),
        (
            Policy(pins=(Pin("item2", 0), Pin("item1", 0))),
            {"local": [True] * 3},
            3,
            "pin item1 at 0: that place is taken, so it is at 1",
        ),
        (
            Policy(pins=(Pin("item2", 2), Pin("item1", 2))),
            {"local": [True] * 3},
            3,
            "pin item1 at 2: that place is taken, so it is at 1",
        ),
        (
            Policy(pins=(Pin("item2", 0), Pin("item1", 0))),
            {"local": [True] * 3},
            1,
            "pin item1 at 0: no place is free among 1",
        ),
        (
            Policy(pins=(Pin("item2", 0), Pin("item2", 1))),
            {"local": [True] * 3},
            3,
            "pin item2 at 1: it is pinned already",
        ),
        (
            Policy(pins=(Pin("item0", 0), Pin("item1", 1)), quotas=(Quota("publisher", 1, 2),)),
            {"publisher": ["us", "us", "de"]},
            3,
            "quota publisher<=1 of 2: only 2 publisher among 3 candidates and the pins in the way; held to <=2",
        ),
        (
            Policy(quotas=(Quota("publisher", 1, 2),), shares=(MinShare(LOCAL, 0.9, 0.5),)),
            {"publisher": ["us", "us", "de"], "local": [True, True, False]},
            2,
            "quota publisher<=1 of 2: excluded by rules that come before it; held to <=2",
        ),
        (
            Policy(diversity=Diversity("mmr", 0.5, 3)),
            {"local": [True] * 3},
            3,
            "diversity mmr by vectors: no item vectors here; diversify by a field",
        ),
    ],
)
def test_a_rule_that_cannot_be_held_is_given_up_in_words(
    policy: Policy, columns: Columns, k: int, given_up: str
) -> None:
    assert arranged(policy, columns, k).given_up == (given_up,)


def test_a_quota_that_cannot_be_held_is_held_as_far_as_it_can_be() -> None:
    found = arranged(Policy(quotas=(Quota("publisher", 2, 9),)), {"publisher": ["a"] * 9 + ["b"] * 9 + ["c"] * 9}, 9)
    assert Counter("aaaaaaaaabbbbbbbbbccccccccc"[i] for i in found.order[:9]) == {"a": 3, "b": 3, "c": 3}


def test_a_share_that_cannot_be_held_still_raises_whom_it_can() -> None:
    found = arranged(Policy(shares=(MinShare(LOCAL, 0.5),)), {"local": [False] * 30 + [True]}, 10)
    first_needed = int(np.argmax(fair_targets(10, 0.5, 0.1) > 0))
    assert found.order.index(30) == first_needed


def test_a_search_without_end_is_cut_short_and_said() -> None:
    rng = np.random.default_rng(1)
    n, fields = 60, ("one", "two", "three", "four")
    columns = {name: [[f"{value}" for value in rng.choice(14, 3, replace=False)] for _ in range(n)] for name in fields}
    policy = Policy(quotas=tuple(Quota(name, 1, 5) for name in fields))
    found = arranged(policy, {**columns, "local": [True] * n}, 10)
    assert sorted(found.order) == list(range(n))
    assert sorted(rules_in(found.given_up)) == sorted(broken(found.order, policy, columns, 10))
    assert any("no order found in the time given" in line for line in found.given_up)


# -- boosts and diversity ----------------------------------------------------------------------------------------------


def test_a_boost_moves_scores_by_standard_deviations() -> None:
    scores = [4.0, 3.0, 2.0, 1.0]
    spread = float(np.std(scores))
    columns = {"local": [False, False, False, True]}
    for by, expected in [
        (0.99 / spread, [0, 1, 2, 3]),
        (1.01 / spread, [0, 1, 3, 2]),
        (2.01 / spread, [0, 3, 1, 2]),
        (3.01 / spread, [3, 0, 1, 2]),
    ]:
        assert arranged(Policy(boosts=(Boost(LOCAL, by),)), columns, 4, scores).order == expected


def test_boosts_add_up_and_the_negative_ones_demote() -> None:
    columns = {"local": [True, False, True], "fresh": [True, False, False]}
    policy = Policy(boosts=(Boost(LOCAL, 5), Boost(FRESH, -9)))
    found = arranged(policy, columns, 3, [3.0, 2.0, 1.0])
    assert found.order == [2, 1, 0]
    assert found.reasons == {0: ("boosted +5: local", "demoted -9: fresh"), 2: ("boosted +5: local",)}


@pytest.mark.parametrize(
    "scores",
    [
        None,
        np.array([np.nan, 2.0, 1.0], np.float32),
        np.array([1.0, 2.0, 3.0], np.float32),
        np.array([np.inf, 2.0, 1.0], np.float32),
        np.array([2.0, 1.0, -np.inf], np.float32),
    ],
)
def test_places_stand_in_for_scores_that_do_not_fall_along_the_order(scores: Any) -> None:
    # Three places: their standard deviation is the root of 2/3.
    for by, expected in [(0.9, [0, 1, 2]), (1.3, [0, 2, 1]), (2.5, [2, 0, 1])]:
        policy = Policy(boosts=(Boost(LOCAL, by),))
        columns = {"local": [False, False, True]}
        assert arrange([0, 1, 2], scores, IDS[:3], columns.__getitem__, policy, 3).order == expected


def test_a_boost_works_where_all_scores_are_equal() -> None:
    columns = {"local": [False, True]}
    assert arranged(Policy(boosts=(Boost(LOCAL, 0.1),)), columns, 2, [1.0, 1.0]).order == [1, 0]


def test_diversity_orders_the_first_by_a_field_and_says_whom_it_raised() -> None:
    columns = {"genre": ["drama", "drama", "drama", "comedy"]}
    found = arranged(Policy(diversity=Diversity("mmr", 0.6, 2, by="genre")), columns, 4, [4.0, 3.9, 3.8, 3.7])
    assert found.order == [0, 3, 1, 2]
    assert found.reasons == {3: ("diversity",)}
    assert found.given_up == ()


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_diversity_goes_by_the_vectors_of_the_candidates_given(method: Any) -> None:
    rng = np.random.default_rng(0)
    vectors, scores = rng.normal(size=(8, 3)), np.sort(rng.normal(size=8))[::-1]
    order = [1, 2, 4, 6, 7]
    rule = Diversity(method, 0.7, 4)
    found = arrange(order, scores, IDS[:8], NO_FIELDS.__getitem__, Policy(diversity=rule), 5, vectors=vectors)
    places = diversify(scores[order], vectors[order], method=method, weight=0.7, top=4)
    assert found.order == [order[place] for place in places]
    assert diversified(order, scores, NO_FIELDS.__getitem__, rule, vectors) == (found.order, None)


def test_a_diversity_rule_for_before_the_model_is_not_the_arrangements_affair() -> None:
    rule = Diversity("mmr", 1.0, 3, by="genre", when="before")
    columns = {"genre": ["a", "a", "b"]}
    assert arranged(Policy(diversity=rule), columns, 3).order == [0, 1, 2]
    assert diversified([0, 1, 2], None, columns.__getitem__, rule) == ([0, 2, 1], None)


def test_diversity_without_its_extra_is_given_up_and_the_rest_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyversity", None)
    policy = Policy(diversity=Diversity("dpp", 0.5, 3, by="genre"), quotas=(Quota("genre", 1, 2),))
    found = arranged(policy, {"genre": ["a", "a", "b"]}, 3)
    assert found.order == [0, 2, 1]
    assert found.given_up == ('diversity dpp by genre: pyversity is missing; pip install "pocketrank[diversity]"',)


# -- reasons -----------------------------------------------------------------------------------------------------------


def test_reasons_say_who_was_pinned_raised_and_demoted() -> None:
    columns: Columns = {
        "publisher": ["us", "us", "us", "de", "fr", "fr"],
        "local": [False, False, False, False, False, True],
    }
    policy = Policy(pins=(Pin("item4", 0),), quotas=(Quota("publisher", 2, 4),), shares=(MinShare(LOCAL, 0.5, 0.3),))
    found = arranged(policy, columns, 4)
    assert fair_targets(4, 0.5, 0.3).tolist() == [0, 1, 1, 1]
    assert found.order == [4, 5, 0, 1, 2, 3]
    assert found.reasons == {4: ("pinned",), 5: ("raised: share local>=0.5",)}
    without = arranged(Policy(pins=policy.pins, quotas=policy.quotas), columns, 4)
    assert without.order == [4, 0, 1, 3, 2, 5]
    assert without.reasons == {4: ("pinned",), 2: ("demoted: quota publisher<=2 of 4",)}


def test_an_item_held_back_by_rules_together_says_so() -> None:
    # Beside item0 neither other item may stand, by the one field or the other; they may beside each other.
    columns = {"publisher": ["a", "b", "a"], "genre": ["x", "x", "y"]}
    policy = Policy(quotas=(Quota("publisher", 1, 2), Quota("genre", 1, 2)))
    found = arranged(policy, columns, 2)
    assert found.order == [1, 2, 0]
    assert found.reasons == {0: (f"demoted: {TOGETHER}", "demoted: quota genre<=1 of 2")}


# -- edges -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 3, 99, -1])
def test_without_rules_the_order_is_the_given_one(k: int) -> None:
    filters_only = Policy(deny=(LOCAL,))
    for policy in (Policy(), filters_only):
        assert arranged(policy, {"local": [True] * 3}, k) == Arrangement([0, 1, 2])


POLICIES = Policy(
    pins=(Pin("item1", 0),),
    boosts=(Boost(Condition("publisher", "eq", "us"), 1),),
    quotas=(Quota("publisher", 1, 3),),
    shares=(MinShare(Condition("publisher", "in", ("us", 1)), 0.5),),
    diversity=Diversity("mmr", 0.5, 3, by="publisher"),
)


@pytest.mark.parametrize("k", [0, 2, 5, 50])
def test_nothing_a_candidate_holds_raises(k: int) -> None:
    class Raises:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("an app's own error")

        def __hash__(self) -> int:
            raise RuntimeError("an app's own error")

    columns = {"publisher": ["us", Raises(), float("nan"), [Raises(), "us"], None, {"us": 1}, True, 1, object()]}
    found = arranged(POLICIES, columns, k)
    assert sorted(found.order) == list(range(9))


def test_no_candidate_and_no_place_are_no_trouble() -> None:
    columns: Columns = {"publisher": []}
    assert arrange([], None, [], columns.__getitem__, POLICIES, 5) == Arrangement([])
    found = arranged(Policy(pins=(Pin("item1", 0),)), {"publisher": ["a", "b"]}, 0)
    assert found == Arrangement([0, 1], {}, ("pin item1 at 0: no place is free among 0",))


def test_candidates_that_were_filtered_are_not_arranged() -> None:
    columns = {"publisher": ["a", "a", "b", "b", "c"]}
    policy = Policy(pins=(Pin("item0", 0), Pin("item4", 1)), quotas=(Quota("publisher", 1, 2),))
    found = arrange([3, 1, 4], None, IDS[:5], columns.__getitem__, policy, 3)
    assert found.order == [3, 4, 1]
    assert found.given_up == ("pin item0 at 0: no such candidate, or a filter removed it",)


def test_a_large_slate_with_a_long_quota_is_arranged_without_a_search() -> None:
    n = 2 * MAX_PLACES
    columns = {"publisher": [f"p{i // 2}" for i in range(n)]}
    found = arranged(Policy(quotas=(Quota("publisher", 1, MAX_PLACES),)), columns, n)
    assert found.order == [*range(0, n, 2), *range(1, n, 2)]
    assert found.given_up == ()
    assert n * n / 4 > MAX_CHECKS_IN_ALL


def test_behind_the_places_that_rules_speak_of_preference_goes_on() -> None:
    columns = {"local": [False] * (2 * MAX_PLACES) + [True] * (2 * MAX_PLACES)}
    found = arranged(Policy(shares=(MinShare(LOCAL, 0.5),)), columns, 4 * MAX_PLACES)
    assert found.given_up == ()
    assert not breaks_share(found.order, MinShare(LOCAL, 0.5), columns, MAX_PLACES)
    assert found.order[MAX_PLACES:] == sorted(found.order[MAX_PLACES:])
