"""Policies: declarative rules over one slate, as data.

A policy comes from the bundle, the app, or both (``followed_by``), and is the
same in JSON. ``pocketrank.policy.filters`` applies what may never be shown,
``pocketrank.policy.arrangement`` everything else. Rules hold JSON values only and
are checked when they are made, so whoever has a policy has a valid one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, NoReturn, get_args

from pocketrank.checks import is_finite, is_whole
from pocketrank.errors import InputError

MAX_RULES: Final = 256
"""Rules of one policy, all kinds together."""
MAX_VALUES: Final = 1_000
"""Values that ``in`` and ``not_in`` list."""
MAX_TEXT: Final = 256
"""Characters of a string."""
MAX_HELD: Final = 16
"""Quotas and shares of one policy, together: each must be squared with all others."""
MAX_PLACES: Final = 200
"""Places that rules can speak of; what stands behind them is not shown at once, and only follows by preference."""
MAX_BOOST: Final = 100.0
"""Standard deviations that one boost may move a score by."""
VECTORS: Final = "vectors"
"""What ``Diversity.by`` says for the item vectors; no field of that name can be used there."""

Scalar = str | int | float | bool
Op = Literal["eq", "ne", "in", "not_in", "lt", "le", "gt", "ge", "contains", "exists"]
MEMBERSHIP: Final = frozenset({"in", "not_in"})
ORDER: Final = frozenset({"lt", "le", "gt", "ge"})
EXISTS: Final = "exists"
_OPS: Final = frozenset(get_args(Op))

Key = str | int | float | tuple[bool]
"""A scalar as it is compared: a boolean is no number, so it is wrapped."""


def key(value: Scalar) -> Key:
    """What ``value`` is compared by: ``True`` and 1 differ, 1 and 1.0 do not."""
    return (value,) if isinstance(value, bool) else value


@dataclass(frozen=True)
class Condition:
    """A test of one field of a candidate.

    Attributes:
        field: Name of the field; the schema needs not know it.
        op: ``eq``, ``ne``, ``contains`` take a string, number or boolean; ``in``, ``not_in`` a tuple of them;
            ``lt``, ``le``, ``gt``, ``ge`` a number; ``exists`` a boolean.
        value: What the field is compared with.
    """

    field: str
    op: Op
    value: Scalar | tuple[Scalar, ...]

    def __post_init__(self) -> None:
        _text("condition", "field", self.field)
        value = self.value
        if not isinstance(self.op, str) or self.op not in _OPS:
            _refuse("condition", "op", f"one of {sorted(_OPS)}", self.op)
        if self.op in MEMBERSHIP:
            if not isinstance(value, tuple) or not 1 <= len(value) <= MAX_VALUES or not all(map(_is_scalar, value)):
                _refuse("condition", f"value of {self.op}", f"1 to {MAX_VALUES} {_SCALARS}", value)
        elif self.op in ORDER:
            if not is_finite(value):
                _refuse("condition", f"value of {self.op}", "a finite number", value)
        elif self.op == EXISTS:
            if not isinstance(value, bool):
                _refuse("condition", f"value of {self.op}", "true or false", value)
        elif not _is_scalar(value):
            _refuse("condition", f"value of {self.op}", f"one of {_SCALARS}", value)

    def __str__(self) -> str:
        """In words: ``publisher eq us``; of a field that is to be true, its name alone."""
        if self.op == "eq" and self.value is True:
            return self.field
        if isinstance(self.value, tuple):
            shown = [_word(value) for value in self.value[:3]] + ["..."] * (len(self.value) > 3)
            return f"{self.field} {self.op} {', '.join(shown)}"
        return f"{self.field} {self.op} {_word(self.value)}"

    @cached_property
    def keys(self) -> frozenset[Key]:
        """The value, or values, as they are compared."""
        return frozenset(map(key, self.value if isinstance(self.value, tuple) else (self.value,)))


@dataclass(frozen=True)
class Pin:
    """An item and the place it must have, counted from 0."""

    id: str
    position: int

    def __post_init__(self) -> None:
        _text("pin", "id", self.id)
        _whole("pin", "position", self.position, 0, MAX_PLACES - 1)

    def __str__(self) -> str:
        return f"pin {self.id} at {self.position}"


@dataclass(frozen=True)
class Boost:
    """Moves the score of candidates that match, by standard deviations of the slate's scores; below 0 demotes."""

    condition: Condition
    by: float

    def __post_init__(self) -> None:
        _condition("boost", self.condition)
        if not is_finite(self.by) or self.by == 0 or abs(self.by) > MAX_BOOST:
            _refuse("boost", "by", f"a number from {-MAX_BOOST:g} to {MAX_BOOST:g} and not 0", self.by)

    def __str__(self) -> str:
        return f"{'boosted' if self.by > 0 else 'demoted'} {self.by:+g}: {self.condition}"


