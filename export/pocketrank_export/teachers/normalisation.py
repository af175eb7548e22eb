"""What a torch teacher makes of raw features before its first layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pocketrank.errors import InputError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.student import CLIP, standardise

# Least deviation, as a share of the mean's size: below it a column counts as constant.
_FLOOR = 1e-6


@dataclass(frozen=True)
class Constants:
    """Each column's mean and standard deviation over a training set.

    Attributes:
        centre: float32 ``[d]``.
        scale: float32 ``[d]``, >= 0; 0 where the column is constant, so that nothing can be learned from it.
    """

    centre: Array
    scale: Array

    @classmethod
    def of(cls, slates: Slates) -> Constants:
        """Those of all real candidates of ``slates``; never of slates that are measured on.

        Raises:
            InputError: There is no real candidate.
        """
        rows = slates.features[slates.mask > 0].astype(np.float64)
        if not len(rows):
            raise InputError("slates: expected real candidates to measure the columns on, got none")
        centre, scale = rows.mean(axis=0), rows.std(axis=0)
        scale[scale <= _FLOOR * (np.abs(centre) + _FLOOR)] = 0.0
        return cls(centre.astype(np.float32), scale.astype(np.float32))


class Inputs(nn.Module):
    """Columns standardised within the slate, by constants of the training set, or both side by side.

    Within the slate says how a candidate stands beside the others; constants keep what is the same for all of a slate,
    and leave a candidate's score alone when the others change.

    Args:
        width: Number of feature columns, ``d``.
        constants: Of the training slates; None leaves them out.
        within_slate: Whether columns standardised within the slate come first.

    Attributes:
        columns: Number of columns that come out, ``d`` or ``2 * d``.

    Raises:
        InputError: Neither way, or constants that don't fit ``width`` or aren't finite.
    """

    centre: Tensor
    rate: Tensor

    def __init__(self, width: int, constants: Constants | None, *, within_slate: bool) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width: expected the number of feature columns, 1 or more, got {width}")
        if constants is None and not within_slate:
            raise InputError("constants: expected those of the training slates where within_slate is False, got None")
        self.within_slate = within_slate
        self.constant = constants is not None
        self.columns = width * (int(within_slate) + int(self.constant))
        if constants is None:
            return
        shapes = (constants.centre.shape, constants.scale.shape)
        finite = all(np.isfinite(values).all() for values in (constants.centre, constants.scale))
        if shapes != ((width,), (width,)) or not finite or (constants.scale < 0).any():
            raise InputError(
                f"constants: expected a finite centre and a scale >= 0, [{width}] each, got {shapes[0]} and {shapes[1]}"
                "; make them with Constants.of"
            )
        scale = np.where(constants.scale > 0, constants.scale, np.float32(np.inf))
        self.register_buffer("centre", torch.from_numpy(constants.centre.copy()))
        self.register_buffer("rate", torch.from_numpy((1.0 / scale).astype(np.float32)))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """float32 ``[b, n, columns]`` of ``features`` [b, n, d], within +-CLIP; 0 where ``mask`` [b, n] is 0."""
        parts = []
        if self.within_slate:
            parts.append(standardise(features, mask))
        if self.constant:
            parts.append(((features - self.centre) * self.rate).clamp(-CLIP, CLIP) * mask.unsqueeze(-1))
        return torch.cat(parts, dim=-1)
