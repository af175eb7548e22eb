"""An impression log of the shop, as an app writes it: rows of plain values, one a candidate shown."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketrank.features.profile import ItemVectors
from pocketrank.schema import Schema
from pocketrank_export.data.log import ImpressionLog
from tests import shop

Row = dict[str, Any]

ARRAYS: Final = shop.item_vectors()
VECTORS: Final = ItemVectors(ARRAYS["items"].tolist(), ARRAYS["vectors"].astype(np.float32))
MINUTE_S: Final = 60.0


def rows(seed: int, users: Sequence[str] = ("ann", "bob"), visits: int = 5, n: int = 4) -> list[Row]:
    """Rows of some people's visits, ten minutes from one to the next; about every third candidate is bought."""
    rng = np.random.default_rng([seed, 7])
    made = []
    for at, user in enumerate(np.repeat(users, visits).tolist()):
        at_s = shop.OPENED_S + 10 * MINUTE_S * (at % visits) + MINUTE_S * (at // visits)
        context = {"context.screen": ("phone", "tv")[at % 2], "context.style": rng.normal(size=4).tolist()}
        context["context.basket"] = at
        for position, number in enumerate(rng.permutation(shop.ITEMS)[:n].tolist()):
            label = float(rng.integers(1, 6)) if rng.random() < 0.4 else 0.0
            shown: Row = {"impression": f"i{at}", "user": user, "at_s": at_s, "position": position, "label": label}
            shown |= {"propensity": 1.0 / (1 + position), **context}
            fields = shop.item(number)
            made.append({**shown, "item": fields.pop("id"), "place": float(position), **fields})
    return made


def log(given: Iterable[Row], schema: Schema = shop.SCHEMA) -> ImpressionLog:
    """The log of rows; row 1 stands in ``rows:1``."""
    filled = [{name: value for name, value in row.items() if value is not None} for row in given]
    return ImpressionLog.of([(f"rows:{at}", row) for at, row in enumerate(filled, 1)], schema, "rows")


def jsonl(path: Path, given: Iterable[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in given))
    return path


def as_csv(path: Path, given: Sequence[Row]) -> Path:
    """The same as text; lists have bars between."""
    names = list(dict.fromkeys(name for row in given for name in row))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([[_text(row.get(name)) for name in names] for row in given])
    return path


def parquet(path: Path, given: Sequence[Row]) -> Path:
    import pyarrow as pa
    from pyarrow import parquet as files

    names = list(dict.fromkeys(name for row in given for name in row))
    files.write_table(pa.table({name: [row.get(name) for row in given] for name in names}), path)
    return path


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(map(str, value))
    return "" if value is None else str(value)


def changed(given: Sequence[Row], at: int, **values: Any) -> list[Row]:
    """The rows, of which the one at ``at`` has other ``values``; None takes one away."""
    row: Mapping[str, Any] = {**given[at], **{name.replace("__", "."): value for name, value in values.items()}}
    return [*given[:at], {name: value for name, value in row.items() if value is not None}, *given[at + 1 :]]
