"""From checked columns to the model's input: each public kind against its formula."""

import math
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, ItemVectors, profile
from pocketrank.schema import (
    LARGEST,
    Categories,
    Category,
    Embedding,
    Feature,
    Flag,
    Interaction,
    Number,
    Rate,
    Schema,
)
from pocketrank.store import Event
from tests import shop


def encoded(features: tuple[Feature, ...], candidates: Any, context: dict[str, Any] | None = None) -> Array:
    schema = Schema(features)
    return encode(parse(candidates, schema, context), schema, profile(schema, History.of([], schema, None)), None)


@pytest.mark.parametrize("source", ["candidate", "context"])
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=4, max_size=4))
def test_a_number_is_transformed_in_float64_and_rounded_once(
    source: Literal["candidate", "context"], values: list[float]
) -> None:
    # Not in the order in which they are computed.
    features = (
        Number(name="root", source=source, transform="sqrt"),
        Number(name="same", source=source),
        Number(name="log", source=source, transform="log1p"),
        Number(name="cut", source=source, transform="clip", low=-2.5, high=3.0),
    )
    row = dict(zip(("root", "same", "log", "cut"), values, strict=True))
    found = encoded(features, [{"id": "a", **row}], row)
    expected = [
        math.sqrt(max(row["root"], 0)),
        row["same"],
        math.log1p(max(row["log"], 0)),
        min(max(row["cut"], -2.5), 3.0),
    ]
    np.testing.assert_allclose(found[0], np.array(expected, np.float32), rtol=1e-7)


def test_several_clipped_numbers_keep_their_own_bounds() -> None:
    features = tuple(Number(name=f"x{n}", transform="clip", low=n, high=2.0 * n) for n in (1, 2, 3))
    found = encoded(features, {"id": ["a", "b"], **{f"x{n}": [-9, 9] for n in (1, 2, 3)}})
    assert found.tolist() == [[1, 2, 3], [2, 4, 6]]


def test_a_default_is_transformed_like_any_value() -> None:
    features = (Number(name="x", transform="clip", low=2.0, high=3.0, default=9.0), Flag(name="y", default=True))
    assert encoded(features, [{"id": "a"}]).tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize("kind", [Category, Categories])
@given(word=st.text(max_size=8))
def test_a_word_outside_the_vocabulary_falls_into_its_bucket(kind: type[Category], word: str) -> None:
    known = kind(name="x", vocabulary=("red", "blue"), hash_buckets=5)
    row = encoded((known,), [{"id": "a", "x": word}])[0]
    bucket = 2 + zlib.crc32(word.encode()) % 5
    expected = known.vocabulary.index(word) if word in known.vocabulary else bucket
    assert np.flatnonzero(row).tolist() == [expected]
    assert row[expected] == 1


def test_the_hash_of_a_word_is_the_same_everywhere() -> None:
    """CRC-32 of "123456789" is the check value of its catalogue entry: 0xCBF43926."""
    row = encoded((Category(name="x", vocabulary=(), hash_buckets=1000),), [{"id": "a", "x": "123456789"}])[0]
    assert np.flatnonzero(row).tolist() == [0xCBF43926 % 1000]


@pytest.mark.parametrize("kind", [Category, Categories])
@pytest.mark.parametrize("source", ["candidate", "context"])
def test_a_bucket_for_unknown_words_takes_them_all(kind: type[Category], source: Any) -> None:
    known = kind(name="x", vocabulary=("red",), unknown_bucket=True, source=source)
    for word, expected in (("red", [1, 0]), ("blue", [0, 1]), ("", [0, 1]), (None, [0, 0])):
        assert encoded((known,), [{"id": "a", "x": word}], {"x": word}).tolist() == [expected]


def test_several_words_set_several_columns_each_once() -> None:
    known = Categories(name="x", vocabulary=("red", "blue"), unknown_bucket=True)
    rows = [{"id": "a", "x": ["blue", "teal", "blue", "pink"]}, {"id": "b", "x": ()}, {"id": "c", "x": ["red"]}]
    assert encoded((known,), rows).tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]


VECTORS = st.lists(st.floats(-100, 100), min_size=3, max_size=3)


@given(st.lists(VECTORS | st.none(), min_size=1, max_size=5), VECTORS | st.none(), st.sampled_from(["cosine", "dot"]))
def test_an_embedding_is_compared_with_the_contexts(own: list[Any], other: Any, measure: Any) -> None:
    rows = [{"id": str(at), "x": vector} for at, vector in enumerate(own)]
    found = encoded((Embedding(name="x", width=3, measure=measure),), rows, {"x": other})
    expected = []
    for vector in own:
        one, two = np.array(vector or [0, 0, 0], float), np.array(other or [0, 0, 0], float)
        lengths = float(np.linalg.norm(one) * np.linalg.norm(two))
        dot = float(one @ two)
        expected.append(dot if measure == "dot" else dot / lengths if lengths else 0.0)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_vectors_at_the_end_of_float32_give_what_fits_one() -> None:
    rows = [{"id": "a", "x": [LARGEST, 0], "y": [LARGEST, 0]}, {"id": "b", "x": [-LARGEST, 0], "y": [1e-320, 0]}]
    features = (Embedding(name="x", width=2, measure="dot"), Embedding(name="y", width=2))
    found = encoded(features, rows, {"x": [LARGEST, 0], "y": [LARGEST, 0]})
    assert found[:, 0].tolist() == [LARGEST, -LARGEST]
    assert np.isfinite(found).all()
    assert found[0, 1] == 1


