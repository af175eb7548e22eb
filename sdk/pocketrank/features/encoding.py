"""Candidates and a device's profile become the model's input; the one place where features are computed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pocketrank.features.candidates import Columns
from pocketrank.features.layout import FieldGroup, Layout
from pocketrank.features.profile import Array, ItemVectors, Profile
from pocketrank.schema import LARGEST, Category, Embedding, Schema

_Block = npt.NDArray[np.float64]


def encode(columns: Columns, schema: Schema, profile: Profile, vectors: ItemVectors | None) -> Array:
    """The model's input, float32 ``[n, d]``, in the order of ``schema.columns``.

    Guarantees:
        Computed in float64 and rounded once. The same events and candidates give the same bits with every numpy,
        BLAS and processor, as far as ``log1p``, sine and cosine do (ADR 0007).
    """
    layout, n = schema.layout, len(columns.ids)
    block: _Block = np.empty((layout.rows, n))
    block[: layout.public_rows] = columns.block
    _transform(layout, block)
    for embedding in layout.embeddings:
        other = columns.context_vectors if embedding.to == "context" else profile.tastes
        block[layout.row(embedding)] = _likeness(embedding, columns.vectors[embedding.name], other[embedding.name])
    for group in layout.groups:
        _look_up(group, columns, schema, profile, block[group.row : group.row + len(group.features)])
    if layout.similar or layout.nearest:
        own = (np.zeros((n, 0)) if vectors is None else vectors.rows(columns.ids)).T.astype(np.float64)
        cosines = profile.vectors @ own
        if layout.similar:
            start, count = layout.row(layout.similar[0]), len(layout.similar)
            block[start : start + count] = cosines[:count]
        for feature, rows in zip(layout.nearest, profile.nearest, strict=True):
            block[layout.row(feature)] = cosines[rows].max(axis=0) if rows.stop > rows.start else 0.0
    for interaction in layout.interactions:
        left, right = layout.parts(interaction)
        products = (block[left, None] * block[None, right]).reshape(-1, n)
        block[layout.span(interaction)] = products.clip(-LARGEST, LARGEST)
    return block.take(layout.order, axis=0).T.astype(np.float32, order="C")


def _transform(layout: Layout, block: _Block) -> None:
    """Transform the numbers of candidates and context in place."""
    for group in layout.transformed:
        values = block[group.rows]
        if group.transform == "clip":
            np.clip(values, group.bounds[:, 0], group.bounds[:, 1], out=values)
        else:
            np.maximum(values, 0.0, out=values)
            (np.log1p if group.transform == "log1p" else np.sqrt)(values, out=values)


def _likeness(embedding: Embedding, own: _Block, other: _Block) -> _Block:
    """Cosine or product ``[n]`` of each row of ``own`` [n, w] with ``other`` [w]; 0 where one of them is zero."""
    products: _Block = (own * other).sum(axis=1)
    if embedding.measure == "dot":
        return products.clip(-LARGEST, LARGEST)
    lengths = np.sqrt((own * own).sum(axis=1)) * np.sqrt((other * other).sum())
    cosines: _Block = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return cosines


def _look_up(group: FieldGroup, columns: Columns, schema: Schema, profile: Profile, out: _Block) -> None:
    """The features ``out`` [k, n] of a group: what the profile holds for each candidate's values."""
    states = profile.words[group.field]
    if group.field is None:
        # An item that came up for the first time after the profile was made has a place beyond the last column.
        get, unknown = profile.places.get, states.shape[1] - 1
        places = [get(item, unknown) for item in columns.ids]
        states.take(places, axis=1, out=out, mode="clip")
        return
    found = columns.fields[group.field]
    if isinstance(schema.categories[group.field], Category):
        states.take(found, axis=1, out=out, mode="clip")
        return
    averaged = len(group.averaged)
    counts = found.sum(axis=0)
    np.divide(states[:averaged, :-1] @ found, np.maximum(counts, 1.0), out=out[:averaged])
    if states[:averaged, -1].any():
        np.copyto(out[:averaged], states[:averaged, -1:], where=counts == 0)
    for row in range(averaged, len(states)):
        np.max(found * states[row, :-1, None], axis=0, initial=0.0, out=out[row])
