"""A student's head as the inputs that a converted file takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from pocketrank.scorer import input_name
from pocketrank_export.ranker import trainables
from pocketrank_export.student import Student

Array = NDArray[np.float32]


def own(student: Student) -> dict[str, Array]:
    """The head that the student has."""
    state = student.state_dict()
    return {input_name(name): state[name].numpy() for name, _ in trainables(student)}


def drawn(student: Student, seed: int) -> dict[str, Array]:
    """A random head."""
    rng = np.random.default_rng(seed)
    return {
        input_name(name): rng.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in trainables(student)
    }


def none(student: Student) -> dict[str, Array]:
    """The head before anything was learned: the backbone's score alone."""
    head = {input_name(name): np.zeros(shape, np.float32) for name, shape in trainables(student)}
    head["head_weight"][-1] = 1.0
    return head


def repeated(head: Mapping[str, Array], calls: int) -> dict[str, Array]:
    """The same head for each of ``calls``."""
    return {name: np.repeat(value[None], calls, axis=0) for name, value in head.items()}


def score(student: Student, features: Tensor, mask: Tensor, head: Mapping[str, Array | Tensor]) -> Tensor:
    """The student's scores under ``head``."""
    given = {name: torch.as_tensor(head[input_name(name)]) for name, _ in trainables(student)}
    scores: Tensor = functional_call(student, given, (features, mask))
    return scores
