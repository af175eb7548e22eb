"""Gates that a bundle passes before it is signed. What each one says is a verdict; one that failed stops the bundle.

====================  ==================================================================================
``finite``            every score is a number, on every runtime
``kendall_tau``       the order of the float model, on every runtime
``ndcg``              its nDCG@10, on every runtime
``latency``           the time of one call, on every runtime
``golden``            the self-test, on every runtime
``parity``            ONNX and the float TFLite model give PyTorch's scores
``size``              bytes of the ranking models
``student``           the float student is above the first stage, and keeps the teacher's gain over it
``cold_start``        a device without any history is not served worse than by the first stage alone
====================  ==================================================================================

``judge`` is pure: what was measured comes in.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import RANK_MODEL, RANK_MODELS, Bundle, build
from pocketrank.errors import GateError
from pocketrank.features.profile import Array
from pocketrank.metrics import Interval, bootstrap
from pocketrank.verification import TOLERANCE
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import given_order, ndcg_each
from pocketrank_export.runtimes import Trial, trials

Gate = Literal["finite", "kendall_tau", "ndcg", "latency", "golden", "parity", "size", "student", "cold_start"]
K: Final = 10
"""Places that nDCG looks at."""
TIED: Final = 1e-5
"""Scores closer than this are tied, in the unit of their deviation within the slate: rounding tells them apart."""
FEWEST: Final = 6
"""Slates below which no interval is believed: of five that all gain, chance alone gives 1 in 16, of six 1 in 32."""
_SEED: Final = 0
"""Of the intervals, so that the same bundle is judged in the same words."""


@dataclass(frozen=True)
class Limits:
    """What is asked of a bundle; None = not asked for.

    Attributes:
        kendall_tau: Least Kendall's tau to the float model, as ``order_kept`` measures it.
        ndcg_loss: Largest relative loss of nDCG@10 against the float model.
        parity_error: Largest error of a converted float model, as ``parity`` measures it.
        size_bytes: Most bytes of the ranking models, all together.
        latency_us: Longest median time of one call, microseconds.
        teacher_gain: Least share of the teacher's gain over the first stage (or random order) that the student keeps.
    """

    kendall_tau: float | None = 0.98
    ndcg_loss: float | None = 0.005
    parity_error: float | None = 1e-5
    size_bytes: int | None = None
    latency_us: float | None = None
    teacher_gain: float | None = 0.8


@dataclass(frozen=True)
class Verdict:
    """What a gate found.

    Attributes:
        gate: Its name.
        value: What was measured; None where it came to no number.
        bound: What was asked for.
        passed: Whether the bundle may go on.
        words: All of it in a sentence that begins with the gate and the runtime.
        runtime: On which runtime, where the gate asks that.
        interval: 95 % paired bootstrap interval of ``value`` over slates, where it has one.
    """

    gate: Gate
    value: float | None
    bound: float | None
    passed: bool
    words: str
    runtime: str | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Standards:
    """What the student is held against: scores float32 ``[s, n]`` of the same slates.

    Attributes:
        teacher: Those of its teacher; None where it had none.
        first_stage: Those of what ranks without it; None where nothing does, and the order is random.
    """

    teacher: Array | None = None
    first_stage: Array | None = None


def judge(
    reference: Array,
    slates: Slates,
    found: Sequence[Trial],
    limits: Limits = Limits(),
    *,
    size_bytes: int,
    standards: Standards | None = None,
) -> list[Verdict]:
    """Every gate that is asked for, but those of the conversion and of new devices.

    Args:
        reference: The float model's scores ``[s, n]`` of ``slates``.
        slates: Real slates with labels, which were not trained on.
        found: What each declared runtime made of the bundle.
        limits: What is asked for.
        size_bytes: Of the ranking models, all together.
        standards: What the float model is held against; None: it is not.
    """
    verdicts = [] if standards is None else _student(reference, slates, standards, limits)
    for trial in found:
        verdicts += _on_runtime(trial, reference, slates, limits)
    if limits.size_bytes is not None:
        verdicts.append(
            _at_most("size", float(size_bytes), limits.size_bytes, "{:,.0f} bytes of ranking models", "{:,.0f}")
        )
    return verdicts


def check(verdicts: Iterable[Verdict]) -> None:
    """Stop a bundle that a gate says no to.

    Raises:
        GateError: Each gate that failed, on a line of its own, with its value, its bound and by how much.
    """
    failed = [verdict.words for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateError("\n".join(failed))


def parity(name: str, scores: Array, expected: Array, bound: float) -> Verdict:
    """Hold the scores ``[...]`` of a converted float model on runtime ``name`` against PyTorch's.

    The error is the largest difference, in units of the largest score where that is above 1: float32 has about seven
    digits, wherever the point is.
    """
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    error = float(np.abs(scores - expected).max(initial=0.0)) / scale
    return _at_most("parity", error, bound, "scores differ from PyTorch's by {:.2g}", "{:.2g}", name)


def cold_start(scores: Array, slates: Slates) -> Verdict:
    """Hold the scores ``[s, n]`` on devices without any history against the first stage.

    Args:
        scores: Of ``slates``.
        slates: Candidates in the first stage's order, private columns as on a new device.

    Returns:
        The verdict; its value is nDCG@10 of ``scores``, its bound the first stage's.
    """
    value, first_stage = (float(ndcg_each(order, slates).mean()) for order in (scores, given_order(slates)))
    return _at_least("cold_start", value, first_stage, "nDCG@10 {:.4f} on devices without a history", "{:.4f}")


def order_kept(scores: Array, reference: Array, mask: Array) -> float:
    """Kendall's tau of ``scores`` [s, n] to ``reference`` [s, n] over the pairs that this one orders; the slates' mean.

    Pairs that it ties, or tells apart by rounding alone, say nothing of another scoring; one that ties what it orders
    counts as half a disagreement. Without ties this is tau-a. A slate without a pair counts 1.
    """
    each = []
    for one, exact, real in zip(scores.astype(np.float64), reference.astype(np.float64), mask > 0, strict=True):
        wanted, found = (np.subtract.outer(values[real], values[real]) for values in (exact, one))
        ordered = wanted > TIED * exact[real].std() if real.any() else wanted > 0
        each.append(np.sign(found[ordered]).mean() if ordered.any() else 1.0)
    return float(np.mean(each))


def random_order(slates: Slates) -> npt.NDArray[np.float64]:
    """Expected nDCG@10 ``[s]`` of each slate in random order: the mean label stands in every place."""
    discounts = 1.0 / np.log2(np.arange(2, K + 2))
    expected = np.zeros(len(slates))
    relevant = [None] * len(slates) if slates.relevant is None else slates.relevant.tolist()
    for slate, (labels, real, count) in enumerate(zip(slates.labels, slates.mask > 0, relevant, strict=True)):
        ideal = np.sort(labels[real].astype(np.float64))[::-1][:K] if count is None else np.ones(min(count, K))
        best = float(ideal @ discounts[: len(ideal)])
        if best > 0 and real.any():
            expected[slate] = labels[real].mean() * discounts[: int(real.sum())].sum() / best
    return expected


def rank_bytes(bundle: Bundle) -> int:
    """Size of the ranking models of ``bundle``, all together."""
    return sum(len(bundle.files[name]) for name in (RANK_MODEL, *RANK_MODELS.values()) if name in bundle.files)


def figures(reference: Array, slates: Slates, found: Sequence[Trial]) -> dict[str, float]:
    """What a manifest reports of the gates.

    Times are not among it: the same inputs make the same bundle, byte for byte, and no two runs take the same time.
    """
    exact = float(ndcg_each(reference, slates).mean())
    report: dict[str, float] = {}
    for trial in found:
        if trial.found is not None and np.isfinite(scores := trial.found.scores).all():
            report |= {
                f"ndcg_at_10.float.{trial.runtime}": exact,
                f"ndcg_at_10.quantized.{trial.runtime}": float(ndcg_each(scores, slates).mean()),
                f"kendall_tau.{trial.runtime}": order_kept(scores, reference, slates.mask),
            }
    return report


def certified(bundle: Bundle, found: Sequence[Trial], report: Mapping[str, float]) -> Bundle:
    """``bundle`` with the runtimes that it was proven on, and with ``report`` beside what its manifest reports."""
    runtimes = {trial.runtime: trial.version for trial in found}
    manifest = dataclasses.replace(bundle.manifest, runtimes=runtimes, report={**bundle.manifest.report, **report})
    return build(manifest, bundle.files)


def prove(
    bundle: Bundle,
    reference: Array,
    slates: Slates,
    pythons: Sequence[str | Path] = (sys.executable,),
    *,
    limits: Limits = Limits(),
    standards: Standards | None = None,
    further: Sequence[Verdict] = (),
) -> Bundle:
    """Put ``bundle`` through the gates in the environment of each of ``pythons``.

    Args:
        bundle: What is to be released.
        reference: The float model's scores ``[s, n]`` of ``slates``.
        slates: Real slates with labels, which were not trained on.
        pythons: Interpreters, each with a runtime of its own.
        limits: What is asked for.
        standards: As of ``judge``.
        further: Verdicts that were reached elsewhere.

    Returns:
        The bundle, its manifest now naming the runtimes and figures that it was proven with.

    Raises:
        GateError: Gates stopped the bundle; all of them are named.
        InputError: An environment can't run it.
    """
    found = trials(bundle, slates, pythons)
    size = rank_bytes(bundle)
    check([*further, *judge(reference, slates, found, limits, size_bytes=size, standards=standards)])
    return certified(bundle, found, figures(reference, slates, found))


def _student(scores: Array, slates: Slates, standards: Standards, limits: Limits) -> list[Verdict]:
    """Whether the float student learned anything, and enough of its teacher."""
    student = ndcg_each(scores, slates)
    named = "random order" if standards.first_stage is None else "the first stage"
    first = random_order(slates) if standards.first_stage is None else ndcg_each(standards.first_stage, slates)
    gain = _bootstrap(student - first)
    what = f"nDCG@10 {student.mean():.4f} is {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}) from {named}"
    above = gain.low > 0 and gain.n >= FEWEST
    missed = _missed(above, gain.low) if gain.n >= FEWEST else f"; {gain.n} slates are too few, {FEWEST} or more wanted"
    verdicts = [
        Verdict(
            "student",
            gain.mean,
            0.0,
            above,
            f"student: {what}, an interval above 0 wanted{missed}",
            interval=gain,
        )
    ]
    if standards.teacher is not None and limits.teacher_gain is not None:
        whole = float((ndcg_each(standards.teacher, slates) - first).mean())
        share = gain.mean / whole if whole > 0 else float("nan")
        what = "keeps {:.1%} of " + f"the teacher's gain of {whole:+.4f} over {named}"
        verdicts.append(_at_least("student", share, limits.teacher_gain, what, "{:.1%}"))
    return verdicts


def _on_runtime(trial: Trial, reference: Array, slates: Slates, limits: Limits) -> list[Verdict]:
    name, found = trial.runtime, trial.found
    verdicts = [_finite(trial)]
    if found is not None and verdicts[0].passed:
        if limits.kendall_tau is not None:
            tau = order_kept(found.scores, reference, slates.mask)
            verdicts.append(
                _at_least("kendall_tau", tau, limits.kendall_tau, "{:.4f} to the float model", "{:g}", name)
            )
        if limits.ndcg_loss is not None:
            verdicts.append(_ndcg(name, found.scores, reference, slates, limits.ndcg_loss))
    if found is not None and limits.latency_us is not None:
        what = "{:,.0f} us a call in the median"
        verdicts.append(_at_most("latency", found.p50_us, limits.latency_us, what, "{:,.0f}", name))
    words = trial.golden or f"golden ({name}): the self-test passed"
    return [*verdicts, Verdict("golden", None, TOLERANCE, not trial.golden, words, name)]


def _finite(trial: Trial) -> Verdict:
    name = trial.runtime
    if trial.found is None:
        return Verdict("finite", None, 0.0, passed=False, words=trial.failure, runtime=name)
    wrong = int((~np.isfinite(trial.found.scores)).sum())
    words = f"finite ({name}): {wrong} of {trial.found.scores.size} scores are NaN or infinite, none wanted"
    hint = f"; quantize with a recipe that fits {name}" if wrong else ""
    return Verdict("finite", float(wrong), 0.0, not wrong, words + hint, name)


def _ndcg(name: str, scores: Array, reference: Array, slates: Slates, bound: float) -> Verdict:
    exact = ndcg_each(reference, slates)
    whole = float(exact.mean())
    loss = _bootstrap((exact - ndcg_each(scores, slates)) / whole if whole > 0 else np.zeros_like(exact))
    what = "{:.2%} below the float model" + f" ({loss.low:.2%} to {loss.high:.2%})"
    return _at_most("ndcg", loss.mean, bound, what, "{:.2%}", name, loss)


def _bootstrap(values: npt.NDArray[np.float64]) -> Interval:
    return bootstrap(values, np.random.default_rng(_SEED))


def _at_least(gate: Gate, value: float, bound: float, what: str, form: str, runtime: str | None = None) -> Verdict:
    passed = value >= bound
    words = f"{_title(gate, runtime)}: {what.format(value)}, >= {form.format(bound)} wanted"
    return Verdict(gate, _number(value), bound, passed, words + _missed(passed, bound - value, form), runtime)


def _at_most(  # noqa: PLR0917  (as of _at_least)
    gate: Gate,
    value: float,
    bound: float,
    what: str,
    form: str,
    runtime: str | None = None,
    interval: Interval | None = None,
) -> Verdict:
    passed = value <= bound
    words = f"{_title(gate, runtime)}: {what.format(value)}, <= {form.format(bound)} wanted"
    return Verdict(gate, _number(value), bound, passed, words + _missed(passed, value - bound, form), runtime, interval)


def _title(gate: Gate, runtime: str | None) -> str:
    return gate if runtime is None else f"{gate} ({runtime})"


def _missed(passed: bool, by: float, form: str = "{:.4f}") -> str:  # noqa: FBT001  (of two sentences, one)
    return "" if passed else f", missed by {form.format(abs(by))}"


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
