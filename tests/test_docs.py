"""The documentation agrees with the code: names, pictures, tables, links and examples."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pocketrank import bundle as bundles
from pocketrank import schema
from pocketrank.cascade import Prune
from pocketrank.errors import BundleError
from pocketrank.learner import BATCH
from pocketrank.policy import Policy
from pocketrank.runtime import RUNTIMES, Model
from pocketrank.scorer import variants_of
from pocketrank_export.ranker import trainables
from pocketrank_export.student import Student
from pocketrank_federated.messages import RoundConfig
from pocketrank_federated.policy import Refusal
from tests import shop
from tests.test_layout import PACKAGES, ROOT

DOCS = ROOT / "docs"
ARCHITECTURE = DOCS / "architecture.md"
BUNDLE = DOCS / "bundle.md"
ROUNDS = DOCS / "rounds.md"
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(DOCS.rglob("*.md"))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
NAME = re.compile(r"(?<![\w./-])pocketrank(?:_export|_federated|_server)?(?:\.[A-Za-z_]\w*)+(?![\w/]|\.\w)")
MESSAGE = re.compile(r"^(\w+)\s*--?>>[+-]?\s*(\w+)\s*:\s*(.+)$")
EDGE = re.compile(r"--+>(?:\|([^|]*)\|)?")


def rel(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(path.read_text()) if kind == language]


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def tables(path: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of the table under each heading, by the heading's text without backquotes."""
    found: dict[str, list[dict[str, str]]] = {}
    heading = ""
    head: list[str] = []
    for line in prose(path).splitlines():
        if line.startswith("#"):
            heading, head = line.lstrip("# ").replace("`", ""), []
        elif not line.startswith("|"):
            head = []
        elif not head:
            head = cells(line)
        elif not set(line) <= set("|-: "):
            found.setdefault(heading, []).append(dict(zip(head, cells(line), strict=True)))
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@cache
def modules() -> dict[str, Path]:
    """Every module of the four packages by its dotted name, packages included."""
    found = {}
    for name, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([name, *(part for part in parts if part != "__init__")])] = path
    return found


@cache
def definitions(module: str) -> dict[str, set[str]]:
    """Names that a module defines or imports at its top level; of a class, what it defines."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(modules()[module].read_text()).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = bound(node.body)
        else:
            found |= {name: set() for name in bound([node])}
    return found


def bound(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def exists(dotted: str) -> bool:
    """Whether a name is a module, or something that a module defines."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        if (module := ".".join(parts[:length])) in modules():
            return defined(module, parts[length:])
    return False


def defined(module: str, names: list[str]) -> bool:
    known = definitions(module)
    if not names:
        return True
    return names[0] in known and (len(names) == 1 or names[1] in known[names[0]])


def imports(package: str) -> set[str]:
    """Top-level packages that a package imports, lazily or not, besides Python's own and itself."""
    found = set()
    for name, path in modules().items():
        if name.split(".")[0] == package:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.split(".")[0])
    if package == "pocketrank":
        found |= {module.split(".")[0] for module in RUNTIMES.values()}
    return found - set(sys.stdlib_module_names) - {package}


# -- names and links ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=rel)
def test_every_name_of_the_code_that_a_page_gives_exists(path: Path) -> None:
    names = set(NAME.findall(path.read_text()))
    assert sorted(name for name in names if not exists(name)) == []


@pytest.mark.parametrize("path", PAGES, ids=rel)
def test_every_path_that_a_page_gives_exists(path: Path) -> None:
    given = re.findall(
        r"`((?:sdk|export|federated|server|tests|examples|benchmarks|docs|scripts)/[\w./-]*)", prose(path)
    )
    assert sorted(name for name in given if not (ROOT / name).exists()) == []


