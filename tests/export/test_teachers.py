"""Teachers: what they return, whatever they are, and the torch rankers among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketrank.errors import GateError, InputError
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import score
from pocketrank_export.student import CLIP, standardise
from pocketrank_export.teachers.attention import AttentionRanker
from pocketrank_export.teachers.normalisation import Constants, Inputs
from pocketrank_export.teachers.pointwise import CrossRanker, MlpRanker
from pocketrank_export.teachers.teacher import Ensemble, Module, Teacher, checked, normalised, read_bounded

Array = NDArray[np.float32]
WIDTH = 5
KINDS = ["within the slate", "by constants", "both"]
MODELS = ["mlp", "cross", "full cross", "attention"]


def slates(seed: int = 0, count: int = 6, size: int = 7) -> Slates:
    """Slates of 1 to ``size`` candidates, of columns of unlike scales; one slate is full."""
    rng = np.random.default_rng(seed)
    lengths = np.concatenate([[size], rng.integers(1, size + 1, count - 1)])
    mask = (np.arange(size) < lengths[:, None]).astype(np.float32)
    features = rng.normal(rng.normal(0, 20, WIDTH), rng.uniform(0.1, 30, WIDTH), (count, size, WIDTH))
    labels = rng.integers(0, 3, (count, size)).astype(np.float32)
    return Slates(features.astype(np.float32) * mask[..., None], labels * mask, mask)


def ranker(model: str, kind: str = "within the slate", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    constants = None if kind == KINDS[0] else Constants.of(slates(seed=99))
    within = kind != KINDS[1]
    if model == "mlp":
        return MlpRanker(WIDTH, (8, 4), constants=constants, within_slate=within).eval()
    if model == "attention":
        made = AttentionRanker([True] * WIDTH, width=8, heads=2, constants=constants, within_slate=within)
        return made.eval()
    rank = None if model == "full cross" else 3
    return CrossRanker(WIDTH, rank=rank, widths=(8,), constants=constants, within_slate=within).eval()


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A teacher whose scores are given."""

    given: Array
    name: str = "fixed"
    size_bytes: int | None = 10

    def scores(self, slates: Slates) -> Array:  # noqa: ARG002
        return self.given


def random_scores(made: Slates, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=made.mask.shape).astype(np.float32)


# ------------------------------------------------------------------------------------------------ what teachers return


def test_scores_of_padding_become_zero_and_the_others_stay() -> None:
    made = slates()
    given = random_scores(made, 1).astype(np.float64)
    given[made.mask == 0] = np.nan
    found = checked("x", given, made)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.where(made.mask > 0, given, 0.0).astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_the_first_slate_with_a_score_that_is_not_finite_is_named(bad: float) -> None:
    made = slates()
    given = random_scores(made, 1).astype(np.float64)
    given[4, 0] = given[2, 0] = bad
    with pytest.raises(GateError, match=r"finite: teacher 'odd'.*candidate 0 of slate 2 "):
        checked("odd", given, made)


@pytest.mark.parametrize("shape", [(6, 6), (6, 7, 1), (7, 6), (42,), (1, 7)])
def test_scores_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"teacher 'odd': expected scores \[6, 7\]"):
        checked("odd", np.zeros(shape, np.float32), slates())


# ------------------------------------------------------------------------------------------------------- normalisation


@given(st.integers(0, 1000))
def test_normalised_scores_are_deviations_over_the_real_candidates(seed: int) -> None:
    made = slates(seed)
    given = random_scores(made, seed) * 100
    found = normalised(given, made.mask)
    for values, row, mask in zip(given, found, made.mask, strict=True):
        real = values[mask > 0].astype(np.float64)
        expected = (real - real.mean()) / real.std() if len(real) > 1 else np.zeros(1)
        np.testing.assert_allclose(row[mask > 0], expected, atol=1e-5)
        np.testing.assert_array_equal(row[mask == 0], 0.0)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 3e38, 1e-40])
def test_a_slate_of_one_score_is_normalised_to_zero(value: float) -> None:
    made = slates()
    given = np.full(made.mask.shape, value, np.float32)
    np.testing.assert_array_equal(normalised(given, made.mask), 0.0)
    given[0, 0] = np.nextafter(given[0, 0], np.float32(0.5))
    if value > 1e-20:
        np.testing.assert_array_equal(normalised(given, made.mask), 0.0)


def test_scores_of_any_size_are_normalised() -> None:
    made = slates()
    plain = random_scores(made, 3)
    for scale in (1e37, 1e-35):
        np.testing.assert_allclose(
            normalised(plain * np.float32(scale), made.mask), normalised(plain, made.mask), atol=1e-4
        )


