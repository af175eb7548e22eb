"""How far a training on the device has come, kept in its store so that a kill costs a few steps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import load_arrays, save_arrays
from pocketrank.errors import BundleError
from pocketrank.store import DeviceStore

Params = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Training:
    """All that decides how a training goes on.

    Attributes:
        data: Hash of what it learns from.
        base: Hash of the parameters that the device ranks with.
        params: Where it is.
        best: Where the loss that ends it was lowest.
        best_loss: That loss.
        best_step: The step that led there.
        steps: Steps taken.
        ended: Whether there is nothing left to do on this data.
    """

    data: str
    base: str
    params: Params
    best: Params
    best_loss: float = math.inf
    best_step: int = 0
    steps: int = 0
    ended: bool = False

    def after(self, params: Params, loss: float) -> Training:
        """Where a step leads that ends at ``params``, with their ``loss``."""
        moved = replace(self, params=params, steps=self.steps + 1)
        return replace(moved, best=params, best_loss=loss, best_step=moved.steps) if loss < self.best_loss else moved

    def to_bytes(self) -> bytes:
        """Arrays as ``bundle.save_arrays`` writes them; twice the size of the parameters and about 2 kB."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "hashes": np.array([self.data, self.base]),
            "counts": np.array([self.best_step, self.steps, self.ended], np.int64),
            "best_loss": np.array(self.best_loss, np.float64),
        }
        for part, params in (("params", self.params), ("best", self.best)):
            arrays |= {f"{part}/{name}": value for name, value in params.items()}
        return save_arrays(arrays)

    @classmethod
    def of(cls, content: bytes, names: Iterable[str]) -> Training | None:
        """Read what ``to_bytes`` wrote of parameters of these ``names``; None where it is something else."""
        try:
            arrays = load_arrays(content)
            data, base = arrays["hashes"].tolist()
            best_step, steps, ended = arrays["counts"].tolist()
            params, best = ({name: arrays[f"{part}/{name}"] for name in names} for part in ("params", "best"))
            return cls(data, base, params, best, float(arrays["best_loss"]), best_step, steps, bool(ended))
        except (BundleError, KeyError, ValueError, TypeError):
            return None


class SupersededError(Exception):
    """What a training started from is not in the store any more; it never leaves ``Learner``."""


class Checkpoint:
    """A training's place in the store, which it leaves to anybody else who has written there meanwhile."""

    def __init__(self, store: DeviceStore, bundle: str, names: Sequence[str]) -> None:
        """Read what an earlier call left on the bundle with this digest, whose trainable parameters have ``names``."""
        self._store = store
        self._bundle = bundle
        self._content = store.progress(bundle)
        self._personal = hash_of_params(store.personal(bundle))
        self.training = None if self._content is None else Training.of(self._content, names)

    def keep(self, training: Training, params: Params | None = None) -> None:
        """Save ``training``, and with it ``params`` as the device's personal ones, or neither.

        Raises:
            SupersededError: The store was wiped, an undo went back, or other parameters or another training were kept
                since the last look at it; nothing is saved.
            StoreError: The store can't be used.
        """
        store, bundle = self._store, self._bundle
        with store.together():
            if store.progress(bundle) != self._content or hash_of_params(store.personal(bundle)) != self._personal:
                raise SupersededError
            content = training.to_bytes()
            if params is not None:
                store.keep_personal(bundle, params)
            store.keep_progress(bundle, content)
        self._content = content
        if params is not None:
            self._personal = hash_of_params(params)


def hash_of(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """Hash of the arrays' types, shapes and values, in order."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape};".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def hash_of_params(params: Params | None) -> str:
    """Hash of parameters, whatever their order; empty where there are none."""
    return "" if params is None else hash_of([params[name] for name in sorted(params)])
