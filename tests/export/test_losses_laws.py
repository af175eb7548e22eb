"""What holds of every loss: padding, order, finite gradients, unbiasedness under position bias, operators."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

from pocketrank.errors import InputError
from pocketrank_export.losses.mixture import LABEL_LOSSES, TEACHER_LOSSES

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]  # scores, labels or teacher, mask, weights, chances
WEIGHED = ("softmax", "ranknet", "lambda_ndcg", "approx_ndcg")


def of_labels(name: str, *, weighed: bool) -> Loss:
    return lambda s, y, m, w, p: LABEL_LOSSES[name](s, y, m, w, p if weighed else None)


def of_teacher(name: str) -> Loss:
    keywords = {"k": 3} if name == "top_k" else {}
    return lambda s, t, m, w, _: TEACHER_LOSSES[name](s, t, m, 1.5, w, **keywords)


LOSSES: dict[str, Loss] = {
    **{name: of_labels(name, weighed=False) for name in LABEL_LOSSES},
    **{f"{name} with propensities": of_labels(name, weighed=True) for name in WEIGHED},
    **{name: of_teacher(name) for name in TEACHER_LOSSES},
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def drawn(seed: int, *, ties: bool = True) -> list[Tensor]:
    """Scores, labels, mask, weights and propensities of 3 slates of 7; float64, candidates dropped anywhere."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    return [
        scores.round() if ties else scores,
        torch.randint(0, 4, (3, 7), generator=generator).double(),
        (torch.rand(3, 7, generator=generator) < 0.7).double(),
        torch.rand(3, generator=generator).double(),
        torch.rand(3, 7, generator=generator).double(),
    ]


@each_loss
@given(seed=st.integers(0, 10_000), junk=st.floats(-1e6, 1e6))
@settings(max_examples=15)
def test_padding_changes_neither_a_loss_nor_its_gradient(loss: Loss, seed: int, junk: float) -> None:
    scores, labels, mask, weights, chances = drawn(seed)
    gradient, value = grad_and_value(loss)(scores, labels, mask, weights, chances)
    hidden = torch.where(mask > 0, chances, 1.0)
    filled = [torch.where(mask > 0, values, other) for values, other in ((scores, junk), (labels, abs(junk)))]
    other_gradient, other_value = grad_and_value(loss)(filled[0], filled[1], mask, weights, hidden)
    torch.testing.assert_close(other_value, value)
    torch.testing.assert_close(other_gradient, gradient)
    assert torch.equal(gradient * (1 - mask), torch.zeros(3, 7).double())
    longer = [torch.cat([values, torch.full((3, 2), abs(junk)).double()], dim=1) for values in (scores, labels)]
    longer += [torch.cat([mask, torch.zeros(3, 2).double()], dim=1), weights, torch.cat([chances, chances[:, :2]], 1)]
    torch.testing.assert_close(loss(*longer), value)


@each_loss
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_the_order_of_candidates_and_of_slates_changes_nothing(loss: Loss, seed: int) -> None:
    start = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    columns, rows = torch.randperm(7, generator=generator), torch.randperm(3, generator=generator)
    moved = [values[rows] if values.ndim == 1 else values[rows][:, columns] for values in start]
    gradient, value = grad_and_value(loss)(*start)
    moved_gradient, moved_value = grad_and_value(loss)(*moved)
    torch.testing.assert_close(moved_value, value)
    torch.testing.assert_close(moved_gradient, gradient[rows][:, columns])


@each_loss
def test_a_slate_of_weight_zero_or_of_padding_changes_nothing(loss: Loss) -> None:
    scores, labels, mask, weights, chances = drawn(3)
    alone = loss(scores[:2], labels[:2], mask[:2], weights[:2], chances[:2])
    silent = torch.tensor([1.0, 1.0, 0.0]).double()
    torch.testing.assert_close(loss(scores, labels, mask, weights * silent, chances), alone)
    torch.testing.assert_close(loss(scores, labels, mask * silent[:, None], weights, chances), alone)
    torch.testing.assert_close(loss(scores, labels, mask, weights * 7.0, chances), loss(*drawn(3)))


