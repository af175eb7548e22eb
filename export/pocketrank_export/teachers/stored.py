"""Scores that were made elsewhere and kept in a file: a teacher that needs no model here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

from pocketrank.bundle import MAX_FILE_BYTES, load_arrays, save_arrays
from pocketrank.durable import write_atomically
from pocketrank.errors import BundleError, InputError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.teachers.teacher import checked, read_bounded

_LONGEST: Final = 64  # characters of one score in text


def save_scores(path: Path, scores: Array, slates: Slates) -> None:
    """Keep a teacher's scores, float32 ``[s, n]``, beside a digest of the slates that they belong to.

    Raises:
        InputError: Another shape, or a file of more than 64 MiB would come of it.
        GateError: A score is not finite.
        OSError: The file can't be written.
    """
    content = save_arrays({"scores": checked(path.name, scores, slates), "slates": np.array(_digest(slates))})
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"{path}: {len(content)} bytes; expected at most {MAX_FILE_BYTES}: store fewer slates")
    write_atomically(path, content)


class StoredScores:
    """Files of ``save_scores``, one for each part of the data; only the slates that they were made of have scores.

    Attributes:
        name: As in ``Teacher``; ``size_bytes`` is None, for the model is elsewhere.
    """

    size_bytes: int | None = None

    def __init__(self, name: str, *paths: Path) -> None:
        """Read ``paths``.

        Raises:
            InputError: One can't be read, or isn't a file of ``save_scores``.
        """
        self.name = name
        self._scores = dict(map(_read, paths))

    def scores(self, slates: Slates) -> Array:
        """As ``Teacher.scores``.

        Raises:
            InputError: Other slates, or in another order, than the scores were stored with.
            GateError: A score is not finite.
        """
        found = _digest(slates)
        if found not in self._scores:
            raise InputError(
                f"teacher {self.name!r}: these are scores of other slates (digests "
                f"{', '.join(known[:12] for known in self._scores)}, got {found[:12]}); features, mask and "
                "order must be those of save_scores: store scores of these slates"
            )
        return checked(self.name, self._scores[found], slates)


class ListedScores:
    """A text file of one score a line, as tools for LETOR data and LightGBM write it.

    The scores are of the real candidates, slate after slate. Nothing in the file says whose they are: only their count
    is checked, so store them with ``save_scores`` once they were read.

    Attributes:
        name: As in ``Teacher``; ``size_bytes`` is None, for the model is elsewhere.
    """

    size_bytes: int | None = None

    def __init__(self, name: str, path: Path) -> None:
        """Read ``path``.

        Raises:
            InputError: It can't be read, is larger than 64 MiB, or a line is not one number.
        """
        self.name = name
        lines = read_bounded(path, MAX_FILE_BYTES).removesuffix(b"\n").split(b"\n")
        self._scores = np.array([_number(path, number, line) for number, line in enumerate(lines, 1)])

    def scores(self, slates: Slates) -> Array:
        """As ``Teacher.scores``.

        Raises:
            InputError: There are more or fewer scores than real candidates.
            GateError: A score is not finite.
        """
        real = slates.mask > 0
        if len(self._scores) != real.sum():
            raise InputError(
                f"teacher {self.name!r}: {len(self._scores)} scores of {int(real.sum())} real candidates; "
                "expected one line a candidate, slate after slate"
            )
        found = np.zeros(slates.mask.shape)
        found[real] = self._scores
        return checked(self.name, found, slates)


def _read(path: Path) -> tuple[str, Array]:
    """The digest and the scores of a file."""
    try:
        arrays = load_arrays(read_bounded(path, MAX_FILE_BYTES))
    except BundleError as error:
        raise InputError(f"{path}: {error}; write it with save_scores") from error
    plain = arrays.keys() == {"scores", "slates"} and arrays["scores"].dtype == np.float32
    if not plain or arrays["slates"].shape != () or arrays["slates"].dtype.kind != "U":
        raise InputError(f"{path}: expected float32 scores and the slates' digest; write it with save_scores")
    return str(arrays["slates"]), arrays["scores"]


def _number(path: Path, number: int, line: bytes) -> float:
    """The score of a line."""
    try:
        if len(line) > _LONGEST or b"_" in line:
            raise ValueError
        return float(line)
    except ValueError as error:
        raise InputError(f"{path}: line {number}: expected one score, got {line[:40]!r}") from error


def _digest(slates: Slates) -> str:
    """SHA-256 of features and mask, with their shapes."""
    digest = hashlib.sha256(repr(slates.features.shape).encode())
    for array in (slates.features, slates.mask):
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()
