"""Impression logs read from files, and replayed through the SDK's own features, person by person in time order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from pocketrank.errors import InputError
from pocketrank.features.candidates import Columns, parse
from pocketrank.features.profile import Array, ItemVectors
from pocketrank.schema import Schema
from pocketrank.store import DEFAULT_LIMITS, Event, Limits
from pocketrank_export.data.dataset import Dataset
from pocketrank_export.data.leaks import check_times
from pocketrank_export.data.log import ImpressionLog, Logged, check_columns
from pocketrank_export.data.replay import Timeline
from pocketrank_export.data.slates import Slates
from pocketrank_export.data.tables import rows


def read(paths: Sequence[Path], schema: Schema) -> ImpressionLog:
    """Read a log, one row a candidate shown, from JSONL, CSV or Parquet files.

    Args:
        paths: The files; rows of one impression may stand in several.
        schema: Whose features the columns hold.

    Raises:
        InputError: A file can't be read, a column is missing, a value out of range, or rows of one impression
            contradict each other; the message names file and line (of Parquet, the row).
        ExtraMissingError: A file is Parquet, and pyarrow is missing.
    """
    about = ", ".join(path.name for path in paths)
    return ImpressionLog.of(chain.from_iterable(rows(path, schema) for path in paths), schema, about)


def to_dataset(
    log: ImpressionLog,
    schema: Schema,
    vectors: bytes | None = None,
    *,
    private: bool = True,
    limits: Limits = DEFAULT_LIMITS,
) -> Dataset:
    """What each slate's candidates looked like to the device at the time, and what came of them.

    A user's history are the slates that were shown earlier, from the top, and what came of them by then: an event of
    showing for each candidate, and one of engagement, valued as its label, where that is above 0. What happened at the
    very moment of a slate is not known to it. A query has no history.

    Args:
        log: What was shown.
        schema: What to compute.
        vectors: A bundle's ``vectors.npz``, where the schema needs item vectors. Made of a log, it must be of one that
            ends before this begins, or it leaks.
        private: False computes device features as on a device without any event.
        limits: How many events a device keeps; its limits of age and bytes are not replayed.

    Returns:
        A slate an impression, by time; candidates in the order in which they were shown.

    Guarantees:
        Features equal, bit for bit, those of a device that has seen the same events.

    Raises:
        InputError: The log lacks a column or the vectors, or a value doesn't fit the schema; the message names it.
        LeakError: A value is from after its impression.
    """
    check_columns(log.columns, schema)
    check_times(log)
    if schema.uses_vectors and vectors is None:
        raise InputError("vectors: the schema compares item vectors; hand over a vectors.npz")
    known = ItemVectors.of(vectors) if vectors is not None else None
    features: list[Array] = [np.empty(0, np.float32)] * len(log.impressions)
    places: dict[str, list[int]] = {}
    for place, one in enumerate(log.impressions):
        places.setdefault(one.group, []).append(place)
    for own in places.values():
        slates = [log.impressions[place] for place in own]
        shown = [_columns(one, schema) for one in slates]
        events = _events(slates, shown) if log.of_users and private else []
        timeline = Timeline(events, schema, known, limits)
        times = [event.at_s for event in events]
        for place, one, columns in zip(own, slates, shown, strict=True):
            features[place] = timeline.features(columns, bisect_left(times, one.at_s))
    propensities = [np.array(one.propensities, np.float32) for one in log.impressions if one.propensities is not None]
    return Dataset(
        schema,
        Slates.of(
            features,
            [np.array(one.labels, np.float32) for one in log.impressions],
            width=len(schema.columns),
            propensities=propensities or None,
        ),
        tuple(one.group for one in log.impressions),
        np.array([one.at_s for one in log.impressions]),
        ordered=True,
        vectors=vectors,
        about=f"{log.about}: {len(features)} impressions, {len(places)} {'users' if log.of_users else 'queries'}",
    )


def _columns(one: Logged, schema: Schema) -> Columns:
    try:
        return parse(one.candidates, schema, one.context, now_s=one.at_s, utc_offset_s=one.utc_offset_s)
    except InputError as error:
        raise InputError(f"{one.where}: impression {one.id!r}: {error}") from error


def _events(slates: Sequence[Logged], shown: Sequence[Columns]) -> list[Event]:
    """The events of one user, oldest first; of one moment, in the order of the slates, and shown before engaged."""
    events = []
    for one, columns in zip(slates, shown, strict=True):
        about = [(item, columns.event_fields(i), columns.embeddings(i)) for i, item in enumerate(columns.ids)]
        events += [Event(item, one.at_s, 1.0, fields, own, "shown") for item, fields, own in about]
        engaged = zip(about, one.labels, one.labels_at_s, strict=True)
        events += [Event(item, at_s, gain, fields, own) for (item, fields, own), gain, at_s in engaged if gain > 0]
    return sorted(events, key=lambda event: event.at_s)
