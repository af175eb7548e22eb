"""Slates as arrays: what training and measuring see of a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError
from pocketrank.features.profile import Array

MAX_BYTES: Final = 32 << 30
"""Of the features of all slates, padded to the longest."""


@dataclass(frozen=True)
class Slates:
    """Slates to train or measure on.

    Attributes:
        features: float32 ``[s, n, d]``; rows of padding are 0.
        labels: float32 ``[s, n]``, >= 0: what the candidate is worth, 0 where padded.
        mask: float32 ``[s, n]``, 1 = real, 0 = padding.
        relevant: int ``[s]``; how many relevant items of label 1 there were in all, retrieved or not. None where all of
            them stand in their slates.
        propensities: float32 ``[s, n]``; the chance that the place was looked at, where a log has it.
    """

    features: Array
    labels: Array
    mask: Array
    relevant: npt.NDArray[np.int64] | None = None
    propensities: Array | None = None

    def __len__(self) -> int:
        """How many slates there are."""
        return len(self.features)

    @property
    def has_relevant(self) -> npt.NDArray[np.bool_]:
        """Bool ``[s]``: whether there is anything to find; slates without say nothing of an order."""
        return np.asarray(self.labels.any(axis=1) if self.relevant is None else self.relevant > 0)

    def where(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Slates:
        """The slates of ``rows``: bool ``[s]``, or indices."""
        return Slates(
            self.features[rows],
            self.labels[rows],
            self.mask[rows],
            None if self.relevant is None else self.relevant[rows],
            None if self.propensities is None else self.propensities[rows],
        )

    def resized(self, n: int) -> Slates:
        """Cut or padded to ``n`` candidates, with nothing but what is scored."""
        count, most, width = self.features.shape
        features, mask = np.zeros((count, n, width), np.float32), np.zeros((count, n), np.float32)
        features[:, :most], mask[:, :most] = self.features[:, :n], self.mask[:, :n]
        return Slates(features, np.zeros_like(mask), mask)

    @classmethod
    def of(
        cls,
        features: Sequence[Array],
        labels: Sequence[Array],
        *,
        width: int,
        relevant: Sequence[int] | None = None,
        propensities: Sequence[Array] | None = None,
    ) -> Slates:
        """Lists of any lengths, padded to the longest: features ``[n_i, width]``, labels and propensities ``[n_i]``.

        Raises:
            InputError: They would take more than ``MAX_BYTES``.
        """
        n = max(map(len, labels), default=0)
        count = len(labels)
        if 4 * count * n * width > MAX_BYTES:
            sizes = f"[{count}, {n}, {width}] of float32"
            raise InputError(
                f"slates: {sizes} take more than {MAX_BYTES >> 30} GiB; take fewer, or leave out the longest"
            )
        padded = np.zeros((count, n, width), np.float32)
        gains, mask = np.zeros((count, n), np.float32), np.zeros((count, n), np.float32)
        for row, (block, values) in enumerate(zip(features, labels, strict=True)):
            padded[row, : len(values)], gains[row, : len(values)], mask[row, : len(values)] = block, values, 1.0
        chances = None
        if propensities is not None:
            chances = np.ones((count, n), np.float32)
            for row, values in enumerate(propensities):
                chances[row, : len(values)] = values
        known = None if relevant is None else np.array(relevant, dtype=np.int64)
        return cls(padded, gains, mask, known, chances)

    @classmethod
    def joined(cls, parts: Sequence[Slates]) -> Slates:
        """All slates of ``parts``, of the same ``d``; the shorter ones are padded.

        Raises:
            InputError: There are no parts, or only some know ``relevant`` or ``propensities``.
        """
        if not parts:
            raise InputError("parts: expected one or more, got none")
        n = max(part.mask.shape[1] for part in parts)
        joined: list[npt.NDArray[np.float32] | None] = []
        for name in cls.__dataclass_fields__:
            arrays = [getattr(part, name) for part in parts]
            if any(array is None for array in arrays):
                if not all(array is None for array in arrays):
                    raise InputError(f"{name}: known of some parts and not of others; join those that are alike")
                joined.append(None)
                continue
            filler = 1.0 if name == "propensities" else 0.0
            joined.append(np.concatenate([array if array.ndim == 1 else _longer(array, n, filler) for array in arrays]))
        return cls(*joined)  # type: ignore[arg-type]  # in the order of the fields


def _longer(array: Array, n: int, filler: float) -> Array:
    """``array`` [s, m, ...] padded to ``[s, n, ...]``."""
    padding = [(0, 0), (0, n - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(array, padding, constant_values=filler)
