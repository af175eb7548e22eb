"""``rank()`` beside the bare interpreter: what the SDK adds to the model itself.

``python -m benchmarks.rank BUNDLE OUT.json`` in the device's environment; one
thread, calls of each kind alternate, medians over ``REPEATS``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketrank.bundle import RANK_MODEL
from pocketrank.reranker import Reranker
from pocketrank.runtime import Model
from pocketrank.schema import Categories, Number, Schema
from pocketrank.scorer import input_name
from pocketrank.store import Event

ITEMS: Final = 1_000
CANDIDATES: Final = 100
EVENTS: Final = 100
WARM_UP: Final = 100
REPEATS: Final = 2_000


@dataclass(frozen=True)
class Latency:
    """Times of one slate of ``candidates``, microseconds.

    ``invoke`` is the same model called through the runtime's own signature
    runner with arrays that are ready.
    """

    columns_p50: float
    columns_p99: float
    mappings_p50: float
    invoke_p50: float
    runtime: str
    candidates: int


def measure(reranker: Reranker, columns: Mapping[str, Any], *, repeats: int = REPEATS) -> Latency:
    """Time ``reranker`` on candidates as columns and as mappings, and its model alone on as many rows."""
    bundle = reranker.bundle
    n = len(columns["id"])
    rows = [{name: values[i] for name, values in columns.items()} for i in range(n)]
    size = next(size for size in bundle.manifest.slate_sizes if size >= n)
    model = Model(bundle.files[RANK_MODEL])
    inputs = {
        "features": np.zeros((size, len(bundle.manifest.schema.columns)), np.float32),
        "mask": np.ones(size, np.float32),
        **{input_name(name): value for name, value in bundle.params().items()},
    }
    calls: dict[str, Callable[[], object]] = {
        "columns": lambda: reranker.rank(columns),
        "mappings": lambda: reranker.rank(rows),
        "invoke": lambda: model.run(f"rank_{size}", **inputs),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP + repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - started) * 1e6)
    found = {name: np.array(values[WARM_UP:]) for name, values in times.items()}
    return Latency(
        columns_p50=float(np.median(found["columns"])),
        columns_p99=float(np.quantile(found["columns"], 0.99)),
        mappings_p50=float(np.median(found["mappings"])),
        invoke_p50=float(np.median(found["invoke"])),
        runtime=f"{model.runtime} {model.runtime_version}",
        candidates=n,
    )


def synthetic(schema: Schema, rng: np.random.Generator) -> tuple[dict[str, Any], list[Event]]:
    """Candidates as columns that fit ``schema``, and a history of engagements with the likes of them."""
    ids = [str(number) for number in rng.permutation(ITEMS)[:CANDIDATES]]
    columns: dict[str, Any] = {"id": ids}
    for feature in schema.features:
        if isinstance(feature, Number) and feature.source == "candidate":
            columns[feature.name] = rng.gamma(2.0, size=CANDIDATES)
        elif isinstance(feature, Categories):
            columns[feature.name] = [_some(feature, rng) for _ in range(CANDIDATES)]
    fields = list(schema.categories.values())
    events = [
        Event(
            str(rng.integers(ITEMS)),
            float(at),
            float(rng.integers(1, 6)),
            {f.name: _some(f, rng) for f in fields},
        )
        for at in range(EVENTS)
    ]
    return columns, events


def rows(found: Latency) -> list[dict[str, Any]]:
    """The figures as every benchmark writes them."""

    def row(name: str, unit: str, ours: float, peer: float, peer_name: str, goal: float) -> dict[str, Any]:
        value = ours / peer if unit == "x" else ours - peer
        return {
            "name": name, "value": round(value, 3), "unit": unit, "ours": round(ours, 1), "peer": round(peer, 1),
            "peer_name": peer_name, "goal": goal,
        }  # fmt: skip

    bare = f"bare invoke, {found.runtime}"
    return [
        row("rank_columns_over_invoke_us", "us", found.columns_p50, found.invoke_p50, bare, 150),
        row("rank_mappings_over_invoke_us", "us", found.mappings_p50, found.invoke_p50, bare, 450),
        row("rank_p99_over_p50", "x", found.columns_p99, found.columns_p50, "its own p50", 2),
    ]


def main(bundle: str, out: str) -> None:
    """Measure ``bundle`` on synthetic candidates, print the figures and write them to ``out``."""
    reranker = Reranker.load(bundle)
    columns, events = synthetic(reranker.bundle.manifest.schema, np.random.default_rng(0))
    reranker.observe(events)
    found = measure(reranker, columns)
    print(f"rank() of {found.candidates} candidates, {EVENTS} events on the device, {found.runtime}, one thread:")
    print(f"  columns  p50 {found.columns_p50:7.1f} us   p99 {found.columns_p99:7.1f} us")
    print(f"  mappings p50 {found.mappings_p50:7.1f} us")
    print(f"  bare invoke  {found.invoke_p50:7.1f} us")
    latency = {
        "rank_p50": found.columns_p50,
        "invoke_p50": found.invoke_p50,
        "runtime": found.runtime,
        "candidates": found.candidates,
    }
    Path(out).write_text(json.dumps({"rows": rows(found), "latency_us": latency}, indent=1) + "\n")
    for line in rows(found):
        print(f"  {line['name']:<32} {line['value']:8.2f} {line['unit']:<3} goal <= {line['goal']}")


def _some(feature: Categories, rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(rng.choice(feature.vocabulary, size=min(2, len(feature.vocabulary)), replace=False).tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
