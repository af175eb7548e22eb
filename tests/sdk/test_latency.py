"""Stages that can't fail a call, and deadlines."""

import sys
import threading
import time

import pytest

from pocketrank.latency import Latencies, Trace


def trace(latencies: Latencies, deadline_ms: float | None = None, started: float | None = None) -> Trace:
    return Trace(latencies, deadline_ms, time.perf_counter() if started is None else started)


def test_p95_is_the_duration_that_95_of_100_stay_within() -> None:
    latencies = Latencies()
    for duration in range(60, 0, -1):
        latencies.add("model", float(duration))
    assert latencies.p95_ms("model") == 57  # the smallest d with at least 0.95 * 60 = 57 durations <= d


def test_old_durations_are_forgotten() -> None:
    latencies = Latencies()
    for duration in [1000.0] * 100 + [1.0] * 64:
        latencies.add("model", duration)
    assert latencies.p95_ms("model") == 1.0


def test_a_stage_that_never_ran_is_tried() -> None:
    assert Latencies().p95_ms("model") == 0.0
    assert trace(Latencies(), deadline_ms=1000.0).fits("model")


def test_without_a_deadline_everything_fits() -> None:
    latencies = Latencies()
    latencies.add("model", 1e9)
    assert trace(latencies).fits("model")


def test_a_stage_that_would_end_late_is_left_out_and_noted() -> None:
    latencies = Latencies()
    latencies.add("model", 50.0)
    found = trace(latencies, deadline_ms=40.0)
    assert not found.fits("model")
    assert found.fits("other")
    assert found.omitted == {"model": "deadline"}


def test_time_already_spent_counts() -> None:
    assert not trace(Latencies(), deadline_ms=5.0, started=time.perf_counter() - 0.006).fits("model")


@pytest.mark.parametrize(
    "error", [ValueError("no"), RuntimeError("broken"), KeyError("x"), MemoryError(), OSError(28, "full")]
)
def test_whatever_a_stage_raises_is_noted(error: Exception) -> None:
    def work() -> None:
        raise error

    found = trace(Latencies())
    assert found.run("model", work) is None
    assert found.stages == []
    assert found.omitted["model"].startswith(type(error).__name__)


def test_a_request_to_stop_the_process_is_not_swallowed() -> None:
    with pytest.raises(SystemExit):
        trace(Latencies()).run("model", sys.exit)


def test_a_stage_that_ran_is_named_and_timed() -> None:
    latencies = Latencies()
    found = trace(latencies)
    assert found.run("model", lambda x: x + 1, 1) == 2
    assert found.stages == ["model"]
    assert latencies.p95_ms("model") > 0


def test_threads_may_measure_and_ask_at_once() -> None:
    latencies = Latencies()
    failures = []

    def work() -> None:
        try:
            for i in range(2000):
                latencies.add(f"stage {i % 3}", 1.0)
                assert latencies.p95_ms(f"stage {i % 3}") == 1.0
        except BaseException as error:  # noqa: BLE001  (whatever it is, the test fails with it)
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
