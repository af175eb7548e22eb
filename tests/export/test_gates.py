"""The gates: a sound bundle passes on every runtime at hand; a broken one is stopped and told which gate it was."""

import copy
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrank import Bundle
from pocketrank.bundle import GOLDEN, RANK_MODEL, RANK_MODELS, Manifest, Parameter, save_arrays
from pocketrank.errors import GateError
from pocketrank.features.profile import Array
from pocketrank.metrics import bootstrap
from pocketrank.schema import Categories, Schema
from pocketrank.scorer import variants_of
from pocketrank_export.builder import Converted, pack
from pocketrank_export.conversion.ranking import to_tflite_rank
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import kendall_tau, ndcg_each, same_order, score
from pocketrank_export.gates import (
    Limits,
    Standards,
    Verdict,
    check,
    cold_start,
    figures,
    judge,
    order_kept,
    parity,
    prove,
    random_order,
    rank_bytes,
)
from pocketrank_export.quantization.recipes import weight_int8
from pocketrank_export.ranker import trainables
from pocketrank_export.runtimes import RuntimeScores, Trial
from pocketrank_export.student import Student, standardise
from tests import make_test_bundle, shop

DEFAULT = Limits()
NOTHING = Limits(**dict.fromkeys(Limits.__dataclass_fields__))


def lists(seed: int = 0, *, slates: int = 30, n: int = 12) -> Slates:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (slates, n)).astype(np.float32)
    return Slates(np.zeros((slates, n, 1), np.float32), labels, np.ones_like(labels))


def noisy(slates: Slates, noise: float, seed: int = 1) -> Array:
    """Scores that know the labels, but for noise."""
    return (slates.labels + noise * np.random.default_rng(seed).normal(size=slates.labels.shape)).astype(np.float32)


SLATES = lists()
EXACT = noisy(SLATES, 1.0)


def tried(scores: Array | None, *, p50_us: float = 100.0, failure: str = "", golden: str = "") -> Trial:
    found = None if scores is None else RuntimeScores("fast", "1.0", scores, p50_us)
    return Trial("fast", "1.0", found, failure, golden)


def judged(trial: Trial, limits: Limits = DEFAULT, size_bytes: int = 0) -> list[Verdict]:
    return judge(EXACT, SLATES, [trial], limits, size_bytes=size_bytes)


def with_nan() -> Array:
    scores = EXACT.copy()
    scores[3, 0] = np.nan
    return scores


SLOW = Limits(latency_us=500.0)
SMALL = Limits(size_bytes=1_500)


def test_what_gives_the_float_models_scores_passes_every_gate_that_is_asked_for() -> None:
    limits = Limits(latency_us=100.0, size_bytes=1_500)
    verdicts = judged(tried(EXACT), limits, 1_500)
    assert {verdict.gate for verdict in verdicts} == {"finite", "kendall_tau", "ndcg", "latency", "golden", "size"}
    assert all(verdict.passed for verdict in verdicts)
    check(verdicts)
    assert {verdict.gate for verdict in judged(tried(EXACT), NOTHING, 1_500)} == {"finite", "golden"}


