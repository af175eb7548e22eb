"""Files that are written whole or not at all, and survive a power cut."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path``, in a folder that exists, by ``data`` in one step; ``mode`` less the umask.

    Guarantees:
        Whenever the process or the machine stops, ``path`` holds all of the old content or all of ``data``.

    Raises:
        OSError: It could not be written; ``path`` is as it was.
    """
    staging = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder that was just made, its files and its name to the disk."""
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows can't open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
