"""``train.tflite``: the loss of a ranker and a step of training, for no TFLite runtime differentiates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

from pocketrank.errors import InputError
from pocketrank.scorer import input_name
from pocketrank_export.conversion.inputs import named, score, trainable_inputs
from pocketrank_export.conversion.tflite import convert
from pocketrank_export.losses.listwise import softmax
from pocketrank_export.ranker import Ranker, trainables

TRAIN_BATCH = 8
TRAIN_SLATE = 128


class _Traced(nn.Module):
    """A traced function under named inputs and outputs."""

    def __init__(self, traced: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.traced = traced
        self.outputs = tuple(outputs)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.outputs, self.traced(*inputs.values()), strict=True))


def to_tflite_train(ranker: Ranker, batch: int = TRAIN_BATCH, slate: int = TRAIN_SLATE) -> bytes:
    """Convert a ranker's loss and its gradient, for training on a device; float32.

    Loss and gradient are traced to one graph, with the trainables as inputs and the new trainables as outputs, for no
    TFLite runtime differentiates.

    Args:
        ranker: Its trainables become inputs, the rest constants.
        batch: Slates a step, b >= 1; a slate of weight 0 fills up a smaller batch.
        slate: Candidates a slate, n >= 1; shorter ones are padded.

    Returns:
        A TFLite file with two signatures. ``train``: inputs ``features`` ``[b, n, d]``, ``labels`` ``[b, n]``, ``mask``
        ``[b, n]``, ``weights`` ``[b]``, ``learning_rate`` ``[]`` and the trainables; outputs ``loss`` ``[]`` (before
        the step) and the trainables after one step of gradient descent, under the names of the inputs. ``loss``: the
        same without ``learning_rate``; output ``loss``. All float32. The loss is ``losses.softmax``.

    Raises:
        InputError: ``batch`` or ``slate`` below 1.
    """
    if batch < 1 or slate < 1:
        raise InputError(f"batch, slate: expected sizes >= 1, got {batch} and {slate}")
    ranker = deepcopy(ranker).eval()
    names = [name for name, _ in trainables(ranker)]

    def loss(parameters: tuple[Tensor, ...], features: Tensor, labels: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        return softmax(score(ranker, features, mask, named(names, parameters)), labels, mask, weights)

    def train_step(
        features: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, learning_rate: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        gradients, value = grad_and_value(loss)(parameters, features, labels, mask, weights)
        return (value, *(old - learning_rate * gradient for old, gradient in zip(parameters, gradients, strict=True)))

    def evaluate(features: Tensor, labels: Tensor, mask: Tensor, weights: Tensor, *parameters: Tensor) -> tuple[Tensor]:
        return (loss(parameters, features, labels, mask, weights),)

    evaluated = _batch_inputs(ranker, batch, slate) | trainable_inputs(ranker)
    stepped = _batch_inputs(ranker, batch, slate) | {"learning_rate": torch.tensor(0.1)} | trainable_inputs(ranker)
    new = ["loss", *map(input_name, names)]
    return convert(
        {
            "train": (_trace(train_step, stepped, new), stepped),
            "loss": (_trace(evaluate, evaluated, ["loss"]), evaluated),
        }
    )


def _batch_inputs(ranker: Ranker, batch: int, slate: int) -> dict[str, Tensor]:
    lists = torch.ones(batch, slate)
    return {
        "features": torch.ones(batch, slate, ranker.width),
        "labels": lists,
        "mask": lists.clone(),
        "weights": torch.ones(batch),
    }


def _trace(function: Callable[..., tuple[Tensor, ...]], inputs: dict[str, Tensor], outputs: Sequence[str]) -> nn.Module:
    """Trace a function of the inputs' values, gradients included, to a module of named inputs and outputs."""
    return _Traced(make_fx(function)(*inputs.values()), outputs).eval()
