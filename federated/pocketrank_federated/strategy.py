"""The server's strategy: clipped updates, a noised sum, a step with momentum."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from pocketrank.bundle import Array, Bundle
from pocketrank.errors import InputError, PocketRankError, PrivacyBudgetExceeded
from pocketrank_federated.aggregation import Cohort, PlainSum, UpdateSum, collect
from pocketrank_federated.clipping import l2_norm
from pocketrank_federated.messages import MESSAGE_TYPE
from pocketrank_federated.noise import NoiseSource, SystemNoise, add_noise
from pocketrank_federated.parameters import flatten, unflatten, width
from pocketrank_federated.plan import RoundPlan
from pocketrank_federated.records import from_array_record, request_content, to_array_record
from pocketrank_federated.server_step import server_step
from pocketrank_federated.state import Outcome, RoundRecord, RunState, spent

_log = logging.getLogger(__name__)

POLL_S: Final = 1.0


class CohortTooSmallError(PocketRankError, RuntimeError):
    """Too few devices came in time for a round that the policy allows."""


def _system_noise(server_round: int) -> NoiseSource:  # noqa: ARG001  (fresh bytes each round)
    return SystemNoise()


class ClippedAveraging(Strategy):
    """Averaging of clipped updates with Gaussian noise on their sum.

    Every available node is asked, and the noised sum is divided by the number
    asked, which is public, never by the number that answered. What a reply may
    be is decided in ``aggregation``. ``rounds.run`` drives it with checkpoints;
    Flower's own ``Strategy.start`` works too, without any.
    """

    def __init__(
        self,
        bundle: Bundle,
        plan: RoundPlan,
        *,
        noise: Callable[[int], NoiseSource] = _system_noise,
        new_sum: Callable[[int], UpdateSum] = PlainSum,
        min_nodes: int = 1,
        cohort_timeout_s: float = 600.0,
        reply_timeout_s: float = 600.0,
    ) -> None:
        """Improve the parameters of ``bundle`` by ``plan``.

        Args:
            bundle: Starting point; its policy binds the plan.
            plan: The same for every round.
            noise: Server round to the source of its noise.
            new_sum: Length of an update to an empty sum.
            min_nodes: Nodes to wait for before a round, where that is more than the policy's minimum.
            cohort_timeout_s: How long to wait for them.
            reply_timeout_s: How long a request stays valid.

        Raises:
            PrivacyBudgetExceeded: The plan has more rounds than the bundle's policy.
            InputError: The devices would refuse the plan.
        """
        plan.check(bundle.manifest.policy)
        self.bundle = bundle
        self.plan = plan
        self.reply_timeout_s = reply_timeout_s
        self.state = initial_state(bundle)
        self._layout = bundle.manifest.trainable
        self._noise = noise
        self._new_sum = new_sum
        self._min_nodes = max(min_nodes, bundle.manifest.policy.min_cohort)
        self._cohort_timeout_s = cohort_timeout_s
        self._cohort: Cohort | None = None

    @property
    def arrays(self) -> ArrayRecord:
        """The current parameters as Flower sends them."""
        return to_array_record(self.params)

    @property
    def params(self) -> dict[str, Array]:
        """The current parameters by name, float32."""
        return unflatten(self._layout, self.state.params)

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,  # noqa: ARG002  (the plan says it all, and every device checks it)
        grid: Grid,
    ) -> list[Message]:
        """Wait for a cohort, charge the round and make its requests.

        Raises:
            PrivacyBudgetExceeded: The round lies beyond the plan or the bundle's policy.
            CohortTooSmallError: Too few nodes came in time; nothing is charged.
            InputError: The round was charged before, or ``arrays`` don't fit the bundle.
        """
        allowed = min(self.plan.rounds, self.bundle.manifest.policy.max_rounds)
        if server_round > allowed:
            raise PrivacyBudgetExceeded(f"server_round: {server_round}; plan and policy allow {allowed} on this bundle")
        if server_round <= self.state.server_round:
            raise InputError(f"server_round: {server_round} was charged before; go on at {self.state.server_round + 1}")
        params = flatten(self._layout, from_array_record(arrays))
        nodes = self._wait_for_nodes(grid)
        self._cohort = Cohort(server_round, frozenset(nodes), width(self._layout), self.plan.clipping_norm)
        record = RoundRecord(server_round, Outcome.CHARGED, len(nodes), epsilon=spent(self.plan, server_round))
        self.state = dataclasses.replace(self.state, params=params).charge(record)
        content = request_content(
            self.plan.config(server_round, len(nodes), self.bundle.digest), unflatten(self._layout, params)
        )
        return [
            Message(content, node, MESSAGE_TYPE, group_id=str(server_round), ttl=self.reply_timeout_s) for node in nodes
        ]

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord | None]:
        """Sum the usable replies, add noise, and step.

        Raises:
            InputError: ``server_round`` is not the one charged last.
        """
        cohort, self._cohort = self._cohort, None
        if cohort is None or cohort.server_round != server_round:
            raise InputError(f"server_round: {server_round} is not open; call configure_train first")
        total = self._new_sum(cohort.width)
        tally = collect(replies, cohort, total)
        state, asked = self.state, len(cohort.asked)
        record = dataclasses.replace(state.records[-1], answered=tally.answered, refused=tally.refused)
        if tally.answered < self.bundle.manifest.policy.min_cohort:
            record = dataclasses.replace(record, outcome=Outcome.DISCARDED)
            self.state = state.close(record, state.params, state.velocity)
            return self.arrays, None
        plan = self.plan
        noised = add_noise(total.total(), plan.clipping_norm, plan.noise_multiplier, self._noise(server_round))
        mean = noised / asked
        params, velocity = server_step(
            state.params, state.velocity, mean, plan.server_learning_rate, plan.server_momentum
        )
        record = dataclasses.replace(record, outcome=Outcome.RELEASED, update_norm=l2_norm(mean))
        self.state = state.close(record, params, velocity)
        return self.arrays, None

    def configure_evaluate(
        self,
        server_round: int,  # noqa: ARG002
        arrays: ArrayRecord,  # noqa: ARG002
        config: ConfigRecord,  # noqa: ARG002
        grid: Grid,  # noqa: ARG002
    ) -> list[Message]:
        """Nobody is asked for metrics: they would travel in clear."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> None:  # noqa: ARG002
        """Nothing was asked."""
        return

    def summary(self) -> None:
        """Log what will run."""
        _log.info("bundle %s, %s", self.bundle.digest[:12], self.plan)

    def _wait_for_nodes(self, grid: Grid) -> list[int]:
        deadline = time.monotonic() + self._cohort_timeout_s
        while len(nodes := sorted(grid.get_node_ids())) < self._min_nodes:
            if time.monotonic() >= deadline:
                raise CohortTooSmallError(
                    f"cohort: {len(nodes)} nodes after {self._cohort_timeout_s} s; expected at least "
                    f"{self._min_nodes}, start again when more are online"
                )
            time.sleep(POLL_S)
        return nodes


def initial_state(bundle: Bundle) -> RunState:
    """The state before the first round: the bundle's own parameters, at rest."""
    params = flatten(bundle.manifest.trainable, bundle.params())
    return RunState(params, np.zeros_like(params))
