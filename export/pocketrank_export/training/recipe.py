"""How a ranker is fitted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How to fit.

    Attributes:
        epochs: Passes over the slates at most; the learning rate follows one cycle over them (Smith and Topin 2017).
        patience: Epochs without a better validation nDCG@10 before stopping.
        distil: Share of the loss that comes from the teacher, 0 to 1.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    batch: int = 32
    patience: int = 5
    distil: float = 0.0
    temperature: float = 1.0
    seed: int = 0
