"""The device's updater: a bundle is installed only when everything about it checks out.

python-tuf verifies the metadata, this module what stands behind it: the name
and version of the bundle, each file against the manifest, and the golden
vectors on this device's own runtime. Only then does ``pocketrank.slots`` switch
to it; until that moment whatever fails, or is killed, leaves the installed
bundle as it was.

The clock is the device's: python-tuf judges expiry by it, and nothing here
could judge better.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass, url2pathname

from pocketrank.bundle import MANIFEST, MAX_MANIFEST_BYTES, Bundle, FileEntry, Manifest
from pocketrank.errors import BundleError, ExtraMissingError, InputError, UpdateError
from pocketrank.slots import RefusedError, SelfTest, Slots, State

try:
    import urllib3
    from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError, SlowRetrievalError
    from tuf.api.metadata import TargetFile
    from tuf.ngclient.config import UpdaterConfig
    from tuf.ngclient.fetcher import FetcherInterface
    from tuf.ngclient.updater import Updater as TufUpdater
except ImportError as error:
    raise ExtraMissingError('updates need python-tuf: pip install "pocketrank[updates]"') from error

_CHUNK_BYTES: Final = 1 << 16
_MIN_BYTES_PER_S: Final = 256
"""A web server slower than that, ``timeout_s`` not counted, is given up: it may be holding an update back."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LIMITS: Final = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=4,
    root_max_length=1 << 16,
    timestamp_max_length=1 << 14,
    snapshot_max_length=1 << 16,
    targets_max_length=1 << 20,
)


@dataclass(frozen=True)
class Update:
    """What ``Updater.update`` did.

    Attributes:
        status: ``installed``, or ``unchanged`` where the newest bundle was installed already.
        bundle_path: Folder of the bundle that is current now.
        version: Its version.
        digest: SHA-256 of its manifest.
        bytes_downloaded: All that was fetched, metadata included.
    """

    status: Literal["installed", "unchanged"]
    bundle_path: Path
    version: int
    digest: str
    bytes_downloaded: int


