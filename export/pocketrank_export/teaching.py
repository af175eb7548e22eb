"""The teachers that a configuration names: fitted here, or read from what was made elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from pocketrank.bundle import load_arrays, save_arrays
from pocketrank.durable import write_atomically
from pocketrank_export import config
from pocketrank_export.data.dataset import Split
from pocketrank_export.teachers.attention import AttentionRanker
from pocketrank_export.teachers.lambdamart import Booster, fit_lambdamart
from pocketrank_export.teachers.normalisation import Constants
from pocketrank_export.teachers.onnx import OnnxTeacher
from pocketrank_export.teachers.pointwise import CrossRanker, MlpRanker
from pocketrank_export.teachers.stored import StoredScores
from pocketrank_export.teachers.teacher import Module, Teacher
from pocketrank_export.training.fit import Progress, fit
from pocketrank_export.training.logger import Logger

MAX_WEIGHTS_BYTES = 1 << 30


def teach(
    name: str,
    entry: config.AnyTeacher,
    split: Split,
    file: Path,
    *,
    seed: int,
    progress: Progress = lambda _: None,
    log: Logger | None = None,
) -> Teacher:
    """The teacher ``name`` of a configuration's ``entry``; what was fitted is kept in ``file``, and read from there.

    Raises:
        InputError: The entry does not fit the data, or a file that it names does not hold what it should.
        ExtraMissingError: LightGBM or onnxruntime is not installed.
    """
    match entry:
        case config.TreesTeacher():
            if not file.is_file():
                settings = dataclasses.replace(entry.settings, seed=seed)
                booster = fit_lambdamart(split.train.slates, split.validation.slates, settings, progress)
                write_atomically(file, booster.text.encode())
            return Booster.load(file, name)
        case config.BoosterTeacher():
            return Booster.load(entry.path, name)
        case config.OnnxTeacher():
            return OnnxTeacher.load(entry.path, name)
        case config.StoredTeacher():
            return StoredScores(name, entry.train, entry.validation, entry.test)
        case config.AttentionTeacher() | config.PointwiseTeacher():
            torch.manual_seed(seed)
            module = _module(entry, split)
            if not file.is_file():
                slates, validation = split.train.slates, split.validation.slates
                checkpoint = file.with_suffix(".checkpoint.npz")
                recipe = entry.recipe(seed)
                fit(module, slates, validation, recipe, progress=progress, checkpoint=checkpoint, log=log)
                keep(module, file)
                checkpoint.unlink(missing_ok=True)
            return Module(name, restored(module, file))


def keep(module: nn.Module, file: Path) -> None:
    """Write the weights of ``module`` to ``file``, whole or not at all."""
    write_atomically(file, save_arrays({name: value.numpy() for name, value in module.state_dict().items()}))


def restored(module: nn.Module, file: Path) -> nn.Module:
    """``module`` with the weights that ``keep`` wrote."""
    arrays = load_arrays(file.read_bytes(), max_bytes=MAX_WEIGHTS_BYTES)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    return module.eval()


def _module(entry: config.AttentionTeacher | config.PointwiseTeacher, split: Split) -> nn.Module:
    """The untrained ranker of an entry, its constants measured on what is trained on."""
    width = len(split.train.schema.columns)
    constants = None if entry.normalization == "slate" else Constants.of(split.train.slates)
    within_slate = entry.normalization != "constants"
    if isinstance(entry, config.AttentionTeacher):
        return AttentionRanker(
            [True] * width,
            width=entry.width,
            layers=entry.layers,
            heads=entry.heads,
            dropout=entry.dropout,
            constants=constants,
            within_slate=within_slate,
        )
    kind = MlpRanker if entry.kind == "mlp" else CrossRanker
    return kind(width, constants=constants, within_slate=within_slate, dropout=entry.dropout)
