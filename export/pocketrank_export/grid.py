"""Training that knows of int8: the backbone's weights stay on the grid that quantization will round them to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pocketrank_export.student import Student

LEVELS = 127
"""Steps of the symmetric int8 grid on each side of zero."""


class Int8Grid(nn.Module):
    """Rounds each output channel of a weight ``[out, in]`` to ``LEVELS`` steps; the gradient passes straight through.

    Source: Jacob et al. 2018, arXiv:1712.05877; straight-through estimator, Bengio et al. 2013, arXiv:1308.3432.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The nearest weight on the grid."""
        step = weight.detach().abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / LEVELS
        return weight + ((weight / step).round() * step - weight).detach()


class Readable(nn.Module):
    """Zeroes the columns that the backbone may not read, which the converter drops before it quantizes."""

    readable: Tensor

    def __init__(self, readable: Tensor) -> None:
        super().__init__()
        self.register_buffer("readable", readable)

    def forward(self, weight: Tensor) -> Tensor:
        """``weight`` [out, d] with the other columns zero."""
        return weight * self.readable


@contextmanager
def on_int8_grid(student: Student) -> Iterator[None]:
    """Keep the backbone's weights on the grid inside the block, frozen vectors too; they are left there at its end.

    ``quantization.weight_int8`` then finds nothing to round: the quantized student is the float one.
    """
    for number in range(len(student.blocks)):
        table = student.get_buffer(f"table_{number}")
        table.copy_(Int8Grid()(table))
    for number, layer in enumerate(student.layers):
        if number == 0:
            parametrize.register_parametrization(layer, "weight", Readable(student.readable.clone()))
        parametrize.register_parametrization(layer, "weight", Int8Grid())
    try:
        yield
    finally:
        for layer in student.layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
