"""A bundle's model as one call: features in, finite scores out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import RANK_MODEL, Bundle
from pocketrank.errors import InputError, ModelError
from pocketrank.runtime import Model

Array = npt.NDArray[np.float32]
MAX_SCORE: Final = 1e30
"""Scores past it were infinite: tflite-runtime's kernels cut them off at float32's largest number."""


def input_name(parameter: str) -> str:
    """Name of a parameter among a signature's inputs, which TFLite wants without dots."""
    return parameter.replace(".", "_")


class Scorer:
    """Scores slates with the ``rank`` signatures of a bundle.

    Attributes:
        params: The bundle's own trainable parameters, used where none are given.
        largest: Most candidates that one call takes.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Build the Interpreter; it is shared by all who hold this scorer.

        Raises:
            ModelError: The runtime refuses the model.
            RuntimeMissingError: No TFLite runtime works here.
        """
        self._model = Model(bundle.files[RANK_MODEL])
        self._sizes = bundle.manifest.slate_sizes
        self._width = len(bundle.manifest.schema.columns)
        self.runtime = self._model.runtime
        self.runtime_version = self._model.runtime_version
        self.params: Mapping[str, Array] = bundle.params()
        self.largest = self._sizes[-1]

    def scores(self, features: Array, params: Mapping[str, Array] | None = None) -> Array:
        """Score ``features`` [n, d] padded to the smallest slate that holds them; returns float32 ``[n]``.

        Raises:
            InputError: More candidates than the largest slate, or another width than the schema's.
            ModelError: The model failed, or gave a score that is not finite.
        """
        n = len(features)
        if features.shape != (n, self._width) or n > self.largest:
            raise InputError(f"features: expected [n <= {self.largest}, {self._width}], got {features.shape}")
        size = next(size for size in self._sizes if size >= n)
        padded = np.zeros((size, self._width), np.float32)
        padded[:n] = features
        mask = np.zeros(size, np.float32)
        mask[:n] = 1.0
        head = {input_name(name): value for name, value in (self.params if params is None else params).items()}
        outputs = self._model.run(f"rank_{size}", features=padded, mask=mask, **head)
        if outputs.keys() != {"scores"} or outputs["scores"].shape != (size,):
            shapes = {name: value.shape for name, value in outputs.items()}
            raise ModelError(f"{self.runtime}: rank_{size} gave {shapes}; expected scores [{size}]")
        scores = outputs["scores"][:n]
        usable = np.abs(scores) < MAX_SCORE
        if not usable.all():
            raise ModelError(f"{self.runtime}: {int((~usable).sum())} of {n} scores are not finite")
        return scores
