"""What a ranking shows of whom, and how varied it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError


@dataclass(frozen=True)
class Exposure:
    """Attention that one group of a ranked list gets.

    ``share`` of all the attention that the list gets, 0 to 1; ``items`` of the
    group in the list; ``mean`` attention of one of them, where the first place
    has 1. Means that are the same for all groups are demographic parity.
    """

    share: float
    items: float
    mean: float


def exposure(groups: Sequence[str | Collection[str] | None], *, k: int | None = None) -> dict[str, Exposure]:
    """Position-discounted exposure of each group of a ranked list.

    Place ``i`` gets ``1 / log2(1 + i)``, and nothing beyond ``k``. An item of
    several groups divides its attention, and itself, evenly among them, so that
    the shares of all groups sum to 1 where every item has a group.

    Args:
        groups: ``[n]`` in ranked order: the group of each item, its groups, or None (or no groups) where it has none.
        k: Places that are seen; all by default. Items beyond still count in ``items``.

    Returns:
        By group, in order of first appearance; empty for an empty list.

    Raises:
        InputError: ``k`` is < 1.

    Source: Singh and Joachims 2018, sections 3.3 and 4.1, arXiv:1802.07281.
    """
    seen = _seen(len(groups), k)
    attention = 1.0 / np.log2(np.arange(2, len(groups) + 2))
    attention[seen:] = 0.0
    given: dict[str, float] = {}
    items: dict[str, float] = {}
    for own, names in zip(attention.tolist(), map(_names, groups), strict=True):
        for name in names:
            given[name] = given.get(name, 0.0) + own / len(names)
            items[name] = items.get(name, 0.0) + 1.0 / len(names)
    total = float(attention.sum())
    return {name: Exposure(given[name] / total, items[name], given[name] / items[name]) for name in given}


def intra_list_diversity(
    rows: npt.ArrayLike, *, k: int = 10, distance: Literal["cosine", "jaccard"] = "cosine"
) -> float:
    """Mean distance of all pairs among the first ``k`` items of a ranked list.

    ``cosine``: ``1 - cos``, 0 to 2; the zero vector, which an unknown item has,
    is at distance 1 of all. ``jaccard``: ``1 - |both| / |either|``, 0 to 1, of
    multi-hot rows; two items without any value are at distance 0.

    Args:
        rows: Vectors or multi-hot categories, ``[n, d]`` in ranked order, finite; for ``jaccard`` a value is present
            where > 0.
        k: Items that count.
        distance: See above.

    Returns:
        The mean; 0 for fewer than two items.

    Raises:
        InputError: ``rows`` is not ``[n, d]`` or not finite, or ``k`` is < 1.

    Source: Ziegler et al. 2005, intra-list similarity, doi:10.1145/1060745.1060754; here one less it.
    """
    given = np.asarray(rows, dtype=np.float64)
    if given.ndim != 2 or not np.isfinite(given).all():
        raise InputError(f"rows: expected finite [n, d], got {given.shape}; one row an item, in ranked order")
    top = given[: _seen(len(given), k)]
    if len(top) < 2:
        return 0.0
    likeness = _cosines(top) if distance == "cosine" else _jaccards(top)
    return float(1.0 - likeness[np.triu_indices(len(top), 1)].mean())


def _cosines(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    cosines: npt.NDArray[np.float64] = unit @ unit.T
    return cosines


def _jaccards(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    hot = (rows > 0).astype(np.float64)
    both = hot @ hot.T
    sizes = hot.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - both
    jaccards: npt.NDArray[np.float64] = np.divide(both, either, out=np.ones_like(both), where=either > 0)
    return jaccards


def _seen(n: int, k: int | None) -> int:
    """Places of ``n`` that are seen."""
    if k is not None and k < 1:
        raise InputError(f"k: expected >= 1 or None for all places, got {k}")
    return n if k is None else min(k, n)


def _names(groups: str | Collection[str] | None) -> list[str]:
    """The groups of one item, each once."""
    if groups is None:
        return []
    return [groups] if isinstance(groups, str) else list(dict.fromkeys(groups))