@pytest.mark.parametrize(
    ("trial", "limits", "words"),
    [
        (tried(with_nan()), Limits(), ["finite (fast): 1 of 360 scores are NaN or infinite, none wanted; quantize"]),
        (tried(None, failure="finite (fast): it broke"), SLOW, ["finite (fast): it broke"]),
        (
            tried(-EXACT),
            Limits(ndcg_loss=None),
            ["kendall_tau (fast): -1.0000 to the float model, >= 0.98 wanted, missed by 1.98"],
        ),
        (
            tried(np.zeros_like(EXACT)),
            Limits(ndcg_loss=None),
            ["kendall_tau (fast): 0.0000 to the float model, >= 0.98 wanted, missed by 0.98"],
        ),
        (
            tried(EXACT, p50_us=900.4),
            SLOW,
            ["latency (fast): 900 us a call in the median, <= 500 wanted, missed by 400"],
        ),
        (tried(EXACT, p50_us=math.nan), SLOW, ["latency (fast): nan us"]),
        (tried(EXACT, golden="golden (fast): other"), Limits(), ["golden (fast): other"]),
        (tried(EXACT), SMALL, ["size: 2,000 bytes of ranking models, <= 1,500 wanted, missed by 500"]),
        (
            tried(-EXACT, p50_us=501.0, golden="golden (fast): other"),
            Limits(ndcg_loss=None, latency_us=500.0, size_bytes=1),
            ["kendall_tau (fast): -1", "latency (fast): 501", "golden (fast): other", "size: 2,000"],
        ),
    ],
)
def test_what_fails_is_named_with_its_value_its_bound_and_by_how_much(
    trial: Trial, limits: Limits, words: list[str]
) -> None:
    verdicts = judged(trial, limits, 2_000)
    with pytest.raises(GateError) as stopped:
        check(verdicts)
    said = str(stopped.value).splitlines()
    assert len(said) == len(words)
    for line, begin in zip(said, words, strict=True):
        assert line.startswith(begin)
    for verdict in verdicts:
        assert verdict.value is None or math.isfinite(verdict.value)
        assert verdict.words.startswith(verdict.gate + (f" ({verdict.runtime})" if verdict.runtime else ""))


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_a_bound_is_met_by_itself_and_by_nothing_beyond(share: float) -> None:
    trial = tried(noisy(SLATES, 1.05, seed=1), p50_us=100.0)
    found = {verdict.gate: verdict.value for verdict in judged(trial, Limits(latency_us=1.0, size_bytes=1), 2_000)}
    exactly = Limits(
        kendall_tau=found["kendall_tau"], ndcg_loss=found["ndcg"], latency_us=found["latency"], size_bytes=2_000
    )
    check(judged(trial, exactly, 2_000))
    for name, value in vars(exactly).items():
        if name in {"kendall_tau", "ndcg_loss", "latency_us", "size_bytes"} and value:
            moved = dataclasses.replace(exactly, **{name: value * share if value > 0 else value - share})
            (said,) = {verdict.passed for verdict in judged(trial, moved, 2_000) if verdict.bound == vars(moved)[name]}
            assert said == ((share < 1.0) == (name == "kendall_tau"))


def test_a_small_change_that_costs_quality_is_stopped() -> None:
    """The first candidate, and it alone, is good, and sinks to the second place: hardly another order, much worse."""
    count, size = 10, 90
    reference = np.tile(-np.arange(size, dtype=np.float32), (count, 1))
    labels = np.zeros_like(reference)
    labels[:, 0] = 1.0
    slates = Slates(np.zeros((count, size, 1), np.float32), labels, np.ones_like(labels))
    scores = reference.copy()
    scores[:, 0] = -1.5
    verdicts = judge(reference, slates, [tried(scores)], size_bytes=0)
    (failed,) = [verdict for verdict in verdicts if not verdict.passed]
    assert failed.value == pytest.approx(1 - 1 / np.log2(3))
    assert failed.words == (
        "ndcg (fast): 36.91% below the float model (36.91% to 36.91%), <= 0.50% wanted, missed by 36.41%"
    )


def test_the_loss_of_ndcg_is_relative_and_its_interval_that_of_paired_differences() -> None:
    scores = noisy(SLATES, 1.3, seed=2)
    (found,) = [verdict for verdict in judged(tried(scores)) if verdict.gate == "ndcg"]
    exact, other = ndcg_each(EXACT, SLATES), ndcg_each(scores, SLATES)
    assert found.value == pytest.approx(1 - other.mean() / exact.mean())
    expected = bootstrap((exact - other) / exact.mean(), np.random.default_rng(5))
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    # A gain is no loss.
    assert all(
        verdict.passed for verdict in judge(scores, SLATES, [tried(SLATES.labels)], NOTHING_BUT_NDCG, size_bytes=0)
    )


NOTHING_BUT_NDCG = dataclasses.replace(NOTHING, ndcg_loss=0.0)


