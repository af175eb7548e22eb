"""A bundle in other environments: what their runtimes make of it, and what is said where one can't use it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrank.bundle import GOLDEN, RANK_MODELS, Bundle, save_arrays
from pocketrank.errors import GateError, InputError
from pocketrank.verification import score_slates
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import same_order
from pocketrank_export.runtimes import score_on, self_test_on, trials, try_on
from tests import make_test_bundle, shop


@pytest.fixture(scope="module")
def slates() -> Slates:
    return make_test_bundle.slates()


@pytest.fixture(scope="module")
def pythons(devices: dict[str, Any]) -> list[Path]:
    return [device.python for device in devices.values()]


def stand_in(folder: Path, does: str) -> Path:
    """A Python that works, but for what it does when it is to verify a bundle."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exec "{sys.executable}" "$@"; fi\n{does}\n')
    script.chmod(0o755)
    return script


def saved(bundle: Bundle, folder: Path) -> Path:
    bundle.save(folder / "bundle")
    return folder / "bundle"


def wrong_golden() -> Bundle:
    golden = shop.bundle().golden()
    golden["scores"][0, 0] += 1.0
    return shop.with_files({GOLDEN: save_arrays(golden)})


def test_the_runtimes_agree_on_the_order_and_say_who_they_are(slates: Slates, devices: dict[str, Any]) -> None:
    found = [score_on(device.python, shop.FOLDER, slates) for device in devices.values()]
    assert [scores.runtime for scores in found] == list(devices)
    for scores in found:
        assert same_order(found[0].scores, scores.scores, slates.mask) >= 0.99
        np.testing.assert_allclose(scores.scores, found[0].scores, atol=1e-3)
        assert 1.0 < scores.p50_us < 1e6


def test_scores_made_elsewhere_are_those_made_here(slates: Slates) -> None:
    from pocketrank.scorer import Scorer

    here = score_slates(Scorer(shop.bundle()), slates.features, slates.mask)
    np.testing.assert_array_equal(score_on(sys.executable, shop.FOLDER, slates).scores, here)


def test_each_runtime_takes_its_own_file(slates: Slates, pythons: list[Path]) -> None:
    bundle = shop.with_files({RANK_MODELS["tflite-runtime"]: b"no model at all"})
    for trial in trials(bundle, slates, pythons):
        broken = trial.runtime == "tflite-runtime"
        assert (trial.found is None) == broken
        assert bool(trial.golden) == broken
        if broken:
            assert trial.failure.startswith("finite (tflite-runtime): the runtime refuses the model: tflite-runtime")
            assert trial.golden.startswith("golden (tflite-runtime): the runtime refuses the model")


def test_a_self_test_that_fails_is_part_of_the_answer(slates: Slates, tmp_path: Path) -> None:
    folder = saved(wrong_golden(), tmp_path)
    trial = try_on(sys.executable, folder, slates)
    assert trial.found is not None
    assert trial.failure == ""
    assert trial.golden.startswith("golden (ai-edge-litert): self-test on ai-edge-litert: scores differ by")
    with pytest.raises(GateError, match=r"^golden \(ai-edge-litert\): .*scores differ by"):
        self_test_on(sys.executable, folder)
    self_test_on(sys.executable, shop.FOLDER)


@pytest.mark.parametrize(
    ("does", "timeout_s", "said"),
    [
        ("kill -SEGV $$", 60.0, "SIGSEGV killed the process"),
        ("echo out of luck >&2; kill -KILL $$", 60.0, "SIGKILL killed the process; out of luck"),
        ("exec sleep 60", 0.3, "no answer within 0.3 s"),
    ],
)
def test_a_runtime_that_a_bundle_brings_down_stops_it(
    does: str, timeout_s: float, said: str, slates: Slates, tmp_path: Path
) -> None:
    python = stand_in(tmp_path, does)
    with pytest.raises(GateError) as scored:
        score_on(python, shop.FOLDER, slates, timeout_s=timeout_s)
    assert str(scored.value).startswith(f"finite (ai-edge-litert): {said}")
    with pytest.raises(GateError) as tested:
        self_test_on(python, shop.FOLDER, timeout_s=timeout_s)
    assert str(tested.value).startswith(f"golden (ai-edge-litert): {said}")


def bare(folder: Path) -> Path:
    """A Python without packages."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    script.chmod(0o755)
    return script


def test_an_environment_that_cant_score_is_told_apart_from_a_bad_bundle(slates: Slates, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not verify .*No module named"):
        score_on(bare(tmp_path), shop.FOLDER, slates)
    with pytest.raises(InputError, match="no TFLite runtime works there"):
        try_on(bare(tmp_path), shop.FOLDER, slates)
    with pytest.raises(InputError, match=r"nowhere: can't be started \(No such file"):
        score_on(tmp_path / "nowhere", shop.FOLDER, slates)


@pytest.mark.parametrize("arrays", [None, {"scores": np.zeros(3)}])
def test_an_environment_with_another_pocketrank_is_named(arrays: Any, slates: Slates, tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    kept.write_bytes(b"" if arrays is None else save_arrays(arrays))
    with pytest.raises(InputError, match=r"gave no scores .*install the PocketRank of this one there"):
        score_on(stand_in(tmp_path, f'cp "{kept}" "$5"'), shop.FOLDER, slates)


def test_scores_of_other_slates_are_refused(slates: Slates, tmp_path: Path) -> None:
    arrays = {"scores": np.zeros((2, 3), np.float32), "runtime": np.array(["a", "1"]), "p50_us": np.array(1.0)}
    kept = tmp_path / "kept.npz"
    kept.write_bytes(save_arrays(arrays))
    with pytest.raises(InputError, match=r"gave scores \(2, 3\); expected \(10, 90\)"):
        score_on(stand_in(tmp_path, f'cp "{kept}" "$5"'), shop.FOLDER, slates)


@pytest.mark.parametrize("none", [(), []])
def test_a_bundle_that_no_runtime_has_seen_is_not_tried(none: Sequence[Path], slates: Slates) -> None:
    with pytest.raises(InputError, match="pythons: expected the interpreter"):
        trials(shop.bundle(), slates, none)
