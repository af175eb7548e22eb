"""What a schema must fulfil so that its features can be computed; a refusal names the feature and what was expected."""

from __future__ import annotations

import re
from functools import partial
from typing import Final, NoReturn

from pocketrank import schema as kinds
from pocketrank.checks import is_finite, is_whole
from pocketrank.errors import BundleError
from pocketrank.schema import (
    AT,
    ID,
    LARGEST,
    MAX_BUCKETS,
    MAX_COLUMNS,
    MAX_FEATURES,
    MAX_TEXT,
    MAX_VOCABULARY,
    MAX_WIDTH,
)

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


def check(schema: kinds.Schema) -> None:
    """Refuse a schema that could not be computed.

    Raises:
        BundleError: A value outside its bounds, two features or columns of one name, or too many.
    """
    names = [feature.name for feature in schema.features]
    if len(names) > MAX_FEATURES or len(set(names)) != len(names):
        raise BundleError(f"schema: expected at most {MAX_FEATURES} features of different names, got {names!s:.300}")
    for feature in schema.features:
        _check_shared(feature, schema)
        _check(feature)
    width = 0
    for at, feature in enumerate(schema.features):
        if isinstance(feature, kinds.Interaction):
            _check_parts(feature, schema, names[:at])
        width += _width(feature, schema)
        if width > MAX_COLUMNS:
            _refuse(feature, f"at most {MAX_COLUMNS} columns in all")
    if sum(feature.width for feature in schema.features if isinstance(feature, kinds.Embedding)) > MAX_COLUMNS:
        raise BundleError(f"schema: expected embeddings of at most {MAX_COLUMNS} numbers, all widths together")
    if len(set(schema.columns)) != width:
        repeated = next(column for column in schema.columns if schema.columns.count(column) > 1)
        raise BundleError(f"schema: two columns are called {repeated!r}; rename a feature")


def _width(feature: kinds.Feature, schema: kinds.Schema) -> int:
    """Columns of a feature, counted without naming each."""
    if isinstance(feature, kinds.Interaction):
        left, right = schema.parts(feature)
        return _width(left, schema) * _width(right, schema)
    return len(feature.columns)


def _refuse(feature: kinds.Feature, expected: str) -> NoReturn:
    raise BundleError(f"schema: {feature!s:.300}: expected {expected}")


def _require(feature: kinds.Feature, ok: bool, expected: str) -> None:  # noqa: FBT001
    if not ok:
        _refuse(feature, expected)


def _check_shared(feature: kinds.Feature, schema: kinds.Schema) -> None:
    """What several kinds have."""
    require = partial(_require, feature)
    named = isinstance(feature.name, str) and bool(_NAME.fullmatch(feature.name))
    reserved = named and (feature.name in {ID, AT} or feature.name.endswith(f"_{AT}"))
    wanted = f"a name of a-z 0-9 _ that begins with a letter, is not {ID!r} or {AT!r} and does not end in _{AT}"
    require(named and not reserved, wanted)
    given = vars(feature)
    require(given.get("source", "candidate") in {"candidate", "context"}, "source candidate or context")
    age, half_life, last, least = (given.get(key) for key in ("max_age_s", "half_life_events", "last", "min_value"))
    require(age is None or is_finite(age, above=0), "max_age_s above 0")
    require(half_life is None or is_finite(half_life, above=0), "half_life_events above 0")
    require(last is None or is_whole(last, 1), "last, a whole number above 0")
    require(least is None or is_finite(least), "a finite min_value")
    if "field" in given and (feature.kind not in {"count", "rate", "fatigue"} or given["field"] is not None):
        fields = sorted(schema.categories)
        require(given["field"] in fields, f"field to name a category or categories feature of candidates: {fields}")


def _check(feature: kinds.Feature) -> None:
    """What a kind has of its own."""
    require = partial(_require, feature)
    match feature:
        case kinds.Number():
            transforms = {"identity", "log1p", "sqrt", "clip"}
            require(feature.transform in transforms, "transform identity, log1p, sqrt or clip")
            require(is_finite(feature.default, above=-LARGEST, below=LARGEST), "a finite default that fits a float32")
            _check_clip(feature)
        case kinds.Flag():
            require(isinstance(feature.default, bool), "default true or false")
        case kinds.Category() | kinds.Categories():
            _check_words(feature)
        case kinds.Embedding():
            require(is_whole(feature.width, 1, MAX_WIDTH), f"width, a whole number from 1 to {MAX_WIDTH}")
            require(feature.measure in {"cosine", "dot"}, "measure cosine or dot")
            require(feature.to in {"context", "device"}, "to context or device")
            weighed = any(value is not None for value in (feature.half_life_events, feature.last, feature.min_value))
            require(feature.to == "device" or not weighed, "half_life_events, last and min_value only to the device")
        case kinds.Clock():
            require(feature.part in {"hour", "weekday"}, "part hour or weekday")
        case kinds.Similarity():
            require(feature.reduce in {"mean", "max"}, "reduce mean or max")
        case kinds.Level():
            require(is_finite(feature.prior_events, above=0), "prior_events above 0")
        case kinds.Rate():
            fits = is_finite(feature.prior_shown, above=0) and is_finite(feature.prior_taken, above=0)
            require(fits and feature.prior_shown > feature.prior_taken, "prior_shown above prior_taken above 0")


def _check_clip(feature: kinds.Number) -> None:
    low, high = feature.low, feature.high
    if feature.transform != "clip":
        if low is not None or high is not None:
            _refuse(feature, "low and high only where transform is clip")
    elif not (is_finite(low, above=-LARGEST) and is_finite(high, below=LARGEST) and low < high):
        _refuse(feature, "low below high, both finite, for clip")


def _check_words(field: kinds.Category | kinds.Categories) -> None:
    words, buckets = field.vocabulary, field.hash_buckets
    if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
        _refuse(field, "a list of strings as vocabulary")
    if len(set(words)) != len(words) or len(words) > MAX_VOCABULARY:
        _refuse(field, f"at most {MAX_VOCABULARY} different values")
    if not all(len(word) <= MAX_TEXT for word in words):
        _refuse(field, f"values of at most {MAX_TEXT} characters")
    if not is_whole(buckets, 0, MAX_BUCKETS):
        _refuse(field, f"hash_buckets, a whole number from 0 to {MAX_BUCKETS}")
    if not isinstance(field.unknown_bucket, bool) or not isinstance(field.model_input, bool):
        _refuse(field, "unknown_bucket and model_input true or false")
    if buckets and field.unknown_bucket:
        _refuse(field, "hash_buckets or unknown_bucket, not both")
    if not field.width:
        _refuse(field, "at least one value in the vocabulary, or buckets")


def _check_parts(interaction: kinds.Interaction, schema: kinds.Schema, earlier: list[str]) -> None:
    of = interaction.of
    if not isinstance(of, tuple) or len(of) != 2 or not set(of) <= set(earlier):
        _refuse(interaction, "of to name two earlier features")
    for part in schema.parts(interaction):
        if isinstance(part, kinds.Interaction) or not part.columns:
            _refuse(interaction, "of to name features with columns of their own, and no interactions")
