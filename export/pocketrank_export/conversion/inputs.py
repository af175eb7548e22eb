"""The inputs of a converted ranker: the head's parameters are among them, under their names with ``.`` as ``_``.

So a round on devices changes parameters (``head.weight``, the input ``head_weight``) and never a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from pocketrank.scorer import input_name
from pocketrank_export.ranker import Ranker, trainables


def score(ranker: Ranker, features: Tensor, mask: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    """The ranker's scores under trainables that are given by input name."""
    replaced = {name: parameters[input_name(name)] for name, _ in trainables(ranker)}
    scores: Tensor = functional_call(ranker, replaced, (features, mask))
    return scores


def named(names: Sequence[str], parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Parameters by the names of their inputs."""
    return dict(zip(map(input_name, names), parameters, strict=True))


def trainable_inputs(ranker: Ranker) -> dict[str, Tensor]:
    """Examples of the trainables, by the names of their inputs."""
    return {input_name(name): torch.ones(shape) for name, shape in trainables(ranker)}


def rank_inputs(ranker: Ranker, *axes: int) -> dict[str, Tensor]:
    """Examples of the inputs of a ranking signature, in their order, candidates on the last of ``axes``.

    A tracer reads the shapes alone.
    """
    return {"features": torch.ones(*axes, ranker.width), "mask": torch.ones(*axes)} | trainable_inputs(ranker)
