"""Teachers that score each candidate by its own features: a plain MLP, and one with explicit feature crosses.

With constants of the training set alone, a candidate's score doesn't depend on the others of its slate; standardised
within the slate, it does through their mean and deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pocketrank.errors import InputError
from pocketrank_export.teachers.normalisation import Constants, Inputs


class MlpRanker(nn.Module):
    """A multilayer perceptron.

    Args:
        width: Number of feature columns, ``d``.
        widths: Sizes of the hidden layers; none leaves a linear ranker.
        constants: As in ``Inputs``.
        within_slate: As in ``Inputs``.
        dropout: Share of hidden activations dropped in training.

    Raises:
        InputError: A size below 1, a share outside [0, 1), or inputs as in ``Inputs``.
    """

    def __init__(
        self,
        width: int,
        widths: Sequence[int] = (64, 32),
        *,
        constants: Constants | None = None,
        within_slate: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(width, constants, within_slate=within_slate)
        self.hidden = _hidden(self.inputs.columns, widths, dropout)
        self.out = nn.Linear((self.inputs.columns, *widths)[-1], 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[b, n]`` of ``features`` [b, n, d]; 0 where ``mask`` [b, n] is 0."""
        scores: Tensor = self.out(self.hidden(self.inputs(features, mask))).squeeze(-1) * mask
        return scores


class CrossRanker(nn.Module):
    """A deep and cross network: cross layers beside an MLP, whose outputs are joined in a line.

    Each cross layer multiplies by the inputs once more, so that ``crosses`` layers hold all products of up to
    ``crosses + 1`` columns::

        x[l + 1] = x[0] * (W[l] x[l] + b[l]) + x[l],  W[l] = U[l] V[l] of the rank ``rank``

    Args:
        width: Number of feature columns, ``d``.
        crosses: Cross layers.
        rank: Of each layer's matrix; None for a full one.
        widths: Sizes of the MLP's hidden layers.
        constants: As in ``Inputs``.
        within_slate: As in ``Inputs``.
        dropout: Share of hidden activations dropped in training.

    Raises:
        InputError: A size below 1, a share outside [0, 1), or inputs as in ``Inputs``.

    Source: Wang et al. 2021, DCN V2, arXiv:2008.13535, equations 1 and 2, the parallel structure.
    """

    def __init__(
        self,
        width: int,
        *,
        crosses: int = 2,
        rank: int | None = 16,
        widths: Sequence[int] = (64, 32),
        constants: Constants | None = None,
        within_slate: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if crosses < 1 or (rank is not None and rank < 1):
            raise InputError(f"crosses, rank: expected 1 or more of each, got {crosses} and {rank}")
        self.inputs = Inputs(width, constants, within_slate=within_slate)
        columns = self.inputs.columns
        self.crosses = nn.ModuleList(_matrix(columns, rank) for _ in range(crosses))
        self.hidden = _hidden(columns, widths, dropout)
        self.out = nn.Linear(columns + (columns, *widths)[-1], 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[b, n]`` of ``features`` [b, n, d]; 0 where ``mask`` [b, n] is 0."""
        first = self.inputs(features, mask)
        crossed = first
        for layer in self.crosses:
            crossed = first * layer(crossed) + crossed
        scores: Tensor = self.out(torch.cat([crossed, self.hidden(first)], dim=-1)).squeeze(-1) * mask
        return scores


def _hidden(columns: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Layers of ``widths``, each with a ReLU and dropout."""
    if any(width < 1 for width in widths) or not 0 <= dropout < 1:
        raise InputError(
            f"widths, dropout: expected sizes >= 1 and a share in [0, 1), got {tuple(widths)} and {dropout}"
        )
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((columns, *widths)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def _matrix(columns: int, rank: int | None) -> nn.Module:
    """A square matrix and a bias, of low rank where ``rank`` is given."""
    if rank is None:
        return nn.Linear(columns, columns)
    return nn.Sequential(nn.Linear(columns, rank, bias=False), nn.Linear(rank, columns))
