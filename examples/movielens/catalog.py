"""What a server knows of its items from the logs it holds: counts, a first stage, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.store import Event
from pocketrank_export.data.movielens import RELEVANT, Movie

Floats = npt.NDArray[np.float64]
PRIOR: Final = 5.0
"""Events at the overall mean that every item starts with."""
TREND_HALF_LIFE_S: Final = 30 * 86_400.0


@dataclass(frozen=True)
class Catalog:
    """Items with sums over the logs, each ``[N]`` in the order of ``items``.

    Attributes:
        items: Ids.
        movies: What is printed on the tin, by id.
        ratings: How many there were.
        likes: How many were relevant.
        total: Sum of the ratings' values.
        recent: Ratings weighed by half for every ``TREND_HALF_LIFE_S`` before ``now_s``.
        now_s: Time of the newest event, Unix seconds.
    """

    items: tuple[str, ...]
    movies: Mapping[str, Movie]
    ratings: Floats
    likes: Floats
    total: Floats
    recent: Floats
    now_s: float

    @classmethod
    def of(cls, histories: Sequence[Sequence[Event]], movies: Mapping[str, Movie]) -> Catalog:
        """Sum ``histories`` up."""
        index = {item: row for row, item in enumerate(movies)}
        events = [event for history in histories for event in history]
        rows = np.array([index[event.item] for event in events], dtype=np.int64)
        values = np.array([event.value for event in events])
        now_s = max(event.at_s for event in events)
        ages = now_s - np.array([event.at_s for event in events])

        def sums(amounts: Floats) -> Floats:
            found: Floats = np.bincount(rows, amounts, minlength=len(index)).astype(np.float64)
            return found

        return cls(
            items=tuple(movies),
            movies=movies,
            ratings=sums(np.ones(len(rows))),
            likes=sums((values >= RELEVANT).astype(np.float64)),
            total=sums(values),
            recent=sums(np.exp2(-ages / TREND_HALF_LIFE_S)),
            now_s=now_s,
        )

    def columns(self) -> dict[str, Floats]:
        """The public number features of every item, each ``[N]``."""
        ratings, likes = self.ratings.sum(), self.likes.sum()
        return {
            "first_stage_score": self.ratings,
            "popularity": self.likes,
            "mean_rating": (self.total + PRIOR * self.total.sum() / ratings) / (self.ratings + PRIOR),
            "like_rate": (self.likes + PRIOR * likes / ratings) / (self.ratings + PRIOR),
            "trend": np.log((self.recent * ratings / self.recent.sum() + PRIOR) / (self.ratings + PRIOR)),
            "year": np.array([self.movies[item].year for item in self.items], dtype=np.float64),
        }


class FirstStage:
    """A non-personal retriever: the most popular items that the person has not seen."""

    def __init__(self, catalog: Catalog, size: int = 100) -> None:
        """Order ``catalog`` once; ``size`` candidates are retrieved at a time."""
        self._size = size
        self._order = np.argsort(-catalog.ratings, kind="stable")
        self._items = np.array(catalog.items)
        self._columns = catalog.columns()
        self._fields = {item: movie.fields for item, movie in catalog.movies.items()}

    def retrieve(self, seen: Iterable[str]) -> dict[str, Any]:
        """Candidates as columns, best first, without the items in ``seen``."""
        taken = set(seen)
        rows = [row for row in self._order if self._items[row] not in taken][: self._size]
        ids = self._items[rows].tolist()
        return {
            "id": ids,
            **{name: values[rows] for name, values in self._columns.items()},
            "first_stage_rank": np.arange(len(ids), dtype=np.float64),
            "genres": [self._fields[item]["genres"] for item in ids],
            "era": [self._fields[item]["era"] for item in ids],
        }
