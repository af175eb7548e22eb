"""A ranker that is quickly converted, and its bundle; ``python -m tests.export.plain`` prints the bundle's digest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pocketrank.bundle import PrivacyPolicy
from pocketrank.schema import Number, Schema
from pocketrank_export.builder import Built, build_bundle
from pocketrank_export.data.slates import Slates
from pocketrank_export.ranker import Foreign, Trainable

WIDTH = 3
SIZES = (4, 8)
SCHEMA = Schema(tuple(Number(name=f"x{column}") for column in range(WIDTH)))
POLICY = PrivacyPolicy(min_cohort=2, max_clipping_norm=1.0, min_noise_multiplier=0.5, max_rounds=10)
LAST = ("module.last.weight", "module.last.bias")


class Pointwise(nn.Module):
    """Somebody's module: it scores each candidate by its raw features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 16), nn.Linear(16, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        del mask
        scores: Tensor = self.last(torch.relu(self.first(features))).squeeze(-1)
        return scores


def ranker(trainable: Trainable = LAST, *, scale: float = 1.0) -> Foreign:
    """The module of seeded weights, its scores about as large as ``scale``."""
    torch.manual_seed(3)
    module = Pointwise()
    with torch.no_grad():
        for value in module.last.parameters():
            value.mul_(scale)
    return Foreign(module, WIDTH, trainable).eval()


def slates() -> Slates:
    """Six slates of 3 to 8 candidates."""
    rng = np.random.default_rng(4)
    features = [rng.normal(size=(n, WIDTH)).astype(np.float32) for n in (3, 4, 5, 6, 7, 8)]
    return Slates.of(features, [(block[:, 0] > 0).astype(np.float32) for block in features], width=WIDTH)


def make(trainable: Trainable = LAST) -> Built:
    """The bundle."""
    return build_bundle(
        ranker(trainable), SCHEMA, slates(), name="plain", version=1, policy=POLICY, data="none", slate_sizes=SIZES
    )


if __name__ == "__main__":
    print(make().bundle.digest)  # noqa: T201
