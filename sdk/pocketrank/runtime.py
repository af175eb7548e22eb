"""A TFLite model on whichever runtime works here.

A runtime is probed by building an Interpreter with the model itself: under a
numpy that it was not built for, tflite-runtime imports and fails only then.

An Interpreter runs one call at a time, on one thread, so that a model holds a
few of them; a runtime lets go of the GIL while it computes.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from pocketrank.errors import ModelError, RuntimeMissingError
from pocketrank.forks import Part

RUNTIMES: Final = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
"""Distribution to module, in the order of preference."""
MAX_POOL: Final = 4
"""Most Interpreters of one model; calls beyond that wait for one."""

_MISSING: Final = 'no TFLite runtime works here; pip install "pocketrank[litert]" (or "[tflite]" with numpy < 2)'

Shapes = dict[str, tuple[int, ...]]


class _Runner(Protocol):
    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]: ...
    def get_input_details(self) -> dict[str, Any]: ...
    def get_output_details(self) -> dict[str, Any]: ...


class _Interpreter(Protocol):
    def get_signature_list(self) -> dict[str, Any]: ...
    def allocate_tensors(self) -> None: ...
    def get_signature_runner(self, signature_key: str) -> _Runner: ...


class Model(Part):
    """A model file in a pool of Interpreters; any number of threads may share it, and a forked child may go on with it.

    Attributes:
        runtime: Name of the distribution that runs it.
        signatures: What the model can be asked.
    """

    def __init__(self, content: bytes | Mapping[str, bytes]) -> None:
        """Build an Interpreter on the first runtime that can; others follow when calls overlap.

        Args:
            content: The model, or each runtime's own by the runtime's name.

        Raises:
            RuntimeMissingError: No runtime is installed that could build one.
            ModelError: A runtime is there, and refuses the model.
        """
        contents = dict.fromkeys(RUNTIMES, content) if isinstance(content, bytes) else content
        self.runtime, first = _build(contents)
        self.signatures = frozenset(first.get_signature_list())
        self._content = contents[self.runtime]
        self._pool = _Pool(self._content, self.runtime, _Runners(first))
        super().__init__()

    @property
    def runtime_version(self) -> str:
        """Version of the runtime's distribution."""
        from importlib.metadata import version

        return version(self.runtime)

    def shapes(self, signature: str) -> tuple[Shapes, Shapes]:
        """Shapes of the inputs and of the outputs of ``signature``, by name.

        Raises:
            ModelError: There is no such signature.
        """
        pool, runners = self._take(signature)
        try:
            runner, inputs = runners[signature]
            return dict(inputs), _shapes(runner.get_output_details())
        finally:
            pool.give(runners)

    def run(self, signature: str, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Call ``signature``; the outputs are copies that the caller may keep.

        Guarantees:
            Calls from several threads run side by side, up to ``MAX_POOL`` of them; the others wait their turn.

        Raises:
            ModelError: There is no such signature, an input does not fit it, the model failed, or one more Interpreter
                was needed and the runtime has gone.
        """
        shapes = {name: value.shape for name, value in inputs.items()}
        pool, runners = self._take(signature)
        try:
            runner, expected = runners[signature]
            if shapes != expected:
                # A runtime resizes the model to whatever comes, and may then broadcast it without a word.
                raise ValueError(f"expected {expected}")
            return runner(**inputs)
        except (ValueError, RuntimeError, TypeError) as error:
            raise ModelError(f"{self.runtime}: {signature}{shapes} failed: {error}") from error
        finally:
            pool.give(runners)

    def begin_in_child(self) -> None:
        """The threads that would give Interpreters back, or leave a lock, are not in this process."""
        self._pool = _Pool(self._content, self.runtime)

    def _take(self, signature: str) -> tuple[_Pool, _Runners]:
        if signature not in self.signatures:
            raise ModelError(f"{self.runtime}: {signature} is none of the model's signatures {sorted(self.signatures)}")
        pool = self._pool
        return pool, pool.take()


class _Runners(dict[str, tuple[_Runner, Shapes]]):
    """The runners of one Interpreter by signature, each with the shapes that it takes; made when first asked for."""

    def __init__(self, interpreter: _Interpreter) -> None:
        super().__init__()
        self._interpreter = interpreter

    def __missing__(self, signature: str) -> tuple[_Runner, Shapes]:
        runner = self._interpreter.get_signature_runner(signature)
        self[signature] = found = runner, _shapes(runner.get_input_details())
        return found


class _Pool:
    """Idle Interpreters, the one used last on top; one is built where all are busy, or waited for."""

    def __init__(self, content: bytes, runtime: str, *idle: _Runners) -> None:
        self._content = content
        self._runtime = runtime
        self._idle = list(idle)
        self._built = len(idle)
        # Of the kind that its holder may take again: a signal handler, too, may rank.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def take(self) -> _Runners:
        with self._lock:
            while not self._idle:
                if self._built < MAX_POOL:
                    self._built += 1
                    break
                self._changed.wait()
            else:
                return self._idle.pop()
        try:
            return self._another()
        except BaseException:
            with self._lock:
                self._built -= 1
                self._changed.notify()
            raise

    def give(self, runners: _Runners) -> None:
        with self._lock:
            self._idle.append(runners)
            self._changed.notify()

    def _another(self) -> _Runners:
        """One more Interpreter, on the runtime that built the first."""
        try:
            return _Runners(_build({self._runtime: self._content})[1])
        except RuntimeMissingError as error:
            raise ModelError(f"{self._runtime} worked when the model was opened, and has gone: {error}") from error


def _shapes(details: Mapping[str, Any]) -> Shapes:
    return {name: tuple(detail["shape"].tolist()) for name, detail in details.items()}


def _build(contents: Mapping[str, bytes]) -> tuple[str, _Interpreter]:
    causes: dict[str, BaseException] = {}
    refused: ValueError | None = None
    for name, content in contents.items():
        try:
            module = importlib.import_module(RUNTIMES[name])
            interpreter = module.Interpreter(model_content=content, num_threads=1)
            # A signature list is read from the model itself, so this also refuses a file that only looks like one.
            interpreter.get_signature_list()
            # Here alone tflite-runtime delegates to XNNPACK; the kernels that it takes otherwise are four times slower.
            interpreter.allocate_tensors()
        except (ImportError, AttributeError, SystemError, OSError) as error:
            causes[name] = error
        except (ValueError, RuntimeError) as error:
            refused = ValueError(f"{name}: {error}")
        else:
            return name, interpreter
    if refused is not None:
        raise ModelError(f"the runtime refuses the model: {refused}") from refused
    raise RuntimeMissingError(f"{_MISSING}: {causes}")
