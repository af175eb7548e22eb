"""Replies over an in-process grid, and what stands in for those that don't come or can't be read."""

from collections.abc import Callable

import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Message, RecordDict

from pocketrank_federated.aggregation import UNREADABLE_CODE
from pocketrank_federated.client_app import client_app
from pocketrank_federated.exchange import exchange
from pocketrank_federated.local_grid import NODE_UNAVAILABLE, Fault, LocalGrid
from pocketrank_federated.messages import MESSAGE_TYPE
from pocketrank_federated.records import request_content
from tests.federated.toy import participants, plan, targets, toy_bundle

BUNDLE = toy_bundle()


def grid_with(fault: Fault | None = None) -> LocalGrid:
    """Three devices; ``fault`` befalls the second."""
    app = client_app(participants(BUNDLE, targets(3)))
    return LocalGrid(app, 3, fault_for=lambda partition, _: fault if partition == 1 else None)


def requests(grid: LocalGrid) -> list[Message]:
    content = request_content(plan().config(1, 3, BUNDLE.digest), BUNDLE.params())
    return [Message(content, node, MESSAGE_TYPE, group_id="1") for node in grid.get_node_ids()]


def codes(replies: list[Message]) -> dict[int, int | None]:
    return {reply.metadata.src_node_id: reply.error.code if reply.has_error() else None for reply in replies}


def test_every_request_gets_its_reply() -> None:
    grid = grid_with()
    assert codes(exchange(grid, requests(grid), 0)) == {1000: None, 1001: None, 1002: None}


class BrokenArray(FlowerArray):
    """Bytes that pass a SuperLink, which looks at heads only, and can't be inflated."""

    def deflate(self) -> bytes:
        return super().deflate().replace(b'"dtype"', b'"btype"')


BrokenArray.__qualname__ = "Array"


def _broken(request: Message, _answer: Callable[[], Message]) -> Message:
    record = ArrayRecord()
    record["update"] = BrokenArray("float32", (3,), "numpy.ndarray", b"data")
    return Message(RecordDict({"update": record}), reply_to=request)


def test_a_reply_that_can_not_be_decoded_stops_flowers_own_loop_but_not_this_one() -> None:
    grid = grid_with(_broken)
    with pytest.raises(KeyError):
        grid.send_and_receive(requests(grid))
    grid = grid_with(_broken)
    assert codes(exchange(grid, requests(grid), 0)) == {1000: None, 1001: UNREADABLE_CODE, 1002: None}


def test_a_lost_device_is_reported_lost() -> None:
    grid = grid_with(lambda _request, _answer: None)
    assert codes(exchange(grid, requests(grid), 0)) == {1000: None, 1001: NODE_UNAVAILABLE, 1002: None}


def _impostor(request: Message, answer: Callable[[], Message]) -> Message:
    reply = answer()
    reply.metadata.__dict__["_src_node_id"] = request.metadata.dst_node_id + 1
    return reply


def test_a_reply_in_another_nodes_name_is_not_taken() -> None:
    grid = grid_with(_impostor)
    assert codes(exchange(grid, requests(grid), 0)) == {1000: None, 1001: UNREADABLE_CODE, 1002: None}


class SlowGrid(LocalGrid):
    """Hands out a node's reply only when asked often enough."""

    patience = 0

    def pull_messages(self, message_ids: object) -> list[Message]:
        self.patience -= 1
        return super().pull_messages(message_ids) if self.patience < 0 else []  # type: ignore[arg-type]


@pytest.mark.parametrize(("patience", "in_time"), [(5, True), (1000, False)])
def test_replies_are_awaited_until_the_deadline(patience: int, in_time: bool) -> None:  # noqa: FBT001
    grid = SlowGrid(client_app(participants(BUNDLE, targets(3))), 3)
    grid.patience = patience
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    replies = exchange(grid, requests(grid), 10, clock=lambda: now[0], sleep=sleep)
    assert len(replies) == 3
    assert all(reply.has_content() == in_time for reply in replies)
    assert now[0] <= 10
