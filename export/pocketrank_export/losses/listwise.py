"""Losses of whole lists: ``b`` slates of ``n``; ``mask`` is 1 for a real candidate and 0 for padding.

``softmax`` is also what devices train with: it and its gradient convert to TFLite.
"""

from __future__ import annotations

from torch import Tensor

from pocketrank_export.losses.masking import TINY, log_softmax


def softmax(scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
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
    entropy = -(relevant / total.clamp(min=TINY) * log_softmax(scores, mask)).sum(dim=-1)
    counted = weights * (total.squeeze(-1) > 0).to(weights.dtype)
    return (counted * entropy).sum() / counted.sum().clamp(min=TINY)
