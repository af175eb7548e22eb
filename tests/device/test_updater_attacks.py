"""The updater against a hostile repository: the error, and what stays installed."""

import datetime as dt
import os
import shutil
import types
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile, TargetFile
from tuf.ngclient._internal import trusted_metadata_set

from pocketrank.bundle import GOLDEN, PARAMS, RANK_MODEL, Bundle
from pocketrank.errors import UpdateError
from pocketrank_server.repository import Repository
from tests.signed import LONG, NAME, World, assert_refused, content, flip, make, new_world, now


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


def flip_root(world: World) -> None:
    world.repository.renew_root(now())
    flip(world.metadata("root"))


def older_timestamp(world: World) -> None:
    shutil.copy(world.old / "metadata/timestamp.json", world.repository.folder / "metadata")


def older_repository(world: World) -> None:
    shutil.rmtree(world.repository.folder)
    shutil.copytree(world.old, world.repository.folder)


def older_snapshot_signed_by_timestamp_key(world: World) -> None:
    state = world.repository._published()
    old = world.metadata("snapshot", world.old)
    state.timestamp.snapshot_meta = MetaFile.from_data(2, old.read_bytes(), ["sha256"])
    state.timestamp.version += 1
    world.repository._write_metadata(state.root, state.timestamp)


def old_file_of_role(world: World, role: str) -> None:
    shutil.copy(world.metadata(role, world.old), world.metadata(role))


def old_targets_signed_by_snapshot_key(world: World) -> None:
    state = world.repository._published()
    state.snapshot.meta["targets.json"] = MetaFile.from_data(
        2, world.metadata("targets", world.old).read_bytes(), ["sha256"]
    )
    world.repository._release(state, now(), renew_targets=False)


def older_bundle_signed_freshly(world: World) -> None:
    world.sign(make(1).manifest.to_json(), content(1))


def other_bundle_of_installed_version(world: World) -> None:
    files = content(9)
    world.sign(make(2, files).manifest.to_json(), files)


def bundle_of_another_name(world: World) -> None:
    world.sign(make(3, name="books").manifest.to_json(), content(3))


def expired(world: World, role: str) -> None:
    signer = Repository.open(world.repository.folder, world.repository.keys_folder, lifetimes=LONG)
    long_ago = now() - timedelta(days=1001)
    if role == "root":
        return signer.renew_root(long_ago)
    signer._lifetimes = replace(LONG, **{role: timedelta(days=1)})
    signer.refresh(now() - timedelta(days=2), renew_targets=role == "targets")
    return None


def other_keys(world: World) -> None:
    shutil.rmtree(world.repository.folder)
    stranger = Repository.create(world.repository.folder, world.home.parent / "other_keys", now())
    for version in range(3, 9):
        stranger.publish(make(version), now())


def root_of_other_keys(world: World) -> None:
    other_keys(world)
    Repository.open(world.repository.folder, world.home.parent / "other_keys").renew_root(now())


def pad(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(100_000))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def nested(path: Path) -> None:
    path.write_bytes(b"[" * 16_000)


def oversized_manifest(world: World) -> None:
    world.sign(b"{" + b" " * (1 << 20) + make(3).manifest.to_json()[1:], content(3))


def manifest_with_spaces(world: World) -> None:
    world.sign(b" " + make(3).manifest.to_json(), content(3))


def signed_nonsense(world: World) -> None:
    world.sign(b'{"format": 1}', content(3))


def huge_file(world: World) -> None:
    entry = make(3).manifest.files[RANK_MODEL]
    manifest = (
        make(3).manifest.to_json().replace(b'"size_bytes":%d' % entry.size_bytes, b'"size_bytes":%d' % (65 << 20))
    )
    promised = {f"blobs/{entry.sha256}": TargetFile(65 << 20, {"sha256": entry.sha256}, f"blobs/{entry.sha256}")}
    world.sign(manifest, content(3), promised)


def target_of_another_size(world: World) -> None:
    sha256 = make(3).manifest.files[PARAMS].sha256
    promised = {f"blobs/{sha256}": TargetFile(1 << 40, {"sha256": sha256}, f"blobs/{sha256}")}
    world.sign(make(3).manifest.to_json(), content(3), promised)


def target_without_sha256(world: World) -> None:
    manifest = make(3).manifest.to_json()
    weak = {f"{NAME}/manifest.json": TargetFile.from_data(f"{NAME}/manifest.json", manifest, ["sha512"])}
    world.sign(manifest, content(3), weak)


def unsigned_blob(world: World) -> None:
    world.sign(make(3).manifest.to_json(), {RANK_MODEL: b"x", PARAMS: b"y", GOLDEN: b"z"})


Attack = Callable[[World], object]


def on_target(harm: Callable[[Path], None], file: str) -> Attack:
    return lambda world: harm(world.target(file))


def on_role(harm: Callable[[Path], None], role: str) -> Attack:
    return lambda world: harm(world.metadata(role))


