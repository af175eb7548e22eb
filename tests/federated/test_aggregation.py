from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from pocketrank_federated.aggregation import Cohort, Discard, PlainSum, Tally, collect
from pocketrank_federated.messages import FAILED_CODE, REFUSED_CODE
from pocketrank_federated.policy import Refusal
from pocketrank_federated.records import reply_content, to_array_record
from tests.federated.flower import request_to

COHORT = Cohort(server_round=1, asked=frozenset({10, 11, 12}), width=3, clipping_norm=1.0)
GOOD = np.array([0.6, 0.0, 0.8], np.float32)


def reply(value: npt.NDArray[Any], node: int = 10, server_round: int = 1) -> Message:
    return Message(reply_content(value), reply_to=request_to(node, server_round=server_round))


def with_content(content: RecordDict) -> Message:
    return Message(content, reply_to=request_to(10))


def with_error(code: int, reason: str | None) -> Message:
    return Message(Error(code, reason), reply_to=request_to(10))


def taken(*replies: Message) -> tuple[list[float], Tally]:
    total = PlainSum(COHORT.width)
    tally = collect(replies, COHORT, total)
    return [float(value) for value in total.total()], tally


def test_good_replies_are_summed_and_silent_nodes_counted() -> None:
    total, tally = taken(reply(GOOD, 10), reply(-GOOD / 2, 12))
    np.testing.assert_allclose(total, GOOD / 2)
    assert tally == Tally(answered=2, refused={"lost": 1})


def test_an_update_at_the_clipping_norm_with_rounding_is_used() -> None:
    assert taken(reply(GOOD * np.float32(1 + 5e-7)))[1].answered == 1


def _bad_bytes() -> Message:
    array = FlowerArray("float32", (3,), "numpy.ndarray", b"\x93NUMPY garbage")
    return with_content(RecordDict({"update": ArrayRecord({"update": array})}))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: reply(GOOD.astype(np.float64)), Discard.DTYPE),
        (lambda: reply(GOOD.astype(np.float16)), Discard.DTYPE),
        (lambda: reply(np.ones(3, np.int64)), Discard.DTYPE),
        (lambda: reply(GOOD[:2]), Discard.SHAPE),
        (lambda: reply(np.zeros(4, np.float32)), Discard.SHAPE),
        (lambda: reply(np.zeros(1, np.float32)), Discard.SHAPE),
        (lambda: reply(np.zeros((1, 3), np.float32)), Discard.SHAPE),
        (lambda: reply(np.zeros((), np.float32)), Discard.SHAPE),
        (lambda: reply(np.array([0, np.nan, 0], np.float32)), Discard.NOT_FINITE),
        (lambda: reply(np.array([0, -np.inf, 0], np.float32)), Discard.NOT_FINITE),
        (lambda: reply(GOOD * np.float32(1.0001)), Discard.NORM),
        (lambda: reply(np.full(3, 1e30, np.float32)), Discard.NORM),
        (lambda: reply(np.full(3, 3e38, np.float32)), Discard.NORM),
        (lambda: reply(GOOD, server_round=2), Discard.WRONG_ROUND),
        (lambda: with_content(RecordDict()), Discard.CONTENT),
        (lambda: with_content(RecordDict({"arrays": to_array_record({"update": GOOD})})), Discard.CONTENT),
        (lambda: with_content(RecordDict({"update": to_array_record({"weights": GOOD})})), Discard.CONTENT),
        (lambda: with_content(RecordDict({"update": MetricRecord({"update": 1.0})})), Discard.CONTENT),
        (_bad_bytes, Discard.CONTENT),
        (lambda: with_error(FAILED_CODE, "failed"), Discard.FAILED),
        (lambda: with_error(2, "<class 'ValueError'>:<'user 17 likes jazz'>"), Discard.FAILED),
        (lambda: with_error(5, None), Discard.LOST),
        (lambda: with_error(3, "unavailable"), Discard.LOST),
        (lambda: with_error(REFUSED_CODE, "round_replayed"), Refusal.REPLAY),
        (lambda: with_error(REFUSED_CODE, "cohort_too_small"), Refusal.COHORT),
        (lambda: with_error(REFUSED_CODE, "user 17 likes jazz"), Discard.FAILED),
        (lambda: with_error(REFUSED_CODE, None), Discard.FAILED),
    ],
)
def test_a_bad_reply_costs_only_itself_and_is_counted(bad: Callable[[], Message], reason: Discard | Refusal) -> None:
    total, tally = taken(bad(), reply(GOOD, 11), reply(GOOD, 12))
    np.testing.assert_allclose(total, 2 * GOOD)
    assert tally == Tally(answered=2, refused={str(reason): 1})


def test_a_node_counts_once() -> None:
    total, tally = taken(reply(GOOD, 10), reply(GOOD, 10), reply(GOOD, 11), reply(GOOD, 12))
    np.testing.assert_allclose(total, 3 * GOOD, rtol=1e-6)
    assert tally == Tally(answered=3, refused={"duplicate": 1})


def test_a_second_reply_does_not_mend_a_bad_first_one() -> None:
    assert taken(reply(GOOD * 9, 10), reply(GOOD, 10))[1] == Tally(0, {"duplicate": 1, "lost": 2, "norm_too_large": 1})


def test_a_node_that_was_not_asked_is_not_heard() -> None:
    total, tally = taken(reply(GOOD, 99))
    assert total == [0, 0, 0]
    assert tally == Tally(0, {"lost": 3, "unknown_node": 1})


@given(st.permutations(range(8)), st.integers(0, 2**32 - 1))
def test_the_sum_does_not_depend_on_the_order(order: list[int], seed: int) -> None:
    updates = np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32)
    total = PlainSum(3)
    for i in order:
        total.add(i, updates[i])
    np.testing.assert_allclose(total.total(), updates.sum(axis=0, dtype=np.float64), rtol=0, atol=1e-12)
