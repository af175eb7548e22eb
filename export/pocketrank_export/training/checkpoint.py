"""A fit that was killed goes on: all that the next epoch depends on, in one file that is whole or not there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from pocketrank.bundle import load_arrays, save_arrays
from pocketrank.durable import write_atomically
from pocketrank.errors import BundleError, InputError
from pocketrank_export.training.recipe import Recipe

MAX_CHECKPOINT_BYTES: Final = 1 << 32


@dataclass(frozen=True)
class Reached:
    """How far a fit has come.

    Attributes:
        epochs: Done.
        best: The best validation nDCG@10 so far; -1 before the first epoch.
        since: Epochs since then.
        kept: The model's state at that epoch.
    """

    epochs: int
    best: float
    since: int
    kept: Mapping[str, Tensor]


@dataclass(frozen=True)
class Fit:
    """The parts of a fit that change from step to step; torch's random state is the fourth."""

    model: nn.Module
    optimiser: Optimizer
    schedule: OneCycleLR


def fingerprint(recipe: Recipe, model: nn.Module, arrays: Sequence[npt.NDArray[Any] | None]) -> str:
    """What a checkpoint must be of, as SHA-256: the recipe, the model's shapes, the bytes of the data, torch's version.

    Not of the initial weights: a model that was trained up to the checkpoint may go on, too.
    """
    digest = hashlib.sha256(f"{torch.__version__} {recipe!r}".encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {list(value.shape)};".encode())
    for array in arrays:
        digest.update(b"none;" if array is None else f"{array.dtype} {array.shape};".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save(path: Path, digest: str, fit: Fit, reached: Reached) -> None:
    """Write a checkpoint; the former one stays until the new one is whole.

    Raises:
        OSError: It could not be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "digest": np.array(digest),
        "epochs": np.array(reached.epochs),
        "best": np.array(reached.best),
        "since": np.array(reached.since),
        "random": torch.get_rng_state().numpy(),
        "steps": np.array(fit.schedule.last_epoch),
    }
    for number, group in enumerate(fit.optimiser.param_groups):
        # The cycle moves both, and works them out anew only after the next step.
        arrays[f"group/{number}"] = np.array([group["lr"], *group["betas"]])
    for number, values in fit.optimiser.state_dict()["state"].items():
        arrays |= {f"optimiser/{number}/{name}": value.numpy() for name, value in values.items()}
    arrays |= {f"model/{name}": value.numpy() for name, value in fit.model.state_dict().items()}
    arrays |= {f"best/{name}": value.numpy() for name, value in reached.kept.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save_arrays(arrays))


def restore(path: Path, digest: str, fit: Fit) -> Reached | None:
    """Put ``fit`` and torch's random state back to where they were at the checkpoint.

    Returns:
        How far that was; None where there is no file.

    Raises:
        InputError: The checkpoint is of another recipe, model, data or version of torch, or not a checkpoint at all.
            It is refused, not overwritten: it may be hours of somebody's work.
    """
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_CHECKPOINT_BYTES:
            raise BundleError(f"{path.stat().st_size} bytes; expected at most {MAX_CHECKPOINT_BYTES}")
        arrays = load_arrays(path.read_bytes(), MAX_CHECKPOINT_BYTES)
        found = str(arrays["digest"])
    except (BundleError, KeyError) as error:
        raise InputError(f"checkpoint: {path} is not a checkpoint ({error}); remove it or name another file") from error
    if found != digest:
        raise InputError(
            f"checkpoint: {path} is of another recipe, model, data or version of torch ({found[:12]}, expected "
            f"{digest[:12]}); remove it or name another file"
        )
    fit.model.load_state_dict(_under(arrays, "model/"))
    state = fit.optimiser.state_dict()
    for number, group in enumerate(state["param_groups"]):
        rate, *betas = arrays[f"group/{number}"].tolist()
        group["lr"], group["betas"] = rate, tuple(betas)
    state["state"] = {}
    for name, value in _under(arrays, "optimiser/").items():
        owner, key = name.split("/")
        state["state"].setdefault(int(owner), {})[key] = value
    fit.optimiser.load_state_dict(state)
    steps = int(arrays["steps"])
    rates = [group["lr"] for group in state["param_groups"]]
    fit.schedule.load_state_dict({"last_epoch": steps, "_step_count": steps + 1, "_last_lr": rates})
    torch.set_rng_state(torch.from_numpy(arrays["random"]))
    return Reached(int(arrays["epochs"]), float(arrays["best"]), int(arrays["since"]), _under(arrays, "best/"))


def _under(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, Tensor]:
    """The arrays whose name begins with ``prefix``, as tensors by the rest of it."""
    return {
        name.removeprefix(prefix): torch.from_numpy(value) for name, value in arrays.items() if name.startswith(prefix)
    }
