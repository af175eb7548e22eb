"""What each TFLite runtime makes of a bundle; every one runs in an environment of its own.

The work is done there by ``pocketrank.verification``, which takes of a bundle the file that is meant for its runtime.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketrank.bundle import Bundle, load_arrays, save_arrays
from pocketrank.errors import BundleError, GateError, InputError, ModelError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.environments import probe

TIMEOUT_S: Final = 600.0
_MODEL_ERROR: Final = f"{ModelError.__module__}.{ModelError.__qualname__}: "


@dataclass(frozen=True)
class RuntimeScores:
    """What one runtime made of slates.

    Attributes:
        runtime: Name of its distribution.
        version: Of the distribution.
        scores: float32 ``[s, n]``, 0 where padded.
        p50_us: Median time of one call, microseconds.
    """

    runtime: str
    version: str
    scores: Array
    p50_us: float


@dataclass(frozen=True)
class Trial:
    """A bundle on one runtime.

    Attributes:
        runtime: Name of its distribution.
        version: Of the distribution.
        found: Scores and time; None where the model can't be used there.
        failure: Why it can't, as the gate ``finite`` says it; empty where it can.
        golden: What the self-test found wrong, as the gate ``golden`` says it; empty where nothing.
    """

    runtime: str
    version: str
    found: RuntimeScores | None
    failure: str = ""
    golden: str = ""


def score_on(python: str | Path, bundle: Path, slates: Slates, *, timeout_s: float = TIMEOUT_S) -> RuntimeScores:
    """Score ``slates`` with the bundle in the folder ``bundle``, in the environment of the interpreter ``python``.

    Raises:
        GateError: The model fails there, kills the process, takes longer than ``timeout_s``, or gives scores that are
            not finite. The message begins with the gate ``finite`` and the runtime.
        InputError: That environment can't do it; the message holds what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "slates.npz", Path(folder) / "scores.npz"
        given.write_bytes(save_arrays({"features": slates.features, "mask": slates.mask}))
        _verify("finite", python, (bundle, given, made), timeout_s)
        try:
            arrays = load_arrays(made.read_bytes(), max_bytes=slates.mask.nbytes + (1 << 20))
            name, version = arrays["runtime"].tolist()
            found = RuntimeScores(name, version, arrays["scores"], float(arrays["p50_us"]))
        except (OSError, BundleError, KeyError, ValueError) as error:
            raise InputError(
                f"{python}: gave no scores ({error!r}); install the PocketRank of this one there"
            ) from error
    if found.scores.shape != slates.mask.shape:
        raise InputError(f"{python}: gave scores {found.scores.shape}; expected {slates.mask.shape}")
    return found


def self_test_on(python: str | Path, bundle: Path, *, timeout_s: float = TIMEOUT_S) -> None:
    """Run the self-test of the bundle in the folder ``bundle``, in the environment of the interpreter ``python``.

    Raises:
        GateError: It fails, kills the process or takes longer than ``timeout_s``. The message begins with the gate
            ``golden`` and the runtime.
        InputError: That environment can't do it; the message holds what it said.
    """
    _verify("golden", python, (bundle,), timeout_s)


def try_on(python: str | Path, bundle: Path, slates: Slates) -> Trial:
    """Both of the above; where the bundle fails that is part of the answer.

    Raises:
        InputError: That environment can't do it; the message holds what it said.
    """
    environment = probe(python)
    found, failure, golden = None, "", ""
    try:
        found = score_on(python, bundle, slates)
    except GateError as error:
        failure = str(error)
    try:
        self_test_on(python, bundle)
    except GateError as error:
        golden = str(error)
    return Trial(environment.runtime, environment.version, found, failure, golden)


def trials(bundle: Bundle, slates: Slates, pythons: Sequence[str | Path]) -> list[Trial]:
    """``bundle`` in the environment of each of ``pythons``.

    Raises:
        InputError: There is none, or one of them can't do it.
    """
    if not pythons:
        raise InputError("pythons: expected the interpreter of one environment or more, got none")
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "bundle"
        bundle.save(saved)
        return [try_on(python, saved, slates) for python in pythons]


def _verify(gate: str, python: str | Path, words: Sequence[Path], timeout_s: float) -> None:
    """Run ``pocketrank.verification`` in another environment; where the bundle failed, name the gate."""
    command = [str(python), "-m", "pocketrank.verification", *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise GateError(f"{gate} ({probe(python).runtime}): no answer within {timeout_s:g} s") from error
    except OSError as error:
        raise InputError(f"{python}: can't be started ({error.strerror}); name the Python of an environment") from error
    if not done.returncode:
        return
    said = done.stderr.strip()[-2000:]
    last = said.splitlines()[-1] if said else ""
    if done.returncode < 0:
        raise GateError(f"{gate} ({probe(python).runtime}): {_signal(-done.returncode)} killed the process; {last}")
    if last.startswith(_MODEL_ERROR):
        raise GateError(f"{gate} ({probe(python).runtime}): {last.removeprefix(_MODEL_ERROR)}")
    raise InputError(
        f"{python}: could not verify the bundle; install the PocketRank of this one there; it said: {said}"
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