def anchors(path: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=rel)
def test_relative_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in (one or other for one, other in LINK.findall(prose(path))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        built = page.is_relative_to(ROOT / "build")
        if not built and (not page.exists() or (anchor and anchor not in anchors(page))):
            broken.append(target)
    assert broken == []


def test_each_decision_has_its_number_and_its_four_parts() -> None:
    pages = sorted((DOCS / "adr").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for number, page in enumerate(pages, start=1):
        text = page.read_text()
        assert text.startswith(f"# {number}. ")
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
        assert parts == ["Context", "Options", "Choice", "Cost"], page.name


# -- examples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "number", "code"),
    [(path, number, code) for path in PAGES for number, code in enumerate(blocks(path, "python"))],
    ids=lambda value: rel(value) if isinstance(value, Path) else str(value) if isinstance(value, int) else "",
)
def test_an_example_compiles_and_imports_what_exists(path: Path, number: int, code: str) -> None:
    compile(code, f"{rel(path)}, example {number}", "exec")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            missing = [alias.name for alias in node.names if not exists(f"{node.module}.{alias.name}")]
            assert missing == [], node.module


PRINTED = [
    (path, code, printed)
    for path in PAGES
    for code, printed in re.findall(
        r"^```python\n([^`]*?)^```\n+```text\n([^`]*?)^```$", path.read_text(), re.MULTILINE
    )
]


@pytest.mark.parametrize(("path", "code", "printed"), PRINTED, ids=lambda value: rel(value) if value in PAGES else "")
def test_an_example_prints_what_the_page_says(path: Path, code: str, printed: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{rel(path)}\n{done.stderr}"
    assert done.stdout == printed


# -- pictures ----------------------------------------------------------------------------------------------------------

MERMAID = [(path, number, body) for path in PAGES for number, body in enumerate(blocks(path, "mermaid"))]
OPENERS = {
    "sequenceDiagram": {"alt", "opt", "loop", "par", "critical", "break", "rect", "box"},
    "flowchart": {"subgraph"},
    "graph": {"subgraph"},
}


def structure(body: str) -> str | None:
    """What is wrong with the form of a mermaid picture, or None."""
    lines = [line.strip() for line in body.splitlines() if line.strip() and not line.strip().startswith("%%")]
    kind = lines[0].split()[0] if lines else ""
    if kind not in OPENERS:
        return f"unknown kind of diagram {kind!r}"
    depth = 0
    for line in lines[1:]:
        word = line.split()[0]
        depth += (word in OPENERS[kind]) - (word == "end")
        if depth < 0:
            return "an end without a beginning"
        if line.count('"') % 2:
            return f"an open quote: {line}"
        bare = re.sub(r'"[^"]*"', "", line.partition(":")[0] if kind == "sequenceDiagram" else line)
        for opening, closing in ("()", "[]", "{}"):
            if bare.count(opening) != bare.count(closing):
                return f"unbalanced {opening}{closing}: {line}"
        if kind == "sequenceDiagram" and (";" in line or "#" in line):
            return f"mermaid ends a message at ; and reads # as an entity: {line}"
    return None if depth == 0 else "a block without its end"


@pytest.mark.parametrize(("path", "number", "body"), MERMAID, ids=lambda v: rel(v) if isinstance(v, Path) else "")
def test_a_picture_has_the_form_of_its_kind(path: Path, number: int, body: str) -> None:
    assert structure(body) is None, f"{rel(path)}, picture {number}"


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("pie\n", "unknown kind"),
        ("", "unknown kind"),
        ("sequenceDiagram\n    loop for ever\n", "without its end"),
        ("sequenceDiagram\n    end\n", "without a beginning"),
        ("sequenceDiagram\n    a->>b: one; two\n", "ends a message"),
        ("flowchart TB\n    a[here --> b\n", "unbalanced"),
        ('flowchart TB\n    a["here] --> b\n', "open quote"),
        ("flowchart TB\n    subgraph x\n    a --> b\n", "without its end"),
    ],
)
def test_a_picture_of_a_wrong_form_is_caught(body: str, wrong: str) -> None:
    assert wrong in (structure(body) or "")


def participants(body: str) -> dict[str, str]:
    """Participants of a sequence diagram: id to label."""
    return dict(re.findall(r"^\s*(?:participant|actor) (\w+)(?: as (.+))?$", body, re.MULTILINE))


