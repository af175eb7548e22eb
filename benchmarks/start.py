"""One cold start, in a process of its own: ``python -P benchmarks/start.py ranking|bare FOLDER < INPUTS``.

The clock starts where Python itself has started, and stops after the first slate. What the slate takes comes from
standard input before that, in the format of ``marshal``, which is built in: nothing may be imported beforehand that the
clock should count, and so this module imports nothing that Python's start has not loaded already.

``FOLDER`` holds ``bundle``, ``alone.tflite`` (its model with one signature, as an app without the SDK would ship it)
and ``store.sqlite`` with the person's events. ``INPUTS`` are the candidates as columns, or for ``bare`` the module of
the runtime, the name of the signature and the shapes of its inputs. Prints ``start_ms``, and ``resident_mb`` after some
more slates.
"""

import marshal
import os
import sys
import time

MORE = 100


def ranking(folder: str) -> float:
    """Import the SDK, open the bundle and the store, rank; returns seconds."""
    columns = marshal.load(sys.stdin.buffer)  # noqa: S302  (the process that started this one wrote it)
    started = time.perf_counter()
    from pocketrank.reranker import Reranker

    reranker = Reranker.load(f"{folder}/bundle", store=f"{folder}/store.sqlite")
    reranker.rank(columns)
    took = time.perf_counter() - started
    for _ in range(MORE):
        reranker.rank(columns)
    return took


def bare(folder: str) -> float:
    """Import numpy and the runtime, build the Interpreter, call the signature with ready arrays; returns seconds."""
    module, signature, shapes = marshal.load(sys.stdin.buffer)  # noqa: S302  (as above)
    started = time.perf_counter()
    import importlib

    import numpy as np

    interpreter = importlib.import_module(module).Interpreter(f"{folder}/alone.tflite", num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner(signature)
    ready = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    runner(**ready)
    took = time.perf_counter() - started
    for _ in range(MORE):
        runner(**ready)
    return took


def resident_bytes() -> int:
    """What this process holds in memory; Linux tells it."""
    from pathlib import Path

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    _, what, where = sys.argv
    took_s = {"ranking": ranking, "bare": bare}[what](where)
    print(f'{{"start_ms": {took_s * 1e3}, "resident_mb": {resident_bytes() / 1e6}}}')