def test_an_interaction_is_the_product_of_what_it_joins() -> None:
    features = (
        Number(name="price", transform="sqrt"),
        Category(name="screen", vocabulary=("tv", "phone"), source="context"),
        Categories(name="tags", vocabulary=("red", "blue")),
        Interaction(name="x", of=("price", "screen")),
        Interaction(name="y", of=("screen", "tags")),
    )
    rows = [{"id": "a", "price": 9.0, "tags": ["red", "blue"]}, {"id": "b", "price": 4.0, "tags": "blue"}]
    expected = [[3, 0, 1, 1, 1, 0, 3, 0, 0, 1, 1], [2, 0, 1, 0, 1, 0, 2, 0, 0, 0, 1]]
    assert encoded(features, rows, {"screen": "phone"}).tolist() == expected


def test_a_product_too_large_for_float32_is_its_largest_value() -> None:
    features = (Number(name="x"), Number(name="y"), Interaction(name="z", of=("x", "y")))
    rows = [{"id": "a", "x": 1e30, "y": 1e30}, {"id": "b", "x": 1e30, "y": -1e30}]
    assert encoded(features, rows)[:, 2].tolist() == [LARGEST, -LARGEST]


@given(st.permutations(range(len(shop.SCHEMA.features))))
def test_the_order_of_the_features_is_that_of_the_columns_alone(order: list[int]) -> None:
    """However the layout groups them, each feature keeps its values."""
    vectors = ItemVectors.of(shop.bundle().files["vectors.npz"])
    parts = [at for at in order if not isinstance(shop.SCHEMA.features[at], Interaction)]
    products = [at for at in order if at not in parts]
    mixed = Schema(tuple(shop.SCHEMA.features[at] for at in (*parts, *products)))
    found = []
    for schema in (shop.SCHEMA, mixed):
        known = profile(schema, History.of(shop.browsing(0, 60), schema, vectors))
        columns = parse(shop.candidates(range(20)), schema, {"hour": 3, "screen": "tv", "basket": 4})
        found.append(dict(zip(schema.columns, encode(columns, schema, known, vectors).T, strict=True)))
    assert found[0].keys() == found[1].keys()
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name])


def test_private_columns_come_from_the_profile() -> None:
    vectors = ItemVectors.of(shop.bundle().files["vectors.npz"])
    columns = parse(shop.candidates(range(30)), shop.SCHEMA, {"hour": 12})
    private = shop.SCHEMA.private_columns
    someone = profile(shop.SCHEMA, History.of(shop.browsing(0, 90), shop.SCHEMA, vectors))
    nobody = profile(shop.SCHEMA, History.of([], shop.SCHEMA, vectors))
    found, empty = (encode(columns, shop.SCHEMA, known, vectors) for known in (someone, nobody))
    np.testing.assert_array_equal(found[:, ~private], empty[:, ~private])
    # A rate begins at that of its prior; everything else at nothing.
    names = np.array(shop.SCHEMA.columns)
    assert (empty[:, private & (names != "kind_rate")] == 0).all()
    assert (empty[:, names == "kind_rate"] == np.float32(0.1)).all()
    assert (found[:, private] != empty[:, private]).any(axis=0).all()


def test_an_item_that_came_up_after_the_profile_was_made_is_unknown_to_it() -> None:
    schema = Schema((Rate(name="x", prior_taken=1.0, prior_shown=4.0),))
    history = History.of([Event("a", 0.0)], schema, None)
    known = profile(schema, history)
    history.add([Event("b", 0.0), Event("c", 0.0)])
    columns = parse([{"id": name} for name in "abc"], schema)
    assert encode(columns, schema, known, None)[:, 0].tolist() == [0.5, 0.25, 0.25]


def test_mappings_and_columns_give_the_same_features() -> None:
    vectors = ItemVectors.of(shop.bundle().files["vectors.npz"])
    known = profile(shop.SCHEMA, History.of(shop.browsing(2, 60), shop.SCHEMA, vectors))
    rows = shop.candidates(range(50))
    one, other = (
        encode(parse(given, shop.SCHEMA, {"hour": 9}, now_s=2e9), shop.SCHEMA, known, vectors)
        for given in (rows, shop.columns(rows))
    )
    np.testing.assert_array_equal(one, other)
