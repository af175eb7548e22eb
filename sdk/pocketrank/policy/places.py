"""Places: the most preferred order that holds pins, minimum shares and quotas.

A depth-first search, place by place, for the lexicographically first order by
preference. It goes on only where, by each rule alone, the places left can
still be filled. With items of one value each, that look-ahead is exact for one
quota and one share beside any pins: the search then never takes a step back.
Several rules can exclude each other in ways that no look-ahead sees (with
three fields it is three-dimensional matching); the search steps back then, up
to a bounded number of checks.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Final, NamedTuple

from pocketrank.policy.rules import Key, MinShare, Quota

MAX_CHECKS: Final = 5_000
"""Of one search, whether an item fits a place, counted from its first step back on."""
MAX_CHECKS_IN_ALL: Final = 20_000
TOGETHER: Final = "rules together"
"""What holds an item back where each rule alone would let it pass."""


@dataclass(frozen=True)
class Places:
    """What is to be ordered.

    Attributes:
        free: Candidates without a pin, most preferred first.
        pinned: Place to candidate.
        size: How many places the rules speak of; at most there are candidates.
    """

    free: Sequence[int]
    pinned: Mapping[int, int]
    size: int

    def open_before(self) -> list[int]:
        """How many places without a pin there are before each, ``[size + 1]``."""
        return list(accumulate((place not in self.pinned for place in range(self.size)), initial=0))


@dataclass(frozen=True)
class HeldQuota:
    """A quota over these candidates; ``values`` of each candidate, ``at_most`` what it is held to."""

    rule: Quota
    values: Sequence[tuple[Key, ...]]
    at_most: int

    def violated(self, order: Sequence[int], size: int) -> bool:
        """Whether the first ``size`` of ``order`` break it."""
        counts = Counter(value for item in order[: min(size, self.rule.top)] for value in self.values[item])
        return any(count > self.at_most for count in counts.values())


@dataclass(frozen=True)
class HeldShare:
    """A minimum share over these candidates; ``targets`` members are needed by the end of each place."""

    rule: MinShare
    members: Sequence[bool]
    targets: Sequence[int]

    def violated(self, order: Sequence[int], size: int) -> bool:
        """Whether the first ``size`` of ``order`` break it."""
        counts = accumulate(self.members[item] for item in order[:size])
        return any(count < target for count, target in zip(counts, self.targets, strict=True))

    def pinned_before(self, places: Places) -> list[int]:
        """How many members are pinned before each place, ``[size + 1]``."""
        pinned = places.pinned
        here = (place in pinned and self.members[pinned[place]] for place in range(places.size))
        return list(accumulate(here, initial=0))


Held = HeldQuota | HeldShare


@dataclass(frozen=True)
class Found:
    """An order of all candidates that holds the rules, and why items stand out of preference."""

    order: list[int]
    reasons: Mapping[int, Sequence[str]]


@dataclass
class Effort:
    """Checks that are left to all searches for one slate."""

    left: int = MAX_CHECKS_IN_ALL
    spent: bool = False
    """Whether a search ended for want of checks."""


def relaxed(held: Held, places: Places) -> Held | None:
    """``held`` as far as it can be held beside the pins; None where that is no less than it is."""
    if isinstance(held, HeldShare):
        members = sum(held.members[item] for item in places.free)
        reach = [
            before + min(open_places, members)
            for before, open_places in zip(held.pinned_before(places), places.open_before(), strict=True)
        ]
        targets = list(map(min, held.targets, reach[1:]))
        return dataclasses.replace(held, targets=targets) if targets != list(held.targets) else None
    low, high = held.at_most, min(held.rule.top, places.size)
    if high <= low:
        return None
    # At ``high`` every order holds it; whoever is held to more is held more easily.
    while high - low > 1:
        middle = (low + high) // 2
        loose = holds_alone(dataclasses.replace(held, at_most=middle), places)
        low, high = (low, middle) if loose else (middle, high)
    return dataclasses.replace(held, at_most=high)


def holds_alone(held: Held, places: Places) -> bool:
    """Whether ``held`` could be held beside the pins alone; of items with several values, a necessary condition."""
    return Search(places, [held], Effort()).possible


Blocker = str | MinShare | Quota
"""What holds an item back: a rule, or ``TOGETHER``."""


class _Node(NamedTuple):
    """A place that was filled: from where among the waiting, what was tried before, and who was passed over."""

    at: int
    tried: dict[int, Blocker]
    passed_over: list[int]


class _Zone:
    """The first places of a quota, and how often each value is among them."""

    def __init__(self, held: HeldQuota, places: Places) -> None:
        self.rule = held.rule
        self.values = held.values
        self.at_most = held.at_most
        self.top = min(held.rule.top, places.size)
        self.used: Counter[Key] = Counter(
            value for place, item in places.pinned.items() if place < self.top for value in held.values[item]
        )

    def left(self, value: Key) -> int:
        return self.at_most - self.used[value]


class _Group:
    """A share's members: how many are placed, and how many must be after each place."""

    def __init__(self, held: HeldShare, places: Places) -> None:
        self.rule = held.rule
        self.members = held.members
        self.placed = 0
        self.open_before = places.open_before()
        pinned_before = held.pinned_before(places)
        self.needed = [0] + [target - pinned for target, pinned in zip(held.targets, pinned_before[1:], strict=True)]
        """By the end of each prefix, besides those pinned."""
        late = [need - open_places for need, open_places in zip(self.needed, self.open_before, strict=True)]
        worst = list(accumulate(reversed(late), max))[::-1]
        self.floor = [worst[i + 1] + self.open_before[i + 1] for i in range(places.size)]
        free = sum(self.members[item] for item in places.free)
        self.possible = worst[0] <= 0 and max(self.needed) <= free

    def needed_in(self, zone: _Zone) -> int:
        """How many must stand on open places of a zone, so that the places behind it can make up the rest."""
        top = zone.top
        behind = (self.needed[i] - (self.open_before[i] - self.open_before[top]) for i in range(top, len(self.needed)))
        return max([*self.needed[: top + 1], *behind])


