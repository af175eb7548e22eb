"""Each recipe on each runtime: the float model's order, one copy of the weights, and float inputs and outputs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from benchmarks.students import ListwiseStudent
from pocketrank.errors import InputError
from pocketrank.runtime import Model
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.evaluation import kendall_tau
from pocketrank_export.quantization.layers import Calibration, layers
from pocketrank_export.quantization.packing import packed, read
from pocketrank_export.quantization.recipes import CALIBRATED, RECIPES, int8_sizes, quantize
from pocketrank_export.quantization.sensitivity import damages, sensitive
from pocketrank_export.student import Student
from tests.export import heads

Array = NDArray[np.float32]
COLUMNS, SIZES, VARIANTS, SLATES = 12, (16, 32), 3, 30
TYPES = schema.TensorType
QUANTIZED = [recipe for recipe in RECIPES if recipe != "float32"]
INT8 = [recipe for recipe in QUANTIZED if recipe != "float16"]


def drawn(made: Student) -> Student:
    with torch.no_grad():
        made.head.weight.normal_(std=0.02)
        made.head.weight[-1] = 1.0
    return made.eval()


@pytest.fixture(scope="module")
def students() -> dict[str, Student]:
    torch.manual_seed(3)
    public = [column % 2 == 0 for column in range(COLUMNS)]
    return {"mlp": drawn(Student(public, (24, 8))), "attention": drawn(ListwiseStudent(public, 16))}


@pytest.fixture(scope="module")
def floats(students: dict[str, Student]) -> dict[str, bytes]:
    """That with attention has several signatures."""
    return {
        "mlp": to_tflite_rank(students["mlp"], SIZES[-1:]),
        "attention": to_tflite_rank(students["attention"], SIZES, variants=VARIANTS),
    }


@pytest.fixture(scope="module")
def lone(students: dict[str, Student]) -> bytes:
    """Attention with one signature."""
    return to_tflite_rank(students["attention"], SIZES[-1:])


@pytest.fixture(scope="module")
def slates() -> tuple[Array, Array]:
    """Features ``[s, 32, d]`` of unlike scales, and masks of 17 to 32 candidates."""
    rng = np.random.default_rng(4)
    scale, centre = rng.uniform(0.1, 100.0, COLUMNS), rng.normal(0.0, 50.0, COLUMNS)
    features = (rng.gamma(2.0, size=(SLATES, SIZES[-1], COLUMNS)) * scale + centre).astype(np.float32)
    mask = (np.arange(SIZES[-1]) < rng.integers(17, 33, SLATES)[:, None]).astype(np.float32)
    return features * mask[..., None], mask


def calls(student: Student, slates: tuple[Array, Array], count: int = SLATES) -> Calibration:
    head = heads.own(student)
    pairs = zip(*slates, strict=True)
    return {"rank_32": [{"features": features, "mask": mask, **head} for features, mask in pairs][:count]}


@pytest.fixture(scope="module")
def made(
    floats: dict[str, bytes], students: dict[str, Student], slates: tuple[Array, Array]
) -> Callable[[str, str], bytes]:
    held: dict[tuple[str, str], bytes] = {}

    def make(name: str, recipe: str) -> bytes:
        if (name, recipe) not in held:
            held[name, recipe] = quantize(floats[name], recipe, calls(students[name], slates))
        return held[name, recipe]

    return make


def constants(content: bytes) -> list[bytes]:
    """The constants, but for those of the sizes that a RESHAPE takes, which differ with the slate."""
    return sorted(
        bytes(buffer.data) for buffer in read(content).buffers if buffer.data is not None and len(buffer.data) > 16
    )


def weights(content: bytes) -> list[tuple[tuple[int, ...], int]]:
    """Shape and type of the constants that FULLY_CONNECTED operators of the first signature read, through a DEQUANTIZE.

    In the order of the operators.
    """
    model = read(content)
    graph, codes = model.subgraphs[0], [code.builtinCode for code in model.operatorCodes]
    given = {int(operator.outputs[0]): operator for operator in graph.operators}
    found = []
    for operator in graph.operators:
        if codes[operator.opcodeIndex] == schema.BuiltinOperator.FULLY_CONNECTED:
            index = int(operator.inputs[1])
            if index in given and codes[given[index].opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE:
                index = int(given[index].inputs[0])
            tensor = graph.tensors[index]
            if model.buffers[tensor.buffer].data is not None:
                found.append((tuple(map(int, tensor.shape)), tensor.type))
    return found


@pytest.mark.parametrize("recipe", QUANTIZED)
def test_a_recipe_keeps_the_order_on_each_runtime_in_the_signatures_that_rank_and_explain(
    recipe: str, device: Any, made: Callable[[str, str], bytes], students: dict[str, Student], slates: Any
) -> None:
    content, student, (features, mask) = made("attention", recipe), students["attention"], slates
    exact = (
        heads.score(student, torch.from_numpy(features), torch.from_numpy(mask), heads.own(student)).detach().numpy()
    )
    head = heads.own(student)
    ranked, _ = device.run(content, "rank_32", {"features": features, "mask": mask, **heads.repeated(head, SLATES)})
    assert np.isfinite(ranked["scores"]).all()
    assert kendall_tau(ranked["scores"], exact, mask) >= 0.98
    groups = SLATES // VARIANTS
    variants = {name: value.reshape(groups, VARIANTS, *value.shape[1:]) for name, value in zip(
        ("features", "mask"), slates, strict=True)}  # fmt: skip
    explained, _ = device.run(content, "explain", variants | heads.repeated(head, groups))
    np.testing.assert_allclose(explained["scores"].reshape(SLATES, -1), ranked["scores"], atol=1e-5)


@pytest.mark.parametrize("recipe", QUANTIZED)
def test_all_signatures_share_weights_and_biases(
    recipe: str, made: Callable[[str, str], bytes], lone: bytes, students: dict[str, Student], slates: Any
) -> None:
    alone = quantize(lone, recipe, calls(students["attention"], slates))
    assert constants(made("attention", recipe)) == constants(alone)
    assert weights(made("attention", recipe)) == weights(alone)


@pytest.mark.parametrize("recipe", RECIPES)
def test_inputs_and_outputs_stay_float_and_keep_their_names(
    recipe: str, made: Callable[[str, str], bytes], floats: dict[str, bytes]
) -> None:
    found: list[dict[str, list[tuple[bytes, int, list[int]]]]] = []
    for content in (made("attention", recipe), floats["attention"]):
        model = read(content)
        found.append({
            entry.signatureKey.decode(): [
                (side.name, tensor.type, [int(size) for size in tensor.shape])
                for side in (*entry.inputs, *entry.outputs)
                for tensor in [model.subgraphs[entry.subgraphIndex].tensors[side.tensorIndex]]
            ]
            for entry in model.signatureDefs
        })  # fmt: skip
    assert found[0] == found[1]
    assert {kind for sides in found[0].values() for _, kind, _ in sides} == {TYPES.FLOAT32}


@pytest.mark.parametrize(
    ("recipe", "kept", "last"),
    [
        ("float16", TYPES.FLOAT16, TYPES.FLOAT16),
        ("weight_int8", TYPES.INT8, TYPES.INT8),
        ("dynamic_int8_tensor", TYPES.INT8, TYPES.INT8),
        ("static_int8", TYPES.INT8, TYPES.FLOAT32),
    ],
)
def test_a_recipe_does_what_its_name_says(
    recipe: str, kept: int, last: int, made: Callable[[str, str], bytes], floats: dict[str, bytes]
) -> None:
    shapes = [layer.shape for layer in layers(floats["attention"])]
    content = made("attention", recipe)
    assert weights(content) == [*((shape, kept) for shape in shapes[:-1]), (shapes[-1], last)]
    # Activations in int8 are tensors without a constant.
    model = read(content)
    flowing = [
        tensor
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.type == TYPES.INT8 and model.buffers[tensor.buffer].data is None
    ]
    assert bool(flowing) == (recipe == "static_int8")


@pytest.mark.parametrize(("recipe", "scales"), [("weight_int8", "a channel"), ("dynamic_int8_tensor", "a tensor")])
def test_scales_are_a_channels_where_floats_compute_and_a_tensors_where_integers_do(
    recipe: str, scales: str, made: Callable[[str, str], bytes]
) -> None:
    found = {
        (int(tensor.shape[0]), len(tensor.quantization.scale))
        for graph in read(made("mlp", recipe)).subgraphs
        for tensor in graph.tensors
        if tensor.type == TYPES.INT8
    }
    assert found == {(outputs, outputs if scales == "a channel" else 1) for outputs in (24, 8, 1)}


def test_float32_is_the_file_itself(floats: dict[str, bytes]) -> None:
    assert quantize(floats["mlp"], "float32") == floats["mlp"]


def test_float16_rounds_each_weight_to_the_nearest_half(
    made: Callable[[str, str], bytes], students: dict[str, Student]
) -> None:
    halves = [
        np.frombuffer(bytes(buffer.data), np.float16)
        for buffer in read(made("mlp", "float16")).buffers
        if buffer.data is not None and len(buffer.data) == 24 * 8 * 2
    ]
    (weight,) = halves
    layer = students["mlp"].layers[1]
    assert isinstance(layer, torch.nn.Linear)
    np.testing.assert_array_equal(weight, layer.weight.detach().numpy().astype(np.float16).ravel())


@pytest.mark.parametrize("recipe", CALIBRATED)
def test_calibrated_recipes_are_deterministic_and_don_t_hang_on_the_order_of_slates(
    recipe: str, made: Callable[[str, str], bytes], floats: dict[str, bytes], students: dict[str, Student], slates: Any
) -> None:
    backwards = {"rank_32": calls(students["mlp"], slates)["rank_32"][::-1]}
    assert quantize(floats["mlp"], recipe, backwards) == made("mlp", recipe)


def test_mixed_leaves_in_float_what_the_measurement_names(
    made: Callable[[str, str], bytes], floats: dict[str, bytes], students: dict[str, Student], slates: Any
) -> None:
    found = layers(floats["attention"])
    left = sensitive(damages(floats["attention"], found, calls(students["attention"], slates)))
    assert 0 < len(left) < len(found)
    kinds = [TYPES.FLOAT32 if layer.name in left else TYPES.INT8 for layer in found]
    assert weights(made("attention", "mixed_int8")) == [
        (layer.shape, kind) for layer, kind in zip(found, kinds, strict=True)
    ]


@pytest.mark.parametrize("recipe", INT8)
def test_layers_may_be_left_out_by_name(
    recipe: str, floats: dict[str, bytes], students: dict[str, Student], slates: Any
) -> None:
    content = quantize(floats["mlp"], recipe, calls(students["mlp"], slates, 3), skip=["layer_0"])
    assert weights(content)[0] == ((24, COLUMNS), TYPES.FLOAT32)
    assert int8_sizes(content)


def test_what_a_device_trains_stays_float(made: Callable[[str, str], bytes], floats: dict[str, bytes]) -> None:
    """The lift is the weight of a FULLY_CONNECTED too, and an input."""
    shape = (16, COLUMNS // 2)
    assert shape not in {layer.shape for layer in layers(floats["attention"])}
    for recipe in RECIPES:
        model = read(made("attention", recipe))
        kinds = {
            tensor.type
            for graph in model.subgraphs
            for index, tensor in enumerate(graph.tensors)
            if index in set(map(int, graph.inputs)) and tuple(tensor.shape) == shape
        }
        assert kinds == {TYPES.FLOAT32}


def test_the_stock_channelwise_recipe_ties_the_candidates_of_attention_on_tflite_runtime(
    devices: dict[str, Any],
    floats: dict[str, bytes],
    students: dict[str, Student],
    slates: Any,
    channelwise_dynamic: Callable[[bytes], bytes],
) -> None:
    if "tflite-runtime" not in devices:
        pytest.skip("needs an environment with tflite-runtime")
    (features, mask), head = slates, heads.none(students["attention"])
    inputs = {"features": features, "mask": mask, **heads.repeated(head, SLATES)}
    spread: dict[tuple[str, str], Any] = {}
    for recipe, content in {
        "trap": channelwise_dynamic(floats["attention"]),
        "ours": quantize(floats["attention"], "dynamic_int8_tensor"),
    }.items():
        for runtime, device in devices.items():
            outputs, _ = device.run(content, "rank_32", inputs)
            scores = np.nan_to_num(outputs["scores"])
            spread[recipe, runtime] = np.array([row[real > 0].std() for row, real in zip(scores, mask, strict=True)])
    healthy = spread["ours", "ai-edge-litert"]
    assert (spread["trap", "tflite-runtime"] < 0.01 * healthy).all(), "no candidate is told from another"
    for sound in (("trap", "ai-edge-litert"), ("ours", "tflite-runtime")):
        np.testing.assert_allclose(spread[sound], healthy, rtol=0.2)


def test_packing_changes_nothing_and_aligns_every_constant(floats: dict[str, bytes]) -> None:
    content = floats["attention"]
    small = packed(content)
    assert len(small) < len(content)
    assert plain(read(small)) == plain(read(content))
    assert packed(small) == small
    model = schema.Model.GetRootAs(small, 0)
    for index in range(model.BuffersLength()):
        table = model.Buffers(index)
        if table.DataLength():
            assert table._tab.Vector(table._tab.Offset(4)) % 16 == 0


def plain(value: Any) -> Any:
    """An object of the schema as tuples, to be compared."""
    if isinstance(value, np.ndarray | list):
        return tuple(plain(item) for item in value)
    return tuple((name, plain(item)) for name, item in vars(value).items()) if hasattr(value, "__dict__") else value


def test_constants_that_the_quantizer_puts_behind_the_file_come_back_into_it() -> None:
    columns, hidden = 300, 1000
    content = quantize(to_tflite_rank(drawn(Student([True] * columns, (hidden,))), (4,)), "weight_int8")
    assert int8_sizes(content) == [columns * hidden, hidden]
    mask = np.ones(4, np.float32)
    features = np.random.default_rng(0).normal(size=(4, columns)).astype(np.float32)
    head = np.concatenate([np.zeros(columns), [1.0]]).astype(np.float32)
    assert Model(content).run("rank_4", features=features, mask=mask, head_weight=head)["scores"].std() > 0


@pytest.mark.parametrize("recipe", QUANTIZED)
def test_quantizing_says_nothing_and_leaves_logging_alone(
    recipe: str,
    floats: dict[str, bytes],
    students: dict[str, Student],
    slates: Any,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", open(2, "w", closefd=False))  # noqa: SIM115  (as outside of pytest)
    before = list(logging.getLogger().handlers), list(logging.getLogger().filters)
    quantize(floats["mlp"], recipe, calls(students["mlp"], slates, 2))
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger().handlers, logging.getLogger().filters) == before


def changed(calibration: Calibration, **inputs: NDArray[Any]) -> Calibration:
    return {"rank_32": [{**calibration["rank_32"][0], **inputs}]}


def test_an_unknown_recipe_or_layer_is_refused(floats: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match=r"recipe: expected one of .*'mixed_int8'.*got 'int4'"):
        quantize(floats["mlp"], "int4")
    with pytest.raises(InputError, match=r"skip: no layers \['layer_9'\]; the model has \['layer_0', "):
        quantize(floats["mlp"], "weight_int8", skip=["layer_9"])


@pytest.mark.parametrize("recipe", CALIBRATED)
@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (lambda _: None, "needs real slates"),
        (lambda _: {"rank_32": []}, "needs real slates"),
        (lambda good: {"rank_99": good["rank_32"]}, "rank_99 is none of"),
        (lambda good: changed(good, mask=np.ones(16, np.float32)), "rank_32 takes .*got"),
        (lambda good: changed(good, mask=np.ones(32)), "finite float32"),
        (lambda good: changed(good, features=np.full((32, COLUMNS), np.nan, np.float32)), "finite float32"),
        (lambda good: {"rank_32": [{"features": good["rank_32"][0]["features"]}]}, "rank_32 takes"),
    ],
)
def test_slates_that_are_missing_or_don_t_fit_are_refused(
    recipe: str,
    calibration: Callable[[Calibration], Calibration | None],
    message: str,
    floats: dict[str, bytes],
    students: dict[str, Student],
    slates: Any,
) -> None:
    with pytest.raises(InputError, match=message):
        quantize(floats["mlp"], recipe, calibration(calls(students["mlp"], slates)))


@pytest.fixture(scope="module")
def linear() -> tuple[bytes, Mapping[str, Any]]:
    student = Student([True] * 4, ())
    rng = np.random.default_rng(1)
    call = {"features": rng.normal(size=(8, 4)).astype(np.float32), "mask": np.ones(8, np.float32)}
    return to_tflite_rank(student, (8,)), {"rank_8": [call | heads.own(student)]}


def test_a_model_that_static_leaves_in_float_is_refused_by_it(linear: tuple[bytes, Calibration]) -> None:
    with pytest.raises(InputError, match=r"none to quantize by static_int8 among \[\[1, 4\]\]"):
        quantize(linear[0], "static_int8", linear[1])


def test_mixed_quantizes_the_only_layer(linear: tuple[bytes, Calibration]) -> None:
    assert int8_sizes(quantize(linear[0], "mixed_int8", linear[1])) == [4]
    assert quantize(linear[0], "mixed_int8", linear[1]) == quantize(linear[0], "weight_int8")


def test_a_model_whose_weights_are_all_inputs_has_nothing_to_quantize() -> None:
    student = Student([True] * 4, (3,))
    student.choose_trainable("all")
    with pytest.raises(InputError, match="found none to quantize by weight_int8"):
        quantize(to_tflite_rank(student, (8,)), "weight_int8")


def test_a_torn_file_is_refused(floats: dict[str, bytes]) -> None:
    for length in (8, 20, 200):
        with pytest.raises(InputError, match="can't be read"):
            quantize(floats["mlp"][:length], "weight_int8")
