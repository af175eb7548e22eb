"""Replayed logs: the features are a device's own, bit for bit, and nothing of the test reaches them."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.movielens import world
from examples.movielens.catalog import Catalog, FirstStage
from examples.movielens.fleet import CUTS, Fleet
from examples.movielens.schema import SCHEMA
from pocketrank import Reranker
from pocketrank.bundle import (
    GOLDEN,
    PARAMS,
    RANK_MODEL,
    VECTORS,
    Manifest,
    Parameter,
    PrivacyPolicy,
    build,
    load_arrays,
    save_arrays,
)
from pocketrank.engine import Engine
from pocketrank.errors import InputError, LeakError
from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import History, ItemVectors, profile
from pocketrank.store import DeviceStore, Event, Limits
from pocketrank_export.builder import params_of
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.data import movielens
from pocketrank_export.data.leaks import check_no_leak, scrambled
from pocketrank_export.data.movielens import RELEVANT, MovieLens
from pocketrank_export.data.replay import Visit, replay, visits
from pocketrank_export.data.slates import Slates
from pocketrank_export.data.vectors import item_vectors, to_npz
from pocketrank_export.ranker import trainables
from pocketrank_export.student import Student
from tests import shop

ARRAYS = shop.item_vectors()
SHOP_VECTORS = ItemVectors(ARRAYS["items"].tolist(), ARRAYS["vectors"].astype(np.float32))


@pytest.fixture(scope="module")
def data() -> MovieLens:
    """A part of MovieLens, so that the tests are quick; the movies are all there."""
    whole = movielens.load(movielens.locate())
    return dataclasses.replace(whole, users=whole.users[:120])


def bytes_of(slates: Slates) -> bytes:
    return save_arrays({name: array for name, array in vars(slates).items() if array is not None})


# ---------------------------------------------------------------------------------------------------------------- leaks


def made(data: MovieLens, catalog_of: Callable[[MovieLens], Catalog] | None = None) -> Mapping[str, bytes]:
    """All that the demo makes before it measures anything, as it makes it; or with another catalogue."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movielens, "load", lambda _: data)
        found = world.make(Path("nowhere"), 0, lambda _: None)
    if catalog_of is not None:
        catalog = catalog_of(data)
        found = dataclasses.replace(found, catalog=catalog, first_stage=FirstStage(catalog))
    retrieved = [found.first_stage.retrieve(event.item for event in user.history) for user in found.fleet.users]
    train, validation = world.server_slates(found, lambda _: None, private=False)
    sums = {name: getattr(found.catalog, name) for name in ("ratings", "likes", "total", "recent")}
    return {
        "catalogue": save_arrays({**sums, "now_s": np.array(found.catalog.now_s)}),
        "first stage": json.dumps(retrieved, default=np.ndarray.tolist).encode(),
        "item vectors": found.vectors,
        "training slates": bytes_of(train),
        "validation slates": bytes_of(validation),
    }


def test_nothing_that_is_trained_or_ranked_with_depends_on_a_test(data: MovieLens) -> None:
    check_no_leak(made, data, np.random.default_rng(0))


def test_a_planted_leak_is_caught_and_named(data: MovieLens) -> None:
    """Popularity counted over everything, as one writes it on a tired evening."""

    def leaking(data: MovieLens) -> Mapping[str, bytes]:
        return made(data, lambda data: Catalog.of([user.history + user.test for user in data.users], data.movies))

    few = dataclasses.replace(data, users=data.users[:40])
    with pytest.raises(LeakError, match="catalogue, first stage: depends on the"):
        check_no_leak(leaking, few, np.random.default_rng(0))


def test_a_single_event_of_one_persons_test_is_caught(data: MovieLens) -> None:
    def leaking(data: MovieLens) -> Mapping[str, bytes]:
        histories = [user.history for user in data.users]
        histories[3] += data.users[3].test[:1]
        items = sorted({event.item for user in data.users for event in user.history + user.test})
        return {"item vectors": to_npz(items, item_vectors(histories, items))}

    few = dataclasses.replace(data, users=data.users[:5])
    with pytest.raises(LeakError, match="item vectors: depends on the users' tests"):
        check_no_leak(leaking, few, np.random.default_rng(1))


