import json
from pathlib import Path

import numpy as np
import pytest

from pocketrank.errors import InputError, StoreError
from pocketrank_federated.checkpoint import STATE, Checkpoint
from pocketrank_federated.state import Outcome, RoundRecord, RunState
from tests.federated.toy import plan

RECORD = RoundRecord(1, Outcome.RELEASED, 10, 8, {"lost": 2}, 0.5, 0.25, 9000)
SAVED = RunState(np.arange(3, dtype=np.float32), np.ones(3, np.float32), (RECORD,))
DIGEST = "ab" * 32


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(folder / "run", DIGEST, plan())


def assert_saved(state: RunState | None) -> None:
    assert state is not None
    np.testing.assert_array_equal(state.params, SAVED.params)
    np.testing.assert_array_equal(state.velocity, SAVED.velocity)
    assert state.records == SAVED.records


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(SAVED)
    assert_saved(checkpoint(tmp_path).load())


def test_an_empty_folder_holds_no_state(tmp_path: Path) -> None:
    assert checkpoint(tmp_path).load() is None


def test_a_kill_between_the_files_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = checkpoint(tmp_path)
    kept.save(SAVED)

    def killed(path: Path, data: bytes) -> None:
        if path.name == STATE:
            raise KeyboardInterrupt
        path.write_bytes(data)

    monkeypatch.setattr("pocketrank_federated.checkpoint.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.save(RunState(SAVED.params + 1, SAVED.velocity, SAVED.records))
    assert_saved(checkpoint(tmp_path).load())


def test_only_the_arrays_of_the_state_are_kept(tmp_path: Path) -> None:
    kept = checkpoint(tmp_path)
    for step in range(3):
        kept.save(RunState(SAVED.params + step, SAVED.velocity))
    assert len(list((tmp_path / "run").iterdir())) == 2


@pytest.mark.parametrize(
    "other",
    [lambda f: Checkpoint(f / "run", "cd" * 32, plan()), lambda f: Checkpoint(f / "run", DIGEST, plan(delta=1e-6))],
    ids=["bundle", "plan"],
)
def test_a_state_of_another_run_is_refused(tmp_path: Path, other: object) -> None:
    checkpoint(tmp_path).save(SAVED)
    assert callable(other)
    with pytest.raises(InputError, match="choose another folder"):
        other(tmp_path).load()


def _change_arrays(folder: Path) -> None:
    arrays = next(folder.glob("*.npz"))
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"x")


def _lose_arrays(folder: Path) -> None:
    next(folder.glob("*.npz")).unlink()


def _truncate_state(folder: Path) -> None:
    (folder / STATE).write_bytes((folder / STATE).read_bytes()[:40])


def _other_format(folder: Path) -> None:
    (folder / STATE).write_text(json.dumps({**json.loads((folder / STATE).read_text()), "format": 9}))


@pytest.mark.parametrize("damage", [_change_arrays, _lose_arrays, _truncate_state, _other_format])
def test_a_damaged_state_is_refused_and_not_started_anew(tmp_path: Path, damage: object) -> None:
    checkpoint(tmp_path).save(SAVED)
    assert callable(damage)
    damage(tmp_path / "run")
    with pytest.raises(StoreError, match="checkpoint"):
        checkpoint(tmp_path).load()


def test_a_folder_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(StoreError, match="can't be written"):
        checkpoint(tmp_path).save(SAVED)
