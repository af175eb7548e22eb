"""The command as a whole: its verbs, its exit codes, and what it does without its extras."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pocketrank import errors
from pocketrank.commands import Exit
from pocketrank.commands.output import MAX_MESSAGE, plain, visible
from pocketrank.commands.program import app
from pocketrank.errors import PocketRankError
from tests import shop
from tests.commands import COMMAND, answer, run
from tests.test_layout import ROOT, loaded_by, project

PAGE = (ROOT / "docs" / "commands.md").read_text()
CODES = re.findall(r"^\| (\d+) \| `(\w+)` \| [^|]+ \|([^|]*)\|$", PAGE, re.MULTILINE)
"""Code, name and errors of each row of the table."""
VERBS = {"bundle": {"inspect", "verify"}, "device": {"status", "wipe", "learn"}, "rank": set[str]()}
BUILDING = {"build", "train", "distill", "export", "quantize", "verify", "report"}
"""Verbs of the exporter."""
KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PocketRankError)
]  # fmt: skip


# -- exit codes --------------------------------------------------------------------------------------------------------


def test_the_exit_codes_are_those_on_the_page() -> None:
    assert [(int(code), name) for code, name, _ in CODES] == [(code.value, code.name) for code in Exit]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_error_ends_the_command_with_its_code_on_the_page(kind: type[PocketRankError]) -> None:
    codes = {name: int(code) for code, _, names in CODES for name in re.findall(r"`(\w+)`", names)}
    named = next((base.__name__ for base in kind.__mro__ if base.__name__ in codes), None)
    assert (named is None) == (kind is PocketRankError)
    assert Exit.of(kind("x")) == (Exit.FAILED if named is None else codes[named])


def test_a_wrong_command_line_is_code_2() -> None:
    for words in (["nothing"], ["bundle", "inspect"], ["bundle", "inspect", "no-such-folder"], ["rank", "--k", "many"]):
        done = run(*words)
        assert done.returncode == Exit.USAGE
        assert done.stdout == ""


# -- verbs -------------------------------------------------------------------------------------------------------------


def listed(done: "subprocess.CompletedProcess[str]") -> set[str]:
    """The first word of each row of a help page."""
    return {words[0] for line in done.stdout.splitlines() if (words := re.findall(r"\w+", line))}


def test_help_lists_every_verb() -> None:
    assert VERBS.keys() | BUILDING <= listed(run("--help"))
    for verb, commands in VERBS.items():
        done = run(verb, "--help")
        assert done.returncode == Exit.OK
        assert commands <= listed(done), verb


def test_the_verbs_on_the_page_are_those_of_the_command() -> None:
    shown = set(re.findall(r"^\| `pocketrank (\w+) (\w+)", PAGE, re.MULTILINE))
    expected = {(verb, name) for verb, names in VERBS.items() for name in names} | {("rank", "BUNDLE")}
    assert shown == expected | {(verb, "CONFIG") for verb in BUILDING}


@pytest.mark.parametrize(
    "words", [("rank",), *((v,) for v in sorted(BUILDING)), *((v, name) for v in VERBS for name in sorted(VERBS[v]))]
)
def test_every_verb_has_json(words: tuple[str, ...]) -> None:
    assert "--json" in CliRunner().invoke(app, [*words, "--help"]).stdout


def test_the_script_is_installed() -> None:
    script = Path(sys.executable).with_name("pocketrank")
    done = subprocess.run([script, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"pocketrank {project()['version']}\n"


# -- missing extras ----------------------------------------------------------------------------------------------------


def test_the_exit_codes_can_be_imported_without_a_terminal_library() -> None:
    assert not loaded_by("import pocketrank.commands") & {"typer", "rich", "click"}


def without(module: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """The command where ``module`` can't be imported."""
    code = f"import sys; sys.modules[{module!r}] = None; from pocketrank.commands import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("module", "words"),
    [("typer", ()), ("typer", ("bundle", "--help")), ("rich", ("bundle", "inspect", str(shop.FOLDER)))],
)
def test_without_its_extra_the_command_says_what_to_install(module: str, words: tuple[str, ...]) -> None:
    done = without(module, *words)
    assert done.returncode == Exit.MISSING
    assert done.stderr == 'error: the command pocketrank needs: pip install "pocketrank[cli]"\n'
    assert done.stdout == ""


