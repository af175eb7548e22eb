"""Every variant on the devices' tests, and all that the report says besides."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from examples.movielens.figures import (
    Example,
    Gains,
    HeadWeight,
    LatencyUs,
    NdcgByRound,
    Parameters,
    Quality,
    Quantization,
    Report,
    Shares,
    SizeBytes,
)
from examples.movielens.fleet import Measured
from examples.movielens.pipeline import Improved, Loop, round_plan, with_head
from examples.movielens.schema import SCHEMA
from examples.movielens.world import World, test_slates
from pocketrank.bundle import RANK_MODEL, TRAIN_MODEL, Bundle
from pocketrank.engine import Engine
from pocketrank.learner import Params
from pocketrank.metrics import Interval, bootstrap, mrr
from pocketrank.verification import score_slates
from pocketrank_export.builder import Built
from pocketrank_export.data.movielens import RELEVANT
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import kendall_tau, ndcg_each, ranking, same_order, score
from pocketrank_export.runtimes import score_on
from pocketrank_export.student import Student
from pocketrank_export.teachers.attention import AttentionRanker
from pocketrank_federated.state import RoundRecord

ROOT: Final = Path(__file__).parents[2]
FLOAT_BYTES: Final = 4
VERSIONS: Final = (
    "torch",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "flwr",
    "tuf",
    "dp-accounting",
    "numpy",
)


@dataclass(frozen=True)
class Trained:
    """The models of the run."""

    teacher: AttentionRanker
    student: Student
    consented: Student
    central: list[Student]


@dataclass(frozen=True)
class Shipped:
    """The bundles of the run; ``v2`` exists for comparison only and is never published."""

    built: Built
    v1: Bundle
    v2: Improved
    v2_private: Improved
    installed: Bundle
    installed_path: Path
    update_bytes: int


def evaluate(model: nn.Module, slates: Slates) -> Measured:
    """A model in PyTorch on the devices' tests."""
    scores = score(model, slates)
    labels = np.take_along_axis(slates.labels, ranking(scores, slates.mask), axis=1)
    return Measured(ndcg_each(scores, slates), np.array([mrr(row) for row in labels]))


def variants(loop: Loop, parties: World, trained: Trained, shipped: Shipped, slates: Slates) -> dict[str, Measured]:
    """Each variant's quality; all that ship are ranked by the SDK on the devices, from their own stores."""
    fleet = parties.fleet
    private = Engine(shipped.installed)
    with loop.stage("measure", "devices' tests ranked by every variant") as tell:
        found = {"first_stage": fleet.first_stage_alone(), "v1": fleet.measure(Engine(shipped.v1))}
        tell(0.3)
        found["v2"] = fleet.measure(Engine(shipped.v2.bundle))
        tell(0.6)
        fleet.personalise(private, None, lambda _: None)
        found["v2_private"] = fleet.measure(private)
    with loop.stage("personal", "every device learns for itself") as tell:
        fleet.personalise(private, loop.settings.learning, tell)
    with loop.stage("measure-personal", "devices' tests ranked with what each learned"):
        found["v2_local"] = fleet.measure(private)
    found["consented"] = evaluate(trained.consented, slates)
    central = [evaluate(student, slates) for student in trained.central]
    found["central"] = Measured(
        np.mean([each.ndcg for each in central], axis=0), np.mean([each.mrr for each in central], axis=0)
    )
    return found


def report(loop: Loop, parties: World, trained: Trained, shipped: Shipped) -> Report:
    """Measure everything."""
    slates = test_slates(parties)
    found = variants(loop, parties, trained, shipped, slates)
    rng = np.random.default_rng(loop.settings.seed)
    with loop.stage("figures", "intervals, parity of the runtimes, latency"):
        mean = {name: float(measured.ndcg.mean()) for name, measured in found.items()}
        plan, private = round_plan(loop.settings), shipped.v2_private
        records = private.rounds.state.records
        privacy = shipped.installed.manifest.privacy
        return Report(
            ndcg_at_10=Quality(**{name: bootstrap(measured.ndcg, rng) for name, measured in found.items()}),
            mrr_at_10=Quality(**{name: bootstrap(measured.mrr, rng) for name, measured in found.items()}),
            gains=Gains(
                federated=_gain(found, "v2", "v1", rng),
                federated_private=_gain(found, "v2_private", "v1", rng),
                local=_gain(found, "v2_local", "v2_private", rng),
                to_central=_gain(found, "central", "v2", rng),
            ),
            shares=Shares(_share(mean, "v2"), _share(mean, "v2_private")),
            epsilon=privacy.epsilon or 0.0,
            delta=privacy.delta,
            sampling="none: every device in every round, no amplification",
            noise_multiplier=plan.noise_multiplier,
            clipping_norm=plan.clipping_norm,
            rounds=len(records),
            devices=len(parties.fleet.users),
            server_users=len(parties.server),
            epsilon_by_round=tuple(record.epsilon or 0.0 for record in records),
            ndcg_by_round=NdcgByRound(
                v2=_by_round(shipped.v1, shipped.v2.rounds.by_round, slates),
                v2_private=_by_round(shipped.v1, private.rounds.by_round, slates),
            ),
            bytes_up_per_round=_bytes_up(records),
            bytes_down_per_round=private.rounds.bytes_down,
            size_bytes=_sizes(trained, shipped),
            quantization=_quantization(loop, trained.student, shipped.installed_path, slates),
            latency_us=_latency(loop, shipped.installed_path),
            parameters=Parameters(
                _parameters(trained.teacher),
                _parameters(trained.student),
                sum(map(np.size, shipped.v1.params().values())),
            ),
            central_seeds=len(trained.central),
            head=_head(shipped.v1.params(), shipped.installed.params()),
            timing_s=dict(loop.seconds),
            versions={name: version(name) for name in VERSIONS},
            seed=loop.settings.seed,
            machine=f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
            example=_example(parties, shipped),
        )


