"""The feature schema: what a model reads, declared in the manifest.

A candidate or context feature is read from what the app hands over. A device
feature is an aggregation over the device's own events, declared and not coded,
so that ranking and replayed training logs can't drift apart: both call
``pocketrank.features``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from pocketrank.errors import BundleError

MAX_FEATURES: Final = 512
MAX_VOCABULARY: Final = 4096
ID: Final = "id"
"""What a candidate is called by; no feature may take the name."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number of the candidate or of the context."""

    kind: ClassVar[str] = "number"
    private: ClassVar[bool] = False

    name: str
    source: Literal["candidate", "context"] = "candidate"
    transform: Literal["identity", "log1p", "sqrt"] = "identity"
    default: float = 0.0
    """Stands in where the value is missing, before the transform."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Categories:
    """Values of a candidate's field, one column each; a value outside the vocabulary sets none."""

    kind: ClassVar[str] = "categories"
    private: ClassVar[bool] = False

    name: str
    vocabulary: tuple[str, ...]
    model_input: bool = True
    """False where only device features look at the field."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns."""
        return tuple(f"{self.name}={value}" for value in self.vocabulary) if self.model_input else ()


@dataclass(frozen=True, kw_only=True)
class _DeviceFeature:
    """An aggregation over the device's own events, newest first.

    Each event weighs ``0.5 ** (age / half_life_events)``, age counted in
    events; ``last`` keeps the newest only, ``min_value`` those valued so high.
    """

    private: ClassVar[bool] = True

    name: str
    half_life_events: float | None = None
    last: int | None = None
    min_value: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Affinity(_DeviceFeature):
    """Share of the device's engagement that fell on the candidate's values of a field."""

    kind: ClassVar[str] = "affinity"

    field: str


@dataclass(frozen=True, kw_only=True)
class Similarity(_DeviceFeature):
    """Cosine of the candidate's item vector to those of the device's events: weighted mean or maximum."""

    kind: ClassVar[str] = "similarity"

    reduce: Literal["mean", "max"] = "mean"


@dataclass(frozen=True, kw_only=True)
class Level(_DeviceFeature):
    """How much above its own average the device values the candidate's values of a field.

    The mean difference is shrunk to zero by ``prior_events`` events.
    """

    kind: ClassVar[str] = "level"

    field: str
    prior_events: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Recency(_DeviceFeature):
    """``1 / (1 + events since)`` the candidate's values of a field were last engaged with; 0 if never."""

    kind: ClassVar[str] = "recency"

    field: str


Feature = Number | Categories | Affinity | Similarity | Level | Recency
DeviceFeature = Affinity | Similarity | Level | Recency
_KINDS: Final[Mapping[str, type[Feature]]] = {
    cls.kind: cls for cls in (Number, Categories, Affinity, Similarity, Level, Recency)
}


@dataclass(frozen=True)
class Schema:
    """The features of a model, in the order of its columns."""

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        """Refuse a schema that could not be computed."""
        names = [feature.name for feature in self.features]
        if len(names) > MAX_FEATURES or len(set(names)) != len(names):
            raise BundleError(f"schema: expected at most {MAX_FEATURES} features of different names, got {names}")
        for feature in self.features:
            _check(feature, self.categories)

    @property
    def categories(self) -> dict[str, Categories]:
        """The fields with a vocabulary, by name."""
        return {feature.name: feature for feature in self.features if isinstance(feature, Categories)}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns, ``d`` of them."""
        return tuple(column for feature in self.features for column in feature.columns)

    @property
    def private_columns(self) -> npt.NDArray[np.bool_]:
        """Bool ``[d]``: which columns are computed from the device's own events."""
        return np.array([feature.private for feature in self.features for _ in feature.columns], dtype=np.bool_)

    @property
    def uses_vectors(self) -> bool:
        """Whether the bundle must ship item vectors."""
        return any(isinstance(feature, Similarity) for feature in self.features)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values for the manifest."""
        return [{"kind": feature.kind, **dataclasses.asdict(feature)} for feature in self.features]

    @classmethod
    def from_json(cls, body: Sequence[Mapping[str, Any]]) -> Schema:
        """Read what ``to_json`` wrote, or JSON's rendering of it.

        Raises:
            BundleError: A kind, key or value that this version does not know.
        """
        features = []
        for entry in body:
            if not isinstance(entry, Mapping):
                raise BundleError(f"schema: expected an object for each feature, got {entry!r:.80}")
            values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
            kind: Callable[..., Feature] | None = _KINDS.get(str(values.pop("kind", None)))
            if kind is None:
                raise BundleError(f"schema: unknown kind in {dict(entry)}; expected one of {sorted(_KINDS)}")
            try:
                features.append(kind(**values))
            except TypeError as error:
                raise BundleError(f"schema: {dict(entry)} does not fit its kind ({error})") from error
        try:
            return cls(tuple(features))
        except TypeError as error:
            raise BundleError(f"schema: a value of the wrong type ({error}) in {list(body)}") from error


def _check(feature: Feature, fields: Mapping[str, Categories]) -> None:
    def require(ok: bool, expected: str) -> None:  # noqa: FBT001
        if not ok:
            raise BundleError(f"schema: {feature}: expected {expected}")

    def number(value: float, *, above: float = -math.inf) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and above < value < math.inf

    named = isinstance(feature.name, str) and bool(_NAME.fullmatch(feature.name)) and feature.name != ID
    require(named, f"a name of a-z 0-9 _ that begins with a letter and is not {ID!r}")
    match feature:
        case Number():
            require(feature.source in {"candidate", "context"}, "source candidate or context")
            require(feature.transform in {"identity", "log1p", "sqrt"}, "transform identity, log1p or sqrt")
            require(number(feature.default), "a finite default")
        case Categories():
            words = feature.vocabulary
            require(isinstance(words, tuple) and all(isinstance(word, str) for word in words), "a list of strings")
            require(1 <= len(set(words)) == len(words) <= MAX_VOCABULARY, f"1 to {MAX_VOCABULARY} different values")
            require(isinstance(feature.model_input, bool), "model_input true or false")
        case Affinity() | Level() | Recency():
            require(feature.field in fields, f"field to name a categories feature, one of {sorted(fields)}")
        case Similarity():
            require(feature.reduce in {"mean", "max"}, "reduce mean or max")
    if isinstance(feature, Level):
        require(number(feature.prior_events, above=0), "prior_events above 0")
    if isinstance(feature, _DeviceFeature):
        half_life, last, least = feature.half_life_events, feature.last, feature.min_value
        require(half_life is None or number(half_life, above=0), "half_life_events above 0")
        require(last is None or (isinstance(last, int) and number(last, above=0)), "last, a whole number above 0")
        require(least is None or number(least), "a finite min_value")
