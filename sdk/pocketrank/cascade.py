"""Cheap scores that choose which candidates the model sees.

Each stage standardises a few columns over the candidates that are left, adds
them up by its weights, and keeps the best. Where the best stand far enough
apart, the order is clear and no further stage, nor the model, need run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.checks import is_finite, is_whole
from pocketrank.errors import InputError

Array = npt.NDArray[np.float32]
MAX_STAGES: Final = 4
_TINY: Final = 1e-6
_LARGEST: Final = float(np.finfo(np.float32).max)
"""Sums of weights below it stay finite."""


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Keep the ``keep`` best candidates by a weighted sum of standardised columns; without weights, the first given.

    ``stop_margin``: where all of the first ``k`` differ by at least so much from
    the next one, their order is final and the cascade ends; None never stops.

    Raises:
        InputError: A value is of the wrong type or out of range.
    """

    keep: int
    weights: Mapping[str, float] = field(default_factory=dict)
    stop_margin: float | None = None

    def __post_init__(self) -> None:
        weighs = isinstance(self.weights, Mapping) and all(
            isinstance(column, str) and is_finite(weight, above=-_LARGEST, below=_LARGEST)
            for column, weight in self.weights.items()
        )
        stops = self.stop_margin is None or is_finite(self.stop_margin, above=0)
        if not is_whole(self.keep, 1) or not weighs or not stops:
            wanted = "keep of 1 or more, finite weights by column, and a stop_margin above 0 or none"
            raise InputError(f"cascade: expected {wanted}, got {self}")


Cascade = Sequence[Prune]


@dataclass(frozen=True, eq=False)
class Pruned:
    """How a cascade left ``n`` candidates.

    Attributes:
        kept: Indices of those for the model; best first where ``scored``.
        rest: Indices of the others, best first.
        scored: Whether a stage with weights ordered them.
        final: Whether a stage's margin was wide enough, so that the model need not run.
    """

    kept: list[int]
    rest: list[int]
    scored: bool
    final: bool


def check(cascade: Cascade, columns: Sequence[str]) -> None:
    """Hold ``cascade`` against the columns of a schema.

    Raises:
        InputError: It has too many stages, what is none, or weighs a column that the schema lacks.
    """
    if len(cascade) > MAX_STAGES:
        raise InputError(f"cascade: expected at most {MAX_STAGES} stages, got {len(cascade)}")
    for stage in cascade:
        if not isinstance(stage, Prune):
            raise InputError(f"cascade: expected stages of Prune, got {type(stage).__name__}")
        if unknown := sorted(set(stage.weights) - set(columns)):
            raise InputError(f"cascade: the schema has no column {unknown[0]!r}; expected among {list(columns)}")


def from_json(body: Any) -> tuple[Prune, ...]:
    """Read stages from JSON's lists and objects.

    Raises:
        InputError: A key or value that no stage has.
    """
    try:
        return tuple(Prune(**stage) for stage in body)
    except TypeError as error:
        raise InputError(f"cascade: expected a list of stages with keep, weights, stop_margin, got {body}") from error


def prune(cascade: Cascade, features: Array, columns: Sequence[str], *, largest: int, k: int | None) -> Pruned:
    """Run the stages of ``cascade`` on ``features`` [n, d]; what is left after the last one is cut to ``largest``.

    ``k`` says how many of the best the app asked for; None for all.

    Guarantees:
        ``kept`` and ``rest`` hold each candidate once. Equal scores keep the order given.
    """
    kept, rest, scored = np.arange(len(features)), np.arange(0), False
    for stage in cascade:
        if stage.weights and len(kept):
            scores = _scores(stage, features[kept], columns)
            by_score = np.argsort(-scores, kind="stable")
            kept, scores, scored = kept[by_score], scores[by_score], True
            if _clear(scores, stage.stop_margin, k):
                return Pruned(kept.tolist(), rest.tolist(), scored, final=True)
        kept, rest = kept[: stage.keep], np.concatenate([kept[stage.keep :], rest])
    return Pruned(kept[:largest].tolist(), np.concatenate([kept[largest:], rest]).tolist(), scored, final=False)


def _scores(stage: Prune, features: Array, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    at = [columns.index(column) for column in stage.weights]
    chosen = features[:, at].astype(np.float64)
    deviation = chosen.std(axis=0)
    standard = (chosen - chosen.mean(axis=0)) / np.where(deviation > _TINY, deviation, np.inf)
    scores: npt.NDArray[np.float64] = (standard * list(stage.weights.values())).sum(axis=1)
    return scores


def _clear(scores: npt.NDArray[np.float64], margin: float | None, k: int | None) -> bool:
    """Whether each of the first ``k`` of sorted ``scores`` leads the next one by ``margin``."""
    if margin is None:
        return False
    leads = -np.diff(scores[: None if k is None else k + 1])
    return bool((leads >= margin).all())