def test_what_is_not_deterministic_is_not_taken_for_a_leak(data: MovieLens) -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(LeakError, match="weights: differs between two builds of the same data"):
        check_no_leak(lambda _: {"weights": rng.bytes(8)}, data, rng)


def test_scrambling_changes_every_test_and_no_history(data: MovieLens) -> None:
    other = scrambled(data, np.random.default_rng(3))
    assert other.movies == data.movies
    for user, changed in zip(data.users, other.users, strict=True):
        assert changed.history == user.history
        assert {event.item for event in changed.test} != {event.item for event in user.test}
        assert len(changed.test) != len(user.test)


# --------------------------------------------------------------------------------------------------------------- visits


@given(st.integers(0, 60), st.lists(st.floats(0, 1), min_size=1, max_size=6).map(sorted), st.integers(0, 10))
def test_visits_never_overlap_and_never_reach_past_the_history(count: int, cuts: list[float], least: int) -> None:
    history = shop.events(0, count)
    found = visits(history, cuts, min_events=least)
    windows = [event for visit in found for event in range(visit.at, visit.until)]
    assert len(set(windows)) == len(windows)
    assert all(least <= visit.at < visit.until <= count for visit in found)
    assert not found or found[-1].until == count


def test_visits_lie_at_the_shares_of_the_history() -> None:
    assert visits(shop.events(0, 10), (0.3, 0.6, 0.9)) == [Visit(6, 9), Visit(9, 10)]


@pytest.mark.parametrize(
    "visit", [Visit(5, 11), Visit(10, 11), Visit(-1, 5), Visit(5, 5), Visit(6, 5), Visit(11, 12)], ids=str
)
def test_a_visit_that_reaches_past_the_history_is_refused(visit: Visit) -> None:
    with pytest.raises(InputError, match="reaches outside a history of 10 events; its labels would leak"):
        replay(shop.events(0, 10), [visit], retrieve, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED)


def retrieve(seen: Iterable[str]) -> dict[str, Any]:
    """All items that were not seen; fewer the more there were."""
    taken = set(seen)
    numbers = [number for number in range(shop.ITEMS) if f"item-{number}" not in taken]
    return shop.columns(shop.candidates(numbers))


def test_labels_are_what_was_liked_within_the_window() -> None:
    history = shop.events(1, 30)
    (visit,) = times = [Visit(10, 25)]
    found = replay(history, times, retrieve, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED)
    ids = retrieve(event.item for event in history[: visit.at])["id"]
    liked = {event.item for event in history[10:25] if event.value >= shop.LIKED}
    assert found.labels[0, : len(ids)].tolist() == [float(item in liked) for item in ids]
    assert found.relevant is not None
    assert found.relevant.tolist() == [len(liked)]


def test_slates_are_padded_to_the_longest_with_zeros() -> None:
    history = shop.events(2, 40)
    found = replay(history, visits(history, (0.2, 0.5, 0.8)), retrieve, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED)
    counts = [len(retrieve(event.item for event in history[:at])["id"]) for at in (8, 20, 32)]
    assert found.mask.sum(axis=1).tolist() == counts
    assert found.features.shape == (3, max(counts), len(shop.SCHEMA.columns))
    assert not found.features[found.mask == 0].any()
    assert not found.labels[found.mask == 0].any()


def test_nobody_gives_no_slates() -> None:
    found = replay([], [], retrieve, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED)
    assert len(found) == 0


def test_without_private_features_a_person_looks_like_a_new_device() -> None:
    history = shop.browsing(3, 40)
    times = visits(history, (0.5,))
    one, other = (
        replay(history, times, retrieve, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED, private=private)
        for private in (True, False)
    )
    private = shop.SCHEMA.private_columns
    known = profile(shop.SCHEMA, History.of([], shop.SCHEMA, SHOP_VECTORS))
    bought = [event.item for event in history[:20] if event.action == "engaged"]
    columns = parse(retrieve(bought), shop.SCHEMA, now_s=history[19].at_s)
    nobody = encode(columns, shop.SCHEMA, known, SHOP_VECTORS)
    np.testing.assert_array_equal(other.features[0], nobody)
    # What was bought is not offered again, so that nobody has bought what is.
    private &= np.array([name != "bought" for name in shop.SCHEMA.columns])
    assert (one.features[..., private] != other.features[..., private]).any(axis=(0, 1)).all()
    public = ~shop.SCHEMA.private_columns
    np.testing.assert_array_equal(one.features[..., public], other.features[..., public])
    np.testing.assert_array_equal(one.labels, other.labels)


