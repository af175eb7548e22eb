"""What a student learns from: anything that scores slates, alone or several together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from pocketrank.errors import GateError, InputError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import score

# Scores of a slate that differ by less, as a share of the largest, differ by rounding alone: 8 steps of a float32.
_ROUNDING = 1e-6


class Teacher(Protocol):
    """Scores slates; larger is better, in any scale.

    Attributes:
        name: For a person, and for the messages of errors.
        size_bytes: What its model takes as a file; None where there is no model to measure.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def size_bytes(self) -> int | None: ...  # noqa: D102

    def scores(self, slates: Slates) -> Array:
        """Scores, float32 ``[s, n]``: finite; 0 where padded."""
        ...


def checked(name: str, scores: npt.NDArray[np.floating], slates: Slates) -> Array:
    """What the teacher ``name`` returned, as every teacher returns it.

    Args:
        name: For the message.
        scores: ``[s, n]``, any float; what stands in padding is ignored.
        slates: What was scored.

    Returns:
        float32 ``[s, n]``; 0 where padded.

    Raises:
        InputError: Another shape.
        GateError: A real candidate's score is not finite, or too large for a float32.
    """
    if scores.shape != slates.mask.shape:
        raise InputError(
            f"teacher {name!r}: expected scores {list(slates.mask.shape)}, got {list(scores.shape)}; "
            "one score a candidate, padding among them"
        )
    with np.errstate(over="ignore"):
        found = np.where(slates.mask > 0, scores, 0.0).astype(np.float32)
    if not np.isfinite(found).all():
        slate, place = np.argwhere(~np.isfinite(found))[0]
        raise GateError(
            f"finite: teacher {name!r}: the score of candidate {place} of slate {slate} is {scores[slate, place]}; "
            "expected finite float32; look at that slate's features"
        )
    return found


def normalised(scores: Array, mask: Array) -> Array:
    """Scores as deviations from their slate's mean, in standard deviations, over the real candidates.

    Args:
        scores: ``[s, n]``, finite where real.
        mask: ``[s, n]``, 1 = real, 0 = padding.

    Returns:
        float32 ``[s, n]``; 0 where padded, and all over a slate whose scores are the same up to rounding.

    Guarantees:
        ``a * scores + c`` gives the same, for any ``a > 0`` and ``c`` that leave the scores apart in float32.
    """
    real = mask > 0
    # Of values about 1: neither sums nor squares can overflow.
    values = np.where(real, scores, 0.0).astype(np.float64)
    largest = np.abs(values).max(axis=1, initial=0.0, keepdims=True)
    values /= np.where(largest > 0, largest, 1.0)
    count = np.maximum(real.sum(axis=1, keepdims=True), 1)
    centred = np.where(real, values - values.sum(axis=1, keepdims=True) / count, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    apart = np.ptp(centred, axis=1, keepdims=True) > _ROUNDING if centred.size else np.zeros_like(largest, dtype=bool)
    return np.asarray(np.divide(centred, deviation, out=np.zeros_like(centred), where=apart), np.float32)


class Module:
    """A torch module ``(features [b, n, d], mask [b, n]) -> scores [b, n]`` as a teacher."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name = name
        self.module = module
        self.size_bytes: int | None = 4 * sum(parameter.numel() for parameter in module.parameters())

    def scores(self, slates: Slates) -> Array:
        """As ``Teacher.scores``; the module is left in evaluation mode.

        Raises:
            InputError: The module can't take these slates, or gives no scores ``[s, n]``.
            GateError: A score is not finite.
        """
        try:
            found = score(self.module, slates)
        except RuntimeError as error:  # torch's own, of shapes that don't fit
            raise InputError(
                f"teacher {self.name!r}: fails on features {list(slates.features.shape)}: {error}"
            ) from error
        return checked(self.name, found, slates)


class Ensemble:
    """The mean of several teachers' scores, each normalised within the slate: no teacher outweighs by its scale."""

    def __init__(self, name: str, teachers: Sequence[Teacher]) -> None:
        """Join ``teachers``.

        Raises:
            InputError: There is none.
        """
        if not teachers:
            raise InputError(f"ensemble {name!r}: expected one or more teachers, got none")
        self.name = name
        self.teachers = tuple(teachers)

    @property
    def size_bytes(self) -> int | None:
        """The teachers' sizes together; None where one is unknown."""
        sizes = [teacher.size_bytes for teacher in self.teachers]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def scores(self, slates: Slates) -> Array:
        """As ``Teacher.scores``; within a slate the mean is 0 and no deviation exceeds 1."""
        total = np.zeros(slates.mask.shape, np.float32)
        for teacher in self.teachers:
            total += normalised(checked(teacher.name, teacher.scores(slates), slates), slates.mask)
        return total / np.float32(len(self.teachers))


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The content of a file from outside.

    Raises:
        InputError: It can't be read, or holds more than ``max_bytes``.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise InputError(f"{path}: expected at most {max_bytes} bytes; pass a smaller model or fewer scores")
    return content