def wrong_calls(body: str) -> list[str]:
    """Messages of a sequence diagram that look like calls, of what the receiver does not have.

    ``f(...)`` and ``Class.method(...)`` stand in the receiver's module, ``module.f(...)`` in another of its package.
    """
    known, wrong = participants(body), []
    for line in map(str.strip, body.splitlines()):
        if not (message := MESSAGE.match(line)):
            continue
        if missing := {message[1], message[2]} - set(known):
            wrong.append(f"{line}: no participant {sorted(missing)}")
        call = re.match(r"([A-Za-z_]\w*)(?:\.(\w+))?\(", message[3])
        module = known.get(message[2], "")
        if call is None or not module.startswith("pocketrank"):
            continue
        names = [name for name in call.groups() if name]
        other = f"{module.rpartition('.')[0]}.{names[0]}"
        anywhere = [[name, names[0]] for name in definitions(module)] if len(names) == 1 else []
        candidates = [names, *anywhere]
        if other in modules() and len(names) == 2 and defined(other, names[1:]):
            continue
        if not any(defined(module, candidate) for candidate in candidates):
            wrong.append(line)
    return wrong


@pytest.mark.parametrize(
    ("path", "number", "body"),
    [one for one in MERMAID if one[2].startswith("sequenceDiagram")],
    ids=lambda value: rel(value) if isinstance(value, Path) else "",
)
def test_calls_in_a_sequence_diagram_are_of_the_code(path: Path, number: int, body: str) -> None:
    assert wrong_calls(body) == [], f"{rel(path)}, picture {number}"


@pytest.mark.parametrize(
    "call", ["ranks(candidates)", "Reranker.ranks()", "Scorer.scores()", "slate.clicked_on()", "cascade.prunes()"]
)
def test_a_call_that_is_not_of_the_code_is_caught(call: str) -> None:
    head = "sequenceDiagram\n    participant a as the app\n    participant b as pocketrank.reranker\n"
    assert wrong_calls(f"{head}    a->>b: {call}\n")
    assert wrong_calls(f"{head}    a->>b: Reranker.rank(candidates)\n    a->>b: cascade.prune(x)\n") == []


def test_the_map_of_packages_is_what_they_import() -> None:
    body = next(body for body in blocks(ARCHITECTURE, "mermaid") if "<b>pocketrank</b>" in body)
    shown = {name: set(text.split()) for name, text in re.findall(r"<b>(\w+)</b>[^<]*<br/>([^\"]*)", body)}
    ids = dict(re.findall(r"^\s*(\w+)\[\"<b>(\w+)</b>", body, re.MULTILINE))
    arrows = {(ids[one], ids[other]) for one, other in re.findall(r"^\s*(\w+) --> (\w+)$", body, re.MULTILINE)}
    assert set(shown) == set(PACKAGES)
    for package in PACKAGES:
        found = imports(package)
        assert found - set(PACKAGES) == shown[package], f"{package}: other people's packages"
        assert found & set(PACKAGES) <= {other for one, other in arrows if one == package}, package
    assert {other for one, other in arrows if one == "pocketrank"} == set(), "the SDK builds on none of ours"


def test_arrows_of_a_flowchart_join_nodes_that_it_draws() -> None:
    for path, number, body in MERMAID:
        if not body.startswith("flowchart"):
            continue
        drawn = set(re.findall(r"(\w+)(?=\[|\(\[|\{)", re.sub(r'"[^"]*"', '""', body)))
        for line in body.splitlines():
            if EDGE.search(line):
                ends = [re.match(r"\s*(\w+)", part) for part in EDGE.sub("\n", line).split("\n")]
                assert {end[1] for end in ends if end} <= drawn, f"{rel(path)}, picture {number}: {line}"


# -- tables ------------------------------------------------------------------------------------------------------------


def test_the_table_has_each_module_once_and_no_other() -> None:
    rows = [row["module"].strip("`") for row in tables(ARCHITECTURE)["Where is what"] if row["module"].startswith("`")]
    assert len(set(rows)) == len(rows)
    assert set(rows) == {name for name in modules() if name not in PACKAGES and not name.endswith("__main__")}


