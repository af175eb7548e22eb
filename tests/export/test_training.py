"""Fitting: what is measured, when it stops, and what it leaves behind."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pocketrank.errors import InputError
from pocketrank.features.profile import Array
from pocketrank.metrics import ndcg
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each, score
from pocketrank_export.losses.mixture import Term
from pocketrank_export.student import Student
from pocketrank_export.training.fit import fit
from pocketrank_export.training.recipe import Recipe

RECIPE = Recipe(epochs=12, learning_rate=0.05, weight_decay=0.0, batch=16, patience=4)


def slates(seed: int, count: int = 60, size: int = 12, width: int = 4) -> Slates:
    """Slates whose best candidates are those with the largest first feature; the rest is noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, size, width)).astype(np.float32)
    mask = (np.arange(size) < rng.integers(3, size + 1, count)[:, None]).astype(np.float32)
    features *= mask[..., None]
    first = np.where(mask > 0, features[..., 0], -np.inf)
    labels = (first >= np.sort(first, axis=1)[:, -2:-1]).astype(np.float32) * mask
    return Slates(features, labels, mask, labels.sum(axis=1).astype(np.int64))


def student(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    return Student([True] * 4, (6,))


class Fixed(nn.Module):
    """Scores by one feature, whatever it is taught."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign
        self.weight = nn.Parameter(torch.zeros(1))
        self.epochs = 0

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.sign * features[..., 0] * mask + 0 * self.weight


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_ndcg_of_each_slate_is_that_of_its_real_candidates_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = slates(seed, count=5)
    assert made.relevant is not None
    relevant = made.relevant + rng.integers(0, 4, 5)
    made = dataclasses.replace(made, relevant=relevant)
    scores = rng.normal(size=made.mask.shape).astype(np.float32)
    expected = []
    for row in range(5):
        real = int(made.mask[row].sum())
        ranked = made.labels[row, :real][np.argsort(-scores[row, :real])]
        expected.append(ndcg(ranked, k=10, relevant=int(relevant[row])))
    # What stands in the padding must not count, however high.
    scores[made.mask == 0] = 1e9
    np.testing.assert_allclose(ndcg_each(scores, made), expected)


def test_scores_are_the_models_however_they_are_batched() -> None:
    made, model = slates(1), student()
    expected = model(torch.from_numpy(made.features), torch.from_numpy(made.mask)).detach().numpy()
    for batch in (7, 256):
        np.testing.assert_allclose(score(model, made, batch=batch), expected, atol=1e-5)


def test_fitting_learns_what_makes_a_candidate_good() -> None:
    train, validation = slates(2, 200), slates(3)
    model = student()
    before = ndcg_each(score(model, validation), validation).mean()
    shares: list[float] = []
    best = fit(model, train, validation, RECIPE, progress=shares.append)
    assert best > max(before + 0.1, 0.95)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_model_is_left_at_its_best_epoch() -> None:
    """A rate so high that it gets worse again."""
    train, validation = slates(4), slates(5)
    model = student()
    best = fit(model, train, validation, dataclasses.replace(RECIPE, learning_rate=3.0, epochs=20))
    assert ndcg_each(score(model, validation), validation).mean() == pytest.approx(best, abs=1e-6)


def test_fitting_stops_when_it_gets_no_better() -> None:
    shares: list[float] = []
    recipe = dataclasses.replace(RECIPE, epochs=100, patience=3)
    fit(Fixed(1.0), slates(6), slates(7), recipe, progress=shares.append)
    # The first epoch was the best one; three more, then the end.
    assert shares[-2] == pytest.approx(0.04)


def test_the_same_seed_gives_the_same_model() -> None:
    found = []
    for seed in (1, 1, 2):
        model = student()
        fit(model, slates(8), slates(9), dataclasses.replace(RECIPE, epochs=3, seed=seed))
        found.append(score(model, slates(9)))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_a_student_learns_from_a_teacher_alone() -> None:
    """Labels that say nothing, and a teacher that knows."""
    train, validation = slates(10, 200), slates(11)
    blind = dataclasses.replace(train, labels=np.zeros_like(train.labels))
    model = student()
    recipe = dataclasses.replace(RECIPE, losses=(Term("kl"),))
    best = fit(model, blind, validation, recipe, teacher=score(Fixed(3.0), blind))
    assert best > 0.95


@pytest.mark.parametrize(("losses", "sign"), [((Term("softmax"),), 1.0), ((Term("kl"),), -1.0)])
def test_the_losses_say_whom_to_believe(losses: tuple[Term, ...], sign: float) -> None:
    """A teacher that says the opposite of the labels."""
    train = slates(12, 200)
    model = student()
    recipe = dataclasses.replace(RECIPE, losses=losses, patience=100)
    # Validated by what is to be learned, for it is left at its best epoch.
    validation = train if sign > 0 else opposite(train)
    fit(model, train, validation, recipe, teacher=score(Fixed(-3.0), train))
    features, mask = train.features[:, :, 0], train.mask > 0
    assert np.corrcoef(score(model, train)[mask], features[mask])[0, 1] * sign > 0.5


def opposite(made: Slates) -> Slates:
    first = np.where(made.mask > 0, made.features[..., 0], np.inf)
    labels = (first <= np.sort(first, axis=1)[:, 1:2]).astype(np.float32) * made.mask
    return dataclasses.replace(made, labels=labels)


def test_slates_without_a_good_outcome_teach_nothing() -> None:
    train, validation = slates(13), slates(14)
    silent = dataclasses.replace(slates(15), labels=np.zeros_like(train.labels), relevant=np.zeros_like(train.relevant))
    found = []
    for given_slates in (train, Slates.joined([train, silent])):
        model = student()
        fit(model, given_slates, validation, dataclasses.replace(RECIPE, epochs=2))
        found.append(score(model, validation))
    np.testing.assert_array_equal(found[0], found[1])


def test_slates_without_a_good_outcome_are_read_for_their_teacher() -> None:
    train = slates(16)
    silent = dataclasses.replace(train, labels=np.zeros_like(train.labels))
    with pytest.raises(InputError, match="none of 60 has a positive label"):
        fit(student(), silent, train, RECIPE)
    with pytest.raises(InputError, match="none of 60 has a positive label"):
        # A teacher that no loss reads doesn't make them useful.
        fit(student(), silent, train, RECIPE, teacher=train.features[..., 0])


@pytest.mark.parametrize(
    "teacher", [None, np.zeros((60, 11), np.float32), np.zeros((59, 12), np.float32), np.full((60, 12), np.nan)]
)
def test_a_teacher_that_does_not_fit_is_refused(teacher: Array | None) -> None:
    with pytest.raises(InputError, match="teacher"):
        fit(student(), slates(17), slates(18), dataclasses.replace(RECIPE, losses=(Term("kl"),)), teacher=teacher)


def test_nothing_to_validate_on_is_refused() -> None:
    with pytest.raises(InputError, match="validation: expected"):
        fit(student(), slates(19), slates(20, count=0), RECIPE)


def test_scores_that_are_not_finite_stop_the_fit() -> None:
    train = slates(21)
    forgotten = Student([True] * 4, (6,), normalization="constants")
    with pytest.raises(InputError, match=r"not finite after epoch 1.*fit_normalization"):
        fit(forgotten, train, train, RECIPE)


def test_torchs_own_state_is_left_as_it_was() -> None:
    model = student()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(ZeroDivisionError):
        fit(model, slates(24), slates(25), RECIPE, progress=lambda _: 1 / 0)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch": 0},
        {"patience": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": -0.1},
        {"weight_decay": float("inf")},
    ],
)
def test_a_recipe_out_of_its_bounds_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        dataclasses.replace(RECIPE, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(("epochs", "batch"), [(10, 60), (5, 30), (1, 6), (2, 12), (1, 60), (9, 60), (11, 60)])
def test_any_number_of_steps_makes_a_fit(epochs: int, batch: int) -> None:
    assert (
        fit(student(), slates(1), slates(2), dataclasses.replace(RECIPE, epochs=epochs, batch=batch, patience=99)) > 0
    )


def test_without_patience_all_epochs_run_and_the_last_is_kept() -> None:
    """What is learned is the opposite of what is validated, so that the first epoch is the best."""
    seen: list[float] = []

    class Curve:
        def log(self, step: int, values: Mapping[str, float]) -> None:
            assert step == len(seen) + 1
            seen.append(values["validation_ndcg_at_10"])

    taught, validation = slates(1), slates(2)
    taught = dataclasses.replace(taught, labels=(1 - taught.labels) * taught.mask)
    model = student()
    reached = fit(model, taught, validation, dataclasses.replace(RECIPE, epochs=8, patience=0), log=Curve())
    assert len(seen) == 8
    assert max(seen) > seen[-1]
    assert reached == seen[-1] == pytest.approx(ndcg_each(score(model, validation), validation).mean())
