"""Flower messages for tests, without a grid."""

from __future__ import annotations

from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from pocketrank_federated.messages import MESSAGE_TYPE


def request_to(node_id: int, content: RecordDict | None = None, server_round: int = 1) -> Message:
    """A request of a round to a node."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    return Message(content or RecordDict(), node_id, MESSAGE_TYPE, group_id=str(server_round))
