"""What the converted files compute, on both TFLite runtimes and onnxruntime, beside what PyTorch computes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from pocketrank.errors import InputError
from pocketrank_export.chatter import quiet
from pocketrank_export.conversion.onnx import to_onnx
from pocketrank_export.conversion.ranking import SLATE_SIZES, to_tflite_rank
from pocketrank_export.conversion.training import to_tflite_train
from pocketrank_export.quantization.recipes import int8_sizes, weight_int8
from pocketrank_export.student import Normalization, Student
from tests.export import heads
from tests.export.conftest import WIDTH, Device

Array = NDArray[np.float32]
Lists = Callable[..., tuple[Array, Array]]
VARIANTS = 5

SCRIPT = """
import hashlib
from pocketrank_export.conversion.onnx import to_onnx
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.conversion.training import to_tflite_train
from tests.export.conftest import made_student
student = made_student()
for content in (to_tflite_rank(student, [8, 32], variants=5), to_tflite_train(student), to_onnx(student)):
    print(hashlib.sha256(content).hexdigest())
"""


@pytest.fixture(scope="module")
def onnx_file(student: Student) -> bytes:
    return to_onnx(student)


@pytest.fixture(scope="module")
def explained(student: Student) -> bytes:
    return to_tflite_rank(student, [8, 32], variants=VARIANTS)


def once(inputs: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(value, np.float32)[None] for name, value in inputs.items()}


KINDS = ("random", "skewed", "constant columns", "one candidate", "ties")


def slates_of(kind: str, slates: int, size: int) -> tuple[Array, Array]:
    """Features ``[s, n, d]`` and masks ``[s, n]``, about a third of the candidates padding, as real ones may be."""
    rng = np.random.default_rng(size)
    features = rng.normal(size=(slates, size, WIDTH)) * rng.uniform(0.1, 100.0, WIDTH) + rng.normal(0.0, 50.0, WIDTH)
    real = 1 if kind == "one candidate" else max(1, 2 * size // 3)
    if kind == "skewed":  # counts and prices, a few of them enormous, and rare flags
        features[..., ::2] = np.exp(3.0 * rng.normal(size=features[..., ::2].shape))
        features[..., 1::4] = rng.random(features[..., 1::4].shape) < 0.05
    elif kind == "constant columns":
        features[..., ::3] = rng.choice([0.0, 1.0, 1990.0, -3e5], features[..., ::3].shape[-1])
    elif kind == "ties":
        features = np.round(features / 50.0)
    mask = np.zeros((slates, size), np.float32)
    mask[:, :real] = 1.0
    return (features * mask[..., None]).astype(np.float32), mask


@pytest.mark.parametrize("kind", KINDS)
def test_files_score_as_pytorch_does_within_1e_5(
    kind: str, device: Any, rank_float: bytes, onnx_file: bytes, student: Student
) -> None:
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    for size in SLATE_SIZES:
        features, mask = slates_of(kind, 20, size)
        drawn = [heads.drawn(student, seed, scale=0.2) for seed in range(20)]
        stacked = {name: np.stack([head[name] for head in drawn]) for name in drawn[0]}
        outputs, _ = device.run(rank_float, f"rank_{size}", {"features": features, "mask": mask, **stacked})
        expected = np.stack(
            [
                heads.score(student, torch.tensor(one), torch.tensor(real), head).detach().numpy()
                for one, real, head in zip(features, mask, drawn, strict=True)
            ]
        )
        assert 0.1 < expected.std() < 5.0 or kind == "one candidate"
        np.testing.assert_allclose(outputs["scores"], expected, rtol=0, atol=1e-5)
        assert not outputs["scores"][mask == 0].any()
        for one, real, head, wanted in zip(features[:5], mask, drawn, expected, strict=False):
            scores = session.run(None, {"features": one, "mask": real, **head})[0]
            np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-5)


def test_signatures_inputs_and_outputs_have_the_contracts_names(
    device: Any, rank_float: bytes, lists: Lists, student: Student
) -> None:
    features, mask = lists(1, 16, 16)
    outputs, signatures = device.run(
        rank_float,
        "rank_16",
        {"features": features, "mask": mask, **heads.repeated(heads.none(student), 1)},
    )
    assert {name: (sorted(one["inputs"]), one["outputs"]) for name, one in signatures.items()} == {
        f"rank_{size}": (["features", "head_lift", "head_weight", "mask"], ["scores"]) for size in SLATE_SIZES
    }
    assert outputs["scores"].shape == (1, 16)


@pytest.mark.parametrize("convert", [lambda content: content, weight_int8], ids=["float", "int8"])
def test_variants_of_a_slate_score_as_slates_do(
    convert: Callable[[bytes], bytes], device: Any, explained: bytes, student: Student, lists: Lists
) -> None:
    """In one call, whether the weights are float or int8, under any head."""
    content = convert(explained)
    features, mask = lists(VARIANTS, 32, 20)
    head = heads.drawn(student, 1)
    found, signatures = device.run(content, "explain", once({"features": features, "mask": mask, **head}))
    one, _ = device.run(content, "rank_32", {"features": features, "mask": mask, **heads.repeated(head, VARIANTS)})
    assert signatures["explain"] == signatures["rank_32"]
    np.testing.assert_allclose(found["scores"][0], one["scores"], atol=2e-5)
    if content is explained:
        expected = heads.score(student, torch.tensor(features), torch.tensor(mask), head).detach().numpy()
        np.testing.assert_allclose(found["scores"][0], expected, atol=2e-5)


def test_signatures_share_the_weights() -> None:
    """Those of other slate sizes and that of variants, in the float file and in the quantized one."""
    wide = Student([True] * 40, (256, 128))
    weights = 40 * 256 + 256 * 128
    one, more = to_tflite_rank(wide, [32]), to_tflite_rank(wide, [32, 64], variants=41)
    assert len(one) > 4 * weights
    assert len(more) - len(one) < 0.1 * 4 * weights
    assert int8_sizes(weight_int8(more)) == int8_sizes(weight_int8(one))
    assert len(weight_int8(more)) - len(weight_int8(one)) < 0.25 * weights


@pytest.mark.parametrize("size", [1, 7, 128, 300])
def test_onnx_scores_any_number_of_candidates_as_pytorch_does(
    size: int, onnx_file: bytes, student: Student, lists: Lists
) -> None:
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["features", "mask", "head_weight", "head_lift"]
    assert [one.name for one in session.get_outputs()] == ["scores"]
    features, mask = (one[0] for one in lists(1, size, max(1, size // 2)))
    head = heads.drawn(student, 0)
    scores = session.run(None, {"features": features, "mask": mask, **head})[0]
    expected = heads.score(student, torch.tensor(features), torch.tensor(mask), head).detach().numpy()
    np.testing.assert_allclose(scores, expected, atol=2e-5)


def test_files_say_nothing_of_the_machine_that_made_them(explained: bytes, train_file: bytes, onnx_file: bytes) -> None:
    for content in (explained, train_file, onnx_file):
        for trace in (b".py", b"site-packages", str(Path.home()).encode(), str(Path(__file__).parents[2]).encode()):
            assert trace not in content
    assert all(not node.metadata_props for node in onnx.load_from_string(onnx_file).graph.node)


@pytest.mark.slow
@pytest.mark.parametrize("normalization", ["constants", "both", "sparse"])
def test_students_of_every_normalization_convert(normalization: Normalization, devices: dict[str, Device]) -> None:
    rng = np.random.default_rng(4)
    there = rng.random((6, 16, WIDTH)) < np.linspace(0, 1, WIDTH)
    features = (rng.normal(3, 2, (6, 16, WIDTH)) * there).astype(np.float32)
    mask = (np.arange(16) < rng.integers(2, 17, 6)[:, None]).astype(np.float32)
    torch.manual_seed(6)
    model = Student([True] * WIDTH, (8, 4), normalization=normalization).eval()
    model.fit_normalization(torch.from_numpy(features), torch.from_numpy(mask))
    torch.nn.init.normal_(model.head.weight)
    head = heads.own(model)
    with torch.no_grad():
        expected = model(torch.from_numpy(features), torch.from_numpy(mask)).numpy()
    content = to_tflite_rank(model, [16])
    calls = {"features": features, "mask": mask, **heads.repeated(head, 6)}
    for device in devices.values():
        found, _ = device.run(content, "rank_16", calls)
        np.testing.assert_allclose(found["scores"], expected, atol=1e-5, err_msg=device.name)
    session = onnxruntime.InferenceSession(to_onnx(model), providers=["CPUExecutionProvider"])
    for row in range(6):
        (scores,) = session.run(["scores"], {"features": features[row], "mask": mask[row], **head})
        np.testing.assert_allclose(scores, expected[row], atol=1e-5)


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes_in_another_process(
    explained: bytes, train_file: bytes, onnx_file: bytes
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONHASHSEED": "77"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a conversion must not chat"
    assert done.stdout.split() == [hashlib.sha256(one).hexdigest() for one in (explained, train_file, onnx_file)]


@pytest.mark.parametrize(
    "convert",
    [lambda student: to_tflite_rank(student, [4], variants=2), lambda student: to_tflite_train(student, 2, 4), to_onnx],
    ids=["rank", "train", "onnx"],
)
def test_converting_leaves_the_student_as_it_was(convert: Callable[[Student], bytes]) -> None:
    student = Student([True, False], (4,)).train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    convert(student)
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(value.requires_grad for value in student.parameters())


@pytest.mark.parametrize("sizes", [(), (0,), (16, -1), (16, 16)])
def test_impossible_slate_sizes_are_refused(sizes: tuple[int, ...], student: Student) -> None:
    with pytest.raises(InputError, match="slate_sizes: expected"):
        to_tflite_rank(student, sizes)


def test_less_than_one_variant_is_refused(student: Student) -> None:
    with pytest.raises(InputError, match="variants: expected 1 or more, got 0"):
        to_tflite_rank(student, [16], variants=0)


NOISE = b"I0000 00:00:1795378.1 77 flatbuffer_export.cc:4410] Estimated count of arithmetic ops\n"
NEWS = b"E0000 00:00:1795378.1 77 interpreter.cc:1] out of memory\n"


def test_known_chatter_is_dropped_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(2, NOISE + NEWS + NOISE)
    os.write(2, b"after\n")
    assert capfd.readouterr().err.encode() == NEWS + b"after\n"


def test_an_error_brings_all_of_the_chatter_out(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with quiet():
            os.write(2, NOISE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert capfd.readouterr().err.encode() == NOISE
