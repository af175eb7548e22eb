"""Environments with a runtime: found, made whole or not at all, and used again."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketrank.errors import InputError
from pocketrank_export import environments
from pocketrank_export.data.slates import Slates
from pocketrank_export.environments import Source, ensure, find_python, installed_source, probe, python_of
from pocketrank_export.runtimes import score_on
from tests import make_test_bundle, shop

EDITABLE = {"dir_info": {"editable": True}, "url": "file:///opt/my%20rank"}
FOLDER = {"dir_info": {}, "url": "file:///opt/rank"}
WHEEL = {"archive_info": {"hash": "sha256=12"}, "url": "file:///wheels/pocketrank-1.2-py3-none-any.whl"}
REPOSITORY = {"vcs_info": {"vcs": "git", "commit_id": "12"}, "url": "https://example.org/pocketrank.git"}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (EDITABLE, ("-e", "/opt/my rank[tflite]")),
        (FOLDER, ("-e", "/opt/rank[tflite]")),
        (WHEEL, ("/wheels/pocketrank-1.2-py3-none-any.whl[tflite]",)),
        (REPOSITORY, ("pocketrank[tflite]==1.2",)),
        (None, ("pocketrank[tflite]==1.2",)),
    ],
)
def test_the_environment_gets_the_pocketrank_that_is_here(record: Any, words: tuple[str, ...]) -> None:
    assert installed_source("tflite", json.dumps(record) if record else "", "1.2").words == words


def test_another_file_or_version_is_another_environment() -> None:
    rebuilt = {**WHEEL, "archive_info": {"hash": "sha256=34"}}
    records = [json.dumps(record) for record in (EDITABLE, FOLDER, WHEEL, rebuilt)] + [""]
    keys = [installed_source("tflite", record, version).key for record in records for version in ("1.2", "1.3")]
    assert len(set(keys)) == len(keys)
    assert installed_source("tflite", records[0], "1.2").key == keys[0]


def python(folder: Path, name: str, prints: str) -> str:
    """A program that answers what it is asked with ``prints``, or fails where that is empty."""
    script = folder / name
    script.write_text(f"#!/bin/sh\n{f'echo {prints}' if prints else 'exit 1'}\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("runtime", "versions", "chosen"),
    [
        ("tflite-runtime", ["3 11"], 0),
        ("tflite-runtime", ["3 12", "3 11"], 1),
        ("tflite-runtime", ["", "3 11"], 1),
        ("tflite-runtime", ["3 10", "what", "3 11"], 2),
        ("ai-edge-litert", ["3 12", "3 11"], 0),
        ("ai-edge-litert", ["3 10", "4 0"], 1),
    ],
)
def test_a_python_is_taken_that_the_runtime_works_with(
    runtime: str, versions: list[str], chosen: int, tmp_path: Path
) -> None:
    candidates = [python(tmp_path, f"python-{at}", prints) for at, prints in enumerate(versions)]
    assert find_python(runtime, candidates) == candidates[chosen]


@pytest.mark.parametrize("versions", [[], [""], ["3 12"], ["3 10"], ["no version"]])
def test_without_such_a_python_a_person_is_told_what_to_do(versions: list[str], tmp_path: Path) -> None:
    candidates = [python(tmp_path, f"python-{at}", prints) for at, prints in enumerate(versions)]
    with pytest.raises(InputError, match=r"needs a Python 3.11 with venv.*install it.*--runtime-python PATH"):
        find_python("tflite-runtime", [*candidates, str(tmp_path / "missing")])


def test_a_runtime_is_found_where_it_works(devices: dict[str, Any]) -> None:
    for name, device in devices.items():
        found = probe(device.python)
        assert (found.runtime, found.python) == (name, device.python)
        assert found.version[0].isdigit()


@pytest.mark.parametrize("prints", ["", "hello", "one two three"])
def test_a_python_without_a_runtime_is_told(prints: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no TFLite runtime works there.*pip install"):
        probe(python(tmp_path, "python", prints))


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runtime: expected one of"):
        ensure(tmp_path, "onnxruntime", lambda _: None)


def never(*_: Any) -> str:
    raise AssertionError("nothing was to be made")


def linked(folder: Path, to: Path | str) -> Path:
    """An environment whose Python is a script that runs another one."""
    made = python_of(folder)
    made.parent.mkdir(parents=True)
    made.write_text(f'#!/bin/sh\nexec "{to}" "$@"\n')
    made.chmod(0o755)
    return made


def test_an_environment_that_works_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = linked(tmp_path / f"ai-edge-litert-{installed_source('litert').key}", sys.executable)
    monkeypatch.setattr(environments, "find_python", never)
    told: list[float] = []
    assert ensure(tmp_path, "ai-edge-litert", told.append) == kept
    assert told == [1.0]
    # It holds another runtime than this one.
    other = linked(tmp_path / f"tflite-runtime-{installed_source('tflite').key}", sys.executable)
    with pytest.raises(AssertionError, match="nothing was to be made"):
        ensure(tmp_path, "tflite-runtime", told.append)
    assert other.exists()


@pytest.mark.parametrize("broken", [False, True])
def test_what_pip_can_not_make_leaves_nothing_but_its_log(
    broken: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source((str(tmp_path / "missing" / "pocketrank.whl[litert]"),), "key")
    monkeypatch.setattr(environments, "installed_source", lambda _: source)
    kept = linked(tmp_path / "cache" / "ai-edge-litert-key", "/missing/python") if broken else None
    with pytest.raises(InputError) as refused:
        ensure(tmp_path / "cache", "ai-edge-litert", lambda _: None)
    log = tmp_path / "cache" / "ai-edge-litert-key.log"
    last = log.read_text().strip().splitlines()[-1]
    assert last
    assert last in str(refused.value)
    assert "--runtime-python PATH" in str(refused.value)
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    # What was there before stays until something better is.
    assert left == {log.name} | ({"ai-edge-litert-key"} if kept else set())


def made_by(name: str, to: Path | str) -> Callable[..., None]:
    """In place of venv and pip: the Python of ``name`` in the folder that venv is given."""

    def run(command: list[str], log: Path, mode: str) -> None:
        log.write_text(mode)
        if command[1:3] == ["-m", "venv"]:
            linked(Path(command[3]) / name, to)

    return run


def test_a_broken_environment_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / f"ai-edge-litert-{installed_source('litert').key}"
    linked(target, "/missing/python")
    monkeypatch.setattr(environments, "_logged", made_by("", sys.executable))
    told: list[float] = []
    assert probe(ensure(tmp_path, "ai-edge-litert", told.append)).runtime == "ai-edge-litert"
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert not list(tmp_path.glob(".*"))


def test_an_environment_with_another_runtime_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_logged", made_by("", sys.executable))
    with pytest.raises(InputError, match="tflite-runtime: was installed and another runtime works"):
        ensure(tmp_path, "tflite-runtime", lambda _: None)
    assert [path.suffix for path in tmp_path.iterdir()] == [".log"]


@pytest.mark.slow
def test_an_environment_is_made_and_scores(tmp_path: Path) -> None:
    """The real thing, from the package index."""
    made = ensure(tmp_path, "tflite-runtime", lambda _: None)
    slates = make_test_bundle.slates()
    there, here = (
        score_on(python, shop.FOLDER, Slates(slates.features, slates.labels, slates.mask))
        for python in (made, sys.executable)
    )
    assert (there.runtime, here.runtime) == ("tflite-runtime", "ai-edge-litert")
    assert abs(there.scores - here.scores).max() < 1e-3
    before = made.stat().st_mtime_ns, sorted(tmp_path.iterdir())
    assert ensure(tmp_path, "tflite-runtime", lambda _: None) == made
    assert (made.stat().st_mtime_ns, sorted(tmp_path.iterdir())) == before
