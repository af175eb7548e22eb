"""Arrangement: a model's order becomes the order that is shown, under a policy's rules.

Boosts and diversity make a preference; pins, minimum shares and quotas are
then held, place by place, by the most preferred item that lets all of them be
held. Where they can't all be, the softest gives way first: diversity, then
boosts (both only ever move what the others leave open), then quotas, shares
and pins, of each kind the last declared first. Nothing here raises for what a
candidate holds or a policy asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pocketrank.errors import ExtraMissingError, InputError
from pocketrank.policy.diversity import diversify, multi_hot
from pocketrank.policy.fairness import fair_targets
from pocketrank.policy.filters import Fields, entries, matches
from pocketrank.policy.places import Effort, Found, Held, HeldQuota, HeldShare, Places, Search, holds_alone, relaxed
from pocketrank.policy.rules import MAX_PLACES, VECTORS, Boost, Diversity, Pin, Policy
from pocketrank.schema import LARGEST

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Arrangement:
    """An order under a policy.

    Attributes:
        order: All candidates that were given, best first.
        reasons: Why a candidate stands where it does, by candidate; those without a reason are left out.
        given_up: Rules that could not be held, or not in full, in words.
    """

    order: list[int]
    reasons: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    given_up: tuple[str, ...] = ()


def arrange(
    order: Sequence[int],
    scores: Floats | None,
    ids: Sequence[str],
    fields: Fields,
    policy: Policy,
    k: int,
    *,
    vectors: Floats | None = None,
) -> Arrangement:
    """Arrange the first ``k`` candidates under ``policy``; the rest follow in the order of preference.

    Args:
        order: Candidates that may be shown, best first, as positions in ``ids``.
        scores: Of each candidate, ``[n]``. Where there are none, or they do not fall along ``order``, places stand
            in for scores.
        ids: Of each candidate, ``[n]``.
        fields: Values of a field, ``[n]``.
        policy: Its filters are not applied here.
        k: How many are shown; quotas, shares and pins speak of these, and of the first ``MAX_PLACES`` at most.
        vectors: Item vectors ``[n, w]`` for a diversity rule by ``vectors``.

    Guarantees:
        Every candidate of ``order`` comes back once. A rule that is not in ``given_up`` holds, and a quota, share or
        pin that is there does not. The order is the first, by preference, that holds the rules kept.
    """
    if not policy.arranges or not len(order):
        return Arrangement(list(order))
    reasons: dict[int, list[str]] = {}
    given_up: list[str] = []
    preferred, values = _boosted(order, scores, fields, policy.boosts, reasons)
    if policy.diversity is not None and policy.diversity.when == "after":
        before = {item: place for place, item in enumerate(preferred)}
        preferred, failure = diversified(preferred, values, fields, policy.diversity, vectors)
        given_up += [failure] if failure else []
        for place, item in enumerate(preferred[: policy.diversity.top]):
            if place < before[item]:
                reasons.setdefault(item, []).append("diversity")
    size = max(0, min(k, len(preferred), MAX_PLACES))
    pinned = _pinned(policy.pins, preferred, ids, size, given_up)
    taken = set(pinned.values())
    places = Places([item for item in preferred if item not in taken], pinned, size)
    found = _held(places, _shares(policy, fields, size), _quotas(policy, fields), given_up)
    for item in pinned.values():
        reasons.setdefault(item, []).insert(0, "pinned")
    for item, why in found.reasons.items():
        reasons.setdefault(item, []).extend(why)
    return Arrangement(found.order, {item: tuple(why) for item, why in reasons.items()}, tuple(given_up))


def diversified(
    order: Sequence[int],
    scores: Floats | None,
    fields: Fields,
    rule: Diversity,
    vectors: Floats | None = None,
) -> tuple[list[int], str | None]:
    """``order`` under a diversity rule, whichever ``when`` it has, and why it was given up, or None.

    The arguments are those of ``arrange``.
    """
    found = list(order)
    try:
        if rule.by != VECTORS:
            raw = fields(rule.by)
            rows = multi_hot([raw[item] for item in found])
        elif vectors is None:
            raise InputError("no item vectors here; diversify by a field")
        else:
            rows = np.asarray(vectors)[found]
        values = _descending(found, scores)
        places = diversify(values, rows, method=rule.method, weight=rule.weight, top=rule.top)
    except (InputError, ExtraMissingError) as error:
        return found, f"{rule}: {str(error).removeprefix('diversity: ')}"
    return [found[place] for place in places], None


def _descending(order: Sequence[int], scores: Floats | None) -> npt.NDArray[np.float64]:
    """Scores along ``order``, finite and not rising; places stand in where they are not."""
    if scores is not None:
        values = np.asarray(scores, np.float64)[np.asarray(order, np.intp)]
        # NaN is not at least anything, so it fails too.
        if (values[:-1] >= values[1:]).all() and abs(values[0]) <= LARGEST and abs(values[-1]) <= LARGEST:
            return values
    return -np.arange(len(order), dtype=np.float64)


def _boosted(
    order: Sequence[int],
    scores: Floats | None,
    fields: Fields,
    boosts: Sequence[Boost],
    reasons: dict[int, list[str]],
) -> tuple[list[int], npt.NDArray[np.float64] | None]:
    """The order after boosts, and the scores that go with it, by candidate."""
    preferred = list(order)
    if not boosts:
        return preferred, scores if scores is None else np.asarray(scores, np.float64)
    values = _descending(preferred, scores)
    spread = float(values.std()) or 1.0
    by = [0.0] * len(preferred)
    for boost in boosts:
        holds, why = matches(boost.condition, fields(boost.condition.field)), str(boost)
        for place, item in enumerate(preferred):
            if holds[item]:
                by[place] += boost.by
                reasons.setdefault(item, []).append(why)
    values += np.multiply(by, spread)
    adjusted = np.zeros(max(preferred) + 1)
    adjusted[preferred] = values
    return [preferred[place] for place in np.argsort(-values, kind="stable").tolist()], adjusted


def _pinned(
    pins: Sequence[Pin], preferred: Sequence[int], ids: Sequence[str], size: int, given_up: list[str]
) -> dict[int, int]:
    """Places and the candidates pinned there; what differs from what was asked is added to ``given_up``."""
    pinned: dict[int, int] = {}
    if not pins:
        return pinned
    present = {ids[item]: item for item in preferred}
    for pin in pins:
        item = present.get(pin.id)
        wanted = min(pin.position, size - 1)
        if item is None:
            given_up.append(f"{pin}: no such candidate, or a filter removed it")
        elif item in pinned.values():
            given_up.append(f"{pin}: it is pinned already")
        elif len(pinned) >= size:
            given_up.append(f"{pin}: no place is free among {size}")
        else:
            behind = (place for place in range(wanted, size) if place not in pinned)
            ahead = (place for place in range(wanted - 1, -1, -1) if place not in pinned)
            place = next(behind, None)
            place = next(ahead) if place is None else place
            pinned[place] = item
            if place != pin.position:
                why = "that place is taken" if wanted == pin.position else f"the slate ends at {size - 1}"
                given_up.append(f"{pin}: {why}, so it is at {place}")
    return pinned


def _shares(policy: Policy, fields: Fields, size: int) -> list[HeldShare]:
    return [
        HeldShare(
            share,
            [holds is True for holds in matches(share.condition, fields(share.condition.field))],
            fair_targets(size, share.share, share.alpha).tolist(),
        )
        for share in policy.shares
    ]


def _quotas(policy: Policy, fields: Fields) -> list[HeldQuota]:
    return [HeldQuota(quota, entries(fields(quota.field)), quota.at_most) for quota in policy.quotas]


def _held(places: Places, shares: Sequence[HeldShare], quotas: Sequence[HeldQuota], given_up: list[str]) -> Found:
    """The order that holds as many rules as it can, the hardest first, and those that can be relaxed, relaxed."""
    effort = Effort()
    rules: list[Held] = [*shares, *quotas]
    found = Search(places, rules, effort).run()
    if found is not None:
        return found
    found = Search(places, [], effort).run()
    assert found is not None, "an order under pins alone always exists"
    kept: list[Held] = []
    said: list[tuple[Held, str]] = []
    for held in rules:
        effort.spent = False
        looser = relaxed(held, places)
        form: Held | None = None
        for form in [held] if looser is None else [held, looser]:
            better = Search(places, [*kept, form], effort).run()
            if better is not None:
                found = better
                kept.append(form)
                break
        else:
            form = None
        if form is not held:
            said.append((held, _why(held, form, places, spent=effort.spent)))
    given_up += [why for held, why in said if held.violated(found.order, places.size)]
    return found


def _why(held: Held, form: Held | None, places: Places, *, spent: bool) -> str:
    """Why ``held`` was given up, and what it was held to instead, in words."""
    everyone = [*places.free, *places.pinned.values()]
    if not holds_alone(held, places):
        if isinstance(held, HeldQuota):
            values = {value for item in everyone for value in held.values[item]}
            why = f"only {len(values)} {held.rule.field} among {len(everyone)} candidates"
        else:
            members = sum(held.members[item] for item in everyone)
            why = f"{held.targets[-1]} needed among {places.size}, {members} among {len(everyone)} candidates"
        why += " and the pins in the way" if places.pinned else ""
    else:
        why = "no order found in the time given" if spent else "excluded by rules that come before it"
    if form is None:
        return f"{held.rule}: {why}"
    kept = f"held to <={form.at_most}" if isinstance(form, HeldQuota) else f"held to {form.targets[-1]}"
    return f"{held.rule}: {why}; {kept}"
