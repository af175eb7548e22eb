"""Ranking reads memory: whoever holds the store's file up holds no slate up."""

import threading
from pathlib import Path

from pocketrank import DeviceStore, Event, Reranker
from tests import shop


def test_a_slate_is_ranked_while_recording_waits_for_another_process(tmp_path: Path) -> None:
    store, other = DeviceStore(tmp_path / "store.sqlite"), DeviceStore(tmp_path / "store.sqlite")
    reranker = Reranker.load(shop.FOLDER, store=store)
    asked = threading.Event()

    def observe() -> None:
        asked.set()
        reranker.observe([Event("waits", 1.7e9)])

    thread = threading.Thread(target=observe)
    with other.together():
        thread.start()
        asked.wait()
        slates = [reranker.rank(shop.candidates(range(30))) for _ in range(20)]
        assert thread.is_alive()
        assert other.events() == []
    thread.join()
    assert all(len(slate) == 30 for slate in slates)
    assert [event.item for event in other.events()] == ["waits"]
