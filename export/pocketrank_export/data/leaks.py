"""Does the test leak? Change nothing but the test, make everything again, and compare byte for byte.

What users do after the cut may not reach anything that ranks them: no
catalogue, no item vector, no first stage, no training slate. Reading the code
shows what was meant; this shows what is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from pocketrank.errors import LeakError
from pocketrank.store import Event
from pocketrank_export.data.movielens import MovieLens, User

Build = Callable[[MovieLens], Mapping[str, bytes]]
"""A data set to what is made of it before anything is measured, by name, as bytes."""


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
