"""A student trained on the int8 grid loses nothing when it is quantized."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.runtime import Model
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.grid import LEVELS, Int8Grid, on_int8_grid
from pocketrank_export.quantization.recipes import weight_int8
from pocketrank_export.student import Embedding, Student
from tests.export import heads

PUBLIC = [True, True, False, True, False]


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_rounding_moves_a_weight_by_half_a_step_and_the_largest_not_at_all(seed: int, scale: float) -> None:
    weight = torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=(4, 7)).astype(np.float32))
    rounded = Int8Grid()(weight)
    step = weight.abs().amax(dim=1, keepdim=True) / LEVELS
    assert ((rounded - weight).abs() <= step * 0.5001).all()
    torch.testing.assert_close(Int8Grid()(rounded), rounded)
    torch.testing.assert_close(rounded.abs().amax(dim=1), weight.abs().amax(dim=1))


def test_the_gradient_passes_straight_through() -> None:
    weight = torch.randn(3, 5, requires_grad=True)
    Int8Grid()(weight).sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones(3, 5))


def test_a_layer_of_zeros_stays_zero() -> None:
    assert not Int8Grid()(torch.zeros(2, 3)).any()


def test_a_student_trained_on_the_grid_scores_the_same_when_quantized() -> None:
    torch.manual_seed(0)
    student = Student(PUBLIC, (8, 4))
    features, mask = torch.randn(6, 16, 5), torch.ones(6, 16)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    with on_int8_grid(student):
        for _ in range(5):
            student(features, mask).pow(2).mean().backward()
            optimiser.step()
    student.eval()
    exact = to_tflite_rank(student, [16])
    inputs = {"features": features[0].numpy(), "mask": mask[0].numpy(), **heads.own(student)}
    of_float, of_int8 = (Model(file).run("rank_16", **inputs)["scores"] for file in (exact, weight_int8(exact)))
    np.testing.assert_allclose(of_int8, of_float, atol=1e-5)
    np.testing.assert_allclose(of_float, student(features[0], mask[0]).detach().numpy(), atol=1e-5)


def test_an_error_inside_leaves_an_ordinary_student() -> None:
    student = Student(PUBLIC, (4,))
    with pytest.raises(ZeroDivisionError), on_int8_grid(student):
        _ = 1 / 0
    assert {name for name in student.state_dict() if "parametrizations" in name} == set()


def test_frozen_vectors_are_left_on_the_grid_too() -> None:
    table = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    torch.manual_seed(0)
    student = Student(PUBLIC, (8, 4), embeddings=[Embedding(0, table)])
    with on_int8_grid(student):
        torch.testing.assert_close(student.table_0, Int8Grid()(torch.from_numpy(table.T)))
    student.eval()
    features = torch.cat([torch.eye(2).repeat(8, 1), torch.randn(16, 3)], dim=1).numpy()
    inputs = {"features": features, "mask": np.ones(16, np.float32), **heads.own(student)}
    exact = to_tflite_rank(student, [16])
    of_float, of_int8 = (Model(file).run("rank_16", **inputs)["scores"] for file in (exact, weight_int8(exact)))
    np.testing.assert_allclose(of_int8, of_float, atol=1e-5)
