"""A ranker's trainables, a student's head above all, as the inputs that a converted file takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from pocketrank.scorer import input_name
from pocketrank_export.ranker import Ranker, trainables
from pocketrank_export.student import Student

Array = NDArray[np.float32]


def own(ranker: Ranker) -> dict[str, Array]:
    """The trainables that the ranker has."""
    state = ranker.state_dict()
    return {input_name(name): state[name].numpy() for name, _ in trainables(ranker)}


def drawn(student: Student, seed: int, scale: float = 0.3) -> dict[str, Array]:
    """A random head."""
    rng = np.random.default_rng(seed)
    return {
        input_name(name): rng.normal(size=shape, scale=scale).astype(np.float32) for name, shape in trainables(student)
    }


def none(student: Student) -> dict[str, Array]:
    """The head before anything was learned: the backbone's score alone."""
    head = {input_name(name): np.zeros(shape, np.float32) for name, shape in trainables(student)}
    head["head_weight"][-1] = 1.0
    return head


def repeated(head: Mapping[str, Array], calls: int) -> dict[str, Array]:
    """The same head for each of ``calls``."""
    return {name: np.repeat(value[None], calls, axis=0) for name, value in head.items()}


def score(ranker: Ranker, features: Tensor, mask: Tensor, head: Mapping[str, Array | Tensor]) -> Tensor:
    """The ranker's scores under ``head``."""
    given = {name: torch.as_tensor(head[input_name(name)]) for name, _ in trainables(ranker)}
    scores: Tensor = functional_call(ranker, given, (features, mask))
    return scores
