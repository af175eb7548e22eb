"""What can be converted, quantized and packed: a module that scores slates, with some parameters that devices train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from pocketrank.errors import InputError

Trainable = Literal["head", "all"] | Sequence[str]
"""Which parameters devices train: the head's, all of them, or those of these names."""


class Ranker(nn.Module):
    """Base of all that is exported.

    Attributes:
        width: Number of feature columns, ``d``.
        trainable: Names of the parameters that devices train, in the order of ``named_parameters``: inputs of every
            signature. The others are constants.
    """

    width: int
    trainable: tuple[str, ...] = ()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[..., n]`` of ``features`` [..., n, d] under ``mask`` [..., n]; 0 where padded.

        ``[n, d]`` is one slate (what ranks on a device), ``[b, n, d]`` a batch of slates (what is trained).
        """
        raise NotImplementedError

    def choose_trainable(self, trainable: Trainable) -> None:
        """Let devices train these parameters.

        Raises:
            InputError: A name that no parameter has.
        """
        names = [name for name, _ in self.named_parameters()]
        if trainable == "all":
            chosen = set(names)
        elif trainable == "head":
            chosen = {name for name in names if name.startswith("head.")}
        else:
            chosen = {trainable} if isinstance(trainable, str) else set(trainable)
        if unknown := sorted(chosen - set(names)):
            raise InputError(f"trainable: no parameters {unknown}; choose 'head', 'all' or among {names}")
        self.trainable = tuple(name for name in names if name in chosen)


class Foreign(Ranker):
    """A module of somebody else's, made for batches: ``(features [b, n, d], mask [b, n]) -> scores [b, n]``."""

    def __init__(self, module: nn.Module, width: int, trainable: Trainable = ()) -> None:
        """Wrap ``module``, whose parameters are then named ``module.*``.

        Raises:
            InputError: ``width`` below 1, or a name in ``trainable`` that no parameter has.
        """
        super().__init__()
        if width < 1:
            raise InputError(f"width: expected the number of feature columns, 1 or more, got {width}")
        self.module = module
        self.width = width
        self.choose_trainable(trainable)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """As ``Ranker.forward``."""
        if features.ndim == 3:
            scores: Tensor = self.module(features, mask)
        else:
            scores = self.module(features.unsqueeze(0), mask.unsqueeze(0)).squeeze(0)
        return scores * mask


def trainables(ranker: Ranker) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each parameter that a device trains, in the order of the manifest."""
    shapes = {name: tuple(value.shape) for name, value in ranker.named_parameters()}
    return [(name, shapes[name]) for name in ranker.trainable]
