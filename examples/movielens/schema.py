"""What the movie ranker reads: public columns from the server, private ones from the device's own history."""

from __future__ import annotations

from typing import Final

from pocketrank.schema import Affinity, Categories, Level, Number, Schema, Similarity
from pocketrank_export.data.movielens import ERAS, GENRES, RELEVANT

SCHEMA: Final = Schema(
    (
        Number(name="first_stage_score", transform="log1p"),
        Number(name="first_stage_rank", transform="sqrt"),
        Number(name="popularity", transform="log1p"),
        Number(name="mean_rating"),
        Number(name="like_rate"),
        Number(name="trend"),
        Number(name="year", default=1990.0),
        Categories(name="genres", vocabulary=GENRES),
        Categories(name="era", vocabulary=ERAS, model_input=False),
        Affinity(name="genre_affinity", field="genres"),
        Affinity(name="genre_affinity_liked", field="genres", min_value=RELEVANT),
        Affinity(name="genre_affinity_recent", field="genres", half_life_events=10),
        Affinity(name="era_affinity_recent", field="era", half_life_events=10),
        Level(name="genre_level", field="genres"),
        Level(name="era_level", field="era"),
        Similarity(name="similarity"),
        Similarity(name="similarity_liked", min_value=RELEVANT),
        Similarity(name="similarity_last_few", half_life_events=3),
        Similarity(name="similarity_recent", half_life_events=10),
        Similarity(name="similarity_liked_recent", min_value=RELEVANT, half_life_events=10),
        Similarity(name="similarity_max", reduce="max"),
    )
)
