"""What a report says of a run: everything is measured on the test part, which nothing was fitted or chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import RANK_MODEL, RANK_MODELS
from pocketrank.errors import InputError
from pocketrank.metrics import Interval, bootstrap
from pocketrank_export.data.dataset import Dataset
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import given_order, ndcg_each, score
from pocketrank_export.gates import random_order
from pocketrank_export.pipeline import PARTS, Run
from pocketrank_export.quantization.search import Measured
from pocketrank_export.report.calibration import calibration
from pocketrank_export.report.figures import Difference, Figures, Latency, Model, Part, Quality, Recipe, Size
from pocketrank_export.report.importance import importance
from pocketrank_export.runtimes import Trial, trials

Floats = npt.NDArray[np.float64]
_SEED = 0  # of the intervals and permutations: the same run is reported in the same figures
STUDENT = "student, float"


def measured(run: Run) -> Figures:
    """Every figure of ``run``'s report; stages that are not done yet are run first.

    Raises:
        InputError: No slate of the test part holds anything relevant, or an environment can't run the bundle.
        GateError: No recipe that was searched passes.
    """
    test = run.split.test
    rows = test.slates.has_relevant
    if not rows.any():
        raise InputError("test: expected a slate with something relevant, got none; hold out more, or other slates")
    slates, rng = test.slates.where(rows), np.random.default_rng(_SEED)
    proven, teachers = run.proven, run.teachers
    found = trials(proven.bundle, slates, [run.pythons[runtime] for runtime in run.config.runtimes])
    scores = score(run.student, slates)
    base = ndcg_each(given_order(slates), slates) if test.ordered else random_order(slates)
    baseline = "first stage" if test.ordered else "random order"
    taught = {each.teacher.name: ndcg_each(each.scores["test"][rows], slates) for each in teachers}
    teacher = run.teacher.teacher.name if teachers else None
    student = ndcg_each(scores, slates)
    shipped = {trial.runtime: ndcg_each(trial.found.scores, slates) for trial in found if trial.found is not None}
    quality = (
        Quality(baseline, "baseline", _interval(base)),
        *(Quality(name, "teacher", _interval(values)) for name, values in taught.items()),
        Quality(STUDENT, "student", _interval(student)),
        *(Quality(f"on {runtime}", "runtime", _interval(values)) for runtime, values in shipped.items()),
    )
    return Figures(
        name=run.config.name,
        version=run.config.version,
        digest=proven.bundle.digest if all(verdict.passed for verdict in proven.verdicts) else None,
        about=test.about,
        baseline=baseline,
        taught_by=teacher,
        parts=tuple(_part(name, getattr(run.split, name)) for name in PARTS),
        model=_model(run),
        quality=quality,
        differences=differences(student, base, baseline, taught.get(teacher or ""), shipped),
        share=share_kept(student, base, taught[teacher], np.random.default_rng(_SEED)) if teacher else None,
        sizes=_sizes(run, quality),
        latency=_latency(found, proven.bundle.manifest.quantization),
        recipes=tuple(_recipe(row, run.quantized.recipes) for row in run.quantized.measured),
        importance=importance(lambda some: score(run.student, some), slates, test.schema, rng),
        calibration=calibration(scores, slates, rng) if slates.labels.any() else None,
        verdicts=proven.verdicts,
        failures={trial.runtime: trial.failure for trial in found if trial.found is None},
        seconds=dict(run.seconds),
    )


def differences(
    student: Floats, base: Floats, baseline: str, teacher: Floats | None, shipped: Mapping[str, Floats]
) -> tuple[Difference, ...]:
    """Paired differences of nDCG@10 ``[s]``: student from baseline and teacher, what ships from the student."""
    found = [Difference(f"student − {baseline}", "student", _interval(student - base))]
    if teacher is not None:
        found.append(Difference("student − teacher", "student", _interval(student - teacher)))
    found += [Difference(f"{name} − float", "runtime", _interval(values - student)) for name, values in shipped.items()]
    return tuple(found)


def share_kept(student: Floats, base: Floats, teacher: Floats, rng: np.random.Generator) -> Interval | None:
    """The student's mean gain over the base as a share of the teacher's, of nDCG@10 ``[s]`` each.

    Returns:
        With its 95 % percentile bootstrap interval: slates are drawn anew for both gains together. None where the
        teacher's own interval reaches zero: the share of nothing is not a number.
    """
    gain, whole = student - base, teacher - base
    if _interval(whole).low <= 0:
        return None
    drawn = rng.multinomial(len(gain), np.full(len(gain), 1 / len(gain)), size=2000)
    totals = drawn @ whole
    # Its own interval is above zero, so that at most one draw in forty is not.
    low, high = np.quantile((drawn @ gain)[totals > 0] / totals[totals > 0], [0.025, 0.975])
    return Interval(float(gain.sum() / whole.sum()), float(low), float(high), len(gain))


def _interval(values: Floats) -> Interval:
    return bootstrap(values, np.random.default_rng(_SEED))


def _part(name: str, part: Dataset) -> Part:
    slates: Slates = part.slates
    return Part(name, len(slates), int(slates.has_relevant.sum()), int((slates.mask > 0).sum()))


def _model(run: Run) -> Model:
    student, entry = run.student, run.config.student
    count = {name: value.numel() for name, value in student.named_parameters()}
    trainable = sum(count[name] for name in student.trainable)
    return Model(entry.size, sum(count.values()), trainable, student.width, entry.normalization, entry.readable)


def _sizes(run: Run, quality: Sequence[Quality]) -> tuple[Size, ...]:
    """Files with the quality that they give; a shipped one with that of the first runtime that takes it."""
    ndcg = {each.label: each.ndcg for each in quality}
    found = [
        Size(each.teacher.name, "teacher", each.teacher.size_bytes, ndcg[each.teacher.name])
        for each in run.teachers
        if each.teacher.size_bytes is not None
    ]
    found.append(Size(STUDENT, "student", len(run.converted[0].rank), ndcg[STUDENT]))
    models, recipes = run.quantized.models, run.quantized.recipes
    for name, content in models.items():
        readers = [runtime for runtime in run.config.runtimes if _file(runtime, models) == name]
        values = [ndcg[f"on {runtime}"] for runtime in readers if f"on {runtime}" in ndcg]
        label = recipes[name] if len(models) == 1 else f"{recipes[name]}, {' and '.join(readers)}"
        found.append(Size(label, "runtime", len(content), values[0] if values else None))
    return tuple(found)


def _file(runtime: str, held: Mapping[str, object]) -> str:
    """The ranking model that ``runtime`` takes."""
    own = RANK_MODELS[runtime]
    return own if own in held else RANK_MODEL


def _latency(found: Sequence[Trial], recipes: Mapping[str, str]) -> tuple[Latency, ...]:
    return tuple(
        Latency(trial.runtime, trial.version, recipes[_file(trial.runtime, recipes)], trial.found.p50_us)
        for trial in found
        if trial.found is not None
    )


def _recipe(row: Measured, taken: Mapping[str, str]) -> Recipe:
    """A row of the search, with None for what was not measured."""
    return Recipe(
        row.recipe,
        row.runtime,
        taken[_file(row.runtime, taken)] == row.recipe,
        row.size_bytes,
        _finite(row.kendall_tau),
        _finite(row.ndcg),
        row.loss if row.loss.n else None,
        _finite(row.p50_us),
        row.error if row.error or row.finite else "its scores hold NaN or infinity",
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
