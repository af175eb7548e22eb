"""The wire contract of a round: what the server sends a device, and what comes back.

A request is two records: ``config``, the scalars of ``RoundConfig``, and
``params``, the current trainable parameters by name. A reply is one record,
``update``, that holds one array of the same name: float32 ``[d]``, clipped.
Nothing else travels in clear: no example counts, no metrics. Both ends check
what they read, as if the other end were hostile.

Everything here is plain numpy and Python, so that a device needs no Flower.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import Array
from pocketrank.errors import InputError

ACTION: Final = "pocketrank_update"
MESSAGE_TYPE: Final = f"train.{ACTION}"
CONFIG: Final = "config"
PARAMS: Final = "params"
UPDATE: Final = "update"
REFUSED_CODE: Final = 1001
"""Error code of a reply in which the device refuses; its reason is a ``Refusal``."""
FAILED_CODE: Final = 1002
"""Error code of a reply in which the device could not answer; it carries no reason."""

_SHA256 = re.compile(r"[0-9a-f]{64}")

Scalar = int | float | str


@dataclass(frozen=True)
class RoundConfig:
    """What a device must know of a round to decide whether it takes part.

    Attributes:
        server_round: Number of the round on this bundle, from 1, never used twice.
        rounds_total: Rounds that the server means to run on this bundle.
        cohort_size: Devices asked in this round; the sum is divided by it.
        clipping_norm: L2 bound on a device's update; > 0.
        noise_multiplier: Standard deviation of the noise on the sum / clipping norm; >= 0.
        learning_rate: Of the local steps; > 0.
        local_steps: Local steps; >= 1.
        bundle_digest: SHA-256 of the bundle's manifest, hex.
    """

    server_round: int
    rounds_total: int
    cohort_size: int
    clipping_norm: float
    noise_multiplier: float
    learning_rate: float
    local_steps: int
    bundle_digest: str

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InputError: A field has the wrong type or lies outside its range.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value).__name__ != field.type:
                raise InputError(f"{field.name}: expected {field.type}, got {type(value).__name__} {value!r}")
        if not 1 <= self.server_round <= self.rounds_total:
            raise InputError(f"server_round: expected 1 to rounds_total {self.rounds_total}, got {self.server_round}")
        for name in ("cohort_size", "local_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        for name in ("clipping_norm", "learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name}: expected a number > 0, got {getattr(self, name)}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise InputError(f"noise_multiplier: expected a number >= 0, got {self.noise_multiplier}")
        if not _SHA256.fullmatch(self.bundle_digest):
            raise InputError(f"bundle_digest: expected 64 hex digits, got {self.bundle_digest!r}")

    def to_scalars(self) -> dict[str, Scalar]:
        """The config as scalars by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_scalars(cls, scalars: Mapping[str, object]) -> RoundConfig:
        """Read a config, refusing missing and unknown names.

        Raises:
            InputError: Names, types or ranges are wrong.
        """
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(scalars) != expected:
            raise InputError(f"round config: expected {sorted(expected)}, got {sorted(scalars)}; update the SDK")
        return cls(**scalars)  # type: ignore[arg-type]  # __post_init__ checks each type


def update_to_arrays(update: Array) -> dict[str, Array]:
    """The reply of a device, as arrays by name."""
    return {UPDATE: update}


def update_from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The array of a reply; whether it may be used is for ``aggregation`` to say.

    Raises:
        InputError: There is another array, or none.
    """
    if set(arrays) != {UPDATE}:
        raise InputError(f"reply: expected the one array {UPDATE!r}, got {sorted(arrays)}")
    return np.asarray(arrays[UPDATE])
