"""Learning on the device: a step is gradient descent on the listwise loss, whatever the runtime."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrank import Bundle, DeviceStore, Reranker
from pocketrank.bundle import TRAIN_MODEL
from pocketrank.errors import BundleError, InputError, ModelError
from pocketrank.features.profile import Array
from pocketrank.learner import BATCH, Example, Learner, Params, examples
from pocketrank.propensity import examination
from tests import shop

WIDTH = len(shop.SCHEMA.columns)
LEARNER = Learner(shop.bundle())
SHIPPED = shop.bundle().params()
LARGEST = shop.bundle().manifest.slate_sizes[-1]


def slates(seed: int, count: int, size: int = 12) -> list[Example]:
    """Slates of unlike columns, each with one to three good outcomes, some better than others."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        features = rng.normal(size=(size, WIDTH)) * rng.uniform(0.1, 50, WIDTH) + rng.normal(size=WIDTH) * 20
        labels = np.zeros(size, np.float32)
        labels[rng.permutation(size)[: rng.integers(1, 4)]] = rng.integers(1, 5) / 4
        made.append(Example(features.astype(np.float32), labels))
    return made


def cross_entropy(weights: Array, slate: Example) -> tuple[float, Array]:
    """Loss and gradient ``[d]`` of a linear head on a slate, by hand.

    With ``p = softmax(Z w)`` and ``y`` the labels scaled to sum 1: ``loss = -y . log p``, ``gradient = Z' (p - y)``.
    """
    standardised = shop.standardised(slate.features).astype(np.float64)
    scores = standardised @ weights
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    wanted = slate.labels / slate.labels.sum()
    gradient: Array = standardised.T @ (chances - wanted)
    return float(-wanted @ np.log(chances)), gradient


def weighted(batch: list[Example], eta: float) -> list[Example]:
    """The same slates with propensities that fall with the place."""
    return [Example(slate.features, slate.labels, 0.0, examination(len(slate.labels), eta)) for slate in batch]


def flat(params: Params) -> Array:
    return np.concatenate([np.ravel(value) for value in params.values()])


def assert_same(found: Params, expected: Params, atol: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=atol, err_msg=name)


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 40))
@settings(max_examples=20)
def test_the_loss_and_a_step_of_a_linear_head_are_those_computed_by_hand(seed: int, count: int, size: int) -> None:
    batch = slates(seed, count, size)
    weights = np.random.default_rng(seed).normal(0.0, 0.25, WIDTH).astype(np.float32)
    params = shop.linear(weights)
    by_hand = [cross_entropy(weights, slate) for slate in batch]
    assert LEARNER.loss(params, batch) == pytest.approx(np.mean([loss for loss, _ in by_hand]), abs=2e-3)
    stepped = LEARNER.step(params, batch, learning_rate=0.5)
    expected = weights - 0.5 * np.mean([gradient for _, gradient in by_hand], axis=0)
    np.testing.assert_allclose(stepped["head.weight"][:WIDTH], expected, atol=3e-3)


@pytest.mark.parametrize("count", [1, 5, 8, 9, 20])
def test_clicks_weigh_by_the_inverse_of_their_propensity(count: int) -> None:
    """``sum(c / p * -log softmax) / sum(c / p)`` over all slates, and its gradient, whatever the batches."""
    batch = slates(13, count, 10)
    weights = np.random.default_rng(13).normal(0.0, 0.25, WIDTH).astype(np.float32)
    loss, gradient, total = 0.0, np.zeros(WIDTH), 0.0
    for slate in batch:
        worth = slate.labels * np.arange(1.0, 11.0)  # 1 / p, with p = 1 / (1 + position)
        of_slate, of_weights = cross_entropy(weights, Example(slate.features, worth))
        loss, gradient, total = loss + worth.sum() * of_slate, gradient + worth.sum() * of_weights, total + worth.sum()
    params = shop.linear(weights)
    assert LEARNER.loss(params, weighted(batch, 1.0)) == pytest.approx(loss / total, abs=2e-3)
    stepped = LEARNER.step(params, weighted(batch, 1.0), learning_rate=0.5)
    np.testing.assert_allclose(stepped["head.weight"][:WIDTH], weights - 0.5 * gradient / total, atol=3e-3)


def test_a_slate_beyond_what_the_model_takes_weighs_by_what_is_left_of_it() -> None:
    batch = weighted(slates(14, 3, LARGEST), 0.5)
    one = slates(15, 11)
    long = Example(np.vstack([slate.features for slate in one]), np.concatenate([slate.labels for slate in one]), 0.0)
    (long,) = weighted([long], 0.5)
    assert len(long.labels) > LARGEST
    assert long.labels[LARGEST:].any()
    assert long.propensities is not None
    cut = Example(long.features[:LARGEST], long.labels[:LARGEST], 0.0, long.propensities[:LARGEST])
    assert LEARNER.loss(SHIPPED, [*batch, long]) == LEARNER.loss(SHIPPED, [*batch, cut])


