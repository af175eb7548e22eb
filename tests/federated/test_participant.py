import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from pocketrank.bundle import Array, PrivacyPolicy
from pocketrank.errors import ModelError, StoreError
from pocketrank_federated.clipping import l2_norm
from pocketrank_federated.ledger import MemoryLedger
from pocketrank_federated.messages import RoundConfig
from pocketrank_federated.participant import Participant, Trainer
from pocketrank_federated.policy import Refusal, RefusalError
from tests.federated.toy import OPEN_POLICY, WIDTH, plan, toy_bundle, trainer_to

BUNDLE = toy_bundle(PrivacyPolicy(min_cohort=2, max_clipping_norm=10, min_noise_multiplier=0, max_rounds=3))
TARGET = np.array([3, 0, 0, 4, 0], np.float32)


def config(server_round: int = 1, **changes: Any) -> RoundConfig:
    asked = plan(clipping_norm=10).config(server_round, 2, BUNDLE.digest)
    return dataclasses.replace(asked, **changes)


def participant(trainer: Trainer | None = None) -> Participant:
    return Participant(BUNDLE, trainer or trainer_to(TARGET), MemoryLedger())


def test_the_update_is_what_local_training_changed() -> None:
    params = BUNDLE.params()
    params["head.weight"] += 1
    update = participant().respond(config(learning_rate=0.5), params)
    assert update.dtype == np.float32
    np.testing.assert_allclose(update, [1, -0.5, -0.5, 2, 0])


def test_local_steps_and_learning_rate_are_the_rounds() -> None:
    seen: list[tuple[float, int]] = []

    def train(params: dict[str, Array], learning_rate: float, steps: int) -> dict[str, Array]:
        seen.append((learning_rate, steps))
        return params

    Participant(toy_bundle(), train, MemoryLedger())
    participant(train).respond(config(learning_rate=0.25, local_steps=1), BUNDLE.params())
    assert seen == [(0.25, 1)]


def test_the_update_is_clipped_to_the_rounds_norm() -> None:
    update = participant().respond(config(clipping_norm=1.0), BUNDLE.params())
    np.testing.assert_allclose(update, TARGET / 5, rtol=1e-6)
    assert l2_norm(update) <= 1 + 1e-6


def test_training_in_place_does_not_change_what_the_difference_is_taken_from() -> None:
    def train(params: dict[str, Array], _rate: float, _steps: int) -> dict[str, Array]:
        for value in params.values():
            value[...] += 1
        return params

    np.testing.assert_array_equal(participant(train).respond(config(), BUNDLE.params()), np.ones(WIDTH))


def _nothing(_params: dict[str, Array], _rate: float, _steps: int) -> None:
    return None


def _nan(params: dict[str, Array], _rate: float, _steps: int) -> dict[str, Array]:
    return {name: value * np.float32("nan") for name, value in params.items()}


def _other_shape(params: dict[str, Array], _rate: float, _steps: int) -> dict[str, Array]:
    return {name: value.ravel()[:1] for name, value in params.items()}


def _broken_model(_params: dict[str, Array], _rate: float, _steps: int) -> dict[str, Array]:
    raise ModelError("train: gave NaN")


def _broken_store(_params: dict[str, Array], _rate: float, _steps: int) -> dict[str, Array]:
    raise StoreError("store: locked")


@pytest.mark.parametrize("train", [_nothing, _nan, _other_shape, _broken_model, _broken_store])
def test_a_device_that_can_not_learn_answers_zeros(train: Trainer) -> None:
    update = participant(train).respond(config(), BUNDLE.params())
    assert update.dtype == np.float32
    np.testing.assert_array_equal(update, np.zeros(WIDTH))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bundle_digest": "0" * 64}, Refusal.OTHER_BUNDLE),
        ({"cohort_size": 1}, Refusal.COHORT),
        ({"clipping_norm": 10.5}, Refusal.CLIPPING),
        ({"local_steps": 2}, Refusal.LOCAL_STEPS),
        ({"learning_rate": 1.5}, Refusal.LEARNING_RATE),
        ({"rounds_total": 4}, Refusal.ROUNDS),
    ],
)
def test_a_refused_round_neither_trains_nor_spends(changes: dict[str, Any], reason: Refusal) -> None:
    trained = []

    def train(params: dict[str, Array], _rate: float, _steps: int) -> dict[str, Array]:
        trained.append(1)
        return params

    device = participant(train)
    with pytest.raises(RefusalError) as caught:
        device.respond(config(**changes), BUNDLE.params())
    assert caught.value.reason is reason
    assert not trained
    for server_round in (1, 2, 3):
        device.respond(config(server_round), BUNDLE.params())


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"head.weight": np.zeros(3, np.float32)},
        {"head.weight": np.zeros(4, np.float32), "head.bias": np.zeros((1, 2), np.float32)},
        {"head.weight": np.zeros(3, np.float64), "head.bias": np.zeros((1, 2), np.float32)},
        {"head.weight": np.full(3, np.inf, np.float32), "head.bias": np.zeros((1, 2), np.float32)},
    ],
)
def test_parameters_that_do_not_fit_the_bundle_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(RefusalError) as caught:
        participant().respond(config(), params)
    assert caught.value.reason is Refusal.MALFORMED


def test_the_budget_of_rounds_is_kept() -> None:
    device = participant()
    for server_round in (1, 2, 3):
        device.respond(config(server_round), BUNDLE.params())
    with pytest.raises(RefusalError) as caught:
        device.respond(config(3), BUNDLE.params())
    assert caught.value.reason is Refusal.REPLAY


def test_the_ledger_is_charged_before_training() -> None:
    def crash(_params: dict[str, Array], _rate: float, _steps: int) -> dict[str, Array]:
        raise KeyboardInterrupt

    device = participant(crash)
    with pytest.raises(KeyboardInterrupt):
        device.respond(config(1), BUNDLE.params())
    with pytest.raises(RefusalError) as caught:
        device.respond(config(1), BUNDLE.params())
    assert caught.value.reason is Refusal.REPLAY


def test_a_device_whose_ledger_fails_does_not_answer() -> None:
    class FullDisk:
        def charge(self, bundle_digest: str, server_round: int, max_rounds: int) -> None:
            raise StoreError(f"ledger: disk full at {bundle_digest} {server_round} {max_rounds}")

    bundle = toy_bundle(OPEN_POLICY)
    device = Participant(bundle, trainer_to(TARGET), FullDisk())
    with pytest.raises(StoreError):
        device.respond(plan().config(1, 2, bundle.digest), bundle.params())


BLOCKED_IMPORT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"flwr", "torch", "dp_accounting", "scipy", "google"}:
            raise AssertionError(name)

sys.meta_path.insert(0, Blocker())
import pocketrank_federated.participant
print(*sorted({name.split(".")[0] for name in sys.modules} & {"flwr", "torch", "numpy", "pocketrank"}))
"""


def test_participant_imports_neither_flwr_nor_torch() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED_IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["numpy", "pocketrank"]
