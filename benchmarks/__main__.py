"""``make bench``: bundles are made here, and measured in each environment of a device.

Rounds alternate between LightGBM, the runtimes and the students, each round in processes of its own, so that a machine
that is slow for a while is slow for all of them.
"""

from __future__ import annotations

import argparse
import json
import marshal
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import rows, students, trees
from benchmarks.app import CANDIDATES, SCHEMA, candidates, history
from benchmarks.page import page
from benchmarks.rank import Times, inputs_of
from benchmarks.record import Recorded
from benchmarks.rows import Start, Student
from pocketrank.bundle import Bundle
from pocketrank.durable import write_atomically
from pocketrank.runtime import RUNTIMES
from pocketrank.store import DeviceStore

ROOT: Final = Path(__file__).parents[1]
SDK: Final = ROOT / "sdk" / "pocketrank"


@dataclass(frozen=True)
class Environment:
    """A device's environment: the name of its results, its Python, and where its runtime's Interpreter lies."""

    name: str
    python: Path
    module: str


ENVIRONMENTS: Final = (
    Environment("rank", ROOT / ".venv-device" / "bin" / "python", RUNTIMES["tflite-runtime"]),
    Environment("rank-litert", ROOT / ".venv-device-litert" / "bin" / "python", RUNTIMES["ai-edge-litert"]),
)


@dataclass(frozen=True)
class Plan:
    """How often to measure: ``rounds`` of ``repeats`` calls, and so many cold ``starts`` of each kind."""

    rounds: int
    repeats: int
    starts: int


@dataclass(frozen=True)
class Subject:
    """A student, its folder (``bundle``, ``alone.tflite``, ``store.sqlite``), and the candidates that it ranks."""

    name: str
    parameters: int
    folder: Path
    columns: Mapping[str, Any]

    @property
    def bytecode(self) -> Path:
        """Where all subjects' processes keep what they compiled."""
        return self.folder.parent / "bytecode"


