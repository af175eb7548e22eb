"""``pocketrank device``: a store is looked at, wiped and learned from, and nothing of it is shown."""

import os
import pty
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pocketrank import DeviceStore, Event
from pocketrank.bundle import TRAIN_MODEL, build
from pocketrank.commands import Exit
from pocketrank.store import Limits
from tests import shop
from tests.commands import COMMAND, answer, run

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
NOW_S = time.time()
ITEMS = tuple(f"item-{number}" for number in range(8))


def recent(count: int) -> list[Event]:
    """Events that no store drops for their age."""
    return [replace(event, at_s=NOW_S + at) for at, event in enumerate(shop.events(1, count))]


def features(seed: int) -> npt.NDArray[np.float32]:
    return (
        np.random.default_rng(seed)
        .normal(size=(len(ITEMS), len(shop.bundle().manifest.schema.columns)))
        .astype(np.float32)
    )


def fill(store: DeviceStore) -> None:
    """Events, and slates in which the first column decided what was clicked."""
    store.record(recent(20))
    shown = 0
    for number in range(30):
        slate = features(number)
        shown = store.record_impression(ITEMS, slate, at_s=NOW_S + number, bundle=shop.bundle().digest)
        store.record_outcome(shown, ITEMS[int(slate[:, 0].argmax())], 1.0)
    store.record_outcome(shown, ITEMS[0], 1.0, kind="skip")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = DeviceStore(tmp_path / "store.db")
    fill(store)
    store.close()
    return tmp_path / "store.db"


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    store = DeviceStore(tmp_path / "sealed.db", key=KEY)
    store.record(recent(7))
    store.close()
    return tmp_path / "sealed.db"


@pytest.fixture
def held(path: Path) -> Iterator[DeviceStore]:
    store = DeviceStore(path)
    yield store
    store.close()


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_counts_what_is_there(path: Path, held: DeviceStore) -> None:
    found = answer(run("device", "status", path, "--json"))
    assert (found["size"]["events"], found["size"]["impressions"], found["size"]["shown"]) == (20, 30, 0)
    assert found["size"].keys() == asdict(held.size()).keys()
    assert found["limits"] == asdict(Limits())
    assert (found["personal_parameters"], found["set_aside"], found["store"]) == (None, None, str(path))


def test_status_counts_the_personal_parameters_of_a_bundle(path: Path, held: DeviceStore) -> None:
    words = ("device", "status", path, "--bundle", shop.FOLDER, "--json")
    assert answer(run(*words))["personal_parameters"] == 0
    params = shop.bundle().params()
    held.keep_personal(shop.bundle().digest, params)
    assert answer(run(*words))["personal_parameters"] == sum(value.size for value in params.values())


def test_status_shows_nothing_personal(path: Path) -> None:
    for words in ((), ("--json",)):
        done = run("device", "status", path, "--bundle", shop.FOLDER, *words)
        assert done.returncode == Exit.OK
        assert "item-" not in done.stdout + done.stderr
        assert "30" in done.stdout, "the number of impressions is shown"


def test_a_corrupt_file_is_set_aside_and_status_says_where(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:] = bytes(len(content) - 100)
    path.write_bytes(content)
    found = answer(run("device", "status", path, "--json"))
    assert Path(found["set_aside"]).exists()
    assert found["size"]["events"] == 0


@pytest.mark.parametrize("verb", ["status", "wipe"])
def test_a_store_is_never_made_here(tmp_path: Path, verb: str) -> None:
    assert run("device", verb, tmp_path / "absent.db").returncode == Exit.USAGE
    assert list(tmp_path.iterdir()) == []


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")


def a_letter(path: Path) -> None:
    path.write_text("dear ann")


def nothing_at_all(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("made", [other_database, a_letter, nothing_at_all])
@pytest.mark.parametrize("verb", [("status",), ("wipe", "--yes"), ("learn", str(shop.FOLDER))])
def test_another_file_is_refused_and_left_as_it_is(
    tmp_path: Path, made: Callable[[Path], None], verb: tuple[str, ...]
) -> None:
    path = tmp_path / "theirs"
    made(path)
    content = path.read_bytes()
    name, *options = verb
    found = answer(run("device", name, path, *options, "--json"), Exit.STORE)["error"]
    assert found["kind"] == "StoreError"
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [("theirs", content)]


# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_key_of_an_encrypted_store_comes_from_the_environment(sealed: Path) -> None:
    found = answer(run("device", "status", sealed, "--json", POCKETRANK_STORE_KEY=KEY.hex()))
    assert found["size"]["events"] == 7


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", Exit.STORE),
        (OTHER_KEY.hex(), Exit.STORE),
        (KEY.hex()[:-1] + "x", Exit.INPUT),
        (KEY.hex()[:-2], Exit.INPUT),
        (KEY.hex() + "00", Exit.INPUT),
    ],
)
@pytest.mark.parametrize("verb", [("status",), ("wipe", "--yes")])
def test_without_the_right_key_nothing_is_opened_or_shown(
    sealed: Path, key: str, code: Exit, verb: tuple[str, ...]
) -> None:
    before = sealed.read_bytes()
    done = run("device", *verb, sealed, "--json", POCKETRANK_STORE_KEY=key)
    assert answer(done, code)["error"]["exit_code"] == code
    assert sealed.read_bytes() == before
    for secret in {KEY.hex(), key[:-2]} - {""}:
        assert secret not in done.stdout + done.stderr


