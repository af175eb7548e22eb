import logging
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from pocketrank.bundle import Array
from pocketrank_federated.client_app import client_app
from pocketrank_federated.ledger import MemoryLedger
from pocketrank_federated.messages import FAILED_CODE, MESSAGE_TYPE, REFUSED_CODE
from pocketrank_federated.participant import Participant, Trainer
from pocketrank_federated.records import read_reply, request_content
from tests.federated.flower import request_to
from tests.federated.toy import plan, toy_bundle, trainer_to

BUNDLE = toy_bundle()
CONTEXT = Context(run_id=1, node_id=10, node_config={}, state=RecordDict(), run_config={})
TARGET = np.arange(5, dtype=np.float32)


def ask(content: RecordDict, trainer: Trainer | None = None) -> Message:
    device = Participant(BUNDLE, trainer or trainer_to(TARGET), MemoryLedger())
    return client_app(lambda _: device)(request_to(10, content), CONTEXT)


def request(**changes: Any) -> RecordDict:
    content = request_content(plan().config(1, 3, BUNDLE.digest), BUNDLE.params())
    config = content["config"]
    assert isinstance(config, ConfigRecord)
    config.update(changes)
    return content


def test_the_reply_is_the_update_and_nothing_else() -> None:
    reply = ask(request())
    assert {name: set(record) for name, record in reply.content.items()} == {"update": {"update"}}
    assert isinstance(reply.content["update"], ArrayRecord)
    np.testing.assert_array_equal(read_reply(reply.content), TARGET)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (request(bundle_digest="0" * 64), "other_bundle"),
        (request(rounds_total=5000), "too_many_rounds"),
        (request(clipping_norm=-1.0), "malformed_request"),
        (request(code="import os"), "malformed_request"),
        (RecordDict(), "malformed_request"),
        (RecordDict({**request(), "params": ArrayRecord()}), "malformed_request"),
    ],
)
def test_a_refusal_says_its_reason(content: RecordDict, reason: str) -> None:
    reply = ask(content)
    assert (reply.error.code, reply.error.reason) == (REFUSED_CODE, reason)


def test_what_a_failure_says_stays_on_the_device(caplog: pytest.LogCaptureFixture) -> None:
    def train(_params: dict[str, Array], _rate: float, _steps: int) -> dict[str, Array]:
        raise RuntimeError("user 17 likes jazz")

    with caplog.at_level(logging.ERROR):
        reply = ask(request(), train)
    assert (reply.error.code, reply.error.reason) == (FAILED_CODE, "failed")
    assert "user 17 likes jazz" in caplog.text


@pytest.mark.parametrize(
    "message_type", ["train", "train.other", "evaluate", "evaluate.pocketrank_update", "query", "query.shell"]
)
def test_any_other_task_is_refused(message_type: str) -> None:
    def never(_: Context) -> Participant:
        raise AssertionError("a device was built for it")

    message = request_to(10, request())
    message.metadata.message_type = message_type
    assert message_type != MESSAGE_TYPE
    with pytest.raises(ValueError, match=r"No .* function registered"):
        client_app(never)(message, CONTEXT)
