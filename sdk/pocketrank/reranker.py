"""The one object that an app holds: candidates in, an ordered slate out, feedback back in."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.bundle import VECTORS, Bundle
from pocketrank.errors import BundleError, InputError, ModelError
from pocketrank.features import Candidates, Columns, encode, parse
from pocketrank.profile import History, ItemVectors, Profile, profile
from pocketrank.scorer import Scorer
from pocketrank.slate import GIVEN_ORDER, SHARED_PARAMETERS, RankedItem, Slate
from pocketrank.store import MAX_EVENTS, DeviceStore, Event

Array = npt.NDArray[np.float32]
_FEATURES: Final = "features"
_MODEL: Final = "model"


class Engine:
    """A bundle ready to run, which any number of rerankers share."""

    def __init__(self, bundle: Bundle) -> None:
        """Build the model and read the item vectors.

        Raises:
            BundleError: The schema wants item vectors, and the bundle ships none.
        """
        self.bundle = bundle
        self.schema = bundle.manifest.schema
        self.scorer = Scorer(bundle)
        self.vectors = item_vectors(bundle)


def item_vectors(bundle: Bundle) -> ItemVectors | None:
    """The item vectors of ``bundle``; None where its schema needs none."""
    if not bundle.manifest.schema.uses_vectors:
        return None
    if VECTORS not in bundle.files:
        raise BundleError(f"{VECTORS} is missing, and the schema has a similarity feature; export the bundle again")
    return ItemVectors.of(bundle.files[VECTORS])


class Reranker:
    """Orders candidates with a bundle's model and what the device knows of its person."""

    def __init__(self, engine: Engine, store: DeviceStore) -> None:
        """Use ``Reranker.load``; this is for those who share an engine between stores."""
        self._engine = engine
        self._store = store
        self._lock = threading.Lock()
        self._recording = threading.Lock()
        """Held while events are written, so that memory has them in the file's order."""
        self._history = History.of(store.events(), engine.schema, engine.vectors)
        self._profile: Profile | None = None
        self._personal: Mapping[str, Array] | None = store.personal(engine.bundle.digest)

    @classmethod
    def load(
        cls, bundle: str | os.PathLike[str] | Bundle, *, store: DeviceStore | str | os.PathLike[str] | None = None
    ) -> Reranker:
        """Open and verify ``bundle`` and get ready to rank.

        Args:
            bundle: Folder of a bundle, or an opened one.
            store: Device store or its path; without one, feedback is kept in memory and forgotten at exit.

        Raises:
            BundleError: The bundle is not what its manifest vouches for.
            RuntimeMissingError: No TFLite runtime works here.
            ModelError: The runtime refuses the model.
            StoreError: The store can't be used.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        if not isinstance(store, DeviceStore):
            store = DeviceStore(":memory:" if store is None else Path(store))
        return cls(Engine(opened), store)

    @property
    def bundle(self) -> Bundle:
        """The bundle that ranks."""
        return self._engine.bundle

    @property
    def store(self) -> DeviceStore:
        """The device store behind this reranker."""
        return self._store

    def rank(self, candidates: Candidates, *, context: Mapping[str, Any] | None = None, k: int | None = None) -> Slate:
        """Order ``candidates``, best first, and keep the first ``k``.

        More candidates than the bundle's largest slate: the first ones given
        are ranked, the rest follow in the order given. A model that fails
        never fails the app: with personal parameters that fail, the bundle's
        own rank, else the order is the given one; ``fallback`` says why.

        Args:
            candidates: Mappings, one a candidate, or columns of equal length; each with ``id``.
            context: Values of the context features.
            k: How many items to return; all by default.

        Raises:
            InputError: The candidates don't fit the schema, or ``k`` is negative.
        """
        if k is not None and k < 0:
            raise InputError(f"k: expected 0 or more, got {k}")
        started = time.perf_counter()
        engine = self._engine
        columns = parse(candidates, engine.schema, context)
        features = encode(columns, engine.schema, self._known(), engine.vectors)
        order, scores, fallback = self._order(features, self._personal)
        kept = order[:k]
        items = tuple(
            RankedItem(columns.ids[i], None if scores is None or i >= len(scores) else float(scores[i]), position)
            for position, i in enumerate(kept)
        )
        shown = _Shown(self, columns, features, kept)
        manifest = engine.bundle.manifest
        return Slate(
            items=items,
            bundle=f"{manifest.name}@{manifest.version}",
            stages=(_FEATURES,) if scores is None else (_FEATURES, _MODEL),
            fallback=fallback,
            latency_ms=(time.perf_counter() - started) * 1e3,
            _feedback=shown.feedback,
        )

    def observe(self, events: Sequence[Event]) -> None:
        """Keep engagements that did not come from a slate, oldest first.

        Raises:
            InputError: An event is not one; none is kept then.
            StoreError: They could not be kept.
        """
        with self._recording:
            self._store.record(events)
            later = History.of(events, self._engine.schema, self._engine.vectors)
            with self._lock:
                self._history = self._history.followed_by(later).newest(MAX_EVENTS)
                self._profile = None

    def personalise(self, params: Mapping[str, Array] | None) -> None:
        """Rank with ``params`` from now on, and after a restart; None goes back to the bundle's own.

        Raises:
            InputError: They are not finite, or not the bundle's trainable parameters.
        """
        if params is not None:
            found = {name: np.shape(value) for name, value in params.items()}
            expected = {parameter.name: parameter.shape for parameter in self.bundle.manifest.trainable}
            if found != expected or not all(np.isfinite(value).all() for value in params.values()):
                raise InputError(f"params: expected finite {expected}, got {found}")
            params = {name: np.asarray(params[name], np.float32) for name in expected}
        self._store.keep_personal(self._engine.bundle.digest, params)
        self._personal = params

    def forget(self) -> None:
        """Wipe the store, and rank from now on as on a new device.

        Raises:
            StoreError: As ``DeviceStore.wipe``.
        """
        with self._lock:
            self._history = self._history.newest(0)
            self._profile = None
        self._personal = None
        self._store.wipe()

    def _known(self) -> Profile:
        """The profile after all events so far, made anew only where there was one since the last slate."""
        with self._lock:
            if self._profile is None:
                self._profile = profile(self._engine.schema, self._history)
            return self._profile

    def _order(
        self, features: Array, personal: Mapping[str, Array] | None
    ) -> tuple[list[int], Array | None, str | None]:
        n = len(features)
        if n == 0:
            return [], None, None
        scorer = self._engine.scorer
        head = features[: scorer.largest]
        fallback = None
        try:
            try:
                scores = scorer.scores(head, personal)
            except ModelError as error:
                if personal is None:
                    raise
                scores, fallback = scorer.scores(head), f"{SHARED_PARAMETERS}: {error}"
        except ModelError as error:
            return list(range(n)), None, f"{GIVEN_ORDER}: {error}"
        order = np.argsort(-scores, kind="stable").tolist()
        return [*order, *range(len(head), n)], scores, fallback


class _Shown:
    """A slate's way back to the store; the impression is kept with the first word of its outcome."""

    def __init__(self, reranker: Reranker, columns: Columns, features: Array, order: list[int]) -> None:
        self._reranker = reranker
        self._columns = columns
        self._features = features
        self._order = order
        self._impression: int | None = None
        self._lock = threading.Lock()

    def feedback(self, item: str, value: float, label: float, at_s: float) -> None:
        reranker, ids = self._reranker, self._columns.ids
        with self._lock:
            if self._impression is None:
                self._impression = reranker.store.record_impression(
                    [ids[i] for i in self._order],
                    self._features[self._order],
                    at_s=at_s,
                    bundle=reranker.bundle.digest,
                )
        reranker.store.record_outcome(self._impression, item, label)
        fields = self._columns.values(ids.index(item), reranker.bundle.manifest.schema)
        reranker.observe([Event(item, at_s, value, fields)])
