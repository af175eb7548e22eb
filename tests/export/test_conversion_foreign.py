"""Modules that this project has never seen: converted whole, on every runtime, or refused in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pocketrank.errors import InputError
from pocketrank_export.conversion.onnx import to_onnx
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.conversion.training import to_tflite_train
from pocketrank_export.losses.listwise import softmax
from pocketrank_export.ranker import Foreign, Ranker
from pocketrank_export.teachers.attention import AttentionRanker
from tests.export import heads

Array = NDArray[np.float32]
WIDTH, SLATE, BATCH, VARIANTS, ROWS, TABLE = 6, 8, 2, 3, 512, 16


class DeepAndCross(nn.Module):
    """Crossed columns beside a deep part, each with an activation or a norm of its own."""

    def __init__(self, width: int = WIDTH, hidden: int = 8) -> None:
        super().__init__()
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.norm = nn.LayerNorm(hidden)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.out = nn.Linear(width + hidden, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        del mask
        crossed = features
        for layer in self.cross:
            crossed = features * layer(crossed) + crossed
        deep = functional.silu(self.second(self.norm(functional.gelu(self.first(features)))))
        scores: Tensor = self.out(torch.cat([crossed, deep], dim=-1)).squeeze(-1)
        return scores


class TwoTower(nn.Module):
    """The cosine of a query and an item, whose kind is looked up in a table by a column."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = nn.Embedding(ROWS, TABLE)
        self.query = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
        self.item = nn.Sequential(nn.Linear(WIDTH - 3 + TABLE, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4))
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        del mask
        kind = self.kinds(features[..., 2].abs().clamp(0, ROWS - 1).long())
        query = functional.normalize(self.query(features[..., :2]), dim=-1)
        item = functional.normalize(self.item(torch.cat([features[..., 3:], kind], dim=-1)), dim=-1)
        scores: Tensor = self.temperature * (query * item).sum(dim=-1)
        return scores


def deep_and_cross() -> Foreign:
    torch.manual_seed(1)
    return Foreign(DeepAndCross(), WIDTH, "all")


def two_tower() -> Foreign:
    """All but its table is trained."""
    torch.manual_seed(2)
    made = TwoTower()
    names = [f"module.{name}" for name, _ in made.named_parameters() if name != "kinds.weight"]
    return Foreign(made, WIDTH, names)


def attention() -> Foreign:
    torch.manual_seed(3)
    return Foreign(AttentionRanker([True] * WIDTH, width=8, layers=1, heads=2), WIDTH, "all")


@dataclass(frozen=True)
class Converted:
    ranker: Ranker
    rank: bytes
    train: bytes
    onnx: bytes


@cache
def converted(make: Callable[[], Foreign]) -> Converted:
    """Kept, for pytest makes a parametrised fixture anew for each device."""
    ranker = make().eval()
    rank = to_tflite_rank(ranker, [SLATE], variants=VARIANTS)
    return Converted(ranker, rank, to_tflite_train(ranker, BATCH, SLATE), to_onnx(ranker))


@pytest.fixture(
    params=[deep_and_cross, two_tower, pytest.param(attention, marks=pytest.mark.slow)],
    ids=["deep and cross", "two tower", "attention"],
)
def stranger(request: pytest.FixtureRequest) -> Converted:
    return converted(request.param)


def slates(count: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, SLATE, WIDTH)).astype(np.float32)
    features[..., 2] = rng.integers(0, ROWS, (count, SLATE)) * 0.01
    mask = (np.arange(SLATE) < rng.integers(1, SLATE + 1, (count, 1))).astype(np.float32)
    return features * mask[..., None], mask


def test_a_stranger_ranks_and_explains_as_pytorch_does(device: Any, stranger: Converted) -> None:
    features, mask = slates(20)
    own = heads.own(stranger.ranker)
    with torch.no_grad():
        expected = stranger.ranker(torch.tensor(features), torch.tensor(mask)).numpy()
    calls = {"features": features, "mask": mask, **heads.repeated(own, len(features))}
    outputs, signatures = device.run(stranger.rank, f"rank_{SLATE}", calls)
    assert set(own) < set(signatures["explain"]["inputs"])
    assert expected.std() > 0.1
    np.testing.assert_allclose(outputs["scores"], expected, rtol=0, atol=1e-5)
    calls = {name: value[None, :VARIANTS] for name, value in (("features", features), ("mask", mask))}
    outputs, _ = device.run(stranger.rank, "explain", calls | heads.repeated(own, 1))
    np.testing.assert_allclose(outputs["scores"][0], expected[:VARIANTS], rtol=0, atol=1e-5)
    session = onnxruntime.InferenceSession(stranger.onnx, providers=["CPUExecutionProvider"])
    for one, real, wanted in zip(features, mask, expected, strict=True):
        n = int(real.sum())
        (scores,) = session.run(["scores"], {"features": one[:n], "mask": real[:n], **own})
        np.testing.assert_allclose(scores, wanted[:n], rtol=0, atol=1e-5)


