"""What each feature added to a score: beside the truth of a linear model, and beside one call a feature."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.bundle import RANK_MODEL, VECTORS
from pocketrank.errors import InputError, ModelError
from pocketrank.explanation import baseline, explain
from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, ItemVectors, profile
from pocketrank.schema import Clock, Interaction, Number
from pocketrank.scorer import Scorer
from tests import shop

SCHEMA = shop.SCHEMA
SCORER = Scorer(shop.bundle())
KNOWN = ItemVectors.of(shop.bundle().files[VECTORS])
BASELINE = baseline(SCHEMA, KNOWN)
OWNERS = np.array([feature.name for feature in SCHEMA.features for _ in SCHEMA.columns_of(feature)])
"""The feature of each column."""
OF_CONTEXT = {
    feature.name
    for feature in SCHEMA.features
    if all(
        isinstance(part, Clock) or getattr(part, "source", "candidate") == "context"
        for part in (SCHEMA.parts(feature) if isinstance(feature, Interaction) else [feature])
    )
}
"""Features with one value for all candidates of a slate."""
WIDTH = len(OWNERS)


def slate(seed: int, count: int) -> Array:
    """Features of ``count`` items of the shop, for a person with a history."""
    numbers = np.random.default_rng(seed).permutation(200)[:count].tolist()
    person = profile(SCHEMA, History.of(shop.events(seed, 20), SCHEMA, KNOWN))
    return encode(parse(shop.candidates(numbers), SCHEMA, {"hour": 20}), SCHEMA, person, KNOWN)


def without(feature: str, features: Array, position: int) -> Array:
    """The slate with one feature at its default: the context's for all candidates, another for one."""
    changed, columns = features.copy(), np.equal(OWNERS, feature)
    rows = slice(None) if feature in OF_CONTEXT else slice(position, position + 1)
    changed[rows, columns] = BASELINE[columns]
    return changed


def weights(seed: int) -> Array:
    return np.random.default_rng([seed, 1]).uniform(-2, 2, WIDTH).astype(np.float32)


@given(st.integers(0, 1_000), st.integers(1, SCORER.largest), st.data())
def test_contributions_under_a_linear_model_are_its_weights_times_the_change(
    seed: int, count: int, data: st.DataObject
) -> None:
    """The change of the standardised value: the slate's mean and deviation move with the feature that is left out."""
    position = data.draw(st.integers(0, count - 1))
    features, weight = slate(seed, count), weights(seed)
    found = explain(position, features, BASELINE, SCHEMA, SCORER, shop.linear(weight), item="it")
    assert found.contributions.keys() == set(OWNERS)
    as_it_is = shop.standardised(features)[position].astype(np.float64)
    assert found.score == pytest.approx(as_it_is @ weight, abs=5e-3)
    for name, contribution in found.contributions.items():
        change = as_it_is - shop.standardised(without(name, features, position))[position]
        expected = weight.astype(np.float64) @ change
        # Float32 in the model: a column that is almost constant is standardised to within 1e-3.
        assert contribution == pytest.approx(expected, abs=5e-3), name
        assert np.sign(contribution) == np.sign(expected) or abs(expected) < 5e-3, name


@given(st.integers(0, 1_000), st.integers(1, SCORER.largest), st.data())
def test_one_call_of_the_model_gives_what_one_call_a_feature_would(seed: int, count: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, count - 1))
    features = slate(seed, count)
    found = explain(position, features, BASELINE, SCHEMA, SCORER, item="it")
    score = SCORER.scores(features)[position]
    assert found.score == pytest.approx(score, abs=2e-4)
    for name, contribution in found.contributions.items():
        alone = SCORER.scores(without(name, features, position))[position]
        assert contribution == pytest.approx(float(score) - float(alone), abs=4e-4), name


@given(st.integers(0, 1_000), st.integers(2, SCORER.largest), st.sets(st.sampled_from(sorted(set(OWNERS)))))
def test_a_feature_at_its_default_contributes_nothing(seed: int, count: int, missing: set[str]) -> None:
    features = slate(seed, count)
    for name in missing:
        features = without(name, features, 1)
    found = explain(1, features, BASELINE, SCHEMA, SCORER, item="it")
    assert {name: found.contributions[name] for name in missing} == dict.fromkeys(missing, 0.0)


