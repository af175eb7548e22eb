"""The losses against the formulas of their docstrings, in loops of plain Python over short lists without padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from pocketrank.metrics import ndcg
from pocketrank.propensity import MIN_PROPENSITY
from pocketrank_export.losses.distillation import kl, margin_mse, top_k
from pocketrank_export.losses.listwise import approx_ndcg, listmle, softmax
from pocketrank_export.losses.pairwise import lambda_ndcg, ranknet

Floats = Sequence[float]
Reference = Callable[[Floats, Floats], float | None]  # scores, labels; None: the slate doesn't count
Weighted = Callable[[Floats, Floats], float]  # scores, labels over their propensities


def logistic(margin: float) -> float:
    return math.log(1 + math.exp(-margin))


def discount(place: float) -> float:
    return 1 / math.log2(1 + place)


def best_dcg(labels: Floats) -> float:
    return sum(label * discount(place) for place, label in enumerate(sorted(labels, reverse=True), 1))


def pairs(labels: Floats) -> list[tuple[int, int]]:
    """Better and worse of each pair."""
    return [(i, j) for i, j in itertools.permutations(range(len(labels)), 2) if labels[i] > labels[j]]


def places(scores: Floats) -> list[float]:
    """Mean of the first and the last place that candidates with this score take."""
    ordered = sorted(scores, reverse=True)
    return [(ordered.index(s) + 1 + len(ordered) - ordered[::-1].index(s)) / 2 for s in scores]


def swap(scores: Floats, i: int, j: int) -> float:
    """What NDCG-Loss2++ adds for a pair, before the gains."""
    at = places(scores)
    apart = max(abs(at[i] - at[j]), 1)
    rho = abs(discount(at[i]) - discount(at[j]))
    return (rho + 10 * (discount(apart) - discount(apart + 1))) * logistic(scores[i] - scores[j]) / math.log(2)


def smooth_place(scores: Floats, i: int, temperature: float) -> float:
    return 1 + sum(1 / (1 + math.exp((scores[i] - s) / temperature)) for j, s in enumerate(scores) if j != i)


def log_softmax(scores: Floats, i: int) -> float:
    return scores[i] - math.log(sum(math.exp(s) for s in scores))


def ranknet_of(scores: Floats, labels: Floats) -> float | None:
    found = [logistic(scores[i] - scores[j]) for i, j in pairs(labels)]
    return sum(found) / len(found) if found else None


def lambda_of(scores: Floats, labels: Floats) -> float | None:
    found = [(labels[i] - labels[j]) / best_dcg(labels) * swap(scores, i, j) for i, j in pairs(labels)]
    return sum(found) if found else None


def listmle_of(scores: Floats, labels: Floats) -> float | None:
    """Draw each candidate that isn't of the lowest label from those that are not above it."""
    found = [
        math.log(sum(math.exp(s) for s, other in zip(scores, labels, strict=True) if other <= label)) - score
        for score, label in zip(scores, labels, strict=True)
        if label > min(labels)
    ]
    return sum(found) / len(found) if found else None


def approx_of(scores: Floats, labels: Floats, temperature: float = 1.0) -> float | None:
    if not any(labels):
        return None
    found = sum(label * discount(smooth_place(scores, i, temperature)) for i, label in enumerate(labels))
    return 1 - found / best_dcg(labels)


def softmax_weighed(scores: Floats, wanted: Floats) -> float:
    return -sum(gain * log_softmax(scores, i) for i, gain in enumerate(wanted))


def ranknet_weighed(scores: Floats, wanted: Floats) -> float:
    pairwise = itertools.permutations(range(len(wanted)), 2)
    return sum(wanted[i] * logistic(scores[i] - scores[j]) for i, j in pairwise) / max(len(wanted) - 1, 1)


def lambda_weighed(scores: Floats, wanted: Floats) -> float:
    return sum(wanted[i] * swap(scores, i, j) for i, j in itertools.permutations(range(len(wanted)), 2))


def approx_weighed(scores: Floats, wanted: Floats) -> float:
    return sum(gain * (1 - discount(smooth_place(scores, i, 1.0))) for i, gain in enumerate(wanted))


SLATES: list[tuple[Floats, Floats]] = [
    ((0.3, -1.2, 2.0), (0.0, 1.0, 0.0)),
    ((1.5, 0.2, -0.7, 0.4), (3.0, 1.0, 0.0, 7.0)),
    ((0.5, 0.5, -1.0, 0.5, 2.0), (0.0, 1.0, 1.0, 3.0, 0.0)),  # ties of scores and of labels
    ((0.0, 0.0, 0.0), (0.0, 2.0, 0.0)),
    ((2.0, -1.0), (1.0, 1.0)),  # nothing to order
    ((0.4, 0.1, -0.3), (0.0, 0.0, 0.0)),
    ((0.7,), (1.0,)),
]


