"""From replies to a sum: each reply is checked before it is used, and a bad one costs only itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import numpy as np
from flwr.app import Message

from pocketrank.bundle import Array
from pocketrank.errors import InputError
from pocketrank_federated.clipping import l2_norm
from pocketrank_federated.messages import MESSAGE_TYPE, REFUSED_CODE
from pocketrank_federated.noise import Sum
from pocketrank_federated.policy import Refusal
from pocketrank_federated.records import read_reply

NORM_TOLERANCE: Final = 1e-6
"""What ``clip_update`` guarantees, relative."""
UNREADABLE_CODE: Final = 1003
"""Error code of the stand-in for a reply that could not be decoded."""
LOST_CODES: Final = frozenset({3, 4, 5})
"""Flower's own: message unavailable, reply unavailable, node unavailable."""


class Discard(StrEnum):
    """Why a reply was not used, beside the refusals of a device's own policy."""

    LOST = "lost"
    FAILED = "failed"
    UNREADABLE = "unreadable"
    UNKNOWN_NODE = "unknown_node"
    DUPLICATE = "duplicate"
    WRONG_ROUND = "wrong_round"
    CONTENT = "wrong_content"
    DTYPE = "wrong_dtype"
    SHAPE = "wrong_shape"
    NOT_FINITE = "not_finite"
    NORM = "norm_too_large"


class DiscardError(InputError):
    """A reply that must not be used.

    Attributes:
        reason: A ``Discard`` or a ``Refusal``; what is counted.
    """

    def __init__(self, reason: Discard | Refusal) -> None:
        """Keep the reason; a reply's content is never repeated in a message."""
        super().__init__(f"reply: {reason}")
        self.reason = reason


class UpdateSum(Protocol):
    """A sum of updates in the making: the seam for a sum of which the server sees only the total."""

    def add(self, node_id: int, update: Array) -> None:
        """Take in one checked update, float32 ``[d]``."""

    def total(self) -> Sum:
        """The sum of what was taken in, float64 ``[d]``."""


class PlainSum:
    """A sum that the server makes itself; it sees each update."""

    def __init__(self, width: int) -> None:
        """Start at zero, ``[width]``."""
        self._total = np.zeros(width, np.float64)

    def add(self, node_id: int, update: Array) -> None:  # noqa: ARG002  (a masked sum needs the node)
        """See ``UpdateSum.add``."""
        self._total += update

    def total(self) -> Sum:
        """See ``UpdateSum.total``."""
        return self._total.copy()


@dataclass(frozen=True)
class Cohort:
    """The devices of one round and what their replies must be.

    Attributes:
        server_round: Number of the round.
        asked: Ids of the nodes asked.
        width: Length of an update, d.
        clipping_norm: L2 bound of an update.
    """

    server_round: int
    asked: AbstractSet[int]
    width: int
    clipping_norm: float


@dataclass(frozen=True)
class Tally:
    """How the replies of a round fared: devices used, and devices not used by reason."""

    answered: int
    refused: Mapping[str, int]


def collect(replies: Iterable[Message], cohort: Cohort, total: UpdateSum) -> Tally:
    """Add each usable reply to ``total`` and count the others.

    Guarantees:
        Each node counts once, so that answered + refused covers the cohort (replies of nodes
        that were not asked, and second replies, are counted on top). No reply raises.
    """
    refused: Counter[str] = Counter()
    seen: set[int] = set()
    answered = 0
    for reply in replies:
        node_id = reply.metadata.src_node_id
        try:
            if node_id not in cohort.asked:
                raise DiscardError(Discard.UNKNOWN_NODE)
            if node_id in seen:
                raise DiscardError(Discard.DUPLICATE)
            seen.add(node_id)
            total.add(node_id, check_reply(reply, cohort))
            answered += 1
        except DiscardError as error:
            refused[error.reason.value] += 1
    if silent := len(cohort.asked - seen):
        refused[Discard.LOST.value] += silent
    return Tally(answered, dict(sorted(refused.items())))


def check_reply(reply: Message, cohort: Cohort) -> Array:
    """The update in a reply.

    Returns:
        float32 ``[d]``, finite, norm <= cohort.clipping_norm * (1 + 1e-6).

    Raises:
        DiscardError: The reply must not be used.
    """
    if reply.has_error():
        raise DiscardError(_error_reason(reply.error.code, reply.error.reason))
    metadata = reply.metadata
    if metadata.group_id != str(cohort.server_round) or metadata.message_type != MESSAGE_TYPE:
        raise DiscardError(Discard.WRONG_ROUND)
    try:
        update = read_reply(reply.content)
    except (InputError, ValueError) as error:  # ValueError: a message with neither content nor error
        raise DiscardError(Discard.CONTENT) from error
    if update.dtype != np.float32:
        raise DiscardError(Discard.DTYPE)
    if update.shape != (cohort.width,):
        raise DiscardError(Discard.SHAPE)
    if not np.isfinite(update).all():
        raise DiscardError(Discard.NOT_FINITE)
    if l2_norm(update) > cohort.clipping_norm * (1 + NORM_TOLERANCE):
        raise DiscardError(Discard.NORM)
    return update


def _error_reason(code: int, reason: str | None) -> Discard | Refusal:
    """The reason to count; text from a device is matched, never repeated."""
    if code == REFUSED_CODE and reason in {refusal.value for refusal in Refusal}:
        return Refusal(reason)
    if code in LOST_CODES:
        return Discard.LOST
    return Discard.UNREADABLE if code == UNREADABLE_CODE else Discard.FAILED