@given(st.integers(0, 10_000), st.integers(0, 12))
@settings(max_examples=30)
def test_where_the_float_model_ties_nothing_the_order_kept_is_kendalls_tau(seed: int, real: int) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.permutation(12).astype(np.float32)[None]
    scores = rng.integers(0, 6, size=(1, 12)).astype(np.float32)
    mask = (np.arange(12) < real).astype(np.float32)[None]
    assert order_kept(scores, reference, mask) == pytest.approx(kendall_tau(scores, reference, mask))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([5.0, 1.0, 3.0, 2.0], 1.0),
        ([2.0, 2.0, 2.0, 2.0], 0.0),
        ([1.0, 5.0, 6.0, 7.0], -1.0),
        ([5.0, 5.0, 1.0, 1.0], 2 / 3),
    ],
)
def test_what_the_float_model_ties_may_come_in_any_order(scores: list[float], expected: float) -> None:
    """It orders the first before the three others, which rounding alone tells apart."""
    reference = np.array([[2.0, 1.0, 1.0 + 1e-6, 1.0 - 1e-6]], np.float32)
    assert order_kept(np.array([scores], np.float32), reference, np.ones((1, 4), np.float32)) == pytest.approx(expected)
    tied = np.ones((1, 4), np.float32)
    assert order_kept(np.array([scores], np.float32), tied, np.ones((1, 4), np.float32)) == 1.0


@pytest.mark.parametrize("relevant", [None, [3, 7]])
@pytest.mark.parametrize("k", [3, 12])
def test_random_order_is_the_mean_of_all_orders(relevant: list[int] | None, k: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("pocketrank_export.gates.K", k)
    labels = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0]], np.float32)
    if relevant is None:
        labels[0, 0] = 3.0
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.float32)
    known = None if relevant is None else np.array(relevant)
    slates = Slates(np.zeros((2, 5, 1), np.float32), labels, mask, known)
    orders = [np.array([order, order], np.float32) for order in itertools.permutations(range(5))]
    expected = np.mean([ndcg_each(order, slates, k=k) for order in orders], axis=0)
    np.testing.assert_allclose(random_order(slates), expected)


def test_random_order_of_nothing_to_find_is_worth_nothing() -> None:
    empty = Slates(np.zeros((2, 3, 1), np.float32), np.zeros((2, 3), np.float32), np.eye(2, 3, dtype=np.float32) * 0)
    np.testing.assert_array_equal(random_order(empty), [0.0, 0.0])


def students(scores: Array, standards: Standards, **limits: Any) -> list[Verdict]:
    found = judge(scores, SLATES, [], Limits(**limits), size_bytes=0, standards=standards)
    assert all(verdict.gate == "student" for verdict in found)
    return found


def test_a_few_slates_say_nothing_of_a_student() -> None:
    """By chance alone all of n slates lie on one side with probability 2 / 2**n: 1/16 of five, 1/32 of six."""
    for count, enough in ((1, False), (5, False), (6, True)):
        few = SLATES.where(np.arange(count))
        worst = -few.labels
        (found,) = judge(few.labels, few, [], NOTHING, size_bytes=0, standards=Standards(None, worst))
        assert found.passed is enough
        assert ("too few" in found.words) is not enough


@pytest.mark.parametrize("first_stage", [None, noisy(SLATES, 4.0, seed=3)])
def test_a_student_is_held_against_its_teachers_gain(first_stage: Array | None) -> None:
    teacher, student = noisy(SLATES, 0.5), noisy(SLATES, 0.9)
    standards = Standards(teacher, first_stage)
    first = random_order(SLATES) if first_stage is None else ndcg_each(first_stage, SLATES)
    best, own = ndcg_each(teacher, SLATES), ndcg_each(student, SLATES)
    expected = (own.mean() - first.mean()) / (best.mean() - first.mean())
    assert 0.1 < expected < 0.99
    above, share = students(student, standards, teacher_gain=expected - 1e-6)
    assert above.passed
    assert share.passed
    assert above.value == pytest.approx(own.mean() - first.mean())
    assert share.value == pytest.approx(expected)
    (*_, short) = students(student, standards, teacher_gain=expected + 0.05)
    assert not short.passed
    assert re.search(
        r"student: keeps \d+\.\d% of the teacher's gain of \+0\.\d+ over .*, missed by 5\.0%$", short.words
    )
    assert len(students(student, Standards(None, first_stage))) == 1
    assert len(students(student, standards, teacher_gain=None)) == 1


