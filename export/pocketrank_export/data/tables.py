"""Rows of JSONL, CSV and Parquet files as typed values, each with where it stands; ``docs/data.md`` has the columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pocketrank.checks import no_constant
from pocketrank.errors import ExtraMissingError, InputError
from pocketrank.schema import AT, Categories, Category, Clock, Embedding, Flag, Number, Schema

MAX_ROWS: Final = 10_000_000
"""Of all files that are read together."""
MAX_LINE_BYTES: Final = 1 << 20
"""Of a line of JSONL."""
MAX_TEXT_BYTES: Final = 1 << 12
"""Of one text of a Parquet file; names and words take a quarter of it."""
MAX_COLUMNS: Final = 10_000
"""Of a CSV or Parquet file."""
CONTEXT: Final = "context."
"""What the column of a context feature begins with."""
VALUES_AT: Final = f"item_{AT}"
"""Unix time of all values of a candidate; ``<feature>_at_s`` is that of one alone."""
NAMES: Final = ("impression", "user", "query", "item")
NUMBERS: Final = ("at_s", "position", "propensity", "label", "label_at_s", "utc_offset_s", VALUES_AT)
SEPARATOR: Final = "|"
"""Between the words, or the numbers, of one field of a CSV file."""

Row = tuple[str, Mapping[str, Any]]
"""Where it stands, as file and line, and its values by column; what is missing has no key."""
_Cast = Callable[[str], Any]
_BATCH: Final = 10_000
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def candidate_columns(schema: Schema) -> dict[str, Number | Flag | Category | Categories | Embedding]:
    """The features that a log must have of each candidate, by column.

    Raises:
        InputError: A feature is called as a column that the format has for something else.
    """
    found: dict[str, Number | Flag | Category | Categories | Embedding] = {}
    for feature in schema.features:
        if isinstance(feature, Embedding) or (
            isinstance(feature, Number | Flag | Category | Categories) and feature.source == "candidate"
        ):
            found[feature.name] = feature
    if taken := sorted(found.keys() & {*NAMES, *NUMBERS}):
        raise InputError(f"schema: features {taken} are called as columns of an impression log are; rename them")
    return found


def context_columns(schema: Schema) -> dict[str, Number | Flag | Category | Categories | Embedding | Clock]:
    """The features that a log may have of each session, by column."""
    found: dict[str, Number | Flag | Category | Categories | Embedding | Clock] = {}
    for feature in schema.features:
        if (
            isinstance(feature, Clock)
            or (isinstance(feature, Embedding) and feature.to == "context")
            or (isinstance(feature, Number | Flag | Category | Categories) and feature.source == "context")
        ):
            found[f"{CONTEXT}{feature.name}"] = feature
    return found


def rows(path: Path, schema: Schema) -> Iterator[Row]:
    """The rows of a file, with the columns that the format and ``schema`` know and no other.

    Args:
        path: A file whose name ends in ``.jsonl``, ``.csv`` or ``.parquet``.
        schema: Names the feature columns, and says how the text of a CSV file is to be read.

    Raises:
        InputError: It can't be read, is none of these, or a row is malformed; the message names file and line.
        ExtraMissingError: It is Parquet, and pyarrow is missing.
    """
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix)
    if reader is None:
        raise InputError(f"{path}: expected a name that ends in {', '.join(readers)}, got {path.suffix!r}")
    casts = _casts(schema)
    try:
        yield from reader(path, casts)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error}); name a file with a log") from error


def _casts(schema: Schema) -> dict[str, _Cast]:
    """Every column that is looked at, and how it is read from text."""
    casts: dict[str, _Cast] = dict.fromkeys(NAMES, str) | dict.fromkeys(NUMBERS, _number)
    features = candidate_columns(schema) | context_columns(schema)
    for column, feature in features.items():
        casts[column] = _cast(feature)
        casts[f"{column}_{AT}"] = _number
    return casts | {f"{CONTEXT}{AT}": _number}


def _cast(feature: Number | Flag | Category | Categories | Embedding | Clock) -> _Cast:
    match feature:
        case Flag():
            return _truth
        case Category():
            return str
        case Categories():
            return lambda text: text.split(SEPARATOR)
        case Embedding():
            return lambda text: [plain_float(part) for part in text.split(SEPARATOR)]
        case _:
            return _number


def plain_float(text: str) -> float:
    """``float``, but of what other tools take for a number, too: Python reads 1_0 as ten.

    Raises:
        ValueError: It is no number.
    """
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _number(text: str) -> float | int:
    """A number; a whole one where it is written so."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else plain_float(text)


