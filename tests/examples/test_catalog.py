"""The catalogue's sums: one person's part can be taken out, as if they had never been there."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(
    st.lists(st.integers(0, 15), min_size=2, max_size=6).filter(lambda counts: sum(counts[1:]) > 0), st.integers(0, 99)
)
def test_without_one_person_it_is_the_catalogue_made_without_them(counts: list[int], seed: int) -> None:
    histories = [history(seed + person, count) for person, count in enumerate(counts)]
    found = Catalog.of(histories, MOVIES).without(histories[0])
    expected = Catalog.of(histories[1:], MOVIES)
    for name in ("ratings", "likes", "total"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    # Ages count from the newest event, which may have been theirs; that cancels out of what a model sees.
    for name, values in expected.columns().items():
        np.testing.assert_allclose(found.columns()[name], values, atol=1e-9, err_msg=name)
    slates = [FirstStage(catalog, size=5).retrieve(["3"]) for catalog in (found, expected)]
    assert slates[0]["id"] == slates[1]["id"]


def test_on_real_data_too() -> None:
    data = movielens.load(movielens.locate())
    histories = [user.history for user in data.users[:200]]
    whole, last = Catalog.of(histories, data.movies), max(range(200), key=lambda user: histories[user][-1].at_s)
    for left_out in (0, 17, last):
        found = whole.without(histories[left_out])
        expected = Catalog.of([*histories[:left_out], *histories[left_out + 1 :]], data.movies)
        for name, values in expected.columns().items():
            np.testing.assert_allclose(found.columns()[name], values, atol=1e-8, err_msg=name)
        assert FirstStage(found).retrieve([])["id"] == FirstStage(expected).retrieve([])["id"]


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


def test_the_catalogue_is_immutable() -> None:
    catalog = Catalog.of([history(0, 10)], MOVIES)
    before = {field.name: np.copy(getattr(catalog, field.name)) for field in dataclasses.fields(catalog)[2:6]}
    catalog.without(history(0, 10))
    for name, values in before.items():
        np.testing.assert_array_equal(getattr(catalog, name), values)
