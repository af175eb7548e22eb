"""The configuration of a build, as TOML: checked in full before anything runs. ``docs/export.md`` lists its keys."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pocketrank.bundle import PrivacyPolicy
from pocketrank.errors import BundleError, InputError
from pocketrank.policy import Policy
from pocketrank.schema import Schema
from pocketrank_export.conversion.ranking import SLATE_SIZES
from pocketrank_export.data.splits import SHARE
from pocketrank_export.gates import Limits
from pocketrank_export.losses.mixture import LABEL_LOSSES, TEACHER_LOSSES, Term
from pocketrank_export.quantization.recipes import RECIPES
from pocketrank_export.student import Normalization
from pocketrank_export.teachers.lambdamart import Trees
from pocketrank_export.training.recipe import Recipe

MAX_CONFIG_BYTES = 1 << 20
PARAMETERS = ("head.weight", "head.lift", *(f"layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")))
"""Of a student of a named size; without private columns it has no ``head.lift``."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Rate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


def _beside(path: Path, info: ValidationInfo) -> Path:
    """A path of the file, from the folder that the file lies in."""
    return Path(info.context) / path if info.context else path


File = Annotated[Path, AfterValidator(_beside)]


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names, none of them twice."""
    if len(set(names)) != len(names):
        raise ValueError(f"expected different names, got {', '.join(names)}")
    return names


def _only(kind: type[Any]) -> BeforeValidator:
    """Refuse keys that the dataclass ``kind`` lacks, which pydantic would pass over."""
    known = {field.name for field in dataclasses.fields(kind)}

    def check(value: Any) -> Any:
        if isinstance(value, dict) and (unknown := sorted(set(value) - known)):
            raise ValueError(f"no keys {unknown}; there are {', '.join(sorted(known))}")
        return value

    return BeforeValidator(check)


def _ascending(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Refuse sizes that no manifest takes."""
    if list(sizes) != sorted(set(sizes)):
        raise ValueError(f"expected sizes in rising order, each once, got {list(sizes)}")
    return sizes


def _finite(limits: Limits) -> Limits:
    """Refuse limits that nothing is above or below."""
    odd = {name: value for name, value in vars(limits).items() if value is not None and not math.isfinite(value)}
    if odd:
        raise ValueError(f"expected finite numbers, got {odd}; leave out what is to stay as it is")
    return limits


SlateSize = Annotated[int, Field(ge=1, le=4096)]
Runtime = Literal["ai-edge-litert", "tflite-runtime"]
Losses = Annotated[tuple[Annotated[Term, _only(Term)], ...], Field(min_length=1)]


class _Table(BaseModel):
    """A table of the file: no unknown keys, no values turned into other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Fitting(_Table):
    """How a torch model is fitted."""

    epochs: Count = 30
    learning_rate: Rate = 3e-3
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.05
    batch: Count = 32
    patience: Annotated[int, Field(ge=0)] = 5
    losses: Losses = (Term("softmax"),)

    def recipe(self, seed: int) -> Recipe:
        """As ``fit`` takes it."""
        return Recipe(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch=self.batch,
            patience=self.patience,
            losses=self.losses,
            seed=seed,
        )


class _TorchTeacher(_Fitting):
    normalization: Literal["slate", "constants", "both"] = "slate"
    dropout: Share = 0.1

    @model_validator(mode="after")
    def _labels_alone_teach(self) -> _TorchTeacher:
        if taught := [term.name for term in self.losses if term.name in TEACHER_LOSSES]:
            raise ValueError(f"losses: {taught} need a teacher's scores; a teacher learns by {', '.join(LABEL_LOSSES)}")
        return self


class AttentionTeacher(_TorchTeacher):
    """``kind = "attention"``: self-attention over the slate."""

    kind: Literal["attention"]
    width: Annotated[int, Field(ge=1, le=4096)] = 32
    layers: Annotated[int, Field(ge=1, le=64)] = 2
    heads: Count = 4

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> AttentionTeacher:
        if self.width % self.heads:
            raise ValueError(f"width: expected a multiple of heads, {self.heads}, got {self.width}")
        return self


class PointwiseTeacher(_TorchTeacher):
    """``kind = "mlp"`` or ``"dcn"``: one candidate at a time."""

    kind: Literal["mlp", "dcn"]


class TreesTeacher(_Table):
    """``kind = "lambdamart"``: LightGBM's gradient-boosted trees."""

    kind: Literal["lambdamart"]
    settings: Annotated[Trees, _only(Trees)] = Trees()


class BoosterTeacher(_Table):
    """``kind = "booster"``: a LightGBM model that is there already, in its text format."""

    kind: Literal["booster"]
    path: File


class OnnxTeacher(_Table):
    """``kind = "onnx"``: any model of candidates or of slates."""

    kind: Literal["onnx"]
    path: File


class StoredTeacher(_Table):
    """``kind = "scores"``: scores that were computed elsewhere, of each part of the data."""

    kind: Literal["scores"]
    train: File
    validation: File
    test: File


def _parameter(name: str) -> str:
    """Refuse what no student of a named size has."""
    if name not in PARAMETERS:
        raise ValueError(f"no parameter {name!r}; there are {', '.join(PARAMETERS)}")
    return name


AnyTeacher = Annotated[
    AttentionTeacher | PointwiseTeacher | TreesTeacher | BoosterTeacher | OnnxTeacher | StoredTeacher,
    Field(discriminator="kind"),
]


Parameter = Annotated[str, AfterValidator(_parameter)]