def _truth(text: str) -> bool:
    try:
        return _TRUTHS[text.lower()]
    except KeyError as error:
        raise ValueError(text) from error


def _jsonl(path: Path, casts: Mapping[str, _Cast]) -> Iterator[Row]:
    with path.open("rb") as file:
        for at, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            where = f"{path}:{at}"
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{where}: expected a line of at most {MAX_LINE_BYTES} bytes; write one row a line")
            if not line.strip():
                continue
            try:
                found = json.loads(line, parse_constant=no_constant, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: expected one JSON object a line ({error})") from error
            if not isinstance(found, dict):
                raise InputError(
                    f"{where}: expected a JSON object of columns, got {line.decode(errors='replace')!r:.80}"
                )
            yield where, {name: found[name] for name in casts.keys() & found.keys() if found[name] is not None}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, none of whose keys stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key twice among {[name for name, _ in pairs]!s:.200}")
    return found


def _csv(path: Path, casts: Mapping[str, _Cast]) -> Iterator[Row]:
    # Spreadsheets put a mark of byte order in front.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            head = next(reader, [])
            if len(set(head)) != len(head) or len(head) > MAX_COLUMNS:
                raise InputError(
                    f"{path}:1: expected at most {MAX_COLUMNS} columns of different names, got {head!s:.300}"
                )
            if head and not casts.keys() & set(head):
                raise InputError(
                    f"{path}:1: expected columns such as {', '.join(NAMES)}, commas between, got {head!s:.300}"
                )
            for texts in filter(None, reader):
                where = f"{path}:{reader.line_num}"
                if len(texts) != len(head):
                    raise InputError(f"{where}: expected {len(head)} fields, as in the first line, got {len(texts)}")
                given = zip(head, texts, strict=True)
                yield (
                    where,
                    {name: _read(where, name, text, casts[name]) for name, text in given if text and name in casts},
                )
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}:{reader.line_num + 1}: expected CSV in UTF-8 ({error})") from error


def _read(where: str, name: str, text: str, cast: _Cast) -> Any:
    try:
        return cast(text)
    except ValueError as error:
        wanted = (
            "true or false" if cast is _truth else "a number" if cast is _number else f"numbers, {SEPARATOR!r} between"
        )
        raise InputError(f"{where}: {name}: expected {wanted}, got {text!r:.80}") from error


def _parquet(path: Path, casts: Mapping[str, _Cast]) -> Iterator[Row]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ExtraMissingError('Parquet: pyarrow is missing; pip install "pocketrank[export]"') from error
    at = 0
    try:
        with parquet.ParquetFile(path) as file:
            texts = [
                field.name
                for field in file.schema_arrow
                if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
            ]
        # Kept as a dictionary, a few bytes on the disk can't become a long text in each of many rows.
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            if file.metadata.num_rows > MAX_ROWS or file.metadata.num_columns > MAX_COLUMNS:
                found = f"{file.metadata.num_rows} and {file.metadata.num_columns}"
                raise InputError(f"{path}: expected at most {MAX_ROWS} rows and {MAX_COLUMNS} columns, got {found}")
            columns = [name for name in file.schema_arrow.names if name in casts]
            if len(set(columns)) != len(columns):
                raise InputError(f"{path}: expected columns of different names, got {columns!s:.300}")
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                for row in _short(path, batch).to_pylist():
                    at += 1
                    yield f"{path}:{at}", {name: value for name, value in row.items() if value is not None}
    # Texts that are not UTF-8, and times beyond the year 9999.
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path}: expected Parquet ({error!s:.200})") from error


def _short(path: Path, batch: Any) -> Any:
    """A batch whose texts stand in full; refused first where one is too long."""
    import pyarrow as pa
    from pyarrow import compute

    for place, name in enumerate(batch.schema.names):
        column = batch.column(place)
        if not pa.types.is_dictionary(column.type):
            continue
        longest = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
        if longest > MAX_TEXT_BYTES:
            raise InputError(f"{path}: {name}: expected texts of at most {MAX_TEXT_BYTES} bytes, got one of {longest}")
        batch = batch.set_column(place, name, column.dictionary_decode())
    return batch
