"""``pocketrank bundle``: what is in a bundle, and whether it holds here."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketrank import Bundle
from pocketrank.bundle import GOLDEN, MANIFEST, PARAMS, RANK_MODEL, save_arrays
from pocketrank.commands import Exit
from pocketrank.commands.bundle import _described
from pocketrank.policy import Condition, Policy
from pocketrank.schema import (
    Affinity,
    Categories,
    Clock,
    Embedding,
    Feature,
    Flag,
    Interaction,
    Number,
    Rate,
    Schema,
)
from pocketrank.scorer import Scorer
from tests import shop
from tests.commands import answer, before, run
from tests.test_layout import ROOT

DEVICE_PYTHON = Path(os.environ.get("POCKETRANK_DEVICE_PYTHON", ROOT / ".venv-device" / "bin" / "python"))
CLI = ("typer", "click", "rich", "pygments", "markdown_it", "mdurl", "shellingham", "typing_extensions.py")
"""What the extra ``cli`` is made of, none of it compiled."""


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# -- inspect -----------------------------------------------------------------------------------------------------------


def test_inspect_gives_the_manifest_and_what_follows_from_it() -> None:
    found = answer(run("bundle", "inspect", shop.FOLDER, "--json"))
    manifest = shop.bundle().manifest
    assert found["manifest"] == json.loads(manifest.to_json())
    assert found["digest"] == shop.bundle().digest
    assert found["size_bytes"] == sum(len(content) for content in shop.bundle().files.values())
    assert [row["name"] for row in found["features"]] == [feature.name for feature in manifest.schema.features]
    private = [row["private"] for row in found["features"] for _ in range(row["columns"])]
    assert private == manifest.schema.private_columns.tolist()
    sources = {row["name"]: row["source"] for row in found["features"]}
    assert (sources["price"], sources["hour"], sources["kind_affinity"]) == ("candidate", "context", "device")


@pytest.mark.parametrize(
    ("feature", "source"),
    [
        (Number(name="x"), "candidate"),
        (Flag(name="x", source="context"), "context"),
        (Clock(name="x", part="hour"), "context"),
        (Embedding(name="x", width=4), "candidate"),
        (Embedding(name="x", width=4, to="device"), "device"),
        (Rate(name="x"), "device"),
        (Interaction(name="x", of=("taste", "hour")), "context+device"),
    ],
)
def test_a_feature_is_said_to_come_from_where_it_does(feature: Feature, source: str) -> None:
    others = (Categories(name="genre", vocabulary=("a", "b")), Clock(name="hour", part="hour"))
    schema = Schema((*others, Affinity(name="taste", field="genre"), feature))
    row = _described(schema, feature)
    assert row["source"] == source
    assert row["private"] == ("device" in source)
    assert row["columns"] == len(schema.columns) - len(Schema((*others, schema.features[2])).columns)


def test_inspect_shows_a_person_every_part(tmp_path: Path) -> None:
    rules = Policy(deny=(Condition("maker", "eq", "south"),))
    bundle = shop.with_files({}, runtimes={"some-runtime": "1.2"}, report={"ndcg": 0.25}, ranking=rules)
    bundle.save(tmp_path / "bundle")
    done = run("bundle", "inspect", tmp_path / "bundle")
    assert done.returncode == Exit.OK
    manifest = bundle.manifest
    parts = [f"{manifest.name}@{manifest.version}", bundle.digest, "some-runtime", "0.25", manifest.lineage.data]
    parts += ["ranking policy", json.dumps(rules.to_json()["deny"][0])]
    parts += [entry.sha256 for entry in manifest.files.values()]
    parts += [name for record in (manifest.policy, manifest.privacy) for name in vars(record)]
    parts += [feature.name for feature in manifest.schema.features]
    parts += [parameter.name for parameter in manifest.trainable]
    assert [part for part in parts if part not in done.stdout] == []


def test_inspect_refuses_a_bundle_whose_files_are_not_its_own(tmp_path: Path) -> None:
    shop.bundle().save(tmp_path / "bundle")
    flip(tmp_path / "bundle" / PARAMS, 40)
    found = answer(run("bundle", "inspect", tmp_path / "bundle", "--json"), Exit.BUNDLE)
    assert found["error"]["kind"] == "BundleError"
    assert PARAMS in found["error"]["message"]


# -- verify ------------------------------------------------------------------------------------------------------------


def test_a_bundle_that_holds_is_verified_on_the_runtime_here() -> None:
    found = answer(run("bundle", "verify", shop.FOLDER, "--json"))
    scorer = Scorer(shop.bundle())
    assert found == {
        "ok": True,
        "bundle": "shop@1",
        "digest": shop.bundle().digest,
        "runtime": f"{scorer.runtime} {scorer.runtime_version}",
        "failed": None,
        "why": None,
    }
    assert found["runtime"] in run("bundle", "verify", shop.FOLDER).stdout


@pytest.mark.parametrize("name", sorted(path.name for path in shop.FOLDER.iterdir()))
def test_a_flipped_byte_in_any_file_fails_the_verification(tmp_path: Path, name: str) -> None:
    shop.bundle().save(tmp_path / "bundle")
    flip(tmp_path / "bundle" / name, (shop.FOLDER / name).stat().st_size // 2)
    found = answer(run("bundle", "verify", tmp_path / "bundle", "--json"), Exit.FAILED)
    assert (found["ok"], found["failed"], found["runtime"]) == (False, "files", None)
    assert name in found["why"] or name == MANIFEST
    assert "files failed" in run("bundle", "verify", tmp_path / "bundle").stdout


def truncated_model() -> Bundle:
    content = shop.bundle().files[RANK_MODEL]
    return shop.with_files({RANK_MODEL: content[: len(content) // 2]})


def other_scores() -> Bundle:
    golden = shop.bundle().golden()
    return shop.with_files({GOLDEN: save_arrays({**golden, "scores": golden["scores"] + 1})})


def no_arrays() -> Bundle:
    return shop.with_files({GOLDEN: b"no arrays"})


@pytest.mark.parametrize(
    ("made", "why"), [(truncated_model, "refuses the model"), (other_scores, "self-test on"), (no_arrays, "arrays")]
)
def test_right_hashes_do_not_help_a_bundle_that_does_not_work(
    tmp_path: Path, made: Callable[[], Bundle], why: str
) -> None:
    made().save(tmp_path / "bundle")
    found = answer(run("bundle", "verify", tmp_path / "bundle", "--json"), Exit.FAILED)
    assert (found["ok"], found["bundle"], found["failed"]) == (False, "shop@1", "self-test")
    assert why in found["why"]


@pytest.mark.skipif(not DEVICE_PYTHON.exists(), reason="needs the device environment")
def test_a_model_that_takes_the_runtime_down_fails_the_verification(tmp_path: Path) -> None:
    """tflite-runtime reads past the end of a truncated model, and dies of it."""
    for name in CLI:
        (tmp_path / name).symlink_to(Path(sysconfig.get_path("purelib")) / name)
    shop.with_files({RANK_MODEL: shop.bundle().files[RANK_MODEL][:1500]}).save(tmp_path / "bundle")
    done = subprocess.run(
        [DEVICE_PYTHON, "-m", "pocketrank.commands", "bundle", "verify", tmp_path / "bundle", "--json"],
        check=False,
        env={**os.environ, **before(tmp_path)},
        capture_output=True,
        text=True,
    )
    found = answer(done, Exit.FAILED)
    assert (found["ok"], found["failed"], found["runtime"]) == (False, "self-test", None)
    has_tflite = "import tflite_runtime"
    if subprocess.run([DEVICE_PYTHON, "-c", has_tflite], check=False, capture_output=True).returncode == 0:
        assert found["why"] == "the runtime crashed on the model (SIGSEGV)"


def test_without_a_runtime_nothing_is_said_of_the_scores(tmp_path: Path) -> None:
    for name in ("ai_edge_litert", "tflite_runtime"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    found = answer(run("bundle", "verify", shop.FOLDER, "--json", modules=tmp_path), Exit.MISSING)
    assert found["error"]["kind"] == "RuntimeMissingError"
    assert "pip install" in found["error"]["message"]


def test_modules_in_the_current_folder_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('planted')\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("pocketrank"), "bundle", "verify", shop.FOLDER, "--json"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer(done)["ok"]
