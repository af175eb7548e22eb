"""What a command says: data on stdout, messages on stderr, and nothing that a terminal would obey."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pocketrank.commands import Exit

WIDTH: Final = 160
"""Columns of a table that is not written to a terminal."""
MAX_MESSAGE: Final = 1_000
"""Characters of an error on stderr; ``--json`` gives all of them."""


def emit(value: Any) -> None:
    """Write ``value`` to stdout as one line of ASCII JSON, at once.

    Dataclasses and mappings become objects, and numbers that JSON lacks null.
    """
    sys.stdout.write(json.dumps(plain(value), allow_nan=False) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """``value`` as JSON has it."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): plain(entry) for key, entry in value.items()}
        case _ if dataclasses.is_dataclass(value):
            return {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
        case Iterable():
            return [plain(entry) for entry in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def fail(error: BaseException, *, as_json: bool) -> Exit:
    """Say what went wrong, in one line; returns the code to exit with."""
    code, message = Exit.of(error), str(error)
    line = visible(message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "...")
    sys.stderr.write(f"error: {line}\n")
    try:
        if as_json:
            emit({"error": {"kind": type(error).__name__, "message": message, "exit_code": code}})
        sys.stdout.flush()
    except OSError:
        # A full disk, say. Python would try to write the rest once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def visible(text: Any) -> str:
    """``text`` in one line, with escapes for what a terminal would obey instead of show."""
    spaced = " ".join(str(text).splitlines())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in spaced)


def tell(text: str) -> None:
    """Write a line for a person to stdout."""
    sys.stdout.write(visible(text) + "\n")


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table for a person to stdout, numbers to the right; nothing where it has no rows."""
    from rich.console import Console
    from rich.table import Table

    cells = [tuple(row) for row in rows]
    if not cells:
        return
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH
    made = Table(box=None, pad_edge=False, show_header=any(heads))
    for head, column in zip(heads, zip(*cells, strict=True), strict=True):
        numbers = all(isinstance(cell, int | float | None) and not isinstance(cell, bool) for cell in column)
        made.add_column(head, overflow="fold", justify="right" if numbers else "left")
    for row in cells:
        made.add_row(*(visible(_words(cell)) for cell in row))
    console.print()
    console.print(visible(title), style="bold")
    console.print(made)


def pairs(title: str, entries: Mapping[str, Any]) -> None:
    """Write names and values for a person to stdout."""
    table(title, ("", ""), entries.items())


@contextmanager
def waiting(title: str) -> Iterator[Callable[[float], None]]:
    """Show on a terminal's stderr that something takes its time.

    Yields:
        What takes the share that is done, 0 to 1; the bar moves to and fro until it is called.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(visible(title), total=None)
        yield lambda share: shown.update(task, total=1.0, completed=share)


def _words(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return " ".join(map(_words, value))
        case dict():
            return json.dumps(value)
    return str(value)
