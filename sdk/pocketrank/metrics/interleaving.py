"""Two rankers compared on the clicks of one list that both have drafted: team-draft interleaving."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pocketrank.errors import InputError

Team = Literal["a", "b"]


@dataclass(frozen=True)
class Interleaved:
    """The list to show, ``items`` [n], and for each item the ``team`` that drafted it; None: neither did."""

    items: tuple[str, ...]
    team: tuple[Team | None, ...]

    def credit(self, clicked: Iterable[str]) -> int:
        """Items of team ``a`` that were clicked, less those of team ``b``; an item counts once.

        > 0: the session prefers ``a``; < 0: ``b``; 0: neither.

        Raises:
            InputError: A clicked item is not in the list.
        """
        team = dict(zip(self.items, self.team, strict=True))
        hits = set(clicked)
        if unknown := hits - team.keys():
            raise InputError(f"clicked: expected items of the list, got {sorted(unknown)[:3]}")
        return sum({"a": 1, "b": -1, None: 0}[team[item]] for item in hits)


@dataclass(frozen=True)
class Preference:
    """What many sessions say: how many ``prefer_a``, ``prefer_b``, or neither (``ties``).

    ``p_value``: the probability of a count at least this lopsided where the
    two rankers are equally good.
    """

    prefer_a: int
    prefer_b: int
    ties: int
    p_value: float


def interleave(a: Sequence[str], b: Sequence[str], rng: np.random.Generator, *, k: int | None = None) -> Interleaved:
    """One list of the two rankings ``a`` and ``b``, drafted as two captains pick teams.

    In each round both pick the best of their own ranking that is not picked
    yet; who picks first, a coin says. When a ranking has nothing left to pick
    the draft is over, and the rest of the other follows in no team: a team that
    went on alone would be clicked more for its number of places.

    Args:
        a: Items, best first, each once.
        b: As ``a``; usually the same items in another order.
        rng: Throws the coins.
        k: Length of the list; by default all items of both.

    Guarantees:
        No item is twice in the list. Where both rankings begin with the same
        items, so does the list. The teams differ in size by at most one. Each
        place is as likely to be of one team as of the other, so that clicks
        which know nothing of the rankings prefer neither.

    Raises:
        InputError: An item is twice in a ranking, or ``k`` is < 0.

    Source: Radlinski, Kurup and Joachims 2008, algorithm 2, doi:10.1145/1458082.1458092.
    """
    for name, ranking in (("a", a), ("b", b)):
        if len(set(ranking)) < len(ranking):
            raise InputError(f"{name}: expected each item once, got {len(ranking) - len(set(ranking))} repeated")
    everything = list(dict.fromkeys([*a, *b]))
    length = len(everything) if k is None else min(k, len(everything))
    if length < 0:
        raise InputError(f"k: expected >= 0 or None for all items, got {k}")
    drafted = _draft(a, b, rng, length)
    rest = [item for item in everything if item not in drafted][: length - len(drafted)]
    return Interleaved((*drafted, *rest), (*drafted.values(), *(None for _ in rest)))


def preference(sessions: Sequence[int]) -> Preference:
    """Which ranker sessions prefer, by the exact two-sided sign test.

    Sessions without a preference say nothing and are left out. With ``n``
    others, ``m`` of them for the ranker that more prefer,
    ``p = min(1, 2 * sum(C(n, i), m <= i <= n) / 2 ** n)``; 1 where ``n`` is 0.

    Args:
        sessions: `Interleaved.credit` of each, ``[m]``. They must be independent: of each person one, or few.

    Returns:
        Counts and the p-value.
    """
    signs = np.sign(np.asarray(sessions, dtype=np.int64))
    prefer_a, prefer_b = int((signs > 0).sum()), int((signs < 0).sum())
    n, most = prefer_a + prefer_b, max(prefer_a, prefer_b)
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(most, n + 1)
    )
    p_value = min(1.0, 2.0 * math.fsum(map(math.exp, logs)))
    return Preference(prefer_a, prefer_b, len(signs) - n, p_value)


def _draft(a: Sequence[str], b: Sequence[str], rng: np.random.Generator, length: int) -> dict[str, Team]:
    """At most ``length`` items by their team, best first."""
    drafted: dict[str, Team] = {}
    while len(drafted) < length:
        left: dict[Team, list[str]] = {
            "a": [item for item in a if item not in drafted],
            "b": [item for item in b if item not in drafted],
        }
        fewest = min(map(len, left.values()))
        if fewest == 0:
            break
        contested = left["a"][0] == left["b"][0]
        order: tuple[Team, Team] = ("a", "b") if rng.random() < 0.5 else ("b", "a")
        first, second = order
        drafted[left[first][0]] = first
        # The second pick of a round is made where either captain could make it, or the coin would not be fair.
        if len(drafted) == length or (contested and fewest == 1):
            break
        drafted[left[second][contested]] = second
    return drafted