ROW = torch.tensor([[1.0, 0.0, 2.0, 0.0]])
CASES = {
    "padding": (ROW, ROW, torch.zeros(1, 4)),
    "one candidate": (ROW, ROW, torch.tensor([[1.0, 0.0, 0.0, 0.0]])),
    "one candidate without a label": (ROW, ROW, torch.tensor([[0.0, 1.0, 0.0, 0.0]])),
    "ties": (torch.zeros(1, 4), ROW, torch.ones(1, 4)),
    "ties of labels": (ROW, torch.ones(1, 4), torch.ones(1, 4)),
    "no label": (ROW, torch.zeros(1, 4), torch.ones(1, 4)),
    "extreme, in order": (torch.tensor([[1e4, -1e4, 1e4, -1e4]]), ROW, torch.ones(1, 4)),
    "extreme, out of order": (torch.tensor([[-1e4, 1e4, -1e4, 1e4]]), 1e4 * ROW, torch.ones(1, 4)),
}


@each_loss
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_finite(loss: Loss, case: str) -> None:
    gradient, value = grad_and_value(loss)(*CASES[case], torch.ones(1), torch.full((1, 4), 0.001))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    if case == "padding" or (case == "no label" and loss not in [LOSSES[name] for name in TEACHER_LOSSES]):
        assert value == 0
        assert not gradient.any()
    assert value >= -1e-6


@each_loss
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    scores, *others = drawn(11, ties=False)
    assert torch.autograd.gradcheck(lambda s: loss(s, *others), (scores.requires_grad_(),))


@pytest.mark.parametrize("name", TEACHER_LOSSES)
def test_no_gradient_flows_into_the_teacher(name: str) -> None:
    student, teacher = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    TEACHER_LOSSES[name](student, teacher, torch.ones(2, 4)).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.any()


# --------------------------------------------------------------------------------------------------- position bias

SCORES = torch.tensor([[0.4, -0.3, 1.1], [0.2, 0.9, -1.0]]).double()
RELEVANCE = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]).double()
CHANCES = torch.tensor([[1.0, 0.5, 0.3], [0.9, 0.4, 0.2]]).double()


def expected(loss: Callable[[Tensor], Tensor]) -> float:
    """Expectation of a loss of clicks, over all ways in which the six places are looked at or not."""
    total = 0.0
    for looked in itertools.product((0.0, 1.0), repeat=6):
        seen = torch.tensor(looked).double().reshape(2, 3)
        chance = torch.where(seen > 0, CHANCES, 1 - CHANCES).prod().item()
        total += chance * loss(seen * RELEVANCE).item()
    return total


@pytest.mark.parametrize("name", WEIGHED)
def test_propensities_make_the_loss_of_clicks_that_of_full_information_in_expectation(name: str) -> None:
    loss = partial(LABEL_LOSSES[name], SCORES)
    everything, weights = torch.ones(2, 3).double(), torch.tensor([1.0, 2.5]).double()
    full = loss(RELEVANCE, everything, weights, everything).item()  # every place looked at
    assert expected(lambda clicks: loss(clicks, everything, weights, CHANCES)) == pytest.approx(full, rel=1e-9)
    assert expected(lambda clicks: loss(clicks, everything, weights, everything)) < 0.9 * full


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_labels_divided_by_propensities_beforehand_don_t_make_a_loss_unbiased(name: str) -> None:
    # So the losses take propensities: whatever divides by a slate's labels, or picks pairs by them, stays biased.
    loss = partial(LABEL_LOSSES[name], SCORES)
    everything, weights = torch.ones(2, 3).double(), torch.ones(2).double()
    full = loss(RELEVANCE, everything, weights).item()
    assert abs(expected(lambda clicks: loss(clicks / CHANCES, everything, weights)) / full - 1) > 0.005


def test_listmle_refuses_propensities_rather_than_be_biased() -> None:
    with pytest.raises(InputError, match=r"listmle: takes no propensities.*use softmax"):
        LABEL_LOSSES["listmle"](*drawn(0))


# ------------------------------------------------------------------------------------------------------- operators


@pytest.mark.parametrize("name", ["softmax", "ranknet", "softmax with propensities", "ranknet with propensities"])
def test_what_devices_train_with_indexes_gathers_scatters_and_sorts_nothing(name: str) -> None:
    traced = make_fx(grad_and_value(LOSSES[name]))(*(values.float() for values in drawn(0)))
    used = {str(node.target) for node in traced.graph.nodes if node.op == "call_function"}
    assert "aten.mul.Tensor" in used
    banned = ("index", "gather", "scatter", "sort", "topk", "nonzero", "masked", "where", "eye", "arange")
    assert not [target for target in used if any(word in target for word in banned)]
