"""The device features, each against a formula that walks through the events one by one."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import BundleError
from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, ItemVectors, profile
from pocketrank.schema import (
    Affinity,
    Categories,
    Category,
    Count,
    DeviceFeature,
    Embedding,
    Fatigue,
    Level,
    Rate,
    Recency,
    Schema,
    Similarity,
)
from pocketrank.store import DeviceStore, Event, Limits

WORDS = ("a", "b", "c")
NAMES = tuple(f"item-{number}" for number in range(6))
VECTORS = ItemVectors(NAMES[:5], np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
FIELD = Categories(name="field", vocabulary=WORDS, model_input=False)

# "d" is in no vocabulary, and an event may have no field at all; a word may stand twice.
FIELDS: st.SearchStrategy[Any] = st.just({}) | st.fixed_dictionaries(
    {"field": st.lists(st.sampled_from((*WORDS, "d")), max_size=4).map(tuple)}
)
OWN: st.SearchStrategy[Any] = st.just({}) | st.fixed_dictionaries(
    {"x": st.tuples(st.floats(-2, 2, width=32), st.floats(-2, 2, width=32))}
)


def histories(actions: Sequence[str]) -> st.SearchStrategy[list[Event]]:
    event = st.builds(
        Event,
        item=st.sampled_from(NAMES),
        at_s=st.just(0.0),
        value=st.integers(1, 5).map(float),
        fields=FIELDS,
        embeddings=OWN,
        action=st.sampled_from(actions),
    )
    return st.lists(event, max_size=15)


HISTORIES = histories(["engaged"])
BROWSING = histories(["engaged", "shown"])
HALF_LIVES = st.none() | st.floats(0.5, 20)
LASTS = st.none() | st.integers(1, 6)
LEAST = st.none() | st.integers(1, 6).map(float)


def weighed(events: Sequence[Event], feature: Any) -> list[tuple[Event, float]]:
    """The engagements that count, newest first, each with its weight."""
    events = engagements(events)
    kept = [event for event in reversed(events) if feature.min_value is None or event.value >= feature.min_value]
    kept = kept[: feature.last]
    half_life = feature.half_life_events
    return [(event, 1.0 if half_life is None else 0.5 ** (age / half_life)) for age, event in enumerate(kept)]


def engagements(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.action == "engaged"]


def known(event: Event) -> set[str]:
    return {word for word in event.fields.get("field", ()) if word in WORDS}


def column(feature: DeviceFeature, events: Sequence[Event]) -> Array:
    """The feature for six candidates: one for each item, with none, one, two or all of the field's values."""
    schema = Schema((FIELD, feature))
    values = [(), ("a",), ("b",), ("c",), ("a", "b"), WORDS]
    columns = parse({"id": list(NAMES), "field": values}, schema)
    found = encode(columns, schema, profile(schema, History.of(events, schema, VECTORS)), VECTORS)
    assert found.dtype == np.float32
    return found[:, 0]


def about(event: Event, subject: str | None, item: str | None) -> bool:
    """Whether an event is about a word of the field, or, without one, about an item."""
    return event.item == item if subject is None else subject in known(event)


def of_each(feature: Any, state: Any, empty: float = 0.0) -> list[float]:
    """The six candidates' values of a feature whose state of a word or an item is ``state(word, item)``."""
    if feature.field is None:
        return [state(None, item) for item in NAMES]
    return [empty] + [mean([state(word, None) for word in words]) for words in ("a", "b", "c", "ab", "abc")]


def per_word(state: dict[str, float], combine: Any) -> list[float]:
    """A field's state as the six candidates see it."""
    return [0.0] + [combine([state[word] for word in words]) for words in ("a", "b", "c", "ab", "abc")]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def build(kind: Any, half_life: float | None, last: int | None, least: float | None, **own: Any) -> Any:
    return kind(name="x", half_life_events=half_life, last=last, min_value=least, **own)


@given(BROWSING, HALF_LIVES, LASTS, LEAST)
def test_affinity_is_the_share_of_the_weight_that_fell_on_a_value(
    events: list[Event], half_life: float | None, last: int | None, least: float | None
) -> None:
    feature = build(Affinity, half_life, last, least, field="field")
    state = dict.fromkeys(WORDS, 0.0)
    counted = weighed(events, feature)
    for event, weight in counted:
        for word in known(event):
            # An event's weight is split among its values.
            state[word] += weight / len(known(event)) / sum(weight for _, weight in counted)
    np.testing.assert_allclose(column(feature, events), per_word(state, mean), rtol=1e-4, atol=1e-6)


