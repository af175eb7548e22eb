"""Synthetic slates: what stands in them, what does not, and that only a teacher's losses read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

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
from pocketrank_export.training.synthesis import Mixing, Partners, synthesise

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


def origin(made: Slates, row: int) -> int:
    """The real slate that a synthetic one was made of, by its own column."""
    return int(made.features[row, made.mask[row] > 0][0, -1]) - 1


@given(st.integers(0, 10_000))
def test_each_crossed_value_is_one_of_its_column_in_the_same_slate(seed: int) -> None:
    real = slates(seed)
    made = synthesise(real, np.random.default_rng(seed), 8)
    for row in range(8):
        source = origin(made, row)
        np.testing.assert_array_equal(made.mask[row], real.mask[source])
        held = made.mask[row] > 0
        for column in range(WIDTH):
            values = real.features[source, real.mask[source] > 0, column]
            assert np.isin(made.features[row, held, column], values).all()


@given(st.integers(0, 10_000))
def test_a_crossed_candidate_is_of_two_real_ones(seed: int) -> None:
    real = slates(seed)
    made = synthesise(real, np.random.default_rng(seed), 4)
    for row in range(4):
        source = origin(made, row)
        for place in np.flatnonzero(made.mask[row]):
            mixed = made.features[row, place]
            alike = mixed == real.features[source]
            first = alike[place]
            others = alike[real.mask[source] > 0] | first
            assert others.all(axis=1).any(), "what is not of the candidate in its place is of one other"


@given(st.integers(0, 10_000), st.sampled_from(get_args(Partners)))
def test_each_interpolated_candidate_lies_between_two_real_ones(seed: int, partners: Partners) -> None:
    real = slates(seed, count=3, size=5)
    made = synthesise(real, np.random.default_rng(seed), 4, mixing="interpolation", partners=partners)
    ends = real.features[real.mask > 0]
    low = np.minimum(ends[:, None], ends[None])
    high = np.maximum(ends[:, None], ends[None])
    for mixed in made.features[made.mask > 0]:
        inside = ((low <= mixed) & (mixed <= high)).all(axis=2)
        # One share for all features: what is left of the one end is proportional to the way to the other.
        way, gone = ends[None] - ends[:, None], mixed - ends[:, None]
        share = np.clip((way * gone).sum(-1) / np.maximum((way * way).sum(-1), 1e-9), 0, 1)
        error = np.abs(gone - share[..., None] * way).max(axis=-1)
        assert error[inside].min() < 1e-3


def test_mixtures_are_new_and_use_both_parents_alike() -> None:
    real = slates(3, count=4, size=40)
    real = real.where(real.mask.sum(axis=1) >= 20)
    for mixing in get_args(Mixing):
        made = synthesise(real, np.random.default_rng(0), 50, mixing=mixing)
        rows = [origin(made, row) for row in range(50)]
        assert set(rows) == set(np.flatnonzero(real.mask.any(axis=1)))
        same = (made.features == real.features[rows])[made.mask > 0][:, :-1]
        # A coin for each feature; a candidate may be its own partner.
        expected = 0.5 if mixing == "crossover" else 0.0
        assert same.mean() == pytest.approx(expected, abs=0.06)
        assert same.all(axis=1).mean() == pytest.approx(expected**3, abs=0.06)


def test_partners_of_the_slate_keep_what_is_alike_within_it_and_any_partner_does_not() -> None:
    real = slates(4, count=5)
    kept, broken = (
        synthesise(real, np.random.default_rng(1), 30, partners=partners) for partners in get_args(Partners)
    )
    assert all(len(set(row[real_ > 0, -1])) == 1 for row, real_ in zip(kept.features, kept.mask, strict=True))
    assert any(len(set(row[real_ > 0, -1])) > 1 for row, real_ in zip(broken.features, broken.mask, strict=True))
    for column in range(WIDTH):
        values = real.features[..., column][real.mask > 0]
        assert np.isin(broken.features[..., column][broken.mask > 0], values).all()


@pytest.mark.parametrize("mixing", get_args(Mixing))
def test_neither_labels_nor_padding_are_read(mixing: Mixing) -> None:
    real = slates(5)
    padded = real.features + 1e6 * (1 - real.mask[..., None])
    other = dataclasses.replace(real, features=padded, labels=np.full_like(real.labels, np.nan))
    one, two = (synthesise(given_, np.random.default_rng(2), 20, mixing=mixing) for given_ in (real, other))
    np.testing.assert_array_equal(one.features, two.features)
    assert not one.features[one.mask == 0].any()
    assert not one.labels.any()


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
        ({"mixing": "noise"}, "mixing"),
        ({"partners": "all"}, "partners"),
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