class Student(_Fitting):
    """``[student]``: the model that ships."""

    epochs: Count = 60
    patience: Annotated[int, Field(ge=0)] = 10
    losses: Losses = (Term("kl", 0.9), Term("softmax", 0.1))
    size: Literal["tiny", "small", "base"] = "small"
    normalization: Normalization = "slate"
    trainable: Literal["head", "all"] | tuple[Parameter, ...] = "head"
    readable: Literal["all", "public"] = "all"
    """What the constant part may read. ``public``: features of the device's own events are left to the head alone."""
    synthetic: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Slates that only the teacher labels, made between real candidates."""


class Letor(_Table):
    """``[data] kind = "letor"``: judged queries, in files of the LETOR or LightGBM form."""

    kind: Literal["letor"]
    train: File
    test: File | None = None
    """A test set that came with the data; else a part of ``train`` is held out."""
    gains: Literal["exponential", "linear"] = "exponential"


class Impressions(_Table):
    """``[data] kind = "impressions"``: what was shown, and what came of it."""

    kind: Literal["impressions"]
    path: File
    features: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    """The schema, as ``docs/bundle.md`` writes it."""
    vectors: File | None = None

    @property
    def schema_of_features(self) -> Schema:
        """The schema.

        Raises:
            InputError: A feature is none.
        """
        try:
            return Schema.from_json(self.features)
        except BundleError as error:
            raise InputError(f"data.features: {error}") from error


class Splitting(_Table):
    """``[split]``: what is held out."""

    by: Literal["group", "time"] = "group"
    validation: Annotated[float, Field(gt=0.0, lt=1.0)] = SHARE
    test: Annotated[float, Field(gt=0.0, lt=1.0)] = SHARE
    """Of the data; not used where ``data.test`` names a test set."""


class Quantizing(_Table):
    """``[quantization]``: the recipes to choose among; of one there is nothing to choose."""

    recipes: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_different)] = ("weight_int8",)
    aware: bool = True
    """Train with the weights on the int8 grid, so that rounding them later changes nothing."""

    @model_validator(mode="after")
    def _recipes_are_known(self) -> Quantizing:
        if unknown := sorted(set(self.recipes) - set(RECIPES)):
            raise ValueError(f"no recipes {unknown}; there are {', '.join(RECIPES)}")
        return self


class Rounds(_Table):
    """``[policy]``: what devices demand of federated rounds; by default they take part in none."""

    min_cohort: Count = 1000
    max_clipping_norm: Rate = 0.2
    min_noise_multiplier: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    max_rounds: Annotated[int, Field(ge=0)] = 0
    max_local_steps: Count = 1
    max_learning_rate: Rate = 1.0

    @property
    def policy(self) -> PrivacyPolicy:
        """As the manifest has it."""
        return PrivacyPolicy(**self.model_dump())


class Config(_Table):
    """All of it. Paths are relative to the file that names them."""

    name: Annotated[str, Field(pattern=r"\A[a-z0-9][a-z0-9_-]{0,63}\z")]
    version: Count = 1
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    slate_sizes: Annotated[tuple[SlateSize, ...], Field(min_length=1), AfterValidator(_ascending)] = SLATE_SIZES
    data: Annotated[Letor | Impressions, Field(discriminator="kind")] | None = None
    """None where a program hands over the data."""
    split: Splitting = Splitting()
    teacher: tuple[AnyTeacher, ...] = (AttentionTeacher(kind="attention"),)
    """Of several, the student learns from the best on the validation part, their ensemble included."""
    student: Student = Student()
    quantization: Quantizing = Quantizing()
    gates: Annotated[Limits, _only(Limits), AfterValidator(_finite)] = Limits()
    runtimes: Annotated[tuple[Runtime, ...], Field(min_length=1), AfterValidator(_different)] = (
        "ai-edge-litert",
        "tflite-runtime",
    )
    """Those of the fleet; the gates hold on each."""
    policy: Rounds = Rounds()
    ranking: dict[str, Any] | None = None
    """Rules for every slate, as ``docs/policy.md`` writes them."""

    @field_validator("ranking")
    @classmethod
    def _rules_are_known(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        # The bundle carries them: a fault would show after everything was trained.
        if value is not None:
            Policy.from_json(value)
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        if self.student.synthetic and not self.teacher:
            raise ValueError("student.synthetic: only a teacher labels such slates; name one, or leave it out")
        if self.student.synthetic and any(isinstance(teacher, StoredTeacher) for teacher in self.teacher):
            raise ValueError("student.synthetic: stored scores have none of such slates; leave one of them out")
        if self.student.trainable == "all" and "float32" not in self.quantization.recipes:
            raise ValueError(
                "quantization.recipes: what devices train stays float, and student.trainable is all of it; take float32"
            )
        return self

    @property
    def ranking_policy(self) -> Policy:
        """The rules that the bundle carries."""
        return Policy() if self.ranking is None else Policy.from_json(self.ranking)


def read(path: Path) -> Config:
    """Read and check the configuration at ``path``.

    Raises:
        InputError: It is no TOML, or something in it does not fit; every such key is named, with what was expected.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); name a configuration in TOML") from error
    if len(content) > MAX_CONFIG_BYTES:
        raise InputError(f"{path}: {len(content)} bytes; expected at most {MAX_CONFIG_BYTES}")
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from error
    return parse(table, path.parent, str(path))


def parse(table: dict[str, Any], folder: Path, name: str = "configuration") -> Config:
    """Check a table that was read already; its paths are relative to ``folder``.

    Raises:
        InputError: As ``read``.
    """
    try:
        return Config.model_validate_json(json.dumps(table, default=str), context=folder)
    except ValidationError as error:
        found = error.errors(include_url=False)
        lines = [": ".join(filter(None, (".".join(map(str, entry["loc"])), entry["msg"]))) for entry in found]
        raise InputError(f"{name}: " + "; ".join(lines)) from error
