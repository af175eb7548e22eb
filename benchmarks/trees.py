"""LightGBM as the peer: a tree ranker as one would ship it, its features ready and free.

It is measured in the builder's process, for a device's environment doesn't hold it; its rounds alternate with the
device's processes.
"""

from __future__ import annotations

import time
from typing import Any, Final

import lightgbm
import numpy as np

ROWS: Final = 100
FEATURES: Final = 136
TREES: Final = 300
LEAVES: Final = 31
_EXAMPLES: Final = 6_000


def booster() -> Any:
    """A booster of ``TREES`` trees of ``LEAVES`` leaves over ``FEATURES``: the shape of a ranker on MSLR-WEB.

    Raises:
        AssertionError: Training gave smaller trees.
    """
    rng = np.random.default_rng(0)
    features = rng.normal(size=(_EXAMPLES, FEATURES))
    labels = features[:, 0] + features[:, 1] * features[:, 2] + rng.normal(size=_EXAMPLES)
    settings = {"num_leaves": LEAVES, "num_threads": 1, "verbosity": -1, "deterministic": True, "seed": 0}
    trained = lightgbm.train(settings, lightgbm.Dataset(features, labels), num_boost_round=TREES)
    trees = trained.trees_to_dataframe()
    leaves = trees["left_child"].isna().groupby(trees["tree_index"]).sum()
    assert len(leaves) == TREES
    assert leaves.min() == LEAVES
    return trained


def predictions(trained: Any, *, repeats: int) -> list[float]:
    """Microseconds of each bare ``Booster.predict`` of ``ROWS`` ready rows, on one thread, after some to warm up."""
    rows = np.random.default_rng(1).normal(size=(ROWS, FEATURES))
    found = []
    for turn in range(-20, repeats):
        started = time.perf_counter()
        trained.predict(rows, num_threads=1)
        took = time.perf_counter() - started
        if turn >= 0:
            found.append(took * 1e6)
    return found
