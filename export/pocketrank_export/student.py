"""The student: a small ranker whose head is an input, so that a federated round never touches its file.

The features of a slate are standardised within the slate, inside the graph. A backbone (an MLP) reads the public
columns; the head reads all columns in a line, weighs the backbone's score, and lifts the private columns into the
backbone's first hidden layer. What is the head's comes in as tensors::

    score = [standardised, backbone(public columns, lift @ private columns)] @ weight

Before anything was learned from private columns, their weights and the lift are zero.

Leading axes are free: ``[n, d]`` is one slate (what is converted for ranking), ``[b, n, d]`` a batch of slates (what is
trained).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketrank.errors import InputError
from pocketrank_export.ranker import Ranker

CLIP = 4.0
"""Bound of a standardised feature, in standard deviations of its slate."""

# Least standard deviation, absolute and as a share of the column's mean: far below it a column counts as constant.
_FLOOR = 1e-6


def standardise(features: Tensor, mask: Tensor) -> Tensor:
    """Standardise each column within its slate, over the real candidates.

    Args:
        features: float32 ``[..., n, d]``, finite; what stands in padded rows is ignored.
        mask: float32 ``[..., n]``, 1 = real, 0 = padding.

    Returns:
        float32 ``[..., n, d]``: ``clip((x - mean) / deviation, -CLIP, CLIP)`` with the population's mean and
        deviation; 0 in padded rows.

    Guarantees:
        A constant column becomes 0 (up to 1e-3), whatever its size. A slate without real candidates becomes 0.
        Padding changes nothing.
    """
    real = mask.unsqueeze(-1)
    count = real.sum(dim=-2, keepdim=True).clamp(min=1.0)
    mean = (features * real).sum(dim=-2, keepdim=True) / count
    centred = (features - mean) * real
    # The mean of a constant 1990 is off by a rounding error, which a division by a deviation of about the same size
    # would turn into +-1. Centring a second time squares that error away (the corrected two-pass algorithm: Chan, Golub
    # and LeVeque 1983, doi:10.1080/00031305.1983.10483115).
    centred = (centred - centred.sum(dim=-2, keepdim=True) / count) * real
    variance = (centred * centred).sum(dim=-2, keepdim=True) / count
    floor = _FLOOR * (mean.abs() + 1.0)
    return (centred / (variance + floor * floor).sqrt()).clamp(-CLIP, CLIP)


class Head(nn.Module):
    """The trainable part.

    Attributes:
        weight: ``[d + 1]``: one a column, 0 at first, and a last one for the backbone's score, 1 at first.
        lift: ``[h, p]``, from the private columns to the first hidden layer, 0 at first; None without such columns.
    """

    def __init__(self, width: int, hidden: int, private: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([torch.zeros(width), torch.ones(1)]))
        self.lift = nn.Parameter(torch.zeros(hidden, private)) if private else None


class Student(Ranker):
    """A trainable head over all columns beside an MLP over the public ones.

    Args:
        public: One boolean a column of the schema, in its order; True where the backbone may read the column. At least
            one column.
        widths: Sizes of the hidden layers of the backbone, each > 0; none leaves a linear backbone.

    Guarantees:
        With the head as it is at first, no score depends on a private column. Scores follow a permutation of the
        candidates. Padding changes no score; a padded row scores 0 (readers cut it off).

    Raises:
        InputError: No columns, or a width below 1.
    """

    public: Tensor
    private: Tensor

    def __init__(self, public: Sequence[bool], widths: Sequence[int] = (48, 24)) -> None:
        super().__init__()
        if not len(public):
            raise InputError("public: expected one boolean a feature column, got none; pass the schema's columns")
        if any(width < 1 for width in widths):
            raise InputError(f"widths: expected sizes of hidden layers, each > 0, got {tuple(widths)}")
        self.register_buffer("public", torch.tensor([float(flag) for flag in public]))
        private = [column for column, flag in enumerate(public) if not flag]
        self.register_buffer("private", torch.tensor(private, dtype=torch.int64), persistent=False)
        sizes = (len(public), *widths, 1)
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.head = Head(len(public), sizes[1], len(private))
        self.width = len(public)
        self.choose_trainable("head")

    def backbone(self, standardised: Tensor) -> Tensor:
        """Scores ``[..., n]`` of the standardised features ``[..., n, d]``: the public columns, and what is lifted."""
        first, *others = self.layers
        assert isinstance(first, nn.Linear)
        # The private columns are cut out of the weight, not of the features: a converter folds this product, so that it
        # costs nothing on a device.
        hidden = functional.linear(standardised, first.weight * self.public, first.bias)
        if self.head.lift is not None:
            hidden = hidden + functional.linear(standardised.index_select(-1, self.private), self.head.lift)
        for layer in others:
            hidden = layer(functional.relu(hidden))
        return hidden.squeeze(-1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Score the candidates of each slate.

        Args:
            features: float32 ``[..., n, d]``, raw (not standardised), finite.
            mask: float32 ``[..., n]``, 1 = real, 0 = padding.

        Returns:
            Scores, float32 ``[..., n]``; 0 where padded.
        """
        standardised = standardise(features, mask)
        weight = self.head.weight
        linear = (standardised * weight[:-1]).sum(dim=-1)
        return (weight[-1] * self.backbone(standardised) + linear) * mask


def normalise_backbone(student: Student, features: Tensor, mask: Tensor) -> None:
    """Scale the backbone's score to a unit deviation within slates and its weight in the head back; no score changes.

    The head's gradient then is of one size in all its weights, which is what a clip on its norm wants.

    Args:
        student: Changed in place.
        features: float32 ``[s, n, d]``, slates to measure the deviation on.
        mask: float32 ``[s, n]``.
    """
    with torch.no_grad():
        scores = student.backbone(standardise(features, mask))
        deviation = torch.stack([row[real > 0].std(unbiased=False) for row, real in zip(scores, mask, strict=True)])
        scale = deviation.mean().clamp(min=_FLOOR)
        last = student.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.div_(scale)
        last.bias.div_(scale)
        student.head.weight[-1] *= scale
