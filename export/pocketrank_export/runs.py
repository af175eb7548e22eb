"""The run of a configuration file: its folder, its data, and the environments that it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import torch
from rich.console import Console

from pocketrank.errors import InputError
from pocketrank_export import sources
from pocketrank_export.config import Config, read
from pocketrank_export.environments import ensure, probe
from pocketrank_export.pipeline import Pythons, Run
from pocketrank_export.quantization.recipes import RECIPES
from pocketrank_export.training.logger import TensorBoard
from pocketrank_export.workspace import Workspace

FORMAT: Final = "pocketrank build 1"
"""Marks the folder of a run, so that no other folder is taken for one."""


try:
    import fcntl
except ImportError:  # Windows; there nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]


@contextmanager
def opened(
    file: Path,
    out: Path | None,
    *,
    search: bool = False,
    pythons: Sequence[Path] = (),
    curves: bool = False,
) -> Iterator[Run]:
    """The run of the configuration in ``file``.

    Args:
        file: TOML.
        out: Folder of the run; by default ``build/<name>`` beside ``file``.
        search: Choose among all recipes, whatever the configuration names.
        pythons: Interpreters of environments with a TFLite runtime; this one and, at need, one that is made come after.
        curves: Write training curves to ``curves`` in the folder.

    Raises:
        InputError: The configuration, the data or the folder does not fit, or another run is at work in the folder.
        LeakError: The test could be known in training.
    """
    config = read(file)
    if search:
        # Quantization-aware training stays as it is: the recipes compete for the same student.
        wanted = config.quantization.model_copy(update={"recipes": RECIPES})
        config = config.model_copy(update={"quantization": wanted})
    folder = out if out is not None else file.parent / "build" / config.name
    console = Console(stderr=True)
    workspace = Workspace(folder, FORMAT, console)
    # The order of a sum depends on how many threads share it, and the same inputs are to give the same bundle.
    torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        with workspace.stage("data", "data, read and split"):
            split, digest = sources.split_of(config), sources.digest_of(config)

        def log(name: str) -> TensorBoard | None:
            return stack.enter_context(TensorBoard(folder / "curves" / name)) if curves else None

        def environments() -> Pythons:
            return _environments(config, pythons, workspace)

        yield Run(config, split, digest, workspace, pythons=environments, log=log)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of ``folder``: each would take the other's half-made stages for its own."""
    with (folder / ".lock").open("wb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(f"{folder}: another run is at work there; wait, or use --out") from error
        yield


def _environments(config: Config, given: Sequence[Path], workspace: Workspace) -> Pythons:
    """An interpreter for each runtime: one that was given, this one, or one that is made."""
    found: dict[str, Path] = {}
    # A relative name without a folder would be looked up on the path; a link is kept, for a venv's leads out of it.
    for python in (*(path.absolute() for path in given), Path(sys.executable)):
        found.setdefault(probe(python).runtime, python)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketrank"
    for runtime in config.runtimes:
        if runtime not in found:
            with workspace.stage("environment", f"an environment with {runtime} in {cache}") as progress:
                found[runtime] = ensure(cache, runtime, progress)
    return {runtime: found[runtime] for runtime in config.runtimes}