class Updater:
    """Keeps one bundle on a device up to date from a TUF repository.

    Args:
        home: Folder of this updater alone; made when missing. It holds bundles of one name.
        url: The repository: ``https://...``, ``http://...``, or a folder (path or ``file://``, say on a USB stick).
        root: Root metadata that ships with the app, the only thing trusted at the start. None takes the one that
            an earlier start left in ``home``; an app that can should always pass its own.
        self_test: Raises ``ModelError`` where the bundle does not work here; by default the golden vectors are run.
        fetcher: Replaces the fetcher that ``url`` calls for.
        timeout_s: Longest silence of a web server that is waited for; > 0.

    Raises:
        InputError: ``url`` is neither http(s) nor a folder.
    """

    def __init__(
        self,
        home: str | os.PathLike[str],
        url: str | os.PathLike[str],
        root: bytes | None,
        *,
        self_test: SelfTest | None = None,
        fetcher: FetcherInterface | None = None,
        timeout_s: float = 30,
    ) -> None:
        """Touch neither disk nor network yet."""
        self._slots = Slots(Path(home))
        self._url, plain = _open_url(url, timeout_s)
        self._fetcher = fetcher or plain
        self._root = root
        self._self_test = self_test or _golden_self_test

    def installed(self) -> Path | None:
        """Folder of the current bundle, or of the previous one where the current one is gone; None for neither."""
        return self._slots.installed()

    def update(self, name: str) -> Update:
        """Install the newest bundle called ``name``, or find that it is installed.

        A current bundle that was damaged on the disk is fetched again.

        Guarantees:
            A call that raises, or is killed, leaves the installed bundle installed and its files untouched.
            A version that is not above every version installed before is refused, however well it is signed.
            A digest that failed its self-test, or was rolled back, is never installed again.

        Raises:
            UpdateError: Anything did not verify, could not be fetched or written, or failed its self-test.
            RuntimeMissingError: There is no TFLite runtime to self-test on.
        """
        with self._slots.lock():
            state = self._slots.state()
            kept = f"installed version {state.current.version} stays" if state.current else "nothing is installed yet"
            meter = _Meter(self._fetcher)
            with contextlib.closing(meter), _refusing(f"metadata of {self._url}", kept):
                client = self._client(meter)
                client.refresh()
            with contextlib.closing(meter), _refusing(f"bundle {name}", kept):
                info = _target(client, f"{name}/{MANIFEST}")
                digest = info.hashes["sha256"]
                bundle = self._slots.held(digest) if state.current and state.current.digest == digest else None
                status: Literal["installed", "unchanged"] = "unchanged" if bundle else "installed"
                if bundle is None:
                    bundle = self._fetch(client, name, info, state)
                    self._slots.prove(bundle, self._self_test)
                    self._slots.install(bundle)
            path = self._slots.path(digest)
            return Update(status, path, bundle.manifest.version, digest, meter.received_bytes)

    def rollback(self) -> Path:
        """Go back to the previous bundle and return its folder; the one left behind is not installed again.

        Raises:
            UpdateError: There is no previous bundle, or it is damaged.
        """
        with self._slots.lock(), _refusing("rollback", "the current bundle stays"):
            return self._slots.rollback()

    def _client(self, meter: FetcherInterface) -> TufUpdater:
        metadata = self._slots.home / "tuf"
        metadata.mkdir(parents=True, exist_ok=True)
        return TufUpdater(
            metadata_dir=str(metadata),
            metadata_base_url=f"{self._url}/metadata/",
            target_base_url=f"{self._url}/targets/",
            fetcher=meter,
            config=_LIMITS,
            bootstrap=self._root,
        )

    def _fetch(self, client: TufUpdater, name: str, info: TargetFile, state: State) -> Bundle:
        """All of the bundle whose manifest is ``info``: verified, not yet run."""
        digest = info.hashes["sha256"]
        if reason := self._slots.refused().get(digest):
            raise RefusedError(f"digest {digest[:12]} was refused before ({reason}); publish a corrected version")
        if info.length > MAX_MANIFEST_BYTES:
            raise RefusedError(f"a manifest of {info.length} bytes; expected at most {MAX_MANIFEST_BYTES}")
        manifest = Manifest.from_json(self._download(client, info))
        if manifest.name != name or (state.current and state.current.name != name):
            held = f", this home holds {state.current.name}" if state.current else ""
            raise RefusedError(f"its manifest names {manifest.name}{held}; expected {name}")
        damaged = state.current is not None and state.current.digest == digest
        if manifest.version <= state.newest and not damaged:
            raise RefusedError(f"version {manifest.version}; expected one above {state.newest}, installed before")
        self._slots.forget_downloads({digest, *(entry.sha256 for entry in manifest.files.values())})
        files = {file: self._file(client, file, entry) for file, entry in manifest.files.items()}
        bundle = Bundle(manifest, files)
        if bundle.digest != digest:
            raise RefusedError("its manifest is not in canonical form; publish it with pocketrank_server")
        return bundle

    def _file(self, client: TufUpdater, name: str, entry: FileEntry) -> bytes:
        """A file of the bundle: from a bundle held here where it did not change, else from the repository."""
        info = _target(client, f"blobs/{entry.sha256}")
        if (info.length, info.hashes["sha256"]) != (entry.size_bytes, entry.sha256):
            raise RefusedError(f"{name}: the signed target differs from the manifest's {entry}")
        for slot in self._slots.paths():
            if client.find_cached_target(info, str(slot / name)):
                return (slot / name).read_bytes()
        return self._download(client, info)

    def _download(self, client: TufUpdater, info: TargetFile) -> bytes:
        path = self._slots.download(info.hashes["sha256"])
        if not client.find_cached_target(info, str(path)):
            client.download_target(info, str(path))
        return path.read_bytes()


