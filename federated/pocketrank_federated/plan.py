"""The plan of a run: what an operator decides before the first round."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pocketrank.bundle import PrivacyPolicy
from pocketrank.errors import InputError, PrivacyBudgetExceeded
from pocketrank_federated.messages import RoundConfig


@dataclass(frozen=True)
class RoundPlan:
    """How rounds on one bundle run; the same for all of them, so that epsilon is simple to state.

    Attributes:
        rounds: Rounds on the bundle, lost ones included; >= 1.
        clipping_norm: L2 bound on a device's update; > 0.
        noise_multiplier: Standard deviation of the noise on the sum / clipping norm; 0 for none.
        delta: Of (epsilon, delta) differential privacy; in (0, 1).
        learning_rate: Of a device's local steps; > 0.
        local_steps: A device's local steps; >= 1.
        server_learning_rate: Of the server's step; > 0.
        server_momentum: Of the server's step; in [0, 1).
    """

    rounds: int
    clipping_norm: float
    noise_multiplier: float
    delta: float
    learning_rate: float
    local_steps: int = 1
    server_learning_rate: float = 1.0
    server_momentum: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a plan that no round could follow.

        Raises:
            InputError: A value is out of range.
        """
        if not 0 < self.delta < 1:
            raise InputError(f"delta: expected between 0 and 1, got {self.delta}")
        if not (math.isfinite(self.server_learning_rate) and self.server_learning_rate > 0):
            raise InputError(f"server_learning_rate: expected a number > 0, got {self.server_learning_rate}")
        if not 0 <= self.server_momentum < 1:
            raise InputError(f"server_momentum: expected in [0, 1), got {self.server_momentum}")
        self.config(1, 1, "0" * 64)

    def config(self, server_round: int, cohort_size: int, bundle_digest: str) -> RoundConfig:
        """What the devices of one round are told.

        Raises:
            InputError: A value is out of range.
        """
        return RoundConfig(
            server_round=server_round,
            rounds_total=self.rounds,
            cohort_size=cohort_size,
            clipping_norm=float(self.clipping_norm),
            noise_multiplier=float(self.noise_multiplier),
            learning_rate=float(self.learning_rate),
            local_steps=self.local_steps,
            bundle_digest=bundle_digest,
        )

    def check(self, policy: PrivacyPolicy) -> None:
        """Hold the plan against the policy that each device will hold it against.

        Raises:
            PrivacyBudgetExceeded: It has more rounds than the policy allows.
            InputError: Every device would refuse for another reason.
        """
        if self.rounds > policy.max_rounds:
            raise PrivacyBudgetExceeded(
                f"rounds: {self.rounds} planned; the bundle's policy allows {policy.max_rounds}, publish a new bundle"
            )
        limits = {
            "clipping_norm": (self.clipping_norm <= policy.max_clipping_norm, f"at most {policy.max_clipping_norm}"),
            "noise_multiplier": (
                self.noise_multiplier >= policy.min_noise_multiplier,
                f"at least {policy.min_noise_multiplier}",
            ),
            "local_steps": (self.local_steps <= policy.max_local_steps, f"at most {policy.max_local_steps}"),
            "learning_rate": (self.learning_rate <= policy.max_learning_rate, f"at most {policy.max_learning_rate}"),
        }
        for name, (allowed, bound) in limits.items():
            if not allowed:
                raise InputError(f"{name}: the bundle's policy wants {bound}, got {getattr(self, name)}")
