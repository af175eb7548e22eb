"""The student's laws: what standardising, padding, order and private columns do and don't change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrank.errors import InputError
from pocketrank.scorer import input_name
from pocketrank_export.ranker import trainables
from pocketrank_export.student import CLIP, Student, normalise_backbone, standardise
from tests.export import heads

PUBLIC = (True, False, True, False, True, False)


def student(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    made = Student(PUBLIC, (8, 4)).eval()
    torch.nn.init.normal_(made.head.weight)
    assert made.head.lift is not None
    torch.nn.init.normal_(made.head.lift)
    return made


@given(st.integers(0, 10_000), st.integers(2, 40))
@settings(max_examples=25, deadline=None)
def test_standardising_is_the_masked_mean_and_deviation_clipped(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_t(2, size=(count, 3)) * [0.01, 1.0, 300.0] + [0.0, 5.0, 1990.0]).astype(np.float32)
    exact = values.astype(np.float64)
    expected = np.clip((exact - exact.mean(0)) / exact.std(0), -CLIP, CLIP)
    np.testing.assert_allclose(standardise(torch.tensor(values), torch.ones(count)).numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 23.0, 1990.0, 1e6, -1.7e9])
def test_a_constant_column_becomes_zero(value: float) -> None:
    features = torch.full((100, 2), value)
    features[:, 1] = torch.arange(100.0)
    result = standardise(features, torch.ones(100))
    assert result[:, 0].abs().max() < 1e-3
    assert result[:, 1].std() == pytest.approx(1.0, abs=0.01)


def test_a_slate_of_padding_scores_zero() -> None:
    scores = student()(torch.randn(3, 7, 6), torch.zeros(3, 7))
    assert torch.equal(scores, torch.zeros(3, 7))


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(0, 30), st.floats(-1e6, 1e6, width=32))
@settings(max_examples=40, deadline=None)
def test_padding_never_changes_a_score(seed: int, count: int, padding: int, fill: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 6, generator=generator)
    padded = torch.cat([features, torch.full((padding, 6), fill)])
    mask = torch.cat([torch.ones(count), torch.zeros(padding)])
    place = torch.randperm(count + padding, generator=generator)
    model = student()
    alone = model(features, torch.ones(count))
    scores = torch.empty(count + padding)
    scores[place] = model(padded[place], mask[place])
    torch.testing.assert_close(scores[:count], alone, atol=2e-4, rtol=1e-4)
    assert torch.equal(scores[count:], torch.zeros(padding))


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_scores_follow_a_permutation_of_the_candidates(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 6, generator=generator)
    order = torch.randperm(count, generator=generator)
    model = student()
    torch.testing.assert_close(
        model(features[order], torch.ones(count)), model(features, torch.ones(count))[order], atol=2e-4, rtol=1e-4
    )


def test_a_batch_scores_as_its_slates_do_alone() -> None:
    features, mask = torch.randn(4, 9, 6), (torch.arange(9) < torch.tensor([[9], [4], [1], [0]])).float()
    model = student()
    torch.testing.assert_close(
        model(features, mask), torch.stack([model(one, real) for one, real in zip(features, mask, strict=True)])
    )


def test_no_private_column_counts_before_the_head_learned_of_it() -> None:
    model, features, mask = student(), torch.randn(1, 12, 6), torch.ones(1, 12)
    other = torch.where(torch.tensor(PUBLIC), features, torch.randn(1, 12, 6) * 9)
    fresh = heads.none(model)
    assert torch.equal(heads.score(model, features, mask, fresh), heads.score(model, other, mask, fresh))
    for name, value in fresh.items():
        learned = fresh | {name: value + np.float32(0.5)}
        changed = heads.score(model, features, mask, learned) - heads.score(model, other, mask, learned)
        assert changed.abs().max() > 1e-3, f"{name} must read private columns"


def test_the_score_is_linear_beside_the_backbone() -> None:
    model, features, mask = student(), torch.randn(2, 5, 6), torch.ones(2, 5)
    backbone = model.backbone(standardise(features, mask))
    linear = (standardise(features, mask) * model.head.weight[:-1]).sum(-1)
    torch.testing.assert_close(model(features, mask), linear + model.head.weight[-1] * backbone)


def test_normalising_the_backbone_changes_its_scale_and_no_score() -> None:
    model, features, mask = student(), torch.randn(50, 12, 6), torch.ones(50, 12)
    before = model(features, mask)
    normalise_backbone(model, features, mask)
    torch.testing.assert_close(model(features, mask), before)
    deviation = model.backbone(standardise(features, mask)).std(dim=1, unbiased=False).mean()
    torch.testing.assert_close(deviation, torch.tensor(1.0))


def test_only_the_head_is_trainable_on_a_device() -> None:
    assert trainables(student()) == [("head.weight", (7,)), ("head.lift", (8, 3))]
    assert input_name("head.weight") == "head_weight"


@pytest.mark.parametrize(("public", "widths"), [((), (4,)), ((True,), (0,)), ((True,), (4, -1))])
def test_impossible_sizes_are_refused(public: tuple[bool, ...], widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        Student(public, widths)
