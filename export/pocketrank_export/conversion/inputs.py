"""The inputs of a converted ranker: the parameters that devices train are among them.

So a round on devices changes parameters and never a file. The input of a parameter has its name with ``.`` as ``_``
(``head.weight`` is ``head_weight``); what an optimizer keeps of it has that and a suffix after two underscores
(``head_weight__velocity``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import Final

import torch
from torch import Tensor
from torch.func import functional_call

from pocketrank.errors import InputError
from pocketrank.scorer import input_name
from pocketrank_export.ranker import Ranker, trainables

STATES: Final = ("velocity", "m", "v")
"""What optimizers keep of each parameter, in its shape."""
RESERVED: Final = ("features", "mask", "labels", "weights", "learning_rate", "momentum", "step", "loss", "scores")
"""Inputs and outputs that are no parameters."""
_PROBE: Final = 4  # candidates, as many again of padding
_MAX_DRIFT: Final = 1e-4


def state_name(parameter: str, kind: str) -> str:
    """Name of what an optimizer keeps of a parameter, ``kind`` one of ``STATES``, among a signature's inputs."""
    return f"{input_name(parameter)}__{kind}"


def prepared(ranker: Ranker) -> Ranker:
    """A copy of a ranker in evaluation mode that can be converted, as far as running it in PyTorch tells.

    Raises:
        InputError: The name of an input would be given twice; a weight is not float32; or the ranker fails, gives
            scores of another shape than the mask's, or others when the slate is padded, or some that are not finite.
    """
    inputs = [input_name(name) for name in ranker.trainable]
    states = [state_name(name, kind) for name in ranker.trainable for kind in STATES]
    if twice := [name for name, count in Counter([*RESERVED, *inputs, *states]).items() if count > 1]:
        raise InputError(f"trainable: more than one input would be {twice}, '.' and '_' being the same; rename these")
    copied = deepcopy(ranker).eval()
    kinds = {name: value.dtype for name, value in copied.state_dict().items() if value.is_floating_point()}
    if other := {name: kind for name, kind in kinds.items() if kind != torch.float32}:
        name, kind = next(iter(other.items()))
        raise InputError(f"ranker: expected float32 weights, got {kind} in {name!r}; call .float() on the module")
    _probe(copied)
    return copied


def _probe(ranker: Ranker) -> None:
    """Score a slate, the same padded, and both in batches."""
    padded = torch.zeros(2 * _PROBE, ranker.width)
    padded[:_PROBE] = 1.0
    mask = padded.amax(dim=-1)
    found = []
    for features, real in ((padded[:_PROBE], mask[:_PROBE]), (padded, mask), (padded[None], mask[None])):
        try:
            with torch.no_grad():
                scores = ranker(features, real)
        except Exception as error:
            raise InputError(
                f"ranker: failed on features {list(features.shape)} of ones: {type(error).__name__}: {error}"
            ) from error
        if scores.shape != real.shape:
            raise InputError(
                f"scores: expected {list(real.shape)} of features {list(features.shape)}, got {list(scores.shape)}; "
                "give one score a candidate, without an axis of length 1 after it"
            )
        if not scores.isfinite().all():
            raise InputError(
                f"scores: expected finite ones of a slate of equal candidates, got {scores.flatten()[0]:g}; a "
                "column may be constant, so keep what is divided by away from 0"
            )
        found.append(scores.reshape(-1)[:_PROBE])
    alone, beside, _ = found
    drift = float((alone - beside).abs().max())
    if drift > _MAX_DRIFT * max(1.0, float(alone.abs().max())):
        raise InputError(
            f"scores: expected the same with and without padding, got a difference of {drift:.2g}; what looks across "
            "the candidates (a mean, attention) must leave those out whose mask is 0"
        )


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
