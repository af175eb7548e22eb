"""The feature schema: what it reads back, and what it refuses."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import BundleError
from pocketrank.schema import MAX_FEATURES, MAX_VOCABULARY, Categories, Number, Schema
from tests import shop

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ABOVE_ZERO = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """A schema as its JSON would be written by hand."""
    names = iter(draw(st.lists(st.from_regex(r"[a-hj-z][a-z0-9_]{0,10}", fullmatch=True), min_size=8, unique=True)))
    fields = [next(names) for _ in range(2)]
    body: list[dict[str, Any]] = [
        {"kind": "categories", "name": name, "vocabulary": draw(st.lists(st.text(), min_size=1, unique=True))}
        for name in fields
    ]
    device = {
        "half_life_events": st.none() | ABOVE_ZERO,
        "last": st.none() | st.integers(1, 10_000),
        "min_value": st.none() | FINITE,
    }
    field = {"field": st.sampled_from(fields)}
    own: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "number": {
            "source": st.sampled_from(["candidate", "context"]),
            "transform": st.sampled_from(["identity", "log1p", "sqrt"]),
            "default": FINITE,
        },
        "affinity": {**device, **field},
        "similarity": {**device, "reduce": st.sampled_from(["mean", "max"])},
        "level": {**device, **field, "prior_events": ABOVE_ZERO},
        "recency": {**device, **field},
    }
    for name in names:
        kind = draw(st.sampled_from(sorted(own)))
        keys = {key: draw(values) for key, values in own[kind].items()}
        body.insert(draw(st.integers(0, len(body))), {"kind": kind, "name": name, **keys})
    return Schema.from_json(body)


@given(schemas())
def test_a_schema_survives_json(schema: Schema) -> None:
    text = json.dumps(schema.to_json(), allow_nan=False)
    assert Schema.from_json(json.loads(text)) == schema


@given(schemas())
def test_columns_have_names_of_their_own_and_are_private_by_their_feature(schema: Schema) -> None:
    widths = [len(feature.columns) for feature in schema.features]
    assert len(set(schema.columns)) == len(schema.columns) == sum(widths)
    owners = [feature for feature, width in zip(schema.features, widths, strict=True) for _ in range(width)]
    assert schema.private_columns.tolist() == [feature.kind not in {"number", "categories"} for feature in owners]
    assert schema.private_columns.dtype == np.bool_


def test_the_columns_stand_in_the_order_of_the_features() -> None:
    public = ("price", "place", "rating", "hour", "kind=book", "kind=game", "kind=music")
    private = ("kind_affinity", "maker_level", "kind_recency", "similarity", "similarity_max")
    assert shop.SCHEMA.columns == public + private
    assert shop.SCHEMA.private_columns.tolist() == [False] * 7 + [True] * 5
    assert shop.SCHEMA.uses_vectors
    assert not Schema(shop.SCHEMA.features[:9]).uses_vectors
    assert list(shop.SCHEMA.categories) == ["kind", "maker"]


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
        ({"kind": "number", "name": "id"}, "is not 'id'"),
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
        ({"kind": "categories", "name": "x", "vocabulary": []}, "different values"),
        ({"kind": "categories", "name": "x", "vocabulary": ["a", "a"]}, "different values"),
        ({"kind": "categories", "name": "x", "vocabulary": "abc"}, "list of strings"),
        ({"kind": "categories", "name": "x", "vocabulary": [1, 2]}, "list of strings"),
        ({"kind": "categories", "name": "x", "vocabulary": [["a"]]}, "list of strings"),
        ({"kind": "categories", "name": "x", "vocabulary": None}, "list of strings"),
        ({"kind": "categories", "name": "x", "vocabulary": list(map(str, range(MAX_VOCABULARY + 1)))}, "1 to 4096"),
        ({"kind": "categories", "name": "x", "vocabulary": ["a"], "model_input": 1}, "model_input true or false"),
        ({"kind": "affinity", "name": "x", "field": "unknown"}, "field to name a categories feature"),
        ({"kind": "affinity", "name": "x", "field": ["genre"]}, "field to name a categories feature"),
        ({"kind": "affinity", "name": "x"}, "does not fit"),
        ({"kind": "affinity", "name": "x", "field": "genre", "half_life_events": 0}, "half_life_events above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "half_life_events": -1}, "half_life_events above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "half_life_events": "3"}, "half_life_events above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "half_life_events": float("inf")}, "half_life_events"),
        ({"kind": "affinity", "name": "x", "field": "genre", "last": 0}, "last, a whole number above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "last": 2.5}, "last, a whole number above 0"),
        ({"kind": "affinity", "name": "x", "field": "genre", "min_value": "4"}, "finite min_value"),
        ({"kind": "affinity", "name": "x", "field": "genre", "min_value": float("inf")}, "finite min_value"),
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


def test_a_field_may_come_after_the_feature_that_reads_it() -> None:
    body = [{"kind": "affinity", "name": "x", "field": "genre"}, FIELD]
    assert Schema.from_json(body).columns == ("x", "genre=a", "genre=b")


def test_a_field_that_is_no_input_has_no_columns() -> None:
    hidden = Categories(name="maker", vocabulary=("a", "b"), model_input=False)
    assert hidden.columns == ()
    assert Schema((hidden,)).columns == ()
