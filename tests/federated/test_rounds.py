"""Whole rounds in one process: real messages, a toy to train."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict

from pocketrank.bundle import Bundle, Parameter, PrivacyPolicy
from pocketrank.errors import InputError, PrivacyBudgetExceeded
from pocketrank_federated.accountant import epsilon
from pocketrank_federated.checkpoint import Checkpoint
from pocketrank_federated.client_app import client_app
from pocketrank_federated.ledger import FileLedger
from pocketrank_federated.local_grid import Fault, LocalGrid
from pocketrank_federated.participant import Participant
from pocketrank_federated.records import reply_content, to_array_record
from pocketrank_federated.rounds import run
from pocketrank_federated.state import Outcome, RoundRecord, privacy_statement
from pocketrank_federated.strategy import ClippedAveraging, CohortTooSmallError
from tests.federated.test_noise import scale_fits
from tests.federated.toy import OPEN_POLICY, participants, plan, targets, toy_bundle, trainer_to

DEVICES = 12
FaultFor = Callable[[int, Message], Fault | None]


def grid(bundle: Bundle, goals: np.ndarray, fault_for: FaultFor | None = None) -> LocalGrid:
    return LocalGrid(client_app(participants(bundle, goals)), len(goals), fault_for=fault_for)


def for_half(fault: Fault) -> FaultFor:
    """``fault`` befalls each second device."""
    return lambda partition, _: fault if partition % 2 else None


def test_rounds_without_noise_go_to_the_mean_of_all_targets() -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    strategy = ClippedAveraging(bundle, plan(rounds=30, learning_rate=0.5, server_momentum=0.3))
    state = run(grid(bundle, goals), strategy)
    np.testing.assert_allclose(state.params, goals.mean(axis=0), atol=1e-3)
    assert [record.server_round for record in state.records] == list(range(1, 31))
    assert all(record.answered == record.asked == DEVICES for record in state.records)
    np.testing.assert_array_equal(strategy.params["head.bias"].ravel(), state.params[3:])


def test_one_round_is_the_mean_of_the_clipped_updates() -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    state = run(grid(bundle, goals), ClippedAveraging(bundle, plan(rounds=1, clipping_norm=1.0)))
    norms = np.linalg.norm(goals.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(state.params, (goals * np.minimum(1, 1 / norms)).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("lost", [False, True], ids=["all answer", "half are lost"])
def test_the_noise_on_the_mean_is_that_of_the_plan_whoever_answers(lost: bool) -> None:  # noqa: FBT001
    width, clipping_norm, multiplier = 5000, 0.5, 2.0
    bundle = toy_bundle(layout=(Parameter("head.weight", (width,)),))
    still = np.zeros((DEVICES, width), np.float32)
    strategy = ClippedAveraging(
        bundle,
        plan(rounds=1, clipping_norm=clipping_norm, noise_multiplier=multiplier),
        noise=np.random.default_rng,
    )
    state = run(grid(bundle, still, for_half(lambda _request, _answer: None) if lost else None), strategy)
    assert state.records[0].answered == (DEVICES // 2 if lost else DEVICES)
    sigma = multiplier * clipping_norm / DEVICES
    noise = state.params.astype(np.float64)
    assert scale_fits(noise, sigma)
    for wrong in (sigma / 2, sigma * 2, sigma * 0.85, sigma * 1.15, sigma * DEVICES):
        assert not scale_fits(noise, wrong)


def _array(value: Any) -> Fault:
    return lambda request, _answer: Message(reply_content(np.asarray(value)), reply_to=request)


def _lose_reply(_request: Message, answer: Callable[[], Message]) -> None:
    answer()


def _error(request: Message, _answer: Callable[[], Message]) -> Message:
    return Message(Error(2, "<class 'ValueError'>:<'boom'>"), reply_to=request)


def _surplus(request: Message, answer: Callable[[], Message]) -> Message:
    return Message(RecordDict({**answer().content, "more": ConfigRecord({"examples": 17})}), reply_to=request)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda _request, _answer: None, "lost"),
        (_lose_reply, "lost"),
        (_error, "failed"),
        (_surplus, "wrong_content"),
        (_array(np.full(5, np.nan, np.float32)), "not_finite"),
        (_array(np.full(5, 1e30, np.float32)), "norm_too_large"),
        (_array(np.zeros(1, np.float32)), "wrong_shape"),
        (_array(np.zeros(5)), "wrong_dtype"),
    ],
    ids=["drop", "lose reply", "error", "surplus", "nan", "huge", "shape", "dtype"],
)
def test_bad_replies_are_dropped_and_counted_and_the_run_goes_on(fault: Fault, reason: str) -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    state = run(grid(bundle, goals, for_half(fault)), ClippedAveraging(bundle, plan(rounds=2)))
    for record in state.records:
        assert (record.outcome, record.asked, record.answered) == (Outcome.RELEASED, DEVICES, DEVICES // 2)
        assert record.refused == {reason: DEVICES // 2}
    first = goals[::2].sum(axis=0) / DEVICES  # divided by the number asked
    second = first + (goals[::2] - first).sum(axis=0) / DEVICES
    np.testing.assert_allclose(state.params, second, rtol=1e-5)


def test_too_few_usable_replies_leave_the_parameters_and_spend_the_round() -> None:
    bundle = toy_bundle(dataclasses.replace(OPEN_POLICY, min_cohort=DEVICES))
    lost: FaultFor = lambda partition, _: (lambda _request, _answer: None) if partition == 0 else None  # noqa: E731
    state = run(grid(bundle, targets(DEVICES), lost), ClippedAveraging(bundle, plan(rounds=2)))
    assert not state.params.any()
    assert [(r.outcome, r.answered) for r in state.records] == [(Outcome.DISCARDED, DEVICES - 1)] * 2
    assert privacy_statement(plan(rounds=2), state).rounds == 2


def test_a_refusal_of_the_devices_reaches_the_records_as_a_reason() -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    other = toy_bundle(version=2)
    state = run(LocalGrid(client_app(participants(other, goals)), DEVICES), ClippedAveraging(bundle, plan(rounds=1)))
    assert state.records[0].refused == {"other_bundle": DEVICES}
    assert state.records[0].outcome is Outcome.DISCARDED


@pytest.mark.parametrize(("min_cohort", "min_nodes"), [(3, 1), (1, 3)])
def test_too_few_nodes_are_waited_for_and_nothing_is_spent(min_cohort: int, min_nodes: int) -> None:
    bundle = toy_bundle(dataclasses.replace(OPEN_POLICY, min_cohort=min_cohort))
    strategy = ClippedAveraging(bundle, plan(), min_nodes=min_nodes, cohort_timeout_s=0)
    with pytest.raises(CohortTooSmallError, match="2 nodes"):
        run(grid(bundle, targets(2)), strategy)
    assert strategy.state.records == ()


class Killed(BaseException):
    """Stands for a kill; nothing catches it."""


def _noisy(bundle: Bundle) -> ClippedAveraging:
    return ClippedAveraging(
        bundle,
        plan(rounds=5, clipping_norm=1.0, noise_multiplier=0.7, server_momentum=0.5),
        noise=lambda server_round: np.random.default_rng([3, server_round]),
    )


def test_a_run_killed_between_rounds_ends_as_one_that_was_not(tmp_path: Path) -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    whole = run(grid(bundle, goals), _noisy(bundle))
    devices = grid(bundle, goals)

    def kill(record: RoundRecord) -> None:
        if record.server_round in {2, 3}:
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            run(devices, _noisy(bundle), Checkpoint(tmp_path, bundle.digest, _noisy(bundle).plan), kill)
    resumed = run(devices, _noisy(bundle), Checkpoint(tmp_path, bundle.digest, _noisy(bundle).plan))
    np.testing.assert_array_equal(resumed.params, whole.params)
    np.testing.assert_array_equal(resumed.velocity, whole.velocity)
    assert resumed.records == whole.records


def test_a_finished_run_started_again_asks_nobody(tmp_path: Path) -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    strategy = _noisy(bundle)
    done = run(grid(bundle, goals), strategy, Checkpoint(tmp_path, bundle.digest, strategy.plan))
    devices = grid(bundle, goals)
    again = run(devices, _noisy(bundle), Checkpoint(tmp_path, bundle.digest, strategy.plan))
    assert devices.bytes_down == 0
    np.testing.assert_array_equal(again.params, done.params)


def test_a_kill_while_devices_answer_loses_the_round_and_not_its_charge(tmp_path: Path) -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    devices = [
        Participant(bundle, trainer_to(goal), FileLedger(tmp_path / f"{i}.json")) for i, goal in enumerate(goals)
    ]
    app = client_app(lambda context: devices[int(context.node_config["partition-id"])])

    def kill(_request: Message, _answer: Callable[[], Message]) -> Message:
        raise Killed

    dying = LocalGrid(
        app, DEVICES, fault_for=lambda i, request: kill if (i, request.metadata.group_id) == (6, "2") else None
    )
    kept = Checkpoint(tmp_path / "run", bundle.digest, _noisy(bundle).plan)
    with pytest.raises(Killed):
        run(dying, _noisy(bundle), kept)
    found = kept.load()
    assert found is not None
    assert found.records[-1].outcome is Outcome.CHARGED
    assert found.records[-1].epsilon == pytest.approx(epsilon(0.7, 2, 1e-5))

    state = run(LocalGrid(app, DEVICES), _noisy(bundle), kept)
    assert [r.outcome for r in state.records] == [Outcome.RELEASED, Outcome.CHARGED] + [Outcome.RELEASED] * 3
    assert all(r.answered == DEVICES for r in state.records if r.outcome is Outcome.RELEASED)
    statement = privacy_statement(_noisy(bundle).plan, state)
    assert statement.rounds == 5
    assert statement.epsilon == pytest.approx(epsilon(0.7, 5, 1e-5))


def test_a_charge_is_on_disk_before_the_first_device_is_asked(tmp_path: Path) -> None:
    bundle, goals = toy_bundle(), targets(3)
    kept = Checkpoint(tmp_path, bundle.digest, plan())
    seen = []

    def look(_partition: int, _request: Message) -> None:
        state = kept.load()
        assert state is not None
        seen.append((state.server_round, state.records[-1].outcome))

    run(grid(bundle, goals, look), ClippedAveraging(bundle, plan()), kept)
    assert seen == [(n, Outcome.CHARGED) for n in (1, 2, 3) for _ in goals]


POLICY = PrivacyPolicy(min_cohort=1, max_clipping_norm=1.0, min_noise_multiplier=0.5, max_rounds=4)


def test_a_plan_beyond_the_budget_is_stopped_before_anyone_is_asked() -> None:
    with pytest.raises(PrivacyBudgetExceeded, match="allows 4"):
        ClippedAveraging(toy_bundle(POLICY), plan(rounds=5, clipping_norm=1.0, noise_multiplier=0.5))


def test_a_round_beyond_the_budget_is_stopped_before_anyone_is_asked() -> None:
    bundle = toy_bundle(POLICY)
    strategy = ClippedAveraging(bundle, plan(rounds=4, clipping_norm=1.0, noise_multiplier=0.5))
    devices = grid(bundle, targets(3))
    run(devices, strategy)
    before = devices.bytes_down
    with pytest.raises(PrivacyBudgetExceeded, match="allow 4"):
        strategy.configure_train(5, strategy.arrays, ConfigRecord(), devices)
    assert devices.bytes_down == before


@pytest.mark.parametrize(
    ("field", "value"),
    [("clipping_norm", 1.1), ("noise_multiplier", 0.4), ("local_steps", 2), ("learning_rate", 1.5)],
)
def test_a_plan_that_devices_would_refuse_is_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=field):
        ClippedAveraging(toy_bundle(POLICY), plan(**{"clipping_norm": 1.0, "noise_multiplier": 0.5, field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rounds", 0),
        ("delta", 0.0),
        ("noise_multiplier", -1.0),
        ("server_learning_rate", 0.0),
        ("server_momentum", 1.0),
        ("server_momentum", -0.1),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(InputError):
        plan(**{field: value})


def test_a_round_is_never_charged_twice_nor_closed_unopened() -> None:
    bundle = toy_bundle()
    strategy = ClippedAveraging(bundle, plan())
    devices = grid(bundle, targets(3))
    with pytest.raises(InputError, match="not open"):
        strategy.aggregate_train(1, [])
    strategy.configure_train(1, strategy.arrays, ConfigRecord(), devices)
    with pytest.raises(InputError, match="charged before"):
        strategy.configure_train(1, strategy.arrays, ConfigRecord(), devices)
    with pytest.raises(InputError, match="not open"):
        strategy.aggregate_train(2, [])


def test_arrays_of_another_bundle_are_refused() -> None:
    bundle = toy_bundle()
    arrays = to_array_record({"head.weight": np.zeros(3, np.float32)})
    with pytest.raises(InputError, match="params"):
        ClippedAveraging(bundle, plan()).configure_train(1, arrays, ConfigRecord(), grid(bundle, targets(3)))


def test_flowers_own_loop_gives_the_same(caplog: pytest.LogCaptureFixture) -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    ours = run(grid(bundle, goals), _noisy(bundle))
    strategy = _noisy(bundle)
    with caplog.at_level(logging.WARNING):
        result = strategy.start(grid(bundle, goals), strategy.arrays, num_rounds=5)
    arrays: ArrayRecord = result.arrays
    np.testing.assert_array_equal(np.concatenate([a.ravel() for a in arrays.to_numpy_ndarrays()]), ours.params)


def test_records_say_what_was_spent_and_sent() -> None:
    bundle, goals = toy_bundle(), targets(DEVICES)
    progress: list[RoundRecord] = []
    devices = grid(bundle, goals)
    state = run(devices, _noisy(bundle), progress=progress.append)
    assert tuple(progress) == state.records
    spent = [record.epsilon for record in state.records]
    assert spent == pytest.approx([epsilon(0.7, n, 1e-5) for n in range(1, 6)])
    assert sum(record.bytes_up or 0 for record in state.records) == devices.bytes_up
    assert all(len(goals) * 4 * 5 < (record.bytes_up or 0) < len(goals) * 2000 for record in state.records)


def test_without_noise_no_epsilon_is_claimed() -> None:
    bundle = toy_bundle()
    state = run(grid(bundle, targets(3)), ClippedAveraging(bundle, plan()))
    assert all(record.epsilon is None for record in state.records)
    statement = privacy_statement(plan(), state)
    assert (statement.mechanism, statement.epsilon, statement.rounds) == ("none", None, 3)


def test_progress_of_the_grid_counts_devices() -> None:
    bundle = toy_bundle()
    steps: list[tuple[int, int]] = []
    devices = LocalGrid(
        client_app(participants(bundle, targets(3))), 3, progress=lambda done, of: steps.append((done, of))
    )
    run(devices, ClippedAveraging(bundle, plan(rounds=2)))
    assert steps == [(1, 3), (2, 3), (3, 3)] * 2
