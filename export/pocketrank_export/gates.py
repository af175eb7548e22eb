"""Gates that a bundle passes before it is signed: the float model's scores, on every runtime."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pocketrank.bundle import Bundle, build, load_arrays, save_arrays
from pocketrank.errors import GateError, InputError, ModelError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import kendall_tau, ndcg_each

MIN_KENDALL_TAU: Final = 0.98
MAX_NDCG_LOSS: Final = 0.005
"""Relative loss of nDCG@10 against the float model."""
_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True)
class RuntimeScores:
    """What one runtime made of the slates: ``scores`` float32 ``[s, n]``."""

    runtime: str
    version: str
    scores: Array


@dataclass(frozen=True)
class Parity:
    """A runtime beside the float model, over the same slates."""

    finite: bool
    kendall_tau: float
    ndcg: float
    ndcg_float: float

    @property
    def ndcg_loss(self) -> float:
        """Relative loss of nDCG@10; negative where it gained."""
        return (self.ndcg_float - self.ndcg) / self.ndcg_float if self.ndcg_float > 0 else 0.0


def score_on(python: str | Path, bundle: Path, slates: Slates) -> RuntimeScores:
    """Score ``slates`` with ``bundle`` in the environment of the interpreter ``python``.

    Raises:
        GateError: The model fails there, or gives scores that are not finite.
        InputError: That environment can't do it; the message holds what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "slates.npz", Path(folder) / "scores.npz"
        given.write_bytes(save_arrays({"features": slates.features, "mask": slates.mask}))
        said = _verification(python, bundle, given, made)
        if said is not None and ModelError.__name__ in said:
            raise GateError(f"finite: the model can't be used on the runtime of {python}: {said.splitlines()[-1]}")
        if said is not None:
            raise InputError(f"{python}: could not score {bundle}; it said: {said}")
        arrays = load_arrays(made.read_bytes())
    name, version = arrays["runtime"].tolist()
    return RuntimeScores(name, version, arrays["scores"])


def _verification(python: str | Path, *words: Path) -> str | None:
    """Run ``pocketrank.verification`` in another environment; what it said where it failed."""
    command = [str(python), "-m", "pocketrank.verification", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
    return done.stderr.strip()[-2000:] if done.returncode else None


def parity(scores: Array, reference: Array, slates: Slates) -> Parity:
    """Compare ``scores`` [s, n] with the float model's ``reference`` [s, n]."""
    finite = bool(np.isfinite(scores).all())
    return Parity(
        finite=finite,
        kendall_tau=kendall_tau(scores, reference, slates.mask) if finite else float("nan"),
        ndcg=float(ndcg_each(scores, slates).mean()) if finite else 0.0,
        ndcg_float=float(ndcg_each(reference, slates).mean()),
    )


def check_parity(name: str, found: Parity) -> None:
    """Stop a bundle whose scores on runtime ``name`` are not the float model's.

    Raises:
        GateError: The gate that stopped it, the figure and the bound.
    """
    if not found.finite:
        raise GateError(f"finite ({name}): the model gives NaN or infinity; quantize with a recipe that fits {name}")
    if not found.kendall_tau >= MIN_KENDALL_TAU:
        raise GateError(
            f"kendall_tau ({name}): {found.kendall_tau:.4f} to the float model, >= {MIN_KENDALL_TAU} wanted"
        )
    if not found.ndcg_loss <= MAX_NDCG_LOSS:
        raise GateError(f"ndcg ({name}): {found.ndcg_loss:.2%} below the float model, <= {MAX_NDCG_LOSS:.1%} wanted")


def check_cold_start(scores: Array, slates: Slates) -> float:
    """Stop a bundle that serves a device without any history worse than the first stage would alone.

    Args:
        scores: ``[s, n]`` of ``slates``.
        slates: Candidates in the first stage's order, private columns as on a new device.

    Returns:
        nDCG@10 of ``scores``.

    Raises:
        GateError: It is below the first stage's.
    """
    given = np.broadcast_to(-np.arange(scores.shape[1], dtype=np.float32), scores.shape)
    found, first_stage = (float(ndcg_each(order, slates).mean()) for order in (scores, given))
    if not found >= first_stage:
        raise GateError(f"cold_start: nDCG@10 {found:.4f} on devices without a history, >= {first_stage:.4f} wanted")
    return found


def prove(
    bundle: Bundle, reference: Array, slates: Slates, pythons: Sequence[str | Path] = (sys.executable,)
) -> Bundle:
    """Put ``bundle`` through the gates in the environment of each of ``pythons``.

    Args:
        bundle: What is to be released.
        reference: The float model's scores ``[s, n]`` of ``slates``.
        slates: Real slates with labels, which were not trained on.
        pythons: Interpreters, each with a runtime of its own.

    Returns:
        The bundle, its manifest now naming the runtimes and figures that it was proven with.

    Raises:
        GateError: A gate stopped the bundle.
    """
    runtimes: dict[str, str] = {}
    report: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "bundle"
        bundle.save(saved)
        for python in pythons:
            found = score_on(python, saved, slates)
            compared = parity(found.scores, reference, slates)
            check_parity(found.runtime, compared)
            runtimes[found.runtime] = found.version
            report |= {
                f"ndcg_at_10.float.{found.runtime}": compared.ndcg_float,
                f"ndcg_at_10.quantized.{found.runtime}": compared.ndcg,
                f"kendall_tau.{found.runtime}": compared.kendall_tau,
            }
        for python, name in zip(pythons, runtimes, strict=True):
            if (said := _verification(python, saved)) is not None:
                raise GateError(f"self_test ({name}): {said.splitlines()[-1]}")
    manifest = dataclasses.replace(bundle.manifest, runtimes=runtimes, report={**bundle.manifest.report, **report})
    return build(manifest, bundle.files)
