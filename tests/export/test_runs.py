"""What a run keeps in its folder: stages are done again when what they depend on has changed, and only then."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from pocketrank.bundle import RANK_MODEL
from pocketrank.errors import GateError, InputError
from pocketrank_export import commands, pipeline, runs
from pocketrank_export.builder import Converted
from pocketrank_export.environments import Environment
from pocketrank_export.gates import Verdict
from pocketrank_export.gates import parity as held_against
from pocketrank_export.pipeline import Quantized, Run
from pocketrank_export.runs import opened
from pocketrank_export.student import Student
from pocketrank_export.workspace import Workspace
from tests.export.test_build import block, clicks

QUIET = Console(quiet=True)
QUICK = 'size = "tiny"\nepochs = 2'
Stage = Callable[[], bytes]


def stage(folder: Path, content: bytes, key: str = "settings") -> bool:
    """Run a stage that keeps ``content`` unless its file is there, as a fit does; whether it was to run."""
    workspace, file = Workspace(folder, "format", QUIET), folder / "made.bin"
    if workspace.done("fit", key, file):
        return False
    with workspace.stage("fit", "a fit", key, file):
        if not file.is_file():
            file.write_bytes(content)
    return True


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda file: file.write_bytes(b"who"), lambda file: file.write_bytes(b"")]
)
def test_a_stage_whose_file_was_damaged_by_hand_makes_it_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    folder = tmp_path / "run"
    assert stage(folder, b"whole")
    assert not stage(folder, b"whole")
    damage(folder / "made.bin")
    assert stage(folder, b"whole")
    assert (folder / "made.bin").read_bytes() == b"whole"
    assert not stage(folder, b"whole")


@pytest.mark.parametrize("content", ["", '{"fit": "sett', "[]", "\0"])
def test_a_list_of_stages_that_was_cut_counts_as_none(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "run"
    stage(folder, b"whole")
    for name in ("keys.json", "stages.json"):
        (folder / name).write_text(content)
    assert stage(folder, b"whole")


def test_a_folder_with_somebodys_key_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("of a house")
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="holds something else"):
        Workspace(tmp_path, "format", QUIET)
    assert {file.name for file in tmp_path.iterdir()} == {"key", "thesis.txt"}


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"can't be made .*; choose another folder with --out"):
            Workspace(folder, "format", QUIET)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    clicks(folder / "clicks.csv")
    return folder


def configured(folder: Path, *changes: tuple[str, str]) -> Path:
    """The guide's configuration with a student that takes no time and one teacher of trees."""
    text = block("toml")
    for old, new in (('[[teacher]]\nkind = "attention"\n\n', ""), ('size = "tiny"', QUICK), *changes):
        assert old in text
        text = text.replace(old, new)
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


