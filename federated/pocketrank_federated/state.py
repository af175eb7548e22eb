"""What a run has come to: parameters, momentum and a record of each round."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pocketrank.bundle import Array, PrivacyStatement
from pocketrank_federated.accountant import epsilon
from pocketrank_federated.plan import RoundPlan


class Outcome(StrEnum):
    """What became of a round."""

    CHARGED = "charged"
    """The devices were asked and the budget is spent; no result was used (yet)."""
    RELEASED = "released"
    """The noised sum went into the parameters."""
    DISCARDED = "discarded"
    """Too few usable replies for the policy; the parameters stayed as they were."""


@dataclass(frozen=True)
class RoundRecord:
    """One round, without anything of a single device.

    Attributes:
        server_round: Number of the round, from 1.
        outcome: What became of it.
        asked: Devices asked; the sum was divided by this number.
        answered: Devices whose update was used.
        refused: Reason to number of devices whose update was not used.
        epsilon: Spent up to and with this round, at the plan's delta; None without noise.
        update_norm: L2 norm of the released (noised) mean update.
        bytes_up: All replies on the wire, where the grid counts them.
    """

    server_round: int
    outcome: Outcome
    asked: int
    answered: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    epsilon: float | None = None
    update_norm: float = 0.0
    bytes_up: int | None = None


@dataclass(frozen=True)
class RunState:
    """A run between two steps.

    Attributes:
        params: Current parameters, float32 ``[d]``.
        velocity: The server's momentum, float32 ``[d]``.
        records: Each round that was charged, in order.
    """

    params: Array
    velocity: Array
    records: tuple[RoundRecord, ...] = ()

    @property
    def server_round(self) -> int:
        """The last round that was charged; 0 before the first."""
        return self.records[-1].server_round if self.records else 0

    def charge(self, record: RoundRecord) -> RunState:
        """The state once a new round is charged."""
        return dataclasses.replace(self, records=(*self.records, record))

    def close(self, record: RoundRecord, params: Array, velocity: Array) -> RunState:
        """The state once the charged round has its outcome."""
        return RunState(params, velocity, (*self.records[:-1], record))


def spent(plan: RoundPlan, rounds: int) -> float | None:
    """Epsilon after ``rounds`` charged rounds of ``plan``; None where nothing bounds it."""
    value = epsilon(plan.noise_multiplier, rounds, plan.delta)
    return value if math.isfinite(value) else None


def privacy_statement(plan: RoundPlan, state: RunState) -> PrivacyStatement:
    """What a bundle made of ``state`` must say of the devices' privacy.

    Rounds that were charged but not released count too.
    """
    rounds = len(state.records)
    return PrivacyStatement(
        mechanism="gaussian" if plan.noise_multiplier > 0 else "none",
        unit="device",
        sampling="none",
        epsilon=spent(plan, rounds),
        delta=plan.delta,
        rounds=rounds,
        noise_multiplier=plan.noise_multiplier,
        clipping_norm=plan.clipping_norm,
    )
