"""The self-test of a bundle on the runtime that is here, and the environment that it runs in."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketrank import Bundle
from pocketrank.bundle import GOLDEN, PARAMS, RANK_MODEL, load_arrays, save_arrays
from pocketrank.errors import ModelError
from pocketrank.scorer import Scorer
from pocketrank.verification import TOLERANCE, score_slates, self_test
from tests import shop

ROOT = Path(__file__).parents[2]
HIDDEN = 8
"""Rows of the first layer of the shop's student."""


def on_a_device() -> bool:
    """Whether this is the device's environment."""
    return importlib.util.find_spec("tflite_runtime") is not None


def test_the_bundle_gives_its_golden_scores_here() -> None:
    self_test(shop.bundle())


def test_the_golden_slates_try_every_signature_full_and_padded() -> None:
    golden = shop.bundle().golden()
    counts = set(golden["mask"].sum(axis=1).astype(int).tolist())
    assert {16, 64} <= counts
    assert {next(size for size in (16, 64, 128) if size >= count) for count in counts - {16, 64}} == {16, 64, 128}


def overflowing_parameters() -> Bundle:
    params = {name: np.full_like(value, 3e38) for name, value in shop.bundle().params().items()}
    return shop.with_params(params)


def changed_golden_parameter() -> Bundle:
    golden = shop.bundle().golden()
    golden["head.weight"][shop.SCHEMA.private_columns.tolist().index(True)] += 0.05
    return shop.with_files({GOLDEN: save_arrays(golden)})


def no_golden_parameters() -> Bundle:
    golden = shop.bundle().golden()
    del golden["head.weight"]
    return shop.with_files({GOLDEN: save_arrays(golden)})


def changed_byte_of_the_backbone() -> Bundle:
    """One eight-bit weight of the first layer turned upside down."""
    content = np.frombuffer(shop.bundle().files[RANK_MODEL], np.int8).copy()
    columns, private = len(shop.SCHEMA.columns), shop.SCHEMA.private_columns
    for at in range(len(content) - HIDDEN * columns):
        weights = content[at : at + HIDDEN * columns].reshape(HIDDEN, columns)
        # One scale a row, so its largest weight is 127; the backbone has none for private columns.
        if (np.abs(weights).max(axis=1) == 127).all() and not weights[:, private].any():
            weights[0, 2] ^= -128
            return shop.with_files({RANK_MODEL: content.tobytes()})
    raise AssertionError("the weights of the first layer were not found")


def changed_score() -> Bundle:
    golden = shop.bundle().golden()
    golden["scores"][-1, 0] += 10 * TOLERANCE
    return shop.with_files({GOLDEN: save_arrays(golden)})


def not_a_number() -> Bundle:
    golden = shop.bundle().golden()
    golden["scores"][0, 0] = np.nan
    return shop.with_files({GOLDEN: save_arrays(golden)})


def no_slates() -> Bundle:
    golden = shop.bundle().golden()
    slates = {name: golden[name][:0] for name in ("features", "mask", "scores")}
    return shop.with_files({GOLDEN: save_arrays({**golden, **slates})})


def no_candidates() -> Bundle:
    golden = shop.bundle().golden()
    return shop.with_files({GOLDEN: save_arrays({**golden, "mask": np.zeros_like(golden["mask"])})})


def another_width() -> Bundle:
    golden = shop.bundle().golden()
    return shop.with_files({GOLDEN: save_arrays({**golden, "features": golden["features"][..., :-1]})})


def another_mask() -> Bundle:
    golden = shop.bundle().golden()
    return shop.with_files({GOLDEN: save_arrays({**golden, "mask": golden["mask"][:, :-1]})})


def nothing_golden() -> Bundle:
    return shop.with_files({GOLDEN: save_arrays({})})


@pytest.mark.parametrize(
    "broken",
    [
        overflowing_parameters,
        changed_golden_parameter,
        no_golden_parameters,
        changed_byte_of_the_backbone,
        changed_score,
        not_a_number,
        no_slates,
        no_candidates,
        another_width,
        another_mask,
        nothing_golden,
    ],
)
def test_the_self_test_catches(broken: Callable[[], Bundle]) -> None:
    with pytest.raises(ModelError, match=r"self-test|golden vectors|not finite"):
        self_test(broken())


def test_a_difference_within_the_tolerance_passes() -> None:
    golden = shop.bundle().golden()
    spread = golden["scores"][golden["mask"] > 0].std()
    self_test(shop.with_files({GOLDEN: save_arrays({**golden, "scores": golden["scores"] + spread * TOLERANCE / 2})}))


def run(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pocketrank.verification", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


def test_the_command_scores_slates_and_names_the_runtime(tmp_path: Path) -> None:
    golden = shop.bundle().golden()
    (tmp_path / "slates.npz").write_bytes(save_arrays({name: golden[name] for name in ("features", "mask")}))
    done = run(shop.FOLDER, tmp_path / "slates.npz", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    made = load_arrays((tmp_path / "out.npz").read_bytes())
    expected = score_slates(Scorer(shop.bundle()), golden["features"], golden["mask"])
    np.testing.assert_allclose(made["scores"], expected, atol=1e-5)
    scorer = Scorer(shop.bundle())
    assert made["runtime"].tolist() == [scorer.runtime, scorer.runtime_version]
    assert scorer.runtime == ("tflite-runtime" if on_a_device() else "ai-edge-litert")


def test_the_command_refuses_a_bundle_that_was_tampered_with(tmp_path: Path) -> None:
    (tmp_path / "slates.npz").write_bytes(save_arrays({}))
    shop.bundle().save(tmp_path / "bundle")
    (tmp_path / "bundle" / PARAMS).write_bytes(b"0")
    done = run(tmp_path / "bundle", tmp_path / "slates.npz", tmp_path / "out.npz")
    assert done.returncode != 0
    assert "fetch the bundle again" in done.stderr
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.skipif(not on_a_device(), reason="this is the builder's environment")
@pytest.mark.parametrize(
    "heavy", ["torch", "flwr", "litert_torch", "ai_edge_litert", "onnx", "onnxruntime", "scipy", "rich", "grpc"]
)
def test_a_device_holds_nothing_heavy(heavy: str) -> None:
    assert importlib.util.find_spec(heavy) is None