JSON_TYPES: Mapping[Any, str] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    float | None: "number or null",
    int | None: "integer or null",
    str | None: "string or null",
    tuple[int, ...]: "list of integers",
    tuple[str, ...]: "list of strings",
    tuple[bundles.Parameter, ...]: "list of `Parameter`",
    Mapping[str, str]: "object of strings",
    Mapping[str, float]: "object of numbers",
    Mapping[str, bundles.FileEntry]: "object of `FileEntry`",
    schema.Schema: "list of features",
    bundles.PrivacyPolicy: "`PrivacyPolicy`",
    bundles.PrivacyStatement: "`PrivacyStatement`",
    bundles.Lineage: "`Lineage`",
    Policy: "`Policy`",
    tuple[Prune, ...]: "list of `Prune`",
}
KINDS = {kind.kind: kind for kind in typing.get_args(schema.Feature)}
RECORDS: dict[str, type[Any]] = {
    record.__name__: record
    for record in (
        bundles.Manifest, bundles.Parameter, bundles.FileEntry, bundles.PrivacyPolicy, bundles.PrivacyStatement,
        bundles.Lineage, Prune,
    )
} | KINDS  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_each_key_of_the_manifest_is_documented(name: str) -> None:
    record = RECORDS[name]
    hints = {
        key: hint for key, hint in typing.get_type_hints(record).items() if key in {f.name for f in fields(record)}
    }

    def spelt(hint: Any) -> str:
        return "string" if typing.get_origin(hint) is typing.Literal else JSON_TYPES[hint]

    def default(value: Any, factory: Any) -> str:
        plain = value is not MISSING and factory is MISSING and record is not bundles.Manifest
        return f"`{json.dumps(value)}`" if plain else ""

    expected = [(f"`{f.name}`", spelt(hints[f.name]), default(f.default, f.default_factory)) for f in fields(record)]
    order = {key: at for at, (key, _, _) in enumerate(expected)}
    found = [(row["key"], row["type"], row["default"]) for row in tables(BUNDLE)[name]]
    assert sorted(found, key=lambda row: order.get(row[0], -1)) == expected
    assert all(row["meaning"] for row in tables(BUNDLE)[name])


PLACES: list[tuple[tuple[str | int, ...], str]] = [
    ((), "Manifest"),
    (("policy",), "PrivacyPolicy"),
    (("privacy",), "PrivacyStatement"),
    (("lineage",), "Lineage"),
    (("files", "params.npz"), "FileEntry"),
    (("trainable", 0), "Parameter"),
    (("schema", 0), "number"),
]


