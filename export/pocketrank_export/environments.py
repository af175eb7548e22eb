"""Environments with a TFLite runtime each: the one that a person names, or one that is made here.

tflite-runtime needs numpy < 2 and a Python that is not newer than 3.11; the converter needs numpy >= 2. So no
environment holds both.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pocketrank.errors import InputError

EXTRAS: Final = {"ai-edge-litert": "litert", "tflite-runtime": "tflite"}
"""Runtime to the extra of PocketRank that brings it."""
NEWEST_PYTHON: Final = {"tflite-runtime": (3, 11)}
"""Runtime to the newest Python that it has wheels for, where that is not any."""
PROBE_TIMEOUT_S: Final = 120.0
INSTALL_TIMEOUT_S: Final = 1800.0

# Under a numpy that it was not built for, a runtime imports and fails only when an Interpreter is built.
_PROBE: Final = (
    "import sys; from pocketrank.runtime import Model; model = Model(bytes.fromhex(sys.argv[1])); "
    "print(model.runtime, model.runtime_version)"
)
_VERSION: Final = "import sys, venv, ensurepip; print(*sys.version_info[:2])"


@dataclass(frozen=True)
class Environment:
    """A Python and the TFLite runtime that works in it, by the name of its distribution."""

    python: Path
    runtime: str
    version: str


@dataclass(frozen=True)
class Source:
    """What pip is asked to install.

    Attributes:
        words: For ``pip install``.
        key: Changes when what would be installed does.
    """

    words: tuple[str, ...]
    key: str


def probe(python: str | Path) -> Environment:
    """Build an Interpreter in the environment of the interpreter ``python``, through PocketRank.

    Raises:
        InputError: There is no such Python, or no runtime works in it; the message holds what it said.
    """
    done = _run([str(python), "-c", _PROBE, _empty_model().hex()], PROBE_TIMEOUT_S)
    words = done.stdout.split()
    if done.returncode or len(words) != 2:
        extra = EXTRAS["tflite-runtime"]
        raise InputError(
            f"{python}: no TFLite runtime works there, or no PocketRank; install it with "
            f'`{python} -m pip install "pocketrank[{extra}]"`; it said: {done.stderr.strip()[-1000:]}'
        )
    return Environment(Path(python), *words)


def ensure(folder: Path, runtime: str, progress: Callable[[float], None]) -> Path:
    """The Python of an environment with this PocketRank and ``runtime``; made in ``folder`` if it is not there.

    Args:
        folder: Where such environments are kept.
        runtime: ``ai-edge-litert`` or ``tflite-runtime``.
        progress: Told the share that is done, 0 to 1.

    Guarantees:
        An environment appears whole or not at all; one that is there and works is used as it is.

    Raises:
        InputError: Another runtime, no Python that it works with, or pip failed; the message says what to do.
    """
    if runtime not in EXTRAS:
        raise InputError(f"runtime: expected one of {sorted(EXTRAS)}, got {runtime!r}")
    source = installed_source(EXTRAS[runtime])
    target = folder / f"{runtime}-{source.key}"
    if works(target, runtime):
        progress(1.0)
        return python_of(target)
    base = find_python(runtime)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{runtime}-{source.key}.log"
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=folder))
    try:
        progress(0.0)
        _logged([base, "-m", "venv", str(staging)], log, "w")
        progress(0.2)
        pip = [str(python_of(staging)), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        _logged([*pip, "--progress-bar", "off", *source.words], log, "a")
        progress(0.9)
        if probe(python_of(staging)).runtime != runtime:
            raise InputError(f"{runtime}: was installed and another runtime works; see {log}")
        _replace(staging, target, runtime)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    progress(1.0)
    return python_of(target)


def works(environment: Path, runtime: str) -> bool:
    """Whether ``runtime`` works in the folder ``environment``."""
    try:
        return python_of(environment).exists() and probe(python_of(environment)).runtime == runtime
    except InputError:
        return False


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / "bin" / "python"


def find_python(runtime: str, candidates: Sequence[str] | None = None) -> str:
    """A Python to make an environment for ``runtime`` with: this one, or one of that version on the path.

    Args:
        runtime: As of ``ensure``.
        candidates: Interpreters to try, in this order; by default this one, then ``python3.11`` on the path.

    Raises:
        InputError: None of them runs, has ``venv``, and is of a version that ``runtime`` works with.
    """
    newest = NEWEST_PYTHON.get(runtime, (sys.maxsize, 0))
    tried = [sys.executable, "python3.11"] if candidates is None else list(candidates)
    for candidate in tried:
        found = shutil.which(candidate)
        if found is None:
            continue
        done = _run([found, "-c", _VERSION], PROBE_TIMEOUT_S)
        version = tuple(int(word) for word in done.stdout.split() if word.isdigit())
        if not done.returncode and len(version) == 2 and (3, 11) <= version <= newest:
            return found
    wanted = "3.11" if runtime in NEWEST_PYTHON else "3.11 or newer"
    raise InputError(
        f"{runtime}: needs a Python {wanted} with venv, found none (tried {tried}); install it (on Debian: python3.11 "
        "and python3.11-venv), or name the Python of an environment that has the runtime: --runtime-python PATH"
    )


def installed_source(extra: str, record: str | None = None, version: str | None = None) -> Source:
    """Where this PocketRank came from: its folder or file where it was installed from one, else its version.

    Args:
        extra: Of PocketRank, to be installed with it.
        record: ``direct_url.json`` of the installation; by default that of this one. Empty where it has none.
        version: By default that of this one.

    Raises:
        InputError: This PocketRank was not installed.

    Source: PEP 610, which says what pip records.
    """
    if record is None or version is None:
        try:
            found = distribution("pocketrank")
        except PackageNotFoundError as error:
            raise InputError("pocketrank: is not installed here, so nobody knows from where; pip install it") from error
        record, version = found.read_text("direct_url.json") or "", found.version
    origin = json.loads(record) if record else {}
    url = urlsplit(str(origin.get("url", "")))
    if url.scheme != "file":
        return Source((f"pocketrank[{extra}]=={version}",), version)
    what = f"{url2pathname(url.path)}[{extra}]"
    # A folder is installed as a link: a copy would go on verifying with what the folder held once.
    words = ("-e", what) if "dir_info" in origin else (what,)
    return Source(words, f"{version}-{hashlib.sha256(record.encode()).hexdigest()[:12]}")


def _replace(staging: Path, target: Path, runtime: str) -> None:
    """Let ``staging`` appear as ``target``, unless another process was faster."""
    if target.exists() and not works(target, runtime):
        shutil.rmtree(target)
    try:
        staging.rename(target)
    except OSError as error:
        if not works(target, runtime):
            raise InputError(f"{target}: can't be made ({error.strerror}); choose another folder") from error


def _logged(command: Sequence[str], log: Path, mode: str) -> None:
    """Run ``command`` with its output in ``log``."""
    with log.open(mode) as file:
        try:
            done = subprocess.run(  # noqa: S603
                list(command), stdout=file, stderr=subprocess.STDOUT, timeout=INSTALL_TIMEOUT_S, check=False
            )
            failed = f"exit status {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            failed = f"no end within {INSTALL_TIMEOUT_S:g} s"
    if failed:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise InputError(
            f"environment: `{' '.join(command[1:4])}` failed ({failed}); mend it, or name the Python of an environment "
            f"that has the runtime: --runtime-python PATH. The end of {log}:\n{end}"
        )


def _run(command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run ``command``; what can't be started has failed."""
    try:
        return subprocess.run(list(command), capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(list(command), 1, "", str(error))


def _empty_model() -> bytes:
    """The smallest TFLite file: a graph without tensors."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [], [], []
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
