"""Does it leak? Change nothing but what may not be known, make everything again, and compare byte for byte.

What users do after the cut may not reach anything that ranks them: no
catalogue, no item vector, no first stage, no training slate; and what comes
after a slate was shown, its own outcome first of all, may not reach its
features. Reading the code shows what was meant; this shows what is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrank.checks import is_finite
from pocketrank.errors import InputError, LeakError
from pocketrank.features.reading import said
from pocketrank.schema import AT
from pocketrank.store import Event
from pocketrank_export.data.dataset import Dataset
from pocketrank_export.data.log import ImpressionLog, Logged
from pocketrank_export.data.movielens import MovieLens, User

Build = Callable[[MovieLens], Mapping[str, bytes]]
"""A data set to what is made of it before anything is measured, by name, as bytes."""

Make = Callable[[ImpressionLog], Dataset]
"""An impression log to slates with times, one an impression, as ``data.impressions.to_dataset`` makes them."""


def scrambled(data: MovieLens, rng: np.random.Generator) -> MovieLens:
    """The same histories; every test other items, ratings and times, and of another length."""
    items = sorted(data.movies)

    def other(user: User) -> User:
        last_s = user.history[-1].at_s if user.history else 0.0
        test = tuple(
            Event(items[i], last_s + 1.0 + at, float(rng.integers(1, 6)), data.movies[items[i]].fields)
            for at, i in enumerate(rng.integers(len(items), size=len(user.test) + 1).tolist())
        )
        return dataclasses.replace(user, test=test)

    return dataclasses.replace(data, users=tuple(other(user) for user in data.users))


def check_no_leak(build: Build, data: MovieLens, rng: np.random.Generator) -> None:
    """Build from ``data`` and from ``data`` with scrambled tests, and compare.

    Args:
        build: Makes what is to be checked; deterministic.
        data: The users, cut into history and test.
        rng: Draws the other tests.

    Raises:
        LeakError: Something differs, or ``build`` is not deterministic; the message names it.
    """
    made = build(data)
    if not (suspects := _differing(made, build(scrambled(data, rng)))):
        return
    if unstable := _differing(made, build(data)):
        raise LeakError(f"{unstable}: differs between two builds of the same data; make it deterministic to check it")
    raise LeakError(f"{suspects}: depends on the users' tests; make it of their histories alone")


def _differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> str:
    return ", ".join(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))


def check_times(log: ImpressionLog) -> None:
    """Refuse values of candidates or of the context that are from after their impression, by their own times.

    Raises:
        LeakError: ``<feature>_at_s`` or ``item_at_s`` is later than the impression's ``at_s``; the message names it.
        InputError: One of them is not a time.
    """
    for one in log.impressions:
        for name, times in one.candidates.items():
            for item, time in zip(one.candidates["id"], times, strict=True) if _is_time(name) else ():
                _check_time(one, f"item {item!r}: {'item_at_s' if name == AT else name}", time)
        for name, time in one.context.items():
            if _is_time(name):
                _check_time(one, f"context.{name}", time)


def check_past_only(
    make: Make, log: ImpressionLog, rng: np.random.Generator, *, cuts: int = 3, at_s: float | None = None
) -> None:
    """Scramble what comes after a moment, make the features again, and compare those of that moment and before.

    Args:
        make: Makes the slates that are to be checked; deterministic.
        log: What is made into slates.
        rng: Draws the moments and what comes after them.
        cuts: How many moments, each that of an impression.
        at_s: The one moment to check instead, Unix time.

    Raises:
        LeakError: Features of slates up to a moment depend on what came after it, or ``make`` is not deterministic (the
            message names the columns), or ``check_times`` finds something.
        InputError: ``make`` gives slates without times.
    """
    check_times(log)
    made = make(log)
    moments = sorted({one.at_s for one in log.impressions})
    drawn = [at_s] if at_s is not None else rng.choice(moments, min(cuts, len(moments)), replace=False).tolist()
    for moment in drawn:
        if not (suspects := _changed(made, make(without_future(log, moment, rng)), moment)):
            continue
        if unstable := _changed(made, make(log), math.inf):
            raise LeakError(f"{unstable}: differs between two builds of one log; make it deterministic to check it")
        raise LeakError(
            f"{suspects}: depends, at slates up to Unix time {moment!r}, on what came after; compute it of what came "
            "before each slate"
        )


def without_future(log: ImpressionLog, at_s: float, rng: np.random.Generator) -> ImpressionLog:
    """The same log up to ``at_s``; what comes after it is drawn anew.

    Later impressions show candidates of others, their numbers changed, at other times, with other outcomes, and there
    is one more of them. Outcomes of earlier impressions that came at ``at_s`` or later are turned around.
    """
    past = [_outcomes_turned(one, at_s) for one in log.impressions if one.at_s <= at_s]
    later = [one for one in log.impressions if one.at_s > at_s]
    later += [dataclasses.replace(one, id=f"{one.id}+") for one in (later or log.impressions)[-1:]]
    future = []
    for one in later:
        source = log.impressions[int(rng.integers(len(log.impressions)))]
        moved_s = at_s + max(one.at_s - at_s, 1.0) * float(rng.uniform(0.5, 2.0))
        other = dataclasses.replace(
            source,
            id=one.id,
            group=one.group,
            at_s=moved_s,
            candidates=_other_candidates(source.candidates, moved_s, rng),
            labels_at_s=(moved_s,) * len(source.labels),
            context=_earlier(source.context, moved_s),
        )
        future.append(_outcomes_turned(other, at_s))
    everything = sorted([*past, *future], key=lambda one: (one.at_s, one.id))
    return dataclasses.replace(log, impressions=tuple(everything))


def _outcomes_turned(one: Logged, at_s: float) -> Logged:
    """What came at ``at_s`` or later did not come, and what did not come then has come."""
    known = zip(one.labels, one.labels_at_s, strict=True)
    labels = tuple(label if when < at_s else float(not label) for label, when in known)
    return dataclasses.replace(one, labels=labels)


def _other_candidates(
    columns: Mapping[str, Sequence[Any]], at_s: float, rng: np.random.Generator
) -> dict[str, Sequence[Any]]:
    """Candidates that fit the schema as ``columns`` do, with other numbers; none is from after ``at_s``."""
    factor = float(rng.uniform(1.5, 3.0))

    def other(name: str, value: Any) -> Any:
        if _is_time(name):
            return value if value is None else min(value, at_s)
        # 0 and 1 may be a flag.
        return value * factor if is_finite(value, -1e30, 1e30) and value not in {0, 1} else value

    return {name: [other(name, value) for value in values] for name, values in columns.items()}


def _earlier(context: Mapping[str, Any], at_s: float) -> dict[str, Any]:
    return {name: min(value, at_s) if _is_time(name) else value for name, value in context.items()}


def _is_time(name: str) -> bool:
    return name == AT or name.endswith(f"_{AT}")


def _check_time(one: Logged, name: str, time: Any) -> None:
    if time is None:
        return
    if not is_finite(time):
        raise InputError(f"{one.where}: impression {one.id!r}: {name}: expected Unix seconds, got {said(time)}")
    if time > one.at_s:
        raise LeakError(
            f"{one.where}: impression {one.id!r}: {name}: {time!r} is after the impression at {one.at_s!r}; log each "
            "value as it was when it was shown"
        )


def _changed(one: Dataset, other: Dataset, at_s: float) -> str:
    """What differs between the slates of two data sets up to ``at_s``, by the names of columns."""
    before, after = (_features_until(data, at_s) for data in (one, other))
    if before.shape != after.shape:
        return f"the candidates of the slates ({len(before)} or {len(after)})"
    # As bits: NaN is equal to itself, and 0.0 not to -0.0.
    differs = (before.view(np.uint32) != after.view(np.uint32)).any(axis=0)
    return ", ".join(name for name, changed in zip(one.schema.columns, differs, strict=True) if changed)


def _features_until(data: Dataset, at_s: float) -> npt.NDArray[np.float32]:
    """Features ``[candidates, d]`` of all slates up to ``at_s``."""
    if data.at_s is None:
        raise InputError("at_s: the slates have no times; a check of the past needs them")
    rows = data.at_s <= at_s
    return np.ascontiguousarray(data.slates.features[rows][data.slates.mask[rows] > 0])