@given(st.integers(0, 1000), st.integers(11, 40))
def test_what_comes_after_a_visit_changes_none_of_its_features(seed: int, count: int) -> None:
    history, other = shop.events(seed, count), shop.events(seed + 1, count)
    times = [Visit(5, 8), Visit(8, 10)]
    one, changed = (
        replay(events, times, retrieve, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED)
        for events in (history, [*history[:10], *other[10:]])
    )
    np.testing.assert_array_equal(one.features, changed.features)
    np.testing.assert_array_equal(one.labels, changed.labels)


def replayed(history: list[Event], visit: Visit, **keys: Any) -> Slates:
    return replay(history, [visit], retrieve, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED, **keys)


def test_what_was_only_shown_is_neither_liked_nor_left_out() -> None:
    history = shop.browsing(5, 60)
    seen: list[list[str]] = []

    def remembering(items: Iterable[str]) -> dict[str, Any]:
        seen.append(list(items))
        return retrieve(seen[-1])

    found = replay(history, [Visit(30, 60)], remembering, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED)
    assert seen == [[event.item for event in history[:30] if event.action == "engaged"]]
    liked = {e.item for e in history[30:] if e.action == "engaged" and e.value >= shop.LIKED}
    assert found.relevant is not None
    assert found.relevant.tolist() == [len(liked)]
    shown = {e.item for e in history if e.action == "shown"} - liked
    ids = retrieve(seen[0])["id"]
    assert not any(label for item, label in zip(ids, found.labels[0], strict=True) if item in shown)


@pytest.mark.parametrize(
    ("visit", "hour"),
    [
        (Visit(30, 60), (shop.OPENED_S + 60 * 29) / 3600 % 24),
        (Visit(0, 60), 0.0),
        (Visit(30, 60, now_s=6 * 3600.0), 6.0),
        (Visit(30, 60, {"hour": 3}), 3.0),
    ],
)
def test_a_visits_clock_is_the_event_before_it_or_what_the_log_says(visit: Visit, hour: float) -> None:
    found = replayed(shop.browsing(6, 60), visit)
    at = shop.SCHEMA.columns.index("hour.sin")
    angle = 2 * math.pi * hour / 24
    np.testing.assert_allclose(found.features[0, 0, at : at + 2], [math.sin(angle), math.cos(angle)], atol=1e-6)
    ahead = replayed(shop.browsing(6, 60), visit, utc_offset_s=6 * 3600.0).features[0, 0, at : at + 2]
    if "hour" in visit.context:
        np.testing.assert_array_equal(ahead, found.features[0, 0, at : at + 2])
    else:
        # A quarter of the circle on: the sine becomes what the cosine was.
        np.testing.assert_allclose(ahead[0], found.features[0, 0, at + 1], atol=1e-6)


def test_a_store_that_forgets_is_replayed_with_its_limits() -> None:
    history = shop.browsing(7, 90)
    limits = Limits(max_events=5, max_shown=12)
    store = DeviceStore(limits=limits)
    store.record(history[:80])
    known = profile(shop.SCHEMA, History.of(store.events(), shop.SCHEMA, SHOP_VECTORS, limits))
    found = replayed(history, Visit(80, 90), limits=limits).features[0]
    seen = [event.item for event in history[:80] if event.action == "engaged"]
    columns = parse(retrieve(seen), shop.SCHEMA, now_s=history[79].at_s)
    np.testing.assert_array_equal(found, encode(columns, shop.SCHEMA, known, SHOP_VECTORS))
    assert (found != replayed(history, Visit(80, 90)).features[0]).any()


