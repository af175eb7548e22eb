"""The repository that devices update from: static files, signed with TUF, for any web server or USB stick.

::

    folder/metadata/  1.root.json  N.targets.json  N.snapshot.json  timestamp.json
    folder/targets/   <name>/<sha256>.manifest.json  blobs/<sha256>.<sha256>
    keys/             root.pem  targets.pem  snapshot.pem  timestamp.pem  root.json

A bundle's files are targets named by their content, so a bundle that changes
only ``params.npz`` adds one blob and a manifest. New files are written first
and ``timestamp.json`` last, each in one step: whoever reads in between, or
after a crash, sees the old state or the new one, whole.

What is published is verified before anything is signed on top of it, against
the copy of the root beside the keys: someone who can write to the folder, but
holds no key, can't get their files signed by the next publication. One process
at a time publishes. Every ``now`` comes from the caller.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from pocketrank.bundle import MANIFEST, MAX_MANIFEST_BYTES, Bundle, Manifest
from pocketrank.durable import write_atomically
from pocketrank.errors import BundleError, ExtraMissingError, InputError, UpdateError

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
except ImportError as error:
    raise ExtraMissingError('the repository needs python-tuf: pip install "pocketrank[server]"') from error

ROLES: Final = (Root.type, Targets.type, Snapshot.type, Timestamp.type)
S = TypeVar("S", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True)
class Lifetimes:
    """How long after signing the metadata of each role is good for."""

    root: timedelta = timedelta(days=365)
    targets: timedelta = timedelta(days=90)
    snapshot: timedelta = timedelta(days=7)
    timestamp: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Publication:
    """What ``Repository.publish`` did.

    Attributes:
        name: Name of the bundle.
        version: Its version.
        digest: SHA-256 of its manifest, which devices know it by.
        bytes_added: Size of the target files that the repository did not hold yet.
    """

    name: str
    version: int
    digest: str
    bytes_added: int


@dataclass(frozen=True)
class _Published:
    """The current metadata, verified from the root down."""

    root: Root
    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp


class Repository:
    """A TUF repository in a folder; ``create`` or ``open`` makes one.

    Attributes:
        folder: What is served to devices.
        keys_folder: Private keys and the trusted copy of the root; never served. The root and targets keys may lie
            elsewhere until they are needed: ``refresh`` uses only those of snapshot and timestamp.
    """

    def __init__(self, folder: Path, keys_folder: Path, password: bytes | None, lifetimes: Lifetimes) -> None:
        """Take the folders as they are; ``create`` and ``open`` check them."""
        self.folder = folder
        self.keys_folder = keys_folder
        self._password = password
        self._lifetimes = lifetimes

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        keys_folder: str | os.PathLike[str],
        now: datetime,
        *,
        password: bytes | None = None,
        lifetimes: Lifetimes = Lifetimes(),
    ) -> Repository:
        """Make four Ed25519 keys and a repository without bundles.

        Args:
            folder: New or empty; to be served.
            keys_folder: New or empty, and outside ``folder``; made readable by this user alone.
            now: Time of signing, with a time zone.
            password: Encrypts the private keys.
            lifetimes: When the metadata expires.

        Raises:
            InputError: A folder is not empty, the keys would be served, or ``now`` has no time zone.
        """
        self = cls(Path(folder), Path(keys_folder), password, lifetimes)
        now = _utc(now)
        if self.keys_folder.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(f"keys_folder: {self.keys_folder} lies in the served folder; choose one outside")
        for path in (self.folder, self.keys_folder):
            if path.exists() and any(path.iterdir()):
                raise InputError(f"{path} is not empty; open the repository, or choose another folder")
        self.folder.joinpath("metadata").mkdir(parents=True)
        self.keys_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.keys_folder.chmod(0o700)

        root = Root(expires=now + lifetimes.root, consistent_snapshot=True)
        for role in ROLES:
            signer = CryptoSigner(Ed25519PrivateKey.generate())
            write_atomically(self._key_path(role), self._pem(signer.private_bytes), mode=0o600)
            root.add_key(signer.public_key, role)
        self._write_root(root)
        state = _Published(root, Targets(), Snapshot(), Timestamp())
        for signed in (state.targets, state.snapshot, state.timestamp):
            signed.version = 0  # the release makes it 1
        self._release(state, now, renew_targets=True)
        return self

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        keys_folder: str | os.PathLike[str],
        *,
        password: bytes | None = None,
        lifetimes: Lifetimes = Lifetimes(),
    ) -> Repository:
        """Open what ``create`` made.

        Raises:
            UpdateError: The published metadata is missing, or is not signed by these keys.
        """
        self = cls(Path(folder), Path(keys_folder), password, lifetimes)
        self._published()
        return self

    @property
    def root(self) -> bytes:
        """Newest root metadata: what an app ships and hands to its ``Updater``."""
        return (self.keys_folder / "root.json").read_bytes()

    def versions(self) -> dict[str, int]:
        """Name to version of each published bundle."""
        return {name: manifest.version for name, manifest in self._manifests(self._published().targets).items()}

    def publish(self, bundle: Bundle, now: datetime) -> Publication:
        """Offer ``bundle`` to devices in place of the published one of its name.

        Files that no published manifest names any more leave ``targets.json``; on disk they stay, for devices that
        are in the middle of an update.

        Guarantees:
            Until ``timestamp.json`` is replaced, in the last step, devices see what was published before.

        Raises:
            BundleError: A file of ``bundle`` is not what its manifest vouches for.
            InputError: Its version is not above the published one, or ``now`` has no time zone.
            UpdateError: The published metadata or a key is missing, or does not verify.
        """
        now = _utc(now)
        bundle = Bundle(bundle.manifest, bundle.files)
        name, content = bundle.manifest.name, bundle.manifest.to_json()
        if len(content) > MAX_MANIFEST_BYTES:
            raise BundleError(f"{MANIFEST}: {len(content)} bytes; expected at most {MAX_MANIFEST_BYTES}")
        published = self._published()
        manifests = self._manifests(published.targets)
        if name in manifests and bundle.manifest.version <= manifests[name].version:
            above = manifests[name].version
            raise InputError(f"{name}: version {bundle.manifest.version}; expected one above the published {above}")
        manifests[name] = bundle.manifest

        added = {f"blobs/{bundle.manifest.files[file].sha256}": data for file, data in bundle.files.items()}
        added[f"{name}/{MANIFEST}"] = content
        wanted = {f"{other}/{MANIFEST}" for other in manifests}
        wanted |= {f"blobs/{entry.sha256}" for manifest in manifests.values() for entry in manifest.files.values()}
        held = published.targets.targets
        new = {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in added.items()}
        published.targets.targets = {path: new.get(path) or held[path] for path in sorted(wanted)}

        bytes_added = sum(self._write_target(new[path], data) for path, data in added.items())
        self._release(published, now, renew_targets=True)
        return Publication(name, bundle.manifest.version, bundle.digest, bytes_added)

    def refresh(self, now: datetime, *, renew_targets: bool = False) -> None:
        """Sign snapshot and timestamp anew before they expire; nothing else changes.

        Args:
            now: Time of signing, with a time zone.
            renew_targets: Renew ``targets.json`` too, which needs its key.

        Raises:
            UpdateError: The published metadata or a key is missing, or does not verify.
        """
        now = _utc(now)
        self._release(self._published(), now, renew_targets=renew_targets)

    def renew_root(self, now: datetime) -> None:
        """Sign the next version of the root, with the same keys, before it expires.

        Raises:
            UpdateError: The published metadata or a key is missing, or does not verify.
        """
        root = self._published().root
        root.version += 1
        root.expires = _utc(now) + self._lifetimes.root
        self._write_root(root)

    def _release(self, state: _Published, now: datetime, *, renew_targets: bool) -> None:
        """Sign and write the metadata, from what is vouched for to what vouches: timestamp last."""
        if renew_targets:
            state.targets.version = self._unused(Targets.type, state.targets.version)
            state.targets.expires = now + self._lifetimes.targets
            data = self._write_metadata(state.root, state.targets)
            state.snapshot.meta["targets.json"] = MetaFile.from_data(state.targets.version, data, ["sha256"])
        state.snapshot.version = self._unused(Snapshot.type, state.snapshot.version)
        state.snapshot.expires = now + self._lifetimes.snapshot
        data = self._write_metadata(state.root, state.snapshot)
        state.timestamp.snapshot_meta = MetaFile.from_data(state.snapshot.version, data, ["sha256"])
        state.timestamp.version += 1
        state.timestamp.expires = now + self._lifetimes.timestamp
        self._write_metadata(state.root, state.timestamp)

    def _published(self) -> _Published:
        """The published metadata; its expiry does not matter to who is about to sign it anew."""
        try:
            root = Metadata[Root].from_bytes(self.root).signed
            timestamp = _verified(self._metadata_path("timestamp").read_bytes(), Timestamp, root)
            data = self._metadata_path("snapshot", timestamp.snapshot_meta.version).read_bytes()
            timestamp.snapshot_meta.verify_length_and_hashes(data)
            snapshot = _verified(data, Snapshot, root)
            meta = snapshot.meta["targets.json"]
            data = self._metadata_path("targets", meta.version).read_bytes()
            meta.verify_length_and_hashes(data)
            return _Published(root, _verified(data, Targets, root), snapshot, timestamp)
        except (RepositoryError, OSError, KeyError) as error:
            found = f"{type(error).__name__}: {error}"
            raise UpdateError(
                f"{self.folder}: not a repository under {self.keys_folder}/root.json ({found}); restore it from a copy"
            ) from error

    def _manifests(self, targets: Targets) -> dict[str, Manifest]:
        names = [path.removesuffix(f"/{MANIFEST}") for path in targets.targets if path.endswith(f"/{MANIFEST}")]
        return {name: self._manifest(targets, name) for name in names}

    def _manifest(self, targets: Targets, name: str) -> Manifest:
        target = targets.targets[f"{name}/{MANIFEST}"]
        try:
            data = self._target_path(target).read_bytes()
            target.verify_length_and_hashes(data)
        except (RepositoryError, OSError) as error:
            raise UpdateError(f"{self._target_path(target)}: damaged ({error}); restore it from a copy") from error
        return Manifest.from_json(data)

    def _write_target(self, target: TargetFile, data: bytes) -> int:
        """Bytes written: none where the file is there already, unharmed."""
        path = self._target_path(target)
        if path.is_file() and path.read_bytes() == data:
            return 0
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
        return len(data)

    def _write_root(self, root: Root) -> None:
        data = self._write_metadata(root, root)
        write_atomically(self.keys_folder / "root.json", data)

    def _write_metadata(self, root: Root, signed: S) -> bytes:
        metadata = Metadata(signed)
        metadata.sign(self._signer(signed.type))
        try:
            root.verify_delegate(signed.type, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise UpdateError(f"{self._key_path(signed.type)}: not the key that the root trusts") from error
        data = metadata.to_bytes()
        version = None if signed.type == Timestamp.type else signed.version
        write_atomically(self._metadata_path(signed.type, version), data)
        return data

    def _unused(self, role: str, version: int) -> int:
        """The next version whose file no interrupted publication left behind: a file once written never changes."""
        version += 1
        while self._metadata_path(role, version).exists():
            version += 1
        return version

    def _signer(self, role: str) -> CryptoSigner:
        path = self._key_path(role)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), self._password)
            return CryptoSigner(key)
        except (OSError, ValueError, TypeError) as error:
            raise UpdateError(f"{path}: the {role} key can't be read ({error}); is the password right?") from error

    def _pem(self, private_bytes: bytes) -> bytes:
        if self._password is None:
            return private_bytes
        key = serialization.load_pem_private_key(private_bytes, None)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self._password),
        )

    def _key_path(self, role: str) -> Path:
        return self.keys_folder / f"{role}.pem"

    def _metadata_path(self, role: str, version: int | None = None) -> Path:
        return self.folder / "metadata" / (f"{role}.json" if version is None else f"{version}.{role}.json")

    def _target_path(self, target: TargetFile) -> Path:
        folder, _, name = target.path.rpartition("/")
        return self.folder / "targets" / folder / f"{target.hashes['sha256']}.{name}"


def _verified(data: bytes, kind: type[S], root: Root) -> S:
    metadata = Metadata[S].from_bytes(data)
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"expected {kind.type}, got {metadata.signed.type}")
    root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def _utc(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise InputError(f"now: expected a time zone, got {now.isoformat()}; use datetime.now(UTC)")
    return now.astimezone(UTC)
