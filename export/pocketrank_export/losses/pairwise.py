"""Losses of pairs of candidates: ``b`` slates of ``n``; ``mask`` is 1 for a real candidate and 0 for padding.

``ranknet`` and its gradient convert to TFLite. All pairs are held at once: ``[b, n, n]``.

Inverse propensities, see ``listwise``: which of two is better isn't known where one of them may not have been looked
at. So with ``propensities`` a labelled candidate is compared with *every* other one, as the rank of a relevant result
is in Joachims, Swaminathan and Schnabel 2017, section 4, arXiv:1608.04468: linear in the labels. (Comparing a click
only with what wasn't clicked pushes down what nobody looked at, and stays biased wherever a slate holds two relevant
candidates.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pocketrank_export.losses.listwise import best_dcg
from pocketrank_export.losses.masking import TINY, at_least, both, differences, mean, weighed

MU = 10.0
"""How much the bound on nDCG weighs beside LambdaRank's weight."""


def logistic(margins: Tensor) -> Tensor:
    """``log(1 + exp(-margins))`` in any range, with a gradient of -1/2 at 0, of operators that convert to TFLite."""
    size = margins.abs()
    return (size - margins) / 2.0 + torch.log1p(torch.exp(-size))


def ranknet(
    scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, propensities: Tensor | None = None
) -> Tensor:
    """Weighted mean of the pairwise logistic loss.

    Over the pairs of real candidates of a slate, ``P`` those with ``l_i > l_j``::

        loss_b = 1 / |P| * sum_{(i, j) in P} log(1 + exp(-(s_i - s_j)))
        loss   = sum_b weights_b * loss_b / max(sum_b weights_b, tiny)

    With propensities, over all pairs, ``n`` the real candidates of the slate; linear in the labels, so unbiased::

        loss_b = 1 / (n - 1) * sum_i l_i / max(p_i, MIN_PROPENSITY) * sum_{j != i} log(1 + exp(-(s_i - s_j)))

    Args:
        scores: float32 ``[b, n]``, finite.
        labels: float32 ``[b, n]``, >= 0. Only their order counts; with propensities their size does.
        mask: float32 ``[b, n]``.
        weights: float32 ``[b]``, >= 0.
        propensities: float32 ``[b, n]``, 0 to 1: the chance that the place was looked at. None: labels are relevance.

    Returns:
        float32 ``[]``, >= 0.

    Guarantees:
        A slate without such a pair, so one without a positive label too, contributes neither loss nor weight; where no
        slate is left, the loss is 0. With propensities it contributes its weight, if it holds two real candidates.
        Whatever padding holds, if finite, and the order of candidates change nothing. Converts to TFLite with its
        gradient.

    Source: Burges et al. 2005, "Learning to rank using gradient descent", doi:10.1145/1102351.1102363.
    """
    surprise = logistic(differences(scores * mask))
    if propensities is None:
        pairs = both(mask) * (differences(labels) > 0).to(mask.dtype)
        count = pairs.sum(dim=(-2, -1))
        each = (pairs * surprise).sum(dim=(-2, -1)) / count.clamp(min=1.0)
        return mean(each, weights * (count > 0).to(weights.dtype))
    gains = weighed(labels, mask, propensities)
    # Less what each adds beside itself, log 2: a mask without the diagonal doesn't convert.
    against = (surprise * mask.unsqueeze(-2)).sum(dim=-1) - math.log(2.0)
    each = (gains * against).sum(dim=-1) / (mask.sum(dim=-1) - 1.0).clamp(min=1.0)
    return mean(each, weights * at_least(2, mask))


def lambda_ndcg(
    scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, propensities: Tensor | None = None
) -> Tensor:
    """NDCG-Loss2++ of the LambdaLoss framework: pairs weigh what their order is worth to nDCG.

    Over the real candidates of a slate, ``r_i`` the place of ``i`` by score, ``G = l / maxDCG`` (linear in the label as
    in ``pocketrank.metrics.ndcg``), ``D(r) = log2(1 + r)``, without a cut-off::

        rho_ij   = |1 / D(r_i) - 1 / D(r_j)|                                  (LambdaRank)
        delta_ij = 1 / D(|r_i - r_j|) - 1 / D(|r_i - r_j| + 1)                (a bound on nDCG's cost)
        loss_b   = sum_{l_i > l_j} (rho_ij + MU * delta_ij) * |G_i - G_j| * log2(1 + exp(-(s_i - s_j)))
        loss     = sum_b weights_b * loss_b / max(sum_b weights_b, tiny)

    ``MU`` is 10. Places pass no gradient. Tied candidates share their mean place, whatever their labels, and count as
    neighbours (``|r_i - r_j| = 1``), so a ranker that starts with all scores equal learns.

    With propensities ``G_i = l_i / max(p_i, MIN_PROPENSITY)``, undivided by maxDCG, over all pairs; linear in the
    labels, so unbiased::

        loss_b   = sum_i G_i * sum_{j != i} (rho_ij + MU * delta_ij) * log2(1 + exp(-(s_i - s_j)))

    Args:
        scores: float32 ``[b, n]``, finite.
        labels: float32 ``[b, n]``, >= 0: gains.
        mask: float32 ``[b, n]``.
        weights: float32 ``[b]``, >= 0.
        propensities: float32 ``[b, n]``, 0 to 1: the chance that the place was looked at. None: labels are relevance.

    Returns:
        float32 ``[]``, >= 0.

    Guarantees:
        A slate without a pair of different labels, so one without a positive label too, contributes neither loss nor
        weight; where no slate is left, the loss is 0. With propensities it contributes its weight, if it holds two real
        candidates. Whatever padding holds, if finite, and the order of candidates change nothing.

    Source: Wang et al. 2018, "The LambdaLoss framework for ranking metric optimization",
        doi:10.1145/3269206.3271784.
    """
    margins = differences(scores * mask)
    swaps = _swaps(margins.detach(), mask) * logistic(margins) / math.log(2.0)
    gains = weighed(labels, mask, propensities)
    if propensities is not None:
        against = (swaps * mask.unsqueeze(-2)).sum(dim=-1) - swaps.diagonal(dim1=-2, dim2=-1)
        return mean((gains * against).sum(dim=-1), weights * at_least(2, mask))
    gaps = differences(gains / best_dcg(gains).clamp(min=TINY).unsqueeze(-1)).clamp(min=0.0) * both(mask)
    counted = (gaps.amax(dim=(-2, -1)) > 0).to(weights.dtype)
    return mean((gaps * swaps).sum(dim=(-2, -1)), weights * counted)


def _swaps(margins: Tensor, mask: Tensor) -> Tensor:
    """``rho + MU * delta`` ``[b, n, n]`` of the order that ``margins`` ``[b, n, n]`` make."""
    # A real candidate ties with itself: 1/2 + 1/2 = place 1 where nothing is ahead.
    ahead = (margins < 0).to(mask.dtype) + (margins == 0).to(mask.dtype) / 2.0
    places = 0.5 + (ahead * mask.unsqueeze(-2)).sum(dim=-1).clamp(min=0.5)
    rho = differences(1.0 / torch.log2(1.0 + places)).abs()
    apart = differences(places).abs().clamp(min=1.0)
    return rho + MU * (1.0 / torch.log2(1.0 + apart) - 1.0 / torch.log2(2.0 + apart))
