"""Losses over lists of candidates: ``b`` slates of ``n``; ``mask`` is 1 for a real candidate and 0 for padding.

Both are built from operators that convert to TFLite and whose gradients do: no boolean indexing, no scatter.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-12  # keeps an empty sum from dividing by zero
_HIDDEN = 1e9  # taken off a padded score: its softmax is exactly 0 in float32, and it stays finite


def _log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax ``[b, n]`` over the real candidates; about -1e9, finite, where padded."""
    return torch.log_softmax(scores * mask + (mask - 1.0) * _HIDDEN, dim=-1)


def listwise_cross_entropy(scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the listwise softmax cross-entropy (ListNet's top-one form).

    With ``y = labels / sum(labels)`` over the real candidates of a slate::

        CE_b = -sum_i y_bi * log softmax(scores_b)_i
        loss = sum_b weights_b * CE_b / max(sum_b weights_b, tiny)

    Args:
        scores: float32 ``[b, n]``, finite.
        labels: float32 ``[b, n]``, >= 0; graded relevance, in any scale.
        mask: float32 ``[b, n]``.
        weights: float32 ``[b]``, >= 0.

    Returns:
        float32 ``[]``, >= 0.

    Guarantees:
        A slate without a positive label among its real candidates contributes neither loss nor weight; where no slate
        is left, the loss is 0. Scores and labels of padding change nothing.

    Source: Cao et al. 2007, "Learning to rank: from pairwise approach to listwise approach",
        doi:10.1145/1273496.1273513.
    """
    relevant = labels * mask
    total = relevant.sum(dim=-1, keepdim=True)
    entropy = -(relevant / total.clamp(min=_TINY) * _log_softmax(scores, mask)).sum(dim=-1)
    counted = weights * (total.squeeze(-1) > 0).to(weights.dtype)
    return (counted * entropy).sum() / counted.sum().clamp(min=_TINY)


def distillation(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean divergence of the student's softened list from the teacher's.

    With ``p = softmax(teacher / T)`` and ``q = softmax(student / T)`` over the real candidates of a slate::

        loss = T**2 * mean_b sum_i p_bi * (log p_bi - log q_bi)

    ``T**2`` keeps the size of the gradient when T changes.

    Args:
        student_scores: float32 ``[b, n]``, finite.
        teacher_scores: float32 ``[b, n]``, finite; no gradient flows into it.
        mask: float32 ``[b, n]``.
        temperature: T > 0.

    Returns:
        float32 ``[]``, >= 0 up to rounding; 0 where the two differ by a constant.

    Guarantees:
        The mean is over the slates that hold a real candidate; where there is none, the loss is 0. Scores of padding
        change nothing.

    Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2.
    """
    log_teacher = _log_softmax(teacher_scores.detach() / temperature, mask)
    log_student = _log_softmax(student_scores / temperature, mask)
    divergence = (log_teacher.exp() * (log_teacher - log_student) * mask).sum(dim=-1)
    held = (mask.sum(dim=-1) > 0).to(divergence.dtype)
    return temperature**2 * divergence.sum() / held.sum().clamp(min=1.0)