class _Room:
    """How many more members of a group (or items at all) a zone can take: exact where items have one value each."""

    def __init__(self, zone: _Zone, group: _Group | None, needed: int, items: Iterable[int]) -> None:
        self.zone = zone
        self.rule = zone.rule if group is None else group.rule
        self.members = None if group is None else group.members
        rows = [zone.values[item] for item in items if self.is_member(item)]
        self.waiting: Counter[Key] = Counter(chain.from_iterable(rows))
        self.spare = rows.count(()) - needed
        self.spare += sum(max(0, min(zone.left(value), count)) for value, count in self.waiting.items())

    def is_member(self, item: int) -> bool:
        return self.members is None or self.members[item]

    def cost(self, item: int) -> int:
        """By how much ``spare`` falls if ``item`` is placed."""
        values = self.zone.values[item]
        if self.is_member(item):
            return len(values) - 1 if values else 0
        return sum(self.zone.left(value) <= self.waiting[value] for value in values)

    def move(self, item: int, step: int) -> None:
        if self.is_member(item):
            for value in self.zone.values[item]:
                self.waiting[value] += step


class Search:
    """Looks for the most preferred order that holds quotas and shares beside pins.

    Attributes:
        possible: Whether each rule alone can be held; if not, there is no order to look for.
    """

    def __init__(self, places: Places, rules: Sequence[Held], effort: Effort) -> None:
        """Take stock of ``places``; ``effort`` is shared with other searches for the same slate."""
        self._places = places
        self._effort = effort
        self._zones = [_Zone(held, places) for held in rules if isinstance(held, HeldQuota)]
        self._groups = [_Group(held, places) for held in rules if isinstance(held, HeldShare)]
        open_before = places.open_before()
        whole = [_Room(zone, None, open_before[zone.top], places.free) for zone in self._zones]
        parts = [
            _Room(zone, group, group.needed_in(zone), places.free) for zone in self._zones for group in self._groups
        ]
        # Where each item has one value, placing it costs no room; only the beginning needs a look then.
        self._rooms = [room for room in whole if max(map(len, room.zone.values), default=0) > 1] + parts
        columns = [zone.values for zone in self._zones] + [group.members for group in self._groups]
        rows = list(zip(*columns, strict=True)) if columns else [()] * (max(places.free, default=-1) + 1)
        seen: dict[tuple[object, ...], int] = {}
        self._kind = [seen.setdefault(row, len(seen)) for row in rows]
        """Items of one kind are the same to all rules: what one can't do, no other can."""
        self.possible = (
            all(max(zone.used.values(), default=0) <= zone.at_most for zone in self._zones)
            and all(group.possible for group in self._groups)
            and all(room.spare >= 0 for room in whole + parts)
        )
        tops = [zone.top for zone in self._zones] + [place + 1 for place in places.pinned]
        self._checks, self._stepped = 0, False
        self._until = places.size if self._groups else max(tops, default=0)

    def run(self) -> Found | None:
        """The first order by preference that holds all rules; None where there is none, or none within the checks."""
        if not self.possible:
            return None
        most = min(self._effort.left, MAX_CHECKS)
        rest, placed, nodes = list(self._places.free), list[int](), list[_Node | None]()
        tried: dict[int, Blocker] = {}
        while len(placed) < self._until:
            place = len(placed)
            if place in self._places.pinned:
                placed.append(self._places.pinned[place])
                nodes.append(None)
                continue
            at = next((at for at, item in enumerate(rest) if self._fits(item, place, tried)), None)
            if self._checks > most:
                self._effort.spent = True
                break
            if at is not None:
                nodes.append(_Node(at, tried, rest[:at]))
                self._put(rest[at], place)
                placed.append(rest.pop(at))
                tried = {}
            elif (stepped := self._step_back(rest, placed, nodes)) is not None:
                tried, self._stepped = stepped, True
            else:
                break
        self._effort.left -= min(most, self._checks)
        return Found(placed + rest, self._reasons(placed, nodes)) if len(placed) >= self._until else None

    def _step_back(self, rest: list[int], placed: list[int], nodes: list[_Node | None]) -> dict[int, Blocker] | None:
        """Undo the last choice and say what was tried there; None where there is no choice left."""
        while nodes:
            node, item = nodes.pop(), placed.pop()
            if node is not None:
                self._take(item, len(placed))
                rest.insert(node.at, item)
                node.tried[self._kind[item]] = TOGETHER
                return node.tried
        return None

    def _fits(self, item: int, place: int, tried: dict[int, Blocker]) -> bool:
        """Whether ``item`` may stand at ``place``; what holds its kind back is kept in ``tried``."""
        kind = self._kind[item]
        if kind in tried:
            return False
        self._checks += self._stepped
        blocker = self._blocker(item, place)
        if blocker is not None:
            tried[kind] = blocker
        return blocker is None

    def _blocker(self, item: int, place: int) -> MinShare | Quota | None:
        for zone in self._zones:
            if place < zone.top:
                for value in zone.values[item]:
                    if zone.used[value] >= zone.at_most:
                        return zone.rule
        for group in self._groups:
            if not group.members[item] and group.placed < group.floor[place]:
                return group.rule
        for room in self._rooms:
            if place < room.zone.top and room.spare < room.cost(item):
                return room.rule
        return None

    def _put(self, item: int, place: int) -> None:
        for room in self._rooms:
            if place < room.zone.top:
                room.spare -= room.cost(item)
                room.move(item, -1)
        for zone in self._zones:
            if place < zone.top:
                zone.used.update(zone.values[item])
        for group in self._groups:
            group.placed += group.members[item]

    def _take(self, item: int, place: int) -> None:
        """The reverse of ``_put``, in reverse."""
        for group in self._groups:
            group.placed -= group.members[item]
        for zone in self._zones:
            if place < zone.top:
                zone.used.subtract(zone.values[item])
        for room in self._rooms:
            if place < room.zone.top:
                room.move(item, 1)
                room.spare += room.cost(item)

    def _reasons(self, placed: Sequence[int], nodes: Sequence[_Node | None]) -> dict[int, list[str]]:
        reasons: dict[int, list[str]] = {}
        members = {group.rule: group.members for group in self._groups}

        def add(item: int, reason: str) -> None:
            known = reasons.setdefault(item, [])
            if reason not in known:
                known.append(reason)

        for item, node in zip(placed, nodes, strict=True):
            for passed in node.passed_over if node else ():
                rule = node.tried[self._kind[passed]] if node else TOGETHER
                if not isinstance(rule, MinShare):
                    add(passed, f"demoted: {rule}")
                elif members[rule][item]:
                    add(item, f"raised: {rule}")
        return reasons
