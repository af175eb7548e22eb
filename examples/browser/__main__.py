"""``make browse``: movies on the terminal, in an order that follows what one opens."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from rich.console import Console

from examples.browser import catalogue
from examples.browser.browser import RULES, Browser
from examples.browser.commands import HELP, Verb, parse
from pocketrank import DeviceStore, Reranker
from pocketrank.errors import BundleError, InputError, PocketRankError

ROOT: Final = Path(__file__).parents[2]
DEMO: Final = ROOT / "build" / "demo"
WIDTH: Final = 120
"""Columns where the output is no terminal."""


def main() -> None:
    """Read commands from stdin until they end."""
    parser = argparse.ArgumentParser(prog="python -m examples.browser", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="folder of a bundle (what `make demo` installed last)")
    parser.add_argument("--catalogue", type=Path, help="a movie as JSON on each line (MovieLens-100K)")
    parser.add_argument("--store", type=Path, default=ROOT / "build" / "browser" / "store.db", help="(%(default)s)")
    arguments = parser.parse_args()
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH
    try:
        bundle = arguments.bundle or installed(DEMO)
        items = catalogue.read(arguments.catalogue) if arguments.catalogue else catalogue.movielens()
        arguments.store.parent.mkdir(parents=True, exist_ok=True)
        with closing(DeviceStore(arguments.store)) as store:
            browse(Browser(Reranker.load(bundle, store=store, policy=RULES), items), console)
    except BundleError as error:
        sys.exit(f"{error}\n`make demo` makes a bundle that can be read; --bundle names another.")
    except (PocketRankError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except (EOFError, KeyboardInterrupt):
        console.print()


def browse(browser: Browser, console: Console) -> None:
    """Show the first page, and then what comes of each command; an error of one ends nothing."""
    console.print(HELP, style="dim")
    console.print(browser.page())
    for line in lines(console):
        command = parse(line)
        if command.verb is Verb.QUIT:
            return
        try:
            for answer in browser.answer(command):
                console.print(answer)
        except PocketRankError as error:
            console.print(f"{error}", style="yellow")


def lines(console: Console) -> Iterator[str]:
    """What is typed, or what a pipe holds, which is then shown as if it had been typed."""
    if sys.stdin.isatty():
        while True:
            yield console.input("\n> ")
    for line in sys.stdin:
        console.print("\n> " + "".join(letter for letter in line if letter.isprintable()))
        yield line


def installed(demo: Path) -> Path:
    """The bundle that a device of the demo in the folder ``demo`` holds.

    Raises:
        InputError: The demo did not come to that yet.
    """
    from pocketrank.updater import Updater

    bundle = Updater(demo / "installed" / "device-0", demo / "repository", None).installed()
    if bundle is None:
        raise InputError(f"{demo}: no bundle is installed there; run `make demo` (some minutes), or give a --bundle")
    return bundle


if __name__ == "__main__":
    main()
