"""The models of the demo: the one that ships, and the two that privacy forbids, to compare with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from examples.movielens.schema import SCHEMA
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import score
from pocketrank_export.grid import on_int8_grid
from pocketrank_export.student import Student, normalise_backbone
from pocketrank_export.teachers.attention import AttentionRanker
from pocketrank_export.teaching import keep, restored
from pocketrank_export.training.fit import fit
from pocketrank_export.training.recipe import Recipe

Tell = Callable[[float], None]
M = TypeVar("M", bound=nn.Module)

PUBLIC = (~SCHEMA.private_columns).tolist()
"""The columns that v1 may read."""
ALL = [True] * len(PUBLIC)


def teacher(
    folder: Path, readable: list[bool], slates: tuple[Slates, Slates], recipe: Recipe, tell: Tell
) -> AttentionRanker:
    """A listwise attention teacher of the columns in ``readable``; fitted once, then read from ``folder``."""
    torch.manual_seed(recipe.seed)
    return _kept(folder, AttentionRanker(readable), lambda model: fit(model, *slates, recipe, progress=tell), tell)


def student(
    folder: Path,
    readable: list[bool],
    slates: tuple[Slates, Slates],
    recipe: Recipe,
    tell: Tell,
    *,
    taught_by: AttentionRanker | None = None,
) -> Student:
    """A student whose backbone reads the columns in ``readable``, distilled from a teacher where there is one."""
    train, validation = slates

    def make(model: Student) -> None:
        taught = None if taught_by is None else score(taught_by, train)
        with on_int8_grid(model):
            fit(model, train, validation, recipe, teacher=taught, progress=tell)
        normalise_backbone(model, torch.from_numpy(train.features), torch.from_numpy(train.mask))

    torch.manual_seed(recipe.seed)
    return _kept(folder, Student(readable), make, tell)


def _kept(file: Path, model: M, make: Callable[[M], object], tell: Tell) -> M:
    """``model`` made once; its weights are kept in ``file``."""
    if file.is_file():
        restored(model, file)
    else:
        make(model)
        keep(model, file)
    tell(1.0)
    return model.eval()