@given(BROWSING, HALF_LIVES, LASTS, LEAST, st.floats(0.1, 10))
def test_level_is_the_shrunken_difference_to_the_persons_own_mean(
    events: list[Event], half_life: float | None, last: int | None, least: float | None, prior: float
) -> None:
    feature = build(Level, half_life, last, least, field="field", prior_events=prior)
    counted = weighed(events, feature)
    overall = sum(w * e.value for e, w in counted) / sum(w for _, w in counted) if counted else 0.0
    state = {}
    for word in WORDS:
        hits = [(event.value, weight) for event, weight in counted if word in known(event)]
        state[word] = sum(w * (v - overall) for v, w in hits) / (sum(w for _, w in hits) + prior)
    np.testing.assert_allclose(column(feature, events), per_word(state, mean), rtol=1e-4, atol=1e-5)


@given(BROWSING, HALF_LIVES, LASTS, LEAST)
def test_recency_counts_the_events_since_a_value(
    events: list[Event], half_life: float | None, last: int | None, least: float | None
) -> None:
    feature = build(Recency, half_life, last, least, field="field")
    counting = [event for event, _ in weighed(events, feature)]
    state = dict.fromkeys(WORDS, 0.0)
    for since, event in enumerate(reversed(engagements(events))):
        for word in known(event):
            if any(event is other for other in counting):
                state[word] = max(state[word], 1.0 / (1.0 + since))
    np.testing.assert_allclose(column(feature, events), per_word(state, max), rtol=1e-5)


@given(BROWSING, HALF_LIVES, LASTS, LEAST, st.sampled_from(["mean", "max"]))
def test_similarity_is_the_mean_or_the_largest_cosine(
    events: list[Event],
    half_life: float | None,
    last: int | None,
    least: float | None,
    reduce: Literal["mean", "max"],
) -> None:
    feature = build(Similarity, half_life, last, least, reduce=reduce)
    counted = weighed(events, feature)
    expected = []
    for name in NAMES:
        cosines = [float(VECTORS.rows([name])[0] @ VECTORS.rows([event.item])[0]) for event, _ in counted]
        weights = [weight for _, weight in counted]
        if not counted:
            expected.append(0.0)
        elif reduce == "max":
            expected.append(max(cosines))
        else:
            expected.append(sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights))
    np.testing.assert_allclose(column(feature, events), expected, rtol=1e-4, atol=1e-5)


EITHER = st.sampled_from([None, "field"])


@given(BROWSING, HALF_LIVES, LASTS, LEAST, EITHER)
def test_count_is_the_weight_of_the_engagements(
    events: list[Event], half_life: float | None, last: int | None, least: float | None, field: str | None
) -> None:
    feature = build(Count, half_life, last, least, field=field)
    counted = weighed(events, feature)
    expected = of_each(feature, lambda word, item: sum(w for e, w in counted if about(e, word, item)))
    np.testing.assert_allclose(column(feature, events), expected, rtol=1e-5)


@given(BROWSING, LEAST, EITHER, st.floats(0.1, 3), st.floats(3.5, 9))
def test_rate_is_what_was_taken_of_what_was_shown(
    events: list[Event], least: float | None, field: str | None, prior_taken: float, prior_shown: float
) -> None:
    feature = Rate(name="x", field=field, min_value=least, prior_taken=prior_taken, prior_shown=prior_shown)

    def rate(word: str | None, item: str | None) -> float:
        seen = [event for event in events if about(event, word, item)]
        taken = [event for event in engagements(seen) if least is None or event.value >= least]
        return (len(taken) + prior_taken) / (len(seen) - len(engagements(seen)) + prior_shown)

    expected = of_each(feature, rate, empty=prior_taken / prior_shown)
    np.testing.assert_allclose(column(feature, events), expected, rtol=1e-6)


