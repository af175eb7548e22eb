"""The feature schema: what a model reads, declared in the manifest.

A candidate or context feature is read from what the app hands over. A device
feature is an aggregation over the device's own events, declared and not coded,
so that ranking and replayed training logs can't drift apart: both call
``pocketrank.features.encoding``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from pocketrank.errors import BundleError

if TYPE_CHECKING:
    from pocketrank.features.layout import Layout

MAX_FEATURES: Final = 512
MAX_COLUMNS: Final = 8192
MAX_VOCABULARY: Final = 4096
MAX_BUCKETS: Final = 1024
MAX_WIDTH: Final = 1024
"""Numbers of an embedding."""
MAX_TEXT: Final = 256
"""Characters of an id or of a category."""
LARGEST: Final = float(np.finfo(np.float32).max)
"""What a feature may reach either way."""
ID: Final = "id"
"""What a candidate is called by; no feature may take the name."""
AT: Final = "at_s"
"""Unix time of a candidate's values; ``<feature>_at_s`` is that of one feature alone. No feature may be called so."""

Source = Literal["candidate", "context"]


# The bases are never made, and the methods that a dataclass gets take time at the start.
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class _Feature:
    name: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Number(_Feature):
    """A number of the candidate or of the context."""

    kind: ClassVar[str] = "number"

    source: Source = "candidate"
    transform: Literal["identity", "log1p", "sqrt", "clip"] = "identity"
    low: float | None = None
    high: float | None = None
    """Bounds of ``clip``."""
    default: float = 0.0
    """Stands in where the value is missing or stale, before the transform."""
    max_age_s: float | None = None
    """A value that is older counts as missing."""


@dataclass(frozen=True, kw_only=True)
class Flag(_Feature):
    """Yes or no of the candidate or of the context: 1 or 0."""

    kind: ClassVar[str] = "flag"

    source: Source = "candidate"
    default: bool = False
    max_age_s: float | None = None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class _Field(_Feature):
    """Words: one column for each of the vocabulary, and for those outside it hash buckets, or one column, or none."""

    vocabulary: tuple[str, ...]
    source: Source = "candidate"
    hash_buckets: int = 0
    """Columns that share the words outside the vocabulary by a hash."""
    unknown_bucket: bool = False
    """Whether one column stands for every word outside the vocabulary."""
    model_input: bool = True
    """False where only device features look at the field."""
    max_age_s: float | None = None

    @property
    def width(self) -> int:
        """How many columns tell the words apart, for the model and for device features."""
        return len(self.vocabulary) + self.hash_buckets + self.unknown_bucket

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns."""
        if not self.model_input:
            return ()
        buckets = [*range(self.hash_buckets), *(["unknown"] if self.unknown_bucket else [])]
        return (*(f"{self.name}={word}" for word in self.vocabulary), *(f"{self.name}#{name}" for name in buckets))


@dataclass(frozen=True, kw_only=True)
class Category(_Field):
    """One word of the candidate or of the context."""

    kind: ClassVar[str] = "category"


@dataclass(frozen=True, kw_only=True)
class Categories(_Field):
    """Any number of words of the candidate or of the context."""

    kind: ClassVar[str] = "categories"


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class _Engagement(_Feature):
    """An aggregation over the events of engagement, newest first.

    Each event weighs ``0.5 ** (age / half_life_events)``, age counted in
    events; ``last`` keeps the newest only, ``min_value`` those valued so high.
    """

    half_life_events: float | None = None
    last: int | None = None
    min_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Embedding(_Engagement):
    """How much the candidate's own vector is like the context's of the same name, or like the device's.

    The device's is the weighted mean over its events. A vector that is zero or missing is like none: 0.
    """

    kind: ClassVar[str] = "embedding"

    width: int
    measure: Literal["cosine", "dot"] = "cosine"
    to: Literal["context", "device"] = "context"
    max_age_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Clock(_Feature):
    """The time of day or of the week on a circle: two columns, sine and cosine.

    Taken from the context's value of this name (an hour 0 to 24, or a weekday
    0 to 7 that begins with Monday), else from the device's clock.
    """

    kind: ClassVar[str] = "clock"

    part: Literal["hour", "weekday"]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns."""
        return (f"{self.name}.sin", f"{self.name}.cos")


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """Products of each column of one feature with each of another, both earlier in the schema and no interactions.

    It takes the context into the order: by itself, what is the same for all
    candidates of a slate changes nothing. Only the schema knows its columns
    and whether it is private.
    """

    kind: ClassVar[str] = "interaction"

    name: str
    of: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Affinity(_Engagement):
    """Share of the device's engagement that fell on the candidate's values of a field."""

    kind: ClassVar[str] = "affinity"

    field: str