@contextmanager
def running(folder: Path, out: Path, *changes: tuple[str, str]) -> Iterator[Run]:
    with opened(configured(folder, *changes), out) as run:
        yield run


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The trainables of each student that is converted; nothing is really."""
    found: list[tuple[str, ...]] = []

    def convert(ranker: Student, *_: object) -> Converted:
        found.append(ranker.trainable)
        return Converted(b"rank", b"train", b"onnx", (16,))

    monkeypatch.setattr(pipeline, "convert", convert)
    monkeypatch.setattr(pipeline, "parity", lambda *_: [])
    return found


def test_the_conversion_follows_the_trainables_though_the_weights_are_the_same(
    shop: Path, tmp_path: Path, conversions: list[tuple[str, ...]]
) -> None:
    for trainable in ("head", "head", "all"):
        words = f'{QUICK}\ntrainable = "{trainable}"\n\n[quantization]\nrecipes = ["float32"]'
        with running(shop, tmp_path / "run", (QUICK, words)) as run:
            assert run.converted[0].rank == b"rank"
    assert len(conversions) == 2, "the second was kept, though its student was read and not trained"
    assert set(conversions[0]) < set(conversions[1])


@pytest.mark.usefixtures("conversions")
def test_a_choice_among_recipes_follows_the_gates(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[float | None] = []

    def choose(run: Run, _: object) -> Quantized:
        chosen.append(run.config.gates.kendall_tau)
        return Quantized({RANK_MODEL: b"rank"}, {RANK_MODEL: "float32"})

    monkeypatch.setattr(Run, "_choose", choose)
    for bound in (0.5, 0.5, 0.9):
        words = f'[gates]\nkendall_tau = {bound}\n\n[quantization]\nrecipes = ["float32", "weight_int8"]\n\n[split]'
        with running(shop, tmp_path / "run", ("[split]", words)) as run:
            assert run.quantized.recipes == {RANK_MODEL: "float32"}
    assert chosen == [0.5, 0.9]


def test_a_teacher_from_a_file_is_asked_again_when_the_file_is_another(shop: Path, tmp_path: Path) -> None:
    boosters = []
    for trees in (1, 30):
        change = ('kind = "lambdamart"', f'kind = "lambdamart"\nsettings = {{ trees = {trees} }}')
        with running(shop, tmp_path / str(trees), change) as run:
            boosters.append(run.teacher.scores["validation"])
        (file,) = (file for file in (tmp_path / str(trees)).glob("teacher-0-*") if "scores" not in file.name)
        shutil.copy(file, tmp_path / f"{trees}.txt")
    assert (boosters[0] != boosters[1]).any()
    change = ('kind = "lambdamart"', f'kind = "booster"\npath = "{tmp_path / "mine.txt"}"')
    for trees, expected in zip((1, 30), boosters, strict=True):
        shutil.copy(tmp_path / f"{trees}.txt", tmp_path / "mine.txt")
        with running(shop, tmp_path / "booster", change) as run:
            assert (run.teacher.scores["validation"] == expected).all()


def test_a_second_run_in_a_folder_is_refused_until_the_first_has_ended(shop: Path, tmp_path: Path) -> None:
    with (
        running(shop, tmp_path / "run"),
        pytest.raises(InputError, match="another run is at work there"),
        running(shop, tmp_path / "run"),
    ):
        pass
    with running(shop, tmp_path / "run") as run:
        assert run.folder == tmp_path / "run"


@pytest.mark.usefixtures("conversions")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_export_fails_where_a_conversion_gives_other_scores(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    wrong = held_against("onnxruntime", np.ones(1, np.float32), np.zeros(1, np.float32), 1e-5)
    monkeypatch.setattr(pipeline, "parity", lambda *_: [wrong])
    done = CliRunner().invoke(commands.export, [str(configured(shop)), "--out", str(tmp_path / "run"), *form])
    assert isinstance(done.exception, GateError)
    assert ("parity" in done.stdout) is not bool(form), "the error is the one object that is printed"


@pytest.mark.parametrize("verb", [commands.verify, commands.build])
def test_whatever_stops_a_bundle_leaves_none_of_an_earlier_run(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: object
) -> None:
    def stopped(_: Run) -> list[Verdict]:
        raise GateError("explain: scores differ")

    with running(shop, tmp_path / "run"):
        pass
    (tmp_path / "run" / "bundle").mkdir()
    monkeypatch.setattr(Run, "quantized", property(stopped))
    done = CliRunner().invoke(verb, [str(configured(shop)), "--out", str(tmp_path / "run")])  # type: ignore[arg-type]
    assert isinstance(done.exception, GateError)
    assert not (tmp_path / "run" / "bundle").exists()


def test_an_interpreter_beside_the_person_is_found(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    probed: list[Path] = []

    def probe(python: Path) -> Environment:
        probed.append(python)
        return Environment(python, "ai-edge-litert", "2")

    monkeypatch.setattr(runs, "probe", probe)
    file = configured(shop, ('name = "shop"', 'name = "shop"\nruntimes = ["ai-edge-litert"]'))
    with opened(file, tmp_path / "run", pythons=[Path("mine")]) as run:
        assert run.pythons == {"ai-edge-litert": tmp_path / "mine"}
    assert all(python.is_absolute() for python in probed)
