"""What a device store keeps, and the bytes that it is kept as: one line of JSON, then plain arrays."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError, StoreError

Array = npt.NDArray[np.float32]
Action = Literal["engaged", "shown"]

MAX_VALUE: Final = 1e9
"""Largest value of an event either way; sums of such stay finite in float32."""
CLICK: Final = "click"
DWELL: Final = "dwell"
MIN_BYTES: Final = 1 << 20
"""Smallest ``Limits.max_bytes``: SQLite's own pages and its log fit in."""
KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""How outcomes may be called."""


class DamagedError(StoreError):
    """What the file holds is not what was written."""


@dataclass(frozen=True)
class Event:
    """An item that the person engaged with, or was shown.

    Attributes:
        item: Its id.
        at_s: Unix time.
        value: How much it was worth, in the app's own unit (a rating, a dwell time, 1 for a click).
        fields: The item's categories, by field.
        embeddings: The item's own vectors, by embedding feature.
        action: "shown" says that it was on the screen; an engagement is an event of its own.
    """

    item: str
    at_s: float
    value: float = 1.0
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    embeddings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    action: Action = "engaged"


@dataclass(frozen=True)
class Impression:
    """A slate that was shown, with what came of it; ``n`` items in the order shown, ``d`` features.

    Attributes:
        items: Ids; the first was at the top.
        features: float32 ``[n, d]``, as they were at that moment.
        labels: float32 ``[n]``, the "click" outcomes: 0 to 1, 0 where nothing came back.
        at_s: Unix time.
        bundle: Digest of the bundle that ranked.
        scores: float32 ``[n]``, NaN where the model gave none; None where none were kept.
        propensities: float32 ``[n]``, probability of each item to be where it was; None where none were kept.
        outcomes: Values by kind and item.
    """

    items: tuple[str, ...]
    features: Array
    labels: Array
    at_s: float
    bundle: str
    scores: Array | None = None
    propensities: Array | None = None
    outcomes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How much a store holds; the oldest go first.

    Attributes:
        max_events: Engagements.
        max_shown: Events of what was merely shown.
        max_impressions: Slates with their features.
        max_age_s: Counted in whole days, back from the newest row's day, or from today where that is earlier.
        max_bytes: Of the file with its log, while no other process reads; at least ``MIN_BYTES``.

    Raises:
        InputError: A limit is out of range.
    """

    max_events: int = 5_000
    max_shown: int = 5_000
    max_impressions: int = 100
    max_age_s: float = 180 * 86_400.0
    max_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if min(self.max_events, self.max_shown, self.max_impressions) < 0 or not self.max_age_s >= 0:
            raise InputError(f"limits: expected rows and max_age_s of 0 or more, got {self}")
        if self.max_bytes < MIN_BYTES:
            raise InputError(f"limits: expected max_bytes of at least {MIN_BYTES}, got {self.max_bytes}")


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True)
class StoreSize:
    """What a store holds: rows of each kind, and ``bytes`` of the file with its log."""

    events: int
    shown: int
    impressions: int
    outcomes: int
    bytes: int


