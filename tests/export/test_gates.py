"""The gates: a sound bundle passes on every runtime at hand; a broken one is stopped and told which gate it was."""

import copy
import dataclasses
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrank import Bundle
from pocketrank.bundle import GOLDEN, PARAMS, RANK_MODEL, Parameter, build, save_arrays
from pocketrank.errors import GateError, InputError
from pocketrank.features.profile import Array
from pocketrank.schema import Number, Schema
from pocketrank_export.builder import params_of
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import kendall_tau, same_order, score
from pocketrank_export.gates import Parity, check_cold_start, check_parity, parity, prove, score_on
from pocketrank_export.quantization.recipes import weight_int8
from pocketrank_export.ranker import trainables
from pocketrank_export.student import Student
from tests import make_test_bundle, shop


@pytest.fixture(scope="module")
def slates() -> Slates:
    return make_test_bundle.slates()


@pytest.fixture(scope="module")
def reference(slates: Slates) -> Array:
    """The float model's scores."""
    return score(make_test_bundle.student(), slates)


@pytest.fixture(scope="module")
def pythons(devices: dict[str, Any]) -> list[Path]:
    return [device.python for device in devices.values()]


def test_a_sound_bundle_passes_and_its_manifest_says_on_what(
    slates: Slates, reference: Array, pythons: list[Path], devices: dict[str, Any]
) -> None:
    proven = prove(shop.bundle(), reference, slates, pythons)
    assert set(proven.manifest.runtimes) == set(devices)
    assert dict(proven.files) == dict(shop.bundle().files)
    for runtime in devices:
        assert re.fullmatch(r"\d+\.\d+\.\d+", proven.manifest.runtimes[runtime])
        assert proven.manifest.report[f"kendall_tau.{runtime}"] > 0.98
        quantized, whole = (proven.manifest.report[f"ndcg_at_10.{kind}.{runtime}"] for kind in ("quantized", "float"))
        assert quantized > 0.995 * whole > 0


def test_the_runtimes_agree_on_the_order(slates: Slates, pythons: list[Path]) -> None:
    found = [score_on(python, shop.FOLDER, slates) for python in pythons]
    assert len({scores.runtime for scores in found}) == len(pythons)
    for scores in found[1:]:
        assert same_order(found[0].scores, scores.scores, slates.mask) >= 0.99
        np.testing.assert_allclose(scores.scores, found[0].scores, atol=1e-3)


def random_weights() -> Bundle:
    """The head of another training."""
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in shop.bundle().params().items()}
    return shop.with_params(params)


def swapped_features() -> Bundle:
    """A schema whose columns moved by one while the weights stayed."""
    params = shop.bundle().params()
    moved = params["head.weight"].copy()
    moved[: len(shop.SCHEMA.columns)] = np.roll(moved[: len(shop.SCHEMA.columns)], 1)
    return shop.with_params({**params, "head.weight": moved})


def no_backbone() -> Bundle:
    """A recipe that lost the backbone: the same score from it for every candidate."""
    return shop.with_params(shop.linear(shop.bundle().params()["head.weight"][: len(shop.SCHEMA.columns)]))


def upside_down() -> Bundle:
    return shop.with_params({name: -value for name, value in shop.bundle().params().items()})


@pytest.mark.parametrize("broken", [random_weights, swapped_features, no_backbone, upside_down])
def test_a_bundle_that_ranks_otherwise_than_the_float_model_is_stopped(
    broken: Callable[[], Bundle], slates: Slates, reference: Array
) -> None:
    with pytest.raises(GateError, match=r"kendall_tau \(ai-edge-litert\): -?0\.\d+ to the float model, >= 0.98 wanted"):
        prove(broken(), reference, slates)


def test_the_stock_quantization_recipe_is_stopped_on_the_runtime_that_gets_it_wrong(
    student: Student,
    rank_float: bytes,
    devices: dict[str, Any],
    lists: Callable[..., tuple[Array, Array]],
    channelwise_dynamic: Callable[[bytes], bytes],
) -> None:
    """On a student large enough for the recipe to touch it, ranked by its backbone alone."""
    if "tflite-runtime" not in devices:
        pytest.skip("no environment with tflite-runtime")
    alone = copy.deepcopy(student)
    with torch.no_grad():
        for value in alone.head.parameters():
            value.zero_()
        alone.head.weight[-1] = 1.0
    features, mask = lists(20, 128, 100)
    slates = Slates(features, mask, mask, mask.sum(axis=1).astype(np.int64))
    manifest = dataclasses.replace(
        shop.bundle().manifest,
        schema=Schema(tuple(Number(name=f"x{column}") for column in range(student.width))),
        trainable=tuple(Parameter(name, shape) for name, shape in trainables(student)),
    )
    files = {PARAMS: save_arrays(params_of(alone)), GOLDEN: save_arrays({})}
    bundles = [build(manifest, {**files, RANK_MODEL: made(rank_float)}) for made in (weight_int8, channelwise_dynamic)]
    reference = score(alone, slates)
    for name, device in devices.items():
        check_parity(name, found(bundles[0], reference, slates, device.python))
    # The builder's own runtime finds no fault with it.
    check_parity("ai-edge-litert", found(bundles[1], reference, slates, devices["ai-edge-litert"].python))
    with pytest.raises(GateError, match=r"^(finite|kendall_tau) \(tflite-runtime\)"):
        prove(bundles[1], reference, slates, [device.python for device in devices.values()])


