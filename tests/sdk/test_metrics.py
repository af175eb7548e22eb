"""Ranking metrics against an independent library and against the formula, and intervals against what they promise."""

import doctest
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.metrics import average_precision, bootstrap, err, mrr, ndcg, precision, ranked, recall

LABELS = st.lists(st.integers(0, 1), min_size=1, max_size=30)
GRADES = st.lists(st.integers(0, 4), max_size=30)
METRICS = (ndcg, mrr, precision, recall, average_precision, err)


# -- one list ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 2.0, math.inf]), st.integers(0, 3), st.booleans()), max_size=20)
)
def test_labels_are_ranked_by_score_and_ties_stay_as_given(rows: list[tuple[float, int, bool]]) -> None:
    scores, labels, mask = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0),) * 3
    expected = [label for _, label, _ in sorted((row for row in rows if row[2]), key=lambda row: -row[0])]
    assert ranked(scores, labels, mask).tolist() == expected
    if all(mask):
        assert ranked(scores, labels).tolist() == expected


def test_padding_may_have_any_score() -> None:
    assert ranked([np.nan, 1.0, 2.0, np.inf], [5, 1, 2, 7], [0, 1, 1, 0]).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("scores", "labels", "mask", "message"),
    [
        ([1.0, 2.0], [1], None, r"expected one shape \[n\], got \(2,\), \(1,\), \(2,\)"),
        ([1.0], [1], [1, 0], r"one shape"),
        ([[1.0]], [[1]], None, r"one list at a time"),
        ([1.0, np.nan], [0, 1], None, r"scores: expected numbers, got NaN at \[1\]"),
    ],
)
def test_scores_that_rank_nothing_are_refused(scores: Any, labels: Any, mask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ranked(scores, labels, mask)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 15))
def test_ndcg_is_the_gain_over_that_of_the_best_order(labels: list[int], k: int) -> None:
    def gain(order: list[int]) -> float:
        return sum(label / math.log2(place + 2) for place, label in enumerate(order[:k]))

    best = gain(sorted(labels, reverse=True))
    expected = gain(labels) / best if best else 0.0
    assert ndcg(np.array(labels), k=k) == pytest.approx(expected)


@given(LABELS, st.integers(0, 20), st.integers(1, 15))
def test_ndcg_knows_of_relevant_items_that_are_not_in_the_list(labels: list[int], missed: int, k: int) -> None:
    relevant = sum(labels) + missed
    expected = ndcg(np.array(labels + [0] * k + [1] * missed), k=k)
    assert ndcg(np.array(labels), k=k, relevant=relevant) == pytest.approx(expected)


@given(LABELS, st.integers(1, 15))
def test_mrr_is_one_over_the_place_of_the_first_relevant_item(labels: list[int], k: int) -> None:
    expected = next((1 / (place + 1) for place, label in enumerate(labels[:k]) if label), 0.0)
    assert mrr(np.array(labels), k=k) == expected


@given(GRADES, st.integers(0, 9), st.integers(1, 40))
def test_precision_and_recall_count_the_relevant_items_of_the_first_places(
    labels: list[int], missed: int, k: int
) -> None:
    hits, relevant = (sum(label > 0 for label in part) for part in (labels[:k], labels))
    assert precision(np.array(labels), k=k) == hits / k
    assert recall(np.array(labels), k=k) == (hits / relevant if relevant else 0.0)
    everywhere = relevant + missed
    assert recall(np.array(labels), k=k, relevant=everywhere) == (hits / everywhere if everywhere else 0.0)


@given(GRADES, st.integers(0, 9), st.integers(1, 40))
def test_average_precision_is_the_mean_precision_at_the_relevant_items(labels: list[int], missed: int, k: int) -> None:
    array, relevant = np.array(labels), sum(label > 0 for label in labels) + missed
    precisions = [precision(array, k=place) for place in range(1, min(k, len(labels)) + 1) if labels[place - 1]]
    expected = sum(precisions) / relevant if relevant else 0.0
    assert average_precision(array, k=k, relevant=relevant) == pytest.approx(expected)
    if not missed:
        assert average_precision(array, k=k) == pytest.approx(expected)


