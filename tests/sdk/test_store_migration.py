"""Files of version 1 become files of the present version, with all that they held."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from pocketrank.bundle import save_arrays
from pocketrank.errors import StoreError
from pocketrank.store import DeviceStore, Event, Limits
from pocketrank.store.tables import APPLICATION, SCHEMA_VERSION
from tests.old_store import VERSION_1

EVENTS = [Event(f"item-{i}", 1.7e9 + i, i / 3, {"genre": ("drama", "ünïcode\ud800")[: i % 3]}) for i in range(1, 300)]
FEATURES = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
PARAMS = {"w": np.array([1.5, 2.5], np.float32)}


def old_store(path: Path) -> None:
    """A file as version 1 wrote it."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(VERSION_1)
        db.executemany(
            "INSERT INTO events (at_s, item, value, fields) VALUES (?, ?, ?, ?)",
            [(event.at_s, event.item, event.value, json.dumps(dict(event.fields))) for event in EVENTS],
        )
        for number, features in ((4, FEATURES[0]), (5, FEATURES[1]), (6, FEATURES[0])):
            db.execute(
                "INSERT INTO impressions VALUES (?, 1.7e9, 'digest', ?, ?, 2)",
                (number, json.dumps(["a", "b", "c"]), features.astype("<f4").tobytes()),
            )
        db.executemany("INSERT INTO outcomes VALUES (?, ?, ?)", [(4, "a", 0.25), (5, "b", 1.0), (5, "c", 0.5)])
        # The newest slate has gone; its number must not come again.
        db.execute("DELETE FROM impressions WHERE id = 6")
        db.execute("INSERT INTO personal VALUES ('digest', ?)", (save_arrays(PARAMS),))
        db.execute(f"PRAGMA application_id={APPLICATION}")
        db.execute("PRAGMA user_version=1")
    db.close()


def test_a_file_of_version_1_keeps_all_it_held(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    old_store(path)
    for _ in range(2):
        store = DeviceStore(path)
        assert store.set_aside is None
        assert store.events() == EVENTS
        first, second = store.impressions()
        for found, features, labels in ((first, FEATURES[0], [0.25, 0, 0]), (second, FEATURES[1], [0, 1.0, 0.5])):
            assert (found.items, found.at_s, found.bundle) == (("a", "b", "c"), 1.7e9, "digest")
            np.testing.assert_array_equal(found.features, features)
            assert found.labels.tolist() == labels
        np.testing.assert_array_equal((store.personal("digest") or {})["w"], PARAMS["w"])
        assert store._file.connection().execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert store._file.connection().execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert store._file.connection().execute("PRAGMA foreign_key_check").fetchall() == []
        store.close()


def test_a_file_of_version_1_goes_on_where_it_was(tmp_path: Path) -> None:
    old_store(tmp_path / "store.sqlite")
    store = DeviceStore(tmp_path / "store.sqlite")
    store.record([Event("later", 1.7e9)])
    assert store.events() == [*EVENTS, Event("later", 1.7e9)]
    assert store.record_impression(["a"], np.ones((1, 2), np.float32), at_s=1.7e9, bundle="x") == 7
    store.record_outcome(4, "b", 1.0)
    assert store.impressions()[0].labels.tolist() == [0.25, 1.0, 0.0]
    assert store.undo_personal("digest") is None


def test_an_empty_file_of_version_1_is_migrated(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.executescript(f"{VERSION_1} PRAGMA application_id={APPLICATION}; PRAGMA user_version=1;")
    db.close()
    store = DeviceStore(tmp_path / "store.sqlite")
    assert (store.events(), store.impressions()) == ([], [])
    assert store.record_impression(["a"], np.ones((1, 2), np.float32), at_s=1.7e9, bundle="x") == 1


def test_a_file_of_version_1_is_held_to_the_limits(tmp_path: Path) -> None:
    old_store(tmp_path / "store.sqlite")
    store = DeviceStore(tmp_path / "store.sqlite", limits=Limits(max_events=10, max_impressions=1))
    assert store.events() == EVENTS[-10:]
    assert len(store.impressions()) == 1


def test_a_file_of_version_1_cant_be_opened_with_a_key_and_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    old_store(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not encrypted; open it without a key"):
        DeviceStore(path, key=bytes(32))
    assert path.read_bytes() == before


def test_a_damaged_file_of_version_1_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    old_store(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE events SET fields = 'no JSON' WHERE id = 200")
    db.close()
    store = DeviceStore(path)
    assert store.set_aside == tmp_path / "store.sqlite.corrupt-1"
    assert store.events() == []
    with sqlite3.connect(store.set_aside) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
