"""``pocketrank build`` and the verbs on its way, on the configuration that ``docs/export.md`` shows."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrank import Bundle, Reranker
from pocketrank.bundle import RANK_MODEL
from pocketrank.commands import Exit
from pocketrank_export.report.figures import Figures
from tests.commands import COMMAND, answer, run
from tests.export.conftest import DEVICE_PYTHON
from tests.test_layout import ROOT

GUIDE = (ROOT / "docs" / "export.md").read_text()
DEVICE = ("--runtime-python", DEVICE_PYTHON) if DEVICE_PYTHON.exists() else ()
ONE_RUNTIME = 'runtimes = ["ai-edge-litert"]\n'


def block(language: str) -> str:
    """The guide's first block in ``language``."""
    found = re.search(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    assert found
    return found[1]


def clicks(path: Path, *, users: int = 12, visits: int = 10, shown: int = 8) -> None:
    """A log as the guide's: people click what is cheap, well rated and of their own kind."""
    rng = np.random.default_rng(3)
    heads = block("csv").splitlines()[0].split(",")
    kinds = ["kitchen", "light", "garden"]
    items = [
        (f"item-{number}", round(float(rng.gamma(3.0, 10.0)), 2), round(float(rng.uniform(1, 5)), 1), kinds[number % 3])
        for number in range(40)
    ]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(heads)
        for visit in range(visits):
            for user in range(users):
                chosen = rng.choice(len(items), shown, replace=False)
                worth = [
                    items[one][2] - items[one][1] / 30 + 3.0 * (items[one][3] == kinds[user % 3]) + rng.normal()
                    for one in chosen
                ]
                best = int(np.argmax(worth))
                for position, one in enumerate(chosen):
                    name, price, rating, kind = items[one]
                    at_s = 1_700_000_000 + 3_600 * visit + user
                    label = int(position == best)
                    rows.writerow([f"{visit}-{user}", f"user-{user}", at_s, name, position, label, price, rating, kind])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's configuration, with trainings that take no time, and a log to build from."""
    made = tmp_path_factory.mktemp("shop")
    clicks(made / "clicks.csv")
    runtimes = "" if DEVICE else ONE_RUNTIME
    (made / "shop.toml").write_text(runtimes + block("toml"))
    return made


def variant(folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """The same configuration with some words changed, in a folder of its own beside the log."""
    text = (folder / "shop.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / f"{name}.toml").write_text(text)
    return folder / f"{name}.toml"


@pytest.fixture(scope="module")
def built(folder: Path) -> dict[str, Any]:
    """What the build of the guide's configuration answers."""
    found: dict[str, Any] = answer(run("build", folder / "shop.toml", *DEVICE, "--json"))
    return found


@pytest.mark.slow
def test_the_guides_configuration_gives_a_bundle_that_ranks(folder: Path, built: dict[str, Any]) -> None:
    assert built["bundle"] == str(folder / "build" / "shop" / "bundle")
    bundle = Bundle.open(built["bundle"])
    assert (bundle.digest, bundle.name) == (built["digest"], "shop@1")
    assert set(bundle.manifest.runtimes) == {"ai-edge-litert", *(["tflite-runtime"] if DEVICE else [])}
    assert bundle.manifest.quantization == {RANK_MODEL: "weight_int8"}
    assert all(verdict["passed"] for verdict in built["verdicts"])
    slate = Reranker.load(built["bundle"]).rank(
        [
            {"id": "dear", "price": 90.0, "rating": 1.5, "kind": ["garden"]},
            {"id": "good", "price": 10.0, "rating": 4.9, "kind": ["garden"]},
            {"id": "fair", "price": 40.0, "rating": 3.0, "kind": ["light"]},
        ]
    )
    assert [item.id for item in slate] == ["good", "fair", "dear"]
    assert slate.fallback is None


@pytest.mark.slow
def test_the_report_holds_what_the_gates_said_and_every_way_to_rank(built: dict[str, Any]) -> None:
    page = Path(built["report"])
    figures = Figures.from_json(json.loads(page.with_suffix(".json").read_text()))
    assert [verdict.words for verdict in figures.verdicts] == [verdict["words"] for verdict in built["verdicts"]]
    labels = {entry.label for entry in figures.quality}
    assert {"first stage", "attention-0", "lambdamart-1", "ensemble", "student, float", "on ai-edge-litert"} <= labels
    assert figures.digest == built["digest"]
    assert "<script" not in page.read_text()


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bundle_byte_for_byte(folder: Path, built: dict[str, Any]) -> None:
    again = answer(run("verify", folder / "shop.toml", "--out", folder / "again", *DEVICE, "--json"))
    assert again["digest"] == built["digest"]
    one, other = Path(built["bundle"]), Path(again["bundle"])
    assert {file.name: file.read_bytes() for file in one.iterdir()} == {
        file.name: file.read_bytes() for file in other.iterdir()
    }


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_what_is_done_is_kept_and_what_was_changed_is_done_again(folder: Path) -> None:
    kept = run("distill", folder / "shop.toml", "--json")
    assert answer(kept)["validation_ndcg_at_10"].keys() == {"student", "attention-0", "lambdamart-1", "ensemble"}
    assert "teacher" not in kept.stderr, "nothing was to be fitted"
    assert "student" not in kept.stderr
    out = folder / "build" / "shop"
    changed = variant(folder, "changed", ('size = "tiny"', 'size = "small"'))
    found = run("distill", changed, "--out", out, "--json")
    assert found.returncode == 0
    assert "teacher" not in found.stderr, "the teachers are the same"
    assert "student" in found.stderr


@pytest.mark.slow
def test_a_gate_that_stops_the_bundle_is_named_and_no_bundle_is_left(folder: Path, built: dict[str, Any]) -> None:
    # A limit that no model keeps: a millionth of a microsecond.
    strict = variant(folder, "strict", ("[split]", "[gates]\nlatency_us = 1e-6\nsize_bytes = 100\n\n[split]"))
    out = folder / "strict"
    shutil.copytree(Path(built["bundle"]).parent, out)
    failed = answer(run("build", strict, "--out", out, *DEVICE, "--json"), Exit.REFUSED)
    message = failed["error"]["message"]
    assert failed["error"]["kind"] == "GateError"
    assert re.search(r"latency \(ai-edge-litert\): .* wanted, missed by", message)
    assert re.search(r"size: .* bytes .* wanted, missed by", message)
    assert not (out / "bundle").exists()
    words = json.loads((out / "verdicts.json").read_text())
    assert {entry["gate"] for entry in words if not entry["passed"]} == {"latency", "size"}
    assert (out / "report.html").is_file(), "the report shows why"


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_student(folder: Path) -> None:
    # One teacher and many epochs, so that the kill falls into a training.
    slow = variant(
        folder, "slow", ('[[teacher]]\nkind = "lambdamart"\n\n', ""), ('size = "tiny"', "epochs = 400\npatience = 400")
    )
    whole, cut = folder / "whole", folder / "cut"
    answer(run("distill", slow, "--out", whole, "--json"))
    started = subprocess.Popen([*COMMAND, "distill", str(slow), "--out", str(cut)], stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 120
        while not list(cut.glob("student-*.checkpoint.npz")):
            assert started.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
    finally:
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
    assert not (cut / "student.npz").exists()
    answer(run("distill", slow, "--out", cut, "--json"))
    assert (cut / "student.npz").read_bytes() == (whole / "student.npz").read_bytes()
    assert not list(cut.glob("*.checkpoint.npz"))


def test_a_configuration_that_does_not_fit_is_refused_before_anything_runs(folder: Path) -> None:
    wrong = variant(folder, "wrong", ('size = "tiny"', 'size = "huge"'))
    found = run("build", wrong)
    assert found.returncode == Exit.INPUT
    assert "wrong.toml: student.size: " in found.stderr
    assert not (folder / "build" / "wrong").exists()


def test_a_folder_that_no_run_made_is_left_alone(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("years")
    found = run("train", folder / "shop.toml", "--out", folder / "mine")
    assert found.returncode == Exit.INPUT
    assert "holds something else" in found.stderr
    assert [file.name for file in (folder / "mine").iterdir()] == ["thesis.txt"]


def test_slates_that_no_signature_takes_are_refused(folder: Path) -> None:
    small = variant(folder, "small", ('name = "shop"', 'name = "shop"\nslate_sizes = [4]'))
    found = run("train", small)
    assert found.returncode == Exit.INPUT
    assert "slate_sizes: the data has slates of 8 candidates" in found.stderr
