"""Counterfactual estimates on a bandit whose truth is known, and on real logs with true propensities."""

import csv
import importlib.util
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.metrics.counterfactual import Estimate, doubly_robust, ips, snips

Floats = npt.NDArray[np.float64]
Estimator = Callable[..., Estimate]

ROWS = st.lists(st.tuples(st.integers(0, 3), st.floats(0.05, 1.0), st.floats(0.01, 1.0)), min_size=2, max_size=20)


# -- the formulas ------------------------------------------------------------------------------------------------------


@given(ROWS, st.sampled_from([math.inf, 2.0]))
def test_estimates_are_weighted_means_of_the_rewards(rows: list[tuple[int, float, float]], max_weight: float) -> None:
    rewards, logging, target = (list(column) for column in zip(*rows, strict=True))
    weights = [min(would / was, max_weight) for _, was, would in rows]
    earned = sum(weight * reward for weight, reward in zip(weights, rewards, strict=True))
    plain = ips(rewards, logging, target, max_weight=max_weight)
    normalised = snips(rewards, logging, target, max_weight=max_weight)
    assert plain.value == pytest.approx(earned / len(rows))
    assert normalised.value == pytest.approx(earned / sum(weights))
    assert min(rewards) - 1e-9 <= normalised.value <= max(rewards) + 1e-9
    for found in (plain, normalised):
        assert found.n == len(rows)
        assert found.mean_weight == pytest.approx(sum(weights) / len(rows))
        assert found.effective_n == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights))
        assert found.clipped == sum(would / was > max_weight for _, was, would in rows)
        assert found.high - found.value == pytest.approx(found.value - found.low)


@given(ROWS)
def test_the_interval_of_a_plain_mean_is_the_textbooks(rows: list[tuple[int, float, float]]) -> None:
    rewards = [reward for reward, _, _ in rows]
    half = 1.959964 * np.std(rewards, ddof=1) / math.sqrt(len(rows))
    for estimator in (ips, snips):
        found = estimator(rewards, np.full(len(rows), 0.25), np.full(len(rows), 0.25))
        assert found.high - found.value == pytest.approx(half, rel=1e-6, abs=1e-12)
        assert found.effective_n == pytest.approx(len(rows))


@given(ROWS)
def test_a_model_that_says_nothing_leaves_the_inverse_propensity_score(rows: list[tuple[int, float, float]]) -> None:
    rewards, logging, target = (list(column) for column in zip(*rows, strict=True))
    nothing = np.zeros(len(rows))
    assert doubly_robust(rewards, logging, target, predicted=nothing, expected=nothing) == ips(rewards, logging, target)


@given(ROWS)
def test_a_model_that_foresees_every_reward_is_believed(rows: list[tuple[int, float, float]]) -> None:
    rewards, logging, target = (list(column) for column in zip(*rows, strict=True))
    expected = np.linspace(0, 1, len(rows))
    found = doubly_robust(rewards, logging, target, predicted=rewards, expected=expected)
    assert found.value == pytest.approx(expected.mean())


@pytest.mark.parametrize("estimator", [ips, snips])
def test_rows_of_one_unit_count_as_one_draw(estimator: Estimator) -> None:
    """Each row four times: as units, the interval of the rows once; as rows of their own, half as wide."""
    rng = np.random.default_rng(0)
    rewards, logging, target = rng.random(200), rng.uniform(0.1, 1, 200), rng.uniform(0.1, 1, 200)
    once = estimator(rewards, logging, target)
    again = [np.repeat(column, 4) for column in (rewards, logging, target)]
    grouped = estimator(*again, units=np.repeat(np.arange(200), 4).tolist())
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
    alone = estimator(*again)
    assert alone.high - alone.low == pytest.approx((once.high - once.low) / 2, rel=0.01)
    named = estimator(rewards, logging, target, units=[f"list {row}" for row in range(200)])
    assert (named.low, named.high) == pytest.approx((once.low, once.high))


# -- a bandit whose truth is known -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bandit:
    """Contexts x, actions a: probability of a reward ``[x, a]``, and of each action under two policies ``[x, a]``."""

    reward: Floats
    logging: Floats
    target: Floats

    @property
    def truth(self) -> float:
        return float((self.target * self.reward).sum(axis=1).mean())


