"""What several verbs ask for on the command line, and a device store's key, which never stands there."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import typer

from pocketrank.errors import InputError, StoreError
from pocketrank.store import DeviceStore

STORE_KEY: Final = "POCKETRANK_STORE_KEY"
"""Environment variable with the key of an encrypted store: 64 hex digits."""
_JSON: Final = "pocketrank.json"


def remember_json(ctx: typer.Context, *, chosen: bool) -> bool:
    """Note in ``ctx`` that errors, too, are wanted as JSON."""
    ctx.meta[_JSON] = chosen
    return chosen


def wants_json(ctx: typer.Context) -> bool:
    """Whether the verb was asked for JSON."""
    return bool(ctx.meta.get(_JSON, False))


Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", callback=remember_json)]
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle.", exists=True)]
StoreFile = Annotated[
    Path, typer.Argument(metavar="STORE", help="File of a device store.", exists=True, dir_okay=False)
]


def open_store(path: Path) -> closing[DeviceStore]:
    """The store at ``path``, with the key in ``POCKETRANK_STORE_KEY`` where it is set; for a ``with``.

    Raises:
        InputError: The variable does not hold a key; the message does not show it.
        StoreError: As ``DeviceStore``; or the file is empty, and no store is begun here.
    """
    if path.stat().st_size == 0:
        raise StoreError(f"{path}: expected a device store, and it is empty; name another file")
    return closing(DeviceStore(path, key=_key(os.environ.get(STORE_KEY, ""))))


def _key(text: str) -> bytes | None:
    if not text:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InputError(f"{STORE_KEY}: expected hex digits, got {len(text)} characters that aren't all such") from None