class FolderFetcher(FetcherInterface):
    """Reads ``file://`` URLs, so that a repository can lie on a disk or a USB stick."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(url2pathname(urlsplit(url).path))
        if not path.exists():
            raise DownloadHTTPError(f"{path} does not exist", 404)
        if not stat.S_ISREG(path.stat().st_mode):
            raise DownloadError(f"{path} is not a file")  # reading a pipe or a device might never end
        return _chunks(path)


class WebFetcher(FetcherInterface):
    """Reads http and https URLs, through the proxies that the environment names.

    Beyond python-tuf's own fetcher it gives up a server that sends a byte now and then for ever, and closes a
    connection that was not read to its end, which would answer the next request with what is left in it.
    """

    def __init__(self, timeout_s: float = 30) -> None:
        """Wait for a silent server ``timeout_s`` long."""
        self._timeout_s = timeout_s
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        parts = urlsplit(url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        if proxy not in self._pools:
            self._pools[proxy] = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
        headers = {"User-Agent": "pocketrank", "Accept-Encoding": "identity"}
        timeout = urllib3.Timeout(self._timeout_s)
        response = self._pools[proxy].request("GET", url, headers=headers, timeout=timeout, preload_content=False)
        if response.status != 200:
            response.close()
            raise DownloadHTTPError(f"{url}: HTTP status {response.status}", response.status)
        return self._chunks(url, response)

    def _chunks(self, url: str, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        received_bytes, begun = 0, time.monotonic()
        try:
            while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
                received_bytes += len(chunk)
                yield chunk
                if time.monotonic() - begun > self._timeout_s + received_bytes / _MIN_BYTES_PER_S:
                    raise SlowRetrievalError(f"{url}: fewer than {_MIN_BYTES_PER_S} bytes a second")
        finally:
            response.close()


class _Meter(FetcherInterface):
    """Counts what another fetcher brings, and sees to it that it fails with DownloadError alone."""

    def __init__(self, fetcher: FetcherInterface) -> None:
        self._inner = fetcher
        self._download: Generator[bytes, None, None] | None = None
        self.received_bytes = 0

    def close(self) -> None:
        """End a download that python-tuf gave up, now and not when its exception is forgotten."""
        if self._download is not None:
            self._download.close()

    def _fetch(self, url: str) -> Iterator[bytes]:
        self._download = self._counted(url, self._inner.fetch(url))
        return self._download

    def _counted(self, url: str, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        try:
            for chunk in chunks:
                self.received_bytes += len(chunk)
                yield chunk
        except DownloadError:
            raise
        except Exception as error:  # python-tuf expects none but its own once the first byte has come
            raise DownloadError(f"{url}: broke off ({error})") from error
        finally:
            if isinstance(chunks, Generator):
                chunks.close()


@contextlib.contextmanager
def _refusing(what: str, kept: str) -> Iterator[None]:
    """Turn whatever bytes from outside can cause into one error that says what was refused and what stays."""
    try:
        yield
    except RefusedError as refused:
        raise UpdateError(f"{what} refused: {refused}; {kept}") from refused.__cause__
    except (RepositoryError, DownloadError, BundleError, OSError, ValueError) as error:
        reason = f"{error} ({error.__cause__})" if error.__cause__ else f"{error}"
        raise UpdateError(f"{what} refused: {type(error).__name__}: {reason}; {kept}") from error


def _target(client: TufUpdater, path: str) -> TargetFile:
    info = client.get_targetinfo(path)
    if info is None:
        raise RefusedError(f"the signed metadata has no target {path}; is it the right repository and name?")
    if not _SHA256.fullmatch(info.hashes.get("sha256", "")):
        raise RefusedError(f"target {path} is signed without a SHA-256; publish it with pocketrank_server")
    return info


def _open_url(url: str | os.PathLike[str], timeout_s: float) -> tuple[str, FetcherInterface]:
    """Base URL of a repository, without a closing slash, and the fetcher for it."""
    text = os.fspath(url)
    scheme = urlsplit(text).scheme
    if scheme in {"http", "https"}:
        return text.rstrip("/"), WebFetcher(timeout_s)
    if scheme == "file":
        return text.rstrip("/"), FolderFetcher()
    if "://" in text:
        raise InputError(f"url: expected http, https, file or a folder, got {text!r}")
    return Path(text).absolute().as_uri(), FolderFetcher()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _golden_self_test(bundle: Bundle) -> None:
    from pocketrank import verification  # it needs a runtime, which a check without news does not

    verification.self_test(bundle)