def test_a_step_from_the_shipped_parameters_goes_down_the_numerical_gradient_of_every_one() -> None:
    """Central differences of the loss, one trainable number at a time; small, for the backbone has kinks."""
    batch, rate, nudge = slates(1, BATCH), 0.1, 0.003
    stepped = LEARNER.step(SHIPPED, batch, learning_rate=rate)
    assert stepped.keys() == SHIPPED.keys()
    for name, value in SHIPPED.items():
        found = (value - stepped[name]) / rate
        for place in np.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                moved = value.copy()
                moved[place] += sign * nudge
                sides.append(LEARNER.loss({**SHIPPED, name: moved}, batch))
            assert found[place] == pytest.approx((sides[0] - sides[1]) / (2 * nudge), abs=3e-3), (name, place)


def test_the_loss_is_that_of_the_scores_which_the_device_ranks_by() -> None:
    scorer = Reranker.load(shop.bundle())._engine.scorer
    batch = slates(2, 6)
    losses = []
    for slate in batch:
        scores = scorer.scores(slate.features, SHIPPED).astype(np.float64)
        wanted = slate.labels / slate.labels.sum()
        losses.append(-wanted @ (scores - np.log(np.exp(scores).sum())))
    # The backbone that ranks has weights of eight bits.
    assert LEARNER.loss(SHIPPED, batch) == pytest.approx(np.mean(losses), abs=0.02)


@pytest.mark.parametrize("count", [1, 8, 9, 16, 20])
def test_the_loss_falls(count: int) -> None:
    batch = slates(3, count)
    before = LEARNER.loss(SHIPPED, batch)
    after = LEARNER.loss(LEARNER.step(SHIPPED, batch, learning_rate=0.1, steps=5), batch)
    assert after < before - 0.01


@pytest.mark.parametrize("count", [9, 12, 16, 17, 20])
def test_a_step_on_more_than_a_batch_is_the_mean_over_all_slates(count: int) -> None:
    batch = slates(4, count)
    one_by_one = [flat(LEARNER.step(SHIPPED, [slate], learning_rate=0.2)) for slate in batch]
    found = flat(LEARNER.step(SHIPPED, batch, learning_rate=0.2))
    np.testing.assert_allclose(found, np.mean(one_by_one, axis=0), atol=1e-5)
    losses = [LEARNER.loss(SHIPPED, [slate]) for slate in batch]
    assert LEARNER.loss(SHIPPED, batch) == pytest.approx(np.mean(losses), abs=1e-5)


@given(st.permutations(range(11)))
@settings(max_examples=10)
def test_the_order_of_the_slates_doesnt_matter(order: list[int]) -> None:
    batch = slates(5, 11)
    mixed = [batch[i] for i in order]
    step = LEARNER.step(SHIPPED, batch, learning_rate=0.2)
    assert_same(LEARNER.step(SHIPPED, mixed, learning_rate=0.2), step, atol=1e-5)


def test_several_steps_are_steps_one_after_another() -> None:
    batch = slates(6, 10)
    params: Params = SHIPPED
    for _ in range(3):
        params = LEARNER.step(params, batch, learning_rate=0.1)
    assert_same(LEARNER.step(SHIPPED, batch, learning_rate=0.1, steps=3), params, atol=0)


def test_slates_without_a_good_outcome_teach_nothing_and_dont_thin_the_others() -> None:
    batch = slates(7, 10)
    empty = [Example(slate.features, np.zeros_like(slate.labels)) for slate in slates(8, 7)]
    beyond = Example(np.vstack([slate.features for slate in slates(9, 11)]), np.zeros(132, np.float32))
    beyond.labels[LARGEST + 1] = 1.0
    mixed = [*empty[:5], *batch[:4], beyond, *empty[5:], *batch[4:]]
    step = LEARNER.step(SHIPPED, batch, learning_rate=0.2)
    assert_same(LEARNER.step(SHIPPED, mixed, learning_rate=0.2), step, atol=1e-6)
    assert LEARNER.loss(SHIPPED, mixed) == pytest.approx(LEARNER.loss(SHIPPED, batch), abs=1e-6)


@pytest.mark.parametrize("nothing", [[], [Example(np.zeros((3, WIDTH), np.float32), np.zeros(3, np.float32))]])
def test_nothing_to_learn_from_leaves_the_parameters_alone(nothing: list[Example]) -> None:
    assert_same(LEARNER.step(SHIPPED, nothing, learning_rate=0.2), SHIPPED, atol=0)
    assert LEARNER.loss(SHIPPED, nothing) == 0.0