@given(st.integers(0, 1000), st.floats(0.01, 1000), st.floats(-10, 10))
def test_an_ensemble_ignores_the_scale_and_the_shift_of_a_member(seed: int, scale: float, shift: float) -> None:
    made = slates(seed)
    one, other = random_scores(made, seed), random_scores(made, seed + 1)
    moved = (one.astype(np.float64) + shift) * scale
    plain = Ensemble("two", [Fixed(one), Fixed(other)]).scores(made)
    found = Ensemble("two", [Fixed(moved.astype(np.float32)), Fixed(other)]).scores(made)
    np.testing.assert_allclose(found, plain, atol=2e-4)
    np.testing.assert_allclose(
        plain, (normalised(one, made.mask) + normalised(other, made.mask)) / 2, rtol=1e-6, atol=1e-6
    )


def test_an_ensemble_is_as_large_as_its_members() -> None:
    some = np.zeros((6, 7), np.float32)
    assert Ensemble("two", [Fixed(some), Fixed(some, size_bytes=7)]).size_bytes == 17
    assert Ensemble("two", [Fixed(some), Fixed(some, size_bytes=None)]).size_bytes is None
    with pytest.raises(InputError, match="ensemble 'none': expected one or more"):
        Ensemble("none", [])


def test_an_ensemble_names_the_member_that_is_not_finite() -> None:
    made = slates()
    broken = random_scores(made, 1)
    broken[1, 0] = np.nan
    with pytest.raises(GateError, match=r"'broken'.*slate 1"):
        Ensemble("two", [Fixed(random_scores(made, 2)), Fixed(broken, "broken")]).scores(made)


# ------------------------------------------------------------------------------------------------------- torch modules


def test_a_module_scores_as_evaluation_does_and_counts_its_parameters() -> None:
    made, model = slates(), ranker("mlp")
    teacher: Teacher = Module("mlp", model)
    np.testing.assert_array_equal(teacher.scores(made), score(model, made))
    weights = WIDTH * 8 + 8 + 8 * 4 + 4 + 4 + 1
    assert (teacher.name, teacher.size_bytes) == ("mlp", 4 * weights)


