"""The program: the verbs of all installed packages under one name, each imported when it is called."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from io import TextIOWrapper
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from pocketrank import __version__
from pocketrank.commands.options import remember_json, wants_json
from pocketrank.commands.output import fail
from pocketrank.errors import ExtraMissingError, PocketRankError

GROUP: Final = "pocketrank.commands"


class Verbs(TyperGroup):
    """The verbs by their entry points; where two packages name one alike, the first on the path has it."""

    # click's types are left out: newer versions of typer bring their own click.
    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the verbs, those included whose extra is missing."""
        del ctx
        return sorted(_verbs())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of that name; None where no package has it."""
        del ctx
        entry = _verbs().get(cmd_name)
        return None if entry is None else _command(entry)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; an error that was meant for a person ends it with a line and a code, without a traceback."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:  # typer ends quietly when nobody reads any more
            raise
        except (PocketRankError, OSError) as error:
            raise typer.Exit(fail(error, as_json=wants_json(ctx))) from error


def _verbs() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in reversed(entry_points(group=GROUP))}


def _command(entry: EntryPoint) -> Any:
    try:
        command = typer.main.get_command(entry.load())
    except (ImportError, AttributeError) as error:
        command = typer.main.get_command(_missing(entry, error))
    command.name = entry.name
    return command


def _missing(entry: EntryPoint, error: Exception) -> typer.Typer:
    """A verb that says what to install; an extra is named as the package is that needs it."""
    package = entry.module.partition(".")[0]
    extra = "cli" if package == "pocketrank" else package.removeprefix("pocketrank_")
    ours = package.startswith("pocketrank")
    remedy = f'pip install "pocketrank[{extra}]" ({error})' if ours else str(error)
    why = str(error) if isinstance(error, ExtraMissingError) else f"{entry.name} needs: {remedy}"
    stub = typer.Typer(add_completion=False)

    @stub.command(
        help=f"Not installed: it needs the extra {extra}." if ours else "Not installed.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def say(ctx: typer.Context) -> None:
        remember_json(ctx, chosen="--json" in ctx.args)
        raise ExtraMissingError(why) from error

    return stub


def _show_version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"pocketrank {__version__}")
        raise typer.Exit


app = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=False)


@app.callback()
def verbs(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """PocketRank: ranking on the device, from the command line."""
    del version


def program() -> None:
    """Run the command of ``sys.argv``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Not `app()`: it would show errors of our own with the values of variables, keys among them.
    typer.main.get_command(app)(prog_name="pocketrank")
