"""How much of a teacher a student keeps, how small it is and how fast: part of ``make bench``.

MovieLens-100K comes with the builder's environment. For the rows of judged queries, ``--letor`` names a folder with
``rank.train``, ``rank.test`` and their ``.query`` files: LightGBM's own example of lambdarank, in its repository.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console

from benchmarks.rows import Row, median
from examples.movielens import world
from examples.movielens.schema import SCHEMA
from pocketrank.commands.output import plain
from pocketrank.durable import write_atomically
from pocketrank.errors import PocketRankError
from pocketrank.metrics import bootstrap
from pocketrank_export.config import AttentionTeacher, Config, parse
from pocketrank_export.data import letor
from pocketrank_export.data.dataset import Dataset, Split
from pocketrank_export.data.slates import Slates
from pocketrank_export.data.splits import by_group
from pocketrank_export.evaluation import ndcg_each, score
from pocketrank_export.gates import rank_bytes
from pocketrank_export.pipeline import Run
from pocketrank_export.quantization.recipes import RECIPES
from pocketrank_export.report.figures import Figures
from pocketrank_export.report.measuring import measured
from pocketrank_export.report.page import write
from pocketrank_export.runtimes import trials
from pocketrank_export.teachers.lambdamart import Booster
from pocketrank_export.teaching import teach
from pocketrank_export.workspace import Workspace, key_of

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = [ROOT / "export", ROOT / "examples" / "movielens", ROOT / "sdk" / "pocketrank" / "features"]
CONFIGS: Final = Path(__file__).parent / "configs"
PYTHONS: Final = {
    "ai-edge-litert": Path(sys.executable),
    "tflite-runtime": ROOT / ".venv-device" / "bin" / "python",
}
CANDIDATES: Final = 100
ROUNDS: Final = 5


@dataclass(frozen=True)
class Found:
    """One data set: the report of its run, and what the report does not hold.

    Attributes:
        others: nDCG@10 ``[s]`` on the test part of what the report does not have: a student that learned from labels
            alone, and an attention teacher where the student's teachers are others.
        variants: nDCG@10 ``[s]`` on the test part by recipe and runtime; the error where it can't be made or run.
        student_us: Median time of ``CANDIDATES`` candidates, by runtime.
        trees_us: The same of the teacher of trees, bare.
    """

    figures: Figures
    others: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    student_us: Mapping[str, float]
    trees_us: float


def main() -> None:
    """Build the bundles, measure them, and write ``export.json`` with a report for each data set."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distillation", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="folder of the results")
    parser.add_argument("--letor", type=Path, help="folder with rank.train, rank.test and their .query files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    splits = {"movielens": movielens_split}
    if arguments.letor is not None:
        splits["lightgbm_data"] = lambda: letor_split(arguments.letor)
    pythons = {runtime: python for runtime, python in PYTHONS.items() if python.exists()}
    found = {}
    for name, load in splits.items():
        console.print(f"[bold]{name}[/]")
        config = config_of(name, tuple(pythons))
        workspace = Workspace(arguments.out / "export" / name, key_of(SOURCES, repr(config)), console)
        with workspace.stage("data", "data, read and split"):
            split = load()
        found[name] = measure(Run(config, split, name, workspace, pythons=lambda: pythons))
    rows = rows_of(found)
    body = {"rows": plain(rows), "detail": {name: detail(each) for name, each in found.items()}}
    write_atomically(arguments.out / "export.json", json.dumps(body, indent=1).encode() + b"\n")
    for row in rows:
        console.print(
            f"  {row.name:<45} {row.value:8.3f} {row.unit:<3} goal {row.goal}{'' if row.reached else '   MISSED'}"
        )


def config_of(name: str, runtimes: Sequence[str]) -> Config:
    """The configuration of a data set, ``configs/<name>.toml``; its data is read here."""
    import tomllib

    table = tomllib.loads((CONFIGS / f"{name}.toml").read_text())
    return parse({**table, "runtimes": list(runtimes)}, CONFIGS, name)


def movielens_split() -> Split:
    """People whose history a server may not see rank here all the same: what is compared is teachers and students.

    Catalogue, first stage and item vectors are made of the other people. Each person's last visit but one stops the
    training, and what they did after their history is the test.
    """
    with tempfile.TemporaryDirectory() as folder:
        parties = world.make(Path(folder), 0, lambda _: None)
    train, validation = world.device_slates(parties, lambda _: None)
    parts = (train, validation, world.test_slates(parties))
    return Split(*(people(slates, parties.vectors) for slates in parts))


def people(slates: Slates, vectors: bytes) -> Dataset:
    """A part of MovieLens-100K; who a slate belongs to is not looked at here."""
    groups = tuple(map(str, range(len(slates))))
    about = f"MovieLens-100K: {len(slates)} slates of {slates.mask.shape[1]} candidates"
    return Dataset(SCHEMA, slates, groups, ordered=True, vectors=vectors, about=about)


def letor_split(folder: Path) -> Split:
    """Its own test queries; 15 % of the training queries choose."""
    train, test = letor.read([folder / "rank.train", folder / "rank.test"])
    return by_group(train, test=test)


def measure(run: Run) -> Found:
    """Everything of one data set."""
    test = run.split.test.slates
    rows = test.has_relevant
    slates = test.where(rows)
    figures = measured(run)
    write(figures, run.folder)
    others = {"student, from labels alone": ndcg_each(score(run.fitted("student-alone", None), slates), slates)}
    if not any(isinstance(entry, AttentionTeacher) for entry in run.config.teacher):
        entry, file = AttentionTeacher(kind="attention"), run.folder / "attention.npz"
        attention = teach("attention", entry, run.split, file, seed=run.config.seed)
        others["attention"] = ndcg_each(attention.scores(slates), slates)
    variants: dict[str, dict[str, Any]] = {}
    for recipe in RECIPES:
        try:
            bundle = run.packed(run.quantized_by(recipe))
        except PocketRankError as error:
            variants[recipe] = {"error": str(error)}
            continue
        variants[recipe] = {"size_bytes": rank_bytes(bundle)}
        for trial in trials(bundle, slates, list(run.pythons.values())):
            ranked = trial.found and ndcg_each(trial.found.scores, slates)
            variants[recipe][trial.runtime] = trial.failure or trial.golden or ranked
    student_us, trees_us = timed(run, slates)
    return Found(figures, others, variants, student_us, trees_us)


def timed(run: Run, slates: Slates) -> tuple[dict[str, float], float]:
    """Median microseconds of the bundle on each runtime and of the trees, in turn, of the same candidates."""
    rng = np.random.default_rng(0)
    real = slates.features[slates.mask > 0]
    features = real[rng.integers(len(real), size=(20, CANDIDATES))]
    ones = np.ones((20, CANDIDATES), np.float32)
    drawn = Slates(features, ones, ones)
    booster = next(each.teacher for each in run.teachers if isinstance(each.teacher, Booster))
    students: dict[str, list[float]] = {}
    trees: list[float] = []
    for _ in range(ROUNDS):
        for trial in trials(run.proven.bundle, drawn, list(run.pythons.values())):
            if trial.found is not None:
                students.setdefault(trial.runtime, []).append(trial.found.p50_us)
        trees.append(median(booster_us(booster, features)))
    return {runtime: median(times) for runtime, times in students.items()}, median(trees)


def booster_us(booster: Booster, features: Any) -> list[float]:
    """Microseconds of each bare prediction of a slate's rows, after some to warm up."""
    import lightgbm

    model = lightgbm.Booster(model_str=booster.text)
    found = []
    for turn in range(-10, 100):
        rows = features[turn % len(features)]
        started = time.perf_counter()
        model.predict(rows, num_threads=1)
        if turn >= 0:
            found.append((time.perf_counter() - started) * 1e6)
    return found


def rows_of(found: Mapping[str, Found]) -> list[Row]:
    """The rows; of several data sets and runtimes the worst, but for the share that each student keeps."""
    rows = []
    for name, each in found.items():
        quality = {entry.label: entry.ndcg.mean for entry in each.figures.quality}
        base, teacher = quality[each.figures.baseline], quality[each.figures.taught_by or ""]
        ours, peer = quality["student, float"] - base, teacher - base
        title = f"student_keeps_of_teacher_gain_{name}"
        rows.append(
            Row.of(title, "x", ours, peer, f"{each.figures.taught_by} over {each.figures.baseline}", 0.98, least=True)
        )
    return [*rows, *worst_rows(found)]


def worst_rows(found: Mapping[str, Found]) -> list[Row]:
    """Loss by quantization, size and time, each where it is worst."""
    losses, sizes, times = [], [], []
    for name, each in found.items():
        ndcg = {entry.label: entry.ndcg.mean for entry in each.figures.quality}
        exact = ndcg["student, float"]
        losses += [
            Row.of(
                "quantized_ndcg_loss_percent",
                "%",
                100 * (exact - ndcg[f"on {runtime}"]) / exact,
                0.0,
                f"the float student, {name}, {runtime}",
                0.5,
            )
            for runtime in each.student_us
        ]
        shipped = sum(size.size_bytes for size in each.figures.sizes if size.kind == "runtime")
        teacher = next(size for size in each.figures.sizes if size.label == each.figures.taught_by)
        sizes.append(Row.of("size_vs_float_teacher", "x", shipped, teacher.size_bytes, f"{teacher.label}, {name}", 0.2))
        times += [
            Row.of(
                "student_time_vs_lambdamart",
                "x",
                took,
                each.trees_us,
                f"LightGBM's Booster.predict, {name}, {runtime}",
                0.25,
            )
            for runtime, took in each.student_us.items()
        ]
    return [max(rows, key=lambda row: row.value) for rows in (losses, sizes, times)]


def detail(found: Found) -> dict[str, Any]:
    """What lies behind the rows: nDCG@10 on the test part with 95 % intervals, sizes and times."""
    variants = {
        recipe: {name: value if isinstance(value, int | str) else interval(value) for name, value in row.items()}
        for recipe, row in found.variants.items()
    }
    return {
        "ndcg_at_10": {entry.label: plain(entry.ndcg) for entry in found.figures.quality}
        | {name: interval(values) for name, values in found.others.items()},
        "share": plain(found.figures.share),
        "variants": variants,
        "size_bytes": {size.label: size.size_bytes for size in found.figures.sizes},
        "student_us": dict(found.student_us),
        "trees_us": found.trees_us,
        "model": plain(found.figures.model),
        "seconds": dict(found.figures.seconds),
    }


def interval(values: Any) -> dict[str, float]:
    """Mean of nDCG@10 ``[s]`` with its 95 % interval."""
    found: dict[str, float] = plain(bootstrap(values, np.random.default_rng(0)))
    return found


if __name__ == "__main__":
    main()
