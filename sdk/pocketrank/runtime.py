"""A TFLite model on whichever runtime works here.

A runtime is probed by building an Interpreter with the model itself: under a
numpy that it was not built for, tflite-runtime imports and fails only then.
"""

from __future__ import annotations

import importlib
import threading
from importlib.metadata import version
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from pocketrank.errors import ModelError, RuntimeMissingError

RUNTIMES: Final = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
"""Distribution to module, in the order of preference."""

_MISSING: Final = 'no TFLite runtime works here; pip install "pocketrank[litert]" (or "[tflite]" with numpy < 2)'


class _Runner(Protocol):
    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]: ...
    def get_input_details(self) -> dict[str, Any]: ...


class _Interpreter(Protocol):
    def get_signature_list(self) -> dict[str, Any]: ...
    def get_signature_runner(self, signature_key: str) -> _Runner: ...


class Model:
    """A model file in an Interpreter; safe to share between threads, one runs at a time.

    Attributes:
        runtime: Name of the distribution that runs it.
        signatures: What the model can be asked.
    """

    def __init__(self, content: bytes, *, threads: int = 1) -> None:
        """Build an Interpreter of ``content`` on the first runtime that can.

        Raises:
            RuntimeMissingError: No runtime is installed that could build one.
            ModelError: A runtime is there, and refuses the model.
        """
        self.runtime, self._interpreter = _build(content, threads)
        self.signatures = frozenset(self._interpreter.get_signature_list())
        self._runners: dict[str, tuple[_Runner, dict[str, tuple[int, ...]]]] = {}
        self._lock = threading.Lock()

    @property
    def runtime_version(self) -> str:
        """Version of the runtime's distribution."""
        return version(self.runtime)

    def run(self, signature: str, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Call ``signature``; the outputs are copies that the caller may keep.

        Raises:
            ModelError: There is no such signature, or an input does not fit it.
        """
        shapes = {name: value.shape for name, value in inputs.items()}
        with self._lock:
            try:
                if signature not in self._runners:
                    runner = self._interpreter.get_signature_runner(signature)
                    details = runner.get_input_details()
                    expected = {name: tuple(detail["shape"].tolist()) for name, detail in details.items()}
                    self._runners[signature] = runner, expected
                runner, expected = self._runners[signature]
                if shapes != expected:
                    # A runtime resizes the model to whatever comes, and may then broadcast it without a word.
                    raise ValueError(f"expected {expected}")
                return runner(**inputs)
            except (ValueError, RuntimeError, TypeError) as error:
                raise ModelError(f"{self.runtime}: {signature}{shapes} failed: {error}") from error


def _build(content: bytes, threads: int) -> tuple[str, _Interpreter]:
    causes: dict[str, BaseException] = {}
    refused: ValueError | None = None
    for name, module in RUNTIMES.items():
        try:
            interpreter = importlib.import_module(module).Interpreter(model_content=content, num_threads=threads)
            # A signature list is read from the model itself, so this also refuses a file that only looks like one.
            interpreter.get_signature_list()
        except (ImportError, AttributeError, SystemError) as error:
            causes[name] = error
        except (ValueError, RuntimeError) as error:
            refused = ValueError(f"{name}: {error}")
        else:
            return name, interpreter
    if refused is not None:
        raise ModelError(f"the runtime refuses the model: {refused}") from refused
    raise RuntimeMissingError(f"{_MISSING}: {causes}")
