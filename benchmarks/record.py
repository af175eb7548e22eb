"""What it costs to record an event, and how long ``rank()`` waits while that happens.

``python -m benchmarks.record BUNDLE OUT.json`` in a device's environment, with a store in a file.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.app import EVENTS, candidates, history
from pocketrank.reranker import Reranker

PAUSE_S: Final = 0.001


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Microseconds of each call.

    Attributes:
        observe: ``observe([event])``, one after another.
        alone: ``rank()`` while nothing else happens.
        meanwhile: ``rank()`` while another thread records an event every ``PAUSE_S``, far more than a person does.
    """

    observe: tuple[float, ...]
    alone: tuple[float, ...]
    meanwhile: tuple[float, ...]


def measure(reranker: Reranker, columns: Mapping[str, Any], *, repeats: int) -> Recorded:
    """Time ``repeats`` calls of each kind, and as many more of ``rank()`` while events are recorded."""
    events = itertools.cycle(history(reranker.bundle.manifest.schema, np.random.default_rng(1)))
    done = threading.Event()

    def observe() -> None:
        reranker.observe([next(events)])

    def recording() -> None:
        while not done.wait(PAUSE_S):
            observe()

    observed = times(observe, repeats)
    reranker.rank(columns)
    alone = times(lambda: reranker.rank(columns), repeats)
    recorder = threading.Thread(target=recording)
    recorder.start()
    try:
        meanwhile = times(lambda: reranker.rank(columns), repeats)
    finally:
        done.set()
        recorder.join()
    return Recorded(observed, alone, meanwhile)


def times(call: Callable[[], object], repeats: int) -> tuple[float, ...]:
    """Microseconds of each of ``repeats`` calls."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        found.append((time.perf_counter() - started) * 1e6)
    return tuple(found)


def main() -> None:
    """Measure with a bundle, in a store of a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=EVENTS, help="calls of each kind (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reranker = Reranker.load(arguments.bundle, store=Path(folder) / "store.sqlite")
        schema = reranker.bundle.manifest.schema
        rng = np.random.default_rng(0)
        columns = candidates(schema, rng)
        reranker.observe(history(schema, rng))
        found = measure(reranker, columns, repeats=arguments.repeats)
        reranker.store.close()
    arguments.out.write_text(json.dumps(dataclasses.asdict(found)) + "\n")


if __name__ == "__main__":
    main()
