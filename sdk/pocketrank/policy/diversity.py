"""Diversity: the first places ordered so that items are both relevant and unlike each other.

MMR and the greedy DPP are those of ``pyversity``, an extra; here their inputs
are put on one scale.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from pocketrank.errors import ExtraMissingError, InputError
from pocketrank.policy.filters import Values, entries

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]

POOL: Final = 500
"""How many of the best candidates are considered; the rest follow as they are."""
MAX_WIDTH: Final = 4_096
OWN: Final = 0.01
"""Part of an item in the DPP that no other shares; without it, rounding errors would order items that repeat others."""


def diversify(scores: Floats, vectors: Floats, *, method: Literal["mmr", "dpp"], weight: float, top: int) -> list[int]:
    """Order items so that the first ``top`` are relevant and unlike each other.

    MMR takes next the item with the largest
    ``(1 - weight) * r - weight * max(0, cosine to the most similar one taken)``, ``r`` the scores scaled to 0..1.
    The DPP takes next the item that makes the determinant of the kernel ``w_i w_j S_ij`` of all taken ones largest,
    ``w = exp((1 - weight) * z)``, ``z`` the standardised scores, ``S`` the cosines, all but the diagonal times
    ``1 - OWN``. ``weight`` 0 is the order of the scores.

    Args:
        scores: Finite ``[n]``, higher is better.
        vectors: Finite ``[n, w]``; a row of zeros is unlike any other.
        method: ``mmr`` or ``dpp``.
        weight: 0 to 1.
        top: How many places to order so, 1 or more; only the ``POOL`` best are considered for them.

    Returns:
        All ``n`` positions of ``scores``, the rest behind in the order of scores; equal scores as given.

    Raises:
        ExtraMissingError: ``pyversity`` is not installed.

    Source: Carbonell and Goldstein 1998, doi:10.1145/290941.291025; Chen et al. 2018, arXiv:1709.05135.
    """
    order = np.argsort(-scores, kind="stable")
    if weight == 0 or len(order) < 2:
        return [int(i) for i in order]
    pyversity = _pyversity()
    pool = order[:POOL]
    best, rows = scores[pool].astype(np.float64), vectors[pool].astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    if method == "mmr":
        span = best[0] - best[-1]
        best = (best - best[-1]) / span if span > 0 else np.zeros_like(best)
        chosen = pyversity.mmr(rows, best, top, weight)
    else:
        spread = best.std()
        best = (best - best.mean()) / (spread if spread > 0 else 1.0)
        own = np.where(rows.any(axis=1), OWN, 1.0)
        chosen = pyversity.dpp(np.hstack([rows * np.sqrt(1 - own)[:, None], np.diag(np.sqrt(own))]), best, top, weight)
    first = [int(pool[i]) for i in chosen.indices]
    taken = set(first)
    return first + [int(i) for i in order if int(i) not in taken]


def multi_hot(values: Values) -> Array:
    """A field's values as vectors: float32 ``[n, w]``, a column for each value that stands among ``values`` [n].

    Values that can't be compared set nothing; ``w`` is at least 1.

    Raises:
        InputError: There are more than ``MAX_WIDTH`` different values.
    """
    rows = entries(values)
    at: dict[Any, int] = {}
    for row in rows:
        for entry in row:
            at.setdefault(entry, len(at))
    if len(at) > MAX_WIDTH:
        raise InputError(f"diversity: expected at most {MAX_WIDTH} different values of the field, got {len(at)}")
    hot = np.zeros((len(rows), max(1, len(at))), np.float32)
    for i, row in enumerate(rows):
        hot[i, [at[entry] for entry in row]] = 1.0
    return hot


def _pyversity() -> Any:
    try:
        import pyversity
    except ImportError as error:
        raise ExtraMissingError('diversity: pyversity is missing; pip install "pocketrank[diversity]"') from error
    return pyversity
