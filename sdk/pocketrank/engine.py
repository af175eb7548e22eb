"""A bundle ready to run, which any number of rerankers share."""

from __future__ import annotations

from functools import cached_property

from pocketrank.bundle import VECTORS, Bundle
from pocketrank.errors import BundleError
from pocketrank.features.profile import Array, ItemVectors
from pocketrank.scorer import Scorer


class Engine:
    """The model, the item vectors and the schema of one bundle.

    Attributes:
        bundle: What was loaded.
        name: Name and version, as ``movies@3``.
        schema: Its features.
        columns: Names of the model's columns.
        scorer: Its model.
        vectors: Item vectors; None where the schema needs none.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Build the model and read the item vectors.

        Raises:
            BundleError: The schema wants item vectors, and the bundle ships none.
            ModelError: The runtime refuses the model.
            RuntimeMissingError: No TFLite runtime works here.
        """
        self.bundle = bundle
        self.name = bundle.name
        self.schema = bundle.manifest.schema
        self.columns = self.schema.columns
        self.scorer = Scorer(bundle)
        self.vectors: ItemVectors | None = None
        if self.schema.uses_vectors:
            if VECTORS not in bundle.files:
                raise BundleError(f"{VECTORS} is missing, and the schema has a similarity; export the bundle again")
            self.vectors = ItemVectors.of(bundle.files[VECTORS])

    @cached_property
    def baseline(self) -> Array:
        """The columns ``[d]`` of a candidate that nothing is known of, on a device without events."""
        from pocketrank.explanation import baseline

        return baseline(self.schema, self.vectors)
