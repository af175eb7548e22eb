"""The catalogue: its sums, the first stage, and that nobody is trained on a count that tells on them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from examples.movielens import world
from examples.movielens.catalog import PRIOR, TREND_HALF_LIFE_S, Catalog, FirstStage
from pocketrank.features.candidates import parse
from pocketrank.store import Event
from pocketrank_export.data import movielens
from pocketrank_export.data.movielens import ERAS, GENRES, Movie

MOVIES = {str(number): Movie(f"Movie {number}", 1940 + 3 * number, GENRES[number : number + 2]) for number in range(15)}
DAY_S = 86_400.0


def history(seed: int, count: int) -> list[Event]:
    rng = np.random.default_rng(seed)
    return [
        Event(str(item), 1e9 + float(rng.integers(0, 200)) * DAY_S, float(rng.integers(1, 6)))
        for item in rng.permutation(15)[:count]
    ]


def test_what_a_server_user_is_trained_on_was_made_without_their_fold_and_is_the_same_for_all_of_it() -> None:
    data = movielens.load(movielens.locate())
    few = dataclasses.replace(data, users=data.users[:60])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movielens, "load", lambda _: few)
        parties = world.make(Path("nowhere"), 0, lambda _: None)
    known = world._crossfitted(parties, private=False)
    assert set(known) == {user.id for user in parties.server}
    for fold in range(world.FOLDS):
        held_out = parties.server[fold :: world.FOLDS]
        others = [user.history for user in parties.server if user not in held_out]
        expected = FirstStage(Catalog.of(others, data.movies)).retrieve([])
        for user in held_out:
            found = known[user.id][0].retrieve([])
            assert {name: list(values) for name, values in found.items()} == {
                name: list(values) for name, values in expected.items()
            }, "a count that is lower for one person would tell what they turn to later"


def test_the_sums_are_those_of_the_events() -> None:
    histories = [history(person, 10) for person in range(4)]
    catalog = Catalog.of(histories, MOVIES)
    events = [event for one in histories for event in one]
    assert catalog.now_s == max(event.at_s for event in events)
    for row, item in enumerate(catalog.items):
        own = [event for event in events if event.item == item]
        assert catalog.ratings[row] == len(own)
        assert catalog.likes[row] == sum(event.value >= 4 for event in own)
        assert catalog.total[row] == sum(event.value for event in own)
        ages = [(catalog.now_s - event.at_s) / TREND_HALF_LIFE_S for event in own]
        assert catalog.recent[row] == pytest.approx(sum(0.5**age for age in ages))


def test_an_item_without_ratings_stands_at_the_overall_mean() -> None:
    histories = [[Event("0", 1e9, 5.0), Event("1", 1e9, 2.0)]]
    columns = Catalog.of(histories, MOVIES).columns()
    assert columns["mean_rating"][2] == pytest.approx(3.5)
    assert columns["like_rate"][2] == pytest.approx(0.5)
    assert columns["mean_rating"][0] == pytest.approx((5.0 + PRIOR * 3.5) / (1 + PRIOR))
    assert all(np.isfinite(values).all() for values in columns.values())


def test_the_first_stage_is_by_popularity_and_leaves_out_what_was_seen() -> None:
    histories = [[Event(str(item), 1e9, 4.0) for item in range(person + 1)] for person in range(10)]
    first_stage = FirstStage(Catalog.of(histories, MOVIES), size=4)
    assert first_stage.retrieve([])["id"] == ["0", "1", "2", "3"]
    found = first_stage.retrieve(["0", "2", "unknown"])
    assert found["id"] == ["1", "3", "4", "5"]
    assert found["first_stage_rank"].tolist() == [0, 1, 2, 3]
    assert found["first_stage_score"].tolist() == [9, 7, 6, 5]
    assert found["genres"][0] == MOVIES["1"].genres
    assert found["era"][0] in ((MOVIES["1"].era,), MOVIES["1"].era)


def test_what_is_retrieved_fits_the_schema() -> None:
    from examples.movielens.schema import SCHEMA

    found = FirstStage(Catalog.of([history(0, 10)], MOVIES)).retrieve([])
    columns = parse(found, SCHEMA)
    assert len(columns.ids) == 15
    assert {feature.name for feature in SCHEMA.features if feature.kind == "number"} <= found.keys()
    assert SCHEMA.categories["genres"].vocabulary == GENRES
    assert SCHEMA.categories["era"].vocabulary == ERAS
    assert columns.fields["genres"].sum() == sum(len(movie.genres) for movie in MOVIES.values())
    assert columns.fields["era"].sum() == 15
