"""Makes ``tests/data/shop``, the bundle that the tests rank with, and ``tests/data/shop_features.npz``.

``python -m tests.make_test_bundle`` does it.

The student is seeded and not trained: the tests ask whether it is run right, not whether it ranks well. It takes the
builder's environment; what reads the bundle needs a device's alone.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import torch

from pocketrank.bundle import Bundle, PrivacyPolicy, save_arrays
from pocketrank.features.profile import Array, ItemVectors
from pocketrank_export.builder import build_bundle
from pocketrank_export.data.replay import Visit, replay, visits
from pocketrank_export.data.slates import Slates
from pocketrank_export.student import Student
from tests import shop

POLICY = PrivacyPolicy(min_cohort=2, max_clipping_norm=1.0, min_noise_multiplier=0.5, max_rounds=10)
SIZES = (8, 16, 50, 64, 90)
"""Candidates of the golden slates in turn: each signature is tried, full and padded."""


def student() -> Student:
    """A student whose head reads every column, the private ones too, and whose backbone counts as much."""
    torch.manual_seed(7)
    made = Student((~shop.SCHEMA.private_columns).tolist(), (8, 4)).eval()
    rng = np.random.default_rng(7)
    with torch.no_grad():
        next(made.layers[-1].parameters()).mul_(5)
        for value in made.head.parameters():
            value.add_(torch.from_numpy(rng.uniform(-0.5, 0.5, tuple(value.shape)).astype(np.float32)))
    return made


def item_vectors() -> ItemVectors:
    """Those of the shop."""
    return ItemVectors.of(save_arrays(shop.item_vectors()))


@cache
def slates() -> Slates:
    """Visits of a few people to the shop, replayed."""
    vectors = item_vectors()
    parts = []
    for person in range(10):
        history = shop.browsing(person, 60)
        size = SIZES[person % len(SIZES)]

        def retrieve(seen: Iterable[str], size: int = size, person: int = person) -> dict[str, Any]:
            del seen
            # Items past the shop's end are new ones, which have no vector.
            return shop.columns(shop.candidates(np.random.default_rng([person, 2]).permutation(100)[:size].tolist()))

        parts.append(replay(history, visits(history, (0.7,)), retrieve, shop.SCHEMA, vectors, relevant=shop.LIKED))
    return padded(parts)


def features() -> dict[str, Array]:
    """Features of the shop's moments, as replay computes them."""
    return {name: replayed(moment) for seed in range(3) for name, moment in shop.moments(seed).items()}


def replayed(moment: shop.Moment) -> Array:
    """Features ``[n, d]`` of one moment."""
    visit = Visit(moment.at, len(moment.log), moment.context, moment.now_s)
    slates = replay(moment.log, [visit], lambda _: moment.candidates, shop.SCHEMA, item_vectors(), relevant=shop.LIKED)
    found: Array = slates.features[0]
    return found


def padded(parts: list[Slates]) -> Slates:
    """All slates of ``parts``, padded to the longest."""
    n = max(part.mask.shape[1] for part in parts)

    def widened(array: Any) -> Any:
        return np.pad(array, [(0, 0), (0, n - array.shape[1]), *[(0, 0)] * (array.ndim - 2)])

    return Slates.joined(
        [
            dataclasses.replace(part, **{name: widened(getattr(part, name)) for name in ("features", "labels", "mask")})
            for part in parts
        ]
    )


def make() -> Bundle:
    """The bundle of the shop."""
    return build_bundle(
        student(),
        shop.SCHEMA,
        slates(),
        name="shop",
        version=1,
        policy=POLICY,
        data="nothing: the weights are drawn at random",
        vectors=save_arrays(shop.item_vectors()),
    ).bundle


if __name__ == "__main__":
    shutil.rmtree(shop.FOLDER, ignore_errors=True)
    made = make()
    made.save(shop.FOLDER)
    shop.FEATURES.write_bytes(save_arrays(features()))
    total = sum(len(content) for content in made.files.values())
    print(f"{shop.FOLDER}: {total / 1e3:.1f} kB")  # noqa: T201
