"""The two students that are measured: an MLP as the demo ships one, and a listwise one with attention over the slate.

Their weights are drawn at random: only their speed counts here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.app import CANDIDATES, ITEMS, SCHEMA, item_vectors
from pocketrank.bundle import Bundle, PrivacyPolicy
from pocketrank_export.builder import build_bundle
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.data.slates import Slates
from pocketrank_export.data.vectors import to_npz
from pocketrank_export.quantization.recipes import weight_int8
from pocketrank_export.student import Student

HEADS: Final = 4
HIDDEN: Final = -1e4
"""Added to the attention that falls on padding: ``exp`` makes 0 of it."""


class Attention(nn.Module):
    """A block of a transformer encoder, normalised first; every candidate looks at every real one of its slate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.queries, self.keys, self.values, self.out = (nn.Linear(width, width) for _ in range(4))
        self.after = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden ``[..., n, w]`` and mask ``[..., n]`` to hidden ``[..., n, w]``."""
        normal = self.before(hidden)
        queries, keys, values = (self._heads(layer(normal)) for layer in (self.queries, self.keys, self.values))
        weights = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        weights = (weights + (1.0 - mask)[..., None, None, :] * HIDDEN).softmax(dim=-1)
        hidden = hidden + self.out((weights @ values).transpose(-2, -3).flatten(-2))
        passed: Tensor = hidden + self.down(functional.relu(self.up(self.after(hidden))))
        return passed

    def _heads(self, hidden: Tensor) -> Tensor:
        """``[..., n, w]`` to ``[..., heads, n, w / heads]``."""
        split: Tensor = hidden.unflatten(-1, (HEADS, -1)).transpose(-2, -3)
        return split


class ListwiseStudent(Student):
    """A student whose backbone is one block of attention over the slate between two linear layers.

    Source: Pang et al. 2020, SetRank, arXiv:1912.05891.
    """

    def __init__(self, public: Sequence[bool], width: int = 64) -> None:
        """As ``Student``; ``width``, of the block, is a multiple of ``HEADS``."""
        super().__init__(public, (width,))
        self.attention = Attention(width)

    def body(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """As ``Student.body``."""
        scores: Tensor = self.layers[-1](self.attention(hidden, mask)).squeeze(-1)
        return scores


def students() -> Mapping[str, Student]:
    """The students by name, each for the app's schema."""
    torch.manual_seed(0)
    public = (~SCHEMA.private_columns).tolist()
    return {"listwise": ListwiseStudent(public), "mlp": Student(public, (128, 48))}


def parameters(student: Student) -> int:
    """How many numbers training sets."""
    return sum(value.numel() for value in student.parameters())


def bundle(name: str, student: Student) -> Bundle:
    """A bundle of the app's schema with ``student``."""
    features = np.random.default_rng(0).gamma(2.0, size=(1, CANDIDATES, student.width)).astype(np.float32)
    ones = np.ones((1, CANDIDATES), np.float32)
    return build_bundle(
        student,
        SCHEMA,
        Slates(features, ones, ones, np.array([CANDIDATES])),
        name=name,
        version=1,
        policy=PrivacyPolicy(min_cohort=1, max_clipping_norm=1.0, min_noise_multiplier=0.0, max_rounds=1),
        data="none",
        vectors=to_npz(list(ITEMS), item_vectors().astype(np.float64)),
    ).bundle


def one_signature(student: Student, size: int) -> bytes:
    """The student with a single ranking signature, so that ``Interpreter.invoke`` runs it without choosing one."""
    return weight_int8(to_tflite_rank(student, (size,)))