def test_a_step_of_a_strangers_weights_is_pytorchs(device: Any, stranger: Converted) -> None:
    features, mask = slates(BATCH, seed=4)
    labels = np.zeros_like(mask)
    labels[:, 0] = 1.0
    batch = {"features": features, "labels": labels, "mask": mask, "weights": np.ones(BATCH, np.float32)}
    start, rate = heads.own(stranger.ranker), np.float32(0.1)
    calls = {name: value[None] for name, value in (batch | start).items()} | {"learning_rate": np.array([rate])}
    outputs, _ = device.run(stranger.train, "train", calls)
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    given = {name: torch.tensor(value) for name, value in batch.items()}
    scores = heads.score(stranger.ranker, given["features"], given["mask"], leaves)
    softmax(scores, given["labels"], given["mask"], given["weights"]).backward()
    moved = 0.0
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        np.testing.assert_allclose(outputs[name][0], start[name] - rate * leaf.grad.numpy(), rtol=0, atol=1e-5)
        moved = max(moved, float(leaf.grad.abs().max()))
    assert moved > 1e-2


def test_what_is_not_trained_is_in_a_training_file_once() -> None:
    """Though the step and the loss both read it."""
    assert 4 * ROWS * TABLE < len(converted(two_tower).train) < 2 * 4 * ROWS * TABLE


class Odd(nn.Module):
    """A linear scorer that does ``change`` to what it read."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change
        self.linear = nn.Linear(3, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.change(features, mask)).squeeze(-1)
        return scores


def ranked(ranker: Ranker) -> bytes:
    return to_tflite_rank(ranker, [4])


def trained(ranker: Ranker) -> bytes:
    ranker.choose_trainable("all")
    return to_tflite_train(ranker, 1, 4)


@pytest.mark.parametrize(
    ("change", "convert", "words"),
    [
        (lambda x, _: x - x.median(dim=1, keepdim=True)[0] * 0, ranked, r"uses aten\.median\.dim, which the converter"),
        (lambda x, _: torch.special.i0(x), to_onnx, r"to ONNX: it uses prims\.bessel_i0"),
        (lambda x, _: x.sort(dim=-1)[0], ranked, r"devices don't know .*STABLEHLO_SORT.*leave these out"),
        (lambda x, _: x if x.sum() > 0 else -x, ranked, "depend on values.*torch.where"),
        (lambda x, _: x if x.sum() > 0 else -x, trained, "depend on values.*torch.where"),
        (lambda x, _: x * x[x > 0].sum(), ranked, "depend on values.*torch.where"),
    ],
    ids=["unknown to TFLite", "unknown to ONNX", "unknown to devices", "if", "if, trained", "indexing by booleans"],
)
def test_what_cannot_be_converted_is_named(
    change: Callable[[Tensor, Tensor], Tensor], convert: Callable[[Ranker], bytes], words: str
) -> None:
    def without_padding(features: Tensor, mask: Tensor) -> Tensor:
        return change(features * mask.unsqueeze(-1), mask)

    with pytest.raises(InputError, match=words):
        convert(Foreign(Odd(without_padding), 3))


def test_a_trained_table_is_refused_with_the_way_out() -> None:
    looked_up = nn.Embedding(5, 3)

    class LookUp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = looked_up

        def forward(self, features: Tensor, mask: Tensor) -> Tensor:
            del mask
            scores: Tensor = self.table(features[..., 0].clamp(0, 4).long()).sum(dim=-1)
            return scores

    with pytest.raises(InputError, match=r"STABLEHLO_SCATTER.*nn\.Embedding.*one-hot"):
        to_tflite_train(Foreign(LookUp(), 1, "all"), 1, 4)


def test_a_stranger_without_trainables_converts_to_onnx() -> None:
    """All of it is constant then, whatever the number of candidates."""
    ranker = Foreign(Odd(lambda x, _: x), 3).eval()
    session = onnxruntime.InferenceSession(to_onnx(ranker), providers=["CPUExecutionProvider"])
    features, mask = torch.randn(5, 3), torch.ones(5)
    (scores,) = session.run(["scores"], {"features": features.numpy(), "mask": mask.numpy()})
    np.testing.assert_allclose(scores, ranker(features, mask).detach().numpy(), rtol=0, atol=1e-6)


class Column(nn.Module):
    """One score a candidate, with an axis too many."""

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        del mask
        return features[..., :1]


@pytest.mark.parametrize("convert", [ranked, to_onnx], ids=["rank", "onnx"])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Column(), r"scores: expected \[4\] of features \[4, 3\], got \[4, 4\]"),
        (Odd(lambda x, _: x - x.mean(dim=1, keepdim=True)), "the same with and without padding"),
        (Odd(lambda x, _: x / x.std(dim=1, keepdim=True)), "a column may be constant"),
        (
            Odd(lambda x, _: x).double(),
            r"expected float32 weights, got torch.float64 in 'module\.\w+.*call \.float\(\)",
        ),
        (Odd(lambda x, _: x[..., :2]), r"failed on features \[4, 3\] of ones: RuntimeError"),
    ],
    ids=["an axis too many", "padding counts", "not finite", "float64", "raises"],
)
def test_a_module_that_is_no_ranker_is_refused_before_it_is_converted(
    module: nn.Module, words: str, convert: Callable[[Ranker], bytes]
) -> None:
    with pytest.raises(InputError, match=words):
        convert(Foreign(module, 3))


class Named(Ranker):
    """A ranker with a parameter of each of the names."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.width = 1
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.ones(1)))
        self.choose_trainable("all")

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return (features * sum(self.parameters(), torch.zeros(1))).squeeze(-1) * mask


@pytest.mark.parametrize("names", [("mask",), ("learning_rate",), ("a", "a__velocity"), ("a", "a__m")])
def test_a_parameter_whose_input_would_be_another_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=f"more than one input would be .*{names[-1]}"):
        to_tflite_rank(Named(*names), [4])
