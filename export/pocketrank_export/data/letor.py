"""Ranking data as text: a line is ``label qid:7 1:0.5 3:0.1 # comment``, a candidate; what a line leaves out is 0.

Without ``qid``, as LightGBM and XGBoost write it, the sizes of the queries
stand in a file beside it, one a line: ``rank.train.query`` or
``rank.train.group`` beside ``rank.train``.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal

import numpy as np

from pocketrank.errors import InputError
from pocketrank.features.candidates import MAX_CANDIDATES
from pocketrank.schema import LARGEST, MAX_FEATURES, MAX_TEXT, Number, Schema
from pocketrank_export.data.dataset import Dataset
from pocketrank_export.data.slates import Slates
from pocketrank_export.data.tables import plain_float

MAX_LINE_BYTES: Final = 1 << 16
"""A line of ``MAX_FEATURES`` features takes a quarter of it."""
MAX_ROWS: Final = 10_000_000
MAX_GRADE: Final = 31
SIZES: Final = (".query", ".group")
"""What the name of a file of sizes adds to that of its data."""

Gains = Literal["exponential", "linear"]


@dataclass
class _Rows:
    """The rows of a file; features as they are written, ``counts`` of them a row."""

    path: Path
    grades: array[int] = field(default_factory=lambda: array("b"))
    counts: array[int] = field(default_factory=lambda: array("i"))
    indices: array[int] = field(default_factory=lambda: array("i"))
    values: array[float] = field(default_factory=lambda: array("f"))
    queries: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


def read(paths: Sequence[Path], *, features: int | None = None, gains: Gains = "exponential") -> list[Dataset]:
    """Read files that belong together, such as a training and a test part.

    Features are called by their index: ``f1`` is what the files call 1. Where any file uses the index 0 they are
    ``f0`` to ``f{d-1}`` in all of them, else ``f1`` to ``f{d}``.

    Args:
        paths: The files.
        features: How many there are, ``d``; by default as many as the largest index of all files asks for.
        gains: What a grade ``g`` is worth as a label: ``2^g - 1``, or ``g`` itself.

    Returns:
        A data set a file, all of one schema; each query is a slate, in the order of the file. A query's group is its
        ``qid``, so that the same one in two files is found; without ``qid`` it is the file's name and a number.

    Raises:
        InputError: A file can't be read, a line is not as it should be, or a bound is exceeded; the message names file
            and line.

    Source: Qin and Liu 2013, "Introducing LETOR 4.0 datasets", arXiv:1306.2597; the gain of a grade is that of Burges
        et al. 2005, doi:10.1145/1102351.1102363.
    """
    if not paths:
        raise InputError("paths: expected one file or more, got none")
    parts = [_rows(path) for path in paths]
    # No qid has a "#": a comment would begin there.
    numbered = {part.path for part in parts if "#" in part.queries[0]}
    if len({path.name for path in numbered}) != len(numbered):
        raise InputError(f"{sorted(map(str, numbered))}: queries without qid are called by their file; rename one")
    base = 0 if any(0 in part.indices for part in parts) else 1
    schema = _schema(parts, base, features)
    return [_dataset(part, schema, base, gains) for part in parts]


def _schema(parts: Sequence[_Rows], base: int, features: int | None) -> Schema:
    largest = max((max(part.indices) for part in parts if part.indices), default=base - 1)
    width = largest - base + 1 if features is None else features
    if not 1 <= width <= MAX_FEATURES:
        raise InputError(f"features: expected 1 to {MAX_FEATURES}, got {width}; leave out those that help least")
    if largest >= width + base:
        wanted = f"features {base} to {width + base - 1}, as features={width} asks for"
        raise InputError(f"{[part.path.name for part in parts]}: expected {wanted}, got feature {largest}")
    return Schema(tuple(Number(name=f"f{base + column}") for column in range(width)))


def _dataset(rows: _Rows, schema: Schema, base: int, gains: Gains) -> Dataset:
    width = len(schema.columns)
    dense = np.zeros((len(rows.grades), width), np.float32)
    places = np.repeat(np.arange(len(rows.grades)), rows.counts)
    dense[places, np.array(rows.indices, dtype=np.int64) - base] = rows.values
    grades = np.array(rows.grades, dtype=np.float32)
    labels = np.exp2(grades) - 1.0 if gains == "exponential" else grades
    cuts = list(accumulate(rows.sizes))[:-1]
    slates = Slates.of(np.split(dense, cuts), np.split(labels.astype(np.float32), cuts), width=width)
    about = f"{rows.path.name}: {len(rows.sizes)} queries, {len(grades)} candidates, {width} features, {gains} gains"
    return Dataset(schema, slates, tuple(rows.queries), about=about)


def _rows(path: Path) -> _Rows:
    """Read one file; every row of it belongs to a query."""
    rows = _Rows(path)
    seen: set[str] = set()
    named: bool | None = None
    for at, line in _lines(path):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(rows.grades) >= MAX_ROWS:
            raise InputError(f"{path}:{at}: expected at most {MAX_ROWS} rows; take a part of the queries")
        where = f"{path}:{at}"
        query = _query(where, words)
        if named is not None and named != (query is not None):
            raise InputError(f"{where}: expected qid on each line or on none; write qid:<query> after the label")
        named = query is not None
        rows.grades.append(_grade(where, words[0]))
        _add_features(where, words[1 + named :], rows)
        if query is not None:
            _add_to_query(where, query, rows, seen)
    if named is None:
        raise InputError(f"{path}: expected lines such as '2 qid:1 1:0.5', got none")
    if not named:
        rows.sizes = _sizes(path, len(rows.grades))
        rows.queries = [f"{path.name}#{number}" for number in range(1, len(rows.sizes) + 1)]
    if max(rows.sizes) > MAX_CANDIDATES:
        query = rows.queries[int(np.argmax(rows.sizes))]
        raise InputError(f"{path}: query {query}: expected at most {MAX_CANDIDATES} rows, got {max(rows.sizes)}")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, from 1."""
    at = 0
    try:
        with path.open("rb") as file:
            for at, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                if len(line) > MAX_LINE_BYTES:
                    raise InputError(f"{path}:{at}: expected a line of at most {MAX_LINE_BYTES} bytes; is it text?")
                # Spreadsheets put a mark of byte order in front.
                text = line.decode("utf-8-sig" if at == 1 else "utf-8")
                if "\r" in text.rstrip("\r\n"):
                    raise InputError(f"{path}:{at}: a line ends in \\r alone; end lines in \\n")
                yield at, text
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); name a LETOR or SVMlight file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{at}: expected UTF-8 text, got the byte {error.object[error.start]:#04x}") from error


def _query(where: str, words: Sequence[str]) -> str | None:
    """The qid of a line; None where it has none."""
    if len(words) < 2 or not words[1].startswith("qid:"):
        return None
    query = words[1].removeprefix("qid:")
    if not 0 < len(query) <= MAX_TEXT:
        raise InputError(f"{where}: qid: expected 1 to {MAX_TEXT} characters, got {query!r:.80}")
    return query


def _add_to_query(where: str, query: str, rows: _Rows, seen: set[str]) -> None:
    """Count the row to ``query``, whose rows must stand together."""
    if rows.queries and rows.queries[-1] == query:
        rows.sizes[-1] += 1
        return
    if query in seen:
        raise InputError(f"{where}: qid:{query}: its rows don't stand together; sort the file by qid")
    seen.add(query)
    rows.queries.append(query)
    rows.sizes.append(1)


def _grade(where: str, word: str) -> int:
    try:
        grade = plain_float(word)
    except ValueError:
        grade = math.nan
    if not (0 <= grade <= MAX_GRADE and grade == int(grade)):
        raise InputError(f"{where}: label: expected a whole number from 0 to {MAX_GRADE}, got {word!r:.80}")
    return int(grade)


def _add_features(where: str, words: Iterable[str], rows: _Rows) -> None:
    before = -1
    count = 0
    for word in words:
        index, colon, text = word.partition(":")
        # Nine digits are a whole number whatever they are; isdecimal alone takes other scripts' digits.
        if not colon or not (index.isascii() and index.isdecimal() and len(index) < 10):
            raise InputError(f"{where}: expected <feature>:<value>, such as 3:0.1, got {word!r:.80}")
        number = int(index)
        if number <= before:
            raise InputError(f"{where}: feature {number}: stands after {before}; write features in rising order, once")
        try:
            value = plain_float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= LARGEST:
            raise InputError(f"{where}: feature {number}: expected a finite float32, got {text!r:.80}")
        rows.indices.append(number)
        rows.values.append(value)
        before = number
        count += 1
    rows.counts.append(count)


def _sizes(path: Path, count: int) -> list[int]:
    """Rows of each query, out of the file beside ``path`` that has ``count`` of them."""
    beside = [path.with_name(path.name + ending) for ending in SIZES]
    found = next((other for other in beside if other.is_file()), None)
    if found is None:
        names = " or ".join(other.name for other in beside)
        raise InputError(f"{path}: no line has a qid; write qid:<query> after each label, or put {names} beside it")
    sizes = []
    for at, line in _lines(found):
        word = line.strip()
        if not word:
            continue
        if not (word.isascii() and word.isdecimal() and len(word) < 10 and int(word)):
            raise InputError(f"{found}:{at}: expected the rows of a query, above 0, got {word!r:.80}")
        sizes.append(int(word))
    if sum(sizes) != count:
        raise InputError(f"{found}: sizes add up to {sum(sizes)}, but {path.name} has {count} rows")
    return sizes
