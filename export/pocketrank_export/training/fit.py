"""Fit a ranker to slates, stopping early on validation nDCG@10; distil one from a teacher's scores."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pocketrank.errors import InputError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each, score
from pocketrank_export.losses.mixture import TEACHER_LOSSES, mixture
from pocketrank_export.training.checkpoint import Fit, Reached, fingerprint, restore, save
from pocketrank_export.training.logger import Logger
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
    checkpoint: Path | None = None,
    log: Logger | None = None,
) -> float:
    """Train ``model`` in place and leave it at its best epoch, or at the last where ``recipe.patience`` is 0.

    Args:
        model: ``(features [b, n, d], mask [b, n]) -> scores [b, n]``.
        slates: What to train on. One without a positive label is read by the losses of the teacher alone.
        validation: Slates for early stopping; never the test.
        recipe: How.
        teacher: Scores ``[s, n]`` of ``slates`` to distil from, finite; wanted by the recipe's teacher losses alone.
        progress: Told the share of the work that is done.
        checkpoint: File that is written after each epoch and that a fit which was killed goes on from, when it is
            called again with the same arguments; a finished one returns at once. It stays; remove it when done.
        log: Told ``loss`` (mean of the epoch's steps), ``validation_ndcg_at_10`` and ``learning_rate`` of each epoch;
            of the last one again where the fit was killed between telling and the checkpoint.

    Returns:
        The validation nDCG@10 of that epoch.

    Guarantees:
        The same model, slates, recipe, versions and number of threads (``torch.get_num_threads``: sums are split among
        them) give the same weights, byte for byte, in any process, interrupted or not. The caller's random state is
        left as it was.

    Raises:
        InputError: Nothing to learn from or to validate on; a teacher that is missing, of another shape or not finite;
            scores that are not finite after an epoch; a checkpoint of something else.
    """
    lists = _Lists.of(slates, recipe, teacher)
    if not len(validation):
        raise InputError("validation: expected one slate or more, got none")
    steps = -(-len(lists.useful) // recipe.batch)
    with _seeded(recipe.seed):
        optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        total = recipe.epochs * steps
        # A tenth of ten is one step: a way up of no length, by which torch would divide.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.learning_rate, total_steps=total, pct_start=0.11 if total == 10 else 0.1
        )
        state, digest = Fit(model, optimiser, schedule), ""
        reached = Reached(0, -1.0, 0, copy.deepcopy(model.state_dict()))
        if checkpoint is not None:
            digest = fingerprint(recipe, model, [*_arrays(slates), teacher, *_arrays(validation)])
            reached = restore(checkpoint, digest, state) or reached
        while reached.epochs < recipe.epochs and (reached.since < recipe.patience or not recipe.patience):
            rate = float(schedule.get_last_lr()[0])
            lost = 0.0
            for step, loss in enumerate(_epoch(state, lists, recipe), 1):
                lost += loss
                progress((reached.epochs + step / steps) / recipe.epochs)
            found = _quality(model, validation, reached.epochs + 1)
            if found > reached.best or not recipe.patience:
                reached = Reached(reached.epochs + 1, found, 0, copy.deepcopy(model.state_dict()))
            else:
                reached = dataclasses.replace(reached, epochs=reached.epochs + 1, since=reached.since + 1)
            if log is not None:
                log.log(reached.epochs, {"loss": lost / steps, "validation_ndcg_at_10": found, "learning_rate": rate})
            if checkpoint is not None:
                save(checkpoint, digest, state, reached)
    model.load_state_dict(dict(reached.kept))
    progress(1.0)
    return reached.best


@dataclass(frozen=True)
class _Lists:
    """Slates as tensors; ``useful`` are the rows that a loss reads."""

    features: Tensor
    labels: Tensor
    mask: Tensor
    teacher: Tensor | None
    propensities: Tensor | None
    useful: Tensor

    @classmethod
    def of(cls, slates: Slates, recipe: Recipe, teacher: Array | None) -> _Lists:
        """Refuses what nothing can be learned from."""
        soft = None
        if teacher is not None and any(term.name in TEACHER_LOSSES for term in recipe.losses):
            if teacher.shape != slates.mask.shape or not np.isfinite(teacher).all():
                raise InputError(
                    f"teacher: expected finite scores {list(slates.mask.shape)}, got {list(teacher.shape)}; score the "
                    "slates that are trained on"
                )
            soft = torch.from_numpy(np.ascontiguousarray(teacher, np.float32))
        labels = torch.from_numpy(slates.labels)
        # Without a teacher a slate without a good outcome teaches nothing.
        useful = torch.nonzero(labels.any(dim=1)).squeeze(1) if soft is None else torch.arange(len(slates))
        if not len(useful):
            raise InputError(
                f"slates: none of {len(slates)} has a positive label, and there is no teacher to learn from"
            )
        chances = None if slates.propensities is None else torch.from_numpy(slates.propensities)
        return cls(torch.from_numpy(slates.features), labels, torch.from_numpy(slates.mask), soft, chances, useful)


def _epoch(fit: Fit, lists: _Lists, recipe: Recipe) -> Iterator[float]:
    """Pass over the slates once in a random order; the loss of each step."""
    objective = mixture(recipe.losses)
    fit.model.train()
    for rows in lists.useful[torch.randperm(len(lists.useful))].split(recipe.batch):
        mask = lists.mask[rows]
        loss = objective(
            fit.model(lists.features[rows], mask),
            lists.labels[rows],
            None if lists.teacher is None else lists.teacher[rows],
            mask,
            torch.ones(len(rows)),
            None if lists.propensities is None else lists.propensities[rows],
        )
        fit.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(fit.model.parameters(), 1.0)
        fit.optimiser.step()
        fit.schedule.step()
        yield float(loss.detach())


def _quality(model: nn.Module, validation: Slates, epoch: int) -> float:
    """Mean nDCG@10 of the validation slates."""
    scores = score(model, validation)
    if not np.isfinite(scores).all():
        raise InputError(
            f"scores: not finite after epoch {epoch}; look for features that are not finite or constants that were not "
            "measured (Student.fit_normalization), or lower the learning_rate"
        )
    return float(ndcg_each(scores, validation).mean())


def _arrays(slates: Slates) -> list[npt.NDArray[Any] | None]:
    """The arrays of ``slates`` in the order of its fields."""
    return [getattr(slates, field.name) for field in dataclasses.fields(slates)]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` and use algorithms of one order of sums inside; leave torch's global state as it was."""
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(mode=before, warn_only=warns)
