"""The benchmarks' pure parts: the app that they stand for, and how times become rows and a page."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import app
from benchmarks.page import page
from benchmarks.rank import Times
from benchmarks.record import Recorded
from benchmarks.rows import Row, Start, Student, document, joined, rows, rows_of, size_kb

GOALS = {
    "rank_columns_over_invoke_us": 150,
    "rank_columns_vs_lightgbm": 0.5,
    "rank_p99_over_p50": 2,
    "rank_mappings_over_invoke_us": 450,
    "cold_start_vs_bare": 1.3,
    "rss_over_bare_mb": 20,
    "record_event_us": 100,
    "rank_blocked_by_record_ms": 5,
    "sdk_kb": 400,
}
TREES_US = (900.0, 1000.0, 1100.0)


def student(name: str, columns_us: float, start_ms: float) -> Student:
    return Student(
        name=name,
        parameters=12,
        times=Times((columns_us,) * 99 + (3 * columns_us,), (500.0,), (100.0,), (90.0,), "a runtime 1.0", 100),
        ranking=(Start(start_ms, 50.0), Start(1e6, 60.0), Start(1.0, 40.0)),
        bare=(Start(100.0, 40.0),),
        recorded=Recorded(observe=(70.0, 80.0, 90.0), alone=(200.0,), meanwhile=(300.0, 4200.0)),
    )


SLOW_TO_RANK, SLOW_TO_START = student("one", 400.0, 110.0), student("other", 300.0, 120.0)


def test_the_schema_has_32_columns_of_which_12_are_private() -> None:
    assert len(app.SCHEMA.columns) == 32
    assert int(app.SCHEMA.private_columns.sum()) == 12


def test_candidates_and_history_are_as_many_as_the_rows_say_and_the_same_every_time() -> None:
    columns = app.candidates(app.SCHEMA, np.random.default_rng(0))
    assert {len(values) for values in columns.values()} == {100}
    assert len(app.history(app.SCHEMA, np.random.default_rng(0))) == 1_000
    again = app.candidates(app.SCHEMA, np.random.default_rng(0))
    assert app.rows_of(columns) == app.rows_of(again)
    assert app.history(app.SCHEMA, np.random.default_rng(0)) == app.history(app.SCHEMA, np.random.default_rng(0))


def test_mappings_hold_the_columns_as_plain_values() -> None:
    columns = {"id": ["a", "b"], "price": np.array([1.5, 2.5]), "topics": [("x",), ()]}
    found = app.rows_of(columns)
    assert found == [{"id": "a", "price": 1.5, "topics": ("x",)}, {"id": "b", "price": 2.5, "topics": ()}]
    assert {type(row["price"]) for row in found} == {float}


@pytest.mark.parametrize(
    ("unit", "ours", "peer", "value"), [("us", 250.0, 100.0, 150.0), ("x", 30.0, 20.0, 1.5), ("kB", 7.0, 0.0, 7.0)]
)
def test_a_row_is_a_ratio_where_its_unit_is_x_and_else_a_difference(
    unit: str, ours: float, peer: float, value: float
) -> None:
    row = Row.of("name", unit, ours, peer, "peer", goal=value)
    assert row.value == value
    assert row.reached
    assert not Row.of("name", unit, ours, peer, "peer", goal=value * 0.99).reached


def test_rows_have_the_names_and_goals_that_are_promised() -> None:
    assert {row.name: row.goal for row in rows([SLOW_TO_RANK], TREES_US, 113.0)} == GOALS


def test_the_rows_of_a_student_follow_from_its_times() -> None:
    found = {row.name: row.value for row in rows_of(SLOW_TO_RANK, TREES_US)}
    assert found == {
        "rank_columns_over_invoke_us": 400 - 100,
        "rank_columns_vs_lightgbm": 400 / 1000,
        # The quantile lies at rank 0.99 * 99 = 98.01, a hundredth of the way from the last but one to the last.
        "rank_p99_over_p50": pytest.approx(1 + 0.01 * 2),
        "rank_mappings_over_invoke_us": 500 - 100,
        "cold_start_vs_bare": 110 / 100,
        "rss_over_bare_mb": 50 - 40,
        "record_event_us": 80,
        "rank_blocked_by_record_ms": 4.2 - 0.2,
    }


def test_a_row_is_that_of_the_worse_student() -> None:
    found = {row.name: row.value for row in rows([SLOW_TO_RANK, SLOW_TO_START], TREES_US, 113.0)}
    assert found["rank_columns_over_invoke_us"] == 300
    assert found["cold_start_vs_bare"] == 1.2


def test_the_document_tells_each_students_own_rows() -> None:
    made = document([SLOW_TO_RANK, SLOW_TO_START], TREES_US, 113.0)
    assert made["rows"][0].keys() == {"name", "value", "unit", "ours", "peer", "peer_name", "goal", "least"}
    figures = {name: told["rows"]["cold_start_vs_bare"] for name, told in made["detail"]["students"].items()}
    assert figures == {"one": 1.1, "other": 1.2}
    assert made["detail"]["lightgbm_us"]["p50"] == 1000


def test_the_times_of_all_processes_count_alike() -> None:
    one, other = SLOW_TO_RANK.times, SLOW_TO_START.times
    together = joined([one, other])
    assert together.columns == one.columns + other.columns
    assert together.candidates == 100


def test_a_packages_size_is_that_of_what_is_installed_of_it(tmp_path: Path) -> None:
    (tmp_path / "commands" / "__pycache__").mkdir(parents=True)
    for name, size in (("a.py", 500), ("commands/b.py", 400), ("py.typed", 100), ("commands/__pycache__/b.pyc", 9_000)):
        (tmp_path / name).write_bytes(b" " * size)
    assert size_kb(tmp_path) == 1.0


def test_the_page_tells_every_row_and_loads_nothing() -> None:
    made = document([SLOW_TO_RANK, SLOW_TO_START], TREES_US, 113.0)
    html = page([made, made])
    assert all(html.count(f"<code>{name}</code>") == 2 for name in GOALS)
    assert "missed" in html
    assert "reached" in html
    assert not any(word in html for word in ("<script", "<link", "src=", "@import", "url("))