def at(body: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        body = body[step]
    return body


def canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


@pytest.mark.parametrize(("path", "name"), PLACES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_manifest_that_lacks_a_documented_key_or_has_another_is_refused(
    path: tuple[str | int, ...], name: str
) -> None:
    written = json.loads(shop.bundle().manifest.to_json())
    assert bundles.Manifest.from_json(canonical(written)) == shop.bundle().manifest
    for row in tables(BUNDLE)[name]:
        body = json.loads(json.dumps(written))
        del at(body, path)[row["key"].strip("`")]
        with pytest.raises(BundleError):
            bundles.Manifest.from_json(canonical(body))
    at(written, path)["more"] = 1
    with pytest.raises(BundleError):
        bundles.Manifest.from_json(canonical(written))


def test_the_canonical_form_is_as_described() -> None:
    content = shop.bundle().manifest.to_json()
    body = json.loads(content)
    assert content == canonical(body)
    for other in (content[:-1], content + b" ", json.dumps(body).encode(), json.dumps(body, indent=1).encode()):
        with pytest.raises(BundleError, match="canonical"):
            bundles.Manifest.from_json(other)
    assert set(body) == {row["key"].strip("`") for row in tables(BUNDLE)["Manifest"]} | {"format"}
    assert body["format"] == bundles.FORMAT == 1


def test_the_files_are_those_of_the_format() -> None:
    rows = {row["file"].strip("`"): row[""] for row in tables(BUNDLE)["The bundle"]}
    assert set(rows) == bundles.FILES | {bundles.MANIFEST}
    assert {name for name, word in rows.items() if word == "required"} == bundles.REQUIRED_FILES | {bundles.MANIFEST}


def test_the_signatures_of_a_bundle_are_those_on_the_page() -> None:
    bundle = shop.bundle()
    sizes = bundle.manifest.slate_sizes
    width = len(bundle.manifest.schema.columns)
    head = {parameter.name.replace(".", "_"): list(parameter.shape) for parameter in bundle.manifest.trainable}
    documented: dict[str, dict[tuple[str, str], list[int]]] = {}
    for row in tables(BUNDLE)["Signatures"]:
        pattern, side = row["signature"].strip("`"), row["direction"]
        for size in sizes if "{n}" in pattern else sizes[-1:]:
            tensors = documented.setdefault(pattern.replace("{n}", str(size)), {})
            values = {"n": size, "d": width, "b": BATCH, "v": variants_of(bundle.manifest.schema)}
            if row["tensor"].startswith("each"):
                tensors |= {(side, name): shape for name, shape in head.items()}
            else:
                shape = [values[axis] for axis in row["shape"].strip("`[]").split(", ") if axis]
                tensors[side, row["tensor"].strip("`")] = shape
    found = {}
    for content in (bundle.files[bundles.RANK_MODEL], bundle.files[bundles.TRAIN_MODEL]):
        model = Model(content)
        for signature in model.signatures:
            sides = zip(("in", "out"), model.shapes(signature), strict=True)
            found[signature] = {(side, name): list(shape) for side, shapes in sides for name, shape in shapes.items()}
    assert found == documented


def test_the_trainable_parameters_are_those_of_the_student() -> None:
    public = [True, False, True, False, False]
    sizes = {"d + 1": len(public) + 1, "h": 48, "p": public.count(False)}
    documented = [
        (row["parameter"].strip("`"), tuple(sizes[axis] for axis in row["shape"].strip("`[]").split(", ")))
        for row in tables(BUNDLE)["Trainable parameters"]
    ]
    assert documented == trainables(Student(public))


def test_the_arrays_of_a_bundle_are_those_on_the_page() -> None:
    bundle = shop.bundle()
    rows = [{key: text.strip("`") for key, text in row.items()} for row in tables(BUNDLE)["Arrays"]]
    types = {"f4": "float32", "f2": "float16", "U": "string"}
    for file in {row["file"] for row in rows}:
        arrays = bundles.load_arrays(bundle.files[file])
        for row in (row for row in rows if row["file"] == file):
            names = list(bundle.params()) if row["array"].startswith("each") else [row["array"]]
            for name in names:
                array = arrays.pop(name)
                assert types[array.dtype.str[1:] if array.dtype.kind == "f" else "U"] == row["type"]
                assert row["shape"] == "its shape" or array.ndim == row["shape"].count(",") + 1
        assert arrays == {}, file


def test_the_limits_are_those_of_the_code() -> None:
    for row in tables(BUNDLE)["Limits"]:
        module, _, constant = row["constant"].strip("`").rpartition(".")
        assert getattr(importlib.import_module(module), constant) == float(row["value"]), constant


def test_each_refusal_of_a_device_is_documented() -> None:
    assert [row["reason sent"].strip("`") for row in tables(ROUNDS)["What a device checks"]] == list(Refusal)


def test_the_number_of_scalars_in_a_request_is_right() -> None:
    assert len(fields(RoundConfig)) == 8
    assert "the eight scalars of `pocketrank_federated.messages.RoundConfig`" in ROUNDS.read_text()


def test_a_name_that_is_gone_would_be_caught() -> None:
    assert exists("pocketrank.bundle.Bundle.open")
    assert exists("pocketrank_federated.aggregation.PlainSum")
    for gone in ("pocketrank.bundles", "pocketrank.bundle.Bundle.opened", "pocketrank_server.registry", "pocketrank.x"):
        assert not exists(gone)
        assert NAME.findall(f"see `{gone}`.") == [gone]
    assert isinstance(importlib.import_module("pocketrank.bundle"), types.ModuleType)