def test_without_its_extra_the_command_still_answers_in_json() -> None:
    found = answer(without("typer", "bundle", "inspect", str(shop.FOLDER), "--json"), Exit.MISSING)["error"]
    assert (found["kind"], found["exit_code"]) == ("ExtraMissingError", Exit.MISSING)


def package(folder: Path, name: str, entry: str) -> None:
    """Install a package in ``folder`` that has a verb, and no code yet."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pocketrank.commands]\n{entry}\n")


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("pocketrank_export.absent", 'pip install "pocketrank[export]"'),
        ("pocketrank_server.absent", 'pip install "pocketrank[server]"'),
        ("somebody_elses", "No module named 'somebody_elses'"),
        ("pocketrank_export:absent", 'pip install "pocketrank[export]"'),
    ],
)
def test_a_verb_whose_extra_is_missing_says_what_to_install(tmp_path: Path, module: str, remedy: str) -> None:
    entry = f"publish = {module if ':' in module else module + ':app'}"
    package(tmp_path, "absent", entry)
    page = run("--help", modules=tmp_path)
    assert page.returncode == Exit.OK
    assert VERBS.keys() | {"publish"} <= listed(page)
    found = answer(run("publish", "thing", "--force", "--json", modules=tmp_path), Exit.MISSING)["error"]
    assert found["kind"] == "ExtraMissingError"
    assert remedy in found["message"]
    assert "Not installed" in run("publish", "--help", modules=tmp_path).stdout


def test_a_package_adds_a_verb_whose_errors_are_those_of_the_command(tmp_path: Path) -> None:
    package(tmp_path, "greeting", "greet = greeting:app")
    (tmp_path / "greeting.py").write_text(
        "import typer\n"
        "from pocketrank.errors import GateError\n"
        "from pocketrank.commands.options import Json\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def greet(name: str, as_json: Json = False) -> None:\n"
        "    raise GateError(f'nobody greets\\n{name}')\n"
    )
    done = run("greet", "\x1b[31mann", modules=tmp_path)
    assert done.returncode == Exit.REFUSED
    assert done.stdout == ""
    assert done.stderr == "error: nobody greets \\x1b[31mann\n"
    found = answer(run("greet", "ann", "--json", modules=tmp_path), Exit.REFUSED)
    assert found == {"error": {"kind": "GateError", "message": "nobody greets\nann", "exit_code": 8}}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_output_that_cannot_be_written_is_an_error_without_a_traceback(words: tuple[str, ...]) -> None:
    command = [*COMMAND, "bundle", "inspect", str(shop.FOLDER), *words]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == Exit.FAILED
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


# -- output ------------------------------------------------------------------------------------------------------------


@given(st.text())
def test_what_is_shown_is_one_line_that_a_terminal_shows_as_it_stands(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_everything_that_is_plain_has_a_form_in_json(value: object) -> None:
    made = plain(value)
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_numbers_that_json_lacks_become_null_and_other_things_are_refused() -> None:
    assert plain({"a": (float("nan"), float("inf"), 1.5)}) == {"a": [None, None, 1.5]}
    with pytest.raises(TypeError, match="object has no form"):
        plain([object()])


def test_a_long_error_is_cut_for_a_person(tmp_path: Path) -> None:
    package(tmp_path, "long", "shout = shouting:app")
    (tmp_path / "shouting.py").write_text(
        "import typer\n"
        "from pocketrank.errors import InputError\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def shout() -> None:\n"
        "    raise InputError('a' * 5000)\n"
    )
    assert run("shout", modules=tmp_path).stderr == f"error: {'a' * MAX_MESSAGE}...\n"
