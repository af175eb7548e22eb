"""What the losses share: sums over the real candidates of a slate, inverse propensities and the mean over slates.

Nothing here indexes by a mask, gathers, scatters or sorts: none of it converts to TFLite with its gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pocketrank.propensity import MIN_PROPENSITY

TINY = 1e-12
"""Keeps an empty sum from dividing by zero."""
_HIDDEN = 1e9  # taken off a padded score: its softmax is exactly 0 in float32, and it stays finite


def log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax over the last axis, of the real candidates; about -1e9, finite, where padded."""
    return torch.log_softmax(scores * mask + (mask - 1.0) * _HIDDEN, dim=-1)


def log_sum_exp(scores: Tensor, mask: Tensor) -> Tensor:
    """Log of the sum of exponentials over the last axis, of the real candidates; about -1e9 where there is none."""
    return torch.logsumexp(scores * mask + (mask - 1.0) * _HIDDEN, dim=-1)


def differences(values: Tensor) -> Tensor:
    """``values_i - values_j`` ``[b, n, n]`` of ``[b, n]``."""
    return values.unsqueeze(-1) - values.unsqueeze(-2)


def both(mask: Tensor) -> Tensor:
    """1 ``[b, n, n]`` for each pair of real candidates, a candidate with itself too."""
    return mask.unsqueeze(-1) * mask.unsqueeze(-2)


def weighed(labels: Tensor, mask: Tensor, propensities: Tensor | None) -> Tensor:
    """Labels ``[b, n]`` over their propensities, 0 where padded.

    A label that shows only where its place was looked at has, so weighed, the expectation that it would have with every
    place seen; as ``pocketrank.propensity.inverse_weighted``, with the same floor and what that costs.
    """
    real = labels * mask
    return real if propensities is None else real / propensities.clamp(min=MIN_PROPENSITY)


def at_least(count: int, mask: Tensor) -> Tensor:
    """1 ``[b]`` for each slate of ``count`` or more real candidates."""
    return (mask.sum(dim=-1) >= count).to(mask.dtype)


def mean(losses: Tensor, weights: Tensor) -> Tensor:
    """``sum_b weights_b * losses_b / sum_b weights_b``, 0 where no weight is left."""
    return (weights * losses).sum() / weights.sum().clamp(min=TINY)
