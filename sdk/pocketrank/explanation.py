"""Why an item has its score: what each feature added to it, found by leaving the feature out.

A contribution is the score as it is less the score with that feature at its
default, all else as it is. The rest of the slate counts too, for the model
standardises each column within the slate; what is the same for all candidates,
as a value of the context is, adds nothing by itself. Contributions of features
that the model weighs together need not sum to the score.

Source: occlusion, Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from pocketrank.features.candidates import parse
from pocketrank.features.encoding import encode
from pocketrank.features.profile import Array, History, ItemVectors, profile
from pocketrank.schema import ID, Clock, Feature, Interaction, Schema
from pocketrank.scorer import Scorer

_NOTHING: Final = "-"
"""Id of the candidate without values; it matters to no feature on a device without events."""


@dataclass(frozen=True)
class Explanation:
    """One item's score, and by feature what it would have lost without it; the largest in size first."""

    item: str
    score: float
    contributions: Mapping[str, float]


def baseline(schema: Schema, vectors: ItemVectors | None) -> Array:
    """Features ``[d]`` of a candidate whose values are all missing, on a device without events."""
    nobody = profile(schema, History.of([], schema, vectors))
    row: Array = encode(parse([{ID: _NOTHING}], schema), schema, nobody, vectors)[0]
    return row


def explain(
    position: int,
    features: Array,
    baseline: Array,
    schema: Schema,
    scorer: Scorer,
    params: Mapping[str, Array] | None = None,
    *,
    item: str,
) -> Explanation:
    """Explain the score of ``item`` at one ``position`` of a slate, in one call of the model.

    Args:
        position: Row of the item in ``features``.
        features: float32 ``[n, d]`` of the slate as the model was given it.
        baseline: float32 ``[d]``, as ``baseline`` gives it.
        schema: Whose columns these are.
        scorer: What scored the slate.
        params: What it scored with; the bundle's own where None.
        item: Id for the result.

    Returns:
        A contribution for each feature that gives columns, all its columns together; an interaction is a feature of
        its own. A feature of the context takes its default in the whole slate, any other in this candidate alone.

    Guarantees:
        A feature at its default contributes 0.

    Raises:
        ModelError: The model failed, or its bundle ships no signature for it.
    """
    spans = _spans(schema)
    variants = np.repeat(features[None], 1 + len(spans), axis=0)
    for variant, (feature, columns) in zip(variants[1:], spans, strict=True):
        variant[slice(None) if _of_context(feature, schema) else position, columns] = baseline[columns]
    score, *without = scorer.variants(variants, params)[:, position].tolist()
    lost = {feature.name: score - other for (feature, _), other in zip(spans, without, strict=True)}
    return Explanation(item, score, dict(sorted(lost.items(), key=lambda pair: -abs(pair[1]))))


def _spans(schema: Schema) -> list[tuple[Feature, slice]]:
    """The features that give columns, and which."""
    spans, start = [], 0
    for feature in schema.features:
        end = start + len(schema.columns_of(feature))
        if end > start:
            spans.append((feature, slice(start, end)))
        start = end
    return spans


def _of_context(feature: Feature, schema: Schema) -> bool:
    """Whether all candidates of a slate have the same value."""
    if isinstance(feature, Interaction):
        return all(_of_context(part, schema) for part in schema.parts(feature))
    return isinstance(feature, Clock) or getattr(feature, "source", "candidate") == "context"
