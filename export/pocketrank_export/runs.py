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

from pocketrank_export import sources
from pocketrank_export.config import Config, read
from pocketrank_export.environments import ensure, probe
from pocketrank_export.pipeline import Pythons, Run
from pocketrank_export.quantization.recipes import RECIPES
from pocketrank_export.training.logger import TensorBoard
from pocketrank_export.workspace import Workspace

FORMAT: Final = "pocketrank build 1"
"""Marks the folder of a run, so that no other folder is taken for one."""


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
        InputError: The configuration, the data or the folder does not fit.
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
    with workspace.stage("data", "data, read and split"):
        split, digest = sources.split_of(config), sources.digest_of(config)
    with ExitStack() as stack:

        def log(name: str) -> TensorBoard | None:
            return stack.enter_context(TensorBoard(folder / "curves" / name)) if curves else None

        def environments() -> Pythons:
            return _environments(config, pythons, workspace)

        yield Run(config, split, digest, workspace, pythons=environments, log=log)


def _environments(config: Config, given: Sequence[Path], workspace: Workspace) -> Pythons:
    """An interpreter for each runtime: one that was given, this one, or one that is made."""
    found: dict[str, Path] = {}
    for python in (*given, Path(sys.executable)):
        found.setdefault(probe(python).runtime, python)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketrank"
    for runtime in config.runtimes:
        if runtime not in found:
            with workspace.stage("environment", f"an environment with {runtime} in {cache}") as progress:
                found[runtime] = ensure(cache, runtime, progress)
    return {runtime: found[runtime] for runtime in config.runtimes}
