"""A second bundle that scores the same slates aside, and how far its order agrees with the one that was shown."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pocketrank.forks import Lock, Part
from pocketrank.latency import Latencies
from pocketrank.metrics.agreement import kendall_tau, rank_biased_overlap

Order = Callable[[], Sequence[str]]
"""Ranks the slate with the shadow bundle: ids, best first."""

_WAITING: Final = 8
_PATIENCE_S: Final = 1.0
_STAGE: Final = "shadow"


@dataclass(frozen=True)
class Agreement:
    """How a shadow bundle compares.

    Attributes:
        bundle: Name and version of the shadow bundle.
        slates: Slates that both ranked.
        dropped: Slates that the shadow had no time for.
        failed: Slates that it could not rank.
        rank_biased_overlap: Mean over slates, 0 to 1; the top weighs most.
        kendall_tau: Mean over slates, -1 to 1.
        p95_ms: 95th percentile of the shadow's newest times.
    """

    bundle: str
    slates: int
    dropped: int
    failed: int
    rank_biased_overlap: float
    kendall_tau: float
    p95_ms: float


class Shadow(Part):
    """Ranks on a thread of its own; slates that come while it is busy wait, a few of them, and are dropped then."""

    def __init__(self, bundle: str) -> None:
        """``bundle`` is the name and version for the report."""
        self._bundle = bundle
        self._latencies = Latencies()
        self._lock = Lock()
        self._slates = self._dropped = self._failed = 0
        self._overlap = self._tau = 0.0
        self._waiting: queue.Queue[tuple[Sequence[str], Order]] = queue.Queue(_WAITING)
        self._working = False
        super().__init__()

    def offer(self, shown: Sequence[str], order: Order) -> None:
        """Compare ``shown``, the ids in the order of the slate, with ``order``, some time later."""
        with self._lock:
            if not self._working:
                threading.Thread(target=self._work, args=(self._waiting,), daemon=True, name=_STAGE).start()
                self._working = True
            try:
                self._waiting.put_nowait((shown, order))
            except queue.Full:
                self._dropped += 1

    def fail(self) -> None:
        """Count a slate whose candidates the shadow can't even read."""
        with self._lock:
            self._failed += 1

    def drain(self) -> None:
        """Wait until all that waits was compared."""
        self._waiting.join()

    def agreement(self) -> Agreement:
        """What was found so far."""
        with self._lock:
            n = max(self._slates, 1)
            return Agreement(
                self._bundle,
                self._slates,
                self._dropped,
                self._failed,
                self._overlap / n,
                self._tau / n,
                self._latencies.p95_ms(_STAGE),
            )

    def begin_in_child(self) -> None:
        """A fork leaves the thread and its work behind."""
        self._waiting = queue.Queue(_WAITING)
        self._working = False

    def _work(self, waiting: queue.Queue[tuple[Sequence[str], Order]]) -> None:
        """Compare what waits; a thread that has nothing to do ends, so that it keeps nothing alive."""
        while True:
            try:
                shown, order = waiting.get(timeout=_PATIENCE_S)
            except queue.Empty:
                with self._lock:
                    if waiting.empty():
                        self._working = False
                        return
                continue
            try:
                started = time.perf_counter()
                found = order()
                self._latencies.add(_STAGE, (time.perf_counter() - started) * 1e3)
                overlap = rank_biased_overlap(shown, found)
                place = {name: at for at, name in enumerate(found)}
                tau = kendall_tau(list(range(len(shown))), [place[name] for name in shown])
                with self._lock:
                    self._slates += 1
                    self._overlap += overlap
                    self._tau += tau
            except Exception:  # noqa: BLE001  (a shadow may fail in any way, and never touches what is shown)
                self.fail()
            finally:
                del shown, order
                waiting.task_done()
