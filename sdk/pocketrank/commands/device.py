"""``pocketrank device``: what a device store holds, forgetting it, learning from it; nothing personal is printed."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from pocketrank.bundle import Bundle
from pocketrank.commands.options import BundleFolder, Json, StoreFile, open_store
from pocketrank.commands.output import emit, pairs, tell, waiting
from pocketrank.learner import Learner

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def devices() -> None:
    """Look after a device store.

    The key of an encrypted store is read from the environment variable POCKETRANK_STORE_KEY, as 64 hex digits.
    """


@app.command()
def status(
    store: StoreFile,
    *,
    bundle: Annotated[
        Path | None, typer.Option(help="Say whether there are personal parameters for this bundle.", exists=True)
    ] = None,
    as_json: Json = False,
) -> None:
    """Print how much a store holds, and how much it may."""
    opened = None if bundle is None else Bundle.open(bundle)
    with open_store(store) as held:
        size, limits, set_aside = held.size(), held.limits, held.set_aside
        personal = None if opened is None else held.personal(opened.digest)
    parameters = None if opened is None else _count(personal)
    body = {
        "store": str(store),
        "size": size,
        "limits": limits,
        "personal_parameters": parameters,
        "set_aside": None if set_aside is None else str(set_aside),
    }
    if as_json:
        emit(body)
        return
    pairs(str(store), dataclasses.asdict(size))
    pairs("limits", dataclasses.asdict(limits))
    if opened is not None:
        tell(f"personal parameters for {opened.name}: {parameters or 'none'}")
    if set_aside is not None:
        tell(f"a corrupt file was set aside: {set_aside}")


@app.command()
def wipe(
    store: StoreFile,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Forget everything in a store, for good."""
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody is here to confirm it; say --yes to wipe the store", param_hint="--yes")
        typer.confirm(f"Forget everything in {store}?", abort=True, err=True)
    with open_store(store) as held:
        held.wipe()
    if as_json:
        emit({"store": str(store), "wiped": True})
    else:
        tell(f"{store}: forgotten")


@app.command()
def learn(
    store: StoreFile,
    bundle: BundleFolder,
    *,
    budget_s: Annotated[float, typer.Option(min=0, help="Seconds to learn for at most.")] = 5.0,
    undo: Annotated[bool, typer.Option("--undo", help="Go back to before what was last learned.")] = False,
    as_json: Json = False,
) -> None:
    """Learn personal parameters for a bundle from what a store holds, and keep them where they prove better."""
    opened = Bundle.open(bundle)
    learner = Learner(opened)
    with open_store(store) as held:
        if undo:
            undone = held.personal(opened.digest) is not None
            left = learner.undo(held)
            body = {"undone": undone, "personal_parameters": _count(left)}
        else:
            with waiting("learning") as progress:
                body = dataclasses.asdict(learner.fit(held, budget_s=budget_s, progress=progress))
    if as_json:
        emit(body)
    else:
        pairs(opened.name, body)


def _count(params: Mapping[str, npt.NDArray[np.float32]] | None) -> int:
    return sum(value.size for value in (params or {}).values())
