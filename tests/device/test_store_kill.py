"""Kill -9 at random points: the store loses nothing that a call had returned from, and is never damaged."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from pocketrank.store import DeviceStore, Event, Limits
from pocketrank.store.tables import SCHEMA_VERSION
from tests.old_store import VERSION_1

# Small, so that rows leave, pages are used again and the log is written back all the time.
LIMITS = Limits(max_events=40, max_shown=40, max_impressions=10, max_bytes=1 << 20)
KEY = bytes(range(32))

# One Python forks a writer for each line it reads, so that numpy is imported once.
WRITERS = """
import os, sys
import numpy as np
from pocketrank.store import DeviceStore, Event, Limits

path, key, *limits = sys.argv[1:]
LIMITS = Limits(*map(int, limits[:3]), max_bytes=int(limits[3]))

def write(number, acknowledged):
    store = DeviceStore(path, key=bytes.fromhex(key) or None, limits=LIMITS)
    features = np.ones((8, 16), np.float32)
    while True:
        event = Event(f"event-{number}", 1.7e9 + number, fields={"text": ("x" * (number % 700),)})
        if number % 3:
            store.record([event])
        else:
            with store.together():
                shown = store.record_impression([f"{number}"] * 8, features, at_s=1.7e9, bundle="x")
                store.record_outcome(shown, f"{number}", 1.0)
                store.record([event])
        os.write(acknowledged, b"%d\\n" % number)
        number += 1

for line in sys.stdin:
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        write(int(line), outlet)
    os.close(outlet)
    print(child, flush=True)
    with os.fdopen(inlet) as acknowledged:
        for number in acknowledged:
            print(number, end="", flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def kill_a_writer(writers: "subprocess.Popen[str]", first: int, after: int) -> int:
    """Start a writer that counts from ``first``, kill it once it acknowledged ``after`` events; how far it came."""
    asked, told = pipe(writers.stdin), pipe(writers.stdout)
    asked.write(f"{first}\n")
    asked.flush()
    child = int(told.readline())
    written, alive = first, True
    while (line := told.readline().strip()) != "dead":
        assert int(line) == written
        written += 1
        if alive and written - first >= after:
            os.kill(child, signal.SIGKILL)
            alive = False
    return written


def pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None
    return end


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("key", [None, KEY], ids=["clear", "sealed"])
def test_a_kill_at_any_point_loses_no_acknowledged_event(kills: int, key: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    limits = [LIMITS.max_events, LIMITS.max_shown, LIMITS.max_impressions, LIMITS.max_bytes]
    arguments = [str(path), (key or b"").hex(), *map(str, limits)]
    rng = random.Random(kills)
    with subprocess.Popen(
        [sys.executable, "-c", WRITERS, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writers:
        written = 0
        for _ in range(kills):
            written = kill_a_writer(writers, written, rng.randint(1, 60))
            store = DeviceStore(path, key=key, limits=LIMITS)
            assert store.set_aside is None
            assert store._file.connection().execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            numbers = [int(event.item.removeprefix("event-")) for event in store.events()]
            # The one that was under way at the kill may have been kept, too.
            assert numbers[-1] in {written - 1, written}
            written = numbers[-1] + 1
            assert numbers == list(range(max(0, written - LIMITS.max_events), written))
            shown = [int(impression.items[0]) for impression in store.impressions()]
            assert shown == list(range(0, written, 3))[-LIMITS.max_impressions :]
            assert all(impression.labels.all() for impression in store.impressions())
            store.close()


OLD = (
    VERSION_1
    + """
INSERT INTO events VALUES (7, 1.7e9, 'a', 1.0, '{}'), (8, 1.7e9, 'b', 2.0, '{"genre": ["drama"]}');
INSERT INTO impressions VALUES (3, 1.7e9, 'x', '["a"]', x'0000803f', 1);
INSERT INTO outcomes VALUES (3, 'a', 1.0);
PRAGMA application_id=0x506F5261;
PRAGMA user_version=1;
PRAGMA journal_mode=WAL;
"""
)
OPENERS = """
import os, signal, sqlite3, sys
from pocketrank.store import opening as store_opening

def open_and_die(statements):
    db = sqlite3.connect(sys.argv[1], isolation_level=None)
    left = statements

    def trace(statement):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    db.set_trace_callback(trace)
    store_opening.prepare(db, sys.argv[1], None)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        open_and_die(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_kill_within_a_migration_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    """Killed before each of its statements in turn, some of them sampled."""
    path = tmp_path / "store.sqlite"
    versions = []
    with subprocess.Popen(
        [sys.executable, "-c", OPENERS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as openers:
        asked, told = pipe(openers.stdin), pipe(openers.stdout)
        for statements in (1, 4, 5, 8, 12, 16, 20, 22, 24, 26, 28, 30, 32, 36, 60):
            path.unlink(missing_ok=True)
            with sqlite3.connect(path) as old:
                old.executescript(OLD)
            old.close()
            asked.write(f"{statements}\n")
            asked.flush()
            assert int(told.readline()) in {0, -signal.SIGKILL}
            with sqlite3.connect(path) as db:
                versions.append(db.execute("PRAGMA user_version").fetchone()[0])
            db.close()
            store = DeviceStore(path)
            assert store.set_aside is None
            assert store.events() == [Event("a", 1.7e9), Event("b", 1.7e9, 2.0, {"genre": ("drama",)})]
            assert [(found.items, found.labels.tolist()) for found in store.impressions()] == [(("a",), [1.0])]
            store.close()
    assert versions == sorted(versions)
    assert set(versions) == {1, SCHEMA_VERSION}
