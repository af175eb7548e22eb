"""The house: packages, extras and layers are as the design has them."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "pocketrank": ROOT / "sdk" / "pocketrank",
    "pocketrank_export": ROOT / "export" / "pocketrank_export",
    "pocketrank_federated": ROOT / "federated" / "pocketrank_federated",
    "pocketrank_server": ROOT / "server" / "pocketrank_server",
}
MODULES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
MAX_LINES = 400

# What each extra must bring. Versions are the affair of pyproject.toml and the constraints.
EXTRAS = {
    "litert": {"ai-edge-litert"},
    "tflite": {"tflite-runtime", "numpy"},
    "updates": {"tuf", "cryptography"},
    "text": {"tokenizers"},
    "diversity": {"pyversity"},
    "encryption": {"cryptography"},
    "cli": {"typer", "rich"},
    "participate": {"protobuf", "cryptography"},
    "tensorboard": {"tensorboard"},
    "export": {"torch", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "onnx", "lightgbm", "pyarrow"},
    "federated": {"flwr", "cryptography", "dp-accounting"},
    "server": {"tuf", "cryptography"},
    "all": {"pocketrank"},
    "dev": {"pytest", "hypothesis", "mypy", "ruff", "import-linter", "scipy"},
}

# A folder of somebody's machine: a home, or the place of a work tree.
MACHINE_PATH = re.compile(rb"(?<![\w.:/*-])/(?:home|root|Users|work)/[\w.-]")


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_-]", requirement, maxsplit=1)[0]


def pins(name: str) -> dict[str, str]:
    lines = (line.strip() for line in (ROOT / name).read_text().splitlines())
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), f"{name}: plain name==version lines only"
    return {package.lower().replace("_", "-"): version for package, version in pairs}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    listing = "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    code = f"{statement}\nimport json, sys\n{listing}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def tracked_files() -> list[Path]:
    """Files of the clone that are, or are about to be, committed."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        pytest.skip("not a git clone")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_typed_and_says_what_it_is(name: str) -> None:
    assert (PACKAGES[name] / "py.typed").is_file()
    assert (PACKAGES[name] / "__init__.py").read_text().startswith('"""')


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_holds_one_concept(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{path.name}: {lines} lines are two concepts, find the seam (at most {MAX_LINES})"


def test_importing_pocketrank_brings_in_numpy_and_nothing_else() -> None:
    brought = loaded_by("import pocketrank") - loaded_by("import numpy")
    assert brought - set(sys.stdlib_module_names) == {"pocketrank"}


@pytest.mark.parametrize("name", ["pocketrank_federated", "pocketrank_federated.participant"])
def test_what_a_device_imports_for_a_round_holds_neither_flower_nor_torch(name: str) -> None:
    heavy = {"flwr", "torch", "grpc", "onnx", "onnxruntime", "dp_accounting", "jax"}
    assert not loaded_by(f"import {name}") & heavy


def test_the_base_install_is_numpy_alone() -> None:
    assert [name_of(requirement) for requirement in project()["dependencies"]] == ["numpy"]


def test_the_extras_are_those_of_the_design() -> None:
    extras = project()["optional-dependencies"]
    assert set(extras) == set(EXTRAS)
    for extra, names in EXTRAS.items():
        assert names <= {name_of(requirement) for requirement in extras[extra]}, extra


def test_all_means_every_extra_that_installs_together() -> None:
    (everything,) = project()["optional-dependencies"]["all"]
    named = set(everything.removeprefix("pocketrank[").removesuffix("]").split(","))
    assert named == set(EXTRAS) - {"all", "dev", "tflite"}


def test_tuf_is_recent_enough_and_flower_is_exact() -> None:
    extras = project()["optional-dependencies"]
    assert "tuf>=7.0.1" in extras["updates"]
    assert "tuf>=7.0.1" in extras["server"]
    assert "flwr==1.41.0" in extras["federated"]


def test_the_constraints_pin_whatever_the_extras_name() -> None:
    extras = project()["optional-dependencies"]
    builder, device = pins("constraints.txt"), pins("constraints-device.txt")
    for extra in set(EXTRAS) - {"tflite"}:
        assert {name_of(requirement) for requirement in extras[extra]} - {"pocketrank"} <= builder.keys(), extra
    for extra in ("tflite", "updates", "diversity", "encryption"):
        assert {name_of(requirement) for requirement in extras[extra]} <= device.keys(), extra
    assert builder["torch"] == "2.13.0"
    assert builder["recbole"] == "1.2.1"
    assert device["numpy"].startswith("1.")


@pytest.mark.parametrize("home", ["home", "root", "Users", "work"])
def test_a_folder_of_somebodys_machine_is_recognised(home: str) -> None:
    path = f"/{home}/ann/models"
    assert MACHINE_PATH.search(f'open("{path}")'.encode())
    assert not MACHINE_PATH.search(f"docs{path} and https://example.org{path}".encode())


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in tracked_files()
        if (match := MACHINE_PATH.search(path.read_bytes()))
    ]
    assert found == []
