"""A toy to run rounds on: each device pulls the parameters towards its own target.

The loss of a device is |params - target|^2 / 2, so a step moves by
learning_rate * (target - params), and federated averaging without noise or
clipping goes to the mean of the targets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Context

from pocketrank.bundle import Array, Bundle, Manifest, Parameter, PrivacyPolicy, build, save_arrays
from pocketrank.schema import Number, Schema
from pocketrank_federated.ledger import Ledger, MemoryLedger
from pocketrank_federated.participant import Participant, Trainer
from pocketrank_federated.plan import RoundPlan

LAYOUT = (Parameter("head.weight", (3,)), Parameter("head.bias", (1, 2)))
WIDTH = 5
OPEN_POLICY = PrivacyPolicy(min_cohort=1, max_clipping_norm=1e9, min_noise_multiplier=0.0, max_rounds=1000)


def toy_bundle(policy: PrivacyPolicy = OPEN_POLICY, layout: tuple[Parameter, ...] = LAYOUT, version: int = 1) -> Bundle:
    """A bundle with parameters at zero; its model files are no models."""
    params = {parameter.name: np.zeros(parameter.shape, np.float32) for parameter in layout}
    manifest = Manifest(
        name="toy",
        version=version,
        schema=Schema((Number(name="score"),)),
        slate_sizes=(16,),
        trainable=layout,
        policy=policy,
    )
    files = {"rank.tflite": b"none", "params.npz": save_arrays(params), "golden.npz": save_arrays({})}
    return build(manifest, files)


def plan(**changes: float) -> RoundPlan:
    """Plain averaging: no noise, a bound that nothing reaches."""
    values = {
        "rounds": 3,
        "clipping_norm": 1e6,
        "noise_multiplier": 0.0,
        "delta": 1e-5,
        "learning_rate": 1.0,
        "server_momentum": 0.0,
        **changes,
    }
    return RoundPlan(**values)  # type: ignore[arg-type]  # `rounds` and `local_steps` are given as whole numbers


def targets(devices: int, width: int = WIDTH, seed: int = 1) -> Array:
    """A target for each device, float32 ``[devices, width]``."""
    return np.random.default_rng(seed).normal(size=(devices, width)).astype(np.float32)


def trainer_to(target: Array) -> Trainer:
    """Local training towards ``target``, float32 ``[d]``."""

    def train(params: dict[str, Array], learning_rate: float, steps: int) -> dict[str, Array]:
        start = 0
        moved = {}
        for name, value in params.items():
            goal = target[start : start + value.size].reshape(value.shape)
            start += value.size
            for _ in range(steps):
                value = value + np.float32(learning_rate) * (goal - value)  # noqa: PLW2901
            moved[name] = value
        return moved

    return train


def participants(
    bundle: Bundle, goals: Array, ledger: Callable[[], Ledger] = MemoryLedger
) -> Callable[[Context], Participant]:
    """A participant for each row of ``goals``, found by the partition of a context."""
    devices = [Participant(bundle, trainer_to(goal), ledger()) for goal in goals]
    return lambda context: devices[int(context.node_config["partition-id"])]
