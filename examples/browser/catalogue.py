"""The movies, and the app's first stage: the most popular ones whose title holds what was searched for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketrank.errors import InputError

Item = Mapping[str, Any]
"""A movie as the reranker takes it: ``id``, the bundle's features, and for the app ``title``, ``year``, ``genres``."""
CANDIDATES: Final = 100
"""What the first stage finds at most; the demo's model was trained on as many."""


def movielens(seed: int = 0) -> list[Item]:
    """MovieLens-100K as the demo's server knows it, the most popular first; ``seed`` is that of the demo's run.

    Raises:
        InputError: The data set is not installed.
    """
    from examples.movielens.catalog import Catalog, FirstStage
    from examples.movielens.world import SERVER_SHARE
    from pocketrank_export.data import movielens as data

    found = data.load(data.locate())
    server, _ = data.server_and_devices(found.users, server_share=SERVER_SHARE, rng=np.random.default_rng(seed))
    catalog = Catalog.of([user.history for user in server], found.movies)
    columns = FirstStage(catalog, size=len(catalog.items)).retrieve(seen=())
    rows = zip(*(np.asarray(column, object).tolist() for column in columns.values()), strict=True)
    items = [dict(zip(columns, row, strict=True)) for row in rows]
    return [{**item, "title": found.movies[item["id"]].title, "year": found.movies[item["id"]].year} for item in items]


def read(path: Path) -> list[Item]:
    """A catalogue of one's own: a movie as JSON on each line, the most popular first.

    Raises:
        InputError: The file can't be read, or a line is no movie.
    """
    try:
        items = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a movie as JSON on each line ({error})") from error
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict) or not all(isinstance(item.get(name), str) for name in ("id", "title")):
            raise InputError(f"{path}: line {number}: expected an object with an id and a title, got {item!r:.80}")
    return items


def retrieve(items: Iterable[Item], text: str, left_out: Collection[str]) -> list[Item]:
    """Candidates for one slate: the first of ``items`` with ``text`` in their title, but those ``left_out``."""
    wanted = text.casefold()
    found = (item for item in items if item["id"] not in left_out and wanted in item["title"].casefold())
    return [{**item, "first_stage_rank": float(rank)} for rank, item in enumerate(islice(found, CANDIDATES))]
