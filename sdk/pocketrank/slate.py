"""An ordered result, what produced it, and how the app says what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pocketrank.errors import InputError
from pocketrank.store import MAX_VALUE

GIVEN_ORDER: Final = "given order"
SHARED_PARAMETERS: Final = "shared parameters"


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
        fallback: What ranked instead of what should have, and why; None where all went well.
        latency_ms: Wall time of the whole call.
    """

    items: tuple[RankedItem, ...]
    bundle: str
    stages: tuple[str, ...]
    fallback: str | None
    latency_ms: float
    _feedback: Callable[[str, float, float, float], None] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[RankedItem]:
        """The items, best first."""
        return iter(self.items)

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.items)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the items, best first."""
        return tuple(item.id for item in self.items)

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
        name = str(item)
        if name not in self.ids:
            raise InputError(f"item {name!r} is not in this slate of {len(self.items)}; tell of shown items only")
        when = time.time() if at_s is None else at_s
        if not (0.0 <= label <= 1.0 and abs(value) <= MAX_VALUE and math.isfinite(when)):
            wanted = f"label 0 to 1, value within ±{MAX_VALUE:.0e} and a finite at_s"
            raise InputError(f"item {name!r}: expected {wanted}, got {label}, {value} and {at_s}")
        self._feedback(name, value, label, when)
