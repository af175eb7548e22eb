"""The device features, each against a formula that walks through the events one by one."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import BundleError
from pocketrank.features import encode, parse
from pocketrank.profile import Array, History, ItemVectors, profile
from pocketrank.schema import Affinity, Categories, DeviceFeature, Level, Recency, Schema, Similarity
from pocketrank.store import Event

WORDS = ("a", "b", "c")
NAMES = tuple(f"item-{number}" for number in range(6))
VECTORS = ItemVectors(NAMES[:5], np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
FIELD = Categories(name="field", vocabulary=WORDS, model_input=False)

HISTORIES = st.lists(
    st.builds(
        Event,
        item=st.sampled_from(NAMES),
        at_s=st.just(0.0),
        value=st.integers(1, 5).map(float),
        # "d" is in no vocabulary, and an event may have no field at all.
        fields=st.just({}) | st.fixed_dictionaries({"field": st.sets(st.sampled_from((*WORDS, "d"))).map(tuple)}),
    ),
    max_size=15,
)
HALF_LIVES = st.none() | st.floats(0.5, 20)
LASTS = st.none() | st.integers(1, 6)
LEAST = st.none() | st.integers(1, 6).map(float)


def weighed(events: Sequence[Event], feature: DeviceFeature) -> list[tuple[Event, float]]:
    """The events that count, newest first, each with its weight."""
    kept = [event for event in reversed(events) if feature.min_value is None or event.value >= feature.min_value]
    kept = kept[: feature.last]
    half_life = feature.half_life_events
    return [(event, 1.0 if half_life is None else 0.5 ** (age / half_life)) for age, event in enumerate(kept)]


def known(event: Event) -> list[str]:
    return [word for word in event.fields.get("field", ()) if word in WORDS]


def column(feature: DeviceFeature, events: Sequence[Event]) -> Array:
    """The feature for six candidates: one for each item, with none, one, two or all of the field's values."""
    schema = Schema((FIELD, feature))
    values = [(), ("a",), ("b",), ("c",), ("a", "b"), WORDS]
    columns = parse({"id": list(NAMES), "field": values}, schema)
    found = encode(columns, schema, profile(schema, History.of(events, schema, VECTORS)), VECTORS)
    assert found.dtype == np.float32
    return found[:, 0]


def per_word(state: dict[str, float], combine: Any) -> list[float]:
    """A field's state as the six candidates see it."""
    return [0.0] + [combine([state[word] for word in words]) for words in ("a", "b", "c", "ab", "abc")]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def build(kind: Any, half_life: float | None, last: int | None, least: float | None, **own: Any) -> Any:
    return kind(name="x", half_life_events=half_life, last=last, min_value=least, **own)


@given(HISTORIES, HALF_LIVES, LASTS, LEAST)
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


@given(HISTORIES, HALF_LIVES, LASTS, LEAST, st.floats(0.1, 10))
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


@given(HISTORIES, HALF_LIVES, LASTS, LEAST)
def test_recency_counts_the_events_since_a_value(
    events: list[Event], half_life: float | None, last: int | None, least: float | None
) -> None:
    feature = build(Recency, half_life, last, least, field="field")
    counting = [event for event, _ in weighed(events, feature)]
    state = dict.fromkeys(WORDS, 0.0)
    for since, event in enumerate(reversed(events)):
        for word in known(event):
            if any(event is other for other in counting):
                state[word] = max(state[word], 1.0 / (1.0 + since))
    np.testing.assert_allclose(column(feature, events), per_word(state, max), rtol=1e-5)


@given(HISTORIES, HALF_LIVES, LASTS, LEAST, st.sampled_from(["mean", "max"]))
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


FEATURES: list[DeviceFeature] = [
    Affinity(name="x", field="field"),
    Affinity(name="x", field="field", half_life_events=3, last=4, min_value=3),
    Level(name="x", field="field"),
    Recency(name="x", field="field"),
    Similarity(name="x"),
    Similarity(name="x", half_life_events=0.5),
    Similarity(name="x", reduce="max"),
    Similarity(name="x", reduce="max", last=2, min_value=6),
]


@pytest.mark.parametrize("feature", FEATURES)
def test_an_empty_history_gives_zeros(feature: DeviceFeature) -> None:
    assert column(feature, []).tolist() == [0.0] * 6


@pytest.mark.parametrize("feature", FEATURES)
def test_very_many_events_of_large_value_stay_finite(feature: DeviceFeature) -> None:
    events = [Event(NAMES[at % 6], 0.0, 1e9 * (-1) ** at, {"field": (WORDS[at % 3],)}) for at in range(5000)]
    assert np.isfinite(column(feature, events)).all()


@given(HISTORIES, st.lists(st.integers(0, 15), max_size=4), st.integers(0, 15))
def test_a_history_in_pieces_is_the_history_at_once(events: list[Event], cuts: list[int], count: int) -> None:
    schema = Schema((FIELD, *(type(f)(**{**vars(f), "name": f"x{i}"}) for i, f in enumerate(FEATURES))))
    places = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    pieces = History.of([], schema, VECTORS)
    for start, end in pairwise(places):
        pieces = pieces.followed_by(History.of(events[start:end], schema, VECTORS))
    whole = History.of(events, schema, VECTORS)
    for made, expected in (
        (pieces, events),
        (whole.first(count), events[:count]),
        (whole.newest(count), events[max(len(events) - count, 0) :]),
    ):
        states = profile(schema, made)
        for name, state in profile(schema, History.of(expected, schema, VECTORS)).items():
            np.testing.assert_array_equal(states[name], state)


@given(st.integers(1, 200), st.floats(0.5, 50))
def test_an_event_weighs_half_after_its_half_life(age: int, half_life: float) -> None:
    """Two values: one engaged with now, one ``age`` events ago."""
    events = [Event("x", 0.0, fields={"field": ("a",)}), *(Event("x", 0.0) for _ in range(age - 1))]
    events.append(Event("x", 0.0, fields={"field": ("b",)}))
    found = column(Affinity(name="x", field="field", half_life_events=half_life), events)
    assert found[1] / found[2] == pytest.approx(0.5 ** (age / half_life), rel=1e-4, abs=1e-30)


def test_item_vectors_have_unit_length_and_unknown_items_none() -> None:
    vectors = ItemVectors(["a", "b"], np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(vectors.rows(["b", "a", "other"]), np.array([[0, 0], [0.6, 0.8], [0, 0]]), rtol=1e-6)
    assert vectors.rows([]).shape == (0, 2)


@pytest.mark.parametrize("vectors", [np.zeros(3), np.zeros((2, 3)), np.full((3, 2), np.nan), np.full((3, 2), np.inf)])
def test_item_vectors_that_dont_fit_are_refused(vectors: Any) -> None:
    with pytest.raises(BundleError, match=r"item vectors: expected finite \[3, k\]"):
        ItemVectors(["a", "b", "c"], vectors)
