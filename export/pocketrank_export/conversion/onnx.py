"""A ranker as ONNX, for runtimes other than TFLite's and to compare with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pocketrank.errors import InputError
from pocketrank_export.conversion.inputs import named, prepared, rank_inputs, score
from pocketrank_export.conversion.operators import converting
from pocketrank_export.ranker import Ranker, trainables

OPSET = 18


class _Positional(nn.Module):
    """The same by position: torch.export takes no dynamic shapes beside keyword arguments of free names."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, features: Tensor, mask: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in trainables(self.ranker)]
        return score(self.ranker, features, mask, named(names, parameters))


def to_onnx(ranker: Ranker, slate: int = 128) -> bytes:
    """Convert a ranker for ranking to ONNX; float32.

    Args:
        ranker: Its trainables become inputs, the rest constants.
        slate: Candidates of the example that is traced, n >= 2; the file takes any number of them.

    Returns:
        A checked ONNX model with the inputs and the output of ``to_tflite_rank``; its candidate axis ``n`` is dynamic.

    Raises:
        InputError: ``slate`` below 2 (an axis of length 1 can't be traced as a dynamic one), or the ranker can't be
            converted, see ``inputs.prepared`` and ``operators``.
    """
    if slate < 2:
        raise InputError(f"slate: expected a size >= 2, got {slate}")
    import onnx

    module = _Positional(prepared(ranker)).eval()
    inputs = rank_inputs(ranker, slate)
    candidates = torch.export.Dim("n", min=1)
    constant = (None,) * len(trainables(ranker))
    dynamic = ({0: candidates}, {0: candidates}, *((constant,) if constant else ()))
    with converting("ONNX"):
        exported = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=dynamic)
        program = torch.onnx.export(
            exported,
            input_names=list(inputs),
            output_names=["scores"],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


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
