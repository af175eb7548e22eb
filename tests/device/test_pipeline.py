"""Whatever fails and however late it is, ``rank`` gives a slate, it obeys the filters, and it says what happened."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrank import DeviceStore, Reranker
from pocketrank.errors import InputError, ModelError, StoreError
from pocketrank.policy import Boost, Condition, Diversity, MinShare, Pin, Policy, Quota
from pocketrank.slate import Slate
from tests import faults, shop

ROWS = shop.candidates(range(40))
MANY = shop.candidates(range(150))
LARGEST = shop.bundle().manifest.slate_sizes[-1]
PAST_S, FUTURE_S = 1e9, 9e9
AGES_MS = 1e9
"""No deadline leaves so long."""
BOOKS = Condition("kind", "contains", "book")
FULL = Policy(
    deny=(BOOKS,),
    pins=(Pin("item-4", 0),),
    boosts=(Boost(Condition("in_stock", "eq", value=True), 0.5),),
    quotas=(Quota("maker", 2, 4),),
    diversity=Diversity("mmr", 0.3, 5, by="colour"),
)
"""A rule of nearly every kind."""

# ----------------------------------------------------------------------------- who may be shown, as docs/policy.md says


class Anything:
    """An object of the app's own."""


ODD: list[Any] = [
    None,
    0,
    1,
    3,
    2.5,
    -1.0,
    math.nan,
    True,
    False,
    "",
    "adult",
    "for adults",
    "book",
    np.float32(2.5),
    np.int64(3),
]
ODD += [np.str_("adult"), [], ["adult", "book"], ["book", 3], [None], [math.nan], ("book",), [["book"]], [True]]
ODD += [{"adult": 1}, datetime(2026, 1, 1, tzinfo=UTC), Anything(), b"adult", 10**400]
TIMES: list[Any] = [
    None,
    None,
    FUTURE_S,
    FUTURE_S,
    PAST_S,
    FUTURE_S,
    int(PAST_S),
    int(FUTURE_S),
    "later",
    math.nan,
    math.inf,
    True,
    [FUTURE_S],
    Anything(),
]


def sort_of(value: Any) -> str:
    """Strings, numbers and booleans can be compared with their own; numpy's count as Python's; nothing else can be."""
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | float | np.number):
        return "nothing" if isinstance(value, float | np.floating) and math.isnan(value) else "number"
    return "string" if isinstance(value, str) else "nothing"


def holds(condition: Condition, value: Any) -> str:  # noqa: PLR0911  (one for each paragraph)
    """``yes``, ``no`` or ``untold``, straight from the words of docs/policy.md."""
    op, wanted = condition.op, condition.value
    if op == "exists":
        if isinstance(value, float | np.floating) and math.isnan(value):
            return "untold"
        return "yes" if (value is not None) == wanted else "no"
    if value is None:
        return "no"
    if op in {"lt", "le", "gt", "ge"}:
        assert not isinstance(wanted, tuple | str)
        if sort_of(value) != "number":
            return "untold"
        found = {"lt": value < wanted, "le": value <= wanted, "gt": value > wanted, "ge": value >= wanted}[op]
        return "yes" if found else "no"
    if op == "contains" and isinstance(value, str):
        return "untold" if not isinstance(wanted, str) else "yes" if wanted in str(value) else "no"
    wanted_values = wanted if isinstance(wanted, tuple) else (wanted,)
    entries = list(value) if isinstance(value, list | tuple) else [value]
    if any(sort_of(one) == sort_of(other) and one == other for one in entries for other in wanted_values):
        matches = "yes"
    elif all(any(sort_of(one) == sort_of(other) for other in wanted_values) for one in entries):
        matches = "no"
    else:
        return "untold"
    return matches if op in {"eq", "in", "contains"} else {"yes": "no", "no": "yes"}[matches]


def may_be_shown(policy: Policy, row: Mapping[str, Any]) -> bool:
    """The filters on one candidate, by themselves."""
    denied = any(holds(rule, row.get(rule.field)) != "no" for rule in policy.deny)
    required = all(holds(rule, row.get(rule.field)) == "yes" for rule in policy.require)
    times = [row[name] for name in policy.expire if row.get(name) is not None]
    valid = all(sort_of(value) == "number" and value > (PAST_S + FUTURE_S) / 2 for value in times)
    return not denied and required and valid


