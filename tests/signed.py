"""A signed repository and a device that updates from it, to be tampered with."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile

from pocketrank.bundle import GOLDEN, PARAMS, RANK_MODEL, Bundle, Manifest, PrivacyPolicy, build
from pocketrank.errors import UpdateError
from pocketrank.schema import Schema
from pocketrank.updater import Updater
from pocketrank_server.repository import Lifetimes, Repository

POLICY = PrivacyPolicy(min_cohort=1, max_clipping_norm=1.0, min_noise_multiplier=0.0, max_rounds=1)
LONG = Lifetimes(*(timedelta(days=1000) for _ in range(4)))
NAME = "movies"


def now() -> datetime:
    return datetime.now(UTC)


def content(version: int, size_bytes: int = 3000) -> dict[str, bytes]:
    return {
        name: f"{name} of version {version} ".encode() * (size_bytes // 20) for name in (RANK_MODEL, PARAMS, GOLDEN)
    }


def make(version: int, files: dict[str, bytes] | None = None, name: str = NAME) -> Bundle:
    manifest = Manifest(name, version, Schema(()), slate_sizes=(16,), trainable=(), policy=POLICY)
    return build(manifest, content(version) if files is None else files)


def works(bundle: Bundle) -> None:
    """Stand in for the golden vectors: the model files of these bundles are no models."""
    assert bundle.files


@dataclass
class World:
    """Version 2 is installed; version 3 is published, and about to be tampered with."""

    repository: Repository
    home: Path
    old: Path
    """The repository as it was when version 1 was the newest."""
    mid: Path
    """The repository as it was when version 2 was the newest."""
    root: bytes

    def updater(self, home: Path | None = None, **options: object) -> Updater:
        arguments = {"self_test": works, **options}
        return Updater(home or self.home, self.repository.folder, self.root, **arguments)  # type: ignore[arg-type]

    def metadata(self, role: str, folder: Path | None = None) -> Path:
        """The newest file of ``role``."""
        files = (folder or self.repository.folder).glob(f"metadata/*{role}.json")
        return max(files, key=lambda path: int(path.name.split(".")[0]) if path.name[0].isdigit() else 0)

    def target(self, file: str) -> Path:
        """A file of version 3 as it is served."""
        bundle = make(3)
        if file == "manifest":
            return self.repository.folder / "targets" / NAME / f"{bundle.digest}.manifest.json"
        sha256 = bundle.manifest.files[file].sha256
        return self.repository.folder / "targets" / "blobs" / f"{sha256}.{sha256}"

    def held(self) -> dict[str, bytes]:
        """All that says what is installed."""
        files = [self.home / "state.json", *self.home.glob("bundles/*/*")]
        return {str(path.relative_to(self.home)): path.read_bytes() for path in files}

    def sign(self, manifest: bytes, files: dict[str, bytes], targets: dict[str, TargetFile] | None = None) -> None:
        """Publish anything at all, as only a thief of the keys could."""
        added = {f"{NAME}/manifest.json": manifest}
        added |= {
            f"blobs/{entry.sha256}": files[name]
            for name, entry in build(make(1).manifest, files).manifest.files.items()
        }
        signed = {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in added.items()}
        for path, data in added.items():
            self.repository._write_target(signed[path], data)
        state = self.repository._published()
        state.targets.targets = signed | (targets or {})
        self.repository._release(state, now(), renew_targets=True)


def new_world(folder: Path) -> World:
    """Play the story so far in ``folder``."""
    repository = Repository.create(folder / "repository", folder / "keys", now())
    world = World(repository, folder / "home", folder / "old", folder / "mid", repository.root)
    repository.publish(make(1), now())
    shutil.copytree(repository.folder, world.old)
    repository.publish(make(2), now())
    shutil.copytree(repository.folder, world.mid)
    assert world.updater().update(NAME).version == 2
    repository.publish(make(3), now())
    return world


def assert_refused(world: World, message: str, updater: Updater | None = None, name: str = NAME) -> None:
    before = world.held()
    updater = updater or world.updater()
    with pytest.raises(UpdateError, match=message) as caught:
        updater.update(name)
    assert "installed version 2 stays" in str(caught.value)
    assert world.held() == before
    current = updater.installed()
    assert current is not None
    assert Bundle.open(current).digest == make(2).digest
    assert Bundle.open(current).files[RANK_MODEL] == content(2)[RANK_MODEL]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
