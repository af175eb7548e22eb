"""How a ranker is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from pocketrank.errors import InputError
from pocketrank_export.losses.mixture import Term


@dataclass(frozen=True)
class Recipe:
    """How to fit.

    Attributes:
        epochs: Passes over the slates at most, >= 1; the learning rate follows one cycle over them (Smith and Topin
            2017).
        learning_rate: Its peak, > 0.
        weight_decay: AdamW's, >= 0.
        batch: Slates a step, >= 1.
        patience: Epochs without a better validation nDCG@10 before stopping, the best being kept. 0 never stops, and
            keeps the last: few slates to validate on choose worse than the schedule does.
        losses: Of labels and of a teacher's scores, weighed and added.
        seed: Of the order of the slates, and of dropout.

    Raises:
        InputError: A number out of its bounds.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    batch: int = 32
    patience: int = 5
    losses: tuple[Term, ...] = (Term("softmax"),)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("patience", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf") or not 0 <= self.weight_decay < float("inf"):
            raise InputError(
                f"learning_rate, weight_decay: expected > 0 and >= 0, got {self.learning_rate} and {self.weight_decay}"
            )
