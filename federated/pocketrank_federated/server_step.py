"""The server's optimizer: averaging with momentum, as a pure function."""

from __future__ import annotations

import numpy as np

from pocketrank.bundle import Array
from pocketrank_federated.noise import Sum


def server_step(
    params: Array, velocity: Array, mean_update: Sum, learning_rate: float, momentum: float
) -> tuple[Array, Array]:
    """One step of FedAvgM.

    v' = momentum * v + mean_update;  params' = params + learning_rate * v'

    Args:
        params: float32 ``[d]``.
        velocity: v, float32 ``[d]``; zeros before the first round.
        mean_update: Noised sum / cohort size, float64 ``[d]``. It points where the parameters should go.
        learning_rate: The server's; 1 is plain averaging.
        momentum: In [0, 1).

    Returns:
        New params and velocity, float32 ``[d]``.

    Source: Hsu, Qi and Brown 2019, arXiv:1909.06335.
    """
    moved = momentum * velocity.astype(np.float64) + mean_update
    return (params + learning_rate * moved).astype(np.float32), moved.astype(np.float32)
