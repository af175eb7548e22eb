"""Modules to one TFLite file of several signatures that share their constants.

The same weights give the same bytes, within a process and across processes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pocketrank_export.conversion.operators import check_operators, converting


def convert(signatures: Mapping[str, tuple[nn.Module, dict[str, Tensor]]]) -> bytes:
    """Convert modules to one TFLite file, each under its signature's name, its inputs by name.

    Raises:
        InputError: The converter can't, or the runtimes of devices don't know an operator of the file.
    """
    with converting("TFLite"):
        import litert_torch
        from litert_torch import progress

        first, *others = ((name, module, None, inputs) for name, (module, inputs) in signatures.items())
        shown = progress.config.show_progress
        progress.config.show_progress = False
        try:
            converter = litert_torch.signature(*first)
            for other in others:
                converter.signature(*other)
            content = _compact(bytes(converter.convert().model_content()))
        finally:
            progress.config.show_progress = shown
    check_operators(content)
    return content


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
