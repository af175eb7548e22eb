"""Every number that was chosen. Chosen on the training part of the histories; no test was looked at for it."""

from __future__ import annotations

from dataclasses import dataclass

from pocketrank_export.losses.mixture import Term
from pocketrank_export.training.recipe import Recipe


@dataclass(frozen=True)
class Rounds:
    """How the federated rounds go.

    Attributes:
        count: Rounds; every device takes part in each, so that no sampling is assumed.
        epsilon: Spent over all rounds, by one device, at ``delta``.
        clipping_norm: L2 bound on a device's update.
        learning_rate: Of a device's one local step.
        averaged: The parameters after so many last rounds are averaged; costs no privacy (Polyak and Juditsky 1992).
    """

    count: int = 12
    epsilon: float = 2.0
    delta: float = 1e-5
    clipping_norm: float = 0.2
    learning_rate: float = 0.1
    server_learning_rate: float = 3.5
    server_momentum: float = 0.5
    averaged: int = 3


@dataclass(frozen=True)
class Learning:
    """How a device learns for itself.

    Attributes:
        eta: How fast attention falls with the place in a slate. Not at all: these people were not shown the slates;
            they rated movies wherever they stand in them.
        budget_s: What one device may take; none came near it.
        min_slates: These people come back six times at most, and so have fewer slates than the SDK asks for by itself.
    """

    eta: float = 0.0
    budget_s: float = 60.0
    min_slates: int = 5


_TEACHER = Recipe(epochs=12, learning_rate=3e-3, weight_decay=0.05, patience=4)
_STUDENT = Recipe(
    epochs=15, learning_rate=3e-3, weight_decay=0.05, losses=(Term("kl", weight=0.9), Term("softmax", weight=0.1))
)
_CENTRAL = Recipe(epochs=12, learning_rate=3e-3, weight_decay=0.05, batch=64, patience=4)
_ROUNDS = Rounds()
_LEARNING = Learning()


@dataclass(frozen=True)
class Settings:
    """The settings of one run."""

    seed: int = 0
    teacher: Recipe = _TEACHER
    student: Recipe = _STUDENT
    central: Recipe = _CENTRAL
    central_seeds: int = 3
    rounds: Rounds = _ROUNDS
    learning: Learning = _LEARNING
