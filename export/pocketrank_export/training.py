"""Fit a ranker to slates, stopping early on validation nDCG@10; distil one from a teacher's scores."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pocketrank.features.profile import Array
from pocketrank.metrics import ndcg
from pocketrank_export.losses import distillation, listwise_cross_entropy
from pocketrank_export.replay import Slates

Progress = Callable[[float], None]
"""Told the share of the work that is done, 0 to 1."""


@dataclass(frozen=True)
class Recipe:
    """How to fit.

    Attributes:
        epochs: Passes over the slates at most; the learning rate follows one cycle over them (Smith and Topin 2017).
        patience: Epochs without a better validation nDCG@10 before stopping.
        distil: Share of the loss that comes from the teacher, 0 to 1.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    batch: int = 32
    patience: int = 5
    distil: float = 0.0
    temperature: float = 1.0
    seed: int = 0


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


def ndcg_each(scores: Array, slates: Slates, *, k: int = 10) -> npt.NDArray[np.float64]:
    """nDCG@k ``[s]`` of each slate ordered by ``scores`` [s, n]; the ideal knows what the first stage missed."""
    labels = np.take_along_axis(slates.labels, ranking(scores, slates.mask), axis=1)
    return np.array([ndcg(row, k=k, relevant=int(n)) for row, n in zip(labels, slates.relevant, strict=True)])


def fit(
    model: nn.Module,
    slates: Slates,
    validation: Slates,
    recipe: Recipe,
    *,
    teacher: Array | None = None,
    progress: Progress = lambda _: None,
) -> float:
    """Train ``model`` in place and leave it at its best epoch.

    Args:
        model: ``(features [b, n, d], mask [b, n]) -> scores [b, n]``.
        slates: What to train on.
        validation: Slates for early stopping; never the test.
        recipe: How.
        teacher: Scores ``[s, n]`` of ``slates`` to distil from, or None.
        progress: Told the share of the work that is done.

    Returns:
        The best validation nDCG@10.
    """
    torch.manual_seed(recipe.seed)
    tensors = [torch.from_numpy(array) for array in (slates.features, slates.labels, slates.mask)]
    soft = None if teacher is None else torch.from_numpy(teacher)
    # Without a teacher a slate without a good outcome teaches nothing.
    useful = torch.arange(len(slates)) if soft is not None else torch.nonzero(tensors[1].any(dim=1)).squeeze(1)
    steps = -(-len(useful) // recipe.batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.1
    )
    best, kept, since = -1.0, copy.deepcopy(model.state_dict()), 0
    for epoch in range(recipe.epochs):
        model.train()
        order = useful[torch.randperm(len(useful))]
        for step, rows in enumerate(order.split(recipe.batch)):
            features, labels, mask = (tensor[rows] for tensor in tensors)
            scores = model(features, mask)
            loss = listwise_cross_entropy(scores, labels, mask, torch.ones(len(rows)))
            if soft is not None:
                taught = distillation(scores, soft[rows], mask, recipe.temperature)
                loss = (1 - recipe.distil) * loss + recipe.distil * taught
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            progress((epoch + (step + 1) / steps) / recipe.epochs)
        found = float(ndcg_each(score(model, validation), validation).mean())
        if found > best:
            best, kept, since = found, copy.deepcopy(model.state_dict()), 0
        elif (since := since + 1) >= recipe.patience:
            break
    model.load_state_dict(kept)
    progress(1.0)
    return best
