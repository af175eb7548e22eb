"""From a student in PyTorch to the files of a bundle: ``rank.tflite``, ``train.tflite`` and ONNX.

The head's parameters are inputs of every signature, by their name with ``.`` as ``_`` (``head.weight`` ->
``head_weight``): a round on devices changes the parameters and never a file. The rest of the student is constant, and
the signatures of a file share it.

The same weights give the same bytes, within a process and across processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

from pocketrank.errors import InputError
from pocketrank.scorer import EXPLAIN, input_name
from pocketrank_export.chatter import quiet
from pocketrank_export.losses import listwise_cross_entropy
from pocketrank_export.student import Student, trainables

SLATE_SIZES = (16, 64, 128)
TRAIN_BATCH = 8
TRAIN_SLATE = 128
ONNX_OPSET = 18


class _Ranker(nn.Module):
    """A student whose trainables come in by input name; the converter names its outputs by the keys of the result."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, features: Tensor, mask: Tensor, **parameters: Tensor) -> dict[str, Tensor]:
        return {"scores": _score(self.student, features, mask, parameters)}


class _Positional(nn.Module):
    """The same by position: torch.export takes no dynamic shapes beside keyword arguments of free names."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, features: Tensor, mask: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in trainables(self.student)]
        return _score(self.student, features, mask, _named(names, parameters))


class _Traced(nn.Module):
    """A traced function under named inputs and outputs."""

    def __init__(self, traced: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.traced = traced
        self.outputs = tuple(outputs)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.outputs, self.traced(*inputs.values()), strict=True))


def to_tflite_rank(student: Student, slate_sizes: Sequence[int] = SLATE_SIZES, *, variants: int | None = None) -> bytes:
    """Convert a student for ranking; float32.

    Args:
        student: Its trainables become inputs, the rest constants.
        slate_sizes: Candidates a signature, each >= 1, no two alike.
        variants: Slates that ``explain`` scores in one call, v >= 1 (``pocketrank.scorer.variants_of`` a schema); None
            leaves that signature out.

    Returns:
        A TFLite file with one signature ``rank_{n}`` a slate size: inputs ``features`` ``[n, d]``, ``mask`` ``[n]`` and
        the trainables; output ``scores`` ``[n]``, 0 where padded. With ``variants`` also ``explain``, the same with an
        axis ``v`` before the others, of the largest slate size. All float32.

    Guarantees:
        The weights are in the file once, however many signatures there are.

    Raises:
        InputError: No slate sizes, two alike, or one below 1; ``variants`` below 1.
    """
    sizes = tuple(slate_sizes)
    if not sizes or min(sizes) < 1 or len(set(sizes)) != len(sizes):
        raise InputError(
            f"slate_sizes: expected different sizes, each >= 1, got {sizes}; {SLATE_SIZES} is the usual choice"
        )
    if variants is not None and variants < 1:
        raise InputError(
            f"variants: expected 1 or more, got {variants}; pocketrank.scorer.variants_of gives a schema's"
        )
    ranker = _Ranker(deepcopy(student)).eval()
    signatures = {f"rank_{size}": (ranker, _rank_inputs(student, size)) for size in sizes}
    if variants is not None:
        signatures[EXPLAIN] = ranker, _rank_inputs(student, variants, max(sizes))
    return _convert(signatures)


def to_tflite_train(student: Student, batch: int = TRAIN_BATCH, slate: int = TRAIN_SLATE) -> bytes:
    """Convert the student's loss and its gradient, for training on a device; float32.

    Loss and gradient are traced to one graph, with the trainables as inputs and the new trainables as outputs, for no
    TFLite runtime differentiates.

    Args:
        student: Its trainables become inputs, the rest constants.
        batch: Slates a step, b >= 1; a slate of weight 0 fills up a smaller batch.
        slate: Candidates a slate, n >= 1; shorter ones are padded.

    Returns:
        A TFLite file with two signatures. ``train``: inputs ``features`` ``[b, n, d]``, ``labels`` ``[b, n]``, ``mask``
        ``[b, n]``, ``weights`` ``[b]``, ``learning_rate`` ``[]`` and the trainables; outputs ``loss`` ``[]`` (before
        the step) and the trainables after one step of gradient descent, under the names of the inputs. ``loss``: the
        same without ``learning_rate``; output ``loss``. All float32. The loss is ``losses.listwise_cross_entropy``.

    Raises:
        InputError: ``batch`` or ``slate`` below 1.
    """
    if batch < 1 or slate < 1:
        raise InputError(f"batch, slate: expected sizes >= 1, got {batch} and {slate}")
    student = deepcopy(student).eval()
    names = [name for name, _ in trainables(student)]

    def loss(parameters: tuple[Tensor, ...], features: Tensor, labels: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        return listwise_cross_entropy(_score(student, features, mask, _named(names, parameters)), labels, mask, weights)

    def train_step(
        features: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, learning_rate: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        gradients, value = grad_and_value(loss)(parameters, features, labels, mask, weights)
        return (value, *(old - learning_rate * gradient for old, gradient in zip(parameters, gradients, strict=True)))

    def evaluate(features: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, *parameters: Tensor) -> tuple[Tensor]:
        return (loss(parameters, features, labels, mask, weights),)

    evaluated = _batch_inputs(student, batch, slate) | _trainable_inputs(student)
    stepped = _batch_inputs(student, batch, slate) | {"learning_rate": torch.tensor(0.1)} | _trainable_inputs(student)
    new = ["loss", *map(input_name, names)]
    return _convert(
        {
            "train": (_trace(train_step, stepped, new), stepped),
            "loss": (_trace(evaluate, evaluated, ["loss"]), evaluated),
        }
    )


def to_onnx(student: Student, slate: int = 128) -> bytes:
    """Convert a student for ranking to ONNX; float32.

    Args:
        student: Its trainables become inputs, the rest constants.
        slate: Candidates of the example that is traced, n >= 2; the file takes any number of them.

    Returns:
        A checked ONNX model with the inputs and the output of ``to_tflite_rank``; its candidate axis ``n`` is dynamic.

    Raises:
        InputError: ``slate`` below 2 (an axis of length 1 can't be traced as a dynamic one).
    """
    if slate < 2:
        raise InputError(f"slate: expected a size >= 2, got {slate}")
    import onnx

    ranker = _Positional(deepcopy(student)).eval()
    inputs = _rank_inputs(student, slate)
    candidates = torch.export.Dim("n", min=1)
    dynamic = ({0: candidates}, {0: candidates}, (None,) * len(trainables(student)))
    with quiet():
        exported = torch.export.export(ranker, tuple(inputs.values()), dynamic_shapes=dynamic)
        program = torch.onnx.export(
            exported,
            input_names=list(inputs),
            output_names=["scores"],
            opset_version=ONNX_OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _score(student: Student, features: Tensor, mask: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    """The student's scores under trainables that are given by input name."""
    replaced = {name: parameters[input_name(name)] for name, _ in trainables(student)}
    scores: Tensor = functional_call(student, replaced, (features, mask))
    return scores


def _named(names: Sequence[str], parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    return dict(zip(map(input_name, names), parameters, strict=True))


def _trainable_inputs(student: Student) -> dict[str, Tensor]:
    return {input_name(name): torch.ones(shape) for name, shape in trainables(student)}


def _rank_inputs(student: Student, *axes: int) -> dict[str, Tensor]:
    """Examples of the inputs of a ranking signature, in their order, candidates on the last of ``axes``.

    A tracer reads the shapes alone.
    """
    return {"features": torch.ones(*axes, student.width), "mask": torch.ones(*axes)} | _trainable_inputs(student)


def _batch_inputs(student: Student, batch: int, slate: int) -> dict[str, Tensor]:
    lists = torch.ones(batch, slate)
    return {
        "features": torch.ones(batch, slate, student.width),
        "labels": lists,
        "mask": lists.clone(),
        "weights": torch.ones(batch),
    }


def _trace(function: Callable[..., tuple[Tensor, ...]], inputs: dict[str, Tensor], outputs: Sequence[str]) -> nn.Module:
    """Trace a function of the inputs' values, gradients included, to a module of named inputs and outputs."""
    return _Traced(make_fx(function)(*inputs.values()), outputs).eval()


def _convert(signatures: Mapping[str, tuple[nn.Module, dict[str, Tensor]]]) -> bytes:
    """Convert modules to one TFLite file, each under its signature's name, its inputs by name."""
    with quiet():
        import litert_torch
        from litert_torch import progress

        first, *others = ((name, module, None, inputs) for name, (module, inputs) in signatures.items())
        shown = progress.config.show_progress
        progress.config.show_progress = False
        try:
            converter = litert_torch.signature(*first)
            for other in others:
                converter.signature(*other)
            return _compact(bytes(converter.convert().model_content()))
        finally:
            progress.config.show_progress = shown


def _compact(content: bytes) -> bytes:
    """Rename the inner tensors of a file ``t0``, ``t1``, ...: the converter's module paths are a third of a small file.

    Signatures name their inputs and outputs themselves. The names differ across signatures, as the quantizer expects.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for number, tensor in enumerate(tensor for graph in model.subgraphs for tensor in graph.tensors):
        tensor.name = f"t{number}".encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _forget_origin(model: Any) -> None:
    """Drop what the exporter notes of the source (paths and stack traces of the machine that ran it)."""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in graph.value_info:
            del value.metadata_props[:]
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