# -------------------------------------------------------------------------------------------------- whatever may happen


FIELDS = st.sampled_from(["note", "tag", "kind", "rating", "in_stock", "colour", "nowhere", "id"])
SCALARS = st.sampled_from([0, 1, 3, 2.5, True, False, "", "adult", "book", "red", 4.0, "item-3"])
CONDITIONS = st.one_of(
    st.builds(Condition, FIELDS, st.sampled_from(["eq", "ne", "contains"]), SCALARS),
    st.builds(
        Condition, FIELDS, st.sampled_from(["in", "not_in"]), st.lists(SCALARS, min_size=1, max_size=3).map(tuple)
    ),
    st.builds(Condition, FIELDS, st.sampled_from(["lt", "le", "gt", "ge"]), st.sampled_from([0, 2.5, 3])),
    st.builds(Condition, FIELDS, st.just("exists"), st.booleans()),
)


def few(of: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=most).map(tuple)


POLICIES = st.builds(
    Policy,
    deny=few(CONDITIONS),
    require=few(CONDITIONS, 1),
    expire=few(st.sampled_from(["until", "nowhere"]), 1),
    pins=few(st.builds(Pin, st.sampled_from(["item-1", "item-7", "gone"]), st.integers(0, 9))),
    boosts=few(st.builds(Boost, CONDITIONS, st.sampled_from([-2.0, 0.5, 100.0]))),
    quotas=few(st.builds(Quota, FIELDS, st.integers(1, 3), st.integers(1, 10)), 1),
    shares=few(st.builds(MinShare, CONDITIONS, st.sampled_from([0.2, 0.7])), 1),
    diversity=st.none()
    | st.builds(
        Diversity,
        st.sampled_from(["mmr", "dpp"]),
        st.just(0.4),
        st.integers(1, 10),
        by=st.sampled_from(["vectors", "colour", "note"]),
        when=st.sampled_from(["before", "after"]),
    ),
)
ERRORS = [RuntimeError("x"), MemoryError(), OSError(28, "full"), KeyError("x"), ModelError("x"), StoreError("x")]
ERRORS += [InputError("x"), RecursionError(), ZeroDivisionError(), ImportError("x"), TimeoutError()]
APPS_OWN = ("filters", "input", "policy", "vectors")
"""Where an InputError is the app's own mistake, which it is told of."""


@dataclass(frozen=True)
class Day:
    """Candidates, a policy, and everything that goes wrong with them."""

    rows: list[dict[str, Any]]
    as_columns: bool
    policy: Policy
    k: int | None
    deadline_ms: float | None
    late: frozenset[str]
    faults: Mapping[str, Exception]
    parts: Mapping[str, Any]


@st.composite
def days(draw: st.DrawFn) -> Day:
    count = draw(st.sampled_from([0, 1, 2, 5, 11, 24, 140]))
    notes, tags, times = (draw(st.lists(st.sampled_from(of), min_size=2, max_size=9)) for of in (ODD, ODD, TIMES))
    rows = [
        {**row, "note": notes[i % len(notes)], "tag": tags[i % len(tags)], "until": times[i % len(times)]}
        for i, row in enumerate(MANY[:count])
    ]
    if draw(st.booleans()):
        rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    faults_found = draw(st.dictionaries(st.sampled_from(list(faults.STAGES)), st.sampled_from(ERRORS), max_size=5))
    return Day(
        rows=rows,
        as_columns=draw(st.booleans()),
        policy=draw(POLICIES),
        k=draw(st.none() | st.integers(0, 30)),
        deadline_ms=draw(st.sampled_from([None, None, 0.0, 1e-3, 1.0, 1e6])),
        late=frozenset(draw(st.lists(st.sampled_from(sorted(set().union(*faults.STAGES.values()))), max_size=4))),
        faults={
            place: error
            for place, error in faults_found.items()
            if not (place in APPS_OWN and isinstance(error, InputError))
        },
        parts={
            "personal": draw(st.booleans()),
            "before": draw(st.booleans()),
            "cascade": draw(st.sampled_from([(), faults.BY_PLACE])),
        },
    )


def ranked(found: Reranker, day: Day) -> tuple[Slate, list[str]]:
    names = list(dict.fromkeys(name for row in day.rows for name in row)) or ["id"]
    given = {name: [row.get(name) for row in day.rows] for name in names} if day.as_columns else day.rows
    for stage in day.late:
        found._latencies.add(stage, AGES_MS)
    with faults.planted(found, day.faults) as fired:
        slate = found.rank(given, k=day.k, deadline_ms=day.deadline_ms, policy=day.policy)
    return slate, fired