@dataclass(frozen=True, kw_only=True)
class Similarity(_Engagement):
    """Cosine of the candidate's item vector to those of the device's events: weighted mean or maximum."""

    kind: ClassVar[str] = "similarity"

    reduce: Literal["mean", "max"] = "mean"


@dataclass(frozen=True, kw_only=True)
class Level(_Engagement):
    """How much above its own average the device values the candidate's values of a field.

    The mean difference is shrunk to zero by ``prior_events`` events.
    """

    kind: ClassVar[str] = "level"

    field: str
    prior_events: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Recency(_Engagement):
    """``1 / (1 + events since)`` the candidate's values of a field were last engaged with; 0 if never."""

    kind: ClassVar[str] = "recency"

    field: str


@dataclass(frozen=True, kw_only=True)
class Count(_Engagement):
    """Weight of the engagements with the candidate itself, or with its values of a field (their mean)."""

    kind: ClassVar[str] = "count"

    field: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rate(_Feature):
    """``(taken + prior_taken) / (shown + prior_shown)`` of the candidate, or of its values of a field (their mean).

    ``taken`` counts engagements valued ``min_value`` or more. A candidate
    without a value of the field has the rate of the prior.
    """

    kind: ClassVar[str] = "rate"

    field: str | None = None
    min_value: float | None = None
    prior_taken: float = 1.0
    prior_shown: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Fatigue(_Feature):
    """How often the candidate, or its values of a field (their mean), was shown since it was last engaged with.

    Each time weighs ``0.5 ** (age / half_life_events)``, age counted in shown events.
    """

    kind: ClassVar[str] = "fatigue"

    field: str | None = None
    half_life_events: float | None = None


DeviceFeature = Affinity | Similarity | Level | Recency | Count | Rate | Fatigue
Feature = Number | Flag | Category | Categories | Embedding | Clock | Interaction | DeviceFeature
_KINDS: Final[Mapping[str, type[Feature]]] = {cls.kind: cls for cls in get_args(Feature)}


@dataclass(frozen=True)
class Schema:
    """The features of a model, in the order of its columns."""

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        from pocketrank.schema_rules import check

        check(self)

    @cached_property
    def categories(self) -> dict[str, Category | Categories]:
        """The fields of candidates that device features may look at, by name."""
        fields = [feature for feature in self.features if isinstance(feature, Category | Categories)]
        return {field.name: field for field in fields if field.source == "candidate"}

    def columns_of(self, feature: Feature) -> tuple[str, ...]:
        """Names of the columns of ``feature``, which is of this schema."""
        if not isinstance(feature, Interaction):
            return feature.columns
        left, right = map(self.columns_of, self.parts(feature))
        return tuple(f"{one}*{other}" for one in left for other in right)

    def parts(self, interaction: Interaction) -> tuple[Feature, Feature]:
        """The two features that ``interaction`` multiplies."""
        named = {feature.name: feature for feature in self.features}
        left, right = interaction.of
        return named[left], named[right]

    def is_private(self, feature: Feature) -> bool:
        """Whether ``feature`` is computed from the device's own events; an interaction is where one of its parts is."""
        if isinstance(feature, Interaction):
            return any(self.is_private(part) for part in self.parts(feature))
        return isinstance(feature, DeviceFeature) or (isinstance(feature, Embedding) and feature.to == "device")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns, ``d`` of them."""
        return tuple(column for feature in self.features for column in self.columns_of(feature))

    @property
    def private_columns(self) -> npt.NDArray[np.bool_]:
        """Bool ``[d]``: which columns are computed from the device's own events."""
        private = [self.is_private(feature) for feature in self.features for _ in self.columns_of(feature)]
        return np.array(private, dtype=np.bool_)

    @property
    def uses_vectors(self) -> bool:
        """Whether the bundle must ship item vectors."""
        return any(isinstance(feature, Similarity) for feature in self.features)

    @cached_property
    def layout(self) -> Layout:
        """Where the features are computed, worked out once."""
        from pocketrank.features.layout import Layout

        return Layout(self)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values for the manifest."""
        return [{"kind": feature.kind, **vars(feature)} for feature in self.features]

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
                raise BundleError(f"schema: unknown kind in {dict(entry)!s:.300}; expected one of {sorted(_KINDS)}")
            try:
                features.append(kind(**values))
            except TypeError as error:
                raise BundleError(f"schema: {dict(entry)!s:.300} does not fit its kind ({error})") from error
        try:
            return cls(tuple(features))
        except TypeError as error:
            raise BundleError(f"schema: a value of the wrong type ({error}) in {list(body)!s:.300}") from error
