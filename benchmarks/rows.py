"""Times become rows: what is ours, what the peer's, and the figure that has a goal. Pure; nothing is measured here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rank import Times
from benchmarks.record import Recorded


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        value: Ours over the peer's where ``unit`` is ``x``, else ours minus the peer's.
        goal: At most this; at least, where ``least``.
    """

    name: str
    value: float
    unit: str
    ours: float
    peer: float
    peer_name: str
    goal: float
    least: bool = False

    @classmethod
    def of(
        cls, name: str, unit: str, ours: float, peer: float, peer_name: str, goal: float, *, least: bool = False
    ) -> Row:
        """The row of two figures, rounded as it is written."""
        value = ours / peer if unit == "x" else ours - peer
        return cls(name, round(value, 3), unit, round(ours, 4), round(peer, 4), peer_name, goal, least)

    @property
    def reached(self) -> bool:
        """Whether the goal is."""
        return self.value >= self.goal if self.least else self.value <= self.goal


@dataclass(frozen=True)
class Start:
    """A cold start: milliseconds to the first slate, and megabytes that the process holds."""

    start_ms: float
    resident_mb: float


@dataclass(frozen=True)
class Student:
    """One student on one runtime, all rounds together.

    Attributes:
        parameters: How many numbers training sets.
        times: Of ``rank()`` and the bare model.
        ranking: Cold starts of the SDK.
        bare: Cold starts of numpy and the runtime alone.
        recorded: Times around recording events.
    """

    name: str
    parameters: int
    times: Times
    ranking: tuple[Start, ...]
    bare: tuple[Start, ...]
    recorded: Recorded


def rows(students: Sequence[Student], trees_us: Sequence[float], sdk_kb: float) -> list[Row]:
    """The row of each figure; of the students the one whose value is worse."""
    each = [rows_of(student, trees_us) for student in students]
    worst = [max(same, key=lambda row: row.value) for same in zip(*each, strict=True)]
    return [*worst, Row.of("sdk_kb", "kB", sdk_kb, 0.0, "nothing", 400)]


def rows_of(student: Student, trees_us: Sequence[float]) -> list[Row]:
    """The rows of one student; ``trees_us`` are LightGBM's times in the same run."""
    times, recorded = student.times, student.recorded
    columns = median(times.columns)
    runner = f"signature runner, {student.name}, {times.runtime}"
    process = f"numpy and the runtime, {student.name}, {times.runtime}"
    waited, alone = max(recorded.meanwhile) / 1e3, median(recorded.alone) / 1e3
    return [
        Row.of("rank_columns_over_invoke_us", "us", columns, median(times.runner), runner, 150),
        Row.of("rank_columns_vs_lightgbm", "x", columns, median(trees_us), "LightGBM's Booster.predict", 0.5),
        Row.of("rank_p99_over_p50", "x", quantile(times.columns, 0.99), columns, f"its own p50, {student.name}", 2),
        Row.of("rank_mappings_over_invoke_us", "us", median(times.mappings), median(times.runner), runner, 450),
        Row.of("cold_start_vs_bare", "x", start_ms(student.ranking), start_ms(student.bare), process, 1.3),
        Row.of("rss_over_bare_mb", "MB", resident_mb(student.ranking), resident_mb(student.bare), process, 20),
        Row.of("record_event_us", "us", median(recorded.observe), 0.0, "nothing", 100),
        Row.of("rank_blocked_by_record_ms", "ms", waited, alone, f"its own p50 alone, {student.name}", 5),
    ]


def document(students: Sequence[Student], trees_us: Sequence[float], sdk_kb: float) -> dict[str, Any]:
    """What ``rank.json`` holds: the rows, and under ``detail`` each student's own and the figures behind them."""
    return {
        "rows": [dataclasses.asdict(row) for row in rows(students, trees_us, sdk_kb)],
        "detail": {
            "runtime": students[0].times.runtime,
            "candidates": students[0].times.candidates,
            "lightgbm_us": summary(trees_us),
            "students": {student.name: _detail(student, trees_us) for student in students},
        },
    }


def _detail(student: Student, trees_us: Sequence[float]) -> dict[str, Any]:
    times, recorded = student.times, student.recorded
    measured = {
        "rank_columns_us": times.columns,
        "rank_mappings_us": times.mappings,
        "runner_us": times.runner,
        "invoke_us": times.invoke,
        "observe_us": recorded.observe,
        "rank_while_recording_us": recorded.meanwhile,
        "cold_start_ms": [start.start_ms for start in student.ranking],
        "bare_start_ms": [start.start_ms for start in student.bare],
    }
    return {
        "parameters": student.parameters,
        "rows": {row.name: row.value for row in rows_of(student, trees_us)},
        **{name: summary(values) for name, values in measured.items()},
    }


def summary(values: Sequence[float]) -> Mapping[str, float]:
    """How many there are, their median, 99th percentile, mean and largest."""
    figures = {
        "p50": median(values), "p99": quantile(values, 0.99), "mean": float(np.mean(values)), "max": max(values)
    }  # fmt: skip
    return {"n": len(values), **{name: round(value, 2) for name, value in figures.items()}}


def joined(parts: Sequence[Times]) -> Times:
    """The times of several processes that measured the same."""
    first = parts[0]
    assert all((part.runtime, part.candidates) == (first.runtime, first.candidates) for part in parts)
    return Times(
        columns=tuple(took for part in parts for took in part.columns),
        mappings=tuple(took for part in parts for took in part.mappings),
        runner=tuple(took for part in parts for took in part.runner),
        invoke=tuple(took for part in parts for took in part.invoke),
        runtime=first.runtime,
        candidates=first.candidates,
    )


def size_kb(folder: Path) -> float:
    """Size of a package's own files, as installed: ``*.py`` and ``py.typed``."""
    return sum(path.stat().st_size for path in [*folder.rglob("*.py"), *folder.rglob("py.typed")]) / 1e3


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return float(np.median(values))


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them don't exceed."""
    return float(np.quantile(values, share))


def start_ms(starts: Sequence[Start]) -> float:
    """Median of the starts."""
    return median([start.start_ms for start in starts])


def resident_mb(starts: Sequence[Start]) -> float:
    """Median of the processes' memory."""
    return median([start.resident_mb for start in starts])
