"""``pocketrank rank``: a bundle as a filter, one request a line in and one slate a line out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from pocketrank.checks import is_whole, no_constant
from pocketrank.commands import Exit
from pocketrank.commands.options import BundleFolder, Json, open_store, remember_json
from pocketrank.commands.output import emit, table, tell
from pocketrank.errors import InputError, PocketRankError
from pocketrank.policy.rules import Policy
from pocketrank.reranker import Reranker
from pocketrank.slate import Slate

MAX_LINE_BYTES: Final = 16 << 20
"""A longer line is skipped: 2,000 candidates with an embedding each take less."""
_KEYS: Final = frozenset({"candidates", "context", "k", "policy"})

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Request:
    """One line: candidates as ``Reranker.rank`` takes them; ``k`` None where the line has none."""

    candidates: Any
    context: Mapping[str, Any]
    k: int | None
    policy: Policy | None


@app.command()
def rank(  # noqa: PLR0913  (one for each option)
    ctx: typer.Context,
    bundle: BundleFolder,
    *,
    store: Annotated[
        Path | None, typer.Option(help="Device store to rank with; it is read only.", exists=True, dir_okay=False)
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--input", help="File of requests; stdin by default.", exists=True, dir_okay=False)
    ] = None,
    k: Annotated[int | None, typer.Option(min=0, help="Items in a slate, where the line does not say.")] = None,
    deadline_ms: Annotated[float | None, typer.Option(min=0, help="Time for one slate.")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="File with a policy as JSON, for all lines.", exists=True, dir_okay=False)
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context as JSON, where the line does not say.")] = None,
    as_json: Json = False,
) -> None:
    """Rank the candidates of each line of JSON, and print a slate a line."""
    as_json = remember_json(ctx, chosen=as_json or not sys.stdout.isatty())
    common = {} if context is None else _object("--context", context.encode())
    rules = None if policy is None else Policy.from_json(_object(str(policy), policy.read_bytes()))
    with ExitStack() as stack:
        kept = None if store is None else stack.enter_context(open_store(store))
        reranker = Reranker.load(bundle, store=kept, policy=rules)
        lines = sys.stdin.buffer if source is None else stack.enter_context(source.open("rb"))
        number = failed = 0
        for number, line in enumerate(read_lines(lines), 1):
            try:
                request = parse_request(line)
                slate = reranker.rank(
                    request.candidates,
                    context={**common, **request.context},
                    k=k if request.k is None else request.k,
                    deadline_ms=deadline_ms,
                    policy=request.policy,
                )
            except PocketRankError as error:
                failed += 1
                if as_json:
                    emit({"line": number, "error": str(error)})
                else:
                    tell(f"line {number}: {error}")
            else:
                _answer(slate, as_json=as_json)
    if failed:
        sys.stderr.write(f"{failed} of {number} lines failed\n")
        raise typer.Exit(Exit.FAILED)


def read_lines(file: BinaryIO, max_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes | None]:
    """The lines of ``file``, each as soon as it is there; None for one that is longer than ``max_bytes``."""
    while line := file.readline(max_bytes + 1):
        if len(line) <= max_bytes or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(max_bytes)
        yield None


def parse_request(line: bytes | None) -> Request:
    """Read a line: an object with ``candidates`` and perhaps context, k and policy, or a bare list of candidates.

    Raises:
        InputError: It is neither, or the line was too long (None).
    """
    if line is None:
        raise InputError(f"line: longer than {MAX_LINE_BYTES} bytes; hand over fewer candidates at once")
    body = _json("line", line)
    if isinstance(body, list):
        body = {"candidates": body}
    if not isinstance(body, dict) or "candidates" not in body or not body.keys() <= _KEYS:
        found = sorted(body) if isinstance(body, dict) else type(body).__name__
        raise InputError(f"line: expected candidates, and at most {sorted(_KEYS)}, got {found!s:.200}")
    context, k, policy = body.get("context"), body.get("k"), body.get("policy")
    if context is not None and not isinstance(context, dict):
        raise InputError(f"context: expected an object, got {context!r:.80}")
    if k is not None and not is_whole(k):
        raise InputError(f"k: expected a whole number, got {k!r:.80}")
    return Request(body["candidates"], context or {}, k, None if policy is None else Policy.from_json(policy))


def _json(name: str, data: bytes) -> Any:
    try:
        return json.loads(data.decode(), parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON ({error})") from error


def _object(name: str, data: bytes) -> dict[str, Any]:
    body = _json(name, data)
    if not isinstance(body, dict):
        raise InputError(f"{name}: expected a JSON object, got {body!r:.80}")
    return body


def _answer(slate: Slate, *, as_json: bool) -> None:
    if as_json:
        names = ("bundle", "stages", "omitted", "fallback", "given_up", "filtered", "latency_ms")
        emit({"items": [item._asdict() for item in slate], **{name: getattr(slate, name) for name in names}})
        return
    rows = [(item.position, item.id, item.score, "; ".join(item.reasons)) for item in slate]
    table(f"{slate.bundle}, {slate.latency_ms:.1f} ms", ("", "id", "score", "reasons"), rows)
    omitted = [f"{stage} did not run: {why}" for stage, why in slate.omitted.items()]
    for note in (slate.fallback, *omitted, *slate.given_up):
        if note:
            tell(note)
