"""``rank()`` beside the bare interpreter: what the SDK adds to the model itself.

``python -m benchmarks.rank BUNDLE OUT.json`` in a device's environment: one process, one thread, calls of each kind in
turn. ``python -m benchmarks`` runs it some times over, and puts the times of all processes together.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import bare
from benchmarks.app import EVENTS, candidates, history, rows_of
from pocketrank.bundle import RANK_MODEL, Bundle
from pocketrank.reranker import Reranker
from pocketrank.runtime import RUNTIMES, Model
from pocketrank.scorer import input_name

WARM_UP: Final = 100
REPEATS: Final = 1_000


@dataclasses.dataclass(frozen=True)
class Times:
    """Of each call, microseconds, in the order of the calls.

    Attributes:
        columns: ``rank()`` of candidates as columns.
        mappings: ``rank()`` of the same as mappings.
        runner: The same model through the runtime's own signature runner, with arrays that are ready.
        invoke: ``Interpreter.invoke`` alone, on the model with one signature; empty where there is no such file.
        runtime: Name and version.
        candidates: In the slate.
    """

    columns: tuple[float, ...]
    mappings: tuple[float, ...]
    runner: tuple[float, ...]
    invoke: tuple[float, ...]
    runtime: str
    candidates: int

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Times:
        """Read what ``dataclasses.asdict`` made, or JSON's rendering of it."""
        times: dict[str, Any] = {name: tuple(body[name]) for name in ("columns", "mappings", "runner", "invoke")}
        return cls(**times, runtime=body["runtime"], candidates=body["candidates"])


def measure(reranker: Reranker, columns: Mapping[str, Any], *, repeats: int, alone: bytes | None = None) -> Times:
    """Time ``reranker`` on candidates as columns and as mappings, and its model without it.

    Args:
        reranker: With what its device knows.
        columns: The candidates.
        repeats: Timed calls of each kind, after ``WARM_UP``.
        alone: The model with one signature, for ``Interpreter.invoke``.
    """
    bundle = reranker.bundle
    rows = rows_of(columns)
    model = Model(bundle.files[RANK_MODEL])
    module = RUNTIMES[model.runtime]
    signature, shapes = inputs_of(bundle, len(rows))
    runner, ready = bare.runner(module, bundle.files[RANK_MODEL], signature), bare.ones(shapes)
    calls: dict[str, Callable[[], object]] = {
        "columns": lambda: reranker.rank(columns),
        "mappings": lambda: reranker.rank(rows),
        "runner": lambda: runner(**ready),
    }
    if alone is not None:
        calls["invoke"] = bare.invoke(module, alone)
    times: dict[str, list[float]] = {name: [] for name in ("columns", "mappings", "runner", "invoke")}
    for turn in range(-WARM_UP, repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            took = time.perf_counter() - started
            if turn >= 0:
                times[name].append(took * 1e6)
    return Times(
        columns=tuple(times["columns"]),
        mappings=tuple(times["mappings"]),
        runner=tuple(times["runner"]),
        invoke=tuple(times["invoke"]),
        runtime=f"{model.runtime} {model.runtime_version}",
        candidates=len(rows),
    )


def inputs_of(bundle: Bundle, n: int) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The ranking signature that takes ``n`` candidates, and the shapes of its inputs by name."""
    manifest = bundle.manifest
    size = next(size for size in manifest.slate_sizes if size >= n)
    head = {input_name(parameter.name): parameter.shape for parameter in manifest.trainable}
    return f"rank_{size}", {"features": (size, len(manifest.schema.columns)), "mask": (size,), **head}


def main() -> None:
    """Measure a bundle on synthetic candidates, print the medians and write all times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rank", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="timed calls of each kind (%(default)s)")
    parser.add_argument("--alone", type=Path, help="the model with one signature")
    arguments = parser.parse_args()
    reranker = Reranker.load(arguments.bundle)
    schema = reranker.bundle.manifest.schema
    rng = np.random.default_rng(0)
    columns = candidates(schema, rng)
    reranker.observe(history(schema, rng))
    alone = None if arguments.alone is None else arguments.alone.read_bytes()
    times = measure(reranker, columns, repeats=arguments.repeats, alone=alone)
    latency = {
        "rank_p50": float(np.median(times.columns)),
        "invoke_p50": float(np.median(times.runner)),
        "runtime": times.runtime,
        "candidates": times.candidates,
    }
    arguments.out.write_text(json.dumps({"latency_us": latency, "times": dataclasses.asdict(times)}) + "\n")
    print(f"rank() of {times.candidates} candidates, {EVENTS} events on the device, {times.runtime}, one thread:")
    for name in ("columns", "mappings", "runner"):
        p50, p99 = np.quantile(getattr(times, name), (0.5, 0.99))
        print(f"  {name:<8} p50 {p50:7.1f} us   p99 {p99:7.1f} us")


if __name__ == "__main__":
    main()
