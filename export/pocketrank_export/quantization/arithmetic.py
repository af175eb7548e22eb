"""How the numbers of a layer are stored and computed with: four ways, all by ai-edge-quantizer."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import numpy as np

from pocketrank_export.chatter import quiet
from pocketrank_export.quantization.layers import Layer, Range
from pocketrank_export.quantization.packing import packed


class Arithmetic(Enum):
    """A way to store the weights of a layer and to compute with them."""

    HALF = "half"
    """float16 weights, turned into float32 before use."""
    STORED = "stored"
    """int8 weights, one scale an output channel, turned into float32 before use."""
    DYNAMIC = "dynamic"
    """int8 weights, one scale a tensor; each call finds the scale of its input, and multiplies in integers."""
    STATIC = "static"
    """int8 weights, one scale a tensor; inputs and outputs in int8 too, by ranges that were seen beforehand."""


def apply(
    content: bytes, chosen: Sequence[Layer], arithmetic: Arithmetic, ranges: Mapping[str, Range] | None = None
) -> bytes:
    """Quantize some layers of a float TFLite file, in all its signatures.

    Args:
        content: A float TFLite file.
        chosen: Of its layers, one or more.
        arithmetic: What becomes of them.
        ranges: By tensor name, for ``STATIC``.

    Returns:
        A TFLite file; all else is float32 as it was.
    """
    with quiet(), _known_unlogged():
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

        algorithms = algorithm_manager.AlgorithmName
        names = (re.escape(use.made_name) for layer in chosen for use in layer.uses)
        job = quantizer.Quantizer(bytearray(content))
        job.update_quantization_recipe(
            regex=f"^(?:{'|'.join(names)});",
            operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
            op_config=_config(arithmetic),
            algorithm_key=algorithms.FLOAT_CASTING
            if arithmetic is Arithmetic.HALF
            else algorithms.MIN_MAX_UNIFORM_QUANT,
        )
        statistics = None if ranges is None else {name: _statistics(found) for name, found in ranges.items()}
        made = job.quantize(statistics, enable_progress_bar=False, enable_progress_report=False).quantized_model
    assert made is not None
    return packed(bytes(made))


def _config(arithmetic: Arithmetic) -> Any:
    from ai_edge_quantizer import qtyping

    def tensor(granularity: str, *, bits: int = 8, symmetric: bool = True) -> Any:
        return qtyping.TensorQuantizationConfig(
            num_bits=bits,
            symmetric=symmetric,
            granularity=qtyping.QuantGranularity(granularity),
            dtype=qtyping.TensorDataType.FLOAT if bits == 16 else qtyping.TensorDataType.INT,
        )

    precision = qtyping.ComputePrecision
    weight, activation, computed, explicit = {
        Arithmetic.HALF: (tensor("TENSORWISE", bits=16), None, precision.FLOAT, True),
        Arithmetic.STORED: (tensor("CHANNELWISE"), None, precision.FLOAT, True),
        # A scale a channel would be finer. tflite-runtime 2.14 takes such a file and gives wrong scores.
        Arithmetic.DYNAMIC: (tensor("TENSORWISE"), None, precision.INTEGER, False),
        Arithmetic.STATIC: (tensor("TENSORWISE"), tensor("TENSORWISE", symmetric=False), precision.INTEGER, False),
    }[arithmetic]
    return qtyping.OpQuantizationConfig(
        weight_tensor_config=weight,
        activation_tensor_config=activation,
        compute_precision=computed,
        explicit_dequantize=explicit,
        min_weight_elements=0,
    )


def _statistics(found: Range) -> dict[str, Any]:
    return {"min": np.array([[found.low]], np.float32), "max": np.array([[found.high]], np.float32)}


@contextmanager
def _known_unlogged() -> Iterator[None]:
    """Drop two warnings of the quantizer that mean nothing.

    Where signatures share a constant it writes the same numbers once more, and says so to the root logger, which would
    also be given a handler for good by the first such warning. And it opens an Interpreter with a debugger's option.
    """

    def known(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Quantized data for tensor")

    root = logging.getLogger()
    lent = logging.lastResort if not root.handlers else None
    root.addFilter(known)
    if lent is not None:
        root.addHandler(lent)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Warning: Enabling `experimental_preserve_all_tensors`")
            yield
    finally:
        root.removeFilter(known)
        if lent is not None:
            root.removeHandler(lent)
