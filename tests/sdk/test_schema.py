"""The feature schema: what it reads back, and what it refuses."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import BundleError
from pocketrank.schema import (
    LARGEST,
    MAX_BUCKETS,
    MAX_COLUMNS,
    MAX_FEATURES,
    MAX_TEXT,
    MAX_VOCABULARY,
    MAX_WIDTH,
    Categories,
    Category,
    Clock,
    Embedding,
    Flag,
    Interaction,
    Number,
    Rate,
    Schema,
)
from tests import shop

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
DEFAULTS = st.floats(-LARGEST, LARGEST, exclude_min=True, exclude_max=True, width=32)
ABOVE_ZERO = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)


AGES = st.none() | ABOVE_ZERO
SOURCES = st.sampled_from(["candidate", "context"])
PUBLIC = {"number", "flag", "category", "categories", "clock"}


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """A schema as its JSON would be written by hand."""
    # Two fields and eight features: embeddings of the largest width are as wide together as a schema may be.
    named = st.from_regex(r"[a-hj-z][a-z0-9]{0,10}", fullmatch=True)
    names = iter(draw(st.lists(named, min_size=8, max_size=10, unique=True)))
    fields = [next(names) for _ in range(2)]
    words = st.lists(st.text(max_size=5), max_size=5, unique=True)
    body: list[dict[str, Any]] = [
        {
            "kind": draw(st.sampled_from(["category", "categories"])),
            "name": name,
            "vocabulary": draw(words),
            "model_input": draw(st.booleans()),
            **draw(st.sampled_from([{"hash_buckets": 3}, {"unknown_bucket": True}])),
        }
        for name in fields
    ]
    device = {
        "half_life_events": st.none() | ABOVE_ZERO,
        "last": st.none() | st.integers(1, 10_000),
        "min_value": st.none() | FINITE,
    }
    field = {"field": st.sampled_from(fields)}
    either = {"field": st.none() | field["field"]}
    own: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "number": {
            "source": SOURCES,
            "transform": st.sampled_from(["identity", "log1p", "sqrt"]),
            "default": DEFAULTS,
            "max_age_s": AGES,
        },
        "flag": {"source": SOURCES, "default": st.booleans(), "max_age_s": AGES},
        "clock": {"part": st.sampled_from(["hour", "weekday"])},
        "embedding": {
            **device,
            "width": st.integers(1, MAX_WIDTH),
            "measure": st.sampled_from(["cosine", "dot"]),
            "to": st.just("device"),
        },
        "affinity": {**device, **field},
        "similarity": {**device, "reduce": st.sampled_from(["mean", "max"])},
        "level": {**device, **field, "prior_events": ABOVE_ZERO},
        "recency": {**device, **field},
        "count": {**device, **either},
        "rate": {**either, "min_value": st.none() | FINITE, "prior_taken": st.just(0.5), "prior_shown": st.just(3)},
        "fatigue": {**either, "half_life_events": AGES},
    }
    for name in names:
        kind = draw(st.sampled_from(sorted(own)))
        keys = {key: draw(values) for key, values in own[kind].items()}
        body.insert(draw(st.integers(0, len(body))), {"kind": kind, "name": name, **keys})
    parts: list[str] = [entry["name"] for entry in body if entry.get("model_input", True)]
    if parts:
        body.append({"kind": "interaction", "name": "i", "of": [draw(st.sampled_from(parts)) for _ in range(2)]})
    return Schema.from_json(body)


@given(schemas())
def test_a_schema_survives_json(schema: Schema) -> None:
    text = json.dumps(schema.to_json(), allow_nan=False)
    assert Schema.from_json(json.loads(text)) == schema


@given(schemas())
def test_columns_have_names_of_their_own_and_are_private_by_their_feature(schema: Schema) -> None:
    owners = {feature.name: feature for feature in schema.features}

    def private(name: str) -> bool:
        feature = owners[name]
        return any(map(private, feature.of)) if isinstance(feature, Interaction) else feature.kind not in PUBLIC

    expected = [private(feature.name) for feature in schema.features for _ in schema.columns_of(feature)]
    assert len(set(schema.columns)) == len(schema.columns) == len(expected)
    assert schema.private_columns.tolist() == expected
    assert schema.private_columns.dtype == np.bool_


def test_the_columns_stand_in_the_order_of_the_features() -> None:
    public = ("price", "place", "rating", "discount", "basket", "in_stock", "hour.sin", "hour.cos")
    words = ("kind=book", "kind=game", "kind=music", "colour=red", "colour=blue", "colour#0", "colour#1")
    screens = ("screen=phone", "screen=tv", "screen#unknown")
    private = ("taste", "kind_affinity", "maker_level", "kind_recency", "similarity", "similarity_max")
    counted = ("bought", "kind_rate", "fatigue")
    products = (*(f"in_stock*{screen}" for screen in screens), "basket*kind_affinity")
    assert shop.SCHEMA.columns == (*public, *words, *screens, "style", *private, *counted, *products)
    assert shop.SCHEMA.private_columns.tolist() == [False] * 19 + [True] * 9 + [False] * 3 + [True]
    assert shop.SCHEMA.uses_vectors
    assert not Schema(shop.SCHEMA.features[:16]).uses_vectors
    assert list(shop.SCHEMA.categories) == ["kind", "maker", "colour"]


def test_an_interaction_is_the_product_of_each_column_with_each_of_the_other() -> None:
    fields = [Category(name=name, vocabulary=("a", "b")) for name in ("x", "y")]
    made = Schema((*fields, Interaction(name="both", of=("x", "y")), Interaction(name="square", of=("x", "x"))))
    assert made.columns_of(made.features[2]) == ("x=a*y=a", "x=a*y=b", "x=b*y=a", "x=b*y=b")
    assert made.columns_of(made.features[3]) == ("x=a*x=a", "x=a*x=b", "x=b*x=a", "x=b*x=b")


def test_two_columns_of_one_name_are_refused() -> None:
    words = [Categories(name="a", vocabulary=("x", "x*b=y")), Categories(name="b", vocabulary=("y",))]
    with pytest.raises(BundleError, match=r"two columns are called 'a=x\*b=y'; rename a feature"):
        Schema((*words, Interaction(name="c", of=("a", "b"))))


FIELD: dict[str, Any] = {"kind": "categories", "name": "genre", "vocabulary": ["a", "b"]}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "number"}, "does not fit"),
        ({"kind": "nothing", "name": "x"}, "unknown kind"),
        ({"name": "x"}, "unknown kind"),
        ("number", "expected an object"),
        (None, "expected an object"),
        ({"kind": "number", "name": "x", "colour": 1}, "does not fit"),
        ({"kind": "number", "name": "x", "private": False}, "does not fit"),
        ({"kind": "number", "name": "id"}, "is not 'id' or 'at_s'"),
        ({"kind": "number", "name": "at_s"}, "is not 'id' or 'at_s'"),
        ({"kind": "number", "name": "price_at_s"}, "does not end in _at_s"),
        ({"kind": "number", "name": "Price"}, "name of a-z"),
        ({"kind": "number", "name": "2x"}, "name of a-z"),
        ({"kind": "number", "name": ""}, "name of a-z"),
        ({"kind": "number", "name": "a" * 65}, "name of a-z"),
        ({"kind": "number", "name": "a\n"}, "name of a-z"),
        ({"kind": "number", "name": 5}, "name of a-z"),
        ({"kind": "number", "name": {}}, "wrong type"),
        ({"kind": "number", "name": "genre"}, "different names"),
        ({"kind": "number", "name": "x", "source": "device"}, "source candidate or context"),
        ({"kind": "number", "name": "x", "source": {}}, "wrong type"),
        ({"kind": "number", "name": "x", "transform": "exp"}, "transform identity"),
        ({"kind": "number", "name": "x", "default": "1"}, "finite default"),
        ({"kind": "number", "name": "x", "default": True}, "finite default"),
        ({"kind": "number", "name": "x", "default": None}, "finite default"),
        ({"kind": "number", "name": "x", "default": float("inf")}, "finite default"),
        ({"kind": "number", "name": "x", "default": LARGEST * 2}, "fits a float32"),
        ({"kind": "number", "name": "x", "max_age_s": 0}, "max_age_s above 0"),
        ({"kind": "number", "name": "x", "max_age_s": "1"}, "max_age_s above 0"),
        ({"kind": "number", "name": "x", "max_age_s": float("inf")}, "max_age_s above 0"),
        ({"kind": "number", "name": "x", "transform": "clip"}, "low below high"),
        ({"kind": "number", "name": "x", "transform": "clip", "low": 1}, "low below high"),
        ({"kind": "number", "name": "x", "transform": "clip", "low": 1, "high": 1}, "low below high"),
        ({"kind": "number", "name": "x", "transform": "clip", "low": "0", "high": 1}, "low below high"),
        ({"kind": "number", "name": "x", "transform": "clip", "low": 0, "high": float("inf")}, "low below high"),
        ({"kind": "number", "name": "x", "low": 1}, "low and high only where transform is clip"),
        ({"kind": "number", "name": "x", "transform": "sqrt", "high": 1}, "low and high only where"),
        ({"kind": "flag", "name": "x", "default": 1}, "default true or false"),
        ({"kind": "flag", "name": "x", "source": "device"}, "source candidate or context"),
        ({"kind": "category", "name": "x", "vocabulary": []}, "at least one value"),
        ({"kind": "category", "name": "x", "vocabulary": [], "hash_buckets": -1}, "hash_buckets, a whole number"),
        ({"kind": "category", "name": "x", "vocabulary": [], "hash_buckets": 1.5}, "hash_buckets, a whole number"),
        ({"kind": "category", "name": "x", "vocabulary": [], "hash_buckets": True}, "hash_buckets, a whole number"),
        ({"kind": "category", "name": "x", "vocabulary": [], "hash_buckets": MAX_BUCKETS + 1}, "hash_buckets"),
        ({"kind": "category", "name": "x", "vocabulary": [], "unknown_bucket": 1}, "unknown_bucket and model_input"),
        ({"kind": "category", "name": "x", "vocabulary": ["a" * (MAX_TEXT + 1)]}, "at most 256 characters"),
        (
            {"kind": "category", "name": "x", "vocabulary": [], "hash_buckets": 1, "unknown_bucket": True},
            "hash_buckets or unknown_bucket, not both",
        ),
        ({"kind": "embedding", "name": "x", "width": 0}, "width, a whole number from 1"),
        ({"kind": "embedding", "name": "x", "width": MAX_WIDTH + 1}, "width, a whole number from 1"),
        ({"kind": "embedding", "name": "x", "width": 4, "measure": "l2"}, "measure cosine or dot"),
        ({"kind": "embedding", "name": "x", "width": 4, "to": "item"}, "to context or device"),
        ({"kind": "embedding", "name": "x", "width": 4, "last": 3}, "only to the device"),
        ({"kind": "embedding", "name": "x", "width": 4, "to": "device", "last": 0}, "last, a whole number"),
        ({"kind": "clock", "name": "x", "part": "month"}, "part hour or weekday"),
        ({"kind": "clock", "name": "x"}, "does not fit"),
        ({"kind": "interaction", "name": "x", "of": ["genre"]}, "two earlier features"),
        ({"kind": "interaction", "name": "x", "of": ["genre", "genre", "genre"]}, "two earlier features"),
        ({"kind": "interaction", "name": "x", "of": ["genre", "x"]}, "two earlier features"),
        ({"kind": "interaction", "name": "x", "of": ["genre", "later"]}, "two earlier features"),
        ({"kind": "interaction", "name": "x", "of": "ab"}, "two earlier features"),
        ({"kind": "interaction", "name": "x", "of": [["a"], "genre"]}, "wrong type"),
        ({"kind": "interaction", "name": "x"}, "does not fit"),
        ({"kind": "count", "name": "x", "field": "unknown"}, "field to name"),
        ({"kind": "rate", "name": "x", "field": "unknown"}, "field to name"),
        ({"kind": "rate", "name": "x", "prior_taken": 0}, "prior_shown above prior_taken above 0"),
        ({"kind": "rate", "name": "x", "prior_taken": 10, "prior_shown": 10}, "prior_shown above prior_taken"),
        ({"kind": "rate", "name": "x", "half_life_events": 3}, "does not fit"),
        ({"kind": "fatigue", "name": "x", "field": 3}, "field to name"),
        ({"kind": "fatigue", "name": "x", "half_life_events": 0}, "half_life_events above 0"),
        ({"kind": "fatigue", "name": "x", "min_value": 1}, "does not fit"),
        ({"kind": "categories", "name": "x", "vocabulary": []}, "at least one value"),
        ({"kind": "categories", "name": "x", "vocabulary": ["a", "a"]}, "different values"),
        ({"kind": "categories", "name": "x", "vocabulary": "abc"}, "list of strings"),
        ({"kind": "categories", "name": "x", "vocabulary": [1, 2]}, "list of strings"),
        ({"kind": "categories", "name": "x", "vocabulary": [["a"]]}, "list of strings"),
        ({"kind": "categories", "name": "x", "vocabulary": None}, "list of strings"),
        ({"kind": "categories", "name": "x", "vocabulary": list(map(str, range(MAX_VOCABULARY + 1)))}, "at most 4096"),
        (
            {"kind": "categories", "name": "x", "vocabulary": ["a"], "model_input": 1},
            "unknown_bucket and model_input true or false",
        ),
        ({"kind": "affinity", "name": "x", "field": "unknown"}, "field to name a category or categories feature"),
        ({"kind": "affinity", "name": "x", "field": ["genre"]}, "field to name a category or categories feature"),
        ({"kind": "affinity", "name": "x"}, "does not fit"),
        ({"kind": "affinity", "name": "x", "field": "genre", "half_life_events": 0}, "half_life_events above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "half_life_events": -1}, "half_life_events above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "half_life_events": "3"}, "half_life_events above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "half_life_events": float("inf")}, "half_life_events"),
        ({"kind": "affinity", "name": "x", "field": "genre", "last": 0}, "last, a whole number above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "last": 2.5}, "last, a whole number above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "min_value": "4"}, "finite min_value"),
        ({"kind": "affinity", "name": "x", "field": "genre", "min_value": float("inf")}, "finite min_value"),
        ({"kind": "level", "name": "x", "field": None}, "field to name"),
        ({"kind": "level", "name": "x", "field": "genre", "prior_events": 0}, "prior_events above 0"),
        ({"kind": "level", "name": "x", "field": "genre", "prior_events": -5.0}, "prior_events above 0"),
        ({"kind": "level", "name": "x", "field": "genre", "prior_events": None}, "prior_events above 0"),
        ({"kind": "similarity", "name": "x", "reduce": "median"}, "reduce mean or max"),
        ({"kind": "similarity", "name": "x", "field": "genre"}, "does not fit"),
    ],
)
def test_a_bad_schema_is_refused_by_name(entry: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Schema.from_json([FIELD, entry])


def test_too_many_features_are_refused() -> None:
    Schema(tuple(Number(name=f"x{number}") for number in range(MAX_FEATURES)))
    with pytest.raises(BundleError, match=f"at most {MAX_FEATURES}"):
        Schema(tuple(Number(name=f"x{number}") for number in range(MAX_FEATURES + 1)))


def test_too_many_columns_are_refused_before_they_are_named() -> None:
    words = [Categories(name=f"x{i}", vocabulary=tuple(map(str, range(MAX_VOCABULARY)))) for i in range(2)]
    assert len(Schema(tuple(words)).columns) == MAX_COLUMNS
    for more in (Number(name="y"), Interaction(name="y", of=("x0", "x1"))):
        with pytest.raises(BundleError, match=f"at most {MAX_COLUMNS} columns in all"):
            Schema((*words, more))


def test_embeddings_that_no_device_could_hold_are_refused() -> None:
    embeddings = [Embedding(name=f"x{number}", width=MAX_WIDTH) for number in range(MAX_COLUMNS // MAX_WIDTH)]
    assert len(Schema(tuple(embeddings)).columns) == len(embeddings)
    with pytest.raises(BundleError, match=f"embeddings of at most {MAX_COLUMNS} numbers"):
        Schema((*embeddings, Embedding(name="y", width=1)))


@pytest.mark.parametrize(
    "feature",
    [
        Category(name="x", vocabulary=(), hash_buckets=2, model_input=False),
        Interaction(name="x", of=("a", "a")),
        Number(name="other"),
    ],
)
def test_an_interaction_takes_earlier_features_that_have_columns_and_are_no_interactions(feature: Any) -> None:
    with pytest.raises(BundleError, match="of to name"):
        Schema((Number(name="a"), feature, Interaction(name="y", of=("a", "x"))))


def test_a_device_feature_looks_at_no_field_of_the_context() -> None:
    field = Category(name="screen", vocabulary=("tv",), source="context")
    with pytest.raises(BundleError, match="feature of candidates"):
        Schema((field, Rate(name="x", field="screen")))


def test_what_the_schema_alone_knows_of_an_interaction() -> None:
    taste = Embedding(name="taste", width=2, to="device")
    features = (Flag(name="flag"), Clock(name="hour", part="hour"), taste)
    made = Schema((*features, Interaction(name="x", of=("flag", "hour")), Interaction(name="y", of=("flag", "taste"))))
    assert [made.is_private(feature) for feature in made.features] == [False, False, True, False, True]
    assert made.columns[-3:] == ("flag*hour.sin", "flag*hour.cos", "flag*taste")


def test_a_field_may_come_after_the_feature_that_reads_it() -> None:
    body = [{"kind": "affinity", "name": "x", "field": "genre"}, FIELD]
    assert Schema.from_json(body).columns == ("x", "genre=a", "genre=b")


def test_a_field_that_is_no_input_has_no_columns() -> None:
    hidden = Categories(name="maker", vocabulary=("a", "b"), model_input=False)
    assert hidden.columns == ()
    assert Schema((hidden,)).columns == ()
