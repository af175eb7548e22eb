"""Steps of training on both TFLite runtimes, beside PyTorch's autograd and optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pocketrank.errors import InputError
from pocketrank.scorer import input_name
from pocketrank_export.conversion.inputs import state_name
from pocketrank_export.conversion.training import TRAIN_BATCH, TRAIN_SLATE, DeviceLoss, to_tflite_train
from pocketrank_export.losses.listwise import softmax
from pocketrank_export.losses.pairwise import ranknet
from pocketrank_export.ranker import trainables
from pocketrank_export.student import Student
from tests.export import heads

Array = NDArray[np.float32]
Lists = Callable[..., tuple[Array, Array]]
Losses = Mapping[str, Callable[..., torch.Tensor]]
LOSSES: Losses = {"softmax": softmax, "ranknet": ranknet}
WIDTH, BATCH, SLATE, STEPS = 7, 4, 12, 100

OPTIMIZERS: Mapping[str, tuple[str, Callable[..., torch.optim.Optimizer], dict[str, float], tuple[str, ...]]] = {
    "sgd": ("train", torch.optim.SGD, {"lr": 0.3}, ()),
    "momentum": ("train_momentum", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}, ("velocity",)),
    "adam": ("train_adam", torch.optim.Adam, {"lr": 0.02}, ("m", "v")),
}
"""Signature, PyTorch's optimizer, its options, and what is kept of each parameter."""


@pytest.fixture(scope="module")
def whole() -> Student:
    """A small student, all of whose weights devices train."""
    torch.manual_seed(8)
    made = Student([True] * WIDTH, (8,)).eval()
    torch.nn.init.normal_(made.head.weight, std=0.3)
    made.choose_trainable("all")
    return made


@pytest.fixture(scope="module")
def step_files(whole: Student) -> Mapping[DeviceLoss, bytes]:
    return {
        "softmax": to_tflite_train(whole, BATCH, SLATE, optimizers=("sgd", "momentum", "adam")),
        "ranknet": to_tflite_train(whole, BATCH, SLATE, loss="ranknet"),
    }


def batches(steps: int, seed: int = 3) -> dict[str, Array]:
    """Batches of lists of unlike lengths and scales, some without a positive label, some of weight 0."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, SLATE + 1, (steps, BATCH, 1))
    mask = (np.arange(SLATE) < lengths).astype(np.float32)
    features = rng.normal(size=(steps, BATCH, SLATE, WIDTH))
    features[..., 1] = np.exp(3.0 * features[..., 1])
    features[..., 2] = 1990.0 + 10.0 * features[..., 2]
    labels = rng.choice([0.0, 1.0, 3.0], (steps, BATCH, SLATE), p=[0.7, 0.2, 0.1]) * mask
    weights = rng.uniform(0.5, 2.0, (steps, BATCH)) * (rng.random((steps, BATCH)) < 0.9)
    held = {"features": features * mask[..., None], "labels": labels, "mask": mask, "weights": weights}
    return {name: np.asarray(value, np.float32) for name, value in held.items()}


def in_pytorch(
    student: Student, loss: str, optimizer: str, given: Mapping[str, Array]
) -> tuple[list[float], list[dict[str, Array]], Array]:
    """Losses, the parameters after each step, and the scores of the last batch then."""
    _, make, options, _ = OPTIMIZERS[optimizer]
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in heads.own(student).items()}
    stepper = make(leaves.values(), **options)
    losses, taken = [], []
    for features, labels, mask, weights in zip(
        *(torch.tensor(given[name]) for name in ("features", "labels", "mask", "weights")), strict=True
    ):
        stepper.zero_grad()
        value = LOSSES[loss](heads.score(student, features, mask, leaves), labels, mask, weights)
        value.backward()
        stepper.step()
        losses.append(value.item())
        taken.append({name: leaf.detach().numpy().copy() for name, leaf in leaves.items()})
    return losses, taken, heads.score(student, features, mask, leaves).detach().numpy()


@pytest.mark.parametrize(
    ("loss", "optimizer"), [("softmax", "sgd"), ("ranknet", "sgd"), ("softmax", "momentum"), ("softmax", "adam")]
)
def test_one_step_is_pytorchs_within_1e_5_and_a_hundred_within_1e_3(
    loss: DeviceLoss, optimizer: str, device: Any, step_files: Mapping[str, bytes], whole: Student
) -> None:
    signature, _, options, kinds = OPTIMIZERS[optimizer]
    given, own = batches(STEPS), heads.own(whole)
    inputs = {"learning_rate": "lr", "momentum": "momentum"}
    numbers = {name: np.full(STEPS, options[word], np.float32) for name, word in inputs.items() if word in options}
    kept = {state_name(name, kind): np.zeros(shape) for name, shape in trainables(whole) for kind in kinds}
    state = own | kept | ({"step": np.zeros(())} if optimizer == "adam" else {})
    state = {name: value.astype(np.float32) for name, value in state.items()}
    outputs, signatures = device.run(step_files[loss], signature, given | numbers, state)
    losses, taken, scores = in_pytorch(whole, loss, optimizer, given)
    assert sorted(signatures[signature]["inputs"]) == sorted([*given, *numbers, *state])
    assert sorted(signatures[signature]["outputs"]) == sorted(["loss", *state])
    # No list's loss depends on the last bias: its gradient is rounding, of which Adam makes steps of any direction.
    compared = set(own) - ({"layers_1_bias"} if optimizer == "adam" else set())
    for name in compared:
        np.testing.assert_allclose(outputs[name][0], taken[0][name], rtol=0, atol=1e-5)
        np.testing.assert_allclose(outputs[name][-1], taken[-1][name], rtol=0, atol=1e-3)
        assert np.abs(taken[-1][name] - own[name]).max() > 0.02 or name == "layers_1_bias"
    np.testing.assert_allclose(outputs["loss"][0], losses[0], atol=1e-5)
    np.testing.assert_allclose(outputs["loss"], losses, atol=1e-3)
    trained = {name: outputs[name][-1] for name in own}
    features, mask = torch.tensor(given["features"][-1]), torch.tensor(given["mask"][-1])
    found = heads.score(whole, features, mask, trained).detach().numpy()
    np.testing.assert_allclose(
        found - found[:, :1] * given["mask"][-1], scores - scores[:, :1] * mask.numpy(), atol=2e-3
    )
    if optimizer == "adam":
        np.testing.assert_array_equal(outputs["step"], np.arange(1.0, STEPS + 1.0))


def training_batch(lists: Lists, seed: int = 1) -> dict[str, Array]:
    """A full batch: lists of unlike lengths, one of weight 0, one without a positive label."""
    rng = np.random.default_rng(seed)
    features, _ = lists(TRAIN_BATCH, TRAIN_SLATE, TRAIN_SLATE, seed=seed)
    mask = (np.arange(TRAIN_SLATE) < rng.integers(10, TRAIN_SLATE + 1, TRAIN_BATCH)[:, None]).astype(np.float32)
    labels = (rng.random((TRAIN_BATCH, TRAIN_SLATE)) < 0.1).astype(np.float32) * mask
    labels[2] = 0.0
    weights = rng.uniform(0.5, 2.0, TRAIN_BATCH).astype(np.float32)
    weights[5] = 0.0
    return {"features": features * mask[..., None], "labels": labels, "mask": mask, "weights": weights}


def once(inputs: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(value, np.float32)[None] for name, value in inputs.items()}


def test_one_step_of_the_head_is_pytorchs(device: Any, train_file: bytes, student: Student, lists: Lists) -> None:
    """In the file that devices train with by default: its names are what the SDK's learner calls."""
    batch = training_batch(lists)
    rate, start = 0.25, heads.drawn(student, 4)
    inputs = batch | {"learning_rate": np.float32(rate)} | start
    outputs, signatures = device.run(train_file, "train", once(inputs))
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    given = {name: torch.tensor(value) for name, value in batch.items()}
    loss = softmax(
        heads.score(student, given["features"], given["mask"], leaves), given["labels"], given["mask"], given["weights"]
    )
    loss.backward()
    assert {name: (sorted(one["inputs"]), sorted(one["outputs"])) for name, one in signatures.items()} == {
        "train": (sorted(inputs), ["head_lift", "head_weight", "loss"]),
        "loss": (sorted(set(inputs) - {"learning_rate"}), ["loss"]),
    }
    np.testing.assert_allclose(outputs["loss"][0], loss.item(), rtol=1e-5)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        np.testing.assert_allclose(outputs[name][0], start[name] - rate * leaf.grad.numpy(), atol=1e-5)
    again, _ = device.run(train_file, "loss", once(batch | start))
    np.testing.assert_allclose(again["loss"], outputs["loss"], rtol=1e-6)


