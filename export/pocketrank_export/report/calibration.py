"""Whether scores say how much a candidate is worth, beyond which one is worth more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.errors import InputError
from pocketrank.features.profile import Array
from pocketrank.metrics import Interval
from pocketrank_export.data.slates import Slates

BINS: Final = 10
RESAMPLES: Final = 1000


@dataclass(frozen=True)
class Bin:
    """``count`` candidates of like predicted share: its mean, and the observed one with its interval over slates."""

    predicted: float
    observed: Interval
    count: int


@dataclass(frozen=True)
class Calibration:
    """Predicted against observed shares.

    Attributes:
        bins: From the smallest predicted share to the largest.
        error: Expected calibration error, >= 0.
        mean_share: Mean of both shares over all candidates, to hold the error against.
        slates: How many there were with a label above 0.
    """

    bins: tuple[Bin, ...]
    error: float
    mean_share: float
    slates: int


def calibration(scores: Array, slates: Slates, rng: np.random.Generator, *, bins: int = BINS) -> Calibration:
    """Hold the scores ``[s, n]`` of ``slates``, taken as logits, against the labels.

    The predicted share of a candidate is the softmax of the scores within its slate; the observed one is its label over
    the sum of the slate's labels, for one clicked candidate 1 and for graded labels (gains) its part of the whole: what
    the softmax cross-entropy of a list fits. Candidates are sorted by predicted share into bins of about equal count;
    equal shares stay together. With N candidates in all and bins b::

        error = sum_b count_b / N * |mean predicted_b - mean observed_b|

    Scores fitted by another loss need not be logits: an error then says how far they are from it, and nothing of the
    order.

    Args:
        scores: Finite where real.
        slates: Those without a label above 0 are left out.
        rng: For the intervals: slates are drawn anew, for the candidates of one are not independent.
        bins: At most so many, >= 1.

    Raises:
        InputError: No slate has a label above 0.

    Source: the error is that of Naeini et al. 2015 with the equal-count bins of Nguyen and O'Connor 2015
    (arXiv:1508.05154); the shares are those of ListNet's top-one distribution, Cao et al. 2007.
    """
    real = slates.mask > 0
    labels = np.where(real, slates.labels, 0.0).astype(np.float64)
    rows = labels.sum(axis=1) > 0
    if not rows.any():
        raise InputError(
            "labels: expected one above 0 in one slate or more, got none; there is nothing to compare with"
        )
    real, labels = real[rows], labels[rows]
    predicted = _softmax(scores[rows].astype(np.float64), real)
    observed = labels / labels.sum(axis=1, keepdims=True)
    edges = np.unique(np.quantile(predicted[real], np.arange(1, bins) / bins))
    of = np.searchsorted(edges, predicted, side="right")
    # Sums of each slate in each bin [s, b]: the intervals draw whole slates.
    inside = (of[..., None] == np.arange(len(edges) + 1)) & real[..., None]
    counts = inside.sum(axis=1).astype(np.float64)
    guessed, seen = (np.einsum("sn,snb->sb", values, inside) for values in (predicted, observed))
    drawn = rng.multinomial(len(real), np.full(len(real), 1 / len(real)), size=RESAMPLES).astype(np.float64)
    found, gap = [], 0.0
    for each in np.flatnonzero(counts.sum(axis=0)):
        count, low, high = counts[:, each].sum(), *_interval(drawn, seen[:, each], counts[:, each])
        mean, share = guessed[:, each].sum() / count, seen[:, each].sum() / count
        gap += count * abs(mean - share)
        found.append(Bin(float(mean), Interval(float(share), low, high, len(real)), int(count)))
    total = float(counts.sum())
    return Calibration(tuple(found), float(gap / total), len(real) / total, len(real))


def _interval(
    drawn: npt.NDArray[np.float64], sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
) -> list[float]:
    """95 % percentile bootstrap of ``sums / counts``, over the slates."""
    size = drawn @ counts
    ratio = (drawn @ sums)[size > 0] / size[size > 0]
    low, high = np.quantile(ratio, [0.025, 0.975])
    return [float(low), float(high)]


def _softmax(scores: npt.NDArray[np.float64], real: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Shares ``[s, n]`` of the real candidates, 0 where padded."""
    masked = np.where(real, scores, -np.inf)
    powers = np.exp(masked - masked.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