@dataclass(frozen=True)
class Quota:
    """At most ``at_most`` items of each value of ``field`` among the first ``top``.

    An item with a list of values counts in each of them, an item without a
    value in none.
    """

    field: str
    at_most: int
    top: int

    def __post_init__(self) -> None:
        _text("quota", "field", self.field)
        _whole("quota", "at_most", self.at_most, 1, MAX_PLACES)
        _whole("quota", "top", self.top, 1, MAX_PLACES)

    def __str__(self) -> str:
        return f"quota {self.field}<={self.at_most} of {self.top}"


@dataclass(frozen=True)
class MinShare:
    """A minimum share of a group in every prefix of the slate, as a statistical test has it (FA*IR).

    Attributes:
        condition: Who belongs to the group.
        share: The proportion that is tested for, above 0 and below 1.
        alpha: How often a slate drawn fairly at random would be found wanting; the smaller, the more lenient.
    """

    condition: Condition
    share: float
    alpha: float = 0.1

    def __post_init__(self) -> None:
        _condition("share", self.condition)
        if not is_finite(self.share) or not 0 < self.share < 1:
            _refuse("share", "share", "a number above 0 and below 1", self.share)
        if not is_finite(self.alpha) or not 0 < self.alpha <= 0.5:
            _refuse("share", "alpha", "a number above 0 and at most 0.5", self.alpha)

    def __str__(self) -> str:
        return f"share {self.condition}>={self.share:g}"


@dataclass(frozen=True)
class Diversity:
    """Orders the first ``top`` so that neighbours differ.

    Attributes:
        method: ``mmr`` or ``dpp``.
        weight: From 0 (relevance alone) to 1 (diversity alone).
        top: How many places are ordered so.
        by: What items differ in: ``vectors``, their item vectors, or the name of a field.
        when: ``after`` the model orders its slate; ``before`` chooses whom the model gets to see.
    """

    method: Literal["mmr", "dpp"]
    weight: float
    top: int
    by: str = VECTORS
    when: Literal["before", "after"] = "after"

    def __post_init__(self) -> None:
        if self.method not in {"mmr", "dpp"}:
            _refuse("diversity", "method", "mmr or dpp", self.method)
        if not is_finite(self.weight) or not 0 <= self.weight <= 1:
            _refuse("diversity", "weight", "a number from 0 to 1", self.weight)
        _whole("diversity", "top", self.top, 1, MAX_PLACES)
        _text("diversity", "by", self.by)
        if self.when not in {"before", "after"}:
            _refuse("diversity", "when", "before or after", self.when)

    def __str__(self) -> str:
        return f"diversity {self.method} by {self.by}"


