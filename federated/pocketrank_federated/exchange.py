"""Send requests and gather replies, so that no reply and no silence can stop a run.

``Grid.send_and_receive`` decodes replies in one batch, and one that can't be
decoded raises out of it: a single hostile device would end the run. Here each
reply is pulled by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from flwr.app import Error, Message
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from pocketrank_federated.aggregation import LOST_CODES, UNREADABLE_CODE

_log = logging.getLogger(__name__)

POLL_S: Final = 1.0
_UNDECODABLE: Final = (ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError, DecodeError)


def exchange(
    grid: Grid,
    requests: Sequence[Message],
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Message]:
    """Push ``requests`` and wait for their replies, at most ``timeout_s``.

    Returns:
        One message for each request, its source the node that was asked. In place of a reply
        that did not come in time, or can't be decoded, stands an error that says so.
    """
    deadline = clock() + timeout_s
    pending = dict(zip(grid.push_messages(requests), requests, strict=True))
    replies: list[Message] = []
    while True:
        for message_id in list(pending):
            reply = _pull(grid, message_id, pending[message_id])
            if reply is not None:
                replies.append(reply)
                del pending[message_id]
        if not pending or clock() >= deadline:
            break
        sleep(POLL_S)
    lost = min(LOST_CODES)
    return replies + [Message(Error(lost, "no reply in time"), reply_to=request) for request in pending.values()]


def _pull(grid: Grid, message_id: str, request: Message) -> Message | None:
    """The reply to ``request``, or None while there is none."""
    try:
        replies = list(grid.pull_messages([message_id]))
    except _UNDECODABLE as error:
        _log.warning("node %d: reply can't be decoded (%s)", request.metadata.dst_node_id, type(error).__name__)
        return Message(Error(UNREADABLE_CODE, "unreadable"), reply_to=request)
    if not replies:
        return None
    reply = replies[0]
    if reply.metadata.src_node_id == request.metadata.dst_node_id:
        return reply
    code = reply.error.code if reply.has_error() else UNREADABLE_CODE  # the SuperLink's own errors have its id
    return Message(Error(code, "not from the node asked"), reply_to=request)