@pytest.mark.parametrize("name", shop.moments(1))
def test_the_golden_features_are_what_replay_computes(name: str) -> None:
    moment = shop.moments(1)[name]
    visit = Visit(moment.at, len(moment.log), moment.context, moment.now_s)
    found = replay(moment.log, [visit], lambda _: moment.candidates, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED)
    golden = load_arrays(shop.FEATURES.read_bytes())[name]
    np.testing.assert_array_equal(found.features[0], golden, strict=True)


# -------------------------------------------------------------------------------------------------------------- devices


def test_a_device_sees_what_replay_computes_bit_for_bit() -> None:
    reranker = Reranker.load(shop.bundle())
    history = shop.events(4, 60)
    # The hour is the app's word, so that the clock of the machine that runs this has none.
    context = {"hour": 21.5, "screen": "tv", "basket": 3, "style": [0.5, -0.1, 0.2, 1.0]}
    times = [dataclasses.replace(visit, context=context) for visit in visits(history, (0.1, 0.2, 0.4, 0.6, 0.8))]
    reranker.observe(history[: times[0].at])
    ids = []
    for visit in times:
        candidates = retrieve(event.item for event in history[: visit.at])
        ids.append(candidates["id"])
        slate = reranker.rank(candidates, context=context)
        for event in history[visit.at : visit.until]:
            if event.item in slate.ids:
                slate.clicked(event.item, value=event.value, label=float(event.value >= shop.LIKED), at_s=event.at_s)
            else:
                reranker.observe([event])
    expected = replay(history, times, retrieve, shop.SCHEMA, SHOP_VECTORS, relevant=shop.LIKED)
    assert reranker.store.events() == history
    assert assert_same(reranker.store, ids, expected) == 5


def test_the_fleets_devices_see_what_replay_computes_bit_for_bit(data: MovieLens, tmp_path: Path) -> None:
    ranking = engine(data)
    first_stage = FirstStage(Catalog.of([user.history for user in data.users[:30]], data.movies))
    fleet = Fleet(data.users[30:50], first_stage, tmp_path)
    fleet.live(ranking, lambda _: None)
    compared = 0
    for user in fleet.users:
        store = fleet.store(user)
        assert store.events() == list(user.history)
        times = visits(user.history, CUTS)
        expected = replay(
            user.history, times, first_stage.retrieve, SCHEMA, ranking.vectors, relevant=RELEVANT, private=True
        )
        ids = [first_stage.retrieve(event.item for event in user.history[: visit.at])["id"] for visit in times]
        compared += assert_same(store, ids, expected)
        store.close()
    assert compared > 50


def assert_same(store: DeviceStore, ids: Sequence[Any], expected: Slates) -> int:
    """The store's impressions are the replayed slates with a good outcome, oldest first; returns how many."""
    useful: list[int] = np.flatnonzero(expected.labels.any(axis=1)).tolist()
    shown = [found for found in store.impressions() if found.labels.any()]
    assert len(shown) == len(useful)
    for found, row in zip(shown, useful, strict=True):
        order = [ids[row].index(name) for name in found.items]
        np.testing.assert_array_equal(found.features, expected.features[row][order])
        np.testing.assert_array_equal(found.labels, expected.labels[row][order])
    return len(shown)


def engine(data: MovieLens) -> Engine:
    """The demo's schema with a student that was never trained."""
    student = Student((~SCHEMA.private_columns).tolist(), (2,)).eval()
    catalog = Catalog.of([user.history for user in data.users], data.movies)
    manifest = Manifest(
        name="movies",
        version=1,
        schema=SCHEMA,
        slate_sizes=(128,),
        trainable=tuple(Parameter(name, shape) for name, shape in trainables(student)),
        policy=PrivacyPolicy(min_cohort=1, max_clipping_norm=1.0, min_noise_multiplier=0.0, max_rounds=1),
    )
    files = {
        RANK_MODEL: to_tflite_rank(student, manifest.slate_sizes),
        PARAMS: save_arrays(params_of(student)),
        GOLDEN: save_arrays({}),
        VECTORS: to_npz(catalog.items, item_vectors([user.history for user in data.users], catalog.items)),
    }
    return Engine(build(manifest, files))