@given(st.integers(0, 1_000))
def test_contributions_come_largest_in_size_first(seed: int) -> None:
    sizes = [
        abs(value) for value in explain(3, slate(seed, 30), BASELINE, SCHEMA, SCORER, item="it").contributions.values()
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_what_is_the_same_for_all_candidates_adds_nothing() -> None:
    """Were the hour replaced for one candidate alone, it would stand out by what nobody handed over."""
    features, same = slate(1, 40), np.isin(OWNERS, sorted(OF_CONTEXT))
    assert (features[:, same] == features[0, same]).all()
    assert (features[0, same] != BASELINE[same]).any()
    found = explain(0, features, BASELINE, SCHEMA, SCORER, shop.linear(np.ones(WIDTH, np.float32)), item="it")
    assert {name: found.contributions[name] for name in OF_CONTEXT} == pytest.approx(
        dict.fromkeys(OF_CONTEXT, 0), abs=1e-3
    )


def test_an_explanation_names_the_item_and_takes_the_parameters_given() -> None:
    features, weight = slate(2, 20), np.zeros(WIDTH, np.float32)
    weight[OWNERS == "rating"] = 3.0
    found = explain(4, features, BASELINE, SCHEMA, SCORER, shop.linear(weight), item="item-4")
    assert found.item == "item-4"
    assert next(iter(found.contributions)) == "rating"
    assert [name for name, value in found.contributions.items() if value] == ["rating"]


def test_the_baseline_is_a_candidate_without_values_on_a_device_without_events() -> None:
    nobody = profile(SCHEMA, History.of([], SCHEMA, KNOWN))
    # An item that has a vector: without events it makes no difference.
    row = encode(parse([{"id": "item-3"}], SCHEMA), SCHEMA, nobody, KNOWN)[0]
    np.testing.assert_array_equal(BASELINE, row)
    transforms: dict[str, Callable[[float], float]] = {"identity": float, "log1p": math.log1p, "sqrt": math.sqrt}
    numbers = [
        feature for feature in SCHEMA.features if isinstance(feature, Number) and feature.transform in transforms
    ]
    assert numbers
    for feature in numbers:
        expected = transforms[feature.transform](max(feature.default, 0.0))
        assert BASELINE[np.equal(OWNERS, feature.name)] == pytest.approx(expected, rel=1e-6)


# ------------------------------------------------------------------------------------------------------------ variants


@given(st.integers(0, 1_000), st.integers(0, SCORER.most_variants), st.integers(1, SCORER.largest))
def test_variants_score_as_slates_do(seed: int, variants: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(variants, count, WIDTH)).astype(np.float32)
    params = shop.linear(weights(seed)) if seed % 2 else None
    found = SCORER.variants(features, params)
    assert found.shape == (variants, count)
    for scores, one in zip(found, features, strict=True):
        np.testing.assert_allclose(scores, SCORER.scores(one, params), atol=2e-4)


@pytest.mark.parametrize(
    "shape",
    [
        (SCORER.most_variants + 1, 3, WIDTH),
        (2, SCORER.largest + 1, WIDTH),
        (2, 3, WIDTH + 1),
        (3, WIDTH),
        (1, 2, 3, WIDTH),
    ],
)
def test_variants_that_dont_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=rf"features: expected \[v <= {SCORER.most_variants}, n <= {SCORER.largest}"):
        SCORER.variants(np.zeros(shape, np.float32))


def test_a_score_of_a_variant_that_is_not_finite_is_a_model_error() -> None:
    overflowing = {name: np.full_like(value, 3e38) for name, value in SCORER.params.items()}
    with pytest.raises(ModelError, match="scores are not finite"):
        SCORER.variants(slate(1, 10)[None], overflowing)


def test_a_model_without_the_signature_ranks_and_refuses_to_explain() -> None:
    content = shop.bundle().files[RANK_MODEL]
    older = Scorer(shop.with_files({RANK_MODEL: content.replace(b"explain", b"exploit")}))
    features = slate(1, 10)
    np.testing.assert_array_equal(older.scores(features), SCORER.scores(features))
    with pytest.raises(ModelError, match=r"rank.tflite: no signature 'explain'.*export the bundle again"):
        explain(0, features, BASELINE, SCHEMA, older, item="it")
