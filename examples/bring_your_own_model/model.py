"""The module that one brings: a two-tower of plain PyTorch, which knows nothing of PocketRank."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoTower(nn.Module):
    """The product of what is asked and what is offered, each as a vector.

    Args:
        query: Number of the columns that say what is asked, the last ones; the others are the item's.
        item: Number of the item's columns.
        mean: ``[item + query]``, of each column in the training data.
        deviation: ``[item + query]``, of each column there, > 0.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, item: int, query: int, mean: Tensor, deviation: Tensor, hidden: int = 24, size: int = 8) -> None:
        super().__init__()
        self.split = item
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.item = nn.Sequential(nn.Linear(item, hidden), nn.GELU(), nn.Linear(hidden, size))
        self.query = nn.Sequential(nn.Linear(query, hidden), nn.GELU(), nn.Linear(hidden, size))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[b, n]`` of ``features`` [b, n, item + query]; each candidate on its own, so no mask is needed."""
        del mask
        columns = (features - self.mean) / self.deviation
        item, query = self.item(columns[..., : self.split]), self.query(columns[..., self.split :])
        scores: Tensor = (item * query).sum(dim=-1)
        return scores


def train(features: Tensor, chosen: Tensor, item: int, *, steps: int, seed: int = 0) -> TwoTower:
    """Train a two-tower to find the candidate that was chosen.

    Args:
        features: float32 ``[s, n, d]``, the first ``item`` of the columns the item's.
        chosen: int64 ``[s]``, its place.
        item: Number of the item's columns.
        steps: Of Adam, each on all slates.
        seed: Of the weights.
    """
    torch.manual_seed(seed)
    rows = features.flatten(0, 1)
    model = TwoTower(item, features.shape[-1] - item, rows.mean(dim=0), rows.std(dim=0).clamp(min=1e-3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        scores = model(features, torch.ones_like(features[..., 0]))
        nn.functional.cross_entropy(scores, chosen).backward()
        optimizer.step()
    return model.eval()