def test_a_step_leaves_what_it_was_given_alone() -> None:
    kept = {name: value.copy() for name, value in SHIPPED.items()}
    LEARNER.step(SHIPPED, slates(10, 3), learning_rate=1.0)
    assert_same(SHIPPED, kept, atol=0)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 3e38])
def test_parameters_that_are_not_finite_never_come_out(rate: float) -> None:
    with pytest.raises(ModelError, match="not finite, or past 1e\\+06; lower learning_rate"):
        LEARNER.step(SHIPPED, slates(11, 3), learning_rate=rate, steps=2)


def test_propensities_that_dont_fit_are_refused() -> None:
    (slate,) = slates(16, 1, 5)
    for chances in (np.ones(4, np.float32), np.full(5, 2.0, np.float32)):
        with pytest.raises(InputError, match="propensities: expected"):
            LEARNER.step(SHIPPED, [Example(slate.features, slate.labels, 0.0, chances)], learning_rate=0.1)


def test_slates_of_another_schema_are_refused() -> None:
    other = Example(np.zeros((5, WIDTH - 1), np.float32), np.ones(5, np.float32))
    with pytest.raises(InputError, match=rf"features: expected \[5, {WIDTH}\], got \(5, {WIDTH - 1}\)"):
        LEARNER.step(SHIPPED, [other], learning_rate=0.1)
    with pytest.raises(InputError, match="features: expected"):
        LEARNER.loss(SHIPPED, [other])


def test_parameters_of_another_shape_are_refused_and_not_broadcast() -> None:
    with pytest.raises(ModelError, match=r"train.* failed: expected"):
        LEARNER.step({name: value[:1] for name, value in SHIPPED.items()}, slates(12, 2), learning_rate=0.1)


def test_a_bundle_without_a_train_model_ranks_and_says_that_it_cant_learn() -> None:
    whole = shop.bundle()
    files = {name: content for name, content in whole.files.items() if name != TRAIN_MODEL}
    kept = {name: whole.manifest.files[name] for name in files}
    made = Bundle(type(whole.manifest)(**{**vars(whole.manifest), "files": kept}), files)
    assert Reranker.load(made).rank(shop.candidates(range(5))).fallback is None
    with pytest.raises(BundleError, match=r"train.tflite is missing"):
        Learner(made)


def test_a_device_learns_from_its_own_feedback(tmp_path: Path) -> None:
    """A person who only ever wants what is cheap gets it further up."""
    found = Reranker.load(shop.bundle(), store=tmp_path / "store.sqlite")
    cheapest = []
    for visit in range(10):
        rows = shop.candidates(np.random.default_rng(visit).permutation(60)[:20].tolist())
        wanted = min(rows, key=lambda row: row.get("price", shop.SCHEMA.features[0].default))["id"]  # type: ignore[union-attr]
        cheapest.append((rows, wanted))
        found.rank(rows).clicked(wanted)
    learned = examples(found.store, WIDTH)
    assert len(learned) == 10
    before = np.mean([found.rank(rows).ids.index(wanted) for rows, wanted in cheapest])
    found.personalise(LEARNER.step(SHIPPED, learned, learning_rate=0.5, steps=30))
    after = np.mean([found.rank(rows).ids.index(wanted) for rows, wanted in cheapest])
    assert after < before / 2


def test_examples_are_the_stores_slates_with_a_good_outcome_and_of_the_right_width() -> None:
    store = DeviceStore()
    for width, label in ((WIDTH, 1.0), (WIDTH, None), (WIDTH, 0.0), (WIDTH + 1, 1.0), (WIDTH, 0.5)):
        shown = store.record_impression(["a", "b"], np.ones((2, width), np.float32), at_s=1.0, bundle="x")
        if label is not None:
            store.record_outcome(shown, "b", label)
    assert [found.labels.tolist() for found in examples(store, WIDTH)] == [[0.0, 1.0], [0.0, 0.5]]


def test_examples_weigh_by_propensity_where_asked_and_by_the_impressions_own_where_it_has_them() -> None:
    store, features = DeviceStore(), np.ones((3, WIDTH), np.float32)
    for own in (None, np.array([0.5, 0.25, 0.5], np.float32)):
        shown = store.record_impression(["a", "b", "c"], features, at_s=1.0, bundle="x", propensities=own)
        store.record_outcome(shown, "b", 1.0)
    assert [found.propensities for found in examples(store, WIDTH)] == [None, None]
    found = [found.propensities for found in examples(store, WIDTH, eta=1.0)]
    np.testing.assert_allclose(np.array(found), [[1, 1 / 2, 1 / 3], [0.5, 0.25, 0.5]], rtol=1e-6)
