"""How long the stages of ``rank`` take on this device, and which of them still fit before a deadline."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pocketrank.forks import Lock

T = TypeVar("T")

_KEPT: Final = 64
_LATE: Final = "deadline"


class Latencies:
    """The newest durations of each stage, on any number of threads."""

    def __init__(self) -> None:
        self._durations: dict[str, deque[float]] = {}
        self._left_out: dict[str, int] = {}
        self._lock = Lock()

    def add(self, stage: str, duration_ms: float) -> None:
        """Remember one duration, in milliseconds."""
        kept = self._durations.get(stage)
        if kept is None:
            with self._lock:
                kept = self._durations.setdefault(stage, deque(maxlen=_KEPT))
        kept.append(duration_ms)
        self._left_out.pop(stage, None)

    def leave_out(self, stage: str) -> None:
        """``stage`` did not run: after so many times in a row its durations are too old to go by, and it is tried."""
        times = self._left_out.get(stage, 0) + 1
        self._left_out[stage] = times
        if times > _KEPT:
            self._durations.pop(stage, None)

    def p95_ms(self, stage: str) -> float:
        """95th percentile of the newest durations; 0 for a stage that never ran, so that it is tried."""
        kept = sorted(self._durations.get(stage, deque[float]()).copy())
        return kept[(len(kept) * 95 - 1) // 100] if kept else 0.0


class Trace:
    """One call of ``rank``: its stages run through here, so that none can fail the call or start too late for it.

    Attributes:
        stages: Names of the stages that ran, in order.
        omitted: Stage to why it gave nothing: ``deadline``, or the error.
    """

    def __init__(self, latencies: Latencies, deadline_ms: float | None = None, started: float = 0.0) -> None:
        """``started`` is the ``time.perf_counter()`` of the call; it matters where there is a deadline."""
        self.stages: list[str] = []
        self.omitted: dict[str, str] = {}
        self._latencies = latencies
        self._deadline_ms = deadline_ms
        self._started = started

    def elapsed_ms(self) -> float:
        """Time since the call began."""
        return (time.perf_counter() - self._started) * 1e3

    def fits(self, stage: str) -> bool:
        """Whether ``stage``, as long as it takes in 95 of 100 cases here, ends before the deadline; noted if not."""
        if self._deadline_ms is None or self.elapsed_ms() + self._latencies.p95_ms(stage) < self._deadline_ms:
            return True
        self.omitted[stage] = _LATE
        self._latencies.leave_out(stage)
        return False

    def run(
        self,
        stage: str,
        work: Callable[..., T],
        *arguments: Any,
        passing: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> T | None:
        """What ``work`` gives; None where it failed, whatever it raised but ``passing``, which is noted."""
        started = time.perf_counter()
        try:
            found = work(*arguments)
        except passing:
            raise
        except Exception as error:  # noqa: BLE001  (a ranking never fails the app: the order degrades, and says so)
            self._latencies.add(stage, (time.perf_counter() - started) * 1e3)
            self.note(stage, error)
            return None
        self._latencies.add(stage, (time.perf_counter() - started) * 1e3)
        self.stages.append(stage)
        return found

    def note(self, stage: str, error: Exception) -> None:
        """``stage`` gave nothing."""
        try:
            self.omitted[stage] = f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001  (an app's own error may not even be printable)
            self.omitted[stage] = f"{type(error).__name__}: it has no words"

    def why(self, *stages: str) -> str:
        """The reason noted for the first of ``stages`` that gave nothing."""
        return next((self.omitted[stage] for stage in stages if stage in self.omitted), "")
