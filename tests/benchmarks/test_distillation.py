"""The rows of the benchmark of distillation: which figures they are made of, and which of several counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.distillation import CONFIGS, Found, config_of, rows_of
from pocketrank.metrics import Interval
from pocketrank_export.report.figures import Figures, Model, Quality, Size


def about(mean: float) -> Interval:
    return Interval(mean, mean - 0.1, mean + 0.1, 50)


def found(*, student: float, shipped: float, size_bytes: int, took_us: float) -> Found:
    figures = Figures(
        name="movies",
        version=1,
        digest=None,
        about="",
        baseline="first stage",
        taught_by="trees",
        parts=(),
        model=Model("small", 12_000, 38, 37, "slate", "all"),
        quality=(
            Quality("first stage", "baseline", about(0.2)),
            Quality("another", "teacher", about(0.5)),
            Quality("trees", "teacher", about(0.4)),
            Quality("student, float", "student", about(student)),
            Quality("on ai-edge-litert", "runtime", about(shipped)),
        ),
        differences=(),
        share=None,
        sizes=(
            Size("another", "teacher", 10),
            Size("trees", "teacher", 1_000_000),
            Size("student, float", "student", 70_000),
            Size("weight_int8", "runtime", size_bytes),
        ),
        latency=(),
        recipes=(),
        importance=(),
        calibration=None,
        verdicts=(),
        failures={},
        seconds={},
    )
    return Found(figures, {"alone": np.array([0.3])}, {}, {"ai-edge-litert": took_us}, 400.0)


def test_the_share_is_of_the_gain_over_the_first_stage_of_the_teacher_that_taught() -> None:
    row, *_ = rows_of({"movielens": found(student=0.39, shipped=0.39, size_bytes=30_000, took_us=40.0)})
    assert row.name == "student_keeps_of_teacher_gain_movielens"
    assert row.value == pytest.approx((0.39 - 0.2) / (0.4 - 0.2))
    assert not row.reached
    assert dataclasses.replace(row, value=0.98).reached


def test_of_several_data_sets_the_worst_counts_but_for_the_share() -> None:
    better = found(student=0.4, shipped=0.4, size_bytes=30_000, took_us=40.0)
    worse = found(student=0.4, shipped=0.398, size_bytes=250_000, took_us=120.0)
    rows = {row.name: row for row in rows_of({"movielens": better, "lightgbm_data": worse})}
    assert list(rows) == [
        "student_keeps_of_teacher_gain_movielens",
        "student_keeps_of_teacher_gain_lightgbm_data",
        "quantized_ndcg_loss_percent",
        "size_vs_float_teacher",
        "student_time_vs_lambdamart",
    ]
    assert rows["quantized_ndcg_loss_percent"].value == pytest.approx(0.5)
    assert rows["size_vs_float_teacher"].value == pytest.approx(0.25)
    assert rows["student_time_vs_lambdamart"].value == pytest.approx(0.3)
    assert [row.reached for row in rows.values()] == [True, True, True, False, False]


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.toml")))
def test_the_configurations_fit(name: str) -> None:
    config = config_of(name, ("ai-edge-litert",))
    assert config.student.size == "small"
    assert "lambdamart" in {teacher.kind for teacher in config.teacher}, "whose time is compared"