@dataclass(frozen=True)
class Policy:
    """The rules of one slate; false where there is none.

    Attributes:
        deny: Whoever matches one of these is not shown.
        require: Whoever does not match all of these is not shown.
        expire: Fields with a Unix time in seconds; past it, a candidate is not shown.
        pins: The first declared wins a place.
        boosts: All that match add up.
        quotas: Held in the order declared, where not all can be.
        shares: Held in the order declared, before quotas.
        diversity: At most one.
    """

    deny: tuple[Condition, ...] = ()
    require: tuple[Condition, ...] = ()
    expire: tuple[str, ...] = ()
    pins: tuple[Pin, ...] = ()
    boosts: tuple[Boost, ...] = ()
    quotas: tuple[Quota, ...] = ()
    shares: tuple[MinShare, ...] = ()
    diversity: Diversity | None = None

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            rules = getattr(self, name)
            if not isinstance(rules, tuple) or not all(isinstance(rule, kind) for rule in rules):
                _refuse(name, "rules", f"a tuple of {kind.__name__}", rules)
        for name in self.expire:
            _text("expire", "field", name)
        if self.diversity is not None and not isinstance(self.diversity, Diversity):
            _refuse("diversity", "rule", "Diversity or None", self.diversity)
        count = sum(len(getattr(self, name)) for name in _KINDS) + (self.diversity is not None)
        if count > MAX_RULES:
            _refuse("rules", "count", f"at most {MAX_RULES}", count)
        if len(self.quotas) + len(self.shares) > MAX_HELD:
            _refuse("quotas and shares", "count", f"at most {MAX_HELD}", len(self.quotas) + len(self.shares))

    def __bool__(self) -> bool:
        return self.filters or self.arranges

    @cached_property
    def filters(self) -> bool:
        """Whether a rule can remove a candidate."""
        return bool(self.deny or self.require or self.expire)

    @cached_property
    def arranges(self) -> bool:
        """Whether a rule can move a candidate."""
        return bool(self.pins or self.boosts or self.quotas or self.shares or self.diversity)

    def followed_by(self, other: Policy) -> Policy:
        """The rules of both, own ones first; of two diversity rules the other's.

        Raises:
            InputError: They are too many together, or the other is no policy.
        """
        if not isinstance(other, Policy):
            wanted = "a Policy; Policy.from_json makes one of plain values"
            raise InputError(f"policy: expected {wanted}, got {type(other).__name__}")
        both = {name: getattr(self, name) + getattr(other, name) for name in _KINDS}
        return Policy(**both, diversity=other.diversity or self.diversity)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; kinds without a rule are left out."""
        return {name: rules for name, rules in dataclasses.asdict(self).items() if rules}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Policy:
        """Read what ``to_json`` wrote, or JSON's rendering of it.

        Raises:
            InputError: A key, type or value that no policy has, or too many rules; the message names the rule.
        """
        if not isinstance(body, Mapping) or not set(body) <= set(_FIELDS):
            found = sorted(map(str, set(body) - set(_FIELDS))) if isinstance(body, Mapping) else body
            raise InputError(f"policy: expected an object with keys among {list(_FIELDS)}, got {found!r:.80}")
        given: dict[str, Any] = {}
        for name, kind in _KINDS.items():
            rules = body.get(name, [])
            if not isinstance(rules, list | tuple) or len(rules) > MAX_RULES:
                raise InputError(f"policy {name}: expected a list of at most {MAX_RULES} rules, got {rules!r:.80}")
            given[name] = tuple(_made(kind, f"{name}[{at}]", rule) for at, rule in enumerate(rules))
        if body.get("diversity") is not None:
            given["diversity"] = _made(Diversity, "diversity", body["diversity"])
        return cls(**given)


_KINDS: Final[Mapping[str, type]] = {
    "deny": Condition,
    "require": Condition,
    "expire": str,
    "pins": Pin,
    "boosts": Boost,
    "quotas": Quota,
    "shares": MinShare,
}
_FIELDS: Final = (*_KINDS, "diversity")
_SCALARS: Final = f"strings of at most {MAX_TEXT} characters, finite numbers, true and false"


def _made(kind: Any, where: str, body: Any) -> Any:
    """A rule from its JSON; errors say where it stood."""
    if kind is str:
        return body if isinstance(body, str) else _refuse(where, "field", "a string", body)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if not isinstance(body, Mapping) or not needed <= set(body) <= set(fields):
        got = list(body) if isinstance(body, Mapping) else body
        _refuse(where, "keys", f"an object with {sorted(needed)} and none outside {sorted(fields)}", got)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in body.items()}
    if "condition" in fields:
        values["condition"] = _made(Condition, f"{where} condition", body["condition"])
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"policy {where}: {str(error).removeprefix('policy ')}") from error


def _refuse(rule: str, name: str, expected: str, got: Any) -> NoReturn:
    raise InputError(f"policy {rule}: {name}: expected {expected}, got {got!r:.80}")


def _text(rule: str, name: str, value: Any) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT:
        _refuse(rule, name, f"1 to {MAX_TEXT} characters", value)


def _whole(rule: str, name: str, value: Any, least: int, most: int) -> None:
    if not is_whole(value, least, most):
        _refuse(rule, name, f"a whole number from {least} to {most}", value)


def _condition(rule: str, value: Any) -> None:
    if not isinstance(value, Condition):
        _refuse(rule, "condition", "a Condition", value)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool) or is_finite(value) or (isinstance(value, str) and len(value) <= MAX_TEXT)


def _word(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"
