"""The publisher's side: what is signed, what is served, and what is refused."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import Updater as PlainUpdater

from pocketrank.bundle import GOLDEN, PARAMS, RANK_MODEL, Bundle, Manifest, PrivacyPolicy, build
from pocketrank.errors import BundleError, InputError, UpdateError
from pocketrank.schema import Schema
from pocketrank.updater import FolderFetcher
from pocketrank_server.repository import ROLES, Lifetimes, Repository

POLICY = PrivacyPolicy(min_cohort=1, max_clipping_norm=1.0, min_noise_multiplier=0.0, max_rounds=1)
NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


def make(version: int, params: bytes = b"p", name: str = "movies", model: bytes = b"model" * 1000) -> Bundle:
    manifest = Manifest(name, version, Schema(()), slate_sizes=(16,), trainable=(), policy=POLICY)
    return build(manifest, {RANK_MODEL: model, PARAMS: params, GOLDEN: b"golden" * 1000})


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "repository", tmp_path / "keys", NOW)


def served(repository: Repository) -> dict[str, bytes]:
    folder = repository.folder
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def newest_targets(repository: Repository) -> Targets:
    files = sorted(repository.folder.glob("metadata/*.targets.json"), key=lambda path: int(path.name.split(".")[0]))
    return Metadata[Targets].from_bytes(files[-1].read_bytes()).signed


# ---------------------------------------------------------------------------------------------------------------- keys


def test_each_role_has_its_own_ed25519_key_that_only_its_owner_can_read(repository: Repository) -> None:
    root = Metadata[Root].from_bytes(repository.root).signed
    assert root.consistent_snapshot
    assert len({keyid for role in ROLES for keyid in root.roles[role].keyids}) == len(ROLES)
    assert (repository.keys_folder.stat().st_mode & 0o777) == 0o700
    for role in ROLES:
        path = repository.keys_folder / f"{role}.pem"
        assert (path.stat().st_mode & 0o777) == 0o600
        key = load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        public = root.keys[root.roles[role].keyids[0]].keyval["public"]
        assert key.public_key().public_bytes_raw().hex() == public


def test_no_private_key_is_served(repository: Repository) -> None:
    repository.publish(make(1), NOW)
    assert not [name for name, data in served(repository).items() if b"PRIVATE" in data]


def test_a_password_encrypts_the_keys_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    folders = tmp_path / "repository", tmp_path / "keys"
    repository = Repository.create(*folders, NOW, password=b"right")
    for role in ROLES:
        assert b"ENCRYPTED PRIVATE KEY" in (repository.keys_folder / f"{role}.pem").read_bytes()
    assert Repository.open(*folders, password=b"right").publish(make(1), NOW).version == 1
    for password in (None, b"wrong"):
        with pytest.raises(UpdateError, match=r"key can't be read .* is the password right"):
            Repository.open(*folders, password=password).publish(make(2), NOW)


def test_a_publication_needs_no_root_key_and_a_refresh_no_targets_key(repository: Repository) -> None:
    (repository.keys_folder / "root.pem").unlink()
    repository.publish(make(1), NOW)
    (repository.keys_folder / "targets.pem").unlink()
    repository.refresh(NOW)
    with pytest.raises(UpdateError, match=r"targets.pem: the targets key can't be read"):
        repository.publish(make(2), NOW)
    assert repository.versions() == {"movies": 1}


def test_a_key_that_the_root_does_not_trust_signs_nothing(repository: Repository, tmp_path: Path) -> None:
    other = Repository.create(tmp_path / "other", tmp_path / "other_keys", NOW)
    shutil.copy(other.keys_folder / "timestamp.pem", repository.keys_folder)
    before = (repository.folder / "metadata/timestamp.json").read_bytes()
    with pytest.raises(UpdateError, match=r"timestamp.pem: not the key that the root trusts"):
        repository.publish(make(1), NOW)
    assert (repository.folder / "metadata/timestamp.json").read_bytes() == before


# ------------------------------------------------------------------------------------------------------------- expiry


@pytest.mark.parametrize("lifetimes", [Lifetimes(), Lifetimes(timestamp=timedelta(hours=3))])
def test_each_role_expires_its_lifetime_after_the_time_of_signing(tmp_path: Path, lifetimes: Lifetimes) -> None:
    repository = Repository.create(tmp_path / "repository", tmp_path / "keys", NOW, lifetimes=lifetimes)
    later = NOW + timedelta(days=2)
    repository.publish(make(1), later.astimezone())
    state = repository._published()
    assert state.root.expires == NOW + lifetimes.root
    assert state.targets.expires == later + lifetimes.targets
    assert state.snapshot.expires == later + lifetimes.snapshot
    assert state.timestamp.expires == later + lifetimes.timestamp


@pytest.mark.parametrize("renew_targets", [False, True])
def test_a_refresh_renews_the_expiry_and_nothing_else(repository: Repository, renew_targets: bool) -> None:  # noqa: FBT001
    repository.publish(make(1), NOW)
    before = repository._published()
    repository.refresh(NOW + timedelta(days=1), renew_targets=renew_targets)
    after = repository._published()
    assert after.timestamp.expires - before.timestamp.expires == timedelta(days=1)
    assert after.snapshot.expires - before.snapshot.expires == timedelta(days=1)
    assert after.targets.expires - before.targets.expires == timedelta(days=int(renew_targets))
    assert after.targets.targets == before.targets.targets


def test_a_renewed_root_has_the_next_version_and_the_same_keys(repository: Repository) -> None:
    before = Metadata[Root].from_bytes(repository.root).signed
    repository.renew_root(NOW + timedelta(days=300))
    after = Metadata[Root].from_bytes(repository.root).signed
    assert (after.version, after.expires) == (2, NOW + timedelta(days=665))
    assert after.roles == before.roles
    assert (repository.folder / "metadata/2.root.json").read_bytes() == repository.root
    assert repository.publish(make(1), NOW).version == 1


@pytest.mark.parametrize(
    "call", [Repository.refresh, Repository.renew_root, lambda self, now: self.publish(make(1), now)]
)
def test_a_time_without_a_zone_is_refused(
    repository: Repository, call: Callable[[Repository, datetime], object]
) -> None:
    with pytest.raises(InputError, match="now: expected a time zone"):
        call(repository, NOW.replace(tzinfo=None))


# --------------------------------------------------------------------------------------------------------- publication


def test_a_plain_python_tuf_client_gets_every_file_of_a_publication(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repository", tmp_path / "keys", datetime.now(UTC))
    bundle = make(1)
    assert repository.publish(bundle, datetime.now(UTC)).digest == bundle.digest
    url = repository.folder.as_uri()
    (tmp_path / "client").mkdir()
    client = PlainUpdater(
        str(tmp_path / "client"),
        f"{url}/metadata/",
        str(tmp_path),
        f"{url}/targets/",
        FolderFetcher(),
        bootstrap=repository.root,
    )
    expected = {f"blobs/{bundle.manifest.files[name].sha256}": data for name, data in bundle.files.items()}
    expected["movies/manifest.json"] = bundle.manifest.to_json()
    for path, data in expected.items():
        info = client.get_targetinfo(path)
        assert info is not None
        assert Path(client.download_target(info)).read_bytes() == data


def test_a_bundle_that_changes_parameters_alone_adds_them_and_its_manifest(repository: Repository) -> None:
    first, second = make(1), make(2, b"new parameters")
    sizes = [len(data) for data in first.files.values()]
    assert repository.publish(first, NOW).bytes_added == sum(sizes) + len(first.manifest.to_json())
    assert repository.publish(second, NOW).bytes_added == len(b"new parameters") + len(second.manifest.to_json())


def test_files_of_replaced_bundles_are_no_targets_any_more_but_stay_on_disk(repository: Repository) -> None:
    first, second = make(1), make(2, b"new parameters")
    repository.publish(first, NOW)
    before = served(repository)
    repository.publish(second, NOW)
    blobs = {f"blobs/{entry.sha256}" for entry in second.manifest.files.values()}
    assert set(newest_targets(repository).targets) == {"movies/manifest.json", *blobs}
    after = served(repository)
    assert {name: after[name] for name in before if "timestamp" not in name} == {
        name: data for name, data in before.items() if "timestamp" not in name
    }


def test_bundles_of_several_names_share_files_and_do_not_lose_each_others(repository: Repository) -> None:
    repository.publish(make(1), NOW)
    shared = repository.publish(make(5, b"other", name="books"), NOW)
    assert shared.bytes_added < 2000
    repository.publish(make(2, model=b"another model"), NOW)
    assert repository.versions() == {"books": 5, "movies": 2}
    wanted = {entry.sha256 for bundle in (make(5, b"other", name="books"), make(2, model=b"another model"))
              for entry in bundle.manifest.files.values()}  # fmt: skip
    assert {path.removeprefix("blobs/") for path in newest_targets(repository).targets if "blobs/" in path} == wanted


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_version_not_above_the_published_one_is_refused(repository: Repository, version: int) -> None:
    repository.publish(make(3), NOW)
    before = served(repository)
    with pytest.raises(InputError, match=f"movies: version {version}; expected one above the published 3"):
        repository.publish(make(version, b"other"), NOW)
    assert served(repository) == before


def test_a_bundle_whose_files_are_not_what_its_manifest_says_is_refused(repository: Repository) -> None:
    before = served(repository)
    bundle = make(1)
    bundle.files = {**bundle.files, PARAMS: b"q"}
    with pytest.raises(BundleError, match=r"params.npz: SHA-256 differs"):
        repository.publish(bundle, NOW)
    assert served(repository) == before


# -------------------------------------------------------------------------------------------------------- interruption


class Killed(BaseException):
    """The process ended here."""


def test_a_publication_killed_at_any_step_leaves_what_was_published_or_all_of_the_new(tmp_path: Path) -> None:
    outcomes = []
    replace = os.replace
    for step in range(30):
        repository = Repository.create(tmp_path / f"repository{step}", tmp_path / f"keys{step}", NOW)
        repository.publish(make(1), NOW)
        before = served(repository)
        left = step

        def kill(source: Path, target: Path) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            replace(source, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", kill)
            try:
                repository.publish(make(2, b"new parameters"), NOW)
            except Killed:
                pass
            else:
                break
        reopened = Repository.open(repository.folder, repository.keys_folder)
        assert reopened.versions() == {"movies": 1}
        reopened.publish(make(3, b"newer parameters"), NOW)
        assert reopened.versions() == {"movies": 3}
        after = served(repository)
        assert all(after[name] == data for name, data in before.items() if "timestamp" not in name)
        outcomes.append(step)
    assert len(outcomes) == 5  # parameters, manifest, targets, snapshot, timestamp


def test_no_metadata_file_is_ever_written_twice_except_the_timestamp(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, written = os.replace, list[str]()

    def record(source: Path, target: Path) -> None:
        written.append(Path(target).name)
        if written.count("timestamp.json") == 1 and written[-1] == "timestamp.json":
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", record)
    with pytest.raises(Killed):
        repository.publish(make(1), NOW)
    repository.publish(make(1), NOW)
    repository.refresh(NOW)
    metadata = [name for name in written if name.endswith((".targets.json", ".snapshot.json"))]
    assert sorted(metadata) == [
        "2.snapshot.json",
        "2.targets.json",
        "3.snapshot.json",
        "3.targets.json",
        "4.snapshot.json",
    ]


# ----------------------------------------------------------------------------------------------------------- tampering


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_nothing_is_signed_on_top_of_metadata_that_was_tampered_with(repository: Repository, file: str) -> None:
    repository.publish(make(1), NOW)
    flip(repository.folder / "metadata" / file)
    before = served(repository)
    with pytest.raises(UpdateError, match=r"not a repository under .*root.json"):
        repository.publish(make(2), NOW)
    assert served(repository) == before


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_older_metadata_in_the_place_of_the_newest_is_not_signed_again(repository: Repository, role: str) -> None:
    repository.publish(make(1), NOW)
    repository.publish(make(2), NOW)
    metadata = repository.folder / "metadata"
    shutil.copy(metadata / f"2.{role}.json", metadata / f"3.{role}.json")
    with pytest.raises(UpdateError, match="LengthOrHashMismatchError"):
        repository.publish(make(3), NOW)


def test_a_root_in_the_served_folder_can_not_replace_the_publishers_own(repository: Repository, tmp_path: Path) -> None:
    stranger = Repository.create(tmp_path / "stranger", tmp_path / "stranger_keys", NOW)
    stranger.publish(make(1), NOW)
    shutil.rmtree(repository.folder)
    shutil.copytree(stranger.folder, repository.folder)
    with pytest.raises(UpdateError, match="timestamp was signed by 0/1 keys"):
        Repository.open(repository.folder, repository.keys_folder)


def test_a_damaged_manifest_stops_a_publication(repository: Repository) -> None:
    repository.publish(make(1), NOW)
    flip(next(repository.folder.glob("targets/movies/*.manifest.json")))
    with pytest.raises(UpdateError, match="damaged"):
        repository.publish(make(2), NOW)


def test_a_damaged_blob_is_written_again_by_the_next_publication(repository: Repository) -> None:
    repository.publish(make(1), NOW)
    sha256 = make(1).manifest.files[RANK_MODEL].sha256
    blob = repository.folder / "targets/blobs" / f"{sha256}.{sha256}"
    flip(blob)
    repository.publish(make(2), NOW)
    assert blob.read_bytes() == make(1).files[RANK_MODEL]


# ---------------------------------------------------------------------------------------------------------- what is not


def test_folders_in_use_and_keys_that_would_be_served_are_refused(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not empty"):
        Repository.create(repository.folder, tmp_path / "new", NOW)
    with pytest.raises(InputError, match="is not empty"):
        Repository.create(tmp_path / "new", repository.keys_folder, NOW)
    with pytest.raises(InputError, match="lies in the served folder"):
        Repository.create(tmp_path / "new", tmp_path / "new" / "keys", NOW)
    assert not (tmp_path / "new").exists()


def test_opening_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match="not a repository"):
        Repository.open(tmp_path, tmp_path)


def test_without_python_tuf_the_pip_line_is_shown() -> None:
    script = "import sys; sys.modules['tuf'] = None; import pocketrank_server.repository"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert 'ExtraMissingError: the repository needs python-tuf: pip install "pocketrank[server]"' in done.stderr
