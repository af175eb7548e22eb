"""Losses from a teacher's scores: ``b`` slates of ``n``; ``mask`` is 1 for a real candidate and 0 for padding."""

from __future__ import annotations

from torch import Tensor

from pocketrank_export.losses.masking import log_softmax


def kl(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
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
    log_teacher = log_softmax(teacher_scores.detach() / temperature, mask)
    log_student = log_softmax(student_scores / temperature, mask)
    divergence = (log_teacher.exp() * (log_teacher - log_student) * mask).sum(dim=-1)
    held = (mask.sum(dim=-1) > 0).to(divergence.dtype)
    return temperature**2 * divergence.sum() / held.sum().clamp(min=1.0)