@given(GRADES, st.integers(1, 40), st.sampled_from([4.0, 5.0]))
def test_err_is_the_reciprocal_of_the_place_at_which_a_reader_is_expected_to_stop(
    labels: list[int], k: int, highest: float
) -> None:
    expected, still_reading = 0.0, 1.0
    for place, label in enumerate(labels[:k], start=1):
        satisfied = (2**label - 1) / 2**highest
        expected += still_reading * satisfied / place
        still_reading *= 1 - satisfied
    assert err(np.array(labels), k=k, highest=highest) == pytest.approx(expected)


def test_err_of_simulated_readers_is_the_mean_of_what_they_find() -> None:
    labels, rng = np.array([1, 0, 3, 2, 3]), np.random.default_rng(0)
    stops = rng.random((200_000, 5)) < (2.0**labels - 1) / 2**3
    found = np.where(stops.any(axis=1), 1.0 / (1 + stops.argmax(axis=1)), 0.0)
    assert err(labels, highest=3) == pytest.approx(found.mean(), abs=4 * found.std() / math.sqrt(len(found)))


@given(GRADES, st.integers(1, 15))
def test_metrics_lie_between_none_and_the_best_order(labels: list[int], k: int) -> None:
    given, best = np.array(labels), np.array(sorted(labels, reverse=True))
    for metric in METRICS:
        highest: dict[str, Any] = {"highest": 4} if metric is err else {}
        assert 0.0 <= metric(given, k=k, **highest) <= metric(best, k=k, **highest) + 1e-12 <= 1.0 + 1e-12
        assert (metric(best, k=k, **highest) > 0) == any(labels)


@given(LABELS)
def test_the_best_order_is_perfect(labels: list[int]) -> None:
    best, k = np.array(sorted(labels, reverse=True)), len(labels)
    for metric in (ndcg, mrr, recall, average_precision):
        assert metric(best, k=k) == pytest.approx(float(any(labels)))
    assert precision(best, k=max(sum(labels), 1)) == float(any(labels))


@given(GRADES, st.integers(1, 15), st.integers(0, 5))
def test_irrelevant_items_at_the_end_change_nothing(labels: list[int], k: int, more: int) -> None:
    for metric in METRICS:
        highest: dict[str, Any] = {"highest": 4} if metric is err else {}
        expected = metric(np.array(labels), k=k, **highest)
        assert metric(np.array(labels + [0] * more), k=k, **highest) == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("labels", [[1.0, -1.0], [np.nan], [np.inf], [[1.0]]])
def test_labels_that_are_no_gains_are_refused(metric: Callable[..., float], labels: Any) -> None:
    with pytest.raises(InputError, match=r"labels: expected \[n\] finite and >= 0"):
        metric(np.array(labels))


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_wants_at_least_one_place(metric: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="k: expected >= 1, got 0"):
        metric(np.ones(3), k=0)


@pytest.mark.parametrize("metric", [recall, average_precision])
def test_there_are_at_least_as_many_relevant_items_as_the_list_holds(metric: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="relevant: expected >= 2, which the list holds, got 1"):
        metric(np.array([1, 0, 1]), relevant=1)


def test_a_label_above_the_scale_is_refused() -> None:
    with pytest.raises(InputError, match="labels: expected 0 to highest=2, got 3"):
        err(np.array([1, 3]), highest=2)


