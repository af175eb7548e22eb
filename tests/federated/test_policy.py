import dataclasses

import pytest

from pocketrank.bundle import PrivacyPolicy
from pocketrank.errors import RoundRefusedError
from pocketrank_federated.messages import RoundConfig
from pocketrank_federated.policy import Refusal, RefusalError, check_policy

DIGEST = "cd" * 32
POLICY = PrivacyPolicy(
    min_cohort=100,
    max_clipping_norm=0.3,
    min_noise_multiplier=5.0,
    max_rounds=10,
    max_local_steps=2,
    max_learning_rate=0.5,
)
AT_THE_LIMIT = RoundConfig(
    server_round=10,
    rounds_total=10,
    cohort_size=100,
    clipping_norm=0.3,
    noise_multiplier=5.0,
    learning_rate=0.5,
    local_steps=2,
    bundle_digest=DIGEST,
)


def test_a_round_at_every_limit_is_taken() -> None:
    check_policy(AT_THE_LIMIT, POLICY, DIGEST)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("bundle_digest", "ce" * 32, Refusal.OTHER_BUNDLE),
        ("cohort_size", 99, Refusal.COHORT),
        ("clipping_norm", 0.3001, Refusal.CLIPPING),
        ("noise_multiplier", 4.999, Refusal.NOISE),
        ("noise_multiplier", 0.0, Refusal.NOISE),
        ("local_steps", 3, Refusal.LOCAL_STEPS),
        ("learning_rate", 0.51, Refusal.LEARNING_RATE),
        ("rounds_total", 11, Refusal.ROUNDS),
    ],
)
def test_a_round_beyond_a_limit_is_refused_with_its_reason(field: str, value: object, reason: Refusal) -> None:
    config = dataclasses.replace(AT_THE_LIMIT, **{field: value})  # type: ignore[arg-type]  # a table of mixed values
    with pytest.raises(RefusalError) as caught:
        check_policy(config, POLICY, DIGEST)
    assert caught.value.reason is reason
    assert isinstance(caught.value, RoundRefusedError)
