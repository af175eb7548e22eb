import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketrank import durable
from pocketrank.errors import StoreError
from pocketrank_federated.ledger import FileLedger, Ledger, MemoryLedger
from pocketrank_federated.policy import Refusal, RefusalError

MakeLedger = Callable[[Path], Ledger]
both = pytest.mark.parametrize(
    "make",
    [lambda _: MemoryLedger(), lambda folder: FileLedger(folder / "rounds" / "ledger.json")],
    ids=["memory", "file"],
)


def refusal(ledger: Ledger, bundle: str, server_round: int, max_rounds: int) -> Refusal:
    with pytest.raises(RefusalError) as caught:
        ledger.charge(bundle, server_round, max_rounds)
    return caught.value.reason


@both
def test_rounds_are_counted_up_to_the_budget_and_not_beyond(make: MakeLedger, tmp_path: Path) -> None:
    ledger = make(tmp_path)
    for server_round in (1, 2, 5):
        ledger.charge("a", server_round, 3)
    assert refusal(ledger, "a", 6, 3) is Refusal.ROUNDS


@both
@pytest.mark.parametrize("again", [1, 2])
def test_a_round_that_is_not_newer_is_a_replay(make: MakeLedger, tmp_path: Path, again: int) -> None:
    ledger = make(tmp_path)
    ledger.charge("a", 2, 10)
    assert refusal(ledger, "a", again, 10) is Refusal.REPLAY


@both
def test_each_bundle_has_its_own_budget(make: MakeLedger, tmp_path: Path) -> None:
    ledger = make(tmp_path)
    ledger.charge("a", 1, 1)
    ledger.charge("b", 1, 1)
    assert refusal(ledger, "a", 2, 1) is Refusal.ROUNDS


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    FileLedger(tmp_path / "ledger.json").charge("a", 1, 1)
    assert refusal(FileLedger(tmp_path / "ledger.json"), "a", 2, 1) is Refusal.ROUNDS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format":1}',
        b'{"format":2,"bundles":{}}',
        b'{"format":1,"bundles":{"a":{"rounds":-1,"last_round":0}}}',
        b'{"format":1,"bundles":{"a":{"rounds":"1","last_round":0}}}',
        b'{"format":1,"bundles":{"a":{"round":1}}}',
    ],
)
def test_a_ledger_that_cannot_be_read_stops_participation(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="ledger"):
        FileLedger(path).charge("a", 1, 10)
    assert path.read_bytes() == content


def test_a_ledger_that_cannot_be_written_stops_participation(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="ledger"):
        FileLedger(tmp_path / "file" / "ledger.json").charge("a", 1, 10)


def test_two_charges_at_once_can_not_both_get_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.json"
    granted: list[str] = []
    second_is_done = threading.Event()

    def charge(name: str) -> None:
        with contextlib.suppress(RefusalError):
            FileLedger(path).charge("a", 1, 10)
            granted.append(name)

    def second() -> None:
        charge("second")
        second_is_done.set()

    thread = threading.Thread(target=second)

    def write_while_another_charges(target: Path, data: bytes) -> None:
        if not thread.ident:
            thread.start()
            second_is_done.wait(0.3)  # without a lock it is done by then: it read what this one read
        durable.write_atomically(target, data)

    monkeypatch.setattr("pocketrank_federated.ledger.write_atomically", write_while_another_charges)
    charge("first")
    thread.join()
    assert granted == ["first"]
