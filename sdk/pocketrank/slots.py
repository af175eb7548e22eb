"""Where a device keeps its bundles: the current one, the previous one, and what will not be tried again.

::

    home/
      state.json        current and previous bundle, and the highest version ever installed
      refused.json      digests that will not be installed again, and why
      self_test.json    the self-test under way, if any
      bundles/<digest>  current and previous, no others
      downloads/        files of an update under way; an interrupted one goes on from them
      tuf/              metadata that the updater trusts

``state.json`` is replaced in one step, after the new bundle is on the disk: a
kill or a power cut at any point leaves the old bundle current, or the new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pocketrank.bundle import MANIFEST, Bundle
from pocketrank.durable import sync_folder, write_atomically
from pocketrank.errors import BundleError, ModelError, UpdateError

try:
    import fcntl
except ImportError:  # not a POSIX system: the app must see to it that one process updates at a time
    fcntl = None  # type: ignore[assignment]

SelfTest = Callable[[Bundle], None]

MAX_SELF_TESTS: Final = 3
"""A bundle whose self-test was begun so often without an end takes the process down with it: it is refused."""
_MAX_REFUSED: Final = 64


@dataclass(frozen=True)
class Slot:
    """A bundle in ``bundles/``."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class State:
    """What ``state.json`` says; ``newest``, the highest version ever installed, outlives a rollback."""

    current: Slot | None = None
    previous: Slot | None = None
    newest: int = 0


class RefusedError(Exception):
    """Why a bundle is not installed; ``Updater`` makes an ``UpdateError`` of it."""


class Slots:
    """The bundles that a device holds in ``home``."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def state(self) -> State:
        """What is installed; an unreadable file counts as nothing, and the next update installs anew."""
        body = _read(self.home / "state.json")
        try:
            current, previous = (Slot(**slot) if slot else None for slot in (body["current"], body["previous"]))
            return State(current, previous, int(body["newest"]))
        except (KeyError, TypeError, ValueError):
            return State()

    def path(self, digest: str) -> Path:
        """Folder of the bundle of that digest."""
        return self.home / "bundles" / digest

    def paths(self) -> list[Path]:
        """All that lies in ``bundles/``, halves of killed installations included."""
        return sorted((self.home / "bundles").glob("*"))

    def held(self, digest: str) -> Bundle | None:
        """The bundle of that digest where it is held here unharmed."""
        try:
            bundle = Bundle.open(self.path(digest))
        except BundleError:
            return None
        return bundle if bundle.digest == digest else None

    def installed(self) -> Path | None:
        """Folder of the current bundle, or of the previous one where the current one is gone; None for neither."""
        state = self.state()
        for slot in (state.current, state.previous):
            if slot is not None and (self.path(slot.digest) / MANIFEST).is_file():
                return self.path(slot.digest)
        return None

    def download(self, sha256: str) -> Path:
        """Where a file of that hash is downloaded to."""
        return self.home / "downloads" / sha256

    def forget_downloads(self, wanted: set[str]) -> None:
        """Delete all downloads but those of the hashes in ``wanted``."""
        for path in (self.home / "downloads").glob("*"):
            if path.name not in wanted:
                path.unlink()

    def refused(self) -> dict[str, str]:
        """Digest to reason of what will not be installed again; the newest last."""
        body = _read(self.home / "refused.json")
        return {entry["digest"]: entry["reason"] for entry in body.get("refused", [])}

    def refuse(self, digest: str, reason: str) -> None:
        """Never install ``digest`` again."""
        entries = [*self.refused().items(), (digest, reason)][-_MAX_REFUSED:]
        body = {"refused": [{"digest": digest, "reason": reason} for digest, reason in entries]}
        _write(self.home / "refused.json", body)

    def prove(self, bundle: Bundle, self_test: SelfTest) -> None:
        """Run the self-test, and remember a failure, also the kind that takes the process down.

        Raises:
            RefusedError: The bundle does not work here, now or in earlier attempts.
        """
        begun = self.home / "self_test.json"
        record = _read(begun)
        count = int(record.get("count", 0)) if record.get("digest") == bundle.digest else 0
        if count >= MAX_SELF_TESTS:
            reason = f"its self-test was begun {count} times and never ended"
            self.refuse(bundle.digest, reason)
            raise RefusedError(f"{reason}; the digest will not be tried again")
        _write(begun, {"digest": bundle.digest, "count": count + 1})
        try:
            self_test(bundle)
        except (ModelError, BundleError) as error:
            self.refuse(bundle.digest, f"self-test failed: {error}")
            raise RefusedError(f"self-test failed: {error}; the digest will not be tried again") from error
        finally:
            begun.unlink(missing_ok=True)

    def install(self, bundle: Bundle) -> None:
        """Make ``bundle`` the current one, and the one that was current the previous one.

        Raises:
            OSError: It could not be written; what was current still is.
        """
        state = self.state()
        if self.held(bundle.digest) is None:
            shutil.rmtree(self.path(bundle.digest), ignore_errors=True)
            bundle.save(self.path(bundle.digest))
            sync_folder(self.path(bundle.digest))
        new = Slot(bundle.manifest.name, bundle.manifest.version, bundle.digest)
        previous = state.previous if state.current == new else state.current
        self._switch(State(new, previous, max(state.newest, new.version)))
        self.forget_downloads(set())

    def rollback(self) -> Path:
        """Make the previous bundle the current one, and refuse the one left behind from now on.

        Raises:
            RefusedError: There is no previous bundle.
            BundleError: It is damaged.
        """
        state = self.state()
        if state.current is None or state.previous is None:
            raise RefusedError("no previous bundle is held")
        path = self.path(state.previous.digest)
        Bundle.open(path)
        self.refuse(state.current.digest, "rolled back")
        self._switch(State(state.previous, None, state.newest))
        return path

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from changing ``home``.

        Raises:
            UpdateError: Another one is at it.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("wb") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise UpdateError(f"{self.home}: another process is updating it; try again later") from error
            yield

    def _switch(self, state: State) -> None:
        """The one step in which a bundle becomes current; then what is no longer needed goes."""
        _write(self.home / "state.json", dataclasses.asdict(state))
        kept = {slot.digest for slot in (state.current, state.previous) if slot}
        for path in self.paths():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _write(path: Path, body: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(body, sort_keys=True).encode())
