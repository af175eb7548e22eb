"""The layers of a converted ranker that can be quantized, and what flows through them on real slates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pocketrank.errors import InputError, PocketRankError
from pocketrank.features.profile import Array
from pocketrank.runtime import Model
from pocketrank_export.quantization.packing import read

Calibration = Mapping[str, Sequence[Mapping[str, Array]]]
"""Real slates: the calls of each signature, each its inputs by name, of the signature's shapes."""


@dataclass(frozen=True)
class Use:
    """A FULLY_CONNECTED operator.

    Attributes:
        graph: Index of its subgraph.
        number: How many operators before it in this subgraph read the same weight.
        given: Its input, index among the subgraph's tensors.
        made: Its output, likewise.
        given_name: Name of the input.
        made_name: Name of the output.
    """

    graph: int
    number: int
    given: int
    made: int
    given_name: str
    made_name: str


@dataclass(frozen=True)
class Layer:
    """A constant weight that FULLY_CONNECTED operators read.

    Attributes:
        name: ``layer_0``, ``layer_1`` and so on, in the order in which they compute.
        shape: Outputs, inputs.
        uses: The operators, of all signatures.
    """

    name: str
    shape: tuple[int, int]
    uses: tuple[Use, ...]

    @property
    def size(self) -> int:
        """How many weights it has."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Range:
    """Least and largest number that a tensor held."""

    low: float
    high: float

    def joined(self, other: Range) -> Range:
        """The range of both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def layers(content: bytes) -> list[Layer]:
    """The layers of a float TFLite file.

    Raises:
        InputError: It is not a TFLite file.
    """
    model = read(content)
    shapes: dict[int, tuple[int, int]] = {}
    uses: dict[int, list[Use]] = {}
    for graph, number, given, weight, made in _operators(model):
        tensors = model.subgraphs[graph].tensors
        buffer = tensors[weight].buffer
        shapes.setdefault(buffer, (int(tensors[weight].shape[0]), int(tensors[weight].shape[1])))
        uses.setdefault(buffer, []).append(
            Use(graph, number, given, made, tensors[given].name.decode(), tensors[made].name.decode())
        )
    return [Layer(f"layer_{index}", shape, tuple(uses[buffer])) for index, (buffer, shape) in enumerate(shapes.items())]


def int8_sizes(content: bytes) -> list[int]:
    """Sizes in elements of the distinct int8 constants of a TFLite file, largest first: what was really quantized."""
    from ai_edge_litert import schema_py_generated as schema

    model = read(content)
    buffers = {
        tensor.buffer for graph in model.subgraphs for tensor in graph.tensors if tensor.type == schema.TensorType.INT8
    }
    return sorted(
        (len(model.buffers[index].data) for index in buffers if model.buffers[index].data is not None), reverse=True
    )


def check_calibration(content: bytes, calibration: Calibration | None, recipe: str) -> Calibration:
    """The slates that ``recipe`` needs, which fit the signatures of ``content``.

    Raises:
        InputError: There are none, a signature is unknown, or an input has another name or shape, or is not finite.
    """
    if not calibration or not any(calibration.values()):
        raise InputError(f"calibration: {recipe} needs real slates, got none; pass the inputs of a rank signature")
    model = Model(content)
    for signature, calls in calibration.items():
        try:
            expected, _ = model.shapes(signature)
        except PocketRankError as error:
            raise InputError(f"calibration: {error}") from error
        for call in calls:
            shapes = {name: value.shape for name, value in call.items()}
            if shapes != expected:
                raise InputError(f"calibration: {signature} takes {expected}, got {shapes}")
            if not all(value.dtype == np.float32 and np.isfinite(value).all() for value in call.values()):
                raise InputError(f"calibration: {signature} takes finite float32, got other numbers")
    return calibration


def ranges(content: bytes, found: Sequence[Layer], calibration: Calibration) -> dict[str, Range]:
    """Run the float file on the slates and note what each layer takes and makes.

    One range holds for all signatures: their weights are the same, so that what flows through them is too, and a bias
    that is quantized by the scale of its layer's input can then be shared as well.

    Returns:
        By tensor name, of every signature.

    Raises:
        InputError: The slates reach a layer in none of their signatures.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without the delegate, which computes several operators in one and leaves nothing between them to read.
    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    graphs = {entry.signatureKey.decode(): entry.subgraphIndex for entry in read(content).signatureDefs}
    seen: dict[tuple[str, int], tuple[Range, Range]] = {}
    for signature, calls in calibration.items():
        runner, graph = interpreter.get_signature_runner(signature), graphs[signature]
        for call in calls:
            runner(**call)
            for layer in found:
                for use in layer.uses:
                    if use.graph == graph:
                        key = layer.name, use.number
                        now = tuple(_range(interpreter.get_tensor(index, graph)) for index in (use.given, use.made))
                        before = seen.get(key, now)
                        seen[key] = before[0].joined(now[0]), before[1].joined(now[1])
    made: dict[str, Range] = {}
    for layer in found:
        for use in layer.uses:
            if (layer.name, use.number) not in seen:
                raise InputError(
                    f"calibration: {layer.name} {list(layer.shape)} is not in {sorted(calibration)}; add a signature "
                    "that has it"
                )
            given, result = seen[layer.name, use.number]
            # An output is often the next one's input, under the same name and with the same range.
            made[use.given_name] = given
            made[use.made_name] = result
    return made


def _range(values: Array) -> Range:
    return Range(float(values.min()), float(values.max()))


def _operators(model: Any) -> Iterator[tuple[int, int, int, int, int]]:
    """Graph, number, input, weight and output of each FULLY_CONNECTED with a constant weight."""
    from ai_edge_litert import schema_py_generated as schema

    codes = [code.builtinCode for code in model.operatorCodes]
    for index, graph in enumerate(model.subgraphs):
        readers: dict[int, int] = {}
        for operator in graph.operators:
            if codes[operator.opcodeIndex] != schema.BuiltinOperator.FULLY_CONNECTED:
                continue
            given, weight, made = int(operator.inputs[0]), int(operator.inputs[1]), int(operator.outputs[0])
            buffer = graph.tensors[weight].buffer
            if model.buffers[buffer].data is None:
                continue  # an input: what devices train stays float
            number = readers.get(buffer, 0)
            readers[buffer] = number + 1
            yield index, number, given, weight, made