def _gain(found: Mapping[str, Measured], better: str, worse: str, rng: np.random.Generator) -> Interval:
    return bootstrap(found[better].ndcg - found[worse].ndcg, rng)


def _bytes_up(records: Sequence[RoundRecord]) -> int:
    """One device's reply in a round that was not lost."""
    counted = [(record.bytes_up, record.answered) for record in records if record.bytes_up and record.answered]
    return round(counted[-1][0] / counted[-1][1])


def _share(mean: Mapping[str, float], name: str) -> float | None:
    whole = mean["central"] - mean["v1"]
    return (mean[name] - mean["v1"]) / whole if whole > 0 else None


def _by_round(v1: Bundle, by_round: tuple[Params, ...], slates: Slates) -> tuple[float, ...]:
    scorer = Engine(v1).scorer
    return tuple(
        float(ndcg_each(score_slates(scorer, slates.features, slates.mask, params), slates).mean())
        for params in by_round
    )


def _sizes(trained: Trained, shipped: Shipped) -> SizeBytes:
    files = shipped.installed.files
    return SizeBytes(
        teacher=FLOAT_BYTES * _parameters(trained.teacher),
        float=len(shipped.built.float_model),
        quantized=len(files[RANK_MODEL]),
        train=len(files[TRAIN_MODEL]),
        onnx=len(shipped.built.onnx),
        bundle=sum(map(len, files.values())) + len(shipped.installed.manifest.to_json()),
        update=shipped.update_bytes,
    )


def _quantization(loop: Loop, student: Student, saved: Path, slates: Slates) -> Quantization:
    """The installed bundle beside the float student, on the devices' tests, on both runtimes."""
    reference = score(with_head(student, Bundle.open(saved).params()), slates)
    runs = [score_on(python, saved, slates) for python in loop.pythons]
    exact = ndcg_each(reference, slates).mean()
    losses = [(exact - ndcg_each(run.scores, slates).mean()) / exact for run in runs]
    return Quantization(
        ndcg_loss_percent=100 * float(max(losses)),
        same_order_percent=100 * same_order(runs[0].scores, runs[-1].scores, slates.mask),
        kendall_tau=min(kendall_tau(run.scores, reference, slates.mask) for run in runs),
        finite={run.runtime: bool(np.isfinite(run.scores).all()) for run in runs},
    )


def _latency(loop: Loop, bundle: Path) -> LatencyUs:
    """Measured in the device's environment, in a process of its own."""
    out = loop.folder / "latency.json"
    command = [loop.pythons[-1], "-m", "benchmarks.rank", str(bundle), str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    return LatencyUs(**json.loads(out.read_text())["latency_us"])


def _head(v1: Params, v2: Params) -> tuple[HeadWeight, ...]:
    columns = (*SCHEMA.columns, "backbone")
    private = (*SCHEMA.private_columns.tolist(), False)
    before, after = v1["head.weight"], v2["head.weight"]
    return tuple(HeadWeight(*row) for row in zip(columns, private, before.tolist(), after.tolist(), strict=True))


def _example(parties: World, shipped: Shipped) -> Example:
    """The device whose test gained the median amount from the private rounds, of those that it helped."""
    fleet, movies = parties.fleet, parties.data.movies
    before = {user.id: slate.ids for user, slate in fleet.slates(Engine(shipped.v1))}
    after = {user.id: slate.ids for user, slate in fleet.slates(Engine(shipped.installed))}
    liked = {user.id: {e.item for e in user.test if e.value >= RELEVANT} for user in fleet.users}
    gains = sorted(
        (len(liked[user.id] & set(after[user.id][:5])) - len(liked[user.id] & set(before[user.id][:5])), user.id)
        for user in fleet.users
    )
    helped = [name for gain, name in gains if gain > 0]
    chosen = next(user for user in fleet.users if user.id == (helped or [gains[-1][1]])[len(helped) // 2])
    first = parties.first_stage.retrieve(event.item for event in chosen.history)["id"]
    tops = [tuple(ids[:5]) for ids in (first, before[chosen.id], after[chosen.id])]
    best = sorted(chosen.history, key=lambda event: (-event.value, -event.at_s))[:5]

    def titles(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(movies[item].title for item in ids)

    return Example(
        user=chosen.id,
        liked=titles(tuple(event.item for event in best)),
        first_stage=titles(tops[0]),
        v1=titles(tops[1]),
        v2_private=titles(tops[2]),
        relevant=titles(tuple(sorted(liked[chosen.id].intersection(*[{i for top in tops for i in top}])))),
    )


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
