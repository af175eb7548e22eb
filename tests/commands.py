"""The command ``pocketrank`` as a script calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

COMMAND: Final = (sys.executable, "-m", "pocketrank.commands")


def run(
    *words: str | Path, stdin: str = "", modules: Path | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """What became of ``pocketrank`` with these ``words``, and with modules and packages that lie in ``modules``."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        check=False,
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment, **({} if modules is None else before(modules))},
    )


def before(modules: Path) -> dict[str, str]:
    """Environment in which ``modules`` are found before all others."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH")]))}


def answer(done: "subprocess.CompletedProcess[str]", code: int = 0) -> Any:
    """The one line of JSON that it printed, with the exit code that was expected."""
    assert done.returncode == code, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)
