"""What int8 does to each layer alone, and which layers are left in float for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.quantization.layers import Calibration, layers, ranges
from pocketrank_export.quantization.sensitivity import SHARE, Damage, damages, noise, sensitive
from pocketrank_export.student import Student, standardise
from tests.export import heads

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A student, its file, and slates of up to 12 candidates."""

    student: Student
    content: bytes
    features: Array
    mask: Array

    @property
    def layers(self) -> list[nn.Linear]:
        return [layer for layer in self.student.layers if isinstance(layer, nn.Linear)]

    @property
    def calibration(self) -> Calibration:
        pairs, head = zip(self.features, self.mask, strict=True), heads.own(self.student)
        return {"rank_12": [{"features": features, "mask": mask, **head} for features, mask in pairs]}

    def scores(self) -> Array:
        with torch.no_grad():
            made: Array = self.student(torch.from_numpy(self.features), torch.from_numpy(self.mask)).numpy()
        return made


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(6)
    student = Student([True] * 8, (16, 6)).eval()
    rng = np.random.default_rng(7)
    mask = (np.arange(12) < rng.integers(5, 13, 20)[:, None]).astype(np.float32)
    features = rng.normal(size=(20, 12, 8)).astype(np.float32) * mask[..., None]
    return Case(student, to_tflite_rank(student, (12, 4)), features, mask)


def test_ranges_are_what_the_layers_take_and_make_in_pytorch(case: Case) -> None:
    flowing = [standardise(torch.from_numpy(case.features), torch.from_numpy(case.mask))]
    for layer, after in zip(case.layers, (torch.relu, torch.relu, torch.clone), strict=True):
        flowing.append(after(layer(flowing[-1])).detach())
    seen = ranges(case.content, layers(case.content), case.calibration)
    for found, made in zip(layers(case.content), pairwise(flowing), strict=True):
        assert [use.graph for use in found.uses] == [0, 1], "those of the signature that saw no slates are the same"
        for use in found.uses:
            for name, values in zip((use.given_name, use.made_name), made, strict=True):
                expected = values.min().item(), values.max().item()
                assert (seen[name].low, seen[name].high) == pytest.approx(expected, abs=1e-4)


def test_damages_are_those_of_rounding_one_layer_in_pytorch(case: Case) -> None:
    exact, expected = case.scores(), {}
    for index, layer in enumerate(case.layers):
        whole = layer.weight.detach().clone()
        scale = whole.abs().amax(dim=1, keepdim=True) / 127
        with torch.no_grad():
            layer.weight.copy_((whole / scale).round() * scale)
            expected[f"layer_{index}"] = noise(case.scores(), exact, case.mask)
            layer.weight.copy_(whole)
    found = damages(case.content, layers(case.content), case.calibration)
    assert {damage.layer: damage.noise for damage in found} == pytest.approx(expected, rel=0.02)
    assert [damage.per_weight for damage in found] == sorted((damage.per_weight for damage in found), reverse=True)


@given(
    shift=st.floats(-100, 100),
    scale=st.floats(0.01, 100),
    amount=st.floats(0.001, 10),
    padding=st.floats(-1e6, 1e6),
    seed=st.integers(0, 1000),
)
def test_noise_is_the_variance_of_the_change_over_the_scores_within_slates(
    shift: float, scale: float, amount: float, padding: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    exact, change = rng.normal(size=(2, 4, 9))
    real = np.arange(9) < np.array([9, 5, 3, 2])[:, None]
    spread = sum(row[kept].var() * kept.sum() for row, kept in zip(exact, real, strict=True))
    moved = sum(row[kept].var() * kept.sum() for row, kept in zip(change, real, strict=True))
    changed = np.where(real, exact + amount * change, padding)
    slates = np.array([[shift], [-shift], [0.0], [1.0]])
    found = noise((scale * changed + slates).astype(np.float64), scale * exact, real.astype(np.float32))
    assert found == pytest.approx(amount**2 * moved / spread, rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "exact", "expected"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], 0.0),
        ([[3.0, 3.0]], [[3.0, 3.0]], 0.0),
        ([[5.0, 6.0]], [[1.0, 2.0]], 0.0),
        ([[1.0, 1.0]], [[1.0, 2.0]], 1.0),
        ([[1.0, 2.0]], [[3.0, 3.0]], math.inf),
        ([[math.nan, 2.0]], [[1.0, 2.0]], math.inf),
    ],
)
def test_noise_at_its_ends(scores: list[list[float]], exact: list[list[float]], expected: float) -> None:
    assert noise(np.array(scores), np.array(exact), np.ones((1, 2), np.float32)) == expected


def table(*rows: tuple[str, int, float]) -> list[Damage]:
    return [Damage(*row) for row in rows]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # Most noise a weight first: that is the small last layer, and it alone halves the noise.
        (table(("layer_0", 1000, 4.0), ("layer_1", 500, 1.0), ("layer_2", 10, 5.0)), ("layer_2",)),
        # One that causes nearly half does not suffice; the next one by the weight goes too.
        (table(("layer_0", 1000, 3.0), ("layer_1", 100, 2.0), ("layer_2", 10, 4.0)), ("layer_2", "layer_1")),
        # As much in a smaller layer counts for more.
        (table(("layer_0", 100, 1.0), ("layer_1", 10, 1.0)), ("layer_1",)),
        (table(("layer_0", 100, 0.0), ("layer_1", 10, 0.0)), ()),
        (table(("layer_0", 100, 1.0)), ()),
        (table(("layer_0", 100, 1.0), ("layer_1", 10, math.inf)), ("layer_1",)),
        ([], ()),
    ],
)
def test_sensitive_layers_by_table(found: list[Damage], expected: tuple[str, ...]) -> None:
    assert sensitive(found) == expected


noises = st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 1e3)), min_size=1, max_size=12)


@given(rows=noises)
def test_what_stays_in_float_is_no_more_than_the_share_asks_for(rows: list[tuple[int, float]]) -> None:
    found = [Damage(f"layer_{index}", size, value) for index, (size, value) in enumerate(rows)]
    left = sensitive(found)
    kept = [damage for damage in found if damage.layer not in left]
    total = sum(damage.noise for damage in found)
    remaining = sum(damage.noise for damage in kept)
    assert kept
    assert remaining <= SHARE * total * (1 + 1e-9) or len(kept) == 1
    if left:
        last = next(damage for damage in found if damage.layer == left[-1])
        assert remaining + last.noise > SHARE * total * (1 - 1e-9), "one fewer would not do"
        assert last.per_weight >= max(damage.per_weight for damage in kept)