def test_steps_on_a_device_lower_the_loss(device: Any, train_file: bytes, student: Student, lists: Lists) -> None:
    batch = training_batch(lists)
    batch["labels"] = (batch["features"][..., 1] > 40.0).astype(np.float32) * batch["mask"]
    calls = {name: np.repeat(value[None], 5, axis=0) for name, value in batch.items()}
    rates = {"learning_rate": np.full(5, 0.3, np.float32)}
    outputs, _ = device.run(train_file, "train", calls | rates, heads.none(student))
    losses = outputs["loss"].tolist()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("name", "changed"),
    [("weights", 0.0), ("labels", 0.0)],
    ids=["all slates have weight 0", "no slate has a positive label"],
)
def test_a_batch_without_anything_to_learn_leaves_the_parameters_alone(
    name: str, changed: float, device: Any, train_file: bytes, student: Student, lists: Lists
) -> None:
    start, batch = heads.drawn(student, 4), training_batch(lists)
    inputs = batch | {name: np.full_like(batch[name], changed), "learning_rate": np.float32(1.0)} | start
    outputs, _ = device.run(train_file, "train", once(inputs))
    assert outputs["loss"][0] == 0.0
    for parameter, value in start.items():
        np.testing.assert_array_equal(outputs[parameter][0], value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch, slate: expected"),
        ({"slate": 0}, "batch, slate: expected"),
        ({"loss": "hinge"}, "loss: expected one of"),
        ({"optimizers": ()}, "optimizers: expected different ones"),
        ({"optimizers": ("sgd", "sgd")}, "optimizers: expected different ones"),
        ({"optimizers": ("lion",)}, "optimizers: expected different ones"),
    ],
)
def test_impossible_training_is_refused(options: dict[str, Any], words: str, student: Student) -> None:
    with pytest.raises(InputError, match=words):
        to_tflite_train(student, **options)


def test_a_ranker_with_nothing_to_train_is_refused() -> None:
    frozen = Student([True])
    frozen.choose_trainable(())
    with pytest.raises(InputError, match="trainable: the ranker has none"):
        to_tflite_train(frozen)


def test_states_and_parameters_never_share_a_name() -> None:
    assert state_name("head.weight", "velocity") == "head_weight__velocity" != input_name("head.weight.velocity")
