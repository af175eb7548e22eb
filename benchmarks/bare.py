"""What an app would write without the SDK: the runtime's Interpreter, called with arrays that are ready."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def runner(module: str, model: bytes, signature: str) -> Callable[..., Any]:
    """The runner of ``signature`` on one thread, of the runtime whose Interpreter lies in ``module``.

    ``allocate_tensors`` comes first: without it tflite-runtime 2.14 runs signatures on its slow kernels.
    """
    interpreter = importlib.import_module(module).Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    found: Callable[..., Any] = interpreter.get_signature_runner(signature)
    return found


def invoke(module: str, model: bytes) -> Callable[[], object]:
    """``Interpreter.invoke`` of a model with one signature: no inputs are set, no outputs read."""
    interpreter = importlib.import_module(module).Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    found: Callable[[], object] = interpreter.invoke
    return found


def ones(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Ready arrays of ``shapes``."""
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
