"""Checkpoints of a run: a folder that a killed server finds whole.

``rounds.json`` is the truth: it names the file of arrays that belongs to it and
is replaced in one step. A round is saved twice: as charged, before any device
is asked, and with its outcome.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketrank.bundle import load_arrays, save_arrays
from pocketrank.durable import write_atomically
from pocketrank.errors import InputError, StoreError
from pocketrank_federated.plan import RoundPlan
from pocketrank_federated.state import Outcome, RoundRecord, RunState

FORMAT: Final = 1
STATE: Final = "rounds.json"


class Checkpoint:
    """Where one run on one bundle is kept."""

    def __init__(self, folder: Path, bundle_digest: str, plan: RoundPlan) -> None:
        """Keep the run of ``plan`` on the bundle in ``folder``, which is made where it is missing."""
        self._folder = folder
        self._run = {"bundle_digest": bundle_digest, "plan": dataclasses.asdict(plan)}

    def save(self, state: RunState) -> None:
        """Write the state down; durable when this returns.

        Raises:
            StoreError: The folder can't be written; the round must not go on.
        """
        arrays = save_arrays({"params": state.params, "velocity": state.velocity})
        sha256 = hashlib.sha256(arrays).hexdigest()
        name = f"arrays-{sha256[:16]}.npz"
        body = {
            "format": FORMAT,
            **self._run,
            "arrays": {"file": name, "sha256": sha256},
            "records": [dataclasses.asdict(record) for record in state.records],
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not (self._folder / name).exists():
                write_atomically(self._folder / name, arrays)
            write_atomically(self._folder / STATE, json.dumps(body, indent=1, allow_nan=False).encode())
            for old in self._folder.glob("arrays-*.npz"):
                if old.name != name:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"checkpoint {self._folder}: can't be written ({error.strerror}); free some space"
            ) from error

    def load(self) -> RunState | None:
        """The state saved last, or None where there is none.

        Raises:
            InputError: It belongs to another bundle or another plan.
            StoreError: It can't be read.
        """
        try:
            body = json.loads((self._folder / STATE).read_bytes())
            if body["format"] != FORMAT:
                raise StoreError(f"checkpoint {self._folder}: format {body['format']}; expected {FORMAT}")
            self._check_run(body)
            content = (self._folder / body["arrays"]["file"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != body["arrays"]["sha256"]:
                raise StoreError(f"checkpoint {self._folder}: {body['arrays']['file']} was changed; restore a copy")
            arrays = load_arrays(content)
            records = tuple(_record(entry) for entry in body["records"])
            return RunState(arrays["params"].astype(np.float32), arrays["velocity"].astype(np.float32), records)
        except FileNotFoundError as error:
            if error.filename and Path(error.filename).name == STATE:
                return None
            raise StoreError(f"checkpoint {self._folder}: {error.filename} is missing; restore a copy") from error
        except (InputError, StoreError):
            raise
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise StoreError(f"checkpoint {self._folder}: not a checkpoint ({error}); restore a copy") from error

    def _check_run(self, body: dict[str, Any]) -> None:
        for key, expected in self._run.items():
            if body[key] != expected:
                raise InputError(
                    f"checkpoint {self._folder}: {key} is {body[key]}, this run has {expected}; choose another folder"
                )


def _record(entry: dict[str, Any]) -> RoundRecord:
    return RoundRecord(**{**entry, "outcome": Outcome(entry["outcome"])})
