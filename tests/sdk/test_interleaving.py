"""Team-draft interleaving: fair to both rankers, and able to tell the better one."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pocketrank.errors import InputError
from pocketrank.metrics.interleaving import Interleaved, Team, interleave, preference

ITEMS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)
LENGTH = st.none() | st.integers(0, 10)
SEED = st.integers(0, 1000)

Draft = Callable[[str, str, np.random.Generator], Interleaved]


# -- the draft ---------------------------------------------------------------------------------------------------------


@given(ITEMS, ITEMS, LENGTH, SEED)
def test_the_list_holds_each_item_once_and_as_many_as_there_is_room(
    a: list[str], b: list[str], k: int | None, seed: int
) -> None:
    shown = interleave(a, b, np.random.default_rng(seed), k=k)
    assert len(set(shown.items)) == len(shown.items) == len(shown.team)
    assert set(shown.items) <= {*a, *b}
    assert len(shown.items) == (len({*a, *b}) if k is None else min(k, len({*a, *b})))


@given(ITEMS, ITEMS, ITEMS, LENGTH, SEED)
def test_what_both_rankings_begin_with_the_list_begins_with(
    start: list[str], a: list[str], b: list[str], k: int | None, seed: int
) -> None:
    left, right = ([*start, *(item for item in tail if item not in start)] for tail in (a, b))
    shown = interleave(left, right, np.random.default_rng(seed), k=k)
    assert shown.items[: len(start)] == tuple(start[: len(shown.items)])


@given(ITEMS, ITEMS, LENGTH, SEED)
def test_a_team_holds_the_best_of_its_ranking_that_the_other_left(
    a: list[str], b: list[str], k: int | None, seed: int
) -> None:
    shown = interleave(a, b, np.random.default_rng(seed), k=k)
    picked: set[str] = set()
    for item, team in zip(shown.items, shown.team, strict=True):
        if team is not None:
            assert item == next(item for item in (a if team == "a" else b) if item not in picked)
        picked.add(item)


@given(ITEMS, ITEMS, LENGTH, SEED)
def test_the_teams_differ_in_size_by_at_most_one(a: list[str], b: list[str], k: int | None, seed: int) -> None:
    team = interleave(a, b, np.random.default_rng(seed), k=k).team
    assert abs(team.count("a") - team.count("b")) <= 1


@given(st.permutations("abcdefg"), st.permutations("abcdefg"), LENGTH, SEED)
def test_of_the_same_items_every_one_is_drafted(a: list[str], b: list[str], k: int | None, seed: int) -> None:
    assert None not in interleave(a, b, np.random.default_rng(seed), k=k).team


@given(ITEMS, SEED)
def test_rankings_that_are_equal_are_shown_as_they_are(items: list[str], seed: int) -> None:
    assert interleave(items, items, np.random.default_rng(seed)).items == tuple(items)


def test_a_list_is_the_same_for_the_same_seed() -> None:
    one, other = (interleave("abcdef", "fedcba", np.random.default_rng(3)) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(("a", "b"), [(["x", "y", "x"], ["x"]), (["x"], ["y", "y"])])
def test_a_ranking_that_repeats_an_item_is_refused(a: list[str], b: list[str]) -> None:
    with pytest.raises(InputError, match=r"^[ab]: expected each item once, got 1 repeated"):
        interleave(a, b, np.random.default_rng(0))


def test_a_list_of_negative_length_is_refused() -> None:
    with pytest.raises(InputError, match="k: expected >= 0 or None for all items, got -1"):
        interleave("ab", "ba", np.random.default_rng(0), k=-1)


# -- fairness ----------------------------------------------------------------------------------------------------------

RANKINGS = [
    ("abcd", "abcd"),
    ("abcd", "dcba"),
    ("abcde", "badce"),
    ("ab", "cd"),
    ("a", "ab"),
    ("a", "ba"),
    ("abc", "c"),
]


def lopsided(draft: Draft, a: str, b: str, sessions: int = 3000) -> float:
    """By how many standard errors the place where teams differ most does."""
    rng = np.random.default_rng(0)
    teams = [draft(a, b, rng).team for _ in range(sessions)]
    wins, losses = (np.array([[pick == name for pick in team] for team in teams]).sum(axis=0) for name in "ab")
    return float((abs(wins - losses) / np.sqrt(np.maximum(wins + losses, 1))).max(initial=0.0))


def in_turns(a: str, b: str, _: np.random.Generator) -> Interleaved:
    """A wrong draft: nobody throws a coin."""
    teams: dict[str, Team] = {}
    for one, other in zip(a, b, strict=True):
        teams.setdefault(one, "a")
        teams.setdefault(other, "b")
    return Interleaved(tuple(teams), tuple(teams.values()))


def to_the_end(a: str, b: str, rng: np.random.Generator) -> Interleaved:
    """A wrong draft: a team goes on when the other has nothing left."""
    shown = interleave(a, b, rng)
    longer: Team = "a" if len(a) > len(b) else "b"
    return Interleaved(shown.items, tuple(longer if team is None else team for team in shown.team))


@pytest.mark.parametrize(("a", "b"), RANKINGS)
@pytest.mark.parametrize("k", [None, 1, 3])
def test_each_place_is_as_likely_to_be_of_one_team_as_of_the_other(a: str, b: str, k: int | None) -> None:
    assert lopsided(lambda one, other, rng: interleave(one, other, rng, k=k), a, b) < 4.0


def test_a_draft_that_favours_a_team_would_be_noticed() -> None:
    assert lopsided(in_turns, "abcd", "dcba") > 10.0
    assert lopsided(to_the_end, "a", "ab") > 10.0


def clicks(shown: Interleaved, relevance: dict[str, float], rng: np.random.Generator) -> list[str]:
    """A person who looks at lower places less, and clicks on what is relevant."""
    chances = [relevance[item] / (1 + place) for place, item in enumerate(shown.items)]
    return [item for item, chance in zip(shown.items, chances, strict=True) if rng.random() < chance]


def credits_of(a: str, b: str, relevance: dict[str, float], sessions: int) -> list[int]:
    rng = np.random.default_rng(5)
    lists = (interleave(a, b, rng, k=4) for _ in range(sessions))
    return [shown.credit(clicks(shown, relevance, rng)) for shown in lists]


def test_clicks_that_know_nothing_of_the_items_prefer_neither() -> None:
    found = preference(credits_of("abcdef", "fedcba", dict.fromkeys("abcdef", 0.5), 2000))
    assert found.p_value > 0.01
    assert found.prefer_a + found.prefer_b + found.ties == 2000


def test_the_better_ranker_is_found_whichever_side_it_is_on() -> None:
    relevance = dict(zip("abcdef", (0.6, 0.4, 0.3, 0.2, 0.1, 0.0), strict=True))
    better = preference(credits_of("abcdef", "bcadfe", relevance, 2000))
    assert better.prefer_a > better.prefer_b
    assert better.p_value < 0.001
    worse = preference(credits_of("bcadfe", "abcdef", relevance, 2000))
    assert worse.prefer_a < worse.prefer_b
    assert worse.p_value < 0.001


# -- credit and its significance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clicked", "credit"),
    [([], 0), (["x"], 1), (["y"], -1), (["x", "y"], 0), (["x", "x", "x", "y"], 0), (["x", "w", "z"], 2), (["z"], 0)],
)
def test_a_click_counts_once_for_the_team_of_its_item(clicked: list[str], credit: int) -> None:
    assert Interleaved(("x", "y", "w", "z"), ("a", "b", "a", None)).credit(clicked) == credit


def test_a_click_on_what_was_not_shown_is_refused() -> None:
    with pytest.raises(InputError, match=r"clicked: expected items of the list, got \['q'\]"):
        Interleaved(("x",), ("a",)).credit(["x", "q"])


@given(st.lists(st.integers(-3, 3), max_size=60))
def test_the_sign_test_is_that_of_an_independent_library(sessions: list[int]) -> None:
    found = preference(sessions)
    counts = tuple(sum(np.sign(each) == sign for each in sessions) for sign in (1, -1, 0))
    assert (found.prefer_a, found.prefer_b, found.ties) == counts
    decided = counts[0] + counts[1]
    expected = stats.binomtest(counts[0], decided).pvalue if decided else 1.0
    assert found.p_value == pytest.approx(expected)


@pytest.mark.parametrize(("wins", "losses"), [(10_300, 9_700), (50_000, 50_001), (300, 0)])
def test_the_sign_test_holds_for_many_sessions(wins: int, losses: int) -> None:
    found = preference([1] * wins + [-1] * losses)
    assert found.p_value == pytest.approx(stats.binomtest(wins, wins + losses).pvalue, rel=1e-6)