@pytest.mark.slow  # the library is compiled when it is imported
def test_metrics_agree_with_an_independent_library() -> None:
    """Graded labels, tied scores, relevant items that were not retrieved, and more places than items."""
    ranx = pytest.importorskip("ranx")
    rng = np.random.default_rng(0)
    labels = rng.choice(4, p=[0.85, 0.05, 0.05, 0.05], size=(50, 40))
    labels[:, 0] += labels.sum(axis=1) == 0
    retrieved = 30  # the items after these are in no list
    scores = rng.integers(0, 8, size=(50, retrieved)).astype(float)
    places = [sorted(range(retrieved), key=lambda item: -row[item]) for row in scores]
    qrels = {f"q{q}": {f"d{d}": int(row[d]) for d in np.flatnonzero(row)} for q, row in enumerate(labels)}
    run = {f"q{q}": {f"d{d}": 1.0 - 0.01 * at for at, d in enumerate(order)} for q, order in enumerate(places)}
    cuts = (1, 5, 10, 35)
    names = {"mrr": mrr, "precision": precision, "recall": recall, "map": average_precision}
    found = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), [f"{name}@{k}" for name in (*names, "ndcg") for k in cuts])
    for k in cuts:
        for name, metric in names.items():
            expected = [
                metric(ranked(row, known[:retrieved]), k=k, **_knowing(metric, known))
                for row, known in zip(scores, labels, strict=True)
            ]
            assert found[f"{name}@{k}"] == pytest.approx(np.mean(expected)), (name, k)
        # Of graded labels nDCG knows only those of the list: the rest is given to it, below the places that count.
        below = [
            np.concatenate([ranked(row, known[:retrieved]), np.zeros(k), known[retrieved:]])
            for row, known in zip(scores, labels, strict=True)
        ]
        assert found[f"ndcg@{k}"] == pytest.approx(np.mean([ndcg(row, k=k) for row in below])), k


def _knowing(metric: Callable[..., float], labels: Sequence[int]) -> dict[str, int]:
    """The argument that tells a metric of all the relevant items."""
    return {"relevant": int(np.count_nonzero(labels))} if metric in {recall, average_precision} else {}


def test_the_examples_of_the_page_print_what_it_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    found = doctest.testfile(str(page), module_relative=False)
    assert found.attempted > 0
    assert found.failed == 0


# -- intervals over many -----------------------------------------------------------------------------------------------


def covered(scale: float, trials: int = 400, n: int = 60) -> float:
    """How often the interval, its width times ``scale``, holds the true mean of skewed values."""
    hits = 0
    for trial in range(trials):
        rng = np.random.default_rng([trial, 11])
        found = bootstrap(rng.exponential(2.0, n), rng, resamples=400)
        low, high = (found.mean + scale * (end - found.mean) for end in (found.low, found.high))
        hits += low <= 2.0 <= high
    return hits / trials


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    assert 0.91 <= covered(1.0) <= 0.98
    # The test would notice an interval of a wrong width.
    assert covered(0.7) < 0.90
    assert covered(1.5) > 0.98


def test_a_paired_interval_is_as_narrow_as_the_differences() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(300)
    after = before + rng.normal(0.02, 0.01, 300)
    paired = bootstrap(after - before, rng)
    assert paired.low > 0
    assert paired.mean == pytest.approx(np.mean(after) - np.mean(before))
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * 0.01 / np.sqrt(300), rel=0.15)
    alone = bootstrap(after, rng)
    assert alone.high - alone.low > 10 * (paired.high - paired.low)


def test_an_interval_is_the_same_for_the_same_seed() -> None:
    values = np.random.default_rng(2).random(50)
    one, other = (bootstrap(values, np.random.default_rng(3)) for _ in range(2))
    assert one == other
    assert one.low < one.mean < one.high
    assert one.n == 50


def test_the_interval_of_one_value_is_the_value() -> None:
    found = bootstrap(np.array([0.5]), np.random.default_rng(0))
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 1)


@pytest.mark.parametrize("values", [[], [np.nan, 1.0], [np.inf]])
def test_values_that_have_no_mean_are_refused(values: list[Any]) -> None:
    with pytest.raises(InputError, match=r"values: expected \[n >= 1\] finite numbers"):
        bootstrap(np.array(values), np.random.default_rng(0))