@contextmanager
def decoding() -> Iterator[None]:
    """Rows are decoded inside: whatever fails there is damage of the file.

    Raises:
        DamagedError: Something was not as it is written.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, struct.error) as error:
        raise DamagedError(f"a row can't be read ({error})") from error


def encode_event(event: Event) -> bytes:
    """Bytes of an event, but for its action.

    Raises:
        InputError: It has no item, its time or a vector is not finite, its value not within ``MAX_VALUE`` of 0, its
            action unknown, or a field is not a sequence of strings.
    """
    _check(event)
    layout, vectors = {}, []
    for name, values in event.embeddings.items():
        form = _form(values)
        layout[name] = form
        vectors.append(struct.pack(form, *values))
    return _pack([event.item, float(event.at_s), float(event.value), dict(event.fields), layout], *vectors)


def decode_event(data: bytes, action: Action) -> Event:
    """The event that ``encode_event`` gave the bytes of."""
    (item, at_s, value, fields, layout), rest = _unpack(data)
    embeddings = {}
    for name, form in layout.items():
        size = struct.calcsize(form)
        embeddings[name] = struct.unpack(form, rest[:size])
        rest = rest[size:]
    return Event(item, at_s, value, {name: tuple(values) for name, values in fields.items()}, embeddings, action)


def encode_impression(
    items: Sequence[str],
    features: Array,
    *,
    at_s: float,
    bundle: str,
    scores: npt.ArrayLike | None = None,
    propensities: npt.ArrayLike | None = None,
) -> bytes:
    """Bytes of an impression without its outcomes.

    Raises:
        InputError: An array has another shape than ``items`` ask for, a propensity is not above 0 and at most 1, or
            the time is not finite.
    """
    n = len(items)
    if features.ndim != 2 or len(features) != n:
        raise InputError(f"features: expected [{n}, d], got {features.shape}")
    if not math.isfinite(at_s):
        raise InputError(f"at_s: expected a finite Unix time, got {at_s}")
    columns = {"scores": scores, "propensities": propensities}
    arrays = {name: np.asarray(column, "<f4") for name, column in columns.items() if column is not None}
    for name, array in arrays.items():
        if array.shape != (n,):
            raise InputError(f"{name}: expected [{n}], got {array.shape}")
    chance = arrays.get("propensities")
    if chance is not None and not ((chance > 0) & (chance <= 1)).all():
        raise InputError(f"propensities: expected above 0 and at most 1, got {chance.tolist()}")
    head = [list(items), float(at_s), bundle, features.shape[1], list(arrays)]
    return _pack(head, np.asarray(features, "<f4").tobytes(), *(array.tobytes() for array in arrays.values()))


def decode_impression(data: bytes, outcomes: Mapping[str, Mapping[str, float]]) -> Impression:
    """The impression that ``encode_impression`` gave the bytes of, with its outcomes by kind and item."""
    (names, at_s, bundle, width, columns), rest = _unpack(data)
    items = tuple(names)
    n = len(items)
    values = np.frombuffer(rest, "<f4")
    features, values = values[: n * width].reshape(n, width), values[n * width :]
    named = dict(zip(columns, values.reshape(len(columns), n), strict=True))
    clicks = outcomes.get(CLICK, {})
    labels = np.array([clicks.get(item, 0.0) for item in items], dtype=np.float32)
    return Impression(items, features, labels, at_s, bundle, named.get("scores"), named.get("propensities"), outcomes)


def encode_outcome(item: str, kind: str, value: float) -> bytes:
    """Bytes of an outcome.

    Raises:
        InputError: The kind is not a name, or the value out of range: seconds for "dwell", else 0 to 1.
    """
    if not KIND.fullmatch(kind):
        raise InputError(f"kind: expected {KIND.pattern}, got {kind!r}")
    most = MAX_VALUE if kind == DWELL else 1.0
    if not 0.0 <= value <= most:
        raise InputError(f"label: expected 0 to {most:g} for {kind!r}, got {value} for item {item!r}")
    return _pack([item, kind, float(value)])


def decode_outcome(data: bytes) -> tuple[str, str, float]:
    """Item, kind and value that ``encode_outcome`` gave the bytes of."""
    (item, kind, value), _ = _unpack(data)
    return item, kind, float(value)


def _pack(head: object, *parts: bytes) -> bytes:
    return b"".join((json.dumps(head, allow_nan=False).encode(), b"\n", *parts))


def _unpack(data: bytes) -> tuple[Any, bytes]:
    head, _, rest = data.partition(b"\n")
    return json.loads(head), rest


def _form(values: Sequence[float]) -> str:
    """The shortest of struct's formats that gives ``values`` back as they are."""
    single = f"<{len(values)}f"
    try:
        exact = struct.unpack(single, struct.pack(single, *values)) == tuple(values)
    except OverflowError:
        exact = False
    return single if exact else f"<{len(values)}d"


def _are_vectors(embeddings: Any) -> bool:
    return _are([*embeddings], str) and all(
        _are(vector, (int, float, np.floating)) and all(map(math.isfinite, vector)) for vector in embeddings.values()
    )


_WANTED: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "item": ("an item, a string that is not empty", lambda item: isinstance(item, str) and item != ""),
    "at_s": ("a finite at_s", math.isfinite),
    "value": (f"a value within ±{MAX_VALUE:.0e}", lambda value: abs(value) <= MAX_VALUE),
    "fields": (
        "fields that are lists of strings",
        lambda fields: _are([*fields], str) and all(_are(words, str) for words in fields.values()),
    ),
    "embeddings": ("embeddings that are lists of finite numbers", _are_vectors),
    "action": ("the action engaged or shown", {"engaged", "shown"}.__contains__),
}


def _check(event: Event) -> None:
    """Refuse what is no event; errors get into logs, so this one does not say what the person did."""
    for name, (wanted, fits) in _WANTED.items():
        try:
            ok = isinstance(event, Event) and fits(getattr(event, name))
        except (TypeError, AttributeError, OverflowError):
            ok = False
        if not ok:
            found = type(getattr(event, name, event)).__name__
            raise InputError(f"event: expected {wanted}, got a {found} that is none")


def _are(values: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, kind) for value in values)
