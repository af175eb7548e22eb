"""Mixtures of losses: their sum, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pocketrank.errors import InputError
from pocketrank_export.losses.distillation import kl, margin_mse, top_k
from pocketrank_export.losses.listwise import approx_ndcg, softmax
from pocketrank_export.losses.mixture import LABEL_LOSSES, TEACHER_LOSSES, Term, mixture

SCORES, TEACHER, LABELS = torch.randn(2, 5), 4 * torch.randn(2, 5), torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0]] * 2)
MASK, WEIGHTS = torch.tensor([[1.0] * 5, [1.0] * 4 + [0.0]]), torch.tensor([1.0, 0.4])
CHANCES = torch.tensor([[1.0, 0.5, 0.4, 0.3, 0.2]] * 2)


def test_a_mixture_is_the_weighted_sum_of_its_terms_with_their_settings() -> None:
    terms = (
        Term("softmax", 0.3),
        Term("approx_ndcg", 2.0, temperature=0.1),
        Term("kl", 0.7, temperature=3.0),
        Term("margin_mse", 0.1, temperature=4.0),
        Term("top_k", 1.5, temperature=2.0, k=2),
    )
    wanted = (
        0.3 * softmax(SCORES, LABELS, MASK, WEIGHTS, CHANCES)
        + 2.0 * approx_ndcg(SCORES, LABELS, MASK, WEIGHTS, CHANCES, 0.1)
        + 0.7 * kl(SCORES, TEACHER, MASK, 3.0, WEIGHTS)
        + 0.1 * margin_mse(SCORES, TEACHER, MASK, 4.0, WEIGHTS)
        + 1.5 * top_k(SCORES, TEACHER, MASK, 2.0, WEIGHTS, 2)
    )
    torch.testing.assert_close(mixture(terms)(SCORES, LABELS, TEACHER, MASK, WEIGHTS, CHANCES), wanted)


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_one_loss_of_labels_needs_neither_teacher_nor_propensities(name: str) -> None:
    found = mixture([Term(name)])(SCORES, LABELS, None, MASK, WEIGHTS, None)
    torch.testing.assert_close(found, LABEL_LOSSES[name](SCORES, LABELS, MASK, WEIGHTS))


@pytest.mark.parametrize("name", TEACHER_LOSSES)
def test_a_loss_of_a_teacher_without_its_scores_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: needs a teacher's scores.*give a teacher.*softmax"):
        mixture([Term("softmax"), Term(name)])(SCORES, LABELS, None, MASK, WEIGHTS, None)


def test_names_are_those_of_the_contract() -> None:
    assert set(LABEL_LOSSES) == {"softmax", "ranknet", "lambda_ndcg", "listmle", "approx_ndcg"}
    assert set(TEACHER_LOSSES) == {"kl", "margin_mse", "top_k"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "softmaxx"}, r"no loss 'softmaxx'; choose from softmax, .*top_k"),
        ({"name": "softmax", "weight": 0.0}, r"softmax: weight: .* got 0.0; leave the loss out"),
        ({"name": "softmax", "weight": -1.0}, r"weight: expected a finite number above 0, got -1"),
        ({"name": "softmax", "weight": math.nan}, r"weight: .*nan"),
        ({"name": "softmax", "weight": math.inf}, r"weight: .*inf"),
        ({"name": "kl", "temperature": 0.0}, r"kl: temperature: .* got 0.0; 1 leaves scores as they are"),
        ({"name": "kl", "temperature": math.nan}, r"kl: temperature: .*nan"),
        ({"name": "top_k", "k": 0}, r"top_k: k: expected 1 or more .* got 0"),
        ({"name": "ranknet", "temperature": 2.0}, r"ranknet: temperature: this loss takes none, got 2.0; leave it out"),
        ({"name": "kl", "k": 3}, r"kl: k: this loss takes none, got 3"),
    ],
)
def test_a_term_that_can_t_be_computed_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Term(**settings)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected one or more, got none.*softmax"):
        mixture([])
