"""Personal parameters: learned from clicks that fall with the place, kept where they serve better, and undone."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count as counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from pocketrank import Bundle, DeviceStore
from pocketrank.checkpoint import Training
from pocketrank.errors import InputError
from pocketrank.features.profile import Array
from pocketrank.learner import (
    HELD_OUT,
    LEARNING_RATE,
    MAX_STEPS,
    MIN_SLATES,
    PATIENCE,
    PULL,
    SAVE_EVERY,
    WATCHED,
    Example,
    FitResult,
    Learner,
    Params,
    _split,
    examples,
)
from pocketrank.store import Limits
from tests import shop
from tests.clickers import Person, show

WIDTH: Final = len(shop.SCHEMA.columns)
BUNDLE: Final = shop.bundle()
SHIPPED: Final = BUNDLE.params()
LEARNER: Final = Learner(BUNDLE)
UNWEIGHTED: Final = Learner(BUNDLE, eta=0.0)
PLACES: Final = 10
"""As many as have a propensity of at least ``MIN_PROPENSITY``, so that no floor biases what is tested."""
ROOT: Final = Path(__file__).parents[2]


def person(seed: int, wanted: Callable[[Array], Array]) -> Iterator[tuple[Array, npt.NDArray[np.bool_]]]:
    """Slates [PLACES, d] without end, the highest first column first, and what a person clicked in them.

    They look at each place with the chance of its propensity, and want what they see with a chance that is a function
    of the slate as the model sees it.
    """
    rng = np.random.default_rng(seed)
    while True:
        features = rng.normal(size=(PLACES, WIDTH)).astype(np.float32)
        features = features[np.argsort(-features[:, 0])]
        looked = rng.random(PLACES) < 1.0 / np.arange(1, PLACES + 1)
        clicked = looked & (rng.random(PLACES) < wanted(shop.standardised(features)))
        if clicked.any():
            yield features, clicked


def prefers(slope: float, column: int = 0) -> Callable[[Array], Array]:
    """Wants what is high in a column (``slope`` > 0) or low."""
    return lambda standardised: np.clip(0.5 + slope * standardised[:, column], 0.0, 1.0)


def lived_in(
    seed: int, count: int, wanted: Callable[[Array], Array], path: str | Path = ":memory:", **limits: Any
) -> DeviceStore:
    """A store with ``count`` slates that a person clicked in."""
    store = DeviceStore(path, limits=Limits(**limits))
    for _, (features, clicked) in zip(range(count), person(seed, wanted), strict=False):
        show(store, features, clicked)
    return store


def decided(seed: int = 3, count: int = 30, path: str | Path = ":memory:") -> DeviceStore:
    """The store of a person who wants what is low in the second column and little else; learning helps."""
    return lived_in(seed, count, prefers(-0.4, 1), path)


def fit(store: DeviceStore, learner: Learner = LEARNER, **options: Any) -> FitResult:
    return learner.fit(store, **{"budget_s": float("inf"), **options})


def assert_equal(found: Params | None, expected: Params | None) -> None:
    assert found is not None
    assert expected is not None
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# ------------------------------------------------------------------------------------------------ the bias of positions


def gradients(learner_eta: float, draws: int) -> tuple[Array, float]:
    """Of a linear head's first weight: what clicks say of its gradient, one a draw, and what the person's wants say."""
    rng = np.random.default_rng(5)
    zero = shop.linear(np.zeros(WIDTH, np.float32))
    slates = [features for features, _ in (next(person(seed, prefers(0))) for seed in range(8))]
    wants = [prefers(-0.08)(shop.standardised(features)).astype(np.float32) for features in slates]
    chances = (1.0 / np.arange(1, PLACES + 1)).astype(np.float32)

    def gradient(labels: list[Array], propensities: Array) -> float:
        """The step, times what it was divided by: a sum over the slates, linear in the labels."""
        made = [Example(features, y, 0.0, propensities) for features, y in zip(slates, labels, strict=True)]
        stepped = LEARNER.step(zero, made, learning_rate=1.0)
        return -float(stepped["head.weight"][0]) * sum(float((y / propensities).sum()) for y in labels)

    found = []
    for _ in range(draws):
        clicks = [
            ((rng.random(PLACES) < chances) & (rng.random(PLACES) < wanted)).astype(np.float32) for wanted in wants
        ]
        found.append(gradient(clicks, chances**learner_eta))
    return np.array(found, np.float32), gradient(wants, np.ones(PLACES, np.float32))


def test_the_gradient_of_weighted_clicks_is_expected_to_be_that_of_what_the_person_wants() -> None:
    """Within four standard errors; the same draws without weights are far off, and point the other way."""
    found, truth = gradients(1.0, 400)
    assert abs(found.mean() - truth) < 4 * found.std() / np.sqrt(len(found))
    unweighted, _ = gradients(0.0, 400)
    assert abs(unweighted.mean() - truth) > 4 * unweighted.std() / np.sqrt(len(unweighted))
    assert np.sign(unweighted.mean()) == -np.sign(truth)


def learned_weight(eta: float, seed: int) -> tuple[float, float]:
    """What a fit makes of the first column's weight, from 0, and its share of all; the person wants it low."""
    bundle = shop.with_params(shop.linear(np.zeros(WIDTH, np.float32)))
    store = lived_in(seed, 300, prefers(-0.15), max_impressions=300)
    fit(store, Learner(bundle, eta=eta))
    weights = (store.personal(bundle.digest) or bundle.params())["head.weight"][:WIDTH].astype(np.float64)
    return float(weights[0]), float(weights[0] / max(np.linalg.norm(weights), 1e-9))


