"""The figures of a build's report: the content of ``report.json``, one dataclass an object and one field a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from pocketrank.commands.output import plain
from pocketrank.errors import InputError
from pocketrank.metrics import Interval
from pocketrank_export.gates import Verdict
from pocketrank_export.report.calibration import Calibration
from pocketrank_export.report.importance import Importance

T = TypeVar("T")
Kind = Literal["baseline", "teacher", "student", "runtime"]
"""What ranks without a model; what was learned from; the float student; what ships, on a runtime."""


@dataclass(frozen=True)
class Part:
    """A part of the data; ``judged`` of its slates hold anything relevant, and the others say nothing of an order."""

    name: str
    slates: int
    judged: int
    candidates: int


@dataclass(frozen=True)
class Model:
    """The student; ``readable``: what its constant part may read."""

    size: str
    parameters: int
    trainable: int
    columns: int
    normalization: str
    readable: str


@dataclass(frozen=True)
class Quality:
    """nDCG@10 of one way to rank, over the judged slates of the test part."""

    label: str
    kind: Kind
    ndcg: Interval


@dataclass(frozen=True)
class Difference:
    """Paired difference in nDCG@10, slate by slate: ``label`` says of what and from what."""

    label: str
    kind: Kind
    ndcg: Interval


@dataclass(frozen=True)
class Size:
    """Bytes of a model's file; ``ndcg``: of the way to rank that it belongs to, on the test part."""

    label: str
    kind: Kind
    size_bytes: int
    ndcg: Interval | None = None


@dataclass(frozen=True)
class Latency:
    """Median time of one call of what ships, microseconds, over slates of the test part."""

    runtime: str
    version: str
    recipe: str
    p50_us: float


@dataclass(frozen=True)
class Recipe:
    """A recipe on a runtime as the search found it on the validation part; ``shipped`` where it was taken.

    Attributes:
        loss: Of nDCG@10, paired, as a share of the float model's.
        error: Why it could not be made or run.
    """

    recipe: str
    runtime: str
    shipped: bool
    size_bytes: int
    kendall_tau: float | None
    ndcg: float | None
    loss: Interval | None
    p50_us: float | None
    error: str | None


@dataclass(frozen=True)
class Figures:
    """All of them.

    Attributes:
        name: Of the bundle.
        version: Of the bundle.
        digest: Of the bundle; None where a gate stops it.
        about: What the data is, in words for a person.
        baseline: What the gains are over: ``first stage`` or ``random order``.
        taught_by: The teacher that the student learned from; None where there was none.
        parts: Of the data.
        model: The student.
        quality: Of each way to rank, on the test part.
        differences: Between them.
        share: Of the teacher's gain over the baseline, what the float student keeps, with its bootstrap interval over
            slates; None where the teacher's gain is not clear of zero.
        sizes: Of files.
        latency: Of what ships.
        recipes: Those that the search measured, on the validation part; none where there was one to begin with.
        importance: Of features to the float student, largest first.
        calibration: Of the float student's scores; None where the slates can't say.
        verdicts: What the gates said, on the validation part.
        failures: Runtimes that made no scores of the test part, and why.
        seconds: Wall time of each stage.
    """

    name: str
    version: int
    digest: str | None
    about: str
    baseline: str
    taught_by: str | None
    parts: tuple[Part, ...]
    model: Model
    quality: tuple[Quality, ...]
    differences: tuple[Difference, ...]
    share: Interval | None
    sizes: tuple[Size, ...]
    latency: tuple[Latency, ...]
    recipes: tuple[Recipe, ...]
    importance: tuple[Importance, ...]
    calibration: Calibration | None
    verdicts: tuple[Verdict, ...]
    failures: Mapping[str, str]
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The mapping that ``json.dumps`` writes as ``report.json``; null stands for what is not a finite number."""
        written: dict[str, Any] = plain(self)
        return written

    @classmethod
    def from_json(cls, content: object) -> Figures:
        """Read what ``to_json`` gave, or what ``json.loads`` read of it.

        Raises:
            InputError: A key is missing, or its value is of another type or not finite; each such key is named.
        """
        return validated(cls, content)


def validated(kind: type[T], content: object) -> T:
    """A dataclass of figures from the JSON of a report; keys that it does not have are left out.

    Raises:
        InputError: A key is missing, or its value is of another type or not finite; each such key is named.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content, allow_nan=False), strict=True)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)]
        raise InputError(f"report: {'; '.join(lines)}; write the report again") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"report: expected JSON without NaN ({error}); write the report again") from error
