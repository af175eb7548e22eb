"""Recipes by name, each of a float file that ``conversion`` made.

``float32``
    The weights as they are.
``float16``
    The weights in float16. All arithmetic stays float32.
``weight_int8``
    The weights in int8, one scale an output channel; an explicit DEQUANTIZE turns them into float32 before use. All
    arithmetic stays float32, so that both TFLite runtimes give the same scores up to rounding, as fast as before.
``dynamic_int8_tensor``
    The weights in int8, one scale a tensor, and products in integers by scales that each call finds for its inputs.
``static_int8``
    The weights, inputs and outputs of the layers in int8, by scales found on real slates. A layer that makes one number
    stays float: as a score in 256 steps it would tie candidates. So does what stands between the layers (standardising,
    normalising, attention's weights), and so do the inputs and outputs of the model.
``mixed_int8``
    ``weight_int8`` for the layers that stand it; those that a measurement found sensitive stay float.

The recipe that ai-edge-quantizer offers first, dynamic-range int8 with a scale a channel, is not among them:
tflite-runtime 2.14 does not support it and raises no error; every candidate gets the same score from the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pocketrank.errors import InputError
from pocketrank_export.chatter import quiet
from pocketrank_export.quantization.arithmetic import Arithmetic, apply
from pocketrank_export.quantization.layers import Calibration, Layer, check_calibration, int8_sizes, layers, ranges
from pocketrank_export.quantization.sensitivity import damages, sensitive

__all__ = ["CALIBRATED", "RECIPES", "int8_sizes", "quantize", "weight_int8"]

RECIPES: Final = ("float32", "float16", "weight_int8", "dynamic_int8_tensor", "static_int8", "mixed_int8")
CALIBRATED: Final = ("static_int8", "mixed_int8")
"""Those that need real slates."""
_ARITHMETIC: Final = {
    "float16": Arithmetic.HALF,
    "weight_int8": Arithmetic.STORED,
    "dynamic_int8_tensor": Arithmetic.DYNAMIC,
    "static_int8": Arithmetic.STATIC,
    "mixed_int8": Arithmetic.STORED,
}


def quantize(content: bytes, recipe: str, calibration: Calibration | None = None, *, skip: Sequence[str] = ()) -> bytes:
    """Quantize the constant weights of all FULLY_CONNECTED operators, however small they are.

    Args:
        content: A float TFLite file, as ``conversion.to_tflite_rank`` makes it.
        recipe: One of ``RECIPES``.
        calibration: Real slates, for the recipes of ``CALIBRATED``: calls of one signature or more.
        skip: Names of layers (``layers.layers``) that stay float, beside those that the recipe leaves.

    Returns:
        A TFLite file with the same signatures, inputs and outputs, all float32. Biases stay float32 but in
        ``static_int8``; weights that are inputs stay float32.

    Guarantees:
        The weights are in the file once, however many signatures there are, and all signatures give the same scores.
        The same bytes and slates in give the same bytes out.

    Raises:
        InputError: An unknown recipe or layer; not a TFLite file, one quantized already, or one without a weight to
            quantize; slates that are missing or don't fit.
    """
    if recipe not in RECIPES:
        raise InputError(f"recipe: expected one of {RECIPES}, got {recipe!r}")
    if int8_sizes(content):
        raise InputError(
            "content: expected a float model, got one that is quantized already; pass the converter's output"
        )
    found = layers(content)
    names = [layer.name for layer in found]
    if unknown := sorted(set(skip) - set(names)):
        raise InputError(f"skip: no layers {unknown}; the model has {names}")
    if recipe == "float32":
        return content
    chosen = [layer for layer in found if layer.name not in skip and not (recipe == "static_int8" and _scores(layer))]
    if not chosen:
        raise InputError(
            f"content: expected a float model with constant FULLY_CONNECTED weights, found none to quantize by {recipe}"
            f" among {[list(layer.shape) for layer in found]}; take another recipe, or float32"
        )
    arithmetic = _ARITHMETIC[recipe]
    if recipe not in CALIBRATED:
        return apply(content, chosen, arithmetic)
    with quiet():
        slates = check_calibration(content, calibration, recipe)
        if recipe == "static_int8":
            return apply(content, chosen, arithmetic, ranges(content, chosen, slates))
        left = sensitive(damages(content, chosen, slates))
        return apply(content, [layer for layer in chosen if layer.name not in left], arithmetic)


def weight_int8(content: bytes) -> bytes:
    """``quantize`` by the recipe ``weight_int8``."""
    return quantize(content, "weight_int8")


def _scores(layer: Layer) -> bool:
    """Whether a layer makes one number a candidate."""
    return layer.shape[0] == 1
