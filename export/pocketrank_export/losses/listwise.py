"""Losses of whole lists: ``b`` slates of ``n``; ``mask`` is 1 for a real candidate and 0 for padding.

``softmax`` is also what devices train with: it and its gradient convert to TFLite.

Inverse propensities. A click shows only where its place was looked at, so a loss of clicks is a biased guess of the
loss of what people want. A loss that is *linear* in the labels isn't, once each label is divided by its propensity:
``E[click_i / p_i]`` is the relevance of ``i``, and an expectation goes through a sum (Joachims, Swaminathan and
Schnabel 2017, arXiv:1608.04468). Whatever divides by a slate's own labels, or chooses slates or pairs by them, isn't
linear: a slate's only click, over the sum of the slate's clicks, weighs 1 at any propensity. So with ``propensities``
the losses leave that out, and every slate counts, also one without a click. Places below ``MIN_PROPENSITY`` stay
underrated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pocketrank.errors import InputError
from pocketrank_export.losses.masking import TINY, at_least, both, differences, log_softmax, log_sum_exp, mean, weighed


def softmax(
    scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, propensities: Tensor | None = None
) -> Tensor:
    """Weighted mean of the listwise softmax cross-entropy (ListNet's top-one form).

    With ``y = labels / sum(labels)`` over the real candidates of a slate::

        CE_b = -sum_i y_bi * log softmax(scores_b)_i
        loss = sum_b weights_b * CE_b / max(sum_b weights_b, tiny)

    With propensities ``y = labels / max(propensities, MIN_PROPENSITY)``, not divided by its sum: linear in the labels,
    so unbiased.

    Args:
        scores: float32 ``[b, n]``, finite.
        labels: float32 ``[b, n]``, >= 0; graded relevance, in any scale.
        mask: float32 ``[b, n]``.
        weights: float32 ``[b]``, >= 0.
        propensities: float32 ``[b, n]``, 0 to 1: the chance that the place was looked at. None: labels are relevance.

    Returns:
        float32 ``[]``, >= 0.

    Guarantees:
        A slate without a positive label among its real candidates contributes neither loss nor weight; where no slate
        is left, the loss is 0. With propensities it contributes its weight, unless it is all padding. Whatever padding
        holds, if finite, and the order of candidates change nothing. Converts to TFLite with its gradient.

    Source: Cao et al. 2007, "Learning to rank: from pairwise approach to listwise approach",
        doi:10.1145/1273496.1273513.
    """
    wanted = weighed(labels, mask, propensities)
    surprise = -log_softmax(scores, mask)
    if propensities is not None:
        return mean((wanted * surprise).sum(dim=-1), weights * at_least(1, mask))
    total = wanted.sum(dim=-1, keepdim=True)
    each = (wanted / total.clamp(min=TINY) * surprise).sum(dim=-1)
    return mean(each, weights * (total.squeeze(-1) > 0).to(weights.dtype))


def listmle(
    scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, propensities: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of the labels' order under the Plackett-Luce model, per candidate that has a place in it.

    Over the real candidates of a slate, ``R`` those above its lowest label::

        MLE_b = -1 / |R| * sum_{i in R} (s_i - log sum_{j: l_j <= l_i} exp(s_j))
        loss  = sum_b weights_b * MLE_b / max(sum_b weights_b, tiny)

    Where no two labels are equal this is ListMLE over ``|R| = n - 1`` (its last term is 0). Equal labels have no order
    to learn: each of them is drawn from all that are not above it (Breslow's form of a partial likelihood), and nothing
    is drawn from the lowest. ListMLE as published breaks ties by some order, and so would teach the order in which the
    candidates were given.

    Args:
        scores: float32 ``[b, n]``, finite.
        labels: float32 ``[b, n]``, >= 0; only their order counts.
        mask: float32 ``[b, n]``.
        weights: float32 ``[b]``, >= 0.
        propensities: None.

    Returns:
        float32 ``[]``, >= 0.

    Guarantees:
        A slate whose real candidates all have one label, so one without a positive label too, contributes neither loss
        nor weight; where no slate is left, the loss is 0. Whatever padding holds, if finite, and the order of
        candidates change nothing, with ties too.

    Raises:
        InputError: There are propensities. The likelihood of an order isn't a sum over labels, so no weights of labels
            make it unbiased.

    Source: Xia et al. 2008, "Listwise approach to learning to rank: theory and algorithm",
        doi:10.1145/1390156.1390306; ties: Breslow 1974, doi:10.2307/2529620.
    """
    if propensities is not None:
        raise InputError(
            "listmle: takes no propensities, for inverse weights can't make it unbiased; "
            "use softmax, ranknet, lambda_ndcg or approx_ndcg, or leave the propensities out"
        )
    pairs, above = both(mask), differences(labels)
    ranked = (pairs * (above > 0).to(mask.dtype)).amax(dim=-1)
    drawn_from = pairs * (above >= 0).to(mask.dtype)
    surprise = log_sum_exp(scores.unsqueeze(-2), drawn_from) - scores
    count = ranked.sum(dim=-1)
    each = (ranked * surprise).sum(dim=-1) / count.clamp(min=1.0)
    return mean(each, weights * (count > 0).to(weights.dtype))


def approx_ndcg(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    weights: Tensor,
    propensities: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """One minus an nDCG in which each place is a smooth sum of comparisons.

    Over the real candidates of a slate, gains linear in the label as in ``pocketrank.metrics.ndcg``, no cut-off::

        place_i = 1 + sum_{j != i} sigmoid((s_j - s_i) / T)
        loss_b  = 1 - sum_i l_i / log2(1 + place_i) / maxDCG_b
        loss    = sum_b weights_b * loss_b / max(sum_b weights_b, tiny)

    ``maxDCG`` is the DCG of the labels in their best order. With propensities the loss is the DCG that is missing, to
    every gain standing first, which is linear in the labels, so unbiased::

        loss_b  = sum_i l_i / max(p_i, MIN_PROPENSITY) * (1 - 1 / log2(1 + place_i))

    Args:
        scores: float32 ``[b, n]``, finite.
        labels: float32 ``[b, n]``, >= 0: gains.
        mask: float32 ``[b, n]``.
        weights: float32 ``[b]``, >= 0.
        propensities: float32 ``[b, n]``, 0 to 1: the chance that the place was looked at. None: labels are relevance.
        temperature: T > 0. The smaller, the nearer to nDCG and the flatter between its steps; the paper's alpha is 1/T,
            and 0.1 is common for scores that differ by about 1.

    Returns:
        float32 ``[]``, >= 0 up to rounding; below 1 without propensities.

    Guarantees:
        A slate without a positive label among its real candidates contributes neither loss nor weight; where no slate
        is left, the loss is 0. With propensities it contributes its weight, unless it is all padding. Whatever padding
        holds, if finite, and the order of candidates change nothing; tied candidates share their mean place.

    Source: Qin, Liu and Li 2010, "A general approximation framework for direct optimization of information retrieval
        measures", doi:10.1007/s10791-009-9124-x.
    """
    ahead = torch.sigmoid(-differences(scores * mask) / temperature) * mask.unsqueeze(-2)
    # A real candidate beside itself adds 1/2: it starts at place 1 less that.
    discounts = 1.0 / torch.log2(1.5 + ahead.sum(dim=-1).clamp(min=0.5))
    gains = weighed(labels, mask, propensities)
    if propensities is not None:
        return mean((gains * (1.0 - discounts)).sum(dim=-1), weights * at_least(1, mask))
    best = best_dcg(gains)
    return mean(1.0 - (gains * discounts).sum(dim=-1) / best.clamp(min=TINY), weights * (best > 0).to(weights.dtype))


def best_dcg(gains: Tensor) -> Tensor:
    """DCG ``[b]`` of gains ``[b, n]``, 0 where padded, in their best order."""
    places = torch.arange(1, gains.shape[-1] + 1, dtype=gains.dtype, device=gains.device)
    return (gains.sort(dim=-1, descending=True).values / torch.log2(1.0 + places)).sum(dim=-1)
