"""The choice of a recipe from what was measured, and the loop that measures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import GateError, InputError, ModelError
from pocketrank.metrics import Interval
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each
from pocketrank_export.gates import Limits
from pocketrank_export.quantization.search import Measured, choose, failures, measure, measure_all

NEW, OLD = "ai-edge-litert", "tflite-runtime"
BOTH = (NEW, OLD)
LIMITS = Limits()


def row(recipe: str, runtime: str = NEW, p50: float = 100.0, size: int = 10_000, **changed: object) -> Measured:
    """A row that passes."""
    found = Measured(
        recipe,
        runtime,
        size,
        finite=True,
        kendall_tau=0.99,
        ndcg=0.399,
        ndcg_float=0.4,
        loss=Interval(0.0025, 0.001, 0.004, 100),
        p50_us=p50,
    )
    return dataclasses.replace(found, **changed)  # type: ignore[arg-type]


def both(recipe: str, new_us: float, old_us: float, size: int = 10_000) -> list[Measured]:
    return [row(recipe, NEW, new_us, size), row(recipe, OLD, old_us, size)]


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        # As fast and a quarter of the size.
        ([*both("float32", 100, 100, 40_000), *both("weight_int8", 100, 100)], ["weight_int8"] * 2),
        # A few per cent of noise don't bring the floats back.
        ([*both("float32", 97, 97, 40_000), *both("weight_int8", 100, 100)], ["weight_int8"] * 2),
        # Half the size is worth 2 ** 0.25 = 1.189 times the time, and no more.
        ([*both("float32", 100, 100, 20_000), *both("weight_int8", 118, 118)], ["weight_int8"] * 2),
        ([*both("float32", 100, 100, 20_000), *both("weight_int8", 120, 120)], ["float32"] * 2),
        # Runtimes disagree: a variant for each.
        ([*both("weight_int8", 150, 100), *both("dynamic_int8_tensor", 100, 800)],
         ["dynamic_int8_tensor", "weight_int8"]),
        # They disagree by less than a second file costs: one file, of the recipe that loses least at worst.
        ([*both("weight_int8", 104, 100), *both("static_int8", 100, 108)], ["weight_int8"] * 2),
        ([*both("weight_int8", 109, 100), *both("static_int8", 100, 105)], ["static_int8"] * 2),
        # One that is nowhere the best is enough for both.
        ([*both("a", 100, 300), *both("b", 300, 100), *both("c", 118, 118)], ["c", "c"]),
        ([*both("a", 100, 300), *both("b", 300, 100), *both("c", 120, 109)], ["a", "b"]),
        # What was measured on one runtime alone is no file for both.
        ([row("a", NEW, 100), *both("b", 101, 100)], ["b", "b"]),
        ([row("a", NEW, 50), *both("b", 101, 100)], ["a", "b"]),
        ([row("a", NEW, 100), row("b", OLD, 100)], ["a", "b"]),
        # Size counts for a variant as well.
        ([row("a", NEW, 97, 40_000), *both("b", 100, 800), row("c", OLD, 100)], ["b", "c"]),
        # Alike in all: the first by name.
        ([*both("b", 100, 100), *both("a", 100, 100)], ["a", "a"]),
    ],
)  # fmt: skip
def test_the_choice_by_table(measured: list[Measured], expected: list[str]) -> None:
    for given_order in (measured, measured[::-1]):
        chosen = choose(given_order, LIMITS, BOTH)
        assert [chosen.recipes[runtime] for runtime in (NEW, OLD)] == expected
        assert chosen.shared == (expected[0] if len(set(expected)) == 1 else None)


BROKEN: dict[str, Callable[[Measured], Measured]] = {
    "error": lambda found: dataclasses.replace(found, error="refused"),
    "finite": lambda found: dataclasses.replace(found, finite=False),
    "kendall_tau": lambda found: dataclasses.replace(found, kendall_tau=0.9799),
    "kendall_tau NaN": lambda found: dataclasses.replace(found, kendall_tau=math.nan),
    "ndcg": lambda found: dataclasses.replace(found, loss=Interval(0.0051, -0.01, 0.02, 100)),
    "ndcg NaN": lambda found: dataclasses.replace(found, loss=Interval(math.nan, 0, 0, 100)),
    "size": lambda found: dataclasses.replace(found, size_bytes=1_000_001),
    "no size": lambda found: dataclasses.replace(found, size_bytes=0),
    "p50": lambda found: dataclasses.replace(found, p50_us=5_001.0),
    "no p50": lambda found: dataclasses.replace(found, p50_us=0.0),
    "p50 NaN": lambda found: dataclasses.replace(found, p50_us=math.nan),
    "p50 infinite": lambda found: dataclasses.replace(found, p50_us=math.inf),
}
BOUNDED = Limits(size_bytes=1_000_000, latency_us=5_000)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_recipe_that_fails_on_one_runtime_is_not_shipped_there(fault: str) -> None:
    limits = LIMITS if fault == "p50 infinite" else BOUNDED
    good, (bad_new, bad_old) = both("weight_int8", 1000, 1000, 900_000), both("broken", 1, 1, 1)
    bad_old = BROKEN[fault](bad_old)
    chosen = choose([*good, bad_new, bad_old], limits, BOTH)
    assert chosen.recipes == {NEW: "broken", OLD: "weight_int8"}
    assert set(chosen.failures) == {("broken", OLD)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"error": "skip: no layers"}, "not usable: skip: no layers"),
        ({"finite": False}, "finite: the scores hold NaN or infinity"),
        ({"kendall_tau": 0.97}, r"kendall_tau 0\.9700, >= 0\.98 wanted \(0\.0100 short\)"),
        (
            {"loss": Interval(0.012, 0.01, 0.014, 9)},
            r"ndcg loss 1\.20% \[1\.00%, 1\.40%\], <= 0\.50% wanted \(0\.70% over\)",
        ),
        ({"size_bytes": 1_500_000}, r"size 1,500,000 bytes, <= 1,000,000 wanted \(500,000 over\)"),
        ({"p50_us": 6_000.0}, r"p50 6000 us, <= 5000 wanted \(1000 over\)"),
    ],
)
def test_where_nothing_passes_the_error_names_limit_and_excess(changed: dict[str, object], message: str) -> None:
    measured = [*both("weight_int8", 100, 100), *both("float16", 100, 100)]
    failing = [found if found.runtime == NEW else dataclasses.replace(found, **changed) for found in measured]  # type: ignore[arg-type]
    with pytest.raises(GateError, match=message) as caught:
        choose(failing, BOUNDED, BOTH)
    said = str(caught.value)
    assert said.startswith("quantize (tflite-runtime): no recipe passes: weight_int8: ")
    assert "; float16: " in said
    assert NEW not in said


def test_all_failures_of_a_row_are_named() -> None:
    bad = row("weight_int8", kendall_tau=0.5, loss=Interval(0.5, 0.4, 0.6, 9), size_bytes=2_000_000, p50_us=9_000.0)
    assert [words.split()[0] for words in failures(bad, BOUNDED)] == ["kendall_tau", "ndcg", "size", "p50"]


def test_a_limit_itself_passes() -> None:
    edge = row(
        "weight_int8", kendall_tau=0.98, loss=Interval(0.005, 0.0, 0.01, 9), size_bytes=1_000_000, p50_us=5_000.0
    )
    assert failures(edge, BOUNDED) == ()


def test_a_declared_runtime_that_was_not_measured_stops_the_search() -> None:
    with pytest.raises(GateError, match=r"quantize \(tflite-runtime\): no recipe passes: none was measured there"):
        choose([row("weight_int8", NEW)], LIMITS, BOTH)


def test_no_runtimes_and_a_row_twice_are_refused() -> None:
    with pytest.raises(InputError, match="runtimes: expected"):
        choose([row("weight_int8")], LIMITS, ())
    with pytest.raises(InputError, match="each recipe once"):
        choose([row("weight_int8"), row("weight_int8")], LIMITS, (NEW,))


rows = st.builds(
    lambda recipe, runtime, p50, size, tau, loss, finite, failed: row(
        recipe, runtime, p50, size, kendall_tau=tau, loss=Interval(loss, loss, loss, 9), finite=finite,
        error="refused" if failed else None,
    ),
    st.sampled_from("abcd"),
    st.sampled_from([NEW, OLD, "another"]),
    st.floats(1, 1000) | st.just(math.nan),
    st.integers(0, 100_000),
    st.floats(0.97, 1) | st.just(math.nan),
    st.floats(-0.01, 0.01),
    st.booleans(),
    st.booleans(),
)  # fmt: skip


@given(
    measured=st.lists(rows, max_size=12, unique_by=lambda found: (found.recipe, found.runtime)),
    order=st.randoms(use_true_random=False),
)
def test_nothing_that_fails_is_chosen_and_the_order_does_not_matter(measured: list[Measured], order: object) -> None:
    limits = Limits(size_bytes=50_000, latency_us=500)
    passing = {
        runtime: [found for found in measured if found.runtime == runtime and not failures(found, limits)]
        for runtime in BOTH
    }
    shuffled = list(measured)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    if not all(passing.values()):
        with pytest.raises(GateError):
            choose(measured, limits, BOTH)
        return
    chosen = choose(measured, limits, BOTH)
    assert choose(shuffled, limits, BOTH) == chosen
    assert set(chosen.recipes) == set(BOTH)
    for runtime, recipe in chosen.recipes.items():
        (taken,) = (found for found in passing[runtime] if found.recipe == recipe)
        least = min(found.cost for found in passing[runtime])
        assert taken.cost <= least * (2**0.25 if chosen.shared else 1.0) * (1 + 1e-12)


def test_measure_compares_with_the_float_model_slate_by_slate() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (40, 6)).astype(np.float32)
    slates = Slates(np.zeros((40, 6, 1), np.float32), labels, np.ones((40, 6), np.float32))
    reference = rng.normal(size=(40, 6)).astype(np.float32)
    swapped = reference.copy()
    best = np.argsort(-reference, axis=1)[:, :2]
    np.put_along_axis(swapped, best, np.take_along_axis(reference, best[:, ::-1], axis=1), axis=1)
    found = measure(
        "weight_int8", NEW, swapped, p50_us=5.0, size_bytes=7, reference=reference, slates=slates,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    exact, lost = ndcg_each(reference, slates), ndcg_each(swapped, slates)
    assert found.kendall_tau == pytest.approx(1 - 2 / 15), "one of 15 pairs is turned in each slate"
    assert (found.ndcg, found.ndcg_float) == (lost.mean(), exact.mean())
    assert found.loss.mean == pytest.approx((exact.mean() - lost.mean()) / exact.mean())
    # Paired: an interval of two means apart would be as wide as nDCG itself varies.
    assert found.loss.low < found.loss.mean < found.loss.high
    half = 1.96 * (exact - lost).std() / exact.mean() / math.sqrt(40)
    assert found.loss.high - found.loss.low == pytest.approx(2 * half, rel=0.15)
    assert (found.finite, found.p50_us, found.size_bytes, found.error) == (True, 5.0, 7, None)


def test_pairs_that_the_float_model_ties_say_nothing_of_a_recipe() -> None:
    """As the gate of the same limit has it: a recipe that it would pass is not left out beforehand."""
    reference, labels = np.array([[2, 1, 1, 0]] * 3, np.float32), np.eye(3, 4, dtype=np.float32)
    found = measure(
        "weight_int8", NEW, np.array([[2, 1, 1.001, 0]] * 3, np.float32), p50_us=5.0, size_bytes=7, reference=reference,
        slates=Slates(np.zeros((3, 4, 1), np.float32), labels, np.ones((3, 4), np.float32)),
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert found.kendall_tau == 1.0


def test_measure_says_where_scores_are_not_finite() -> None:
    ones = np.ones((2, 3), np.float32)
    found = measure(
        "dynamic", OLD, ones * np.nan, p50_us=5.0, size_bytes=7, reference=ones,
        slates=Slates(np.zeros((2, 3, 1), np.float32), ones, ones), rng=np.random.default_rng(0),
    )  # fmt: skip
    assert not found.finite
    assert failures(found, LIMITS) == ("finite: the scores hold NaN or infinity",)


def test_measuring_goes_through_recipes_and_runtimes_and_keeps_what_fails_as_rows() -> None:
    def make(recipe: str) -> bytes:
        if recipe == "refused":
            raise InputError("found none to quantize")
        return recipe.encode()

    def score(recipe: str, content: bytes, runtime: str) -> Measured:
        if (recipe, runtime) == ("half", OLD):
            raise ModelError("Op builtin_code out of range")
        return row(recipe, runtime, size=len(content))

    told: list[float] = []
    found = measure_all(["good", "refused", "half"], [NEW, OLD], make, score, told.append)
    assert [(one.recipe, one.runtime, one.size_bytes, one.error) for one in found] == [
        ("good", NEW, 4, None),
        ("good", OLD, 4, None),
        ("refused", NEW, 0, "found none to quantize"),
        ("refused", OLD, 0, "found none to quantize"),
        ("half", NEW, 4, None),
        ("half", OLD, 4, "Op builtin_code out of range"),
    ]
    assert told == pytest.approx([1 / 3, 2 / 3, 1])
    assert choose(found, LIMITS, BOTH).recipes == {NEW: "good", OLD: "good"}
