"""Fit a ranker to slates, stopping early on validation nDCG@10; distil one from a teacher's scores."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each, score
from pocketrank_export.losses.distillation import kl
from pocketrank_export.losses.listwise import softmax
from pocketrank_export.training.recipe import Recipe

Progress = Callable[[float], None]
"""Told the share of the work that is done, 0 to 1."""


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
            loss = softmax(scores, labels, mask, torch.ones(len(rows)))
            if soft is not None:
                taught = kl(scores, soft[rows], mask, recipe.temperature)
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