def batch(slates: Sequence[Sequence[Floats]], fill: float = 0.0) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Each column of ``slates`` as a float64 tensor padded with ``fill`` to 7, and the mask."""
    columns = [[[*values, *[fill] * (7 - len(values))] for values in column] for column in zip(*slates, strict=True)]
    mask = [[1.0] * len(first) + [0.0] * (7 - len(first)) for first, *_ in slates]
    return [torch.tensor(column, dtype=torch.float64) for column in columns], torch.tensor(mask, dtype=torch.float64)


@pytest.mark.parametrize("fill", [0.0, 9.0])
@pytest.mark.parametrize(
    ("loss", "reference"),
    [(ranknet, ranknet_of), (lambda_ndcg, lambda_of), (listmle, listmle_of), (approx_ndcg, approx_of)],
)
def test_a_loss_of_labels_is_the_weighted_mean_of_its_formula_over_the_slates_that_count(
    loss: Callable[..., torch.Tensor], reference: Reference, fill: float
) -> None:
    weights = [0.5, 2.0, 1.0, 0.0, 3.0, 5.0, 0.7]
    found = [(weight, reference(*slate)) for weight, slate in zip(weights, SLATES, strict=True)]
    expected = sum(w * f for w, f in found if f is not None) / sum(w for w, f in found if f is not None)
    (scores, labels), mask = batch(SLATES, fill)
    assert loss(scores, labels, mask, torch.tensor(weights, dtype=torch.float64)).item() == pytest.approx(
        expected, rel=1e-9
    )
    for row, (_, each) in enumerate(found):
        alone = loss(scores[row : row + 1], labels[row : row + 1], mask[row : row + 1], torch.ones(1)).item()
        assert alone == pytest.approx(each or 0.0, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("loss", "reference", "least"),
    [
        (softmax, softmax_weighed, 1),
        (ranknet, ranknet_weighed, 2),
        (lambda_ndcg, lambda_weighed, 2),
        (approx_ndcg, approx_weighed, 1),
    ],
)
def test_a_loss_with_propensities_is_its_formula_over_all_slates_and_floors_them(
    loss: Callable[..., torch.Tensor], reference: Weighted, least: int
) -> None:
    chances = (1.0, 0.5, 0.25, 0.01, 0.2)
    weights = [0.5, 2.0, 1.0, 0.0, 3.0, 5.0, 0.7]
    counted = [(w, s, y) for w, (s, y) in zip(weights, SLATES, strict=True) if len(s) >= least]
    expected = sum(
        w * reference(s, [label / max(p, MIN_PROPENSITY) for label, p in zip(y, chances, strict=False)])
        for w, s, y in counted
    ) / sum(w for w, _, _ in counted)
    (scores, labels), mask = batch(SLATES, 9.0)
    propensities = torch.tensor([[*chances, 0.0, 1.0]], dtype=torch.float64).expand(len(SLATES), 7)
    found = loss(scores, labels, mask, torch.tensor(weights, dtype=torch.float64), propensities).item()
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_losses_of_a_teacher_are_their_formulas(temperature: float) -> None:
    slates = [((0.3, -1.2, 2.0), (4.0, 1.0, 0.5)), ((1.5, 0.2, -0.7, 0.4, 0.0), (0.1, 2.0, 0.3, 2.0, -9.0))]
    weights = [0.5, 2.0]
    (student, teacher), mask = batch([*slates, ((1.0,), (2.0,))], 9.0)
    weighted = torch.tensor([*weights, 0.0], dtype=torch.float64)

    def margins(s: Floats, t: Floats) -> float:
        found = [(s[i] - s[j] - (t[i] - t[j]) / temperature) ** 2 for i, j in itertools.combinations(range(len(s)), 2)]
        return sum(found) / len(found)

    def best(s: Floats, t: Floats, k: int) -> float:
        taught = [score for score in t if score >= sorted(t, reverse=True)[min(k, len(t)) - 1]]
        weight = {i: math.exp(score / temperature) for i, score in enumerate(t) if score in taught}
        shares = {i: each / sum(weight.values()) for i, each in weight.items()}
        softened = [score / temperature for score in s]
        return temperature**2 * sum(p * (math.log(p) - log_softmax(softened, i)) for i, p in shares.items())

    def mean(each: Callable[[Floats, Floats], float]) -> float:
        return sum(w * each(*slate) for w, slate in zip(weights, slates, strict=True)) / sum(weights)

    found = margin_mse(student, teacher, mask, temperature, weighted).item()
    assert found == pytest.approx(mean(margins), rel=1e-9)
    for k in (1, 2, 3, 9):  # of the second slate two tie for the first place
        found = top_k(student, teacher, mask, temperature, weighted, k).item()
        assert found == pytest.approx(mean(lambda s, t, k=k: best(s, t, k)), rel=1e-9)  # type: ignore[misc]
    found = kl(student, teacher, mask, temperature, weighted).item()
    assert found == pytest.approx(mean(lambda s, t: best(s, t, 99)), rel=1e-9)


@pytest.mark.parametrize("margin", [-30.0, -0.5, 0.0, 3.0])
def test_ranknet_of_two_is_the_logistic_loss_of_their_margin(margin: float) -> None:
    scores = torch.tensor([[margin, 0.0]], requires_grad=True)
    loss = ranknet(scores, torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), torch.ones(1))
    loss.backward()
    slope = -1 / (1 + math.exp(margin))
    assert loss.item() == pytest.approx(logistic(margin), rel=1e-6)
    assert scores.grad is not None
    assert scores.grad.tolist() == [pytest.approx([slope, -slope], rel=1e-6)]


def test_listmle_of_distinct_labels_is_the_likelihood_of_their_order() -> None:
    scores, labels = [0.3, -1.2, 2.0, 0.9], [1.0, 3.0, 0.0, 2.0]
    left, likelihood = [score for _, score in sorted(zip(labels, scores, strict=True), reverse=True)], 1.0
    while left:
        likelihood *= math.exp(left[0]) / sum(map(math.exp, left))
        left = left[1:]
    found = listmle(torch.tensor([scores]), torch.tensor([labels]), torch.ones(1, 4), torch.ones(1))
    assert found.item() == pytest.approx(-math.log(likelihood) / 3, rel=1e-6)


def test_approximate_ndcg_nears_one_minus_ndcg_as_the_temperature_falls() -> None:
    scores, labels = [0.3, -1.2, 2.0, 0.9], [1.0, 3.0, 0.0, 2.0]
    in_order = [label for _, label in sorted(zip(scores, labels, strict=True), reverse=True)]
    wanted = 1 - ndcg(np.array(in_order), k=4)
    errors = [
        abs(
            approx_ndcg(
                torch.tensor([scores]), torch.tensor([labels]), torch.ones(1, 4), torch.ones(1), temperature=t
            ).item()
            - wanted
        )
        for t in (1.0, 0.2, 0.01)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


def test_lambda_ndcg_prefers_the_better_order_and_weighs_swaps_at_the_top_most() -> None:
    labels, steps = torch.tensor([3.0, 2.0, 1.0, 0.0]), torch.tensor([1.5, 0.5, -0.5, -1.5])

    def loss(order: Sequence[int]) -> float:
        return lambda_ndcg(steps[list(order)][None], labels[None], torch.ones(1, 4), torch.ones(1)).item()

    assert loss([0, 1, 2, 3]) == min(map(loss, itertools.permutations(range(4))))
    assert loss([3, 2, 1, 0]) == max(map(loss, itertools.permutations(range(4))))
    assert loss([1, 0, 2, 3]) > loss([0, 1, 3, 2])


def test_lambda_ndcg_teaches_a_ranker_that_scores_all_the_same() -> None:
    scores = torch.zeros(1, 4, requires_grad=True)
    lambda_ndcg(scores, torch.tensor([[0.0, 2.0, 0.0, 1.0]]), torch.ones(1, 4), torch.ones(1)).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] < scores.grad[0, 3] < 0 < scores.grad[0, 0]


def test_margins_that_differ_by_a_constant_cost_nothing_and_stretched_ones_do() -> None:
    teacher, mask = torch.tensor([[3.0, -1.0, 0.5]]), torch.ones(1, 3)
    assert margin_mse(teacher + 5.0, teacher, mask).item() == 0.0
    assert margin_mse(teacher / 4.0 - 2.0, teacher, mask, 4.0).item() == pytest.approx(0.0, abs=1e-12)
    assert margin_mse(2.0 * teacher, teacher, mask).item() == pytest.approx(2 * teacher.var().item(), rel=1e-6)


def test_the_teachers_best_k_are_the_whole_list_where_k_reaches_its_end() -> None:
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    mask = torch.tensor([[1.0] * 5, [1.0] * 3 + [0.0] * 2, [1.0] * 4 + [0.0]])
    torch.testing.assert_close(top_k(student, teacher, mask, 2.0, None, 5), kl(student, teacher, mask, 2.0))


def test_below_the_teachers_best_k_its_scores_teach_nothing() -> None:
    student, mask = torch.randn(1, 5), torch.ones(1, 5)
    one, other = torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0]]), torch.tensor([[3.0, 2.0, -7.0, 1.5, 1.0]])
    torch.testing.assert_close(top_k(student, one, mask, k=2), top_k(student, other, mask, k=2))
    assert not torch.allclose(top_k(student, one, mask, k=3), top_k(student, other, mask, k=3))
