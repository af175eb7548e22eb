"""Int8 weights for a converted student.

The recipe is weight-only: weights are stored as int8, one scale an output channel, and an explicit DEQUANTIZE turns
them into float32 before use. All arithmetic stays float32, so that both TFLite runtimes give the same scores up to
rounding. The recipe that ai-edge-quantizer offers first, dynamic-range int8 with channelwise scales, is not safe:
tflite-runtime 2.14 does not support it and raises no error; every candidate gets the same score from the backbone.
"""

from __future__ import annotations

from pocketrank.errors import InputError
from pocketrank_export.chatter import quiet

_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite file


def weight_int8(content: bytes) -> bytes:
    """Quantize the constant weights of all FULLY_CONNECTED operators to int8, however small they are.

    Args:
        content: A float TFLite file, as ``conversion.to_tflite_rank`` makes it.

    Returns:
        A TFLite file with the same signatures, inputs and outputs, all float32. Biases, and weights that are inputs,
        stay float32.

    Guarantees:
        The same bytes in give the same bytes out.

    Raises:
        InputError: Not a TFLite file, one quantized already, or one without a weight to quantize.
    """
    if content[4:8] != _IDENTIFIER:
        raise InputError(
            f"content: expected a TFLite file ({_IDENTIFIER!r} at byte 4), "
            f"got {len(content)} bytes starting {content[:8]!r}"
        )
    if int8_sizes(content):
        raise InputError(
            "content: expected a float model, got one that is quantized already; pass the converter's output"
        )
    with quiet():
        from ai_edge_quantizer import qtyping, quantizer

        job = quantizer.Quantizer(bytearray(content))
        job.update_quantization_recipe(
            regex=".*",
            operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(
                    num_bits=8,
                    symmetric=True,
                    granularity=qtyping.QuantGranularity.CHANNELWISE,
                    dtype=qtyping.TensorDataType.INT,
                ),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
                min_weight_elements=0,
            ),
        )
        quantized = job.quantize(enable_progress_bar=False, enable_progress_report=False).quantized_model
    assert quantized is not None
    result = bytes(quantized)
    if not int8_sizes(result):
        raise InputError(
            "content: expected a float model with constant FULLY_CONNECTED weights, found none to quantize"
        )
    return result


def int8_sizes(content: bytes) -> list[int]:
    """Sizes in elements of the distinct int8 constants of a TFLite file, largest first: what was really quantized."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffers = {
        tensor.buffer for graph in model.subgraphs for tensor in graph.tensors if tensor.type == schema.TensorType.INT8
    }
    return sorted(
        (len(model.buffers[index].data) for index in buffers if model.buffers[index].data is not None), reverse=True
    )
