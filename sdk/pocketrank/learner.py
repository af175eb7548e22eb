"""Learning on the device: gradient steps through the bundle's train signature, on the store's own slates.

The same step serves a federated round, which sends the clipped difference, and
personal parameters, which stay here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import TRAIN_MODEL, Bundle
from pocketrank.errors import BundleError, InputError, ModelError
from pocketrank.runtime import Model
from pocketrank.scorer import input_name
from pocketrank.store import DeviceStore

Array = npt.NDArray[np.float32]
Params = Mapping[str, Array]

BATCH: Final = 8
"""Slates in one call of the train signature."""
MAX_PARAMETER: Final = 1e6
"""Training that goes further has failed: tflite-runtime makes large finite numbers of NaN and infinity."""


@dataclass(frozen=True)
class Example:
    """A slate to learn from: ``features`` float32 [n, d] as they were when it was shown, ``labels`` [n], Unix time."""

    features: Array
    labels: Array
    at_s: float = 0.0


def examples(store: DeviceStore, width: int) -> list[Example]:
    """The store's slates that had a good outcome, oldest first; those of another schema's width are left out."""
    return [
        Example(shown.features, shown.labels, shown.at_s)
        for shown in store.impressions()
        if shown.labels.any() and shown.features.shape[1] == width
    ]


class Learner:
    """Gradient steps on a bundle's trainable parameters."""

    def __init__(self, bundle: Bundle) -> None:
        """Build the Interpreter of the train model.

        Raises:
            BundleError: The bundle ships no train model.
        """
        if TRAIN_MODEL not in bundle.files:
            raise BundleError(f"{TRAIN_MODEL} is missing: this bundle can't learn; export it with a trainable head")
        self._model = Model(bundle.files[TRAIN_MODEL])
        self._names = [parameter.name for parameter in bundle.manifest.trainable]
        self._slate = bundle.manifest.slate_sizes[-1]
        self.width = len(bundle.manifest.schema.columns)

    def step(self, params: Params, slates: Sequence[Example], *, learning_rate: float, steps: int = 1) -> Params:
        """Take ``steps`` of gradient descent on the mean loss over ``slates``, each weighing the same.

        A slate without a good outcome among the candidates that the model takes teaches nothing, and doesn't count.

        Raises:
            InputError: A slate has another width than the schema's.
            ModelError: The model failed, or gave parameters that are not finite or larger than ``MAX_PARAMETER``.
        """
        slates = self._useful(slates)
        for _ in range(steps if slates else 0):
            rate = np.array(learning_rate, np.float32)
            params = self._mean([self._call("train", params, batch, learning_rate=rate) for batch in _batches(slates)])
            if not all((np.abs(value) <= MAX_PARAMETER).all() for value in params.values()):
                found = f"training gave parameters that are not finite, or past {MAX_PARAMETER:.0e}"
                raise ModelError(f"{self._model.runtime}: {found}; lower learning_rate")
        return params

    def loss(self, params: Params, slates: Sequence[Example]) -> float:
        """Mean listwise loss over ``slates`` with a good outcome; 0 where there are none.

        Raises:
            InputError: A slate has another width than the schema's.
            ModelError: The model failed.
        """
        slates = self._useful(slates)
        losses = [(n, outputs["loss"]) for n, outputs in (self._call("loss", params, b) for b in _batches(slates))]
        return float(sum(n * value for n, value in losses) / max(len(slates), 1))

    def personal(self, params: Params, slates: Sequence[Example], *, learning_rate: float, steps: int) -> Params | None:
        """Learn from all ``slates`` but the newest, and prove it on that one.

        Args:
            params: Where to start: the shared parameters.
            slates: Oldest first.
            learning_rate: Of each step.
            steps: Over all slates that are learned from.

        Returns:
            Parameters for this device alone, or None where there is too little to
            learn from or the newest slate is not served better by them.
        """
        if len(slates) < 2:
            return None
        *known, newest = slates
        learned = self.step(params, known, learning_rate=learning_rate, steps=steps)
        return learned if self.loss(learned, [newest]) < self.loss(params, [newest]) else None

    def _useful(self, slates: Sequence[Example]) -> list[Example]:
        """The slates that weigh something in the model's loss, so that batches can be averaged by their sizes."""
        for example in slates:
            n = len(example.labels)
            if example.features.shape != (n, self.width):
                raise InputError(f"features: expected [{n}, {self.width}], got {example.features.shape}")
        return [example for example in slates if example.labels[: self._slate].any()]

    def _mean(self, outputs: Sequence[tuple[int, Params]]) -> Params:
        """The step of the whole is the mean of the batches' steps, for each is linear in its mean gradient."""
        slates = sum(n for n, _ in outputs)
        return {
            name: np.sum([np.float32(n / slates) * stepped[input_name(name)] for n, stepped in outputs], axis=0)
            for name in self._names
        }

    def _call(self, signature: str, params: Params, batch: Sequence[Example], **inputs: Array) -> tuple[int, Params]:
        features = np.zeros((BATCH, self._slate, self.width), np.float32)
        labels = np.zeros((BATCH, self._slate), np.float32)
        mask = np.zeros((BATCH, self._slate), np.float32)
        for row, example in enumerate(batch):
            n = min(len(example.labels), self._slate)
            features[row, :n], labels[row, :n], mask[row, :n] = example.features[:n], example.labels[:n], 1.0
        weights = np.zeros(BATCH, np.float32)
        weights[: len(batch)] = 1.0
        head = {input_name(name): params[name] for name in self._names}
        run = self._model.run
        return len(batch), run(
            signature, features=features, labels=labels, mask=mask, weights=weights, **inputs, **head
        )


def _batches(slates: Sequence[Example]) -> list[Sequence[Example]]:
    return [slates[start : start + BATCH] for start in range(0, len(slates), BATCH)]
