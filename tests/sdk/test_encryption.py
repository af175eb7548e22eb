"""Encrypted stores: what can be read from the files, which key opens them, and what a changed byte does."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrank.errors import InputError, StoreError
from pocketrank.store import DeviceStore, Event
from pocketrank.store.encryption import KEY_BYTES, SALT_BYTES, Clear, Sealed

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
SALT = bytes(SALT_BYTES)
PLANTED = 1234.5


def filled(path: Path, key: bytes | None = KEY) -> DeviceStore:
    store = DeviceStore(path, key=key)
    secret = Event("SECRET-ITEM", 1.7e9, PLANTED, {"SECRET-FIELD": ("SECRET-VALUE",)}, {"SECRET-NAME": (PLANTED,) * 8})
    store.record([secret, Event("SECRET-SHOWN", 1.7e9, action="shown")])
    features = np.full((2, 8), PLANTED, np.float32)
    number = store.record_impression(
        ["SECRET-FIRST", "b"], features, at_s=1.7e9, bundle="SECRET-DIGEST", scores=[PLANTED, 0], propensities=[0.5, 1]
    )
    store.record_outcome(number, "SECRET-FIRST", 1.0, kind="secret_kind")
    store.keep_personal("SECRET-DIGEST", {"SECRET-PARAMETER": np.full(8, PLANTED, np.float32)})
    store.keep_personal("SECRET-DIGEST", {"SECRET-PARAMETER": np.full(8, 2 * PLANTED, np.float32)})
    store.keep_progress("SECRET-DIGEST", b"SECRET-PROGRESS")
    return store


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


TRACES = [b"SECRET", b"secret_kind", b"1234.5", np.full(2, PLANTED, "<f4").tobytes()]


def test_the_files_of_an_encrypted_store_tell_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path / "store.sqlite")
    assert {path.name for path in tmp_path.iterdir()} == {f"store.sqlite{end}" for end in ("", "-wal", "-shm")}
    for _ in range(2):
        held = bytes_in(tmp_path)
        assert [trace for trace in TRACES if trace in held] == []
        assert KEY not in held
        store.close()
    again = DeviceStore(tmp_path / "store.sqlite", key=KEY)
    assert [event.item for event in again.events()] == ["SECRET-ITEM", "SECRET-SHOWN"]
    assert again.events()[0].embeddings == {"SECRET-NAME": (PLANTED,) * 8}
    (shown,) = again.impressions()
    assert (shown.items, shown.outcomes) == (("SECRET-FIRST", "b"), {"secret_kind": {"SECRET-FIRST": 1.0}})
    assert again.progress("SECRET-DIGEST") == b"SECRET-PROGRESS"
    assert (again.undo_personal("SECRET-DIGEST") or {})["SECRET-PARAMETER"].tolist() == [PLANTED] * 8


def test_the_same_traces_are_found_in_a_store_without_a_key(tmp_path: Path) -> None:
    filled(tmp_path / "store.sqlite", key=None)
    held = bytes_in(tmp_path)
    assert [trace for trace in TRACES if trace in held] == TRACES


@pytest.mark.parametrize(
    ("made_with", "opened_with", "message"),
    [
        (KEY, OTHER, "encrypted with another key; open it with its own"),
        (KEY, None, "encrypted; open it with its key"),
        (None, KEY, "not encrypted; open it without a key"),
    ],
)
def test_a_store_opens_with_its_own_key_alone_and_is_left_as_it_was(
    made_with: bytes | None, opened_with: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "store.sqlite"
    filled(path, made_with).close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        DeviceStore(path, key=opened_with)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert len(DeviceStore(path, key=made_with).events()) == 2


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), "x" * 32, bytearray(32)])
def test_a_key_that_is_none_is_refused_before_a_file_is_made(key: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="key: expected 32 random bytes, got"):
        DeviceStore(tmp_path / "store.sqlite", key=key)
    assert list(tmp_path.iterdir()) == []


def test_each_store_has_keys_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        filled(tmp_path / name).close()
    contents = []
    for name in ("one", "two"):
        with sqlite3.connect(tmp_path / name) as db:
            contents.append([row for (row,) in db.execute("SELECT bundle FROM personal")])
        db.close()
    assert contents[0] != contents[1]


# ------------------------------------------------------------------------------------------------------------ tampering

CHANGES: dict[str, str] = {
    "a byte of an event": "UPDATE events SET content = substr(content, 1, 40) || x'00' || substr(content, 42)",
    "an event for another": "UPDATE events SET content = (SELECT content FROM events WHERE id = 2) WHERE id = 1",
    "the action of an event": "UPDATE events SET shown = 1 - shown",
    "the day of an event": "UPDATE events SET day = day + 1",
    "the number of an event": "UPDATE events SET id = id + 10",
    "the number of an impression": "UPDATE impressions SET id = id + 10",
    "an outcome's tag": "UPDATE outcomes SET tag = zeroblob(16)",
    "parameters for those before": "UPDATE personal SET content = before",
    "a parameter's bundle": "UPDATE personal SET bundle = (SELECT bundle FROM personal) || x'00'",
    "training for parameters": "UPDATE personal SET content = (SELECT content FROM progress)",
    "nothing at all": "UPDATE events SET content = x''",
}
READS: list[Callable[[DeviceStore], object]] = [
    lambda store: store.events(),
    lambda store: store.impressions(),
    lambda store: store.personal("SECRET-DIGEST"),
]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_changed_or_moved_is_never_taken_for_what_was_kept(change: str, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    filled(path).close()
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute("PRAGMA foreign_keys=OFF")
        db.execute(change)
    db.close()
    store = DeviceStore(path, key=KEY)
    for read in READS:
        read(store)
    if change == CHANGES["a parameter's bundle"]:  # nobody asks for it by that name
        assert store.personal("SECRET-DIGEST") is None
    else:
        assert store.set_aside == tmp_path / "store.sqlite.corrupt-1"
        assert (store.events(), store.impressions(), store.personal("SECRET-DIGEST")) == ([], [], None)
    store.record([Event("later", 1.7e9)])
    assert store.events()[-1].item == "later"


# --------------------------------------------------------------------------------------------------------------- cipher


@given(st.binary(max_size=64), st.text(max_size=8))
def test_what_is_sealed_is_unsealed_at_its_place(data: bytes, place: str) -> None:
    cipher = Sealed(KEY, SALT)
    assert cipher.unseal(cipher.seal(data, place), place) == data
    assert Clear().unseal(Clear().seal(data, place), place) == data


@given(st.binary(min_size=1, max_size=64), st.data())
def test_any_changed_bit_place_key_or_salt_is_detected(data: bytes, drawn: st.DataObject) -> None:
    cipher = Sealed(KEY, SALT)
    sealed = bytearray(cipher.seal(data, "place"))
    for other, place in ((cipher, "other"), (Sealed(OTHER, SALT), "place"), (Sealed(KEY, KEY), "place")):
        with pytest.raises(ValueError, match="not authentic"):
            other.unseal(bytes(sealed), place)
    bit = drawn.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="not authentic"):
        cipher.unseal(bytes(sealed), "place")


def test_the_same_bytes_are_sealed_differently_each_time() -> None:
    cipher = Sealed(KEY, SALT)
    assert len({cipher.seal(b"same", "place")[:12] for _ in range(1000)}) == 1000


def test_the_construction_is_hkdf_and_aes_gcm_as_written_down() -> None:
    """RFC 5869 by hand from HMAC, and cryptography's AES-GCM."""
    import hmac

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    extracted = hmac.digest(SALT, KEY, "sha256")
    first = hmac.digest(extracted, b"pocketrank device store\x01", "sha256")
    sealed = Sealed(KEY, SALT).seal(b"data", "place")
    assert len(first) == KEY_BYTES
    assert AESGCM(first).decrypt(sealed[:12], sealed[12:], b"place") == b"data"


def test_a_store_with_a_key_names_the_extra_that_is_missing(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pocketrank import DeviceStore\n"
        "DeviceStore(sys.argv[1]).close()\n"
        "DeviceStore(sys.argv[1] + '2', key=bytes(32))"
    )
    path = tmp_path / "store.sqlite"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, capture_output=True, text=True)
    wanted = 'ExtraMissingError: an encrypted store needs cryptography: pip install "pocketrank[encryption]"'
    assert wanted in done.stderr
    assert path.exists()
