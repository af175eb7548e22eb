"""The student: a small ranker whose head is an input, so that a federated round never touches its file.

The features of a slate are normalised inside the graph: within the slate, by constants, or both ways side by side. A
backbone (an MLP) reads the public columns; the head reads all columns in a line, weighs the backbone's score, and lifts
the private columns into the backbone's first hidden layer. What is the head's comes in as tensors::

    score = [normalised, backbone(public columns, lift @ private columns)] @ weight

Before anything was learned from private columns, their weights and the lift are zero.

Leading axes are free: ``[n, d]`` is one slate (what is converted for ranking), ``[b, n, d]`` a batch of slates (what is
trained).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketrank.errors import InputError
from pocketrank.features.profile import Array
from pocketrank_export.ranker import Ranker

Normalization = Literal["slate", "constants", "both", "sparse"]
"""How columns are brought to one size: by mean and deviation of their slate, of all training slates, or both."""

SIZES: Final[Mapping[str, int]] = MappingProxyType({"tiny": 2_000, "small": 12_000, "base": 35_000})
"""Parameters of the named sizes, at most."""

CLIP = 4.0
"""Bound of a standardised feature, in standard deviations of its slate."""

# Least standard deviation, absolute and as a share of the column's mean: far below it a column counts as constant.
_FLOOR = 1e-6
_RARE = 0.01  # share of candidates that a value's presence, or absence, needs to be told
_LEAST = 0.15  # deviation of a presence below which it is not magnified further
_MIN_WIDTH = 8


def widths_for(size: str, columns: int) -> tuple[int, int]:
    """Sizes of the two hidden layers of a student of a named size.

    Args:
        size: One of ``SIZES``.
        columns: What the first layer reads, >= 1; normalised both ways, a column counts twice.

    Returns:
        ``(h, h // 2)`` with the largest h whose student has at most ``SIZES[size]`` parameters, head included; a
        private column costs as much as a public one. At least (8, 4): a student of very many columns is larger than its
        name says rather than narrower than that.

    Raises:
        InputError: No such size, or ``columns`` below 1.
    """
    if size not in SIZES:
        raise InputError(f"size: expected one of {sorted(SIZES)}, got {size!r}")
    if columns < 1:
        raise InputError(f"columns: expected 1 or more, got {columns}")

    def count(width: int) -> int:
        half = width // 2
        return (columns + 1) + width * (columns + 1) + half * (width + 1) + (half + 1)

    width = _MIN_WIDTH
    while count(width + 1) <= SIZES[size]:
        width += 1
    return width, width // 2


@dataclass(frozen=True, eq=False)
class Embedding:
    """Frozen vectors of a category whose one-hot columns stand side by side.

    Attributes:
        start: The block's first column.
        table: float32 ``[v, e]``, finite: the vector of each of the block's v columns. The backbone reads it as it is,
            not normalised: vectors of unit length, or columns of unit deviation, fit.
    """

    start: int
    table: Array


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
        widths: Sizes of the hidden layers of the backbone, each > 0 (none leaves a linear backbone), or the name of a
            size.
        normalization: What head and backbone read: ``slate``, ``standardise``'s columns; ``constants``, columns by the
            mean and the deviation that ``fit_normalization`` measured; ``both``, the former and then the latter;
            ``sparse``, for columns of which 0 says that there is no value: the others by their own mean and deviation,
            and then whether there is one.
        embeddings: Blocks of public one-hot columns of which the backbone reads frozen vectors instead. The tables are
            constants: neither trained nor among the parameters.

    Guarantees:
        With the head as it is at first, no score depends on a private column. Scores follow a permutation of the
        candidates. Padding changes no score; a padded row scores 0 (readers cut it off). Scores are NaN where
        ``fit_normalization`` was forgotten, so that no gate lets them pass.

    Raises:
        InputError: No columns, a width below 1, an unknown name, or an embedding whose block is not of public columns
            of its own, or whose table is not finite ``[v, e]``.
    """

    public: Tensor
    readable: Tensor
    private: Tensor
    kept: Tensor
    mean: Tensor
    inverse_deviation: Tensor
    share: Tensor
    presence: Tensor

    def __init__(
        self,
        public: Sequence[bool],
        widths: Sequence[int] | str = (48, 24),
        *,
        normalization: Normalization = "slate",
        embeddings: Sequence[Embedding] = (),
    ) -> None:
        super().__init__()
        if not len(public):
            raise InputError("public: expected one boolean a feature column, got none; pass the schema's columns")
        if normalization not in get_args(Normalization):
            raise InputError(f"normalization: expected one of {get_args(Normalization)}, got {normalization!r}")
        self.width = len(public)
        self.normalization = normalization
        self.register_buffer("public", torch.tensor([float(flag) for flag in public]))
        if normalization != "slate":
            self.register_buffer("mean", torch.full((self.width,), torch.nan))
            self.register_buffer("inverse_deviation", torch.full((self.width,), torch.nan))
        if normalization == "sparse":
            self.register_buffer("share", torch.full((self.width,), torch.nan))
            self.register_buffer("presence", torch.full((self.width,), torch.nan))
        blocks = [_block(embedding, public) for embedding in embeddings]
        embedded = {column for block in blocks for column in block}
        if len(embedded) != sum(map(len, blocks)):
            raise InputError(f"embeddings: expected blocks that share no column, got {blocks}")
        for number, embedding in enumerate(embeddings):
            table = torch.from_numpy(np.ascontiguousarray(embedding.table.T, np.float32))
            self.register_buffer(f"table_{number}", table)
        self.blocks = tuple((block.start, block.stop) for block in blocks)
        # A column that is read in two ways stands there twice.
        flags = list(public) * (2 if normalization in ("both", "sparse") else 1)
        kept = [column for column in range(len(flags)) if column % self.width not in embedded]
        self.register_buffer("kept", torch.tensor(kept, dtype=torch.int64), persistent=False)
        vectors = sum(embedding.table.shape[1] for embedding in embeddings)
        readable = torch.tensor([float(flags[column]) for column in kept] + [1.0] * vectors)
        self.register_buffer("readable", readable, persistent=False)
        private = [place for place, column in enumerate(kept) if not flags[column]]
        self.register_buffer("private", torch.tensor(private, dtype=torch.int64), persistent=False)
        hidden = widths_for(widths, len(readable)) if isinstance(widths, str) else tuple(widths)
        if any(width < 1 for width in hidden):
            raise InputError(f"widths: expected sizes of hidden layers, each > 0, got {hidden}")
        sizes = (len(readable), *hidden, 1)
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.head = Head(len(flags), sizes[1], len(private))
        self.choose_trainable("head")

    def fit_normalization(self, features: Tensor, mask: Tensor) -> None:
        """Measure the constants over all real candidates; a column that is constant becomes 0. Nothing to do for slate.

        Args:
            features: float32 ``[s, n, d]``, the slates to be trained on, finite.
            mask: float32 ``[s, n]``.

        Raises:
            InputError: No real candidate, another width, or a feature that is not finite.
        """
        if self.normalization == "slate":
            return
        rows = features[mask > 0].double()
        if not len(rows) or rows.shape[1] != self.width or not rows.isfinite().all():
            raise InputError(
                f"features: expected finite [s, n, {self.width}] with a real candidate, got {list(features.shape)}"
            )
        if self.normalization == "sparse":
            self._fit_sparse(rows)
            return
        mean, deviation = rows.mean(dim=0), rows.std(dim=0, unbiased=False)
        varies = deviation > _FLOOR * (mean.abs() + 1.0)
        self.mean.copy_(mean)
        self.inverse_deviation.copy_(torch.where(varies, 1.0 / deviation.where(varies, torch.ones(())), 0.0))

    def _fit_sparse(self, rows: Tensor) -> None:
        """The constants of columns of which 0 says that there is no value, over ``rows`` [r, d], float64."""
        there = (rows != 0).double()
        count = there.sum(dim=0)
        mean = rows.sum(dim=0) / count.clamp(min=1.0)
        deviation = (((rows - mean) * there).square().sum(dim=0) / count.clamp(min=1.0)).sqrt()
        varies = deviation > _FLOOR * (mean.abs() + 1.0)
        share = there.mean(dim=0)
        self.mean.copy_(mean)
        self.inverse_deviation.copy_(torch.where(varies, 1.0 / deviation.where(varies, torch.ones(())), 0.0))
        self.share.copy_(share)
        # What is nearly always there, or hardly ever, would be a number of many deviations where it is not.
        told = (share > _RARE) & (share < 1.0 - _RARE)
        self.presence.copy_(torch.where(told, 0.5 / (share * (1.0 - share)).sqrt().clamp(min=_LEAST), 0.0))

    def normalise(self, features: Tensor, mask: Tensor) -> Tensor:
        """``[..., n, c]`` of ``features`` [..., n, d], 0 where padded: what the head reads; c is d or 2 d."""
        if self.normalization == "slate":
            return standardise(features, mask)
        if self.normalization == "sparse":
            there = (features != 0).to(features.dtype)
            values = ((features - self.mean) * self.inverse_deviation).clamp(-CLIP, CLIP) * there
            return torch.cat([values, (there - self.share) * self.presence], dim=-1) * mask.unsqueeze(-1)
        fixed = ((features - self.mean) * self.inverse_deviation).clamp(-CLIP, CLIP) * mask.unsqueeze(-1)
        return fixed if self.normalization == "constants" else torch.cat([standardise(features, mask), fixed], dim=-1)

    def read(self, features: Tensor, normalised: Tensor, mask: Tensor) -> Tensor:
        """What the first layer reads: ``normalised`` itself, or what is not embedded of it and then the vectors."""
        if not self.blocks:
            return normalised
        # One-hot times matrix: a lookup becomes a gather, whose gradient no runtime has.
        real = features * mask.unsqueeze(-1)
        vectors = [
            functional.linear(real[..., start:stop], self.get_buffer(f"table_{number}"))
            for number, (start, stop) in enumerate(self.blocks)
        ]
        return torch.cat([normalised.index_select(-1, self.kept), *vectors], dim=-1)

    def backbone(self, read: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[..., n]`` of what the first layer reads: the public columns, and what is lifted."""
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        # The private columns are cut out of the weight, not of the features: a converter folds this product, so that it
        # costs nothing on a device.
        hidden = functional.linear(read, first.weight * self.readable, first.bias)
        if self.head.lift is not None:
            hidden = hidden + functional.linear(read.index_select(-1, self.private), self.head.lift)
        return self.body(hidden, mask)

    def body(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[..., n]`` of the first hidden layer ``[..., n, h]``, before its activation."""
        del mask  # an MLP looks at one candidate
        for layer in self.layers[1:]:
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
        normalised = self.normalise(features, mask)
        weight = self.head.weight
        linear = (normalised * weight[:-1]).sum(dim=-1)
        return (weight[-1] * self.backbone(self.read(features, normalised, mask), mask) + linear) * mask


def _block(embedding: Embedding, public: Sequence[bool]) -> range:
    """The columns of an embedding that fits."""
    table = embedding.table
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise InputError(f"table: expected finite [v, e] with v, e >= 1, got {list(table.shape)}")
    block = range(embedding.start, embedding.start + len(table))
    if block.start < 0 or block.stop > len(public) or not all(public[column] for column in block):
        raise InputError(
            f"embeddings: expected a block of public columns among {len(public)}, got columns {block.start} to "
            f"{block.stop - 1}; the backbone may read no others"
        )
    return block


def normalise_backbone(student: Student, features: Tensor, mask: Tensor) -> None:
    """Scale the backbone's score to a unit deviation within slates and its weight in the head back; no score changes.

    The head's gradient then is of one size in all its weights, which is what a clip on its norm wants.

    Args:
        student: Changed in place.
        features: float32 ``[s, n, d]``, slates to measure the deviation on.
        mask: float32 ``[s, n]``.
    """
    with torch.no_grad():
        scores = student.backbone(student.read(features, student.normalise(features, mask), mask), mask)
        deviation = torch.stack([row[real > 0].std(unbiased=False) for row, real in zip(scores, mask, strict=True)])
        scale = deviation.mean().clamp(min=_FLOOR)
        last = student.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.div_(scale)
        last.bias.div_(scale)
        student.head.weight[-1] *= scale
