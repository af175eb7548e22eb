"""Policies: what is a rule and what is not, JSON both ways, and one policy after another."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.policy import Boost, Condition, Diversity, MinShare, Pin, Policy, Quota
from pocketrank.policy.rules import MAX_RULES, MAX_TEXT, MAX_VALUES

US = Condition("publisher", "eq", "us")
NAMES = st.text(min_size=1, max_size=8)
NUMBERS = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6)
SCALARS = st.text(max_size=8) | NUMBERS | st.booleans()
CONDITIONS = st.one_of(
    st.builds(Condition, NAMES, st.sampled_from(["eq", "ne", "contains"]), SCALARS),
    st.builds(
        Condition, NAMES, st.sampled_from(["in", "not_in"]), st.lists(SCALARS, min_size=1, max_size=4).map(tuple)
    ),
    st.builds(Condition, NAMES, st.sampled_from(["lt", "le", "gt", "ge"]), NUMBERS),
    st.builds(Condition, NAMES, st.just("exists"), st.booleans()),
)
SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)
POLICIES = st.builds(
    Policy,
    deny=st.lists(CONDITIONS, max_size=3).map(tuple),
    require=st.lists(CONDITIONS, max_size=3).map(tuple),
    expire=st.lists(NAMES, max_size=2).map(tuple),
    pins=st.lists(st.builds(Pin, NAMES, st.integers(0, 50)), max_size=3).map(tuple),
    boosts=st.lists(st.builds(Boost, CONDITIONS, st.floats(-100, 100).filter(lambda by: by != 0)), max_size=3).map(
        tuple
    ),
    quotas=st.lists(st.builds(Quota, NAMES, st.integers(1, 9), st.integers(1, 99)), max_size=3).map(tuple),
    shares=st.lists(st.builds(MinShare, CONDITIONS, SHARES, st.floats(0.01, 0.5)), max_size=3).map(tuple),
    diversity=st.none()
    | st.builds(
        Diversity,
        st.sampled_from(["mmr", "dpp"]),
        st.floats(0, 1),
        st.integers(1, 200),
        NAMES,
        st.sampled_from(["before", "after"]),
    ),
)


@given(POLICIES)
def test_a_policy_comes_back_from_json_as_it_was(policy: Policy) -> None:
    assert Policy.from_json(json.loads(json.dumps(policy.to_json(), allow_nan=False))) == policy
    assert Policy.from_json(policy.to_json()).to_json() == policy.to_json()
    assert hash(policy) == hash(Policy.from_json(policy.to_json()))


def test_a_policy_without_rules_is_false_and_an_empty_object() -> None:
    empty = Policy()
    assert not empty
    assert (empty.filters, empty.arranges, empty.to_json()) == (False, False, {})
    assert Policy.from_json({}) == empty


@pytest.mark.parametrize(
    ("policy", "filters", "arranges"),
    [
        (Policy(deny=(US,)), True, False),
        (Policy(require=(US,)), True, False),
        (Policy(expire=("until",)), True, False),
        (Policy(pins=(Pin("a", 0),)), False, True),
        (Policy(boosts=(Boost(US, 1),)), False, True),
        (Policy(quotas=(Quota("publisher", 1, 1),)), False, True),
        (Policy(shares=(MinShare(US, 0.5),)), False, True),
        (Policy(diversity=Diversity("mmr", 0.5, 10)), False, True),
    ],
)
def test_a_policy_says_whether_it_removes_or_moves_candidates(policy: Policy, *, filters: bool, arranges: bool) -> None:
    assert policy
    assert (policy.filters, policy.arranges) == (filters, arranges)


@given(POLICIES, POLICIES)
def test_a_policy_followed_by_another_holds_the_rules_of_both(one: Policy, other: Policy) -> None:
    both = one.followed_by(other)
    for name in ("deny", "require", "expire", "pins", "boosts", "quotas", "shares"):
        assert getattr(both, name) == getattr(one, name) + getattr(other, name)
    assert both.diversity == (other.diversity or one.diversity)
    assert one.followed_by(Policy()) == Policy().followed_by(one) == one


def test_two_policies_with_too_many_rules_together_are_refused() -> None:
    many = Policy(pins=tuple(Pin(str(i), 0) for i in range(MAX_RULES)))
    with pytest.raises(InputError, match=f"policy rules: count: expected at most {MAX_RULES}, got {MAX_RULES + 1}"):
        many.followed_by(Policy(expire=("until",)))


def condition(**changed: Any) -> dict[str, Any]:
    return {"field": "publisher", "op": "eq", "value": "us", **changed}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "policy: expected an object"),
        ({"allow": []}, "policy: expected an object with keys among .*got .'allow'."),
        ({"deny": {}}, "policy deny: expected a list"),
        ({"deny": ["us"]}, r"policy deny\[0\]: keys: expected an object with .*'field', 'op', 'value'.*got 'us'"),
        ({"deny": [condition(), condition(more=1)]}, r"policy deny\[1\]: keys: .*'more'"),
        ({"deny": [{"field": "a", "op": "eq"}]}, r"policy deny\[0\]: keys: "),
        ({"deny": [condition(field="")]}, r"policy deny\[0\]: condition: field: expected 1 to 256 characters"),
        ({"deny": [condition(field=3)]}, "field: expected 1 to 256 characters, got 3"),
        ({"deny": [condition(field="x" * (MAX_TEXT + 1))]}, "field: expected 1 to 256 characters"),
        ({"deny": [condition(op="like")]}, "op: expected one of .*'contains'.*got 'like'"),
        ({"deny": [condition(op=["eq"])]}, "op: expected one of"),
        ({"deny": [condition(value=None)]}, "value of eq: expected one of strings"),
        ({"deny": [condition(value=["us"])]}, "value of eq: expected one of strings"),
        ({"deny": [condition(value=math.nan)]}, "value of eq: .*got nan"),
        ({"deny": [condition(value=math.inf)]}, "value of eq: .*got inf"),
        ({"deny": [condition(value=10**400)]}, "value of eq: "),
        ({"deny": [condition(value="x" * (MAX_TEXT + 1))]}, "value of eq: "),
        ({"deny": [condition(op="in")]}, "value of in: expected 1 to 1000 strings"),
        ({"deny": [condition(op="in", value=[])]}, "value of in: expected 1 to 1000"),
        ({"deny": [condition(op="in", value=[["us"]])]}, "value of in: expected 1 to 1000"),
        ({"deny": [condition(op="not_in", value=list(range(MAX_VALUES + 1)))]}, "value of not_in: expected 1 to 1000"),
        ({"deny": [condition(op="lt", value="3")]}, "value of lt: expected a finite number, got '3'"),
        ({"deny": [condition(op="ge", value=True)]}, "value of ge: expected a finite number, got True"),
        ({"deny": [condition(op="exists", value=1)]}, "value of exists: expected true or false, got 1"),
        ({"expire": [3]}, r"policy expire\[0\]: field: expected a string, got 3"),
        ({"expire": [""]}, "policy expire: field: expected 1 to 256 characters"),
        ({"pins": [{"id": "a", "position": -1}]}, r"policy pins\[0\]: pin: position: expected a whole number from 0"),
        ({"pins": [{"id": "a", "position": True}]}, "position: expected a whole number"),
        ({"pins": [{"id": "a", "position": 1.0}]}, "position: expected a whole number"),
        ({"pins": [{"id": 5, "position": 1}]}, "id: expected 1 to 256 characters, got 5"),
        ({"boosts": [{"condition": condition(), "by": 0}]}, r"policy boosts\[0\]: boost: by: .*not 0, got 0"),
        ({"boosts": [{"condition": condition(), "by": 101}]}, "by: expected a number from -100 to 100"),
        ({"boosts": [{"condition": condition(), "by": math.nan}]}, "by: expected a number from -100 to 100"),
        ({"boosts": [{"condition": condition(op="x"), "by": 1}]}, r"policy boosts\[0\] condition: condition: op"),
        ({"boosts": [{"condition": "us", "by": 1}]}, r"policy boosts\[0\] condition: keys: expected an object"),
        ({"quotas": [{"field": "a", "at_most": 0, "top": 3}]}, r"policy quotas\[0\]: quota: at_most: .*from 1 to"),
        ({"quotas": [{"field": "a", "at_most": 1, "top": 201}]}, "top: expected a whole number from 1 to 200"),
        (
            {"quotas": [{"field": "a", "at_most": 1, "top": 2}] * 17},
            "policy quotas and shares: count: expected at most 16",
        ),
        ({"shares": [{"condition": condition(), "share": 1}]}, r"policy shares\[0\]: share: share: .*below 1, got 1"),
        ({"shares": [{"condition": condition(), "share": 0.5, "alpha": 0.6}]}, "alpha: expected .*at most 0.5"),
        ({"shares": [{"condition": condition(), "share": "half"}]}, "share: expected a number"),
        ({"diversity": {"method": "msd", "weight": 0.5, "top": 5}}, "policy diversity: .*method: expected mmr or dpp"),
        ({"diversity": {"method": ["mmr"], "weight": 0.5, "top": 5}}, "method: expected mmr or dpp"),
        ({"diversity": {"method": "mmr", "weight": 1.5, "top": 5}}, "weight: expected a number from 0 to 1"),
        ({"diversity": {"method": "mmr", "weight": 0.5, "top": 0}}, "top: expected a whole number from 1 to 200"),
        ({"diversity": {"method": "mmr", "weight": 0.5, "top": 5, "when": "now"}}, "when: expected before or after"),
        ({"diversity": {"method": "mmr", "weight": 0.5, "top": 5, "by": ""}}, "by: expected 1 to 256 characters"),
        ({"pins": [{"id": "a", "position": 1}] * (MAX_RULES + 1)}, "policy pins: expected a list of at most 256 rules"),
        ({"expire": ["a"] * 200, "pins": [{"id": "a", "position": 1}] * 57}, "policy rules: count: .*got 257"),
    ],
)
def test_what_is_no_policy_is_refused_by_name(body: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Policy.from_json(body)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Policy(deny=[US]),  # type: ignore[arg-type]  # what is handed over is checked
        lambda: Policy(pins=(Quota("a", 1, 1),)),  # type: ignore[arg-type]  # what is handed over is checked
        lambda: Policy(diversity="mmr"),  # type: ignore[arg-type]  # what is handed over is checked
        lambda: Boost("us", 1.0),  # type: ignore[arg-type]  # what is handed over is checked
        lambda: MinShare(None, 0.5),  # type: ignore[arg-type]  # what is handed over is checked
        lambda: Condition("a", "in", ["b"]),  # type: ignore[arg-type]  # what is handed over is checked
    ],
)
def test_rules_of_the_wrong_type_are_refused_when_they_are_made(make: Any) -> None:
    with pytest.raises(InputError, match=r"policy .*: expected "):
        make()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (US, "publisher eq us"),
        (Condition("local", "eq", True), "local"),
        (Condition("local", "eq", False), "local eq false"),
        (Condition("genre", "in", ("a", "b", "c", "d")), "genre in a, b, c, ..."),
        (Pin("a", 3), "pin a at 3"),
        (Boost(US, 0.5), "boosted +0.5: publisher eq us"),
        (Boost(US, -1), "demoted -1: publisher eq us"),
        (Quota("publisher", 2, 10), "quota publisher<=2 of 10"),
        (MinShare(Condition("local", "eq", True), 0.3), "share local>=0.3"),
        (Diversity("mmr", 0.5, 10, by="genre"), "diversity mmr by genre"),
    ],
)
def test_a_rule_in_words(rule: object, words: str) -> None:
    assert str(rule) == words