ATTACKS: dict[str, tuple[Attack, str]] = {
    "flipped byte in the model": (on_target(flip, RANK_MODEL), "LengthOrHashMismatchError"),
    "flipped byte in the parameters": (on_target(flip, PARAMS), "LengthOrHashMismatchError"),
    "flipped byte in the golden vectors": (on_target(flip, GOLDEN), "LengthOrHashMismatchError"),
    "flipped byte in the manifest": (on_target(flip, "manifest"), "LengthOrHashMismatchError"),
    "flipped byte in the timestamp": (on_role(flip, "timestamp"), "metadata of"),
    "flipped byte in the snapshot": (on_role(flip, "snapshot"), "LengthOrHashMismatchError"),
    "flipped byte in the targets": (on_role(flip, "targets"), "LengthOrHashMismatchError"),
    "flipped byte in a new root": (flip_root, "metadata of"),
    "older timestamp": (older_timestamp, "BadVersionNumberError: New timestamp version"),
    "older repository": (older_repository, "BadVersionNumberError: New timestamp version"),
    "older snapshot, signed by the timestamp key": (
        older_snapshot_signed_by_timestamp_key,
        "New snapshot version must",
    ),
    "older targets, signed by the snapshot key": (old_targets_signed_by_snapshot_key, "Expected targets.json version"),
    "older bundle, signed freshly": (older_bundle_signed_freshly, "version 1; expected one above 2"),
    "other bundle of the same version": (other_bundle_of_installed_version, "version 2; expected one above 2"),
    "bundle of another name": (bundle_of_another_name, "names books, this home holds movies; expected movies"),
    "expired timestamp": (partial(expired, role="timestamp"), "timestamp.json is expired"),
    "expired snapshot": (partial(expired, role="snapshot"), "snapshot.json is expired"),
    "expired targets": (partial(expired, role="targets"), "targets is expired"),
    "expired root": (partial(expired, role="root"), "root.json is expired"),
    "wrong keys": (other_keys, "timestamp was signed by 0/1 keys"),
    "wrong keys and a root that introduces them": (root_of_other_keys, "root was signed by 0/1 keys"),
    "mix of new timestamp and old snapshot": (partial(old_file_of_role, role="snapshot"), "LengthOrHashMismatchError"),
    "mix of new snapshot and old targets": (partial(old_file_of_role, role="targets"), "LengthOrHashMismatchError"),
    "endless timestamp": (on_role(endless_device, "timestamp"), "DownloadError"),
    "endless blob": (on_target(endless_device, RANK_MODEL), "DownloadError"),
    "blob that never comes": (on_target(pipe, RANK_MODEL), "is not a file"),
    "padded timestamp": (on_role(pad, "timestamp"), "DownloadLengthMismatchError"),
    "padded blob": (on_target(pad, RANK_MODEL), "DownloadLengthMismatchError"),
    "padded manifest": (on_target(pad, "manifest"), "DownloadLengthMismatchError"),
    "truncated timestamp": (on_role(truncate, "timestamp"), "DeserializationError"),
    "truncated blob": (on_target(truncate, RANK_MODEL), "LengthOrHashMismatchError"),
    "missing timestamp": (on_role(Path.unlink, "timestamp"), "DownloadHTTPError"),
    "missing snapshot": (on_role(Path.unlink, "snapshot"), "DownloadHTTPError"),
    "missing manifest": (on_target(Path.unlink, "manifest"), "DownloadHTTPError"),
    "missing blob": (on_target(Path.unlink, PARAMS), "DownloadHTTPError"),
    "timestamp nested without end": (on_role(nested, "timestamp"), "DeserializationError"),
    "signed manifest above the limit": (oversized_manifest, "a manifest of .* bytes; expected at most 1048576"),
    "signed manifest not in canonical form": (manifest_with_spaces, "not in canonical form"),
    "signed manifest that is none": (signed_nonsense, "BundleError"),
    "signed file above the limit": (huge_file, "BundleError: manifest files: .*size_bytes=68157440"),
    "signed file of another size than the manifest's": (target_of_another_size, "differs from the manifest's"),
    "signed file without a SHA-256": (target_without_sha256, "signed without a SHA-256"),
    "file of the manifest that is not signed": (unsigned_blob, "the signed metadata has no target blobs/"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_the_last_good_bundle_stays(world: World, attack: str) -> None:
    tamper, message = ATTACKS[attack]
    tamper(world)
    assert_refused(world, message)


def test_the_world_of_the_attacks_updates_when_nobody_attacks(world: World) -> None:
    update = world.updater().update(NAME)
    assert (update.status, update.version, update.digest) == ("installed", 3, make(3).digest)
    assert update.bundle_path == world.updater().installed()
    assert Bundle.open(update.bundle_path).files == content(3)


def test_a_repository_frozen_until_it_expired_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(world.repository.folder)
    shutil.copytree(world.mid, world.repository.folder)
    assert world.updater().update(NAME).status == "unchanged"

    class Later(datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Later":
            return cls.fromtimestamp((datetime.now(tz) + timedelta(days=2)).timestamp(), tz)

    clock = types.SimpleNamespace(datetime=Later, timezone=dt.timezone)
    monkeypatch.setattr(trusted_metadata_set, "datetime", clock)
    assert_refused(world, "timestamp.json is expired")


def test_any_flipped_bit_of_any_served_file_is_refused_or_changes_nothing(world: World, tmp_path: Path) -> None:
    refused = 0
    for path in [world.metadata(role) for role in ("timestamp", "snapshot", "targets")] + [world.target("manifest")]:
        data = path.read_bytes()
        for position in range(0, len(data), max(1, len(data) // 15)):
            for bit in (1, 0x20):  # 0x20 changes the case of a letter: harmless in a hexadecimal signature
                path.write_bytes(data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :])
                home = tmp_path / f"copy{path.name}{position}-{bit}"
                shutil.copytree(world.home, home, symlinks=True)
                try:
                    assert world.updater(home).update(NAME).digest == make(3).digest
                except UpdateError:
                    refused += 1
                    installed = world.updater(home).installed()
                    assert installed is not None
                    assert Bundle.open(installed).digest == make(2).digest
        path.write_bytes(data)
    assert refused > 60
