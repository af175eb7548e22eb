"""Who holds what: the server its users' logs and all that is made of them, the devices their own events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from examples.movielens.catalog import Catalog, FirstStage
from examples.movielens.fleet import CUTS, Fleet, progress_over
from examples.movielens.schema import SCHEMA
from pocketrank.features.profile import ItemVectors
from pocketrank_export.data import movielens
from pocketrank_export.data.movielens import RELEVANT, MovieLens, User
from pocketrank_export.data.replay import Visit, replay, visits
from pocketrank_export.data.slates import Slates
from pocketrank_export.data.vectors import item_vectors, to_npz

SERVER_SHARE: Final = 0.3
FOLDS: Final = 5
Tell = Callable[[float], None]


@dataclass(frozen=True)
class World:
    """The parties.

    Attributes:
        data: The whole data set, for titles and tests only.
        server: Users whose logs the server holds.
        catalog: Made of the server users' histories.
        first_stage: The retriever, made of the catalogue.
        vectors: The bundle's ``vectors.npz``, made of the server users' histories.
        fleet: The other users' devices.
    """

    data: MovieLens
    server: tuple[User, ...]
    catalog: Catalog
    first_stage: FirstStage
    vectors: bytes
    fleet: Fleet


def make(folder: Path, seed: int, tell: Tell) -> World:
    """Split the users, and let the server make what it can of its own."""
    data = movielens.load(movielens.locate())
    server, devices = movielens.server_and_devices(
        data.users, server_share=SERVER_SHARE, rng=np.random.default_rng(seed)
    )
    tell(0.3)
    histories = [user.history for user in server]
    catalog = Catalog.of(histories, data.movies)
    first_stage = FirstStage(catalog)
    vectors = to_npz(catalog.items, item_vectors(histories, catalog.items))
    return World(data, tuple(server), catalog, first_stage, vectors, Fleet(devices, first_stage, folder / "devices"))


def server_slates(world: World, tell: Tell, *, private: bool) -> tuple[Slates, Slates]:
    """Slates of the server users for training and, from each one's last visit, for validation.

    What a slate sees of the items is made without its person, by folds. Taking out one person at a time would tell on
    them: of all slates that show an item, those whose person turned to it would see a count that is one lower.
    """
    known = _crossfitted(world, private=private)
    return _last_visit_apart(world.server, lambda user: known[user.id], tell, private=private)


def device_slates(world: World, tell: Tell) -> tuple[Slates, Slates]:
    """The same of the devices' users: what a server could train on if it held everybody's events."""
    vectors = ItemVectors.of(world.vectors)
    return _last_visit_apart(world.fleet.users, lambda _: (world.first_stage, vectors), tell, private=True)


def test_slates(world: World) -> Slates:
    """The devices' tests as an evaluator sees them, of the people who liked something in theirs; for measuring only."""
    vectors = ItemVectors.of(world.vectors)
    slates = []
    for user in world.fleet.users:
        everything = (*user.history, *user.test)
        times = [Visit(len(user.history), len(everything))]
        slates.append(replay(everything, times, world.first_stage.retrieve, SCHEMA, vectors, relevant=RELEVANT))
    joined = Slates.joined(slates)
    return joined.where(joined.has_relevant)


def _last_visit_apart(
    users: Sequence[User],
    known: Callable[[User], tuple[FirstStage, ItemVectors | None]],
    tell: Tell,
    *,
    private: bool,
) -> tuple[Slates, Slates]:
    """Slates of all visits of ``users`` but the last, and of the last, with what is ``known`` of the items for each."""
    parts: tuple[list[Slates], list[Slates]] = ([], [])
    for user in progress_over(users, tell):
        first_stage, vectors = known(user)
        times = visits(user.history, CUTS)
        for part, some in zip(parts, (times[:-1], times[-1:]), strict=True):
            part.append(
                replay(user.history, some, first_stage.retrieve, SCHEMA, vectors, relevant=RELEVANT, private=private)
            )
    return Slates.joined(parts[0]), Slates.joined(parts[1])


def _crossfitted(world: World, *, private: bool) -> dict[str, tuple[FirstStage, ItemVectors | None]]:
    """For each server user, a first stage and, where ``private``, item vectors that were made without their fold."""
    found: dict[str, tuple[FirstStage, ItemVectors | None]] = {}
    for fold in range(FOLDS):
        held_out = world.server[fold::FOLDS]
        histories = [user.history for user in world.server if user not in held_out]
        catalog = Catalog.of(histories, world.data.movies)
        made = to_npz(catalog.items, item_vectors(histories, catalog.items)) if private else None
        known = FirstStage(catalog), None if made is None else ItemVectors.of(made)
        found |= {user.id: known for user in held_out}
    return found