def bandit() -> Bandit:
    rng = np.random.default_rng(7)
    reward = rng.uniform(0.05, 0.6, (5, 4))
    policies = (np.exp(strength * reward + 0.5 * rng.normal(size=(5, 4))) for strength in (-2.0, 3.0))
    logging, target = (policy / policy.sum(axis=1, keepdims=True) for policy in policies)
    return Bandit(reward, logging, target)


BANDIT = bandit()
GOOD_MODEL = BANDIT.reward + np.random.default_rng(8).normal(0, 0.03, BANDIT.reward.shape)
BAD_MODEL = np.random.default_rng(9).uniform(0, 1, BANDIT.reward.shape)


def draws(model: Floats, estimator: Callable[..., Any], *, flatten: bool = False, trials: int = 600) -> list[Any]:
    """What an estimator makes of each of many logs of 400 rows; ``flatten``: it is told wrong propensities."""
    found = []
    for trial in range(trials):
        rng = np.random.default_rng([trial, 3])
        context = rng.integers(0, 5, 400)
        action = (BANDIT.logging[context].cumsum(axis=1) < rng.random((400, 1))).sum(axis=1)
        rewards = (rng.random(400) < BANDIT.reward[context, action]).astype(float)
        logging = np.full(400, 0.25) if flatten else BANDIT.logging[context, action]
        expected = (BANDIT.target * model).sum(axis=1)[context]
        target = BANDIT.target[context, action]
        found.append(estimator(rewards, logging, target, predicted=model[context, action], expected=expected))
    return found


def without_model(estimator: Estimator) -> Callable[..., Estimate]:
    return lambda rewards, logging, target, **_: estimator(rewards, logging, target)


def the_model_alone(*_: Floats, expected: Floats, **__: Floats) -> Estimate:
    """A wrong estimator where the model is: what it expects."""
    return ips(expected, np.ones(len(expected)), np.ones(len(expected)))


def the_rewards_alone(rewards: Floats, *_: Floats, **__: Floats) -> Estimate:
    """A wrong estimator: what the logging policy earned."""
    return ips(rewards, np.ones(len(rewards)), np.ones(len(rewards)))


def error(found: list[Estimate]) -> float:
    """By how many standard errors the mean estimate misses the truth."""
    values = np.array([estimate.value for estimate in found])
    return float(abs(values.mean() - BANDIT.truth) / (values.std(ddof=1) / math.sqrt(len(values))))


def spread(found: list[Estimate]) -> float:
    return float(np.std([estimate.value for estimate in found], ddof=1))


def test_the_inverse_propensity_score_is_unbiased() -> None:
    assert error(draws(BAD_MODEL, without_model(ips))) < 3.5


@pytest.mark.parametrize(
    ("model", "flatten"), [(GOOD_MODEL, False), (BAD_MODEL, False), (BANDIT.reward, True)], ids=["both", "bad", "flat"]
)
def test_doubly_robust_is_unbiased_where_propensities_or_model_are_right(model: Floats, flatten: bool) -> None:  # noqa: FBT001  (a table's column)
    assert error(draws(model, doubly_robust, flatten=flatten)) < 3.5


@pytest.mark.parametrize(
    ("estimator", "flatten"),
    [(the_rewards_alone, False), (the_model_alone, False), (without_model(ips), True), (doubly_robust, True)],
    ids=["rewards", "model", "flat propensities", "flat propensities, bad model"],
)
def test_a_biased_estimator_would_be_noticed(estimator: Estimator, flatten: bool) -> None:  # noqa: FBT001  (a table's column)
    assert error(draws(BAD_MODEL, estimator, flatten=flatten)) > 10.0


def test_self_normalising_is_nearly_unbiased_and_varies_less() -> None:
    plain, normalised = (draws(BAD_MODEL, without_model(estimator)) for estimator in (ips, snips))
    bias = np.mean([estimate.value for estimate in normalised]) - BANDIT.truth
    assert abs(bias) < 0.01 * BANDIT.truth
    assert spread(normalised) < spread(plain)


def test_a_good_model_lowers_the_variance() -> None:
    plain, robust = draws(GOOD_MODEL, without_model(ips)), draws(GOOD_MODEL, doubly_robust)
    assert spread(robust) < 0.9 * spread(plain)


def coverage(found: list[Estimate], scale: float = 1.0) -> float:
    """How often the interval, its width times ``scale``, holds the truth."""
    halves = [scale * (estimate.high - estimate.value) for estimate in found]
    return float(np.mean([abs(each.value - BANDIT.truth) <= half for each, half in zip(found, halves, strict=True)]))


