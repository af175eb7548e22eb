"""A bundle's model as one call: features in, finite scores out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import RANK_MODEL, Bundle
from pocketrank.errors import InputError, ModelError
from pocketrank.runtime import Model
from pocketrank.schema import Schema

Array = npt.NDArray[np.float32]
EXPLAIN: Final = "explain"
"""Signature that scores variants of a slate, ``[v, n, d]``."""
MAX_SCORE: Final = 1e30
"""Scores past it were infinite: tflite-runtime's kernels cut them off at float32's largest number."""


def input_name(parameter: str) -> str:
    """Name of a parameter among a signature's inputs, which TFLite wants without dots."""
    return parameter.replace(".", "_")


def variants_of(schema: Schema) -> int:
    """Slates in one call of ``explain``: one as it is, and one for each feature that gives columns."""
    return 1 + sum(bool(schema.columns_of(feature)) for feature in schema.features)


class Scorer:
    """Scores slates with the signatures of a bundle's ranking model; any number of threads may share it.

    Attributes:
        params: The bundle's own trainable parameters, used where none are given.
        largest: Most candidates that one call takes.
        most_variants: Most variants of a slate that one call takes.
        runtime: Name of the distribution that runs the model.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Build the first Interpreter; the pool is shared by all who hold this scorer.

        Raises:
            ModelError: The runtime refuses the model.
            RuntimeMissingError: No TFLite runtime works here.
        """
        schema = bundle.manifest.schema
        self._model = Model(bundle.rank_models())
        self._sizes = bundle.manifest.slate_sizes
        self._signatures = [f"rank_{size}" for size in self._sizes]
        self._width = len(schema.columns)
        self.runtime = self._model.runtime
        self.params: Mapping[str, Array] = bundle.params()
        self.largest = self._sizes[-1]
        self.most_variants = variants_of(schema)
        # Every mask is a slice of this one.
        self._steps = np.repeat(np.array([1.0, 0.0], np.float32), self.largest)
        self._own = _inputs(self.params)
        self._latest: tuple[Mapping[str, Array], dict[str, Array]] = self.params, self._own

    @property
    def runtime_version(self) -> str:
        """Version of the runtime's distribution."""
        return self._model.runtime_version

    def scores(self, features: Array, params: Mapping[str, Array] | None = None) -> Array:
        """Score a slate, padded to the smallest signature that holds it.

        Args:
            features: float32 ``[n, d]``.
            params: Trainable parameters, the bundle's own where None. A mapping is read when it is first seen: give
                another one rather than change it.

        Returns:
            float32 ``[n]``, the caller's own.

        Raises:
            InputError: More candidates than the largest slate, or another width than the schema's.
            ModelError: The model failed, or gave a score that is not finite.
        """
        n = len(features)
        if features.shape != (n, self._width) or n > self.largest:
            raise InputError(f"features: expected [n <= {self.largest}, {self._width}], got {features.shape}")
        at = bisect_left(self._sizes, n)
        size = self._sizes[at]
        padded = np.empty((size, self._width), np.float32)
        padded[:n] = features
        padded[n:] = 0.0
        return self._finite(self._run(self._signatures[at], padded, self._mask(n, size), params)[:n])

    def variants(self, features: Array, params: Mapping[str, Array] | None = None) -> Array:
        """Score several slates of as many candidates in one call of the model.

        Args:
            features: float32 ``[v, n, d]``, such as one slate with another feature at its default in each variant.
            params: As of ``scores``.

        Returns:
            float32 ``[v, n]``: of each slate what ``scores`` gives, up to rounding.

        Raises:
            InputError: More variants than ``most_variants``, more candidates than the largest slate, or another width
                than the schema's.
            ModelError: The model has no signature for it or failed, or gave a score that is not finite.
        """
        v, n, d = features.shape if features.ndim == 3 else (0, 0, 0)
        if d != self._width or v > self.most_variants or n > self.largest:
            expected = f"[v <= {self.most_variants}, n <= {self.largest}, {self._width}]"
            raise InputError(f"features: expected {expected}, got {features.shape}")
        padded = np.zeros((self.most_variants, self.largest, self._width), np.float32)
        padded[:v, :n] = features
        mask = np.zeros((self.most_variants, self.largest), np.float32)
        mask[:v, :n] = 1.0
        if EXPLAIN not in self._model.signatures:
            raise ModelError(
                f"{RANK_MODEL}: no signature {EXPLAIN!r}, which explanations need; export the bundle again"
            )
        return self._finite(self._run(EXPLAIN, padded, mask, params)[:v, :n])

    def _mask(self, n: int, size: int) -> Array:
        """float32 ``[size]``: ``n`` ones, then zeros."""
        start = self.largest - n
        return self._steps[start : start + size]

    def _run(self, signature: str, features: Array, mask: Array, params: Mapping[str, Array] | None) -> Array:
        """Scores of the shape of ``mask``, of padding too."""
        outputs = self._model.run(signature, features=features, mask=mask, **self._head(params))
        scores = outputs.get("scores")
        if scores is None or len(outputs) != 1 or scores.shape != mask.shape:
            shapes = {name: value.shape for name, value in outputs.items()}
            raise ModelError(f"{self.runtime}: {signature} gave {shapes}; expected scores {list(mask.shape)}")
        return scores

    def _finite(self, scores: Array) -> Array:
        # One pass tells; NaN is not below anything.
        if not np.abs(scores).max(initial=0.0) < MAX_SCORE:
            wrong = int(np.sum(~(np.abs(scores) < MAX_SCORE)))
            raise ModelError(f"{self.runtime}: {wrong} of {scores.size} scores are not finite")
        return scores

    def _head(self, params: Mapping[str, Array] | None) -> dict[str, Array]:
        """The parameters as inputs; those of the mapping that was used last are kept."""
        if params is None:
            return self._own
        latest, head = self._latest
        if latest is not params:
            head = _inputs(params)
            self._latest = params, head
        return head


def _inputs(params: Mapping[str, Array]) -> dict[str, Array]:
    return {input_name(name): np.asarray(value, np.float32) for name, value in params.items()}