@settings(max_examples=400)
@given(days())
def test_whatever_fails_or_is_late_the_slate_obeys_the_filters_and_says_what_happened(day: Day) -> None:
    slate, fired = ranked(faults.reranker(**day.parts), day)
    allowed = {row["id"] for row in day.rows if may_be_shown(day.policy, row)}

    assert set(slate.ids) <= allowed
    assert len(set(slate.ids)) == len(slate)
    assert [item.position for item in slate] == list(range(len(slate)))
    if "filters" in fired:
        assert (len(slate), slate.filtered) == (0, len(day.rows))
    else:
        assert len(slate) == min(len(allowed), len(allowed) if day.k is None else day.k)
        assert slate.filtered == len(day.rows) - len(allowed)

    for place in fired:
        assert faults.STAGES[place] & set(slate.omitted) or (place == "diversity" and slate.given_up), place
    assert not set(slate.stages) & set(slate.omitted)
    words = ("shared parameters", "cascade", "previous bundle", "given order", "nothing")
    assert slate.fallback is None or slate.fallback.split(": ")[0] in words
    assert (slate.bundle == "before@1") == (slate.fallback is not None and slate.fallback.startswith("previous bundle"))
    if not fired and day.deadline_ms is None:
        assert slate.fallback is None
        assert slate.omitted == {}
    if {"features", "profile", "input"} & set(fired) and len(slate):
        assert slate.fallback is not None


@given(days())
def test_a_fault_that_is_over_leaves_nothing_behind(day: Day) -> None:
    found = faults.reranker(**day.parts)
    before = found.rank(ROWS).items
    slate, _ = ranked(found, day)
    assert slate is not None
    after = found.rank(ROWS)
    assert after.items == before
    assert after.fallback is None


@pytest.mark.parametrize("place", APPS_OWN)
def test_what_the_app_itself_got_wrong_is_told_to_the_app(place: str) -> None:
    found = faults.reranker()
    with faults.planted(found, {place: InputError("note: expected 40 entries")}), pytest.raises(InputError, match="40"):
        found.rank(ROWS, policy=FULL)


def test_a_column_of_another_length_that_only_a_rule_reads_is_told_to_the_app() -> None:
    columns = {**shop.columns(ROWS), "note": ["adult"]}
    with pytest.raises(InputError, match="note: expected 40 entries"):
        faults.reranker().rank(columns, policy=Policy(deny=(Condition("note", "eq", "adult"),)))


def test_a_request_to_stop_the_process_is_not_swallowed() -> None:
    found = faults.reranker()
    with faults.planted(found, {"model": KeyboardInterrupt()}), pytest.raises(KeyboardInterrupt):
        found.rank(ROWS)


# ----------------------------------------------------------------------------------------------- the steps of the order

BOTH: dict[str, Any] = {"personal": True, "before": True}
ALL: dict[str, Any] = {**BOTH, "cascade": faults.BY_PLACE}


@pytest.mark.parametrize(
    ("parts", "failing", "order", "fallback"),
    [
        (ALL, [], "personal", None),
        (BOTH, [], "personal", None),
        (ALL, ["personal"], "model", "shared parameters"),
        (BOTH, ["personal"], "model", "shared parameters"),
        (ALL, ["personal", "model"], "cascade", "cascade"),
        (BOTH, ["personal", "model"], "previous", "previous bundle"),
        ({"before": True}, ["model"], "previous", "previous bundle"),
        ({}, ["model"], "given", "given order"),
        ({"cascade": faults.BY_PLACE}, ["model"], "cascade", "cascade"),
        (BOTH, ["personal", "model", "previous"], "given", "given order"),
        (BOTH, ["personal", "model", "previous features"], "given", "given order"),
        (ALL, ["features"], "previous", "previous bundle"),
        (ALL, ["profile"], "previous", "previous bundle"),
        (ALL, ["features", "previous"], "given", "given order"),
        ({}, ["features"], "given", "given order"),
        ({"personal": True}, ["profile"], "given", "given order"),
        (ALL, ["input"], "previous", "previous bundle"),
        ({}, ["input"], "given", "given order"),
    ],
)
def test_the_order_degrades_one_step_at_a_time(
    parts: dict[str, Any], failing: Sequence[str], order: str, fallback: str | None
) -> None:
    found = faults.reranker(**parts)
    with faults.planted(found, dict.fromkeys(failing, RuntimeError("planted"))) as fired:
        slate = found.rank(ROWS)
    # A cascade hands its order on, and equal scores keep it.
    rows = ROWS[::-1] if parts.get("cascade") and order in {"model", "personal"} else ROWS
    assert slate.ids == faults.ids_by(order, rows)
    assert set(fired) == set(failing)
    assert all(faults.STAGES[place] & set(slate.omitted) for place in failing)
    assert slate.bundle == ("before@1" if order == "previous" else "shop@1")
    if fallback is None:
        assert slate.fallback is None
    else:
        assert slate.fallback is not None
        assert slate.fallback.split(": ")[0] == fallback
        assert "RuntimeError" in slate.fallback or failing == ["input"]


