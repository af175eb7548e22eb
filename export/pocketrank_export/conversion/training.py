"""``train.tflite``: the loss of a ranker and steps of training, for no TFLite runtime differentiates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from pocketrank.errors import InputError
from pocketrank_export.conversion.inputs import prepared, score, state_name, trainable_inputs
from pocketrank_export.conversion.operators import converting
from pocketrank_export.conversion.tflite import convert
from pocketrank_export.losses.listwise import softmax
from pocketrank_export.losses.pairwise import ranknet
from pocketrank_export.ranker import Ranker

TRAIN_BATCH = 8
TRAIN_SLATE = 128
BETAS: Final = (0.9, 0.999)
"""Decay of Adam's averages of the gradient and of its square, PyTorch's."""
EPSILON: Final = 1e-8
"""What Adam adds to the root of the latter."""

Optimizer = Literal["sgd", "momentum", "adam"]
DeviceLoss = Literal["softmax", "ranknet"]
Inputs = dict[str, Tensor]
_LOSSES: Final = {"softmax": softmax, "ranknet": ranknet}
_BATCH: Final = ("features", "labels", "mask", "weights")


def to_tflite_train(
    ranker: Ranker,
    batch: int = TRAIN_BATCH,
    slate: int = TRAIN_SLATE,
    *,
    loss: DeviceLoss = "softmax",
    optimizers: Sequence[Optimizer] = ("sgd",),
) -> bytes:
    """Convert a ranker's loss and steps of training, for a device; float32.

    Loss and gradient are traced to one graph, with the trainables and an optimizer's state as inputs and the new ones
    as outputs under the same names, for no TFLite runtime differentiates.

    Args:
        ranker: Its trainables become inputs, the rest constants.
        batch: Slates a step, b >= 1; a slate of weight 0 fills up a smaller batch.
        slate: Candidates a slate, n >= 1; shorter ones are padded.
        loss: ``losses.listwise.softmax``, or ``losses.pairwise.ranknet`` (which holds ``b * n * n`` numbers).
        optimizers: Which steps devices can take, one or more. A learner on a device wants ``sgd``.

    Returns:
        A TFLite file with a signature ``loss``, and one for each optimizer: ``train`` (sgd), ``train_momentum`` and
        ``train_adam``. All take ``features`` ``[b, n, d]``, ``labels`` ``[b, n]``, ``mask`` ``[b, n]``, ``weights``
        ``[b]`` and the trainables, and give ``loss`` ``[]`` (before the step). Steps also take ``learning_rate`` ``[]``
        and give the trainables, with ``g`` the gradient::

            train           p' = p - learning_rate * g
            train_momentum  velocity' = momentum * velocity + g
                            p' = p - learning_rate * velocity'
            train_adam      m' = b1 * m + (1 - b1) * g
                            v' = b2 * v + (1 - b2) * g**2
                            step' = step + 1
                            p' = p - learning_rate * m' / (1 - b1**step') / (sqrt(v' / (1 - b2**step')) + EPSILON)

        ``momentum`` and ``step`` are ``[]``; ``velocity``, ``m`` and ``v`` of the trainable ``head.weight`` are named
        ``head_weight__velocity``, ``head_weight__m``, ``head_weight__v`` (``inputs.state_name``) and have its shape.
        All of an optimizer's state is 0 at first. ``b1, b2`` are the constants ``BETAS``. All float32.

    Guarantees:
        The constants are in the file once, however many signatures there are. Steps are those of ``torch.optim.SGD``
        and ``torch.optim.Adam``.

    Raises:
        InputError: ``batch`` or ``slate`` below 1, an unknown loss or optimizer, none, or one twice, a ranker without
            trainables, or one that can't be converted, see ``inputs.prepared`` and ``operators``.

    Source: Kingma and Ba 2015, "Adam", arXiv:1412.6980, Algorithm 1.
    """
    if batch < 1 or slate < 1:
        raise InputError(f"batch, slate: expected sizes >= 1, got {batch} and {slate}")
    if loss not in _LOSSES:
        raise InputError(f"loss: expected one of {sorted(_LOSSES)}, got {loss!r}")
    chosen = tuple(optimizers)
    if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(get_args(Optimizer)):
        raise InputError(f"optimizers: expected different ones of {get_args(Optimizer)}, one or more, got {chosen}")
    if not ranker.trainable:
        raise InputError("trainable: the ranker has none, so nothing to train; name some in choose_trainable")
    objective = _Objective(prepared(ranker), _LOSSES[loss])
    signatures = {}
    for optimizer in chosen:
        signature, function, state = objective.steps[optimizer]
        inputs = objective.inputs(batch, slate) | {"learning_rate": torch.tensor(0.1)} | state
        signatures[signature] = _trace(function, inputs), inputs
    inputs = objective.inputs(batch, slate)
    signatures["loss"] = _trace(objective.evaluate, inputs), inputs
    return convert(signatures)


class _Objective:
    """The loss of a ranker, and the steps that lower it, as functions of inputs by name."""

    def __init__(self, ranker: Ranker, loss: Callable[..., Tensor]) -> None:
        self._ranker = ranker
        self._loss = loss
        self._parameters = trainable_inputs(ranker)

        def state(*kinds: str) -> Inputs:
            shaped = self._parameters.items()
            return {state_name(name, kind): torch.ones_like(value) for kind in kinds for name, value in shaped}

        self.steps = {
            "sgd": ("train", self._sgd, {}),
            "momentum": ("train_momentum", self._momentum, {"momentum": torch.tensor(0.9)} | state("velocity")),
            "adam": ("train_adam", self._adam, {"step": torch.tensor(1.0)} | state("m", "v")),
        }

    def inputs(self, batch: int, slate: int) -> Inputs:
        """Examples of what every signature takes."""
        features = torch.ones(batch, slate, self._ranker.width)
        lists = {"labels": torch.ones(batch, slate), "mask": torch.ones(batch, slate), "weights": torch.ones(batch)}
        return {"features": features, **lists, **self._parameters}

    def evaluate(self, given: Inputs) -> Inputs:
        return {"loss": self._of({name: given[name] for name in self._parameters}, given)}

    def _of(self, parameters: Inputs, given: Inputs) -> Tensor:
        features, labels, mask, weights = (given[name] for name in _BATCH)
        return self._loss(score(self._ranker, features, mask, parameters), labels, mask, weights)

    def _gradients(self, given: Inputs) -> tuple[Inputs, Inputs]:
        """The loss as an output, and its gradient by the name of the parameter."""
        gradients, value = grad_and_value(self._of)({name: given[name] for name in self._parameters}, given)
        return {"loss": value}, gradients

    def _sgd(self, given: Inputs) -> Inputs:
        made, gradients = self._gradients(given)
        rate = given["learning_rate"]
        return made | {name: given[name] - rate * gradient for name, gradient in gradients.items()}

    def _momentum(self, given: Inputs) -> Inputs:
        made, gradients = self._gradients(given)
        for name, gradient in gradients.items():
            kept = state_name(name, "velocity")
            made[kept] = given["momentum"] * given[kept] + gradient
            made[name] = given[name] - given["learning_rate"] * made[kept]
        return made

    def _adam(self, given: Inputs) -> Inputs:
        made, gradients = self._gradients(given)
        made["step"] = given["step"] + 1.0
        first, second = (1.0 - beta ** made["step"] for beta in BETAS)
        for name, gradient in gradients.items():
            mean, square = state_name(name, "m"), state_name(name, "v")
            made[mean] = BETAS[0] * given[mean] + (1.0 - BETAS[0]) * gradient
            made[square] = BETAS[1] * given[square] + (1.0 - BETAS[1]) * gradient * gradient
            size = made[square].sqrt() / second.sqrt() + EPSILON
            made[name] = given[name] - given["learning_rate"] / first * made[mean] / size
        return made


class _Traced(nn.Module):
    """A traced function under named inputs and outputs."""

    def __init__(self, traced: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.traced = traced
        self.outputs = tuple(outputs)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.outputs, self.traced(*inputs.values()), strict=True))


def _trace(function: Callable[[Inputs], Inputs], inputs: Inputs) -> nn.Module:
    """Trace a function of named tensors, gradients included, to a module of named inputs and outputs."""
    outputs: list[str] = []

    def by_position(*values: Tensor) -> tuple[Tensor, ...]:
        made = function(dict(zip(inputs, values, strict=True)))
        outputs[:] = made
        return tuple(made.values())

    # The converter knows no gradient of attention's fused kernels: the plain one has one of common operators.
    with converting("TFLite"), sdpa_kernel(SDPBackend.MATH):
        traced = make_fx(by_position, decomposition_table=_decompositions())(*inputs.values())
    return _Traced(traced, outputs).eval()


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Gradients as operators that the converter knows: it has none of those of ``gelu``, ``layer_norm`` and others."""
    table: dict[Any, Callable[..., Any]] = dict(torch.export.default_decompositions())

    def empty(size: Sequence[int], _layout: Sequence[int], **options: Any) -> Tensor:
        return torch.zeros(size, dtype=options.get("dtype"))

    # What some of these begin with, before they fill it.
    return table | {torch.ops.aten.empty_permuted.default: empty}