@pytest.mark.parametrize(
    ("scores", "standards", "said"),
    [
        (noisy(SLATES, 1e6), Standards(), "from random order, an interval above 0 wanted, missed by"),
        (-SLATES.labels, Standards(), "from random order, an interval above 0 wanted, missed by"),
        (EXACT, Standards(first_stage=SLATES.labels), "from the first stage, an interval above 0 wanted, missed by"),
        (EXACT, Standards(first_stage=EXACT), "+0.0000 (+0.0000 to +0.0000) from the first stage"),
        (SLATES.labels, Standards(-SLATES.labels), "keeps nan% of the teacher's gain of -0."),
    ],
)
def test_a_student_that_learned_nothing_is_stopped(scores: Array, standards: Standards, said: str) -> None:
    with pytest.raises(GateError, match=re.escape(said)):
        check(students(scores, standards))


@pytest.mark.parametrize(
    ("scores", "error"), [([1.0, 2.0], 0.0), ([1.0, 2.25], 0.125), ([0.5, 2.0], 0.25), ([math.nan, 2.0], None)]
)
def test_parity_is_the_largest_error_in_units_of_the_largest_score(scores: list[float], error: float | None) -> None:
    found = parity("onnxruntime", np.array(scores, np.float32), np.array([1.0, 2.0], np.float32), 0.1)
    assert found.value == error
    assert found.passed == (error == 0.0)
    assert found.words.startswith("parity (onnxruntime): scores differ from PyTorch's by ")
    small = parity("x", np.array([0.25], np.float32), np.array([0.5], np.float32), 0.25)
    assert (small.value, small.passed) == (0.25, True)


def test_a_bundle_that_serves_new_devices_worse_than_the_first_stage_is_stopped() -> None:
    labels = np.array([[1, 0, 0, 1]], np.float32)
    slates = Slates(np.zeros((1, 4, 1), np.float32), labels, np.ones_like(labels), np.array([2]))
    best, worst, given = (np.array([row], np.float32) for row in ([3, 1, 0, 2], [0, 2, 3, 1], [4, 3, 2, 1]))
    assert cold_start(best, slates).value == 1.0
    check([cold_start(best, slates), cold_start(given, slates)])
    with pytest.raises(
        GateError, match=r"cold_start: nDCG@10 0\.\d+ on devices without a history, >= 0\.\d+ wanted, mis"
    ):
        check([cold_start(worst, slates)])


def test_times_are_not_in_the_manifest_and_neither_is_what_is_no_number() -> None:
    fast, slow = (figures(EXACT, SLATES, [tried(EXACT, p50_us=p50_us)]) for p50_us in (1.0, 2.0))
    assert fast == slow
    assert fast == {
        "ndcg_at_10.float.fast": pytest.approx(ndcg_each(EXACT, SLATES).mean()),
        "ndcg_at_10.quantized.fast": pytest.approx(ndcg_each(EXACT, SLATES).mean()),
        "kendall_tau.fast": 1.0,
    }
    assert figures(EXACT, SLATES, [tried(with_nan()), tried(None, failure="it broke")]) == {}


def test_the_size_is_that_of_all_ranking_models() -> None:
    own = len(shop.bundle().files[RANK_MODEL])
    assert rank_bytes(shop.bundle()) == own
    assert rank_bytes(shop.with_files(dict.fromkeys(RANK_MODELS.values(), b"12345"))) == own + 10


# -- on the runtimes themselves


@pytest.fixture(scope="module")
def slates() -> Slates:
    return make_test_bundle.slates()


@pytest.fixture(scope="module")
def reference(slates: Slates) -> Array:
    """The float model's scores."""
    return score(make_test_bundle.student(), slates)


@pytest.fixture(scope="module")
def pythons(devices: dict[str, Any]) -> list[Path]:
    return [device.python for device in devices.values()]


