"""The losses against their formulas, worked out in plain Python on short lists."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pocketrank_export.losses.distillation import kl
from pocketrank_export.losses.listwise import softmax

List = tuple[Sequence[float], Sequence[float]]  # scores, labels


def entropy(scores: Sequence[float], labels: Sequence[float]) -> float:
    """The docstring's CE of one list without padding."""
    normaliser = math.log(sum(math.exp(score) for score in scores))
    return -sum(label / sum(labels) * (score - normaliser) for score, label in zip(scores, labels, strict=True))


def padded(lists: Sequence[Sequence[float]], length: int, fill: float) -> torch.Tensor:
    return torch.tensor([[*values, *[fill] * (length - len(values))] for values in lists])


@pytest.mark.parametrize("fill", [0.0, 7.0, -50.0])
@pytest.mark.parametrize(
    ("lists", "weights"),
    [
        ([((0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))], [1.0]),
        ([((2.0, -1.0, 0.5), (1.0, 0.0, 1.0))], [0.3]),
        ([((2.0, -1.0, 0.5), (3.0, 0.0, 1.0)), ((5.0,), (1.0,))], [1.0, 1.0]),
        ([((2.0, -1.0), (0.0, 4.0)), ((1.0, 2.0, 3.0), (1.0, 1.0, 1.0)), ((30.0, -30.0), (0.0, 1.0))], [1.0, 2.5, 0.0]),
    ],
)
def test_cross_entropy_is_its_formula_whatever_the_padding_holds(
    lists: list[List], weights: list[float], fill: float
) -> None:
    expected = sum(w * entropy(*one) for w, one in zip(weights, lists, strict=True)) / sum(weights)
    mask = padded([[1.0] * len(scores) for scores, _ in lists], 6, 0.0)
    scores, labels = (
        padded([scores for scores, _ in lists], 6, fill),
        padded([labels for _, labels in lists], 6, abs(fill)),
    )
    assert softmax(scores, labels, mask, torch.tensor(weights)).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_gradient_of_cross_entropy_is_softmax_minus_labels() -> None:
    scores, labels = torch.tensor([[0.3, -1.2, 2.0, 9.0]], requires_grad=True), torch.tensor([[0.0, 2.0, 2.0, 5.0]])
    softmax(scores, labels, torch.tensor([[1.0, 1.0, 1.0, 0.0]]), torch.ones(1)).backward()
    expected = torch.softmax(scores.detach()[:, :3], -1) - torch.tensor([[0.0, 0.5, 0.5]])
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, functional.pad(expected, (0, 1)))


def test_a_slate_without_a_positive_label_adds_neither_loss_nor_weight() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [4.0, -4.0, 0.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor(
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    )  # the last one's label lies in its padding
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    alone = softmax(scores[:1], labels[:1], mask[:1], torch.ones(1))
    torch.testing.assert_close(softmax(scores, labels, mask, torch.tensor([1.0, 5.0, 5.0])), alone)


def test_without_a_positive_label_anywhere_the_loss_and_its_gradient_are_zero() -> None:
    scores = torch.randn(2, 4, requires_grad=True)
    loss = softmax(scores, torch.zeros(2, 4), torch.tensor([[1.0] * 4, [0.0] * 4]), torch.ones(2))
    loss.backward()
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert torch.equal(scores.grad, torch.zeros(2, 4))


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_losses_don_t_depend_on_the_order_of_candidates_or_slates(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, teacher = torch.randn(3, 9, generator=generator), torch.randn(3, 9, generator=generator)
    labels, weights = torch.rand(3, 9, generator=generator), torch.rand(3, generator=generator)
    mask = (torch.rand(3, 9, generator=generator) < 0.7).float()
    columns, rows = torch.randperm(9, generator=generator), torch.randperm(3, generator=generator)

    def moved(values: torch.Tensor) -> torch.Tensor:
        return values[rows][:, columns]

    cross = softmax(scores, labels, mask, weights)
    torch.testing.assert_close(softmax(moved(scores), moved(labels), moved(mask), weights[rows]), cross)
    torch.testing.assert_close(kl(moved(scores), moved(teacher), moved(mask), 2.0), kl(scores, teacher, mask, 2.0))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_softened_divergence_of_the_real_candidates(temperature: float) -> None:
    student, teacher = torch.randn(2, 5), torch.randn(2, 5)
    mask = torch.tensor([[1.0] * 5, [1.0, 1.0, 1.0, 0.0, 0.0]])
    expected = sum(
        functional.kl_div(
            torch.log_softmax(student[row, :real] / temperature, -1),
            torch.log_softmax(teacher[row, :real] / temperature, -1),
            reduction="sum",
            log_target=True,
        )
        for row, real in ((0, 5), (1, 3))
    )
    torch.testing.assert_close(kl(student, teacher, mask, temperature), temperature**2 * expected / 2)
    student[1, 3:], teacher[1, 3:] = 40.0, -40.0
    torch.testing.assert_close(kl(student, teacher, mask, temperature), temperature**2 * expected / 2)


def test_distillation_is_zero_for_scores_that_differ_by_a_constant() -> None:
    teacher = torch.randn(4, 6)
    assert kl(teacher + 3.0, teacher, torch.ones(4, 6), 2.0).abs() < 1e-5


def test_distillation_skips_slates_of_padding() -> None:
    student, teacher, mask = torch.randn(2, 4), torch.randn(2, 4), torch.tensor([[1.0] * 4, [0.0] * 4])
    torch.testing.assert_close(kl(student, teacher, mask), kl(student[:1], teacher[:1], mask[:1]))
    assert kl(student, teacher, torch.zeros(2, 4)).item() == 0.0


def test_distillation_teaches_the_student_alone() -> None:
    student, teacher = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    kl(student, teacher, torch.ones(2, 4)).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
