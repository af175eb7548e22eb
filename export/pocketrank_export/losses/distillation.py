"""Losses from a teacher's scores: ``b`` slates of ``n``; ``mask`` is 1 for a real candidate and 0 for padding.

They need no label: a slate without a positive one counts too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pocketrank_export.losses.masking import at_least, differences, log_softmax, mean


def kl(
    student_scores: Tensor,
    teacher_scores: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean divergence of the student's softened list from the teacher's.

    With ``p = softmax(teacher / T)`` and ``q = softmax(student / T)`` over the real candidates of a slate::

        loss = T**2 * mean_b sum_i p_bi * (log p_bi - log q_bi)

    ``T**2`` keeps the size of the gradient when T changes.

    Args:
        student_scores: float32 ``[b, n]``, finite.
        teacher_scores: float32 ``[b, n]``, finite; no gradient flows into it.
        mask: float32 ``[b, n]``.
        temperature: T > 0.
        weights: float32 ``[b]``, >= 0, of the slates in the mean; None: all 1.

    Returns:
        float32 ``[]``, >= 0 up to rounding; 0 where the two differ by a constant.

    Guarantees:
        The mean is over the slates that hold a real candidate; where there is none, the loss is 0. Whatever padding
        holds, if finite, and the order of candidates change nothing.

    Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2.
    """
    return _divergence(student_scores, teacher_scores, mask, mask, temperature, weights)


def margin_mse(
    student_scores: Tensor,
    teacher_scores: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the student's margins against the teacher's, over all pairs of a slate.

    Over the ``n`` real candidates of a slate::

        loss = mean_b mean_{i < j} ((s_i - s_j) - (t_i - t_j) / T)**2
             = mean_b 2 / (n - 1) * sum_i (e_i - mean(e))**2,    e = s - t / T

    Unlike ``kl`` at a high temperature, it holds the student to the teacher's margins in size: scores end on the scale
    of ``teacher / T``. A teacher whose scores spread widely wants a T of about that spread, or its loss drowns the
    others of a mixture.

    Args:
        student_scores: float32 ``[b, n]``, finite.
        teacher_scores: float32 ``[b, n]``, finite; no gradient flows into it.
        mask: float32 ``[b, n]``.
        temperature: T > 0.
        weights: float32 ``[b]``, >= 0, of the slates in the mean; None: all 1.

    Returns:
        float32 ``[]``, >= 0; 0 where ``student`` and ``teacher / T`` differ by a constant.

    Guarantees:
        The mean is over the slates that hold two real candidates; where there is none, the loss is 0. Whatever padding
        holds, if finite, and the order of candidates change nothing.

    Source: Hofstätter et al. 2020, arXiv:2010.02666, there for one pair a query.
    """
    count = mask.sum(dim=-1)
    errors = (student_scores - teacher_scores.detach() / temperature) * mask
    centred = (errors - errors.sum(dim=-1, keepdim=True) / count.clamp(min=1.0).unsqueeze(-1)) * mask
    each = 2.0 * centred.square().sum(dim=-1) / (count - 1.0).clamp(min=1.0)
    return mean(each, at_least(2, mask) if weights is None else weights * at_least(2, mask))


def top_k(
    student_scores: Tensor,
    teacher_scores: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    weights: Tensor | None = None,
    k: int = 10,
) -> Tensor:
    """Mean divergence of the student's softened list from the teacher's ``k`` best candidates.

    ``K`` are the real candidates of a slate with fewer than ``k`` above them in the teacher's order (so all that tie
    with the last of them), ``p = softmax(teacher / T)`` over ``K`` alone and ``q = softmax(student / T)`` over all real
    candidates::

        loss = T**2 * mean_b sum_{i in K_b} p_bi * (log p_bi - log q_bi)

    The teacher's order below ``k``, often noise, isn't taught; that all of it stands below is. The original adds a
    logistic loss of each of the teacher's k best, apart from the rest of the list; a softmax compares them with it,
    and doesn't depend on where the scores' zero is.

    Args:
        student_scores: float32 ``[b, n]``, finite.
        teacher_scores: float32 ``[b, n]``, finite; no gradient flows into it.
        mask: float32 ``[b, n]``.
        temperature: T > 0.
        weights: float32 ``[b]``, >= 0, of the slates in the mean; None: all 1.
        k: How many, >= 1; ``kl`` where there are no more real candidates.

    Returns:
        float32 ``[]``, >= 0 up to rounding.

    Guarantees:
        The mean is over the slates that hold a real candidate; where there is none, the loss is 0. Whatever padding
        holds, if finite, and the order of candidates change nothing.

    Source: after Tang and Wang 2018, "Ranking distillation", arXiv:1809.07428; top-one probabilities of Cao et al.
        2007, doi:10.1145/1273496.1273513.
    """
    ahead = (differences(teacher_scores) < 0).to(mask.dtype) * mask.unsqueeze(-2)
    best = mask * (ahead.sum(dim=-1) < k).to(mask.dtype)
    return _divergence(student_scores, teacher_scores, mask, best, temperature, weights)


def _divergence(
    student: Tensor, teacher: Tensor, mask: Tensor, taught: Tensor, temperature: float, weights: Tensor | None
) -> Tensor:
    """Divergence of the student's list from the teacher's, the latter over the candidates ``taught`` [b, n]."""
    log_teacher = log_softmax(teacher.detach() / temperature, taught)
    log_student = log_softmax(student / temperature, mask)
    each = (torch.exp(log_teacher) * (log_teacher - log_student) * taught).sum(dim=-1)
    held = at_least(1, mask)
    return temperature**2 * mean(each, held if weights is None else weights * held)
