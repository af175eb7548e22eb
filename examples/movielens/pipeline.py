"""The loop, stage by stage: train, export, sign, install, live, improve in rounds, sign and install again."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch

from examples.movielens import models, world
from examples.movielens.rounds import Federated, federate
from examples.movielens.schema import SCHEMA
from examples.movielens.settings import Settings
from examples.movielens.world import World
from pocketrank.bundle import Bundle, PrivacyPolicy, build
from pocketrank.durable import write_atomically
from pocketrank.engine import Engine
from pocketrank.learner import Params
from pocketrank.updater import Updater
from pocketrank_export.builder import Built, build_bundle
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import score
from pocketrank_export.gates import cold_start, prove
from pocketrank_export.student import Student
from pocketrank_export.teachers.attention import AttentionRanker
from pocketrank_export.workspace import Workspace
from pocketrank_federated.accountant import noise_multiplier_for
from pocketrank_federated.candidate import successor
from pocketrank_federated.plan import RoundPlan
from pocketrank_federated.state import privacy_statement
from pocketrank_server.repository import Repository

NAME: Final = "movies"
INSTALLING: Final = 20
"""Devices that fetch and verify each bundle for themselves; the others here rank with what these installed."""
MIN_COHORT: Final = 100


@dataclass(frozen=True)
class Improved:
    """What rounds made of v1."""

    bundle: Bundle
    rounds: Federated


class Loop:
    """One run of the loop. Each step is shown, and what an earlier run of the same code finished is kept."""

    def __init__(self, settings: Settings, workspace: Workspace, device_python: Path) -> None:
        """Run in ``workspace``; every bundle is also proven on the runtime of ``device_python``."""
        self.settings = settings
        self.stage = workspace.stage
        self.seconds = workspace.seconds
        self.folder = workspace.folder
        self.pythons = (sys.executable, str(device_python))

    def world(self) -> World:
        """Split the users, and let the server make what it can of its own."""
        with self.stage("data", "MovieLens-100K: users, first stage, item vectors") as tell:
            (self.folder / "devices").mkdir(exist_ok=True)
            return world.make(self.folder, self.settings.seed, tell)

    def server_slates(self, parties: World, *, private: bool) -> tuple[Slates, Slates]:
        """Slates of the server users to train and to validate on."""
        kind = "private" if private else "public"
        with self.stage(f"replay-{kind}", f"server users' logs replayed, {kind} features") as tell:
            return world.server_slates(parties, tell, private=private)

    def distilled(
        self, name: str, readable: list[bool], slates: tuple[Slates, Slates], what: str
    ) -> tuple[AttentionRanker, Student]:
        """A teacher, and the student distilled from it."""
        with self.stage(f"{name}-teacher", f"{what}: listwise attention teacher") as tell:
            teacher = models.teacher(self.folder / f"{name}-teacher.npz", readable, slates, self.settings.teacher, tell)
        with self.stage(f"{name}-student", f"{what}: student distilled from it") as tell:
            file = self.folder / f"{name}-student.npz"
            return teacher, models.student(file, readable, slates, self.settings.student, tell, taught_by=teacher)

    def central(self, parties: World, server: tuple[Slates, Slates]) -> list[Student]:
        """The student that privacy forbids, from several seeds: all its weights trained on everybody's events."""
        with self.stage("central", "central: the student trained on everybody's data") as tell:
            devices = world.device_slates(parties, lambda share: tell(share / 2))
            train, validation = (Slates.joined(pair) for pair in zip(devices, server, strict=True))
            recipe, seeds = self.settings.central, self.settings.central_seeds
            students = []
            for seed in range(seeds):
                file = self.folder / f"central-student-{seed}.npz"
                seeded = dataclasses.replace(recipe, seed=recipe.seed + seed)
                students.append(models.student(file, models.ALL, (train, validation), seeded, lambda _: None))
                tell(0.5 + (seed + 1) / seeds / 2)
            return students

    def export(self, parties: World, student: Student, slates: Slates) -> tuple[Built, Bundle]:
        """Convert, quantize and gate v1; ``slates`` were not trained on."""
        with self.stage("export", "v1: TFLite, int8, ONNX, gates on both runtimes") as tell:
            built = build_bundle(
                student,
                SCHEMA,
                slates,
                name=NAME,
                version=1,
                policy=privacy_policy(self.settings),
                data=f"public features and outcomes of {len(parties.server)} MovieLens-100K users",
                vectors=parties.vectors,
            )
            tell(0.7)
            return built, prove(built.bundle, score(student, slates), slates, self.pythons)

    def publish(self, bundle: Bundle, stage: str) -> None:
        """Sign ``bundle`` and put it into the repository."""
        with self.stage(stage, f"v{bundle.manifest.version}: signed and published with TUF"):
            folder, keys, now = self.folder / "repository", self.folder / "keys", datetime.now(UTC)
            new = not (folder / "metadata").is_dir()
            repository = Repository.create(folder, keys, now) if new else Repository.open(folder, keys)
            if repository.versions().get(NAME, 0) < bundle.manifest.version:
                repository.publish(bundle, now)

    def install(self, stage: str) -> tuple[Path, int]:
        """Let devices fetch, verify, self-test and switch; what one of them holds then, and the bytes it downloaded."""
        record = self.folder / f"{stage}.json"
        with self.stage(stage, f"{INSTALLING} devices verify, self-test and install it") as tell:
            root = Repository.open(self.folder / "repository", self.folder / "keys").root
            # Once v2 is out, a run that goes on must not take it for v1.
            for device in range(INSTALLING if not record.is_file() else 0):
                home = self.folder / "installed" / f"device-{device}"
                update = Updater(home, self.folder / "repository", root).update(NAME)
                found = {"bundle": str(update.bundle_path), "bytes": update.bytes_downloaded}
                if device == 0:
                    write_atomically(record, json.dumps(found).encode())
                tell((device + 1) / INSTALLING)
            kept = json.loads(record.read_text())
            return Path(kept["bundle"]), kept["bytes"]

    def live(self, parties: World, engine: Engine) -> None:
        """Let everybody live through their history with v1 on their device."""
        with self.stage("live", f"{len(parties.fleet.users)} devices live with v1") as tell:
            parties.fleet.live(engine, tell)

    def improve(self, parties: World, parent: Bundle, plan: RoundPlan, stage: str, what: str) -> Improved:
        """Federated rounds on ``parent``, and the bundle that they make."""
        with self.stage(stage, f"{plan.rounds} federated rounds, {what}") as tell:
            devices = parties.fleet.examples(len(SCHEMA.columns))
            averaged = self.settings.rounds.averaged
            rounds = federate(self.folder / stage, parent, plan, devices, tell, averaged=averaged)
            data = f"rounds on the devices of {len(devices)} MovieLens-100K users"
            return Improved(
                successor(parent, rounds.by_round[-1], privacy_statement(plan, rounds.state), data=data), rounds
            )

    def gate(self, candidate: Bundle, student: Student, slates: Slates) -> Bundle:
        """Put the rounds' result through the gates.

        The server has nobody's private features: on real slates it sees how a new device is served, and whether the
        runtimes agree on slates whose private columns are drawn at random.
        """
        with self.stage("gate", f"v{candidate.manifest.version}: gates on both runtimes"):
            improved = with_head(student, candidate.params())
            without_history = cold_start(score(improved, slates), slates)
            drawn = with_private_drawn(slates, np.random.default_rng(self.settings.seed))
            proven = prove(candidate, score(improved, drawn), drawn, self.pythons, further=[without_history])
            assert without_history.value is not None
            report = {**proven.manifest.report, "ndcg_at_10.cold_start": without_history.value}
            return build(dataclasses.replace(proven.manifest, report=report), proven.files)


