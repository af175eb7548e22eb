"""The device's own policy: what it demands of a round before it trains.

The demands are the ``PrivacyPolicy`` in the bundle, which is signed, so that a
server alone can't weaken them. A refusal is a reason from a fixed list: it
tells an operator what to mend and says nothing of the device's data.
"""

from __future__ import annotations

from enum import StrEnum

from pocketrank.bundle import PrivacyPolicy
from pocketrank.errors import RoundRefusedError
from pocketrank_federated.messages import RoundConfig


class Refusal(StrEnum):
    """Why a device takes no part; the value travels to the server."""

    MALFORMED = "malformed_request"
    OTHER_BUNDLE = "other_bundle"
    COHORT = "cohort_too_small"
    CLIPPING = "clipping_norm_too_large"
    NOISE = "noise_multiplier_too_small"
    LOCAL_STEPS = "too_many_local_steps"
    LEARNING_RATE = "learning_rate_too_large"
    ROUNDS = "too_many_rounds"
    REPLAY = "round_replayed"


class RefusalError(RoundRefusedError):
    """A refusal with its reason.

    Attributes:
        reason: What the server is told.
    """

    def __init__(self, reason: Refusal, detail: str) -> None:
        """Keep ``detail`` for this device's own log; only ``reason`` leaves it."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def check_policy(config: RoundConfig, policy: PrivacyPolicy, bundle_digest: str) -> None:
    """Hold a round against the signed policy of the bundle that this device runs.

    Raises:
        RefusalError: With the first demand that the round does not meet.
    """
    if config.bundle_digest != bundle_digest:
        raise RefusalError(Refusal.OTHER_BUNDLE, f"round on {config.bundle_digest[:12]}, here {bundle_digest[:12]}")
    if config.cohort_size < policy.min_cohort:
        raise RefusalError(Refusal.COHORT, f"{config.cohort_size} devices; expected at least {policy.min_cohort}")
    if config.clipping_norm > policy.max_clipping_norm:
        raise RefusalError(Refusal.CLIPPING, f"{config.clipping_norm}; expected at most {policy.max_clipping_norm}")
    if config.noise_multiplier < policy.min_noise_multiplier:
        raise RefusalError(Refusal.NOISE, f"{config.noise_multiplier}; expected at least {policy.min_noise_multiplier}")
    if config.local_steps > policy.max_local_steps:
        raise RefusalError(Refusal.LOCAL_STEPS, f"{config.local_steps}; expected at most {policy.max_local_steps}")
    if config.learning_rate > policy.max_learning_rate:
        raise RefusalError(
            Refusal.LEARNING_RATE, f"{config.learning_rate}; expected at most {policy.max_learning_rate}"
        )
    if config.rounds_total > policy.max_rounds:
        raise RefusalError(Refusal.ROUNDS, f"{config.rounds_total} planned; expected at most {policy.max_rounds}")
