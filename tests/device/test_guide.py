"""The guide for app developers, run as it stands, and its tables held to the code."""

import doctest
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import pocketrank.errors
from pocketrank import Slate, pipeline, scoring, slate
from tests import shop

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "sdk.md"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SESSION = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def session(page: str) -> str:
    """The sessions of a page, each line where it was, and all other lines empty."""
    found, end = [], 0
    for block in SESSION.finditer(page):
        found += ["\n" * page.count("\n", end, block.start(1)), block[1]]
        end = block.end(1)
    return "".join(found)


def run(page: str, folder: Path) -> doctest.TestResults:
    """Run the sessions of a page as one; what differs is printed."""
    bundle = str(shop.FOLDER)
    given = {"BUNDLE": bundle, "OLD": bundle, "NEXT": bundle, "STORE": folder / "store.db"}
    example = doctest.DocTestParser().get_doctest(session(page), given, GUIDE.name, str(GUIDE), 0)
    return doctest.DocTestRunner(optionflags=OPTIONS).run(example, clear_globs=False)


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading."""
    text = GUIDE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif found:
            break
    return found[2:]


def test_the_examples_of_the_guide_do_what_it_says(tmp_path: Path) -> None:
    # In a process of its own: it sets an audit hook, and there is no way to take one back.
    command = [sys.executable, "-W", "error", __file__, str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIP" not in GUIDE.read_text()


def test_no_example_of_the_guide_is_left_out() -> None:
    text = GUIDE.read_text()
    examples = doctest.DocTestParser().get_examples(session(text))
    assert len(examples) == text.count("\n>>> ")


@pytest.mark.parametrize(
    "page",
    [
        "```pycon\n>>> from pocketrank import Bundle\n>>> Bundle.open(BUNDLE).manifest.name\n'market'\n```\n",
        "```pycon\n>>> len(BUNDLE)\n```\n",
    ],
)
def test_an_example_that_is_wrong_is_caught(page: str, tmp_path: Path) -> None:
    assert run(page, tmp_path).failed == 1


def test_the_extras_of_the_guide_are_those_of_the_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    shown = {name.strip("`"): set(brings.split(", ")) for name, brings, _ in rows("Install")}
    rest = set(extras) - set(shown)
    assert rest == {"export", "tensorboard", "federated", "server", "all", "dev"}
    for name, brings in shown.items():
        # What a runtime asks of numpy is no package of its own.
        assert brings == {re.split(r"[<>=\[;]", line)[0] for line in extras[name]} - {"numpy"}, name


def test_the_guide_has_each_attribute_of_a_slate() -> None:
    shown = [row[0].strip("`") for row in rows("What a slate says")]
    assert shown == [field.name for field in fields(Slate) if not field.name.startswith("_")]


def test_the_guide_has_each_stage_and_each_fallback() -> None:
    (stages,) = [row[1] for row in rows("What a slate says") if row[0] == "`stages`"]
    named = {pipeline.FILTERS, pipeline.POLICY, pipeline.DIVERSITY, slate.PREVIOUS_BUNDLE}
    named |= {scoring.FEATURES, scoring.PRUNE, scoring.PERSONAL, scoring.MODEL}
    assert set(re.findall(r"`([^`]+)`", stages)) == named
    fallbacks = {slate.SHARED_PARAMETERS, slate.CASCADE, slate.PREVIOUS_BUNDLE, slate.GIVEN_ORDER, slate.NOTHING}
    text = GUIDE.read_text().partition("\n| fallback | means |\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)) == fallbacks


def test_the_guide_names_each_error_and_what_it_derives_from() -> None:
    tree = {name: kind for name, kind in vars(pocketrank.errors).items() if isinstance(kind, type)}
    for cell, *_ in rows("Errors"):
        name, parent = re.findall(r"`(\w+)`", cell)
        assert parent in {base.__name__ for base in tree[name].__mro__[1:]}, cell
    section = GUIDE.read_text().partition("\n## Errors\n")[2].partition("\n## ")[0]
    assert set(tree) <= set(re.findall(r"\w+", section))


if __name__ == "__main__":
    results = run(GUIDE.read_text(), Path(sys.argv[1]))
    sys.exit(bool(results.failed) or not results.attempted)
