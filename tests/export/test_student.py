"""The student's laws: what standardising, padding, order and private columns do and don't change."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pocketrank.errors import InputError
from pocketrank.runtime import Model
from pocketrank.scorer import input_name
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.conversion.training import to_tflite_train
from pocketrank_export.losses.listwise import softmax
from pocketrank_export.ranker import trainables
from pocketrank_export.student import (
    CLIP,
    SIZES,
    Embedding,
    Normalization,
    Student,
    normalise_backbone,
    standardise,
    widths_for,
)
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
    backbone = model.backbone(standardise(features, mask), mask)
    linear = (standardise(features, mask) * model.head.weight[:-1]).sum(-1)
    torch.testing.assert_close(model(features, mask), linear + model.head.weight[-1] * backbone)


def test_normalising_the_backbone_changes_its_scale_and_no_score() -> None:
    model, features, mask = student(), torch.randn(50, 12, 6), torch.ones(50, 12)
    before = model(features, mask)
    normalise_backbone(model, features, mask)
    torch.testing.assert_close(model(features, mask), before)
    deviation = model.backbone(standardise(features, mask), mask).std(dim=1, unbiased=False).mean()
    torch.testing.assert_close(deviation, torch.tensor(1.0))


def test_only_the_head_is_trainable_on_a_device() -> None:
    assert trainables(student()) == [("head.weight", (7,)), ("head.lift", (8, 3))]
    assert input_name("head.weight") == "head_weight"


@pytest.mark.parametrize(("public", "widths"), [((), (4,)), ((True,), (0,)), ((True,), (4, -1))])
def test_impossible_sizes_are_refused(public: tuple[bool, ...], widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        Student(public, widths)


@pytest.mark.parametrize("columns", [1, 7, 30, 46, 136])
@pytest.mark.parametrize("size", SIZES)
def test_a_named_size_is_the_widest_that_stays_within_it(size: str, columns: int) -> None:
    def count(widths: tuple[int, int]) -> int:
        return sum(value.numel() for value in Student([True] * columns, widths).parameters())

    width, half = widths_for(size, columns)
    assert half == width // 2
    assert count((width, half)) <= SIZES[size] < count((width + 1, (width + 1) // 2))
    named = Student([True] * columns, size)
    assert [layer.out_features for layer in named.layers] == [width, half, 1]


def test_very_many_columns_leave_a_least_width() -> None:
    assert widths_for("tiny", 1000) == (8, 4)


def test_a_named_size_counts_columns_that_are_normalised_both_ways_twice() -> None:
    assert Student([True] * 30, "small", normalization="both").layers[0].out_features == widths_for("small", 60)[0]


@pytest.mark.parametrize(("size", "columns"), [("large", 3), ("tiny", 0), ("tiny", -1)])
def test_impossible_named_sizes_are_refused(size: str, columns: int) -> None:
    with pytest.raises(InputError, match="expected"):
        widths_for(size, columns)


def skewed(seed: int, slates: int = 20, count: int = 9) -> tuple[Tensor, Tensor]:
    """Slates whose columns differ in place and size, from slate to slate too; their padding holds anything."""
    rng = np.random.default_rng(seed)
    features = rng.lognormal(size=(slates, count, 6)) * [0.01, 1, 300, 5, 7, 9] + [0, 5, 1990, 1, 2, 3]
    features += rng.normal(size=(slates, 1, 6))
    features[..., 4] = 1990.1
    mask = (np.arange(count) < rng.integers(2, count + 1, slates)[:, None]).astype(np.float32)
    features[mask == 0] = 1e5
    return torch.tensor(features, dtype=torch.float32), torch.from_numpy(mask)


def normalising(normalization: Normalization, seed: int = 0) -> Student:
    torch.manual_seed(seed)
    made = Student(PUBLIC, (8, 4), normalization=normalization).eval()
    for value in made.head.parameters():
        torch.nn.init.normal_(value)
    made.fit_normalization(*skewed(1))
    return made


def test_constants_are_the_mean_and_deviation_of_all_real_candidates_clipped() -> None:
    model = normalising("constants")
    measured, mask = skewed(1)
    rows = measured[mask > 0].double().numpy()
    features, given_mask = skewed(2)
    deviation = np.where(rows.std(0) > 1e-3, rows.std(0), np.inf)  # a constant column becomes 0
    expected = np.clip((features.double().numpy() - rows.mean(0)) / deviation, -CLIP, CLIP)
    expected *= given_mask.numpy()[..., None]
    np.testing.assert_allclose(model.normalise(features, given_mask).numpy(), expected, atol=2e-3)
    assert np.abs(expected).max() == CLIP


def test_both_ways_stand_side_by_side() -> None:
    features, mask = skewed(3)
    both = normalising("both").normalise(features, mask)
    assert torch.equal(both[..., :6], standardise(features, mask))
    assert torch.equal(both[..., 6:], normalising("constants").normalise(features, mask))


def sparse(seed: int, slates: int = 60, count: int = 9) -> tuple[Tensor, Tensor]:
    """Slates whose columns are there more or less often: always, never, hardly ever, half, a tenth of the time."""
    rng = np.random.default_rng(seed)
    there = rng.random((slates, count, 6)) < [1.0, 0.0, 0.004, 0.5, 0.1, 0.9]
    features = rng.normal([3, 1, 1, -2, 50, 7], [1, 1, 1, 0.1, 9, 0], (slates, count, 6)) * there
    mask = (np.arange(count) < rng.integers(2, count + 1, slates)[:, None]).astype(np.float32)
    return torch.tensor(features * mask[..., None], dtype=torch.float32), torch.from_numpy(mask)


def test_sparse_columns_are_read_by_their_own_values_and_then_by_whether_there_is_one() -> None:
    model = Student(PUBLIC, (8, 4), normalization="sparse")
    features, mask = sparse(1)
    model.fit_normalization(features, mask)
    rows = features[mask > 0].double().numpy()
    given_, given_mask = sparse(2)
    x = given_.double().numpy()
    expected = np.zeros((*x.shape[:2], 12))
    for column in range(6):
        values = rows[rows[:, column] != 0, column]
        share = len(values) / len(rows)
        if len(values) and values.std() > 1e-3:
            standard = np.clip((x[..., column] - values.mean()) / values.std(), -CLIP, CLIP)
            expected[..., column] = np.where(x[..., column] != 0, standard, 0)
        if 0.01 < share < 0.99:
            scale = 0.5 / max(np.sqrt(share * (1 - share)), 0.15)
            expected[..., 6 + column] = ((x[..., column] != 0) - share) * scale
    expected *= given_mask.numpy()[..., None]
    np.testing.assert_allclose(model.normalise(given_, given_mask).numpy(), expected, atol=2e-4)
    told = np.abs(expected[..., 6:]).max(axis=(0, 1)) > 0
    assert told.tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("normalization", get_args(Normalization))
def test_head_lift_and_backbone_read_their_columns_however_they_are_normalised(normalization: Normalization) -> None:
    model, (features, mask) = normalising(normalization), skewed(4)
    normalised = model.normalise(features, mask)
    blocks = list(normalised.split(6, dim=-1))
    assert len(blocks) == (2 if normalization in ("both", "sparse") else 1)
    public = torch.tensor(PUBLIC)
    first, second, last = model.layers
    assert model.head.lift is not None
    read = torch.cat([block * public for block in blocks], dim=-1)
    lifted = torch.cat([block[..., ~public] for block in blocks], dim=-1) @ model.head.lift.T
    backbone = last(second((first(read) + lifted).relu()).relu()).squeeze(-1)
    expected = torch.cat([normalised, backbone.unsqueeze(-1)], dim=-1) @ model.head.weight * mask
    torch.testing.assert_close(model(features, mask), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("normalization", get_args(Normalization))
def test_padding_order_and_private_columns_count_as_little_however_columns_are_normalised(
    normalization: Normalization,
) -> None:
    model, (features, mask) = normalising(normalization), skewed(5)
    scores = model(features, mask)
    order = torch.randperm(9)
    torch.testing.assert_close(model(features[:, order], mask[:, order]), scores[:, order], atol=2e-4, rtol=1e-4)
    other = torch.where(mask.unsqueeze(-1) > 0, features, -3.0)
    assert torch.equal(model(other, mask), scores)
    assert not scores[mask == 0].any()
    fresh = heads.none(model)
    hidden = torch.where(torch.tensor(PUBLIC), features, features * 9 + 1)
    assert torch.equal(heads.score(model, features, mask, fresh), heads.score(model, hidden, mask, fresh))
    assert not torch.equal(model(hidden, mask), scores)


@pytest.mark.parametrize("normalization", get_args(Normalization))
def test_normalising_the_backbone_changes_no_score_however_columns_are_normalised(normalization: Normalization) -> None:
    model, (features, mask) = normalising(normalization), skewed(6)
    before = model(features, mask)
    normalise_backbone(model, features, mask)
    torch.testing.assert_close(model(features, mask), before, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("normalization", ["constants", "both", "sparse"])
def test_a_student_whose_constants_were_forgotten_scores_nothing(normalization: Normalization) -> None:
    assert Student(PUBLIC, (4,), normalization=normalization)(*skewed(7)).isnan().all()


def test_constants_are_kept_with_the_weights() -> None:
    model, other = normalising("both"), Student(PUBLIC, (8, 4), normalization="both")
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(*skewed(8)), model(*skewed(8)))
    assert {"mean", "inverse_deviation"}.isdisjoint(name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("features", "mask"),
    [
        (torch.ones(2, 3, 6), torch.zeros(2, 3)),
        (torch.ones(2, 3, 5), torch.ones(2, 3)),
        (torch.full((2, 3, 6), torch.nan), torch.ones(2, 3)),
    ],
)
def test_what_no_constants_can_be_measured_on_is_refused(features: Tensor, mask: Tensor) -> None:
    with pytest.raises(InputError, match="features: expected"):
        Student(PUBLIC, (4,), normalization="constants").fit_normalization(features, mask)


def test_an_unknown_normalization_is_refused() -> None:
    with pytest.raises(InputError, match="normalization: expected one of"):
        Student(PUBLIC, normalization="batch")  # type: ignore[arg-type]


BLOCKS = (True, True, True, True, False, True, True)
"""Columns 1 to 3 and 5 to 6 are one-hot."""


def embedding(normalization: Normalization = "slate") -> tuple[Student, list[Embedding]]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tables = [
        Embedding(1, rng.normal(size=(3, 2)).astype(np.float32)),
        Embedding(5, rng.normal(size=(2, 4)).astype(np.float32)),
    ]
    made = Student(BLOCKS, (8, 4), normalization=normalization, embeddings=tables).eval()
    for value in made.head.parameters():
        torch.nn.init.normal_(value)
    made.fit_normalization(*one_hot(1))
    return made, tables


def one_hot(seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(3, 8, 7)).astype(np.float32)
    features[..., 1:4] = np.eye(3)[rng.integers(3, size=(3, 8))]
    features[..., 5:7] = np.eye(2)[rng.integers(2, size=(3, 8))]
    mask = (np.arange(8) < np.array([[8], [5], [2]])).astype(np.float32)
    return torch.from_numpy(features * mask[..., None]), torch.from_numpy(mask)


@pytest.mark.parametrize("normalization", get_args(Normalization))
def test_the_backbone_reads_the_vector_of_a_category_instead_of_its_columns(normalization: Normalization) -> None:
    model, tables = embedding(normalization)
    features, mask = one_hot(2)
    features = torch.where(mask.unsqueeze(-1) > 0, features, 7.0)  # padding holds anything
    normalised = model.normalise(features, mask)
    found = model.read(features, normalised, mask)
    kept = torch.cat([block[..., [0, 4]] for block in normalised.split(7, dim=-1)], dim=-1).numpy()
    vectors = [
        np.asarray(table.table, np.float32)[features[..., table.start : table.start + len(table.table)].argmax(-1)]
        for table in tables
    ]
    expected = np.concatenate([kept, *(vector * mask.numpy()[..., None] for vector in vectors)], axis=-1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert model.layers[0].in_features == found.shape[-1]


def test_a_table_is_neither_trained_nor_a_parameter_of_devices() -> None:
    model, _ = embedding()
    model.choose_trainable("all")
    assert not [name for name, _ in model.named_parameters() if "table" in name]
    assert not [name for name, _ in trainables(model) if "table" in name]
    before = model.state_dict()["table_1"].clone()
    model(*one_hot(3)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert torch.equal(model.state_dict()["table_1"], before)
    assert dict(trainables(model))["head.weight"] == (8,)
    assert dict(trainables(model))["head.lift"] == (8, 1)


def test_no_embedded_student_reads_a_private_column_before_its_head_learned_of_it() -> None:
    model, _ = embedding("both")
    features, mask = one_hot(4)
    other = features.clone()
    other[..., 4] += torch.rand(3, 8)
    fresh = heads.none(model)
    assert torch.equal(heads.score(model, features, mask, fresh), heads.score(model, other, mask, fresh))
    assert not torch.equal(model(features, mask), model(other, mask))


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ([Embedding(-1, np.ones((2, 2), np.float32))], "public columns among 7"),
        ([Embedding(5, np.ones((3, 2), np.float32))], "public columns among 7"),
        ([Embedding(3, np.ones((2, 2), np.float32))], "public columns among 7"),
        ([Embedding(1, np.ones((2, 2), np.float32)), Embedding(2, np.ones((2, 1), np.float32))], "share no column"),
        ([Embedding(1, np.ones(2, np.float32))], "table"),
        ([Embedding(1, np.ones((2, 0), np.float32))], "table"),
        ([Embedding(1, np.full((2, 2), np.nan, np.float32))], "table"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(embeddings: list[Embedding], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Student(BLOCKS, embeddings=embeddings)


def test_constants_and_frozen_vectors_convert() -> None:
    model, _ = embedding("both")
    features, mask = one_hot(9)
    expected = model(features, mask).detach()
    converted = Model(to_tflite_rank(model, [8]))
    for row, real in enumerate(mask):
        found = converted.run("rank_8", features=features[row].numpy(), mask=real.numpy(), **heads.own(model))
        np.testing.assert_allclose(found["scores"], expected[row], atol=2e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_device_may_train_all_but_the_frozen_vectors() -> None:
    model, _ = embedding("both")
    model.choose_trainable("all")
    features, mask = one_hot(9)
    labels = torch.zeros_like(mask)
    labels[:, 1] = 1.0
    stepped = Model(to_tflite_train(model, *mask.shape)).run(
        "train",
        features=features.numpy(),
        labels=labels.numpy(),
        mask=mask.numpy(),
        weights=np.ones(len(mask), np.float32),
        learning_rate=np.array(0.1, np.float32),
        **heads.own(model),
    )
    softmax(model(features, mask), labels, mask, torch.ones(len(mask))).backward()
    for name, value in model.named_parameters():
        assert value.grad is not None
        expected = (value - 0.1 * value.grad).detach()
        np.testing.assert_allclose(stepped[input_name(name)], expected, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("trainable", ["heads", "", ["head.weight", "gone"]])
def test_what_no_parameter_is_called_is_not_trainable(trainable: str | list[str]) -> None:
    with pytest.raises(InputError, match="trainable: no parameters"):
        student().choose_trainable(trainable)


def test_one_parameter_may_be_trainable_by_its_name() -> None:
    model = student()
    model.choose_trainable(["layers.1.bias", "head.weight"])
    assert trainables(model) == [("layers.1.bias", (4,)), ("head.weight", (7,))]
