"""The device's ledger: how often it has answered, on which bundle, across restarts.

A round is charged before the device trains, so a kill between the two costs a
round rather than hides one. Round numbers must rise: a round asked twice is
refused, which leaves a server no way to average the noise out of one round.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from pocketrank.durable import write_atomically
from pocketrank.errors import StoreError
from pocketrank_federated.policy import Refusal, RefusalError

FORMAT: Final = 1


@dataclass(frozen=True)
class Participation:
    """What a device has spent on one bundle."""

    rounds: int = 0
    last_round: int = 0

    def next(self, server_round: int, max_rounds: int) -> Participation:
        """The participation once ``server_round`` is answered too.

        Raises:
            RefusalError: The round is not newer than the last one, or the budget is spent.
        """
        if server_round <= self.last_round:
            raise RefusalError(Refusal.REPLAY, f"round {server_round} after round {self.last_round}")
        if self.rounds >= max_rounds:
            raise RefusalError(Refusal.ROUNDS, f"{self.rounds} answered; expected at most {max_rounds}")
        return Participation(self.rounds + 1, server_round)


class Ledger(Protocol):
    """Where participations are written down."""

    def charge(self, bundle_digest: str, server_round: int, max_rounds: int) -> None:
        """Write down that this device answers ``server_round``; durable when it returns.

        Raises:
            RefusalError: The round is not newer than the last one, or the budget is spent.
            StoreError: The ledger can't be read or written; the device must not answer.
        """


class MemoryLedger:
    """A ledger that lasts as long as its process, for simulations."""

    def __init__(self) -> None:
        """Start with nothing spent."""
        self._bundles: dict[str, Participation] = {}

    def charge(self, bundle_digest: str, server_round: int, max_rounds: int) -> None:
        """See ``Ledger.charge``."""
        spent = self._bundles.get(bundle_digest, Participation())
        self._bundles[bundle_digest] = spent.next(server_round, max_rounds)


class FileLedger:
    """A ledger in a JSON file, safe against kills and against a second process."""

    def __init__(self, path: Path) -> None:
        """Keep the ledger at ``path``; its folder is made where it is missing."""
        self._path = path

    def charge(self, bundle_digest: str, server_round: int, max_rounds: int) -> None:
        """See ``Ledger.charge``. A ledger that can't be read is never started anew."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self._path.with_name(self._path.name + ".lock")):
                bundles = self._read()
                bundles[bundle_digest] = bundles.get(bundle_digest, Participation()).next(server_round, max_rounds)
                body = {"format": FORMAT, "bundles": {digest: asdict(spent) for digest, spent in bundles.items()}}
                write_atomically(self._path, json.dumps(body, sort_keys=True).encode())
        except OSError as error:
            raise StoreError(
                f"ledger {self._path}: can't be written ({error.strerror}); no round is answered"
            ) from error

    def _read(self) -> dict[str, Participation]:
        try:
            body = json.loads(self._path.read_bytes())
            if body["format"] != FORMAT:
                raise StoreError(f"ledger {self._path}: format {body['format']}; expected {FORMAT}, update the SDK")
            bundles = {digest: Participation(**entry) for digest, entry in body["bundles"].items()}
            if not all(isinstance(n, int) and n >= 0 for spent in bundles.values() for n in asdict(spent).values()):
                raise ValueError("a count is not a whole number")
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"ledger {self._path}: not a ledger ({error}); no round is answered until it is"
            ) from error
        return bundles


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the system drops it when a process ends, however it ends."""
    with path.open("ab") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