def found(bundle: Bundle, reference: Array, slates: Slates, python: Path) -> Parity:
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(Path(folder) / "bundle")
        return parity(score_on(python, Path(folder) / "bundle", slates).scores, reference, slates)


def test_an_environment_that_cant_score_is_told_apart_from_a_bad_bundle(slates: Slates, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not score .*No module named"):
        score_on(bare(tmp_path), shop.FOLDER, slates)


def bare(folder: Path) -> Path:
    """A Python without packages."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    script.chmod(0o755)
    return script


def test_a_model_that_gives_nan_is_stopped(slates: Slates, reference: Array) -> None:
    scores = reference.copy()
    scores[3, 0] = np.nan
    with pytest.raises(GateError, match=r"finite \(some-runtime\): the model gives NaN or infinity"):
        check_parity("some-runtime", parity(scores, reference, slates))


def test_a_small_change_that_costs_quality_is_stopped(slates: Slates) -> None:
    """The first candidate, and it alone, is good, and sinks to the second place: hardly another order, much worse."""
    count, size = slates.mask.shape
    reference = np.tile(-np.arange(size, dtype=np.float32), (count, 1))
    labels = np.zeros_like(slates.mask)
    labels[:, 0] = 1.0
    full = Slates(slates.features, labels, np.ones_like(slates.mask), np.ones(count, np.int64))
    scores = reference.copy()
    scores[:, 0] = -1.5
    found = parity(scores, reference, full)
    assert found.kendall_tau > 0.99
    assert found.ndcg_loss == pytest.approx(1 - 1 / np.log2(3))
    with pytest.raises(GateError, match=r"ndcg \(some-runtime\): 36.91% below the float model, <= 0.5% wanted"):
        check_parity("some-runtime", found)


def test_what_gains_quality_passes(slates: Slates, reference: Array) -> None:
    found = dataclasses.replace(parity(reference, reference, slates), ndcg=1.0)
    assert found.kendall_tau == pytest.approx(1.0)
    assert found.ndcg_loss < 0
    check_parity("some-runtime", found)


@given(st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=20)
def test_kendalls_tau_is_the_share_of_pairs_in_the_same_order_less_the_others(seed: int, real: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 6, size=(2, 12)).astype(np.float32)
    mask = (np.arange(12) < real).astype(np.float32)
    pairs = [(i, j) for i in range(real) for j in range(i)]
    agreement = [np.sign(one[i] - one[j]) * np.sign(other[i] - other[j]) for i, j in pairs]
    expected = np.mean(agreement) if pairs else 1.0
    assert kendall_tau(one[None], other[None], mask[None]) == pytest.approx(expected)


def test_kendalls_tau_agrees_with_an_independent_library() -> None:
    stats = pytest.importorskip("scipy.stats")
    one, other = np.random.default_rng(1).normal(size=(2, 50)).astype(np.float32)
    found = kendall_tau(one[None], other[None], np.ones((1, 50), np.float32))
    assert found == pytest.approx(stats.kendalltau(one, other).statistic)


def test_the_same_order_is_asked_of_real_candidates_alone() -> None:
    mask = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
    one = np.array([[2, 1, 0], [2, 1, 0]], np.float32)
    other = np.array([[5, 3, 9], [1, 2, 9]], np.float32)
    assert same_order(one, other, mask) == 0.5


def test_golden_vectors_that_a_runtime_does_not_give_are_stopped(slates: Slates, reference: Array) -> None:
    golden = shop.bundle().golden()
    golden["scores"][0, 0] += 1.0
    with pytest.raises(GateError, match=r"self_test \(ai-edge-litert\): .*scores differ"):
        prove(shop.with_files({GOLDEN: save_arrays(golden)}), reference, slates)


def test_a_bundle_that_serves_new_devices_worse_than_the_first_stage_is_stopped() -> None:
    labels = np.array([[1, 0, 0, 1]], np.float32)
    slates = Slates(np.zeros((1, 4, 1), np.float32), labels, np.ones_like(labels), np.array([2]))
    best, worst = np.array([[3, 1, 0, 2]], np.float32), np.array([[0, 2, 3, 1]], np.float32)
    assert check_cold_start(best, slates) == 1.0
    with pytest.raises(GateError, match=r"cold_start: nDCG@10 0\.\d+ on devices without a history"):
        check_cold_start(worst, slates)
