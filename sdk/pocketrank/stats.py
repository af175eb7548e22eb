"""Counts of what a reranker did, for an app's monitoring: numbers, and names of the bundle; nothing of the person."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pocketrank.features.candidates import Columns
from pocketrank.forks import Lock
from pocketrank.slate import Slate
from pocketrank.store import StoreSize

if TYPE_CHECKING:
    from pocketrank.shadow import Agreement

BUCKETS_MS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Upper bounds of the buckets of latencies; a last one holds what took longer."""


@dataclass(frozen=True)
class Stats:
    """What happened since the reranker was made.

    Attributes:
        bundle: Name and version of the bundle that ranks.
        slates: Calls of ``rank`` that gave a slate.
        candidates: Candidates that came in.
        filtered: Candidates that filters removed.
        fallbacks: By what ranked instead and why, as ``given order: ModelError``.
        omitted: Stages that did not run, as ``model: deadline``.
        default_rates: Share of candidates that took a feature's default because the value was missing, by feature.
        stale_rates: The same for values past their freshness limit.
        given_up: Slates whose policy could not be kept in full.
        latency_ms: Upper bound of a bucket to calls that took at most so long, those of smaller buckets left out;
            ``inf`` for the rest.
        latency_sum_ms: All calls together.
        feedback: Calls by kind (``clicked``, ``shown``, ...).
        store: Rows and bytes of the device store; None where it can't be read.
        store_set_aside: Whether a corrupt store was set aside.
        shadow: Agreement with the shadow bundle, where there is one.
    """

    bundle: str
    slates: int
    candidates: int
    filtered: int
    fallbacks: Mapping[str, int]
    omitted: Mapping[str, int]
    default_rates: Mapping[str, float]
    stale_rates: Mapping[str, float]
    given_up: int
    latency_ms: Mapping[str, int]
    latency_sum_ms: float
    feedback: Mapping[str, int]
    store: StoreSize | None
    store_set_aside: bool
    shadow: Agreement | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


class Meter:
    """The counters behind ``Stats``, on any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._buckets = [0] * (len(BUCKETS_MS) + 1)
        self._latency_sum_ms = 0.0
        self._counts: Counter[str] = Counter()
        self._fallbacks: Counter[str] = Counter()
        self._omitted: Counter[str] = Counter()
        self._defaulted: Counter[str] = Counter()
        self._stale: Counter[str] = Counter()
        self._feedback: Counter[str] = Counter()

    def slate(self, slate: Slate, read: Columns) -> None:
        """Count one slate; ``read`` holds the candidates before the filters."""
        with self._lock:
            self._buckets[bisect_left(BUCKETS_MS, slate.latency_ms)] += 1
            self._latency_sum_ms += slate.latency_ms
            counts = self._counts
            counts["slates"] += 1
            counts["candidates"] += len(read.ids)
            counts["filtered"] += slate.filtered
            counts["given_up"] += bool(slate.given_up)
            for names, counter in ((read.defaulted, self._defaulted), (read.stale, self._stale)):
                for name, count in names.items():
                    counter[name] += count
            # What follows the kind of error may quote a candidate.
            for stage, why in slate.omitted.items():
                self._omitted[f"{stage}: {why.partition(': ')[0]}"] += 1
            if slate.fallback is not None:
                self._fallbacks[": ".join(slate.fallback.split(": ")[:2])] += 1

    def feedback(self, kind: str) -> None:
        """Count one call of feedback."""
        with self._lock:
            self._feedback[kind] += 1

    def read(self, bundle: str, store: StoreSize | None, shadow: Agreement | None, *, set_aside: bool) -> Stats:
        """All counts as they are at this moment."""
        with self._lock:
            counts = self._counts
            seen = max(counts["candidates"], 1)
            names = [*(f"{bound:g}" for bound in BUCKETS_MS), "inf"]
            return Stats(
                bundle=bundle,
                slates=counts["slates"],
                candidates=counts["candidates"],
                filtered=counts["filtered"],
                fallbacks=dict(self._fallbacks),
                omitted=dict(self._omitted),
                default_rates={name: count / seen for name, count in self._defaulted.items()},
                stale_rates={name: count / seen for name, count in self._stale.items()},
                given_up=counts["given_up"],
                latency_ms=dict(zip(names, self._buckets, strict=True)),
                latency_sum_ms=self._latency_sum_ms,
                feedback=dict(self._feedback),
                store=store,
                store_set_aside=set_aside,
                shadow=shadow,
            )