def privacy_policy(settings: Settings) -> PrivacyPolicy:
    """What devices demand of rounds: signed with the bundle, held by each device."""
    return PrivacyPolicy(
        min_cohort=MIN_COHORT,
        max_clipping_norm=settings.rounds.clipping_norm,
        min_noise_multiplier=round_plan(settings).noise_multiplier,
        max_rounds=settings.rounds.count,
        max_learning_rate=settings.rounds.learning_rate,
    )


def round_plan(settings: Settings) -> RoundPlan:
    """The private rounds: the least noise that keeps epsilon."""
    rounds = settings.rounds
    return RoundPlan(
        rounds=rounds.count,
        clipping_norm=rounds.clipping_norm,
        noise_multiplier=noise_multiplier_for(rounds.epsilon, rounds.delta, rounds.count),
        delta=rounds.delta,
        learning_rate=rounds.learning_rate,
        server_learning_rate=rounds.server_learning_rate,
        server_momentum=rounds.server_momentum,
    )


def without_noise(plan: RoundPlan) -> RoundPlan:
    """The same rounds, for comparison."""
    return dataclasses.replace(plan, noise_multiplier=0.0)


def laboratory(bundle: Bundle) -> Bundle:
    """``bundle`` under a policy that allows rounds without noise: devices refuse those on ``bundle`` itself."""
    policy = dataclasses.replace(bundle.manifest.policy, min_noise_multiplier=0.0)
    return build(dataclasses.replace(bundle.manifest, policy=policy), bundle.files)


def with_private_drawn(slates: Slates, rng: np.random.Generator) -> Slates:
    """``slates`` with standard normal numbers in the private columns."""
    private = SCHEMA.private_columns
    features = slates.features.copy()
    features[..., private] = rng.normal(size=(*slates.mask.shape, int(private.sum())))
    return dataclasses.replace(slates, features=features * slates.mask[..., None])


def with_head(student: Student, params: Params) -> Student:
    """``student`` with the head of ``params``."""
    state = student.state_dict() | {name: torch.from_numpy(value) for name, value in params.items()}
    changed = Student(student.public.bool().tolist())
    changed.load_state_dict(state)
    return changed
