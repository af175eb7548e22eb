"""Does this bundle give the scores it was signed for, on the runtime that is here?

``python -m pocketrank.verification BUNDLE`` runs the self-test, and with
``SLATES.npz OUT.npz`` behind it scores stored slates, and times it, so that one
environment can check what another one's runtime makes of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import Bundle, load_arrays, save_arrays
from pocketrank.errors import ModelError
from pocketrank.scorer import Scorer

Array = npt.NDArray[np.float32]
TOLERANCE: Final = 1e-3
"""Largest difference of a score to the golden one, in the unit of the scores' own spread."""
WARM_UP: Final = 20
TIMED: Final = 200


def score_slates(scorer: Scorer, features: Array, mask: Array, params: Mapping[str, Array] | None = None) -> Array:
    """Scores ``[s, n]`` of slates ``features`` [s, n, d]; 0 where ``mask`` [s, n] is 0; ``params`` as in ``scores``."""
    scores = np.zeros(mask.shape, np.float32)
    for slate, real in enumerate(mask > 0):
        scores[slate, real] = scorer.scores(features[slate, real], params)
    return scores


def self_test(bundle: Bundle) -> None:
    """Score the golden slates of ``bundle`` here and compare; its own parameters must give finite scores on them too.

    Raises:
        ModelError: A score is not finite, or differs from the expected one by more than ``TOLERANCE``; or there are no
            golden slates that fit the schema.
        RuntimeMissingError: No runtime is here.
    """
    golden, scorer = bundle.golden(), Scorer(bundle)
    try:
        features, mask, expected = golden["features"], golden["mask"], golden["scores"]
        params = {parameter.name: golden[parameter.name] for parameter in bundle.manifest.trainable}
    except KeyError as error:
        raise ModelError(f"golden vectors: {error} is missing; the bundle can't be tested here") from error
    expected = golden.get(f"scores.{scorer.runtime}", expected)
    slates = (*mask.shape, len(bundle.manifest.schema.columns))
    if features.shape != slates or expected.shape != mask.shape or not (mask > 0).any():
        raise ModelError(f"golden vectors: expected features [s, n, {slates[-1]}] of s, n > 0, got {features.shape}")
    score_slates(scorer, features, mask)
    scores = score_slates(scorer, features, mask, params)
    spread = max(float(expected[mask > 0].std()), 1e-6)
    first = mask[0] > 0
    explained = scorer.variants(features[:1, first], params)
    differences = [*np.abs(scores - expected)[mask > 0], *np.abs(explained[0] - expected[0, first])]
    worst = float(max(differences)) / spread
    if not worst <= TOLERANCE:
        raise ModelError(f"self-test on {scorer.runtime}: scores differ by {worst:.2g} of their spread, > {TOLERANCE}")


def p50_us(scorer: Scorer, features: Array, mask: Array) -> float:
    """Median time of one call of ``scorer`` on the slates in turn, microseconds."""
    slates = [slate[real] for slate, real in zip(features, mask > 0, strict=True)]
    times = []
    for call in range(WARM_UP + TIMED):
        slate = slates[call % len(slates)]
        started = time.perf_counter()
        scorer.scores(slate)
        times.append(time.perf_counter() - started)
    return float(np.median(times[WARM_UP:])) * 1e6


def main(bundle: str, slates: str | None = None, out: str = "scores.npz") -> None:
    """Self-test, or score the slates in one file into another, with the name and version of the runtime that did it."""
    if slates is None:
        self_test(Bundle.open(bundle))
        return
    arrays = load_arrays(Path(slates).read_bytes(), max_bytes=1 << 30)
    scorer = Scorer(Bundle.open(bundle))
    scores = score_slates(scorer, arrays["features"], arrays["mask"])
    runtime = np.array([scorer.runtime, scorer.runtime_version])
    took = np.array(p50_us(scorer, arrays["features"], arrays["mask"]))
    Path(out).write_bytes(save_arrays({"scores": scores, "runtime": runtime, "p50_us": took}))


if __name__ == "__main__":
    main(*sys.argv[1:])
