"""What the demo measured: the content of ``report.json``, typed.

One dataclass a JSON object, one field a key. ``Report.from_json`` checks every value, so that whoever reads a report
knows what it holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pocketrank.metrics import Interval as Interval  # noqa: PLC0414  (part of a report)
from pocketrank_export.report.figures import validated

Values = Annotated[tuple[float, ...], Field(min_length=1)]
"""What a plot draws: one or more."""


@dataclass(frozen=True)
class Quality:
    """One metric of every variant, on the device users' test slates; what each variant is, the page says."""

    first_stage: Interval
    v1: Interval
    v2: Interval
    v2_private: Interval
    v2_local: Interval
    consented: Interval
    central: Interval


@dataclass(frozen=True)
class Gains:
    """Paired differences in nDCG@10.

    ``federated``: v2 - v1; ``federated_private``: v2_private - v1; ``local``: v2_local - v2_private; ``to_central``:
    central - v2.
    """

    federated: Interval
    federated_private: Interval
    local: Interval
    to_central: Interval


@dataclass(frozen=True)
class Shares:
    """How much of (central - v1) the rounds reach, as a fraction; None where central training gained nothing."""

    federated: float | None
    federated_private: float | None


@dataclass(frozen=True)
class NdcgByRound:
    """nDCG@10 on the devices' tests; index 0 is before the first round. Measured afterwards, never used to choose."""

    v2: Values
    v2_private: Values


@dataclass(frozen=True)
class SizeBytes:
    """Sizes of files; ``update`` is what a device that has v1 downloads to have v2."""

    teacher: int
    float: int
    quantized: int
    train: int
    onnx: int
    bundle: int
    update: int


@dataclass(frozen=True)
class Quantization:
    """The quantized student against the float one; ``finite`` by the name of the runtime."""

    ndcg_loss_percent: float
    same_order_percent: float
    kendall_tau: float
    finite: Mapping[str, bool]


@dataclass(frozen=True)
class LatencyUs:
    """Median time of one slate of ``candidates``, one thread: all of ``rank()``, and the interpreter's invoke alone."""

    rank_p50: float
    invoke_p50: float
    runtime: str
    candidates: int


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters; ``trainable`` ones are what a device may change and send."""

    teacher: int
    student: int
    trainable: int


@dataclass(frozen=True)
class HeadWeight:
    """One column's weight in the trainable head, before and after the private rounds."""

    column: str
    private: bool
    v1: float
    v2_private: float

    @property
    def change(self) -> float:
        """What the private rounds added."""
        return self.v2_private - self.v1


@dataclass(frozen=True)
class Example:
    """One device user: titles liked in the history, three variants' top 5, and which of these were liked later."""

    user: str
    liked: tuple[str, ...]
    first_stage: tuple[str, ...]
    v1: tuple[str, ...]
    v2_private: tuple[str, ...]
    relevant: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All of it: ``epsilon`` is one device's over all rounds, at ``delta``; ``epsilon_by_round[0]`` after the first."""

    ndcg_at_10: Quality
    mrr_at_10: Quality
    gains: Gains
    shares: Shares
    epsilon: float
    delta: float
    sampling: str
    noise_multiplier: float
    clipping_norm: float
    rounds: int
    devices: int
    server_users: int
    epsilon_by_round: Values
    ndcg_by_round: NdcgByRound
    bytes_up_per_round: int
    bytes_down_per_round: int
    size_bytes: SizeBytes
    quantization: Quantization
    latency_us: LatencyUs
    parameters: Parameters
    central_seeds: int
    head: Annotated[tuple[HeadWeight, ...], Field(min_length=1)]
    timing_s: Mapping[str, float]
    versions: Mapping[str, str]
    seed: int
    machine: str
    example: Example

    def to_json(self) -> dict[str, object]:
        """The mapping that ``json.dumps`` writes as ``report.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> Report:
        """Read what ``to_json`` gave, or what ``json.loads`` read of it. Keys that are not known are left out.

        Raises:
            InputError: A key is missing, or its value is of another type, not finite, or empty where a plot needs
                values; each such key is named.
        """
        return validated(cls, content)
