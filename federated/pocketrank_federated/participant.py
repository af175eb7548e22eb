"""The device's side of a round.

A device runs one fixed task and nothing that a server sends. It answers only
rounds that its bundle's signed policy allows, charges its ledger first, and
lets nothing leave but a clipped difference of the model's parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import Array, Bundle
from pocketrank.errors import InputError, PocketRankError
from pocketrank.learner import Example, Learner
from pocketrank_federated.clipping import clip_update
from pocketrank_federated.ledger import Ledger
from pocketrank_federated.messages import RoundConfig
from pocketrank_federated.parameters import check_params, flatten, width
from pocketrank_federated.policy import Refusal, RefusalError, check_policy

_log = logging.getLogger(__name__)

Trainer = Callable[[dict[str, Array], float, int], dict[str, Array] | None]
"""``(params, learning_rate, steps)`` to new params by name, or None where there is nothing to learn from."""


def local_training(learner: Learner, slates: Sequence[Example]) -> Trainer:
    """Training on a device's own ``slates`` through its bundle's train signature."""

    def train(params: dict[str, Array], learning_rate: float, steps: int) -> dict[str, Array] | None:
        return dict(learner.step(params, slates, learning_rate=learning_rate, steps=steps)) if slates else None

    return train


class Participant:
    """One device in the rounds on one bundle."""

    def __init__(self, bundle: Bundle, trainer: Trainer, ledger: Ledger) -> None:
        """Take part with ``bundle``.

        Args:
            bundle: The verified bundle that this device runs; it holds the policy.
            trainer: Local training on the device's own examples.
            ledger: Remembers the rounds answered; a ``FileLedger`` wherever a device can restart.
        """
        self._bundle = bundle
        self._trainer = trainer
        self._ledger = ledger

    def respond(self, config: RoundConfig, params: Mapping[str, npt.NDArray[Any]]) -> Array:
        """Train from ``params`` and return the clipped difference.

        Args:
            config: The round, as the server describes it.
            params: Current parameters by name, as in the bundle's manifest; float32, finite.

        Returns:
            Update, float32 ``[d]``.

        Guarantees:
            Norm <= config.clipping_norm * (1 + 1e-6). The ledger is charged before training.
            A device without examples, or whose training fails, answers zeros: whether it
            answers does not depend on its data.

        Raises:
            RefusalError: The policy forbids the round, or the request makes no sense.
            StoreError: The ledger can't be kept.
        """
        manifest = self._bundle.manifest
        check_policy(config, manifest.policy, self._bundle.digest)
        try:
            check_params(manifest.trainable, params)
        except InputError as error:
            raise RefusalError(Refusal.MALFORMED, str(error)) from error
        self._ledger.charge(self._bundle.digest, config.server_round, manifest.policy.max_rounds)
        try:
            return self._train(config, params)
        except PocketRankError as error:
            _log.warning("round %d: local training failed, a zero update is sent (%s)", config.server_round, error)
            return np.zeros(width(manifest.trainable), np.float32)

    def _train(self, config: RoundConfig, params: Mapping[str, npt.NDArray[Any]]) -> Array:
        layout = self._bundle.manifest.trainable
        copies = {name: value.astype(np.float32) for name, value in params.items()}
        trained = self._trainer(copies, config.learning_rate, config.local_steps)
        if trained is None:
            return np.zeros(width(layout), np.float32)
        return clip_update(flatten(layout, trained) - flatten(layout, params), config.clipping_norm)
