"""A Flower ``Grid`` inside one process: for the demo, simulations and tests.

No network, no Ray, no SuperLink, but the same wire objects: each message is
deflated to bytes as Flower's own grid does, the bytes are counted, and the
other end inflates them anew. Devices run one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, cast

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, no_object_id_recompute
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from pocketrank_federated.messages import FAILED_CODE

RUN_ID: Final = 1
SERVER_NODE_ID: Final = 1
NODE_UNAVAILABLE: Final = 5
"""Flower's code for a node whose heartbeat has lapsed."""

Fault = Callable[[Message, Callable[[], Message]], Message | None]
"""A request, and what lets the device answer it, to the reply on the wire; None for a lost one."""


@dataclass(frozen=True)
class Wire:
    """A message as bytes: its objects by id, and which of them is the message."""

    root: str
    objects: dict[str, bytes]

    @property
    def size_bytes(self) -> int:
        """Bytes of all objects, as they are pushed to a SuperLink."""
        return sum(map(len, self.objects.values()))


class LocalGrid(Grid):
    """Devices in this process, behind the interface of a deployment.

    Attributes:
        bytes_up_by_node: Node id to bytes of its replies.
        bytes_down_by_node: Node id to bytes of its requests.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: int,
        *,
        fault_for: Callable[[int, Message], Fault | None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Let ``app`` run on ``nodes`` devices, numbered by ``partition-id`` in their node config.

        Args:
            app: What each device runs.
            nodes: Number of devices.
            fault_for: Partition and request to what goes wrong, for tests.
            progress: Called with the devices done and the devices asked in a push.
        """
        # Flower's Message() reads who is sending from here, as it is set in a ServerApp's process.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER_NODE_ID, 1
        self.bytes_up_by_node: Counter[int] = Counter()
        self.bytes_down_by_node: Counter[int] = Counter()
        self._app = app
        self._fault_for = fault_for
        self._progress = progress
        self._run = Run.create_empty(RUN_ID)
        self._replies: dict[str, Wire] = {}
        self._contexts = {
            1000 + partition: Context(
                run_id=RUN_ID,
                node_id=1000 + partition,
                node_config={"partition-id": partition, "num-partitions": nodes},
                state=RecordDict(),
                run_config={},
            )
            for partition in range(nodes)
        }

    @property
    def bytes_up(self) -> int:
        """Bytes of all replies so far."""
        return self.bytes_up_by_node.total()

    @property
    def bytes_down(self) -> int:
        """Bytes of all requests so far."""
        return self.bytes_down_by_node.total()

    def set_run(self, run: Run) -> None:
        """Keep ``run`` as Flower's loader does."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that this grid stands in."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message from the server to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All devices; they are always there."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Deliver each message and let its device answer at once."""
        requests = list(messages)
        with no_object_id_recompute():  # objects that messages share are deflated once, as on the way to a SuperLink
            deflated: dict[str, bytes] = {}
            wires = [_deflate(request, deflated) for request in requests]
        for done, wire in enumerate(wires, start=1):
            self._deliver(wire)
            if self._progress is not None:
                self._progress(done, len(wires))
        return [wire.root for wire in wires]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Inflate the replies to ``message_ids``; each is handed out once."""
        return [_inflate(self._replies.pop(i)) for i in message_ids if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:  # noqa: ARG002
        """Push and pull; every device has answered by then."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, wire: Wire) -> None:
        request = _inflate(wire)
        node_id = request.metadata.dst_node_id
        self.bytes_down_by_node[node_id] += wire.size_bytes

        def answer() -> Message:
            try:
                return self._app(request, self._contexts[node_id])
            except Exception as error:  # noqa: BLE001  (as Flower's own runner: an app that raises answers an error)
                return Message(Error(FAILED_CODE, type(error).__name__), reply_to=request)

        partition = node_id - 1000
        fault = self._fault_for(partition, request) if self._fault_for is not None else None
        reply = answer() if fault is None else fault(request, answer)
        with no_object_id_recompute():
            up = _deflate(reply or Message(Error(NODE_UNAVAILABLE, "lost"), reply_to=request), {})
        if reply is not None:
            self.bytes_up_by_node[node_id] += up.size_bytes
        self._replies[wire.root] = up


def _deflate(message: Message, deflated: dict[str, bytes]) -> Wire:
    """``message`` as bytes; ``deflated`` holds objects that are bytes already.

    To be called where object ids are not computed anew: else each is, many times over.
    """
    nested = get_all_nested_objects(message)
    for object_id, item in nested.items():
        if object_id not in deflated:
            deflated[object_id] = item.deflate()
    return Wire(message.object_id, {object_id: deflated[object_id] for object_id in nested})


def _inflate(wire: Wire) -> Message:
    message = cast("Message", inflate_object_from_contents(wire.root, dict(wire.objects)))
    message.metadata.__dict__["_message_id"] = wire.root  # the id is not part of its own content
    return message
