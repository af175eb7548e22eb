"""The Makefile and its scripts, as far as that is cheap: nothing is installed here."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ["scripts/setup", "scripts/check", "scripts/test", ".ci/run"]


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in ("demo", "test", "check", "bench", "clean", "help"):
        assert re.search(rf"^ +make {target} +\S", listed, re.MULTILINE), target


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run_and_parse(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111, "not executable"
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize(
    ("arguments", "python", "word"),
    [
        ([], "python3", "usage"),
        (["somewhere"], "python3", "expected builder or device"),
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


def test_setup_without_a_usable_python_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "setup").write_bytes((ROOT / "scripts" / "setup").read_bytes())
    done = subprocess.run(
        ["bash", "scripts/setup", "device"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/nonexistent/python"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "no Python 3.11 or newer" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (tmp_path / ".venv-device").exists()
