"""Synthetic slates: what stands in them, what does not, and that only a teacher's losses read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank_export.data.slates import Slates
from pocketrank_export.losses.mixture import LABEL_LOSSES, TEACHER_LOSSES, Term
from pocketrank_export.student import Student
from pocketrank_export.training import synthesis
from pocketrank_export.training.fit import fit
from pocketrank_export.training.recipe import Recipe
from pocketrank_export.training.synthesis import synthesise

WIDTH = 4


def slates(seed: int, count: int = 6, size: int = 9) -> Slates:
    """Slates of any lengths, none too; the last column is the slate's own, the same for all its candidates."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, size + 1, count)
    lengths[rng.integers(count)] = size
    mask = rng.permuted(np.arange(size) < lengths[:, None], axis=1).astype(np.float32)
    features = rng.normal(scale=50, size=(count, size, WIDTH)).astype(np.float32)
    features[..., -1] = np.arange(1, count + 1)[:, None]
    labels = rng.integers(0, 3, (count, size)) * mask
    return Slates(features * mask[..., None], labels, mask)


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_the_first_half_is_of_values_of_real_candidates_and_the_lengths_are_those_of_real_slates(
    seed: int, count: int
) -> None:
    real = slates(seed)
    made = synthesise(real, np.random.default_rng(seed), count)
    assert len(made) == count
    masks = {row.tobytes() for row in real.mask if row.any()}
    assert all(row.tobytes() in masks for row in made.mask)
    crossed = made.where(np.arange(count - count // 2))
    for column in range(WIDTH):
        values = real.features[..., column][real.mask > 0]
        assert np.isin(crossed.features[..., column][crossed.mask > 0], values).all()


def test_crossing_takes_each_feature_by_a_coin_from_one_of_two_candidates() -> None:
    """Of every candidate the columns are powers of one number, so that one tells who it is from."""
    identity = np.arange(1.0, 201.0).reshape(5, 40)
    features = np.stack([identity, 2 * identity, 3 * identity, 4 * identity], axis=-1).astype(np.float32)
    real = Slates(features, np.zeros((5, 40), np.float32), np.ones((5, 40), np.float32))
    made = synthesise(real, np.random.default_rng(0), 200)
    owners = made.features[:100] / np.arange(1, WIDTH + 1, dtype=np.float32)
    of_place = np.isclose(owners, np.sort(owners, axis=-1)[..., :1]) | np.isclose(
        owners, owners.max(axis=-1)[..., None]
    )
    assert of_place.all(), "two parents at most"
    mixed = owners.min(axis=-1) != owners.max(axis=-1)
    # Of four coins, all alike in one of eight.
    assert mixed.mean() == pytest.approx(1 - 0.5**3, abs=0.02)
    slate = (owners - 1) // 40
    assert (slate.min(axis=-1) != slate.max(axis=-1))[mixed].mean() == pytest.approx(0.8, abs=0.03), "of any slate"


def test_noise_is_normal_with_a_part_of_each_columns_deviation_and_leaves_constant_columns() -> None:
    rng = np.random.default_rng(1)
    features = (rng.normal(size=(1, 400, WIDTH)) * (0.5, 1.0, 50.0, 0.0) + (0, 5, 0, 7.1)).astype(np.float32)
    ones = np.ones((1, 400), np.float32)
    made = synthesise(Slates(features, ones, ones), np.random.default_rng(2), 100)
    noise = made.features[50:] - features[0]
    deviation = features[0].std(axis=0)
    # A factor that is uniform from 0 to 1 has the second moment 1/3; of a normal, the fourth moment is 3.
    np.testing.assert_allclose((noise[..., :3] ** 2).mean(axis=(0, 1)), deviation[:3] ** 2 / 3, rtol=0.05)
    np.testing.assert_allclose(
        (noise[..., :3] ** 4).mean(axis=(0, 1)), deviation[:3] ** 4 * 3 / 5, rtol=0.15, err_msg="the factor is drawn"
    )
    assert abs(noise[..., :3].mean(axis=(0, 1)) / deviation[:3]).max() < 0.02
    assert not noise[..., 3].any()


def test_neither_labels_nor_padding_are_read() -> None:
    real = slates(5)
    padded = real.features + 1e6 * (1 - real.mask[..., None])
    other = dataclasses.replace(real, features=padded, labels=np.full_like(real.labels, np.nan))
    one, two = (synthesise(given_, np.random.default_rng(2), 20) for given_ in (real, other))
    np.testing.assert_array_equal(one.features, two.features)
    assert not one.features[one.mask == 0].any()
    assert not one.labels.any()


def test_the_real_slates_stay_as_they_are() -> None:
    real = slates(5)
    before = real.features.copy()
    synthesise(real, np.random.default_rng(2), 20)
    np.testing.assert_array_equal(real.features, before)


def test_they_join_with_real_slates_that_have_every_field() -> None:
    real = slates(6)
    real = dataclasses.replace(
        real, relevant=np.full(len(real), 3), propensities=np.full(real.mask.shape, 0.5, np.float32)
    )
    made = synthesise(real, np.random.default_rng(3), 4)
    joined = Slates.joined([real, made])
    assert len(joined) == len(real) + 4
    assert joined.has_relevant.tolist() == [True] * len(real) + [False] * 4
    assert made.propensities is not None
    assert (made.propensities == 1).all()
    assert made.features.dtype == made.labels.dtype == made.mask.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count"),
        ({"count": synthesis.MAX_NUMBERS // (9 * WIDTH) + 1}, "count"),
        ({"slates": dataclasses.replace(slates(0), mask=np.zeros((6, 9), np.float32))}, "slates"),
    ],
)
def test_what_can_not_be_made_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}: expected"):
        synthesise(**{"slates": slates(0), "rng": np.random.default_rng(0), "count": 1, **options})


class Losses:
    """Keeps the loss of each epoch."""

    def __init__(self) -> None:
        self.kept: list[float] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        del step
        self.kept.append(values["loss"])


def losses(train: Slates, *terms: Term) -> list[float]:
    """The loss before each of four steps over all of ``train``, whose teacher is a sum of columns."""
    student, log = Student([True] * WIDTH, (5,)), Losses()
    for number, value in enumerate(student.parameters()):
        value.data.copy_(torch.linspace(-0.3, 0.2 + 0.1 * number, value.numel()).reshape(value.shape))
    recipe = Recipe(epochs=4, learning_rate=0.05, weight_decay=0.0, batch=100, losses=terms)
    fit(student, train, slates(8), recipe, teacher=train.features[..., :-1].sum(axis=-1) / 50, log=log)
    return log.kept


@pytest.mark.parametrize("beside", [(), (Term("kl", weight=1e-12),)], ids=["alone", "beside a teacher's"])
@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_losses_of_labels_learn_nothing_from_synthetic_slates(name: str, beside: tuple[Term, ...]) -> None:
    """Beside a teacher's loss of next to no weight all slates are read, and the labels' own rule has to skip them."""
    real = slates(7)
    both = Slates.joined([real, synthesise(real, np.random.default_rng(4), 30)])
    alone, mixed = (losses(train, Term(name), *beside) for train in (real, both))
    assert alone[0] != pytest.approx(alone[-1], rel=0.01)
    assert mixed == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("name", TEACHER_LOSSES)
def test_losses_of_a_teacher_learn_from_synthetic_slates(name: str) -> None:
    real = slates(7)
    both = Slates.joined([real, synthesise(real, np.random.default_rng(4), 30)])
    assert losses(both, Term(name)) != pytest.approx(losses(real, Term(name)), rel=1e-3)
