"""``pocketrank train``, ``distill``, ``export``, ``quantize``, ``verify``, ``report``, ``build``: a run up to a stage.

Each takes the same configuration and goes on in the same folder: what an earlier verb finished is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketrank.bundle import Bundle
from pocketrank.commands.options import Json
from pocketrank.commands.output import emit, pairs, table, tell
from pocketrank.errors import ExtraMissingError

if TYPE_CHECKING:
    # They take torch along, and seconds; `pocketrank --help` has none to spare.
    from pocketrank_export.gates import Verdict
    from pocketrank_export.pipeline import Run
    from pocketrank_export.quantization.search import Measured


def _verb(function: Callable[..., None]) -> typer.Typer:
    """A verb of its own, as an entry point names it."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return app


ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The configuration, in TOML.", exists=True, dir_okay=False)
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Of the run; build/NAME beside CONFIG if not given.")
]
RuntimePython = Annotated[
    list[Path] | None,
    typer.Option(
        "--runtime-python",
        metavar="PYTHON",
        help="Interpreter of an environment with a TFLite runtime. One is made for a runtime that is not here.",
        exists=True,
    ),
]
Search = Annotated[bool, typer.Option("--search", help="Measure every recipe on each runtime, and take the best.")]
Curves = Annotated[bool, typer.Option("--tensorboard", help="Write training curves to FOLDER/curves.")]


@_verb
def train(config: ConfigFile, *, out: Out = None, curves: Curves = False, as_json: Json = False) -> None:
    """Fit the teachers, and compare them on the validation part."""
    with _run(config, out, curves=curves) as run:
        _say_teachers(run, as_json=as_json)


@_verb
def distill(config: ConfigFile, *, out: Out = None, curves: Curves = False, as_json: Json = False) -> None:
    """Fit the student, from the best teacher."""
    with _run(config, out, curves=curves) as run:
        teachers = {taught.teacher.name: taught.ndcg for taught in run.teachers}
        _say({"student": run.student_ndcg, **teachers}, as_json=as_json)


@_verb
def export(config: ConfigFile, *, out: Out = None, as_json: Json = False) -> None:
    """Convert the student to TFLite and ONNX, and compare them with PyTorch."""
    from pocketrank_export.gates import check

    with _run(config, out) as run:
        _, verdicts = run.converted
        if not as_json:
            _say_verdicts(verdicts, as_json=False)
        check(verdicts)
        if as_json:
            _say_verdicts(verdicts, as_json=True)


@_verb
def quantize(
    config: ConfigFile,
    *,
    out: Out = None,
    search: Search = False,
    runtime_python: RuntimePython = None,
    as_json: Json = False,
) -> None:
    """Quantize the student, by the recipe of the configuration or the best of all."""
    with _run(config, out, search=search, pythons=runtime_python or ()) as run:
        found = run.quantized
        sizes = {name: len(content) for name, content in found.models.items()}
        if as_json:
            emit({"recipes": found.recipes, "size_bytes": sizes, "measured": found.measured})
            return
        heads = ("recipe", "runtime", "Kendall's tau", "nDCG loss, %", "bytes", "p50, us", "error")
        table("measured", heads, [_row(measured) for measured in found.measured])
        table(
            "taken",
            ("file", "recipe", "bytes"),
            [(name, recipe, sizes[name]) for name, recipe in found.recipes.items()],
        )


@_verb
def verify(
    config: ConfigFile,
    *,
    out: Out = None,
    search: Search = False,
    runtime_python: RuntimePython = None,
    as_json: Json = False,
) -> None:
    """Put the bundle through the gates on every runtime, and write it if none stops it."""
    with _run(config, out, search=search, pythons=runtime_python or ()) as run:
        run.withdraw()
        if not as_json:
            _say_verdicts(run.proven.verdicts, as_json=False)
        _say_bundle(run, run.release(), as_json=as_json)


@_verb
def report(
    config: ConfigFile,
    *,
    out: Out = None,
    search: Search = False,
    runtime_python: RuntimePython = None,
    as_json: Json = False,
) -> None:
    """Measure everything on the test part, and write report.html and report.json."""
    with _run(config, out, search=search, pythons=runtime_python or ()) as run:
        written = _report(run)
        if as_json:
            emit({"report": str(written)})
        else:
            tell(str(written))


@_verb
def build(
    config: ConfigFile,
    *,
    out: Out = None,
    search: Search = False,
    runtime_python: RuntimePython = None,
    curves: Curves = False,
    as_json: Json = False,
) -> None:
    """All of it: train, distill, export, quantize, report, verify."""
    with _run(config, out, search=search, pythons=runtime_python or (), curves=curves) as run:
        run.withdraw()
        # The report is written before a gate can stop the bundle, for it shows why.
        written = _report(run)
        if not as_json:
            _say_teachers(run, as_json=False)
            _say_verdicts(run.proven.verdicts, as_json=False)
        _say_bundle(run, run.release(), as_json=as_json, report=str(written))


@contextmanager
def _run(
    file: Path, out: Path | None, *, search: bool = False, pythons: Sequence[Path] = (), curves: bool = False
) -> Iterator[Run]:
    """The run of a configuration; what it needs is imported now."""
    try:
        from pocketrank_export.runs import opened
    except ImportError as error:
        raise ExtraMissingError(f'the exporter needs: pip install "pocketrank[export]" ({error})') from error
    with opened(file, out, search=search, pythons=pythons, curves=curves) as run:
        yield run


def _report(run: Run) -> Path:
    from pocketrank_export.report.measuring import measured
    from pocketrank_export.report.page import write

    return write(measured(run), run.folder)


def _row(found: Measured) -> tuple[object, ...]:
    """A line of the table of recipes."""
    loss = 100 * found.loss.mean
    return found.recipe, found.runtime, found.kendall_tau, loss, found.size_bytes, found.p50_us, found.error


def _say(quality: Mapping[str, float], *, as_json: bool) -> None:
    """nDCG@10 on the validation part by name."""
    if as_json:
        emit({"validation_ndcg_at_10": quality})
    else:
        pairs("nDCG@10 on the validation part", quality)


def _say_teachers(run: Run, *, as_json: bool) -> None:
    _say({taught.teacher.name: taught.ndcg for taught in run.teachers}, as_json=as_json)


def _say_verdicts(verdicts: Sequence[Verdict], *, as_json: bool) -> None:
    if as_json:
        emit({"verdicts": verdicts})
    else:
        table("gates", ("passed", ""), [(verdict.passed, verdict.words) for verdict in verdicts])


def _say_bundle(run: Run, folder: Path, *, as_json: bool, **more: str) -> None:
    bundle = Bundle.open(folder)
    if as_json:
        emit(
            {
                "bundle": str(folder),
                "name": bundle.name,
                "digest": bundle.digest,
                "verdicts": run.proven.verdicts,
                **more,
            }
        )
    else:
        pairs(bundle.name, {"bundle": str(folder), "digest": bundle.digest, **more})