@pytest.mark.parametrize(
    ("place", "error"),
    [
        pytest.param(place, error, id=f"{place}-{type(error).__name__}")
        for place in faults.STAGES
        for error in ERRORS
        if not (place in APPS_OWN and isinstance(error, InputError))
    ],
)
def test_any_kind_of_error_in_any_stage_is_survived_and_named(place: str, error: Exception) -> None:
    found = faults.reranker(personal=place == "personal", before=True, cascade=faults.BY_PLACE[: place == "prune"])
    planted = {place: error} if "previous" not in place else {"model": error, place: error}
    with faults.planted(found, planted) as fired:
        slate = found.rank(ROWS, policy=FULL)
    assert place in fired
    kind = type(error).__name__
    told = [*slate.omitted.values(), *slate.given_up, str(slate.fallback)]
    assert any(kind in why for why in told) or (place == "diversity" and isinstance(error, InputError | ImportError))
    allowed = {row["id"] for row in ROWS if may_be_shown(FULL, row)}
    assert set(slate.ids) == (set() if place == "filters" else allowed)


@pytest.mark.parametrize(
    ("late", "order", "fallback"),
    [
        (["personal model"], "model", "shared parameters: deadline"),
        (["personal model", "model"], "previous", "previous bundle: deadline"),
        (["personal model", "model", "previous bundle"], "given", "given order: deadline"),
        (["features"], "previous", "previous bundle: deadline"),
        (["features", "previous bundle"], "given", "given order: deadline"),
    ],
)
def test_a_stage_that_would_be_late_is_left_out_as_one_that_fails(late: list[str], order: str, fallback: str) -> None:
    found = faults.reranker(**BOTH)
    for stage in late:
        found._latencies.add(stage, AGES_MS)
    slate = found.rank(ROWS, deadline_ms=1e6)
    assert slate.ids == faults.ids_by(order, ROWS)
    assert slate.omitted == dict.fromkeys(late, "deadline")
    assert slate.fallback == fallback
    assert found.rank(ROWS).fallback is None


def test_where_the_model_is_late_the_cascades_order_stands() -> None:
    found = faults.reranker(cascade=faults.BY_PLACE)
    found._latencies.add("model", AGES_MS)
    slate = found.rank(ROWS, deadline_ms=1e6)
    assert slate.ids == faults.ids_by("cascade", ROWS)
    assert slate.fallback == "cascade: deadline"
    assert slate.stages == ("features", "prune")


def test_no_time_at_all_leaves_the_given_order_and_the_filters() -> None:
    slate = faults.reranker(**ALL).rank(ROWS, deadline_ms=0.0, policy=Policy(deny=(BOOKS,)))
    assert slate.ids == tuple(row["id"] for row in ROWS if "book" not in (row["kind"] or ()))
    assert slate.fallback == "given order: deadline"
    assert slate.stages == ("filters",)
    assert slate.omitted == {"features": "deadline", "previous bundle": "deadline"}


def test_diversity_that_would_be_late_is_given_up_and_the_other_rules_hold() -> None:
    found = faults.reranker(policy=FULL)
    found._latencies.add("policy with diversity", AGES_MS)
    slate = found.rank(ROWS, deadline_ms=1e6)
    assert slate.ids[0] == "item-4" or "item-4" not in slate.ids
    assert slate.omitted == {"policy with diversity": "deadline"}
    assert "diversity mmr by colour: deadline" in slate.given_up
    assert "policy" in slate.stages
    assert slate.fallback is None


