"""What int8 weights cost in quality, and that both TFLite runtimes agree on the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau

from pocketrank.errors import InputError
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.quantization.recipes import int8_sizes, weight_int8
from pocketrank_export.student import Student
from tests.export import heads

Array = NDArray[np.float32]
Lists = Callable[..., tuple[Array, Array]]
SLATES, REAL = 500, 100


def scores(device: Any, content: bytes, student: Student, lists: Lists, head: str = "no head") -> Array:
    features, mask = lists(SLATES, 128, REAL)
    # Without the head's own weights, the quantized backbone is alone.
    given = heads.own(student) if head == "own head" else heads.none(student)
    outputs, _ = device.run(content, "rank_128", {"features": features, "mask": mask, **heads.repeated(given, SLATES)})
    real: Array = outputs["scores"][:, :REAL]
    return real


def orders(values: Array) -> NDArray[np.intp]:
    return np.argsort(-values, axis=1, kind="stable")


def mean_tau(left: Array, right: Array) -> float:
    return float(np.mean([kendalltau(one, other).statistic for one, other in zip(left, right, strict=True)]))


@pytest.mark.parametrize("head", ["own head", "no head"])
def test_int8_weights_keep_the_float_models_order(
    head: str, device: Any, rank_float: bytes, rank_int8: bytes, student: Student, lists: Lists
) -> None:
    quantized, exact = (scores(device, content, student, lists, head) for content in (rank_int8, rank_float))
    assert np.isfinite(quantized).all()
    assert mean_tau(quantized, exact) >= 0.98


@pytest.mark.parametrize("head", ["own head", "no head"])
def test_both_runtimes_give_the_same_order(
    head: str, devices: dict[str, Any], rank_int8: bytes, student: Student, lists: Lists
) -> None:
    if len(devices) < 2:
        pytest.skip("needs an environment of each runtime")
    first, second = (scores(device, rank_int8, student, lists, head) for device in devices.values())
    assert np.abs(first - second).max() < 1e-5
    assert (orders(first) == orders(second)).all(axis=1).mean() >= 0.99


def test_every_weight_of_the_backbone_is_int8_once(rank_int8: bytes, rank_float: bytes, student: Student) -> None:
    weights = sorted((layer.weight.numel() for layer in student.layers), reverse=True)  # type: ignore[operator]
    assert int8_sizes(rank_int8) == weights
    assert int8_sizes(rank_float) == []
    assert len(rank_float) - len(rank_int8) > 2 * sum(weights), (
        "three of four bytes a weight, less scales and operators"
    )


def test_signatures_stay_and_the_head_stays_a_float_input(
    device: Any, rank_float: bytes, rank_int8: bytes, student: Student, lists: Lists
) -> None:
    features, mask = lists(1, 16, 16)
    inputs = {"features": features, "mask": mask, **heads.repeated(heads.own(student), 1)}
    outputs, signatures = device.run(rank_int8, "rank_16", inputs)
    assert signatures == device.run(rank_float, "rank_16", inputs)[1]
    nudged, _ = device.run(rank_int8, "rank_16", inputs | {"head_weight": inputs["head_weight"] * np.float32(1.001)})
    assert not np.array_equal(outputs["scores"], nudged["scores"]), "a change below an int8 step must show"


def test_quantizing_is_deterministic(rank_float: bytes, rank_int8: bytes) -> None:
    assert weight_int8(rank_float) == rank_int8


def test_the_stock_channelwise_recipe_breaks_silently_on_tflite_runtime(
    devices: dict[str, Any],
    rank_float: bytes,
    student: Student,
    lists: Lists,
    channelwise_dynamic: Callable[[bytes], bytes],
) -> None:
    if "tflite-runtime" not in devices:
        pytest.skip("needs an environment with tflite-runtime")
    trap = channelwise_dynamic(rank_float)
    exact = scores(devices["ai-edge-litert"], rank_float, student, lists)
    assert mean_tau(scores(devices["ai-edge-litert"], trap, student, lists), exact) > 0.98, "right on the other runtime"
    broken = scores(devices["tflite-runtime"], trap, student, lists)
    spread = np.nan_to_num(broken).std(axis=1)
    assert (spread < 0.01 * exact.std(axis=1)).all(), "the backbone tells no candidate from another, finite or not"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a TFLite file"),
        (b"\x00" * 64, "expected a TFLite file"),
        (b"PK\x03\x04TFL2" + b"\x00" * 64, "expected a TFLite file"),
    ],
)
def test_what_is_no_tflite_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        weight_int8(content)


def test_a_file_quantized_already_is_refused(rank_int8: bytes) -> None:
    with pytest.raises(InputError, match="quantized already"):
        weight_int8(rank_int8)


def test_a_student_of_one_linear_layer_is_quantized_too() -> None:
    assert int8_sizes(weight_int8(to_tflite_rank(Student([True] * 4, ()), [16]))) == [4]
