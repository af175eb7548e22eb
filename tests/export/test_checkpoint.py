"""A fit that is killed goes on and ends where it would have ended."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pocketrank.bundle import load_arrays, save_arrays
from pocketrank.errors import InputError
from pocketrank_export.data.slates import Slates
from pocketrank_export.grid import on_int8_grid
from pocketrank_export.losses.mixture import Term
from pocketrank_export.student import Student
from pocketrank_export.training.fit import fit
from pocketrank_export.training.recipe import Recipe

RECIPE = Recipe(
    epochs=5, learning_rate=0.02, weight_decay=0.01, batch=16, losses=(Term("kl", weight=0.5), Term("softmax"))
)


def slates(seed: int, count: int = 40) -> Slates:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 8, 4)).astype(np.float32)
    labels = (features[..., 0] + rng.normal(size=(count, 8)) > 1).astype(np.float32)
    return Slates(features, labels, np.ones_like(labels))


class Noisy(nn.Module):
    """Draws random numbers when it is trained, and counts its calls in a buffer."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        self.calls += self.training
        scores: Tensor = self.last(self.drop(torch.relu(self.first(features)))).squeeze(-1) * mask
        return scores


def model() -> nn.Module:
    torch.manual_seed(0)
    return Noisy()


def run(
    made: nn.Module, recipe: Recipe = RECIPE, train: Slates | None = None, shift: float = 0.0, **options: Any
) -> float:
    train = slates(1) if train is None else train
    return fit(made, train, slates(2), recipe, teacher=train.features[..., 0] + np.float32(shift), **options)


def weights(made: nn.Module) -> str:
    """SHA-256 of all that the model holds."""
    state = made.state_dict()
    return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()


class Killed(BaseException):
    """As an interrupt from the keyboard."""


def killed_after(share: float) -> Callable[[float], None]:
    def tell(done: float) -> None:
        if share <= done < 1:
            raise Killed

    return tell


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35, 0.6, 0.93])
def test_a_fit_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(share: float, tmp_path: Path) -> None:
    whole = model()
    best = run(whole)
    broken = model()
    with pytest.raises(Killed):
        run(broken, checkpoint=tmp_path / "new" / "fit.npz", progress=killed_after(share))
    assert (tmp_path / "new" / "fit.npz").is_file() == (share > 0.2)
    again = model()
    shares: list[float] = []
    assert run(again, checkpoint=tmp_path / "new" / "fit.npz", progress=shares.append) == best
    assert weights(again) == weights(whole)
    assert shares[0] > share - 0.2, "epochs that were done are not done again"


def test_a_fit_may_be_interrupted_in_every_epoch(tmp_path: Path) -> None:
    whole = model()
    best = run(whole)
    for share in (0.3, 0.5, 0.7, 0.9):
        with pytest.raises(Killed):
            run(model(), checkpoint=tmp_path / "fit.npz", progress=killed_after(share))
    last = model()
    assert run(last, checkpoint=tmp_path / "fit.npz") == best
    assert weights(last) == weights(whole)


def test_a_student_on_the_int8_grid_goes_on_too(tmp_path: Path) -> None:
    found = []
    for name, shares in (("whole", (2.0,)), ("broken", (0.3, 0.6, 2.0))):
        last = ""
        for share in shares:
            torch.manual_seed(3)
            student = Student([True, True, False, True], (6,))
            with suppress(Killed), on_int8_grid(student):
                run(student, checkpoint=tmp_path / f"{name}.npz", progress=killed_after(share))
            last = weights(student)
        found.append(last)
    assert found[0] == found[1]


def test_patience_counts_across_an_interruption(tmp_path: Path) -> None:
    """A model that never gets better: its first epoch is its best."""
    recipe = dataclasses.replace(RECIPE, epochs=50, patience=3)

    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, features: Tensor, mask: Tensor) -> Tensor:
            return features[..., 0] * mask + 0 * self.weight

    with pytest.raises(Killed):
        run(Stubborn(), recipe, checkpoint=tmp_path / "fit.npz", progress=killed_after(2.5 / 50))
    shares: list[float] = []
    run(Stubborn(), recipe, checkpoint=tmp_path / "fit.npz", progress=shares.append)
    assert shares[-2] == pytest.approx(4 / 50)


def test_a_fit_that_is_done_returns_at_once(tmp_path: Path) -> None:
    first = model()
    best = run(first, checkpoint=tmp_path / "fit.npz")
    shares: list[float] = []
    again = model()
    assert run(again, checkpoint=tmp_path / "fit.npz", progress=shares.append) == best
    assert shares == [1.0]
    assert weights(again) == weights(first)


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": dataclasses.replace(RECIPE, learning_rate=0.03)},
        {"recipe": dataclasses.replace(RECIPE, losses=(Term("kl", weight=0.6), Term("softmax")))},
        {"recipe": dataclasses.replace(RECIPE, seed=1)},
        {"train": slates(3)},
        {"train": slates(1).where(np.arange(39))},
        {"train": dataclasses.replace(slates(1), propensities=np.ones((40, 8), np.float32))},
        {"shift": 1.0},
        {"made": Student([True] * 4, (6,))},
    ],
    ids=["rate", "losses", "seed", "features", "fewer slates", "propensities", "teacher", "model"],
)
def test_a_checkpoint_of_something_else_is_refused_and_stays(other: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "fit.npz"
    run(model(), checkpoint=file)
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"checkpoint: .*another recipe, model, data"):
        run(**{"made": model(), "checkpoint": file, **other})
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", save_arrays({"epochs": np.array(1)})])
def test_a_file_that_is_no_checkpoint_is_refused_and_stays(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "fit.npz"
    file.write_bytes(content)
    with pytest.raises(InputError, match="is not a checkpoint"):
        run(model(), checkpoint=file)
    assert file.read_bytes() == content


def test_a_checkpoint_is_plain_arrays_and_nothing_else_is_left_beside_it(tmp_path: Path) -> None:
    run(model(), checkpoint=tmp_path / "fit.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.npz"]
    arrays = load_arrays((tmp_path / "fit.npz").read_bytes())
    assert int(arrays["epochs"]) == RECIPE.epochs
    assert int(arrays["model/calls"]) == RECIPE.epochs * 3


def test_what_a_killed_process_began_another_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, again = model(), model()
    run(whole)
    command = [sys.executable, "-m", "tests.export.test_checkpoint", str(tmp_path / "fit.npz")]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(command, check=False, env=environment)
    assert killed.returncode == -signal.SIGKILL
    shares: list[float] = []
    run(again, checkpoint=tmp_path / "fit.npz", progress=shares.append)
    assert shares[0] > 0.4
    assert weights(again) == weights(whole)


def main(file: Path) -> None:
    """Fit in this process, which kills itself on the way."""

    def tell(done: float) -> None:
        if done > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)

    run(model(), checkpoint=file, progress=tell)


if __name__ == "__main__":
    main(Path(sys.argv[1]))


class Rates:
    """Keeps the learning rate of each epoch."""

    def __init__(self) -> None:
        self.found: list[tuple[int, float]] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.found.append((step, values["learning_rate"]))


def test_the_learning_rate_is_told_as_without_an_interruption(tmp_path: Path) -> None:
    whole, parts = Rates(), Rates()
    run(model(), log=whole)
    for share in (0.35, 2.0):
        with suppress(Killed):
            run(model(), checkpoint=tmp_path / "fit.npz", progress=killed_after(share), log=parts)
    assert parts.found == whole.found
