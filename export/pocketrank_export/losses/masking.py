"""Softmax over the real candidates of a slate, for losses whose gradients convert to TFLite too.

No boolean indexing and no scatter: neither converts.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-12
"""Keeps an empty sum from dividing by zero."""
_HIDDEN = 1e9  # taken off a padded score: its softmax is exactly 0 in float32, and it stays finite


def log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax ``[b, n]`` over the real candidates; about -1e9, finite, where padded."""
    return torch.log_softmax(scores * mask + (mask - 1.0) * _HIDDEN, dim=-1)
