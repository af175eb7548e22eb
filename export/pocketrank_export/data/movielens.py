"""MovieLens-100K, read from the wheel that carries it; located, never imported.

A user is a device. In time order (ties by item id) the first 80 % of a user's
ratings are the history, the rest the test; they are kept apart from here on,
so that what is handed a history can't see a test.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pocketrank.errors import InputError
from pocketrank.store import Event

PIP_LINE: Final = "pip install --no-deps recbole==1.2.1"
SHA256: Final = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
HISTORY_SHARE: Final = 0.8
RELEVANT: Final = 4.0
"""A rating from here on says that the person liked the movie."""

GENRES: Final = (
    *("Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
ERAS: Final = ("-1949", "1950", "1960", "1970", "1980", "1990", "1994", "1996", "1997")
"""Spans of release years by their first year; finer where the catalogue is denser."""

_FIRST_YEARS: Final = (1950, 1960, 1970, 1980, 1990, 1994, 1996, 1997)


@dataclass(frozen=True)
class Movie:
    """An item of the catalogue."""

    title: str
    year: int
    genres: tuple[str, ...]

    @property
    def era(self) -> str:
        """The span of years that it was released in."""
        return ERAS[int(np.digitize(self.year, _FIRST_YEARS))]

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """Its categories, as an event takes them."""
        return {"genres": self.genres, "era": (self.era,)}


@dataclass(frozen=True)
class User:
    """One person: what the device may know, and what came after it."""

    id: str
    history: tuple[Event, ...]
    test: tuple[Event, ...]


@dataclass(frozen=True)
class MovieLens:
    """The whole data set: movies by item id, and the users."""

    movies: Mapping[str, Movie]
    users: tuple[User, ...]


def locate() -> Path:
    """The folder of MovieLens-100K in the installed wheel.

    Raises:
        InputError: The wheel is not installed; the message holds the pip line.
    """
    spec = importlib.util.find_spec("recbole")
    for root in spec.submodule_search_locations or () if spec else ():
        folder = Path(root) / "dataset_example" / "ml-100k"
        if folder.is_dir():
            return folder
    raise InputError(f"MovieLens-100K: not found; it comes in a wheel: {PIP_LINE}")


def load(folder: Path) -> MovieLens:
    """Read the data set in ``folder``.

    Raises:
        InputError: A file is missing, or is not the one that figures were published for.
    """
    movies = {}
    rows = [line.split("\t") for line in _read(folder, "ml-100k.item").splitlines()[1:]]
    years = [int(year) for _, _, year, _ in rows if year.isdigit()]
    for item, title, year, genres in rows:
        known = int(year) if year.isdigit() and int(year) > 1900 else int(np.median(years))
        movies[item] = Movie(title, known, tuple(genre for genre in genres.split(" ") if genre in GENRES))
    ratings: dict[str, list[Event]] = {}
    for line in _read(folder, "ml-100k.inter").splitlines()[1:]:
        user, item, rating, at_s = line.split("\t")
        ratings.setdefault(user, []).append(Event(item, float(at_s), float(rating), movies[item].fields))
    return MovieLens(movies, tuple(split(user, ratings[user]) for user in sorted(ratings, key=int)))


def split(user: str, events: Sequence[Event]) -> User:
    """Cut a user's events in time order, ties by item id, into history and test."""
    ordered = sorted(events, key=lambda event: (event.at_s, int(event.item)))
    cut = int(HISTORY_SHARE * len(ordered))
    return User(user, tuple(ordered[:cut]), tuple(ordered[cut:]))


def server_and_devices(
    users: Sequence[User], *, server_share: float, rng: np.random.Generator
) -> tuple[list[User], list[User]]:
    """Draw the users whose logs the server holds; the others' events exist on their devices only."""
    chosen = set(rng.permutation(len(users))[: round(len(users) * server_share)].tolist())
    return [u for i, u in enumerate(users) if i in chosen], [u for i, u in enumerate(users) if i not in chosen]


def _read(folder: Path, name: str) -> str:
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / name}: can't be read ({error.strerror}); reinstall it: {PIP_LINE}") from error
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise InputError(f"{folder / name}: not the published file (SHA-256 differs); reinstall it: {PIP_LINE}")
    return data.decode()