def test_a_stage_that_was_never_measured_is_tried_and_measured() -> None:
    found = faults.reranker()
    assert found._latencies.p95_ms("model") == 0.0
    assert found.rank(ROWS, deadline_ms=1e6).fallback is None
    assert found._latencies.p95_ms("model") > 0.0


class SlowClock:
    """The process's clock, which a slow stage moves ahead."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead_s = 0.0
        for module in ("latency", "reranker"):
            patch.setattr(f"pocketrank.{module}.time", self)

    def time(self) -> float:
        return time.time() + self.ahead_s

    def perf_counter(self) -> float:
        return time.perf_counter() + self.ahead_s


def test_what_a_late_stage_gives_is_still_used(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, found = SlowClock(monkeypatch), faults.reranker()
    scores = faults.engine().scorer.scores

    def slow(*arguments: Any) -> Any:
        clock.ahead_s += 3600.0
        return scores(*arguments)

    monkeypatch.setattr(faults.engine().scorer, "scores", slow)
    slate = found.rank(ROWS, deadline_ms=60_000.0)
    assert slate.ids == faults.ids_by("model", ROWS)
    assert slate.fallback is None
    assert slate.latency_ms > 3.6e6
    assert found.rank(ROWS, deadline_ms=60_000.0).omitted == {"model": "deadline"}


def test_one_slow_call_does_not_keep_a_stage_out_for_good() -> None:
    """A first call builds what later ones reuse; a stage that is left out is not measured, so its figure must age."""
    found = faults.reranker()
    found._latencies.add("model", AGES_MS)
    fallbacks = [found.rank(ROWS, deadline_ms=1e6).fallback for _ in range(100)]
    assert fallbacks[0] == "given order: deadline"
    assert fallbacks[-1] is None
    assert fallbacks == sorted(fallbacks, key=lambda fallback: fallback is None)


def test_a_stage_that_stays_slow_is_tried_in_less_than_five_of_a_hundred_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, found = SlowClock(monkeypatch), faults.reranker()
    scores = faults.engine().scorer.scores
    tried: list[int] = []

    def slow(*arguments: Any) -> Any:
        clock.ahead_s += 3600.0
        tried.append(1)
        return scores(*arguments)

    monkeypatch.setattr(faults.engine().scorer, "scores", slow)
    for _ in range(200):
        found.rank(ROWS[:2], deadline_ms=60_000.0)
    assert 2 <= len(tried) <= 0.05 * 200


def test_a_stage_that_fails_slowly_is_left_out_as_one_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, found = SlowClock(monkeypatch), faults.reranker()

    def slow(*_: Any) -> Any:
        clock.ahead_s += 3600.0
        raise RuntimeError("after an hour")

    monkeypatch.setattr(faults.engine().scorer, "scores", slow)
    assert "after an hour" in found.rank(ROWS, deadline_ms=60_000.0).omitted["model"]
    assert found.rank(ROWS, deadline_ms=60_000.0).omitted == {"model": "deadline"}


# --------------------------------------------------------------------------------- what each stage leaves when it fails


def test_filters_that_fail_show_nothing_and_say_so() -> None:
    found = faults.reranker(**ALL, policy=FULL)
    with faults.planted(found, {"filters": RuntimeError("planted")}):
        slate = found.rank(ROWS)
    assert slate.items == ()
    assert slate.filtered == len(ROWS)
    assert slate.fallback == "nothing: RuntimeError: planted"
    assert slate.omitted == {"filters": "RuntimeError: planted"}


def test_a_cascade_that_fails_leaves_the_first_candidates_to_the_model() -> None:
    found = faults.reranker(cascade=faults.BY_PLACE)
    with faults.planted(found, {"prune": RuntimeError("planted")}):
        slate = found.rank(MANY)
    assert slate.ids[:LARGEST] == faults.ids_by("model", MANY[:LARGEST])
    assert slate.ids[LARGEST:] == tuple(row["id"] for row in MANY[LARGEST:])
    assert slate.omitted == {"prune": "RuntimeError: planted"}


def test_more_candidates_than_the_model_takes_are_chosen_by_the_cascade() -> None:
    slate = faults.reranker(cascade=faults.BY_PLACE).rank(MANY)
    assert slate.ids[:100] == faults.ids_by("model", MANY[: -100 - 1 : -1])
    assert slate.ids[100:] == tuple(row["id"] for row in MANY[-101::-1])
    assert [item.score is None for item in slate] == [False] * 100 + [True] * (len(MANY) - 100)


def test_rules_of_order_that_fail_leave_the_models_order_and_the_filters() -> None:
    found = faults.reranker(policy=Policy(deny=(BOOKS,), pins=(Pin("item-4", 0),)))
    with faults.planted(found, {"policy": RuntimeError("planted")}):
        slate = found.rank(ROWS)
    rows = [row for row in ROWS if "book" not in (row["kind"] or ())]
    assert slate.ids == faults.ids_by("model", rows)
    assert slate.given_up == ("all rules but filters: RuntimeError: planted",)
    assert slate.fallback is None


@pytest.mark.parametrize("failing", [["model"], ["features"], ["input"]])
def test_pins_and_quotas_hold_in_the_given_order_too(failing: list[str]) -> None:
    policy = Policy(deny=(BOOKS,), pins=(Pin("item-21", 1),), quotas=(Quota("maker", 1, 2),))
    rows = [{**row, "kind": ["game"]} if row["id"] == "item-21" else row for row in ROWS]
    found = faults.reranker(policy=policy)
    with faults.planted(found, dict.fromkeys(failing, RuntimeError("planted"))):
        slate = found.rank(rows, k=10)
    assert slate.fallback is not None
    assert slate.ids[1] == "item-21"
    assert {item.id: item.reasons for item in slate}["item-21"] == ("pinned",)
    maker = {row["id"]: row["maker"] for row in rows}
    assert maker[slate.ids[0]] != maker[slate.ids[1]]
    allowed = [row["id"] for row in rows if may_be_shown(policy, row)]
    first = next(name for name in allowed if maker[name] != maker["item-21"])
    rest = [name for name in allowed if name not in {first, "item-21"}]
    assert slate.ids == (first, "item-21", *rest[:8])


def test_the_slate_carries_what_the_policy_did() -> None:
    policy = Policy(
        deny=(BOOKS,),
        pins=(Pin("gone", 3),),
        boosts=(Boost(Condition("in_stock", "eq", value=True), 100.0),),
    )
    slate = faults.reranker(policy=policy).rank(ROWS)
    rows = [row for row in ROWS if may_be_shown(policy, row)]
    stocked = [row for row in rows if row["in_stock"]]
    assert slate.filtered == len(ROWS) - len(rows)
    assert slate.ids[: len(stocked)] == faults.ids_by("model", stocked)
    assert all(item.reasons == (("boosted +100: in_stock",) if item.position < len(stocked) else ()) for item in slate)
    assert slate.given_up == ("pin gone at 3: no such candidate, or a filter removed it",)
    assert slate.stages == ("filters", "features", "model", "policy")


def test_rules_of_the_bundle_the_app_and_the_call_all_hold() -> None:
    both = faults.reranker(policy=Policy(deny=(BOOKS,)))
    slate = both.rank(ROWS, policy=Policy(require=(Condition("in_stock", "eq", value=True),)))
    expected = [row for row in ROWS if "book" not in (row["kind"] or ()) and row["in_stock"]]
    assert slate.ids == faults.ids_by("model", expected)
    bundled = shop.with_files({}, ranking=Policy(deny=(BOOKS,)))
    found = Reranker.load(bundled, store=DeviceStore()).rank(ROWS)
    assert found.filtered == sum("book" in (row["kind"] or ()) for row in ROWS)


def test_an_object_that_raises_when_it_is_read_fails_no_call() -> None:
    """A mapping of the app's own whose fields can't be read; its id can."""

    class Broken(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            if key != "id":
                raise OSError("the app's database is gone")
            return super().get(key, default)

    slate = faults.reranker().rank([Broken(row) for row in ROWS])
    assert slate.ids == tuple(row["id"] for row in ROWS)
    assert slate.fallback is not None
    assert slate.omitted["input"] == "OSError: the app's database is gone"


def test_an_error_that_can_not_even_be_printed_fails_no_call() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    found = faults.reranker()
    with faults.planted(found, {"model": UnprintableError()}):
        slate = found.rank(ROWS)
    assert slate.ids == faults.ids_by("given", ROWS)
    assert slate.omitted["model"].startswith("UnprintableError")