@given(BROWSING, HALF_LIVES, EITHER)
def test_fatigue_counts_how_often_it_was_shown_since_it_was_engaged_with(
    events: list[Event], half_life: float | None, field: str | None
) -> None:
    feature = Fatigue(name="x", field=field, half_life_events=half_life)

    def fatigue(word: str | None, item: str | None) -> float:
        total, age = 0.0, 0
        for event in reversed(events):
            if about(event, word, item):
                if event.action == "engaged":
                    break
                total += 1.0 if half_life is None else 0.5 ** (age / half_life)
            age += event.action == "shown"
        return total

    np.testing.assert_allclose(column(feature, events), of_each(feature, fatigue), rtol=1e-5)


@given(BROWSING, HALF_LIVES, LASTS, LEAST, st.sampled_from(["cosine", "dot"]))
def test_an_embedding_is_compared_with_the_weighted_mean_of_those_engaged_with(
    events: list[Event], half_life: float | None, last: int | None, least: float | None, measure: str
) -> None:
    feature = build(Embedding, half_life, last, least, width=2, to="device", measure=measure)
    schema = Schema((feature,))
    own = np.array([[1.0, 0.0], [0.6, -0.8], [0.0, 0.0]])
    columns = parse({"id": list("abc"), "x": own}, schema)
    found = encode(columns, schema, profile(schema, History.of(events, schema, None)), None)[:, 0]
    counted = [(np.array(event.embeddings["x"]), w) for event, w in weighed(events, feature) if "x" in event.embeddings]
    taste = sum(w * vector for vector, w in counted) / sum(w for _, w in counted) if counted else np.zeros(2)
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(taste)
    if measure == "cosine" and 0 < np.linalg.norm(taste) < 1e-3:
        return  # What cancels out has a direction of rounding errors.
    expected = own @ taste if measure == "dot" else np.divide(own @ taste, lengths, np.zeros(3), where=lengths > 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("vector", [(1.0,), (1.0, 2.0, 3.0), (float("nan"), 1.0), (float("inf"), 1.0), (1e39, 1.0), ()])
def test_an_events_vector_that_does_not_fit_is_as_if_there_were_none(vector: tuple[float, ...]) -> None:
    schema = Schema((Embedding(name="x", width=2, to="device", measure="dot"),))
    events = [Event("a", 0.0, embeddings={"x": (3.0, 4.0)}), Event("b", 0.0, embeddings={"x": vector})]
    known = profile(schema, History.of(events, schema, None))
    assert known.tastes["x"].tolist() == [3.0, 4.0]


@given(BROWSING)
def test_one_word_a_candidate_is_as_several_with_one(events: list[Event]) -> None:
    """A category takes another way through the code than categories do."""
    reading: list[Any] = [
        Affinity(name="p", field="field"),
        Level(name="q", field="field"),
        Recency(name="r", field="field"),
    ]
    counting: list[Any] = [
        Count(name="s", field="field"),
        Rate(name="t", field="field"),
        Fatigue(name="u", field="field"),
    ]
    found = []
    for kind in (Category, Categories):
        field = kind(name="field", vocabulary=WORDS, model_input=False)
        schema = Schema((field, *reading, *counting))
        columns = parse({"id": list("abcde"), "field": [*WORDS, "d", None]}, schema)
        found.append(encode(columns, schema, profile(schema, History.of(events, schema, None)), None))
    np.testing.assert_array_equal(found[0], found[1])


def test_device_features_look_at_buckets_too() -> None:
    for field in (
        Category(name="field", vocabulary=("a",), hash_buckets=2),
        Category(name="field", vocabulary=("a",), unknown_bucket=True),
    ):
        schema = Schema((field, Count(name="x", field="field")))
        history = History.of([Event("i", 0.0, fields={"field": ("unheard",)})] * 3, schema, None)
        columns = parse([{"id": 1, "field": "unheard"}, {"id": 2, "field": "a"}, {"id": 3}], schema)
        assert encode(columns, schema, profile(schema, history), None)[:, -1].tolist() == [3.0, 0.0, 0.0]


# ----------------------------------------------------------------------------------------------------------- histories

FEATURES: list[Any] = [
    Affinity(name="x", field="field"),
    Affinity(name="x", field="field", half_life_events=3, last=4, min_value=3),
    Level(name="x", field="field"),
    Recency(name="x", field="field"),
    Similarity(name="x"),
    Similarity(name="x", half_life_events=0.5),
    Similarity(name="x", reduce="max"),
    Similarity(name="x", reduce="max", last=2, min_value=6),
    Count(name="x"),
    Count(name="x", field="field", half_life_events=2),
    Rate(name="x"),
    Rate(name="x", field="field", min_value=3),
    Fatigue(name="x"),
    Fatigue(name="x", field="field", half_life_events=2),
    Embedding(name="x", width=2, to="device", half_life_events=2),
]
EVERY = Schema(
    (
        FIELD,
        *(
            type(f)(**{**vars(f), "name": "x" if isinstance(f, Embedding) else f"x{at}"})
            for at, f in enumerate(FEATURES)
        ),
    )
)
PLAIN = [feature for feature in FEATURES if not isinstance(feature, Embedding)]


def features(history: History) -> Array:
    """What six candidates get after a history."""
    words = [(), ("a",), ("b",), ("c",), ("a", "b"), WORDS]
    own = np.arange(12.0).reshape(6, 2) - 5
    columns = parse({"id": list(NAMES), "field": words, "x": own}, EVERY)
    return encode(columns, EVERY, profile(EVERY, history), VECTORS)


@pytest.mark.parametrize("feature", PLAIN)
def test_an_empty_history_gives_zeros_or_the_prior(feature: DeviceFeature) -> None:
    assert column(feature, []).tolist() == [np.float32(0.1) if isinstance(feature, Rate) else 0.0] * 6


@pytest.mark.parametrize("feature", PLAIN)
def test_very_many_events_of_large_value_stay_finite(feature: DeviceFeature) -> None:
    events = [Event(NAMES[at % 6], 0.0, 1e9 * (-1) ** at, {"field": (WORDS[at % 3],)}) for at in range(5000)]
    assert np.isfinite(column(feature, events)).all()


@given(BROWSING, st.lists(st.integers(0, 15), max_size=4), st.integers(0, 15))
def test_a_history_in_pieces_is_the_history_at_once(events: list[Event], cuts: list[int], count: int) -> None:
    places = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    pieces = History.of([], EVERY, VECTORS)
    for start, end in pairwise(places):
        pieces.add(events[start:end])
    whole = History.of(events, EVERY, VECTORS)
    np.testing.assert_array_equal(features(pieces), features(whole))
    first = whole.first(count)
    np.testing.assert_array_equal(features(first), features(History.of(events[:count], EVERY, VECTORS)))
    # What is added to one is not seen by the other.
    first.add(events)
    np.testing.assert_array_equal(features(whole), features(pieces))
    np.testing.assert_array_equal(features(first), features(History.of(events[:count] + events, EVERY, VECTORS)))


@given(BROWSING, st.integers(0, 6), st.integers(0, 6), st.integers(0, 15))
def test_a_history_holds_what_the_store_would(events: list[Event], most: int, shown: int, count: int) -> None:
    limits = Limits(max_events=most, max_shown=shown)
    one_by_one = History.of([], EVERY, VECTORS, limits)
    for event in events:
        one_by_one.add([event])
    gone = [*engagements(events)[: max(len(engagements(events)) - most, 0)]]
    seen = [event for event in events if event.action == "shown"]
    gone += seen[: max(len(seen) - shown, 0)]
    kept = [event for event in events if not any(event is other for other in gone)]
    expected = features(History.of(kept, EVERY, VECTORS))
    np.testing.assert_array_equal(features(one_by_one), expected)
    np.testing.assert_array_equal(features(History.of(events, EVERY, VECTORS, limits)), expected)
    first = History.of(events, EVERY, VECTORS).first(count, limits)
    np.testing.assert_array_equal(features(first), features(History.of(events[:count], EVERY, VECTORS, limits)))


def test_a_restart_changes_no_feature_of_a_store_that_forgets() -> None:
    limits = Limits(max_events=20, max_shown=30)
    store = DeviceStore(limits=limits)
    rng = np.random.default_rng(0)
    history = History.of([], EVERY, VECTORS, limits)
    for _ in range(200):
        word, action = WORDS[rng.integers(3)], ("engaged", "shown")[int(rng.integers(2))]
        own = {"x": tuple(rng.normal(size=2).tolist())}
        event = Event(NAMES[rng.integers(6)], 1.7e9, 2.0, {"field": (word,)}, own, action)  # type: ignore[arg-type]  # one of the two
        store.record([event])
        history.add([event])
    np.testing.assert_array_equal(features(history), features(History.of(store.events(), EVERY, VECTORS, limits)))


def test_a_history_of_ever_other_items_does_not_grow() -> None:
    history = History.of([], EVERY, VECTORS, Limits(max_events=10, max_shown=10))
    for at in range(5_000):
        history.add([Event(f"new-{at}", 0.0, action="shown"), Event(f"other-{at}", 0.0)])
    assert len(history.places) <= 2 * 20 + 1_000 + 2
    assert (len(history.engaged), len(history.shown)) == (10, 10)
    newest = Schema((Count(name="x"), Fatigue(name="y")))
    ids = ["new-4999", "new-4990", "new-4989", "other-4999", "other-4989"]
    known = History.of([], newest, None, Limits(max_events=10, max_shown=10))
    for at in range(5_000):
        known.add([Event(f"new-{at}", 0.0, action="shown"), Event(f"other-{at}", 0.0)])
    columns = parse({"id": ids}, newest)
    found = encode(columns, newest, profile(newest, known), None)
    assert found.tolist() == [[0, 1], [0, 1], [0, 0], [1, 0], [0, 0]]


@given(st.integers(1, 200), st.floats(0.5, 50))
def test_an_event_weighs_half_after_its_half_life(age: int, half_life: float) -> None:
    """Two values: one engaged with now, one ``age`` events ago."""
    events = [Event("x", 0.0, fields={"field": ("a",)}), *(Event("x", 0.0) for _ in range(age - 1))]
    events.append(Event("x", 0.0, fields={"field": ("b",)}))
    found = column(Affinity(name="x", field="field", half_life_events=half_life), events)
    assert found[1] / found[2] == pytest.approx(0.5 ** (age / half_life), rel=1e-4, abs=1e-13)


@given(st.floats(5e-324, 1e308) | st.floats(1, 5000), st.integers(0, 4_999))
def test_weights_by_multiplication_are_the_powers_that_they_stand_for(half_life: float, age: int) -> None:
    events = [Event("x", 0.0), *(Event("y", 0.0) for _ in range(age))]
    schema = Schema((Count(name="x", half_life_events=half_life),))
    columns = parse({"id": ["x", "y"]}, schema)
    weight = encode(columns, schema, profile(schema, History.of(events, schema, None)), None)[0, 0]
    assert weight == pytest.approx(0.5 ** (age / half_life), rel=1e-6, abs=1e-37)


# -------------------------------------------------------------------------------------------------------- item vectors


def test_item_vectors_have_unit_length_and_unknown_items_none() -> None:
    vectors = ItemVectors(["a", "b"], np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(vectors.rows(["b", "a", "other"]), np.array([[0, 0], [0.6, 0.8], [0, 0]]), rtol=1e-6)
    assert vectors.rows([]).shape == (0, 2)


@given(st.integers(0, 1000), st.sampled_from([2, 64, 1000]))
def test_a_cosine_has_no_rounding_error_in_whatever_order_it_is_summed(seed: int, width: int) -> None:
    """Against whole numbers without bounds, and for a mean as for a single vector."""
    rng = np.random.default_rng(seed)
    names = [str(at) for at in range(8)]
    vectors = ItemVectors(names, rng.normal(size=(8, width)).astype(np.float32))
    schema = Schema((Similarity(name="mean", half_life_events=3), Similarity(name="max", reduce="max", last=1)))
    known = profile(schema, History.of([Event(name, 0.0) for name in names], schema, vectors))
    found = encode(parse({"id": names}, schema), schema, known, vectors)
    rows = [[Fraction(value) for value in row] for row in vectors.rows(names).tolist()]
    states = known.vectors.tolist()
    for at, state in enumerate(states):
        exact = [sum(one * Fraction(other) for one, other in zip(row, state, strict=True)) for row in rows]
        assert found[:, at].tolist() == [np.float32(float(value)) for value in exact]


@pytest.mark.parametrize("vectors", [np.zeros(3), np.zeros((2, 3)), np.full((3, 2), np.nan), np.full((3, 2), np.inf)])
def test_item_vectors_that_dont_fit_are_refused(vectors: Any) -> None:
    with pytest.raises(BundleError, match=r"item vectors: expected finite \[3, k\]"):
        ItemVectors(["a", "b", "c"], vectors)
