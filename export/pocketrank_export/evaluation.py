"""How well a ranker orders slates: scores, nDCG@10 of each slate, and how far two scorings agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pocketrank.features.profile import Array
from pocketrank.metrics import agreement, ndcg
from pocketrank_export.data.slates import Slates


def score(model: nn.Module, slates: Slates, *, batch: int = 256) -> Array:
    """Scores ``[s, n]`` of ``slates``."""
    model.eval()
    features, mask = torch.from_numpy(slates.features), torch.from_numpy(slates.mask)
    with torch.no_grad():
        parts = [model(f, m) for f, m in zip(features.split(batch), mask.split(batch), strict=True)]
    return torch.cat(parts).numpy()


def ranking(scores: Array, mask: Array) -> npt.NDArray[np.intp]:
    """Rows of each slate ``[s, n]``, best first; ties keep the given order, padding comes last."""
    return np.argsort(-np.where(mask > 0, scores, -np.inf), axis=1, kind="stable")


def given_order(slates: Slates) -> Array:
    """Scores ``[s, n]`` that leave the candidates of ``slates`` as they were given: the first stage's order."""
    return np.broadcast_to(-np.arange(slates.mask.shape[1], dtype=np.float32), slates.mask.shape)


def ndcg_each(scores: Array, slates: Slates, *, k: int = 10) -> npt.NDArray[np.float64]:
    """nDCG@k ``[s]`` of each slate ordered by ``scores`` [s, n]; the ideal knows what the first stage missed."""
    labels = np.take_along_axis(slates.labels, ranking(scores, slates.mask), axis=1)
    if slates.relevant is None:
        return np.array([ndcg(row, k=k) for row in labels])
    return np.array([ndcg(row, k=k, relevant=int(n)) for row, n in zip(labels, slates.relevant, strict=True)])


def kendall_tau(scores: Array, reference: Array, mask: Array) -> float:
    """Mean over slates of Kendall's tau-a between two scorings ``[s, n]`` of the real candidates; ties count as 0."""
    slates = zip(scores, reference, mask > 0, strict=True)
    return float(np.mean([agreement.kendall_tau(one[real], other[real], variant="a") for one, other, real in slates]))


def same_order(one: Array, other: Array, mask: Array) -> float:
    """Share of slates that two scorings ``[s, n]`` put in exactly the same order."""
    return float((ranking(one, mask) == ranking(other, mask)).all(axis=1).mean())
