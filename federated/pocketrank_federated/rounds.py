"""A run: one readable loop over rounds, which a kill at any point leaves resumable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from pocketrank_federated.checkpoint import Checkpoint
from pocketrank_federated.exchange import exchange
from pocketrank_federated.state import RoundRecord, RunState
from pocketrank_federated.strategy import ClippedAveraging


@runtime_checkable
class MeteredGrid(Protocol):
    """A grid that counts what goes through it."""

    @property
    def bytes_up(self) -> int:
        """Bytes of all replies so far."""


def run(
    grid: Grid,
    strategy: ClippedAveraging,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[RoundRecord], None] | None = None,
) -> RunState:
    """Run the rounds of the strategy's plan that are still to run.

    A round's charge is on disk before a device is asked. A kill after that
    loses the round, not the charge: the next start goes on with the next
    number, and epsilon never exceeds what the plan says.

    Args:
        grid: Where the devices are.
        strategy: Holds the plan; it is left with the final state.
        checkpoint: Where the run is kept, and from where it goes on; None to keep nothing.
        progress: Called with the record of each round that ended.

    Returns:
        The state after the last round of the plan.

    Raises:
        PrivacyBudgetExceeded: The next round would lie beyond the bundle's policy.
        CohortTooSmallError: Too few devices came in time; start again later.
        StoreError: The checkpoint can't be kept.
    """
    if checkpoint is not None:
        strategy.state = checkpoint.load() or strategy.state
    for server_round in range(strategy.state.server_round + 1, strategy.plan.rounds + 1):
        before = _bytes_up(grid)
        requests = strategy.configure_train(server_round, strategy.arrays, ConfigRecord(), grid)
        if checkpoint is not None:
            checkpoint.save(strategy.state)
        replies = exchange(grid, requests, strategy.reply_timeout_s)
        strategy.aggregate_train(server_round, replies)
        if before is not None:
            record = dataclasses.replace(strategy.state.records[-1], bytes_up=(_bytes_up(grid) or 0) - before)
            strategy.state = strategy.state.close(record, strategy.state.params, strategy.state.velocity)
        if checkpoint is not None:
            checkpoint.save(strategy.state)
        if progress is not None:
            progress(strategy.state.records[-1])
    return strategy.state


def _bytes_up(grid: Grid) -> int | None:
    return grid.bytes_up if isinstance(grid, MeteredGrid) else None
