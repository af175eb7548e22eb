"""Federated rounds over all devices of the fleet, in this process, through Flower's grid and messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Context

from pocketrank.bundle import Bundle, load_arrays, save_arrays
from pocketrank.durable import write_atomically
from pocketrank.learner import Example, Learner, Params
from pocketrank_federated.checkpoint import Checkpoint
from pocketrank_federated.client_app import client_app
from pocketrank_federated.ledger import MemoryLedger
from pocketrank_federated.local_grid import LocalGrid
from pocketrank_federated.participant import Participant, local_training
from pocketrank_federated.plan import RoundPlan
from pocketrank_federated.rounds import run
from pocketrank_federated.state import RoundRecord, RunState
from pocketrank_federated.strategy import ClippedAveraging


@dataclass(frozen=True)
class Federated:
    """What rounds came to.

    Attributes:
        by_round: Parameters before the first round and after each: the mean of the last few rounds' ones.
        state: The run at its end.
        bytes_down: One device's request in a round.
    """

    by_round: tuple[Params, ...]
    state: RunState
    bytes_down: int


def federate(
    folder: Path,
    bundle: Bundle,
    plan: RoundPlan,
    devices: Sequence[Sequence[Example]],
    tell: Callable[[float], None],
    *,
    averaged: int,
) -> Federated:
    """Run ``plan`` on ``bundle``, each device on its own examples; goes on where ``folder`` says it stopped."""
    learner = Learner(bundle)

    participants = [Participant(bundle, local_training(learner, slates), MemoryLedger()) for slates in devices]

    def of(context: Context) -> Participant:
        return participants[int(context.node_config["partition-id"])]

    strategy = ClippedAveraging(bundle, plan)
    folder.mkdir(parents=True, exist_ok=True)

    grid = LocalGrid(client_app(of), len(participants))
    sizes = folder / "request-bytes"

    def keep(record: RoundRecord) -> None:
        write_atomically(folder / f"after-{record.server_round}.npz", save_arrays(strategy.params))
        if not sizes.is_file():
            write_atomically(sizes, str(grid.bytes_down // len(participants)).encode())
        tell(record.server_round / plan.rounds)

    state = run(grid, strategy, Checkpoint(folder / "checkpoint", bundle.digest, plan), keep)
    released = [folder / f"after-{record.server_round}.npz" for record in state.records]
    # A round that a kill took from us was charged and left the parameters alone: it has no file.
    rounds = [load_arrays(file.read_bytes()) for file in released if file.is_file()]
    means = [_mean(rounds[max(0, last - averaged) : last]) for last in range(1, len(rounds) + 1)]
    return Federated((bundle.params(), *means), state, int(sizes.read_text()))


def _mean(of: Sequence[Params]) -> Params:
    return {name: np.mean([params[name] for params in of], axis=0, dtype=np.float32) for name in of[0]}