def test_a_sound_bundle_passes_and_its_manifest_says_on_what(
    slates: Slates, reference: Array, pythons: list[Path], devices: dict[str, Any]
) -> None:
    proven = prove(shop.bundle(), reference, slates, pythons)
    assert set(proven.manifest.runtimes) == set(devices)
    assert dict(proven.files) == dict(shop.bundle().files)
    for runtime in devices:
        assert re.fullmatch(r"\d+\.\d+\.\d+", proven.manifest.runtimes[runtime])
        assert proven.manifest.report[f"kendall_tau.{runtime}"] > 0.98
        quantized, whole = (proven.manifest.report[f"ndcg_at_10.{kind}.{runtime}"] for kind in ("quantized", "float"))
        assert quantized > 0.995 * whole > 0


def random_head() -> Bundle:
    """The head of another training."""
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in shop.bundle().params().items()}
    return shop.with_params(params)


def moved_columns() -> Bundle:
    """A schema whose columns moved by one while the weights stayed."""
    params = shop.bundle().params()
    moved = params["head.weight"].copy()
    moved[: len(shop.SCHEMA.columns)] = np.roll(moved[: len(shop.SCHEMA.columns)], 1)
    return shop.with_params({**params, "head.weight": moved})


def no_backbone() -> Bundle:
    """A recipe that lost the backbone: the same score from it for every candidate."""
    return shop.with_params(shop.linear(shop.bundle().params()["head.weight"][: len(shop.SCHEMA.columns)]))


def upside_down() -> Bundle:
    return shop.with_params({name: -value for name, value in shop.bundle().params().items()})


@pytest.mark.parametrize("broken", [random_head, moved_columns, no_backbone, upside_down])
def test_a_bundle_that_ranks_otherwise_than_the_float_model_is_stopped(
    broken: Callable[[], Bundle], slates: Slates, reference: Array
) -> None:
    with pytest.raises(GateError, match=r"kendall_tau \(ai-edge-litert\): -?0\.\d+ to the float model, >= 0.98 wanted"):
        prove(broken(), reference, slates)


def test_golden_vectors_that_a_runtime_does_not_give_are_stopped_beside_what_was_found_elsewhere(
    slates: Slates, reference: Array
) -> None:
    golden = shop.bundle().golden()
    golden["scores"][0, 0] += 1.0
    elsewhere = Verdict("cold_start", 0.1, 0.2, passed=False, words="cold_start: too cold")
    with pytest.raises(GateError, match=r"^cold_start: too cold\ngolden \(ai-edge-litert\): .*scores differ [^\n]*$"):
        prove(shop.with_files({GOLDEN: save_arrays(golden)}), reference, slates, further=[elsewhere])


WIDTH = 45
COLUMNS = Schema((Categories(name="x", vocabulary=tuple(f"x{column}" for column in range(WIDTH))),))
SIZE = 128
Packed = Callable[[bytes], Bundle]


@pytest.fixture(scope="module")
def backbone(student: Student) -> Student:
    """A student large enough for a quantizer to touch it, of random weights, that ranks by its backbone alone."""
    alone = copy.deepcopy(student)
    with torch.no_grad():
        for value in alone.head.parameters():
            value.zero_()
        alone.head.weight[-1] = 1.0
    return alone


@pytest.fixture(scope="module")
def backbone_float(backbone: Student) -> bytes:
    return to_tflite_rank(backbone, (SIZE,), variants=variants_of(COLUMNS))


@pytest.fixture(scope="module")
def queries(lists: Callable[..., tuple[Array, Array]]) -> Slates:
    """Slates whose good candidates are those with much in the first ten columns."""
    features, mask = lists(20, SIZE, 100)
    scaled = standardise(torch.from_numpy(features), torch.from_numpy(mask)).numpy()
    return Slates(features, (scaled[..., :10].sum(axis=-1) > 4.0).astype(np.float32) * mask, mask)


@pytest.fixture(scope="module")
def packed(backbone: Student, queries: Slates) -> Packed:
    """A bundle with the parameters of ``backbone`` and a ranking model."""
    manifest = Manifest(
        name="planted",
        version=1,
        schema=COLUMNS,
        slate_sizes=(SIZE,),
        trainable=tuple(Parameter(name, shape) for name, shape in trainables(backbone)),
        policy=make_test_bundle.POLICY,
    )

    def make(content: bytes) -> Bundle:
        return pack(backbone, Converted(b"", None, b"", (SIZE,)), {RANK_MODEL: content}, manifest, queries)

    return make


