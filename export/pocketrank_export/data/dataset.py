"""A data set: slates, and where each comes from, so that it can be split without a leak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError
from pocketrank.schema import Schema
from pocketrank_export.data.slates import Slates

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Dataset:
    """What a reader hands over.

    Attributes:
        schema: Whose columns the features are.
        slates: ``s`` of them.
        groups: The query or the user that each slate belongs to, ``[s]``; a split never cuts through one.
        at_s: Unix time of each slate, float64 ``[s]``; None where the data has no time.
        ordered: Whether the candidates stand in a first stage's order; if not, a random order is what to beat.
        vectors: The bundle's ``vectors.npz``, where the schema needs item vectors.
        about: What it is, in words for a person; it becomes the lineage of the bundle.
    """

    schema: Schema
    slates: Slates
    groups: tuple[str, ...]
    at_s: Floats | None = None
    ordered: bool = False
    vectors: bytes | None = None
    about: str = ""

    def __post_init__(self) -> None:
        width, found = len(self.schema.columns), self.slates.features.shape
        if found[-1] != width or len(self.groups) != found[0]:
            raise InputError(
                f"data set: expected features [{len(self.groups)}, n, {width}], got {list(found)}; "
                "give each slate a group, and the schema's columns"
            )

    def __len__(self) -> int:
        """How many slates there are."""
        return len(self.slates)

    def where(self, rows: npt.NDArray[np.bool_]) -> Dataset:
        """The slates of ``rows``, bool ``[s]``."""
        groups = tuple(group for group, taken in zip(self.groups, rows, strict=True) if taken)
        at_s = None if self.at_s is None else self.at_s[rows]
        return Dataset(self.schema, self.slates.where(rows), groups, at_s, self.ordered, self.vectors, self.about)


@dataclass(frozen=True)
class Split:
    """What is trained on, what stops the training and chooses, and what is looked at once, at the end."""

    train: Dataset
    validation: Dataset
    test: Dataset
