"""Item vectors from logs: items that the same people turn to, close in time, point the same way.

They ship in the bundle, so that a device can compare a candidate with its own
history; they are made of the server users' logs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import save_arrays
from pocketrank.store import Event

Floats = npt.NDArray[np.float64]
_WINDOW: Final = 40
_HALF_LIFE_EVENTS: Final = 10.0


def item_vectors(histories: Sequence[Sequence[Event]], items: Sequence[str], *, width: int = 64) -> Floats:
    """Vectors ``[N, width]`` of ``items``: the leading eigenvectors of two shrunken PPMI matrices, summed.

    One counts items in the same history, the other items near each other in
    time, halved every ten events of distance.

    Source: Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization"; context smoothing 0.75.
    """
    index = {item: row for row, item in enumerate(items)}
    together = np.zeros((len(items), len(items)))
    near = np.zeros_like(together)
    for history in filter(None, histories):
        rows = np.array([index[event.item] for event in history], dtype=np.int64)
        together[np.ix_(rows, rows)] += 1.0 / len(rows)
        for distance in range(1, min(_WINDOW, len(rows) - 1) + 1):
            np.add.at(near, (rows[:-distance], rows[distance:]), 0.5 ** (distance / _HALF_LIFE_EVENTS))
    np.fill_diagonal(together, 0.0)
    both = [_ppmi(together, shrinkage=0.05), _ppmi(near + near.T, shrinkage=8.0)]
    values, directions = np.linalg.eigh(sum(matrix / matrix.std() for matrix in both))
    leading = np.argsort(-values)[:width]
    vectors = directions[:, leading] * np.sqrt(np.maximum(values[leading], 0.0))
    # An eigenvector's sign is arbitrary; the largest entry is made positive, so that the same logs give the same file.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return np.asarray(vectors * signs)


def to_npz(items: Sequence[str], vectors: Floats) -> bytes:
    """The bundle's ``vectors.npz``: ``items`` [N] and unit ``vectors`` [N, k] in float16; zero if never seen."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # An item that nobody turned to has a rounding error for a vector, which must not be scaled up to unit length.
    known = norms > 1e-6 * norms.max(initial=0.0)
    unit = np.divide(vectors, norms, out=np.zeros_like(vectors), where=known)
    return save_arrays({"items": np.array(items), "vectors": unit.astype(np.float16)})


def _ppmi(counts: Floats, *, shrinkage: float) -> Floats:
    """Positive pointwise mutual information, rare pairs shrunken by ``count / (count + shrinkage)``, made symmetric."""
    sums = counts.sum(axis=1)
    context = sums**0.75 / (sums**0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts / (sums[:, None] * context[None, :]))
    information = np.where(np.isfinite(information), np.maximum(information, 0.0), 0.0)
    information *= counts / (counts + shrinkage)
    return np.asarray((information + information.T) / 2)