def stopped(bundle: Bundle, student: Student, slates: Slates, pythons: Sequence[Path], **asked: Any) -> set[str]:
    """Gates that stop ``bundle``, each with its runtime, as the error says it."""
    try:
        prove(bundle, score(student, slates), slates, pythons, **asked)
    except GateError as error:
        return {line.partition(":")[0] for line in str(error).splitlines()}
    return set()


@pytest.mark.slow
def test_a_planted_channelwise_dynamic_model_is_stopped_on_the_runtime_that_gets_it_wrong(
    backbone: Student,
    backbone_float: bytes,
    queries: Slates,
    packed: Packed,
    devices: dict[str, Any],
    channelwise_dynamic: Callable[[bytes], bytes],
) -> None:
    if "tflite-runtime" not in devices:
        pytest.skip("no environment with tflite-runtime")
    pythons = [device.python for device in devices.values()]
    assert not stopped(packed(weight_int8(backbone_float)), backbone, queries, pythons)
    planted = packed(channelwise_dynamic(backbone_float))
    limits = Limits(ndcg_loss=0.5)  # labels that this student knows nothing of say nothing here
    # The builder's own runtime finds no fault with it.
    assert not stopped(planted, backbone, queries, [devices["ai-edge-litert"].python], limits=limits)
    found = stopped(planted, backbone, queries, pythons, limits=limits)
    assert found & {"finite (tflite-runtime)", "kendall_tau (tflite-runtime)"}
    assert all("tflite-runtime" in gate for gate in found)


@pytest.mark.slow
def test_a_model_with_swapped_features_is_stopped(
    backbone: Student, queries: Slates, packed: Packed, devices: dict[str, Any]
) -> None:
    swapped = copy.deepcopy(backbone)
    first = swapped.layers[0]
    assert isinstance(first, torch.nn.Linear)
    with torch.no_grad():
        # Two public columns.
        first.weight[:, [0, 2]] = first.weight[:, [2, 0]]
    content = weight_int8(to_tflite_rank(swapped, (SIZE,), variants=variants_of(COLUMNS)))
    pythons = [device.python for device in devices.values()]
    found = stopped(packed(content), backbone, queries, pythons, limits=Limits(ndcg_loss=None))
    assert found == {f"kendall_tau ({runtime})" for runtime in devices}


@pytest.mark.slow
def test_a_student_of_random_weights_is_stopped(
    backbone: Student, backbone_float: bytes, queries: Slates, packed: Packed, devices: dict[str, Any]
) -> None:
    """Its bundle gives its scores on every runtime; that these are worth nothing is what stops it."""
    pythons = [device.python for device in devices.values()]
    bundle = packed(weight_int8(backbone_float))
    for standards in (Standards(), Standards(teacher=queries.labels), Standards(first_stage=queries.labels)):
        assert stopped(bundle, backbone, queries, pythons, standards=standards) == {"student"}


# -- how far two scorings agree


@given(st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=20)
def test_kendalls_tau_is_the_share_of_pairs_in_the_same_order_less_the_others(seed: int, real: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 6, size=(2, 12)).astype(np.float32)
    mask = (np.arange(12) < real).astype(np.float32)
    pairs = [(i, j) for i in range(real) for j in range(i)]
    agreement = [np.sign(one[i] - one[j]) * np.sign(other[i] - other[j]) for i, j in pairs]
    expected = np.mean(agreement) if pairs else 1.0
    assert kendall_tau(one[None], other[None], mask[None]) == pytest.approx(expected)


def test_kendalls_tau_agrees_with_an_independent_library() -> None:
    stats = pytest.importorskip("scipy.stats")
    one, other = np.random.default_rng(1).normal(size=(2, 50)).astype(np.float32)
    found = kendall_tau(one[None], other[None], np.ones((1, 50), np.float32))
    assert found == pytest.approx(stats.kendalltau(one, other).statistic)


def test_the_same_order_is_asked_of_real_candidates_alone() -> None:
    mask = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
    one = np.array([[2, 1, 0], [2, 1, 0]], np.float32)
    other = np.array([[5, 3, 9], [1, 2, 9]], np.float32)
    assert same_order(one, other, mask) == 0.5
