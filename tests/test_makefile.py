"""The Makefile and its scripts, as far as that is cheap: nothing is installed here."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ["scripts/setup", "scripts/check", "scripts/test", ".ci/run"]


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in ("setup", "demo", "browse", "test", "check", "bench", "clean", "help"):
        assert re.search(rf"^ +make {target} +\S", listed, re.MULTILINE), target


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([".venv-device", ".venv-device-litert"], ".venv-device/bin/python"),
        ([".venv-device-litert"], ".venv-device-litert/bin/python"),
    ],
)
def test_the_demo_takes_the_older_runtime_where_it_is_there(there: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    read = ["pyproject.toml", "constraints.txt", "constraints-device.txt", "scripts/setup"]
    for name in [*read, *(f"{each}/.stamp" for each in there)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told = subprocess.run(["make", "-n", "demo"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert f"--device-python {tmp_path / expected} " in told


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run_and_parse(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111, "not executable"
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize(
    ("arguments", "python", "word"),
    [
        ([], "python3", "usage"),
        (["somewhere"], "python3", "expected builder, device or device-litert"),
    ],
)
def test_setup_says_what_it_expects(arguments: list[str], python: str, word: str) -> None:
    done = subprocess.run(
        ["bash", "scripts/setup", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHON": python},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert word in done.stderr


def setup(kind: str, clone: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/setup`` in a clone of its own, which holds nothing else."""
    (clone / "scripts").mkdir()
    (clone / "scripts" / "setup").write_bytes((ROOT / "scripts" / "setup").read_bytes())
    return subprocess.run(
        ["bash", "scripts/setup", kind],
        cwd=clone,
        env={"PATH": "/usr/bin:/bin", "PYTHON": python},
        check=False,
        capture_output=True,
        text=True,
    )


def test_where_tflite_runtime_has_no_wheel_its_environment_is_left_out(tmp_path: Path) -> None:
    newer = tmp_path / "python3.12"
    # Stands for a Python that works, and that is too new for tflite-runtime.
    newer.write_text('#!/usr/bin/env bash\ncase "$*" in *"3, 12"*) exit 1 ;; --version) echo Python 3.12.1 ;; esac\n')
    newer.chmod(0o755)
    done = setup("device", tmp_path, str(newer))
    assert done.returncode == 0
    assert "no tflite-runtime for Python 3.12.1" in done.stderr
    assert not (tmp_path / ".venv-device").exists()


def test_setup_without_a_usable_python_says_what_to_install(tmp_path: Path) -> None:
    done = setup("device", tmp_path, "/nonexistent/python")
    assert done.returncode != 0
    assert "no Python 3.11 or newer" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (tmp_path / ".venv-device").exists()