def test_a_fit_recovers_what_a_person_wants_though_the_slates_showed_the_opposite_first() -> None:
    """The slates put what is high first, and the person wants what is low.

    Without weights, the clicks seem to say that they want what was at the top.
    """
    weights, shares = np.array([learned_weight(1.0, seed) for seed in range(8)]).T
    assert (weights <= 0.0).all()
    assert (weights < 0.0).sum() >= 5
    assert shares[weights < 0.0].mean() < -0.5
    biased, shares = np.array([learned_weight(0.0, seed) for seed in range(8)]).T
    assert (biased >= 0.0).all()
    assert (biased > 0.0).sum() >= 5
    assert shares[biased > 0.0].mean() > 0.5


# ------------------------------------------------------------------------------------------------ what is kept, and why


def test_what_is_kept_serves_the_newest_slates_better_by_the_losses_that_are_told() -> None:
    store = decided()
    held_out = examples(store, WIDTH, eta=1.0)[-30 // HELD_OUT :]
    result = fit(store)
    personal = store.personal(BUNDLE.digest)
    assert personal is not None
    assert result.kept
    assert result.stopped == "converged"
    assert result.slates == 30
    assert result.before == LEARNER.loss(SHIPPED, held_out)
    assert result.after == LEARNER.loss(personal, held_out)
    assert result.after < result.before
    assert 0 < result.steps <= MAX_STEPS
    assert all(np.isfinite(value).all() for value in personal.values())


def test_training_descends_the_weighted_loss_and_is_held_at_the_bundles_parameters() -> None:
    """As many steps as a checkpoint holds, by hand."""
    store, start = decided(), shop.linear(np.full(WIDTH, 0.5, np.float32))
    store.keep_personal(BUNDLE.digest, start)
    training = Training.of(stopped_in_the_middle(store), SHIPPED)
    _, _, known = _split(examples(store, WIDTH, eta=1.0))
    params: Params = start
    for _ in range(SAVE_EVERY):
        stepped = LEARNER.step(params, known, learning_rate=LEARNING_RATE)
        pull = LEARNING_RATE * PULL / len(known)
        params = {name: value + pull * (SHIPPED[name] - params[name]) for name, value in stepped.items()}
    assert training is not None
    assert training.steps == SAVE_EVERY
    for name, value in params.items():
        np.testing.assert_allclose(training.params[name], value, atol=1e-5, err_msg=name)


def test_training_ends_some_steps_after_its_best_which_is_what_is_kept() -> None:
    store = decided()
    fit(store)
    training = Training.of(store.progress(BUNDLE.digest) or b"", SHIPPED)
    assert training is not None
    assert training.ended
    assert training.steps == min(training.best_step + PATIENCE, MAX_STEPS)
    _, watched, _ = _split(examples(store, WIDTH, eta=1.0))
    assert training.best_loss == LEARNER.loss(training.best, watched)
    assert training.best_loss < min(LEARNER.loss(SHIPPED, watched), LEARNER.loss(training.params, watched))
    assert_equal(store.personal(BUNDLE.digest), training.best)


def test_a_person_who_changed_their_mind_is_not_served_the_old_one() -> None:
    """All but the newest slates want the opposite of the newest: learning is refused, and says so."""
    store = lived_in(1, 24, prefers(-0.5, 1))
    for _, (features, clicked) in zip(range(6), person(2, prefers(0.5, 1)), strict=False):
        show(store, features, clicked)
    result = fit(store)
    assert result.stopped == "no gain"
    assert not result.kept
    assert result.before is not None
    assert result.after is not None
    assert result.after >= result.before
    assert store.personal(BUNDLE.digest) is None


def test_a_device_that_learned_ranks_better_what_its_person_wants() -> None:
    """On slates to come, for people of a strong taste of their own; nobody is worse off by more than a little."""
    found = [Person(seed, 3.0).learns(LEARNER, 60) for seed in range(6)]
    gains = np.array([each.after - each.before for each in found])
    assert gains.mean() > 0.1
    assert gains.min() > -0.05


@pytest.mark.parametrize("count", range(HELD_OUT, 101))
def test_each_slate_has_one_use_and_the_newest_decide(count: int) -> None:
    slates = [Example(np.zeros((1, WIDTH), np.float32), np.ones(1, np.float32), float(i)) for i in range(count)]
    held_out, watched, known = _split(slates)
    assert sorted(slate.at_s for part in (held_out, watched, known) for slate in part) == list(range(count))
    assert held_out == slates[-(count // HELD_OUT) :]
    assert len(watched) == (count - len(held_out)) // WATCHED >= 1
    assert len(known) > len(watched)


@pytest.mark.parametrize("count", [0, 1, MIN_SLATES - 1])
def test_too_few_slates_are_no_data(count: int) -> None:
    store = decided(count=count)
    show(store, np.ones((PLACES, WIDTH), np.float32), np.zeros(PLACES, np.bool_))
    result = fit(store)
    assert dataclasses.replace(result, seconds=0.0) == FitResult(slates=count, stopped="no data")
    assert store.personal(BUNDLE.digest) is None


def test_fewer_slates_do_where_the_app_says_so_but_some_must_be_held_out() -> None:
    result = fit(decided(count=HELD_OUT), min_slates=HELD_OUT)
    assert result.stopped in {"converged", "no gain"}
    assert result.slates == HELD_OUT
    with pytest.raises(InputError, match="min_slates: expected 5 or more"):
        fit(decided(count=HELD_OUT), min_slates=HELD_OUT - 1)


def test_a_step_too_far_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketrank.learner.LEARNING_RATE", 3e38)
    store = decided()
    result = fit(store)
    assert (result.stopped, result.kept, result.after) == ("diverged", False, result.before)
    assert store.personal(BUNDLE.digest) is None


def test_an_attention_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="eta: expected"):
        Learner(BUNDLE, eta=-1.0)


# --------------------------------------------------------------------------------------------------------------- budget


class Timed(Learner):
    """A learner whose clock goes on by a second with every call of the model."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.now_s = 100.0

    def _call(self, *args: Any, **inputs: Any) -> Any:
        self.now_s += 1.0
        return super()._call(*args, **inputs)


STEP_S: Final = 4.0
"""A ``Timed`` step on 30 slates: 18 to learn from are three calls, 6 that watch are one."""


def test_a_budget_of_nothing_does_nothing() -> None:
    store = decided()
    result = fit(store, budget_s=0.0, now=lambda: 7.0)
    assert result == FitResult(stopped="budget")
    assert (store.personal(BUNDLE.digest), store.progress(BUNDLE.digest)) == (None, None)


@pytest.mark.parametrize("budget_s", [-1.0, float("nan")])
def test_a_budget_that_is_no_time_is_refused(budget_s: float) -> None:
    with pytest.raises(InputError, match="budget_s: expected seconds"):
        fit(decided(), budget_s=budget_s)


@pytest.mark.parametrize("budget_s", [5.0, 7.0, 8.0, 9.0, 20.0, 31.0, 50.0])
def test_a_fit_is_at_most_a_step_over_its_budget_and_uses_it(budget_s: float) -> None:
    learner, store = Timed(BUNDLE), decided()
    result = fit(store, learner, budget_s=budget_s, now=lambda: learner.now_s)
    assert result.stopped == "budget"
    assert budget_s <= result.seconds < budget_s + STEP_S
    # One call compares before, one after, and one says where the slates that watch stand at first.
    assert result.steps == (result.seconds - 3) / STEP_S


def test_calls_with_small_budgets_come_to_the_end_of_one_training() -> None:
    whole = fit(decided())
    learner, store = Timed(BUNDLE), decided()
    results = [fit(store, learner, budget_s=20.0, now=lambda: learner.now_s)]
    while results[-1].stopped == "budget":
        results.append(fit(store, learner, budget_s=20.0, now=lambda: learner.now_s))
    steps = [result.steps for result in results]
    assert steps[-1] == whole.steps
    assert steps == sorted(set(steps))
    assert any(result.kept for result in results[:-1])
    held_out = examples(store, WIDTH, eta=1.0)[-30 // HELD_OUT :]
    personal = store.personal(BUNDLE.digest)
    assert personal is not None
    assert whole.after is not None
    assert LEARNER.loss(personal, held_out) <= whole.after


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    ticks = counter()
    fit(decided(), budget_s=1e4, now=lambda: float(next(ticks)), progress=told.append)
    assert told == sorted(told)
    assert told[0] > 0.0
    assert told[-1] == 1.0


# ------------------------------------------------------------------------------------------------------------- resuming

_CHILD: Final = """
import sys
from pocketrank import DeviceStore
from tests.device.test_fit import LEARNER

steps = 0

def tell(share):
    global steps
    steps += 1
    print(steps, flush=True)
    if steps == int(sys.argv[2]):
        sys.stdin.read()

LEARNER.fit(DeviceStore(sys.argv[1]), budget_s=1e9, progress=tell)
"""


@pytest.mark.parametrize("killed_after", [1, SAVE_EVERY, SAVE_EVERY + 3])
def test_a_killed_fit_goes_on_where_it_was_and_ends_with_the_same_parameters(tmp_path: Path, killed_after: int) -> None:
    whole_store = decided(path=tmp_path / "whole.sqlite")
    whole = fit(whole_store)
    decided(path=tmp_path / "store.sqlite").close()
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path / "store.sqlite"), str(killed_after)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        while int(child.stdout.readline()) < killed_after:
            pass
        child.kill()
        child.wait()

    store = DeviceStore(tmp_path / "store.sqlite")
    assert store.personal(BUNDLE.digest) is None
    told: list[float] = []
    result = fit(store, progress=told.append)
    kept_steps = killed_after // SAVE_EVERY * SAVE_EVERY
    assert len(told) - 1 == whole.steps - kept_steps  # the last word is that all is done
    assert dataclasses.replace(result, seconds=0.0) == dataclasses.replace(whole, seconds=0.0)
    assert whole.kept
    assert_equal(store.personal(BUNDLE.digest), whole_store.personal(BUNDLE.digest))


class StopError(Exception):
    pass


def stopped_in_the_middle(store: DeviceStore) -> bytes:
    """Train for a while, as a process does that is killed; returns what it left."""

    def stop(_: float) -> None:
        told.append(1)
        if len(told) > SAVE_EVERY:
            raise StopError

    told: list[int] = []
    with pytest.raises(StopError):
        fit(store, progress=stop)
    left = store.progress(BUNDLE.digest)
    assert left is not None
    return left


def steps_taken(store: DeviceStore, learner: Learner = LEARNER) -> int:
    """Steps of a fit that went on or began anew, those before it left out."""
    told: list[float] = []
    fit(store, learner, progress=told.append)
    return len(told) - 1


def test_a_fit_on_other_slates_or_outcomes_begins_anew() -> None:
    for change in ("slate", "outcome"):
        changed, fresh = decided(), decided()
        stopped_in_the_middle(changed)
        for store in (changed, fresh):
            if change == "slate":
                show(store, *next(person(9, prefers(-0.4, 1))))
            else:
                store.record_outcome(1, "item-9", 1.0)
        assert steps_taken(changed) == steps_taken(fresh)


def test_a_fit_from_other_parameters_begins_anew() -> None:
    changed, fresh = decided(), decided()
    stopped_in_the_middle(changed)
    for store in (changed, fresh):
        store.keep_personal(BUNDLE.digest, shop.linear(np.ones(WIDTH, np.float32)))
    assert steps_taken(changed) == steps_taken(fresh)


def test_a_fit_with_another_attention_begins_anew() -> None:
    changed = decided()
    stopped_in_the_middle(changed)
    assert steps_taken(changed, UNWEIGHTED) == steps_taken(decided(), UNWEIGHTED)


def test_a_fit_on_another_bundle_begins_anew_and_keeps_its_own() -> None:
    other = Learner(shop.with_params(shop.linear(np.ones(WIDTH, np.float32))))
    changed = decided()
    stopped_in_the_middle(changed)
    assert steps_taken(changed, other) == steps_taken(decided(), other)
    assert store_is_untouched(changed)


def store_is_untouched(store: DeviceStore) -> bool:
    return store.personal(BUNDLE.digest) is None


@pytest.mark.parametrize("damage", [b"", b"no arrays", lambda left: left[:-100], lambda left: left[:200] + left[300:]])
def test_progress_that_cant_be_read_begins_anew(damage: Any) -> None:
    store = decided()
    left = stopped_in_the_middle(store)
    store.keep_progress(BUNDLE.digest, damage if isinstance(damage, bytes) else damage(left))
    assert steps_taken(store) == steps_taken(decided())


def test_progress_takes_two_copies_of_the_parameters_and_little_more() -> None:
    left = stopped_in_the_middle(decided(count=30))
    assert len(left) <= 2 * sum(value.nbytes for value in SHIPPED.values()) + 4096
    assert len(stopped_in_the_middle(decided(count=100))) == len(left)


# ----------------------------------------------------------------------------------------------------- undo, and others


def test_undo_goes_back_to_what_ranked_before_and_waits_for_something_new() -> None:
    store = decided()
    assert fit(store).kept
    assert fit(store).stopped == "nothing new"
    assert LEARNER.undo(store) is None
    assert store.personal(BUNDLE.digest) is None
    assert fit(store).stopped == "nothing new"
    assert store.personal(BUNDLE.digest) is None
    show(store, *next(person(8, prefers(-0.4, 1))))
    assert fit(store).stopped in {"converged", "no gain"}


def test_undo_goes_back_one_fit_at_a_time() -> None:
    store = decided()
    assert fit(store).kept
    first = store.personal(BUNDLE.digest)
    kept = False
    clicks = person(8, prefers(-0.4, 1))
    for _ in range(10):
        for _, (features, clicked) in zip(range(10), clicks, strict=False):
            show(store, features, clicked)
        if kept := fit(store).kept:
            break
    assert kept
    assert_equal(LEARNER.undo(store), first)
    assert_equal(store.personal(BUNDLE.digest), first)


def test_undo_of_nothing_changes_nothing() -> None:
    store = decided()
    assert LEARNER.undo(store) is None
    assert fit(store).kept


@pytest.mark.parametrize("meanwhile", ["wipe", "personalise", "undo"])
def test_a_fit_gives_way_to_what_was_done_meanwhile(meanwhile: str) -> None:
    store, theirs = decided(), shop.linear(np.ones(WIDTH, np.float32))
    if meanwhile == "undo":
        store.keep_personal(BUNDLE.digest, theirs)

    def other(_: float) -> None:
        told.append(1)
        if len(told) == 3:
            if meanwhile == "wipe":
                store.wipe()
            elif meanwhile == "personalise":
                store.keep_personal(BUNDLE.digest, theirs)
            else:
                LEARNER.undo(store)

    told: list[int] = []
    result = fit(store, progress=other)
    assert (result.stopped, result.kept) == ("superseded", False)
    if meanwhile == "personalise":
        assert_equal(store.personal(BUNDLE.digest), theirs)
    else:
        assert store.personal(BUNDLE.digest) is None
    if meanwhile == "wipe":
        assert store.progress(BUNDLE.digest) is None


def test_slates_that_come_during_a_fit_dont_disturb_it() -> None:
    store = decided()
    clicks = person(8, prefers(0.4, 1))
    result = fit(store, progress=lambda _: show(store, *next(clicks)))
    assert dataclasses.replace(result, seconds=0.0) == dataclasses.replace(fit(decided()), seconds=0.0)
