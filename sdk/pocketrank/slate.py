"""An ordered result, what produced it, and how the app says what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pocketrank.errors import InputError
from pocketrank.features.reading import is_number, worded
from pocketrank.store import MAX_VALUE
from pocketrank.store.records import KIND

if TYPE_CHECKING:
    from pocketrank.explanation import Explanation
    from pocketrank.feedback import Feedback

GIVEN_ORDER: Final = "given order"
CASCADE: Final = "cascade"
PREVIOUS_BUNDLE: Final = "previous bundle"
SHARED_PARAMETERS: Final = "shared parameters"
NOTHING: Final = "nothing"
"""What ``Slate.fallback`` begins with."""

_OWN_KINDS: Final = frozenset({"click", "skip", "dwell"})


class RankedItem(NamedTuple):
    """A candidate in its place: ``position`` counts from 0; ``score`` is None where no model gave one."""

    id: str
    score: float | None
    position: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slate:
    """Candidates in order, and how they came to it.

    Attributes:
        items: Best first.
        bundle: Name and version of the bundle, as ``movies@3``.
        stages: What ran, in order.
        omitted: Stage to why it gave nothing: ``deadline``, or the error.
        fallback: What ranked instead of what should have, and why; None where all went well.
        given_up: Rules of the policy that could not be kept, in words; never a filter.
        filtered: How many candidates the policy's filters removed.
        latency_ms: Wall time of the whole call.
    """

    items: tuple[RankedItem, ...]
    bundle: str
    stages: tuple[str, ...]
    omitted: Mapping[str, str]
    fallback: str | None
    given_up: tuple[str, ...]
    filtered: int
    latency_ms: float
    _behind: Feedback = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[RankedItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the items, best first."""
        return tuple(item.id for item in self.items)

    def shown(
        self, count: int | None = None, *, propensities: Sequence[float] | None = None, at_s: float | None = None
    ) -> None:
        """Say that the first ``count`` items were on the screen; all by default. Of a slate that is scrolled, say more.

        Rates and fatigue count each item once, and the learner then knows what was not taken.

        Args:
            count: 1 to the slate's length.
            propensities: Probability that the person looked at each of them, above 0 to 1; by default the learner
                assumes one that falls with the position.
            at_s: Unix time; now by default.

        Raises:
            InputError: A number is out of range; nothing is kept then.
            StoreError: It could not be kept.
        """
        count = len(self.items) if count is None else count
        if not (isinstance(count, int | np.integer) and 1 <= count <= len(self.items)):
            raise InputError(f"count: expected 1 to {len(self.items)}, the slate's length, got {count}")
        likely = propensities is None or (
            isinstance(propensities, Sequence | np.ndarray)
            and len(propensities) == count
            and all(is_number(p) and 0 < p <= 1 for p in propensities)
        )
        if not likely:
            raise InputError(f"propensities: expected {count} above 0 to 1, one a shown item, got {propensities!r:.80}")
        self._behind.shown(count, propensities, _when(at_s))

    def clicked(self, item: str | int, *, value: float = 1.0, label: float = 1.0, at_s: float | None = None) -> None:
        """Say that the person engaged with ``item``; it becomes an event, and an outcome to learn from.

        Args:
            item: Id of an item of this slate.
            value: What the engagement was worth, in the app's unit (1, a rating, seconds).
            label: How good an outcome it was for the ranking, 0 to 1.
            at_s: Unix time; now by default.

        Raises:
            InputError: The item is not in this slate, or a number is out of range; nothing is kept then.
            StoreError: It could not be kept.
        """
        name = self._own(item)
        if not (_within(label, 0.0, 1.0) and _within(value, -MAX_VALUE, MAX_VALUE)):
            wanted = f"label 0 to 1 and value within ±{MAX_VALUE:.0e}"
            raise InputError(f"item {name!r}: expected {wanted}, got {worded(label)} and {worded(value)}")
        self._behind.engaged(name, value, label, _when(at_s))

    def skipped(self, item: str | int, *, at_s: float | None = None) -> None:
        """Say that the person passed ``item`` over, or sent it away.

        Raises:
            InputError: The item is not in this slate.
            StoreError: It could not be kept.
        """
        self._behind.outcome(self._own(item), "skip", 1.0, _when(at_s))

    def dwelled(self, item: str | int, duration_s: float, *, at_s: float | None = None) -> None:
        """Say how long the person stayed with ``item``, in seconds.

        Raises:
            InputError: The item is not in this slate, or the duration is negative or not finite.
            StoreError: It could not be kept.
        """
        name = self._own(item)
        if not _within(duration_s, 0.0, MAX_VALUE):
            raise InputError(f"item {name!r}: expected a duration_s of 0 or more, got {worded(duration_s)}")
        self._behind.outcome(name, "dwell", duration_s, _when(at_s))

    def labelled(self, item: str | int, label: str, value: float, *, at_s: float | None = None) -> None:
        """Keep an outcome of the app's own, as ``labelled("item-17", "saved", 1.0)``.

        Args:
            item: Id of an item of this slate.
            label: 1 to 32 of a-z 0-9 _ that begin with a letter; not ``click``, ``skip`` or ``dwell``.
            value: How good it was, 0 to 1.
            at_s: Unix time; now by default.

        Raises:
            InputError: The item is not in this slate, or the label or the value is none.
            StoreError: It could not be kept.
        """
        name = self._own(item)
        named = isinstance(label, str) and KIND.fullmatch(label) and label not in _OWN_KINDS
        if not named or not _within(value, 0.0, 1.0):
            wanted = f"a label of a-z 0-9 _ other than {sorted(_OWN_KINDS)} and a value 0 to 1"
            raise InputError(f"item {name!r}: expected {wanted}, got {worded(label)} and {worded(value)}")
        self._behind.outcome(name, label, value, _when(at_s))

    def explain(self, item: str | int) -> Explanation:
        """What each feature adds to the score of ``item``, against the feature's default.

        Raises:
            InputError: The item is not in this slate, or no model scored it.
            ModelError: The model failed.
        """
        return self._behind.explain(self._own(item))

    def _own(self, item: str | int) -> str:
        name = str(item)
        if name not in self.ids:
            raise InputError(f"item {name!r} is not in this slate of {len(self.items)}; tell of shown items only")
        return name


def _when(at_s: float | None) -> float:
    when = time.time() if at_s is None else at_s
    if not _within(when, -sys.float_info.max, sys.float_info.max):
        raise InputError(f"at_s: expected a finite Unix time, got {worded(when)}")
    return when


def _within(value: object, least: float, most: float) -> bool:
    return is_number(value) and least <= value <= most