@pytest.mark.parametrize(
    "estimator", [without_model(ips), without_model(snips), doubly_robust], ids=["ips", "snips", "dr"]
)
def test_the_interval_holds_the_truth_as_often_as_it_says(estimator: Estimator) -> None:
    found = draws(GOOD_MODEL, estimator)
    assert 0.92 <= coverage(found) <= 0.98
    # The test would notice an interval of a wrong width.
    assert coverage(found, 0.7) < 0.90
    assert coverage(found, 1.5) > 0.98


def test_clipping_trades_variance_for_bias_and_says_how_much() -> None:
    whole, cut = (draws(BAD_MODEL, without_model(partial(ips, max_weight=bound))) for bound in (math.inf, 1.5))
    assert spread(cut) < spread(whole)
    assert np.mean([each.value for each in cut]) < BANDIT.truth
    for before, after in zip(whole, cut, strict=True):
        assert after.effective_n > before.effective_n
        assert before.clipped == 0
        assert after.clipped > 0
        assert after.mean_weight < before.mean_weight


# -- real logs ---------------------------------------------------------------------------------------------------------
#
# The Open Bandit sample (Saito et al. 2020, arXiv:2008.07146): a week of three places on a shop's page, filled by a
# random policy on some requests and by Thompson sampling (bts) on others; 10,000 rows of each, a campaign. Each row is
# one place: the item, its place, its click and its propensity at that place. Rows are a sample, hardly two of one page,
# so each is its own unit. The values compared are clicks a place, over the logs' mix of places (a third each).


@dataclass(frozen=True)
class Log:
    """One policy's rows, each ``[10000]``."""

    item: Floats
    place: Floats
    click: Floats
    propensity: Floats

    @property
    def click_rate(self) -> float:
        return float(self.click.mean())

    @property
    def click_rate_error(self) -> float:
        return float(self.click.std(ddof=1) / math.sqrt(len(self.click)))


CAMPAIGNS = ("all", "men", "women")


@cache
def log(policy: str, campaign: str) -> Log:
    spec = importlib.util.find_spec("obp")
    if spec is None or spec.origin is None:
        pytest.skip("obp, which brings the Open Bandit sample, is not installed")
    path = Path(spec.origin).parent / "dataset" / "obd" / policy / campaign / f"{campaign}.csv"
    with path.open(newline="") as file:
        rows = [
            [float(row[name]) for name in ("item_id", "position", "click", "propensity_score")]
            for row in csv.DictReader(file)
        ]
    return Log(*np.array(rows).T)


def apart(estimate: Estimate, measured: Log) -> float:
    """Standard errors between an estimate and a measured click rate, which is uncertain as well."""
    own = (estimate.high - estimate.low) / (2 * 1.959964)
    return abs(estimate.value - measured.click_rate) / math.hypot(own, measured.click_rate_error)


@pytest.mark.parametrize("campaign", CAMPAIGNS)
@pytest.mark.parametrize("policy", ["random", "bts"])
@pytest.mark.parametrize("estimator", [ips, snips])
def test_the_value_of_the_logging_policy_is_its_click_rate(policy: str, campaign: str, estimator: Estimator) -> None:
    rows = log(policy, campaign)
    found = estimator(rows.click, rows.propensity, rows.propensity)
    assert found.value == rows.click_rate
    assert found.effective_n == len(rows.click)
    assert found.high - found.value == pytest.approx(1.959964 * rows.click_rate_error)


@pytest.mark.parametrize("campaign", ["all", "men"])
@pytest.mark.parametrize("estimator", [ips, snips])
def test_the_random_policy_is_foretold_by_the_logs_of_the_other(campaign: str, estimator: Estimator) -> None:
    """Within chance, which is wide: 10,000 rows are worth 340 (all) and 656 (men), and hold 42 and 69 clicks."""
    logged, measured = log("bts", campaign), log("random", campaign)
    uniform = np.full(len(logged.click), measured.propensity[0])
    found = estimator(logged.click, logged.propensity, uniform)
    assert apart(found, measured) < 1.96
    assert 300 < found.effective_n < 700
    assert found.mean_weight == pytest.approx(1.0, abs=0.1)


