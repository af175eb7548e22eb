"""A build, stage by stage: teachers, student, conversion, quantization, gates, report.

Each stage asks for the one before it, and keeps what it made in the run's folder; it runs again where its settings or
its data have changed.

======================  =======================================================
``teacher-<i>.*``       each teacher that was fitted here
``teachers.npz``        every teacher's scores of each part of the data
``student.npz``         the student's weights
``rank.float32.tflite`` with ``train.tflite`` and ``model.onnx``: as converted
``rank*.tflite``        as quantized, and ``quantization.json`` beside them
``bundle``              the bundle, once no gate stops it
``report.html``         with ``report.json``: what was measured
======================  =======================================================
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from pocketrank import __version__
from pocketrank.bundle import (
    RANK_MODEL,
    RANK_MODELS,
    TRAIN_MODEL,
    Bundle,
    Lineage,
    Manifest,
    Parameter,
    load_arrays,
    save_arrays,
)
from pocketrank.commands.output import plain
from pocketrank.durable import write_atomically
from pocketrank.errors import GateError
from pocketrank.features.profile import Array
from pocketrank_export.builder import Converted, convert, pack, parity, quantized
from pocketrank_export.config import Config
from pocketrank_export.data.dataset import Split
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import given_order, ndcg_each, score
from pocketrank_export.gates import Standards, Verdict, certified, check, figures, judge, rank_bytes
from pocketrank_export.grid import on_int8_grid
from pocketrank_export.losses.mixture import LABEL_LOSSES, Term
from pocketrank_export.quantization.search import Measured, choose, measure, measure_all
from pocketrank_export.ranker import trainables
from pocketrank_export.runtimes import Trial, trials
from pocketrank_export.student import Student, normalise_backbone
from pocketrank_export.teachers.teacher import Ensemble, Teacher
from pocketrank_export.teaching import keep, restored, teach
from pocketrank_export.training.fit import fit
from pocketrank_export.training.logger import Logger
from pocketrank_export.training.synthesis import synthesise
from pocketrank_export.workspace import Tell, Workspace

MAX_SCORES_BYTES: Final = 1 << 30
PARTS: Final = ("train", "validation", "test")
Pythons = Mapping[str, Path]
"""Runtime to the interpreter of an environment that holds it."""


@dataclass(frozen=True)
class Quantized:
    """Ranking models and their recipes by file, and what was measured to choose these; nothing where one was given."""

    models: Mapping[str, bytes]
    recipes: Mapping[str, str]
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class Proven:
    """The bundle as it went to the gates, what they said, and what each runtime made of the validation part."""

    bundle: Bundle
    verdicts: tuple[Verdict, ...]
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Taught:
    """A teacher, and what it makes of each part of the data.

    Attributes:
        teacher: Scores further slates; None where only these scores are there.
        scores: float32 ``[s, n]`` by the part's name.
        ndcg: nDCG@10 on the validation part.
    """

    teacher: Teacher
    scores: Mapping[str, Array]
    ndcg: float


class Run:
    """One configuration on one split; every stage is a property, made or read when it is first asked for."""

    def __init__(
        self,
        config: Config,
        split: Split,
        data_digest: str,
        workspace: Workspace,
        *,
        pythons: Callable[[], Pythons],
        log: Callable[[str], Logger | None] = lambda _: None,
    ) -> None:
        """Prepare a run; nothing happens yet.

        Args:
            config: What to do.
            split: The data.
            data_digest: Of the data and how it was split: stages that were made of other data run again.
            workspace: Shows the stages, and has the folder.
            pythons: Environments of the configuration's runtimes; asked for when the first model is to run there.
            log: Gives the logger of a fit by the fit's name.
        """
        self.config = config
        self.split = split
        self._workspace = workspace
        self.folder = workspace.folder
        self.seconds = workspace.seconds
        self._find_pythons = pythons
        self._log = log
        self._data_key = f"{__version__}/{data_digest}/{config.seed}"

    @cached_property
    def pythons(self) -> Pythons:
        """Runtime to interpreter, of the configuration's runtimes."""
        return self._find_pythons()

    @cached_property
    def teachers(self) -> tuple[Taught, ...]:
        """Those of the configuration, and of several their ensemble, last."""
        found = [self._taught(number) for number in range(len(self.config.teacher))]
        if len(found) > 1:
            together = Ensemble("ensemble", [taught.teacher for taught in found])
            found.append(self._judged(together, {part: together.scores(self._slates(part)) for part in PARTS}))
        return tuple(found)

    @property
    def teacher(self) -> Taught:
        """The one that the student learns from: the best on the validation part."""
        return max(self.teachers, key=lambda taught: taught.ndcg)

    @cached_property
    def student(self) -> Student:
        """The student, distilled from the teacher."""
        return self.fitted("student", self.teacher if self.config.teacher else None)

    @property
    def student_ndcg(self) -> float:
        """nDCG@10 of the student on the validation part."""
        return float(ndcg_each(self.reference, self.judged).mean())

    def fitted(self, name: str, taught: Taught | None) -> Student:
        """A student as the configuration has it, learning from ``taught``, or from labels alone."""
        entry, student = self.config.student, self._untrained()
        scores = b"" if taught is None else save_arrays(taught.scores)
        key = self._key(name, entry.model_dump_json(), self.config.quantization.aware, _sha256(scores))
        file = self.folder / f"{name}.npz"
        if not self._workspace.done(name, key, file):
            count = sum(value.numel() for value in student.parameters())
            words = f"learns from {taught.teacher.name}" if taught else "learns from labels alone"
            with self._workspace.stage(name, f"{name}: {count:,} parameters, {words}", key, file) as tell:
                self._fit(student, taught, self.folder / f"{name}-{key[:12]}.checkpoint.npz", tell, self._log(name))
                keep(student, file)
        # Another one, for training leaves the parameters in another order, and the converter follows it.
        student = self._untrained()
        restored(student, file)
        return student

    @cached_property
    def converted(self) -> tuple[Converted, list[Verdict]]:
        """The student as float files, and how near they come to PyTorch's scores."""
        key = self._export_key
        rank, train, onnx = files = [self.folder / name for name in ("rank.float32.tflite", TRAIN_MODEL, "model.onnx")]
        if not self._workspace.done("export", key, *files):
            with self._workspace.stage("export", "student as TFLite and ONNX, float", key, *files):
                made = convert(self.student, self.split.train.schema, self.config.slate_sizes)
                train.unlink(missing_ok=True)
                for file, content in ((rank, made.rank), (train, made.train), (onnx, made.onnx)):
                    if content is not None:
                        write_atomically(file, content)
        kept = train.read_bytes() if train.is_file() else None
        made = Converted(rank.read_bytes(), kept, onnx.read_bytes(), self.config.slate_sizes)
        return made, parity(self.student, made, self.judged, self.config.gates.parity_error)

    @cached_property
    def quantized(self) -> Quantized:
        """The student's ranking models, by the recipe of the configuration or the best of several."""
        settings = self.config.quantization
        self.converted  # noqa: B018  (what is quantized)
        # What can be taken depends on the gates: it is the cheapest that they let through.
        limits = self.config.gates if len(settings.recipes) > 1 else None
        key = self._key("quantize", settings.model_dump_json(), self._export_key, self.config.runtimes, limits)
        table = self.folder / "quantization.json"
        ranks = [self.folder / name for name in (RANK_MODEL, *RANK_MODELS.values())]
        if not self._workspace.done("quantize", key, table, *ranks):
            title = "quantized: " + ", ".join(settings.recipes)
            with self._workspace.stage("quantize", title, key, table, *ranks) as tell:
                for old in ranks:
                    old.unlink(missing_ok=True)
                found = self._choose(tell)
                for name, content in found.models.items():
                    write_atomically(self.folder / name, content)
                body = {"recipes": found.recipes, "measured": found.measured}
                write_atomically(table, json.dumps(plain(body), indent=1).encode())
        kept = json.loads(table.read_text())
        models = {name: (self.folder / name).read_bytes() for name in kept["recipes"]}
        return Quantized(models, kept["recipes"], tuple(map(Measured.from_json, kept["measured"])))

    @cached_property
    def proven(self) -> Proven:
        """The bundle and what the gates say of it; it is not released by that."""
        bundle = self.packed(self.quantized)
        with self._workspace.stage("verify", "gates on " + ", ".join(self.config.runtimes)):
            found = trials(bundle, self.judged, [self.pythons[runtime] for runtime in self.config.runtimes])
        standards = Standards(
            teacher=self.teacher.scores["validation"][self.judged_rows] if self.config.teacher else None,
            first_stage=given_order(self.judged) if self.split.validation.ordered else None,
        )
        size, limits = rank_bytes(bundle), self.config.gates
        verdicts = judge(self.reference, self.judged, found, limits, size_bytes=size, standards=standards)
        report = figures(self.reference, self.judged, found)
        return Proven(certified(bundle, found, report), (*self.converted[1], *verdicts), tuple(found))

    def withdraw(self) -> None:
        """Remove the bundle of an earlier run, so that whatever stops this one leaves none that looks like its own."""
        shutil.rmtree(self.folder / "bundle", ignore_errors=True)

    def release(self) -> Path:
        """Write the bundle to the run's folder, if no gate stops it.

        Raises:
            GateError: Gates stopped it; all of them are named. An earlier bundle in the folder is gone then.
        """
        folder = self.folder / "bundle"
        self.withdraw()
        write_atomically(self.folder / "verdicts.json", json.dumps(plain(self.proven.verdicts), indent=1).encode())
        check(self.proven.verdicts)
        self.proven.bundle.save(folder)
        return folder

    @property
    def judged_rows(self) -> npt.NDArray[np.bool_]:
        """Bool ``[s]``: the validation slates in which there is something to find."""
        return self.split.validation.slates.has_relevant

    @cached_property
    def judged(self) -> Slates:
        """What the gates look at: slates of the validation part, so that the test has no say in what is released."""
        return self.split.validation.slates.where(self.judged_rows)

    @cached_property
    def reference(self) -> Array:
        """The float student's scores of ``judged``, which every quantized model is held against."""
        return score(self.student, self.judged)

    def _taught(self, number: int) -> Taught:
        entry = self.config.teacher[number]
        name, stage = f"{entry.kind}-{number}", f"teacher-{number}"
        given = [_sha256(path.read_bytes()) for _, path in entry if isinstance(path, Path) and path.is_file()]
        key = self._key("teacher", entry.model_dump_json(), given)
        file, scores = self.folder / f"teacher-{number}-{key[:12]}", self.folder / f"teacher-{number}.scores.npz"
        log = self._log(stage)
        if not self._workspace.done(stage, key, file, scores):
            with self._workspace.stage(stage, f"teacher {name}", key, file, scores) as tell:
                teacher = teach(name, entry, self.split, file, seed=self.config.seed, progress=tell, log=log)
                parts = {part: teacher.scores(self._slates(part)) for part in PARTS}
                write_atomically(scores, save_arrays(parts))
        else:
            teacher = teach(name, entry, self.split, file, seed=self.config.seed)
        return self._judged(teacher, load_arrays(scores.read_bytes(), MAX_SCORES_BYTES))

    def _judged(self, teacher: Teacher, scores: Mapping[str, Array]) -> Taught:
        slates = self.split.validation.slates
        return Taught(teacher, scores, float(ndcg_each(scores["validation"], slates)[slates.has_relevant].mean()))

    def _untrained(self) -> Student:
        """The student that the configuration asks for."""
        entry, schema = self.config.student, self.split.train.schema
        private = schema.private_columns & (entry.readable == "public")
        torch.manual_seed(self.config.seed)
        student = Student((~private).tolist(), entry.size, normalization=entry.normalization)
        student.choose_trainable(entry.trainable)
        return student

    def _fit(self, student: Student, taught: Taught | None, checkpoint: Path, tell: Tell, log: Logger | None) -> None:
        entry, train = self.config.student, self.split.train.slates
        recipe, scores = entry.recipe(self.config.seed), None
        features, mask = torch.from_numpy(train.features), torch.from_numpy(train.mask)
        student.fit_normalization(features, mask)
        if taught is None:
            terms = tuple(term for term in recipe.losses if term.name in LABEL_LOSSES) or (Term("softmax"),)
            recipe = dataclasses.replace(recipe, losses=terms)
        else:
            scores = taught.scores["train"]
            if entry.synthetic:
                more = synthesise(train, np.random.default_rng(self.config.seed), entry.synthetic)
                scores = np.concatenate([scores, taught.teacher.scores(more)])
                train = Slates.joined([train, more])
        validation = self.split.validation.slates
        with on_int8_grid(student) if self.config.quantization.aware else nullcontext():
            fit(student, train, validation, recipe, teacher=scores, progress=tell, checkpoint=checkpoint, log=log)
        normalise_backbone(student, features, mask)
        checkpoint.unlink(missing_ok=True)

    def quantized_by(self, recipe: str) -> Quantized:
        """The student's ranking model by ``recipe``, for all runtimes.

        Raises:
            InputError: The recipe can't be made of this student.
        """
        content = quantized(self.student, self.converted[0], self.split.train.slates, recipe)
        return Quantized({RANK_MODEL: content}, {RANK_MODEL: recipe})

    def packed(self, quantized: Quantized) -> Bundle:
        """A bundle of these ranking models, before any gate."""
        config, train = self.config, self.split.train
        manifest = Manifest(
            name=config.name,
            version=config.version,
            schema=train.schema,
            slate_sizes=config.slate_sizes,
            trainable=tuple(Parameter(name, shape) for name, shape in trainables(self.student)),
            policy=config.policy.policy,
            lineage=Lineage(data=train.about),
            ranking=config.ranking_policy,
            quantization=quantized.recipes,
        )
        made, models = self.converted[0], quantized.models
        return pack(self.student, made, models, manifest, train.slates, vectors=train.vectors, pythons=self.pythons)

    def _choose(self, tell: Tell) -> Quantized:
        """Of one recipe there is nothing to choose; several are measured on each runtime."""
        recipes, runtimes = self.config.quantization.recipes, self.config.runtimes
        if len(recipes) == 1:
            return self.quantized_by(recipes[0])
        made: dict[str, bytes] = {}

        def make(recipe: str) -> bytes:
            made[recipe] = self.quantized_by(recipe).models[RANK_MODEL]
            return made[recipe]

        measured = measure_all(recipes, runtimes, make, self._measured, tell)
        chosen = choose(measured, self.config.gates, runtimes).recipes
        files = {RANK_MODEL: chosen[runtimes[0]]}
        files |= {RANK_MODELS[runtime]: recipe for runtime, recipe in chosen.items() if recipe != files[RANK_MODEL]}
        return Quantized({file: made[recipe] for file, recipe in files.items()}, files, tuple(measured))

    def _measured(self, recipe: str, content: bytes, runtime: str) -> Measured:
        """Figures of a recipe's file on one runtime."""
        bundle = self.packed(Quantized({RANK_MODEL: content}, {RANK_MODEL: recipe}))
        (trial,) = trials(bundle, self.judged, [self.pythons[runtime]])
        if trial.found is None or trial.golden:
            raise GateError(trial.failure or trial.golden)
        return measure(
            recipe,
            runtime,
            trial.found.scores,
            p50_us=trial.found.p50_us,
            size_bytes=len(content),
            reference=self.reference,
            slates=self.judged,
            rng=np.random.default_rng(0),
        )

    @property
    def _export_key(self) -> str:
        """Of the files that are made of the student: its weights, and which of them are inputs."""
        weights = save_arrays({name: value.numpy() for name, value in self.student.state_dict().items()})
        return self._key("export", _sha256(weights), self.student.trainable, self.config.slate_sizes)

    def _slates(self, part: str) -> Slates:
        found: Slates = getattr(self.split, part).slates
        return found

    def _key(self, *settings: object) -> str:
        return _sha256("/".join(map(str, (self._data_key, *settings))).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
