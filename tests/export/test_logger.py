"""Curves: what a fit tells, and what TensorBoard reads back."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketrank.errors import ExtraMissingError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each, score
from pocketrank_export.losses.listwise import softmax
from pocketrank_export.student import Student
from pocketrank_export.training.fit import fit
from pocketrank_export.training.logger import TensorBoard
from pocketrank_export.training.recipe import Recipe


def slates(seed: int) -> Slates:
    """Each with something to find."""
    features = np.random.default_rng(seed).normal(size=(32, 6, 3)).astype(np.float32)
    labels = (features[..., 0] > np.minimum(0.5, features[..., 0].max(axis=1, keepdims=True) - 0.1)).astype(np.float32)
    return Slates(features, labels, np.ones_like(labels))


class Kept:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append((step, dict(values)))


@pytest.mark.parametrize("propensities", [None, np.linspace(0.1, 1, 6, dtype=np.float32)[None].repeat(32, 0)])
def test_a_fit_tells_the_figures_of_each_epoch(propensities: Array | None) -> None:
    train, validation = dataclasses.replace(slates(0), propensities=propensities), slates(1)
    chances = None if propensities is None else torch.from_numpy(propensities)
    recipe = Recipe(epochs=3, learning_rate=0.01, weight_decay=0.0, batch=32)
    student, kept = Student([True] * 3, (4,)), Kept()
    tensors = [torch.from_numpy(array) for array in (train.features, train.labels, train.mask)]
    first = softmax(student(tensors[0], tensors[2]), tensors[1], tensors[2], torch.ones(32), chances).item()
    best = fit(student, train, validation, recipe, log=kept)
    assert [step for step, _ in kept.told] == [1, 2, 3]
    assert all(set(values) == {"loss", "validation_ndcg_at_10", "learning_rate"} for _, values in kept.told)
    # One step an epoch: the first loss is that of the model as it was given.
    assert kept.told[0][1]["loss"] == pytest.approx(first, rel=1e-5)
    assert max(values["validation_ndcg_at_10"] for _, values in kept.told) == best
    assert best == ndcg_each(score(student, validation), validation).mean()


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorBoard(tmp_path) as log:
        log.log(1, {"loss": 0.5, "validation_ndcg_at_10": 0.25})
        log.log(2, {"loss": 0.125})
        found = EventAccumulator(str(tmp_path))
        found.Reload()
        assert len(found.Tensors("loss")) == 2, "written when log returns"
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    curves = {
        name: [(event.step, event.tensor_proto.float_val[0]) for event in found.Tensors(name)]
        for name in found.Tags()["tensors"]
    }
    assert curves == {"loss": [(1, 0.5), (2, 0.125)], "validation_ndcg_at_10": [(1, 0.25)]}


def test_a_missing_tensorboard_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ExtraMissingError, match=r'pip install "pocketrank\[tensorboard\]"'):
        TensorBoard(tmp_path)
