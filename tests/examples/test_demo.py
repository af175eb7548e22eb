"""The demo itself, killed half way and started again; and what keeps its stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pocketrank.bundle import Bundle
from pocketrank.errors import InputError
from pocketrank_export.workspace import Workspace, key_of

ROOT = Path(__file__).parents[2]
VARIANTS = {"first_stage", "v1", "v2", "v2_private", "v2_local", "consented", "central"}


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "examples.movielens", "--out", str(out)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def rounds_done(out: Path) -> int:
    return len(list((out / "rounds-private").glob("after-*.npz")))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not (ROOT / ".venv-device").is_dir(), reason="needs the device environment")
def test_the_demo_killed_in_a_round_goes_on_and_ends_with_the_better_bundle(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    first = start(out)
    try:
        while rounds_done(out) < 3 and first.poll() is None:
            time.sleep(0.05)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    before = rounds_done(out)
    assert 3 <= before < 12
    assert start(out).wait() == 0

    report = json.loads((out / "report.json").read_text())
    assert report["ndcg_at_10"].keys() == report["mrr_at_10"].keys() == VARIANTS
    for gain in ("federated", "federated_private"):
        assert report["gains"][gain]["low"] > 0
    assert report["epsilon"] <= 2.0
    assert report["quantization"]["finite"] == {"ai-edge-litert": True, "tflite-runtime": True}
    assert report["quantization"]["same_order_percent"] >= 99.0
    assert report["quantization"]["ndcg_loss_percent"] <= 0.5
    assert report["size_bytes"]["update"] < report["size_bytes"]["bundle"] / 10
    started_again = json.loads((out / "stages.json").read_text())
    del started_again["report"]
    (out / "stages.json").write_text(json.dumps(started_again))
    assert start(out).wait() == 0
    again = json.loads((out / "report.json").read_text())
    for variant in ("first_stage", "v1", "v2", "v2_private"):
        assert again["ndcg_at_10"][variant]["mean"] == report["ndcg_at_10"][variant]["mean"]
    assert again["size_bytes"] == report["size_bytes"]

    page = (out / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")

    versions = {
        bundle.manifest.version: bundle.manifest
        for bundle in map(Bundle.open, (out / "installed" / "device-0" / "bundles").iterdir())
    }
    assert versions[1].privacy.epsilon == 0.0
    assert versions[2].privacy.epsilon == report["epsilon"]
    assert set(versions[2].runtimes) == {"ai-edge-litert", "tflite-runtime"}


def test_a_finished_stage_is_remembered_and_another_code_starts_anew(tmp_path: Path) -> None:
    console = Console(quiet=True)
    workspace = Workspace(tmp_path / "run", "key", console)
    with workspace.stage("data", "data") as tell:
        tell(0.5)
    with pytest.raises(ZeroDivisionError), workspace.stage("broken", "broken"):
        _ = 1 / 0
    again = Workspace(tmp_path / "run", "key", console)
    assert again.done("data")
    assert not again.done("broken")
    assert not Workspace(tmp_path / "run", "other key", console).done("data")


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="holds something else"):
        Workspace(tmp_path, "key", Console(quiet=True))
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_the_key_follows_code_and_settings(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    key = key_of([tmp_path], "seed 0")
    assert key == key_of([tmp_path], "seed 0")
    assert key != key_of([tmp_path], "seed 1")
    (tmp_path / "a.py").write_text("2")
    assert key != key_of([tmp_path], "seed 0")
