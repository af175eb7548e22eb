"""Stages that are shown while they run, kept when they are done, and not run twice for the same code and data."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pocketrank.durable import write_atomically
from pocketrank.errors import InputError

Tell = Callable[[float], None]
SOURCES: Final = frozenset({".py", ".j2", ".css"})
_KEY: Final = ".pocketrank"
"""Marks a folder as one that may be emptied: nothing that people keep is called so."""


class Workspace:
    """A folder of finished stages.

    Attributes:
        folder: Where everything of the run lies.
        seconds: Wall time of each stage, as it was when the stage ran.
    """

    def __init__(self, folder: Path, key: str, console: Console) -> None:
        """Go on in ``folder`` where it was made with the same ``key``; else start there anew.

        Raises:
            InputError: ``folder`` holds something that no run made, or can't be made.
        """
        self.folder = folder
        self._console = console
        found = folder / _KEY
        if not found.is_file() or found.read_text() != key:
            if folder.is_dir() and not found.is_file() and any(folder.iterdir()):
                raise InputError(f"{folder}: holds something else; choose another folder with --out")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                found.write_text(key)
            except OSError as error:
                raise InputError(
                    f"{folder}: can't be made ({error.strerror}); choose another folder with --out"
                ) from error
        self._log = folder / "stages.json"
        self.seconds: dict[str, float] = _read(self._log)
        self._keys_file = folder / "keys.json"
        self._keys: dict[str, str] = _read(self._keys_file)

    @contextmanager
    def stage(self, name: str, title: str, key: str = "", *files: Path) -> Iterator[Tell]:
        """Show ``title`` with its progress while the block runs; it is done when the block ends without an error.

        Args:
            name: Of the stage.
            title: For a person.
            key: Stands for what the stage depends on, where that is not the same for the whole run.
            files: What the block may write; they are the stage's as long as they are as it left them.
        """
        started = time.perf_counter()
        # What it made before is no longer to be trusted from here on.
        before = self._keys.pop(name, None)
        if before is not None:
            write_atomically(self._keys_file, json.dumps(self._keys, indent=1).encode())
            if before.startswith(f"{key}:"):
                # The settings are the same, so the files were damaged: the block must not go on from them.
                for file in files:
                    file.unlink(missing_ok=True)
        bar = Progress(
            TextColumn("  {task.description:<58}"),
            BarColumn(24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        if not self._console.is_terminal:
            self._console.print(f"  {title} ...")
        with bar:
            task = bar.add_task(title, total=1.0)
            yield lambda share: bar.update(task, completed=share)
        self.seconds[name] = round(time.perf_counter() - started, 2)
        write_atomically(self._log, json.dumps(self.seconds, indent=1).encode())
        self._keys[name] = _sealed(key, files)
        write_atomically(self._keys_file, json.dumps(self._keys, indent=1).encode())
        self._console.print(f"[green]✓[/] {title:<60} [dim]{self.seconds[name]:6.1f} s[/]")

    def done(self, name: str, key: str = "", *files: Path) -> bool:
        """Whether the stage ``name`` was finished with this ``key``, and left ``files`` as they are now."""
        return self._keys.get(name) == _sealed(key, files)


def _sealed(key: str, files: Sequence[Path]) -> str:
    """``key`` and a digest of ``files``; one that is not there counts too."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"none")
    return f"{key}:{digest.hexdigest()}"


def _read(file: Path) -> dict[str, Any]:
    """What is known of earlier runs; nothing where the file was damaged, so that the stages run again."""
    try:
        found = json.loads(file.read_text()) if file.is_file() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def key_of(roots: Sequence[Path], settings: str) -> str:
    """A digest of all sources under ``roots`` and of ``settings``: what a result depends on."""
    digest = hashlib.sha256(settings.encode())
    for path in sorted(path for root in roots for path in root.rglob("*") if path.suffix in SOURCES):
        digest.update(path.read_bytes())
    return digest.hexdigest()
