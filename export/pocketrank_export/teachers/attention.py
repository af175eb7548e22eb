"""The teacher: self-attention over the slate, so that a candidate is scored beside the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pocketrank_export.teachers.normalisation import Constants, Inputs


class AttentionRanker(nn.Module):
    """A listwise transformer encoder beside a linear path, over the columns that it may read.

    Args:
        readable: One boolean a column; False hides the column from the teacher.
        width: Size of the encoder's embedding.
        layers: Encoder layers.
        heads: Attention heads; divides ``width``.
        dropout: Share of activations dropped in training.
        constants: As in ``Inputs``.
        within_slate: As in ``Inputs``.

    Raises:
        InputError: Inputs as in ``Inputs``.

    Source: Pang et al. 2020, SetRank, arXiv:1912.05891; permutation equivariant, for no position is encoded.
    """

    readable: Tensor

    def __init__(
        self,
        readable: Sequence[bool],
        *,
        width: int = 32,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        constants: Constants | None = None,
        within_slate: bool = True,
    ) -> None:
        super().__init__()
        self.register_buffer("readable", torch.tensor([float(flag) for flag in readable]))
        self.inputs = Inputs(len(readable), constants, within_slate=within_slate)
        self.lift = nn.Linear(self.inputs.columns, width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(width, 1)
        self.linear = nn.Linear(self.inputs.columns, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[b, n]`` of ``features`` [b, n, d]; 0 where ``mask`` [b, n] is 0."""
        standardised = self.inputs(features, mask) * self.readable.repeat(self.inputs.columns // len(self.readable))
        encoded = self.encoder(self.lift(standardised), src_key_padding_mask=mask < 0.5)
        scores: Tensor = (self.out(encoded) + self.linear(standardised)).squeeze(-1) * mask
        return scores