def test_logs_that_are_worth_two_rows_say_so() -> None:
    """In campaign women one row of propensity 1e-6 outweighs the rest: the estimate is void, and shows it."""
    logged, measured = log("bts", "women"), log("random", "women")
    uniform = np.full(len(logged.click), measured.propensity[0])
    whole = ips(logged.click, logged.propensity, uniform)
    assert whole.effective_n < 3
    assert whole.mean_weight > 2
    assert whole.high - whole.low > 2 * whole.value
    cut = ips(logged.click, logged.propensity, uniform, max_weight=10.0)
    assert cut.effective_n > 1000
    assert apart(cut, measured) < 1.96


@pytest.mark.parametrize("campaign", CAMPAIGNS)
@pytest.mark.parametrize("estimator", [ips, snips])
def test_thompson_sampling_is_foretold_by_the_logs_of_the_random_policy(campaign: str, estimator: Estimator) -> None:
    """What it would do there is not logged, and changed in the week; its share of items at each place stands for it."""
    logged, measured = log("random", campaign), log("bts", campaign)
    shown = Counter(zip(measured.item, measured.place, strict=True))
    places = Counter(measured.place)
    target = [shown[item, place] / places[place] for item, place in zip(logged.item, logged.place, strict=True)]
    found = estimator(logged.click, logged.propensity, target)
    assert apart(found, measured) < 1.96
    assert found.effective_n > 2000
    assert found.mean_weight == pytest.approx(1.0, abs=0.06)


def test_the_real_logs_can_tell_a_wrong_estimator() -> None:
    logged, measured = log("bts", "men"), log("random", "men")
    uniform = np.full(len(logged.click), measured.propensity[0])
    upside_down = ips(logged.click, uniform, logged.propensity)
    assert apart(upside_down, measured) > 5
    unweighted = ips(logged.click, uniform, uniform)
    assert apart(unweighted, measured) > 1.96


# -- refusals ----------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"rewards": [1.0, 0.0], "logging": [0.5, 1.0], "target": [0.5, 0.0]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rewards": [], "logging": [], "target": []}, r"rewards: expected \[m >= 2\], got \[0\]"),
        ({"rewards": [1.0], "logging": [0.5], "target": [0.5]}, r"rewards: expected \[m >= 2\], got \[1\]"),
        ({"rewards": [[1.0, 0.0]]}, r"rewards: expected \[m >= 2\], got \[1, 2\]"),
        ({"rewards": [1.0, np.nan]}, "rewards: expected finite numbers, got nan"),
        ({"logging": [0.5]}, r"logging: expected \[2\], got \[1\]"),
        ({"logging": [0.0, 1.0]}, r"logging: expected propensities in \(0, 1\], got 0 to 1"),
        ({"logging": [-0.5, 1.0]}, r"logging: expected propensities in \(0, 1\], got -0.5"),
        ({"logging": [0.5, 1.5]}, r"logging: expected propensities in \(0, 1\], got 0.5 to 1.5"),
        ({"logging": [np.inf, 1.0]}, "logging: expected finite numbers, got inf"),
        ({"target": [-0.1, 1.0]}, r"target: expected propensities in \[0, 1\], got -0.1"),
        ({"target": [0.1, 1.1]}, r"target: expected propensities in \[0, 1\], got 0.1 to 1.1"),
        ({"target": [0.1, np.nan]}, "target: expected finite numbers, got nan"),
        ({"target": [0.0, 0.0]}, "these logs say nothing of that policy"),
        ({"max_weight": 0.0}, "max_weight: expected > 0, got 0.0"),
        ({"max_weight": math.nan}, "max_weight: expected > 0, got nan"),
        ({"units": ["a"]}, r"units: expected \[2\], got \[1\]"),
        ({"units": ["a", "a"]}, "units: expected at least 2 different ones, got 1"),
    ],
)
@pytest.mark.parametrize("estimator", [ips, snips, doubly_robust])
def test_logs_that_say_nothing_are_refused(estimator: Estimator, wrong: dict[str, Any], message: str) -> None:
    model = {"predicted": [0.5, 0.5], "expected": [0.5, 0.5]} if estimator is doubly_robust else {}
    with pytest.raises(InputError, match=message):
        estimator(**{**GOOD, **model, **wrong})


@pytest.mark.parametrize("name", ["predicted", "expected"])
@pytest.mark.parametrize("wrong", [[0.5], [0.5, np.nan]])
def test_a_model_without_a_prediction_is_refused(name: str, wrong: list[float]) -> None:
    model: dict[str, Any] = {"predicted": [0.5, 0.5], "expected": [0.5, 0.5], name: wrong}
    with pytest.raises(InputError, match=f"{name}: expected"):
        doubly_robust(**GOOD, **model)