def main() -> None:
    """Make the bundles, measure them, and write a file a runtime and the page of them all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "bench", help="folder of the results (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind (%(default)s)")
    parser.add_argument("--repeats", type=int, default=400, help="timed calls of each kind in a process (%(default)s)")
    parser.add_argument("--starts", type=int, default=9, help="cold starts of each kind (%(default)s)")
    arguments = parser.parse_args()
    environments = [environment for environment in ENVIRONMENTS if environment.python.exists()]
    if not environments:
        parser.error("no device's environment: run `make setup`")
    plan = Plan(arguments.rounds, arguments.repeats, arguments.starts)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        say("making bundles to measure")
        subjects = prepare(Path(folder))
        documents = measure(environments, subjects, plan)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        write_atomically(arguments.out / f"{name}.json", json.dumps(document, indent=1).encode() + b"\n")
        show(document)
    write_atomically(arguments.out / "index.html", page(list(documents.values())).encode())
    say(f"written to {arguments.out} after {time.perf_counter() - started:.0f} s")


def prepare(folder: Path) -> list[Subject]:
    """A folder a student, with all that its measurements read."""
    rng = np.random.default_rng(0)
    columns = candidates(SCHEMA, rng)
    events = history(SCHEMA, rng)
    plain = {name: values.tolist() if isinstance(values, np.ndarray) else values for name, values in columns.items()}
    found = []
    for name, student in students.students().items():
        subject = Subject(name, students.parameters(student), folder / name, plain)
        subject.folder.mkdir()
        bundle = students.bundle(name, student)
        bundle.save(subject.folder / "bundle")
        (subject.folder / "alone.tflite").write_bytes(students.one_signature(student, size_of(bundle)))
        store = DeviceStore(subject.folder / "store.sqlite")
        store.record(events)
        store.close()
        found.append(subject)
    return found


def measure(environments: list[Environment], subjects: list[Subject], plan: Plan) -> dict[str, dict[str, Any]]:
    """The document of each environment, by its name."""
    booster = trees.booster()
    trees_us: list[float] = []
    pairs = [(environment, subject) for environment in environments for subject in subjects]
    times: dict[tuple[str, str], list[Times]] = {}
    for number in range(plan.rounds):
        say(f"rank(): round {number + 1} of {plan.rounds}")
        trees_us += trees.predictions(booster, repeats=plan.repeats)
        for environment, subject in pairs:
            times.setdefault((environment.name, subject.name), []).append(ranked(environment, subject, plan))
    documents = {}
    for environment in environments:
        measured = []
        for subject in subjects:
            say(f"cold starts and recording: {environment.name}, {subject.name}")
            ranking, bare = starts(environment, subject, plan)
            together = rows.joined(times[environment.name, subject.name])
            recorded = record(environment, subject, plan)
            measured.append(Student(subject.name, subject.parameters, together, ranking, bare, recorded))
        documents[environment.name] = rows.document(measured, trees_us, rows.size_kb(SDK))
    return documents


def ranked(environment: Environment, subject: Subject, plan: Plan) -> Times:
    """One process of ``benchmarks.rank``."""
    words = ["--repeats", str(plan.repeats), "--alone", str(subject.folder / "alone.tflite")]
    return Times.from_json(run(environment, "benchmarks.rank", subject, *words)["times"])


def record(environment: Environment, subject: Subject, plan: Plan) -> Recorded:
    """One process of ``benchmarks.record``."""
    found = run(environment, "benchmarks.record", subject, "--repeats", str(plan.repeats))
    return Recorded(**{name: tuple(values) for name, values in found.items()})


def starts(environment: Environment, subject: Subject, plan: Plan) -> tuple[tuple[Start, ...], tuple[Start, ...]]:
    """Cold starts of the SDK and of the bare runtime, in turn; a first one of each fills the caches of the disk."""
    bundle = Bundle.open(subject.folder / "bundle")
    called = (environment.module, *inputs_of(bundle, CANDIDATES))
    inputs = {"ranking": marshal.dumps(dict(subject.columns)), "bare": marshal.dumps(called)}
    found: dict[str, list[Start]] = {"ranking": [], "bare": []}
    for _ in range(plan.starts + 1):
        for what, done in found.items():
            script = str(ROOT / "benchmarks" / "start.py")
            told = output(
                environment, subject.bytecode, "-P", script, what, str(subject.folder), given=inputs[what]
            )  # fmt: skip
            done.append(Start(**json.loads(told)))
    return tuple(found["ranking"][1:]), tuple(found["bare"][1:])


def run(environment: Environment, module: str, subject: Subject, *words: str) -> Mapping[str, Any]:
    """What a module of the benchmarks wrote about a subject's bundle, on a device."""
    out = subject.folder / "out.json"
    output(environment, subject.bytecode, "-m", module, str(subject.folder / "bundle"), str(out), *words)
    found: Mapping[str, Any] = json.loads(out.read_text())
    return found


def output(environment: Environment, bytecode: Path, *words: str, given: bytes = b"") -> bytes:
    """What an environment's Python printed, run with one thread for the numeric libraries.

    Compiled modules are kept in ``bytecode``, whatever the shell wants: an installed SDK comes compiled, too.
    """
    settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(bytecode)}
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [str(environment.python), *words]
    done = subprocess.run(
        command, cwd=ROOT, env={**inherited, **settings}, input=given, check=False, capture_output=True
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr.decode()}")
    return done.stdout


def size_of(bundle: Bundle) -> int:
    """Size of the signature that ranks the candidates."""
    return next(size for size in bundle.manifest.slate_sizes if size >= CANDIDATES)


def show(document: Mapping[str, Any]) -> None:
    """Print the rows of one runtime."""
    print(f"\n{document['detail']['runtime']}, {document['detail']['candidates']} candidates, one thread")
    for row in document["rows"]:
        verdict = "" if row["value"] <= row["goal"] else "   MISSED"
        print(f"  {row['name']:<30} {row['value']:9.2f} {row['unit']:<3} goal <= {row['goal']}{verdict}")


def say(words: str) -> None:
    """A line of progress."""
    print(f"bench: {words}", flush=True)


if __name__ == "__main__":
    main()