def test_a_key_is_not_shown_by_an_error_of_our_own(sealed: Path, tmp_path: Path) -> None:
    """A traceback gives lines of code and no values."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sqlite3\ndef broken(*_, **__):\n    raise RuntimeError('a bug')\nsqlite3.connect = broken\n"
    )
    done = run("device", "status", sealed, POCKETRANK_STORE_KEY=KEY.hex(), modules=tmp_path)
    assert done.returncode == Exit.FAILED
    assert "a bug" in done.stderr
    shown = done.stdout + done.stderr
    assert KEY.hex() not in shown
    assert repr(KEY)[2:20] not in shown


# -- wipe --------------------------------------------------------------------------------------------------------------


def test_wipe_leaves_nothing(path: Path, held: DeviceStore) -> None:
    held.close()
    assert answer(run("device", "wipe", path, "--yes", "--json")) == {"store": str(path), "wiped": True}
    left = DeviceStore(path)
    assert (left.events(), left.impressions()) == ([], [])
    left.close()
    files = b"".join(part.read_bytes() for part in path.parent.iterdir())
    assert b"item-" not in files


def test_wipe_refuses_where_nobody_can_confirm_it(path: Path) -> None:
    done = run("device", "wipe", path, "--json")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert "--yes" in done.stderr
    assert answer(run("device", "status", path, "--json"))["size"]["events"] == 20


@pytest.mark.parametrize(("word", "left", "code"), [("y", 0, Exit.OK), ("n", 20, Exit.FAILED), ("", 20, Exit.FAILED)])
def test_wipe_asks_at_a_terminal(path: Path, word: str, left: int, code: Exit) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{word}\n".encode())
    done = subprocess.run([*COMMAND, "device", "wipe", path], check=False, stdin=theirs, capture_output=True, text=True)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == code
    assert "Forget everything" in done.stderr
    assert answer(run("device", "status", path, "--json"))["size"]["events"] == left


# -- learn -------------------------------------------------------------------------------------------------------------


def test_learning_keeps_what_serves_held_out_slates_better_and_is_undone(path: Path) -> None:
    status = ("device", "status", path, "--bundle", shop.FOLDER, "--json")
    found = answer(run("device", "learn", path, shop.FOLDER, "--budget-s", "30", "--json"))
    assert found["kept"]
    assert found["after"] < found["before"]
    assert found["slates"] == 30
    count = sum(value.size for value in shop.bundle().params().values())
    assert answer(run(*status))["personal_parameters"] == count
    undone = answer(run("device", "learn", path, shop.FOLDER, "--undo", "--json"))
    assert undone == {"undone": True, "personal_parameters": 0}
    assert answer(run(*status))["personal_parameters"] == 0
    again = answer(run("device", "learn", path, shop.FOLDER, "--undo", "--json"))
    assert again == {"undone": False, "personal_parameters": 0}


def test_learning_nothing_is_no_error(tmp_path: Path) -> None:
    DeviceStore(tmp_path / "store.db").close()
    found = answer(run("device", "learn", tmp_path / "store.db", shop.FOLDER, "--json"))
    assert (found["kept"], found["steps"], found["stopped"]) == (False, 0, "no data")
    shown = run("device", "learn", tmp_path / "store.db", shop.FOLDER)
    assert shown.returncode == Exit.OK
    assert "no data" in shown.stdout


def test_a_bundle_that_cannot_learn_is_a_bundle_error(path: Path, tmp_path: Path) -> None:
    files = {name: content for name, content in shop.bundle().files.items() if name != TRAIN_MODEL}
    build(shop.bundle().manifest, files).save(tmp_path / "bundle")
    found = answer(run("device", "learn", path, tmp_path / "bundle", "--json"), Exit.BUNDLE)["error"]
    assert TRAIN_MODEL in found["message"]
