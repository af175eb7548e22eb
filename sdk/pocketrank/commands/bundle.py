"""``pocketrank bundle``: what a bundle says of itself, and whether it is true here."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import typer

from pocketrank.bundle import Bundle
from pocketrank.commands import Exit
from pocketrank.commands.options import BundleFolder, Json
from pocketrank.commands.output import emit, pairs, table, tell, waiting
from pocketrank.errors import BundleError, RuntimeMissingError
from pocketrank.schema import Categories, Category, Clock, Feature, Flag, Interaction, Number, Schema
from pocketrank.scorer import Scorer

MAX_SELF_TEST_S: Final = 600.0
"""A self-test that takes longer has failed."""
_RAISED: Final = re.compile(r"^pocketrank\.errors\.(\w+): (.*)$", re.MULTILINE)
_SHOWN: Final = frozenset({"format", "name", "version", "schema", "slate_sizes", "trainable", "files"})
_TITLES: Final = {"policy": "privacy policy", "privacy": "privacy statement", "ranking": "ranking policy"}

app = typer.Typer(add_completion=False, no_args_is_help=True)


@dataclass(frozen=True)
class Verdict:
    """What came of a verification: ``failed`` and ``why`` are None where all held."""

    ok: bool
    bundle: str | None = None
    digest: str | None = None
    runtime: str | None = None
    failed: Literal["files", "self-test"] | None = None
    why: str | None = None


@app.callback()
def bundles() -> None:
    """Look into a bundle, or verify it."""


@app.command()
def inspect(bundle: BundleFolder, *, as_json: Json = False) -> None:
    """Print what a bundle holds; its files are compared with their hashes first."""
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    features = [_described(manifest.schema, feature) for feature in manifest.schema.features]
    body = json.loads(manifest.to_json())
    if as_json:
        emit({"digest": opened.digest, "size_bytes": size_bytes, "features": features, "manifest": body})
        return
    columns = f"{len(manifest.schema.columns)}, {int(manifest.schema.private_columns.sum())} of them private"
    head = {"digest": opened.digest, "slate sizes": manifest.slate_sizes, "columns": columns}
    pairs(opened.name, head)
    heads = ("feature", "kind", "source", "private", "columns")
    table("features", heads, [tuple(feature.values()) for feature in features])
    rows = [(parameter.name, list(parameter.shape)) for parameter in manifest.trainable]
    table("trainable parameters", ("parameter", "shape"), rows)
    files = [(name, entry.size_bytes, entry.sha256) for name, entry in manifest.files.items()]
    table("files", ("file", "bytes", "SHA-256"), [*files, ("all", size_bytes, "")])
    for name in sorted(body.keys() - _SHOWN):
        part = body[name]
        entries = part if isinstance(part, dict) else {str(at): entry for at, entry in enumerate(part, 1)}
        pairs(_TITLES.get(name, name), entries)


@app.command()
def verify(bundle: BundleFolder, *, as_json: Json = False) -> None:
    """Compare a bundle's files with their hashes, and its scores on the runtime here with the golden ones."""
    with waiting("self-test"):
        verdict = verified(bundle)
    if as_json:
        emit(verdict)
    elif verdict.ok:
        tell(f"{verdict.bundle}: all files as the manifest has them; self-test passed on {verdict.runtime}")
    else:
        tell(f"{verdict.bundle or bundle}: {verdict.failed} failed: {verdict.why}")
    if not verdict.ok:
        raise typer.Exit(Exit.FAILED)


def verified(folder: Path) -> Verdict:
    """Verify the bundle in ``folder``; the self-test runs in a process of its own, which a bad model may take down.

    Raises:
        RuntimeMissingError: No TFLite runtime works here, so nothing can be said of the scores.
    """
    try:
        opened = Bundle.open(folder)
    except BundleError as error:
        return Verdict(ok=False, failed="files", why=str(error))
    found = Verdict(ok=True, bundle=opened.name, digest=opened.digest)
    why = _self_test_failure(folder)
    if why is not None:
        return dataclasses.replace(found, ok=False, failed="self-test", why=why)
    scorer = Scorer(opened)
    return dataclasses.replace(found, runtime=f"{scorer.runtime} {scorer.runtime_version}")


def _self_test_failure(folder: Path) -> str | None:
    # -P: modules that lie in the current folder are not ours.
    command = [sys.executable, "-P", "-m", "pocketrank.verification", str(folder.resolve())]
    try:
        done = subprocess.run(  # noqa: S603  (our own module)
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=MAX_SELF_TEST_S,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {MAX_SELF_TEST_S:.0f} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the runtime crashed on the model ({signal.Signals(-done.returncode).name})"
    raised: list[tuple[str, str]] = _RAISED.findall(done.stderr)
    *_, last = [f"it ended with {done.returncode}", *done.stderr.strip().splitlines()]
    name, message = raised[-1] if raised else ("", last)
    if name == RuntimeMissingError.__name__:
        raise RuntimeMissingError(message)
    return message


def _described(schema: Schema, feature: Feature) -> dict[str, Any]:
    """A row of the table of features."""
    return {
        "name": feature.name,
        "kind": feature.kind,
        "source": "+".join(sorted(_sources(schema, feature))),
        "private": schema.is_private(feature),
        "columns": len(schema.columns_of(feature)),
    }


def _sources(schema: Schema, feature: Feature) -> set[str]:
    match feature:
        case Interaction():
            return {source for part in schema.parts(feature) for source in _sources(schema, part)}
        case Clock():
            return {"context"}
        case Number() | Flag() | Category() | Categories():
            return {feature.source}
    return {"device"} if schema.is_private(feature) else {"candidate"}