class Odd(nn.Module):
    """Scores of a column that has no padding, in another shape where asked."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make = make

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        return self.make(features)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda x: x[..., 0, 0], InputError, r"expected scores \[6, 7\], got \[6\]"),
        (lambda x: x @ torch.zeros(3, 1), InputError, r"'odd': fails on features \[6, 7, 5\]"),
        (lambda x: x[..., 0] / 0.0, GateError, "slate 0"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(
    make: Callable[[Tensor], Tensor], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Module("odd", Odd(make)).scores(slates())


def test_a_module_whose_padding_scores_something_still_gives_zero_there() -> None:
    made = slates()
    found = Module("odd", Odd(lambda x: x[..., 0] + 1.0)).scores(made)
    np.testing.assert_array_equal(found, (made.features[..., 0] + 1) * made.mask)


# ------------------------------------------------------------------------------------------------------ torch rankers


@given(st.integers(0, 100), st.sampled_from(MODELS), st.sampled_from(KINDS))
@settings(max_examples=30)
def test_scores_of_torch_rankers_follow_a_permutation(seed: int, model: str, kind: str) -> None:
    made = slates(seed)
    order = np.random.default_rng(seed).permutation(made.mask.shape[1])
    moved = Slates(made.features[:, order], made.labels[:, order], made.mask[:, order])
    teacher = Module(model, ranker(model, kind))
    np.testing.assert_allclose(teacher.scores(moved), teacher.scores(made)[:, order], atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_padding_changes_no_score_of_torch_rankers(model: str, kind: str) -> None:
    made = slates()
    longer = Slates.joined([made, slates(1, size=12)]).where(np.arange(len(made)))
    teacher = Module(model, ranker(model, kind))
    found = teacher.scores(longer)
    np.testing.assert_allclose(found[:, :7], teacher.scores(made), atol=2e-5)
    np.testing.assert_array_equal(found[longer.mask == 0], 0.0)


@pytest.mark.parametrize("model", MODELS)
def test_by_constants_only_a_listwise_score_depends_on_the_other_candidates(model: str) -> None:
    made = slates()
    changed = dataclasses.replace(made, features=made.features.copy())
    changed.features[0, 1:] += 5.0
    teacher = Module(model, ranker(model, "by constants"))
    before, after = teacher.scores(made)[0, 0], teacher.scores(changed)[0, 0]
    assert (before != after) == (model == "attention")


def test_cross_layers_are_their_equations() -> None:
    made = slates()
    model = ranker("full cross", "both")
    assert isinstance(model, CrossRanker)
    state = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}
    first = model.inputs(torch.from_numpy(made.features), torch.from_numpy(made.mask)).numpy().astype(np.float64)
    crossed = first
    for layer in range(2):
        crossed = first * (crossed @ state[f"crosses.{layer}.weight"].T + state[f"crosses.{layer}.bias"]) + crossed
    deep = np.maximum(first @ state["hidden.0.weight"].T + state["hidden.0.bias"], 0)
    expected = np.concatenate([crossed, deep], -1) @ state["out.weight"][0] + state["out.bias"]
    np.testing.assert_allclose(score(model, made), expected * made.mask, atol=1e-4)


def test_a_low_rank_cross_is_one_of_a_product_of_two_matrices() -> None:
    low, full = ranker("cross"), ranker("full cross", seed=3)
    assert isinstance(low, CrossRanker)
    state = low.state_dict()
    for layer in range(2):
        up, down = state.pop(f"crosses.{layer}.1.weight"), state.pop(f"crosses.{layer}.0.weight")
        state[f"crosses.{layer}.weight"] = up @ down
        state[f"crosses.{layer}.bias"] = state.pop(f"crosses.{layer}.1.bias")
    full.load_state_dict(state)
    np.testing.assert_allclose(score(low, slates()), score(full, slates()), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_the_attention_ranker_may_not_read_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    constants = None if kind == KINDS[0] else Constants.of(slates(seed=99))
    readable = [True, False, True, True, True]
    model = AttentionRanker(readable, width=8, heads=2, constants=constants, within_slate=kind != KINDS[1]).eval()
    made = slates()
    for column, same in ((1, True), (2, False)):
        changed = dataclasses.replace(made, features=made.features.copy())
        changed.features[..., column] = made.mask * np.arange(7)
        assert np.array_equal(score(model, changed), score(model, made)) is same


# ------------------------------------------------------------------------------------------------- inputs and constants


def test_constants_are_the_mean_and_the_deviation_of_the_real_candidates() -> None:
    made = slates()
    made.features[..., 3] = 1990.1 * made.mask
    found = Constants.of(made)
    rows = made.features[made.mask > 0].astype(np.float64)
    np.testing.assert_allclose(found.centre, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(np.delete(found.scale, 3), np.delete(rows.std(axis=0), 3), rtol=1e-6)
    assert found.scale[3] == 0.0


def test_inputs_hold_both_standardisations_side_by_side() -> None:
    made, constants = slates(), Constants.of(slates(seed=99))
    features, mask = torch.from_numpy(made.features), torch.from_numpy(made.mask)
    both = Inputs(WIDTH, constants, within_slate=True)
    assert both.columns == 2 * WIDTH
    within, fixed = both(features, mask).split(WIDTH, dim=-1)
    torch.testing.assert_close(within, standardise(features, mask))
    expected = np.clip((made.features - constants.centre) / constants.scale, -CLIP, CLIP) * made.mask[..., None]
    np.testing.assert_allclose(fixed.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_column_that_was_constant_in_training_is_never_read() -> None:
    constants = Constants(np.zeros(WIDTH, np.float32), np.array([1, 1, 0, 1, 1], np.float32))
    found = Inputs(WIDTH, constants, within_slate=False)(torch.full((1, 2, WIDTH), 3.0), torch.ones(1, 2))
    assert found[0, 0].tolist() == [3.0, 3.0, 0.0, 3.0, 3.0]


FLAT = Constants(np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MlpRanker(0), "width: expected"),
        (lambda: MlpRanker(WIDTH, (4, 0)), "widths, dropout"),
        (lambda: MlpRanker(WIDTH, dropout=1.0), "widths, dropout"),
        (lambda: MlpRanker(WIDTH, within_slate=False), "constants: expected those of the training slates"),
        (lambda: MlpRanker(WIDTH + 1, constants=FLAT), r"constants: expected .* \[6\] each, got \(5,\)"),
        (lambda: MlpRanker(WIDTH, constants=dataclasses.replace(FLAT, scale=-FLAT.scale)), "scale >= 0"),
        (lambda: MlpRanker(WIDTH, constants=dataclasses.replace(FLAT, centre=FLAT.centre / 0.0)), "finite centre"),
        (lambda: CrossRanker(WIDTH, crosses=0), "crosses, rank"),
        (lambda: CrossRanker(WIDTH, rank=0), "crosses, rank"),
        (lambda: AttentionRanker([True], within_slate=False, heads=1), "constants: expected those"),
        (lambda: Constants.of(slates().where(np.arange(0))), "expected real candidates"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_inputs_that_do_not_fit_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_a_file_past_its_bound_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(InputError, match="expected at most 4 bytes"):
        read_bounded(path, 4)
    with pytest.raises(InputError, match="can't be read"):
        read_bounded(tmp_path / "none", 4)
