"""What counts as a number in an app's arguments and in JSON: true and false do not, nor what no float can hold."""

from __future__ import annotations

import math
import sys
from typing import TypeGuard


def no_constant(name: str) -> float:
    """Refuse NaN and infinity, which Python's JSON takes; for ``parse_constant``."""
    raise ValueError(f"{name} is not a number that JSON allows")


def is_finite(value: object, above: float = -math.inf, below: float = math.inf) -> TypeGuard[float]:
    """Whether ``value`` is a finite number between two others, which themselves don't count."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max and above < value < below


def is_whole(value: object, least: float = -math.inf, most: float = math.inf) -> TypeGuard[int]:
    """Whether ``value`` is a whole number from ``least`` to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
