"""Teachers that come as files: ONNX models, and scores that were made elsewhere."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketrank.bundle import save_arrays
from pocketrank.errors import ExtraMissingError, GateError, InputError, ModelError
from pocketrank_export.data.slates import Slates
from pocketrank_export.teachers import onnx as onnx_teachers
from pocketrank_export.teachers import stored
from pocketrank_export.teachers.onnx import OnnxTeacher
from pocketrank_export.teachers.stored import ListedScores, StoredScores, save_scores

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Array = NDArray[np.float32]
Axes = Sequence[int | str]
WIDTH = 3
WEIGHT = np.array([[1.5], [-2.0], [0.25]], np.float32)


def slates(seed: int = 0, count: int = 5, size: int = 6) -> Slates:
    """Slates of 1 to ``size`` candidates; one is full."""
    rng = np.random.default_rng(seed)
    lengths = np.concatenate([[size], rng.integers(1, size + 1, count - 1)])
    mask = (np.arange(size) < lengths[:, None]).astype(np.float32)
    features = rng.normal(size=(count, size, WIDTH)).astype(np.float32) * mask[..., None]
    return Slates(features, np.zeros_like(mask), mask)


def model(
    inputs: dict[str, Axes],
    nodes: Sequence[tuple[str, list[str], list[str]]],
    output: Axes,
    *,
    types: Sequence[int] = (),
    weight: Array = WEIGHT,
    axes: Sequence[int] = (1,),
) -> Any:
    """An ONNX model over the constants ``weight`` and ``axes`` whose output is ``scores``."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    kinds = [*types, *[kind] * len(inputs)]
    given = [
        helper.make_tensor_value_info(name, of, list(shape))
        for (name, shape), of in zip(inputs.items(), kinds, strict=False)
    ]
    constants = [
        onnx.numpy_helper.from_array(weight, "weight"),
        onnx.numpy_helper.from_array(np.array(axes, np.int64), "axes"),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, sources, made) for op, sources, made in nodes],
        "teacher",
        given,
        [helper.make_tensor_value_info("scores", kind, list(output))],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


LINEAR = ("MatMul", ["features", "weight"], ["scores"])
ROWS = ("rows", WIDTH)


def pointwise(**options: Any) -> Any:
    """``features @ weight``, scores [rows, 1]."""
    return model({"features": ROWS}, [LINEAR], ("rows", 1), **options)


def centred(lead: Axes, mask: Axes | None = None, output: Axes = ()) -> Any:
    """``features @ weight`` less the slate's mean over all rows that are given, so that a padded row would show."""
    axis = len(lead) - 1
    nodes = [
        ("MatMul", ["features", "weight"], ["raw"]),
        ("ReduceMean", ["raw", "axes"], ["mean"]),
        ("Sub", ["raw", "mean"], ["shifted" if mask else "scores"]),
    ]
    inputs: dict[str, Axes] = {"features": (*lead, WIDTH)}
    if mask:
        inputs = {"mask": mask, **inputs}
        nodes += [("Unsqueeze", ["mask", "last"], ["wide"]), ("Mul", ["shifted", "wide"], ["scores"])]
    made = model(inputs, nodes, output or (*lead, 1), axes=(axis,))
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), "last"))
    return made


def expected(made: Slates, *, listwise: bool) -> Array:
    found = (made.features @ WEIGHT)[..., 0].astype(np.float64)
    if listwise:
        found -= found.sum(axis=1, keepdims=True) / made.mask.sum(axis=1, keepdims=True)
    return (found * made.mask).astype(np.float32)


# --------------------------------------------------------------------------------------------------------------- ONNX


@pytest.mark.parametrize(
    ("made", "listwise"),
    [
        (pointwise(), False),
        (
            model({"x": ROWS}, [("MatMul", ["x", "weight"], ["y"]), ("Squeeze", ["y", "axes"], ["scores"])], ("r",)),
            False,
        ),
        (centred(("n",), ("n",)), True),
        (centred(("b", "n")), True),
        (centred(("b", "n"), ("b", "n")), True),
        (centred((1, "n"), (1, "n")), True),
    ],
)
def test_scores_are_the_models_whatever_its_inputs_and_the_padding(made: Any, listwise: bool) -> None:  # noqa: FBT001
    teacher = OnnxTeacher("linear", made.SerializeToString())
    given = slates()
    found = teacher.scores(given)
    np.testing.assert_allclose(found, expected(given, listwise=listwise), atol=1e-6)
    longer = Slates.joined([given, slates(1, size=11)]).where(np.arange(len(given)))
    np.testing.assert_allclose(teacher.scores(longer)[:, :6], found, atol=1e-6)
    assert (teacher.name, teacher.size_bytes) == ("linear", len(made.SerializeToString()))


def test_many_rows_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_teachers, "_ROWS", 4)
    given = slates()
    assert given.mask.sum() % 4
    found = OnnxTeacher("linear", pointwise().SerializeToString()).scores(given)
    np.testing.assert_allclose(found, expected(given, listwise=False), atol=1e-6)


@pytest.mark.parametrize("made", [pointwise(), centred(("b", "n"))])
def test_slates_without_candidates_score_zero(made: Any) -> None:
    empty = dataclasses.replace(slates(), mask=np.zeros((5, 6), np.float32))
    teacher = OnnxTeacher("linear", made.SerializeToString())
    np.testing.assert_array_equal(teacher.scores(empty), np.zeros((5, 6)))
    assert teacher.scores(empty.where(np.arange(0))).shape == (0, 6)


def test_a_model_of_doubles_and_a_mask_of_booleans_are_fed_as_such() -> None:
    double, boolean = onnx.TensorProto.DOUBLE, onnx.TensorProto.BOOL
    nodes = [
        ("MatMul", ["features", "weight"], ["wide"]),
        ("Squeeze", ["wide", "axes"], ["raw"]),
        ("Cast", ["raw"], ["narrow"]),
        ("Where", ["mask", "narrow", "narrow"], ["scores"]),
    ]
    inputs: dict[str, Axes] = {"features": ("b", "n", WIDTH), "mask": ("b", "n")}
    made = model(
        inputs,
        nodes,
        ("b", "n"),
        types=(double, boolean),
        weight=WEIGHT.astype(np.float64),
        axes=(2,),
    )
    made.graph.node[2].attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT))
    given = slates()
    found = OnnxTeacher("wide", made.SerializeToString()).scores(given)
    np.testing.assert_allclose(found, expected(given, listwise=False), atol=1e-6)


def two_outputs() -> Any:
    made = pointwise()
    made.graph.output.append(onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["rows", 1]))
    made.graph.node.append(onnx.helper.make_node("Identity", ["scores"], ["again"]))
    made.graph.output[1].name = "again"
    return made


def outside(where: str) -> Any:
    """A pointwise model with one tensor in another file: an initializer, or an attribute of a node of a subgraph."""
    made = pointwise()
    far = onnx.numpy_helper.from_array(WEIGHT, "far")
    onnx.external_data_helper.set_external_data(far, "/etc/hostname")
    if where == "initializer":
        made.graph.initializer[0].CopyFrom(far)
    else:
        constant = onnx.helper.make_node("Constant", [], ["c"], value=far)
        branch = onnx.helper.make_graph([constant], "branch", [], [])
        node = onnx.helper.make_node("If", ["features"], ["unused"], then_branch=branch, else_branch=branch)
        made.graph.node.append(node)
    return made


IDENTITY = ("Identity", ["features"], ["scores"])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (b"", "inputs: ;|can't read"),
        (b"junk", "not an ONNX model"),
        (pointwise().SerializeToString()[:-20], "not an ONNX model|can't read"),
        (
            model({"features": ROWS}, [("NoSuchOperator", ["features"], ["scores"])], ("rows", 1)),
            "can't read the model",
        ),
        (model({"features": ("n",)}, [IDENTITY], ("n",)), r"inputs: features tensor\(float\) \['n'\];"),
        (model({"features": ("b", "n", "m", 3)}, [IDENTITY], ("b", "n", "m", 3)), "expected features"),
        (model({"features": (8, 3)}, [LINEAR], (8, 1)), r"\[8, 3\].*all but d dynamic"),
        (centred(("b", 8)), r"\['b', 8, 3\]"),
        (centred((4, "n")), r"\[4, 'n', 3\]"),
        (centred(("b", "n"), ("b", 8)), r"\['b', 8\]"),
        (model({"features": ROWS, "other": ROWS}, [LINEAR], ("rows", 1)), "other"),
        (model({"features": ROWS, "m": ("rows",), "k": ()}, [LINEAR], ("rows", 1)), "k tensor"),
        (model({"features": ROWS}, [("Identity", ["features"], ["scores"])], ROWS, types=(7,)), r"int64|can't read"),
        (
            model({"features": ("b", "n", 3), "mask": ("b", "n")}, [LINEAR], ("b", "n", 1), types=(1, 6)),
            r"mask tensor\(int32\)",
        ),
        (two_outputs(), "outputs: scores .*, again"),
        (outside("initializer"), "'far' lies in another file, which is never followed"),
        (outside("attribute"), "'far' lies in another file, which is never followed"),
    ],
)
def test_models_that_can_not_be_run_are_refused(made: Any, words: str) -> None:
    content = made if isinstance(made, bytes) else made.SerializeToString()
    with pytest.raises(InputError, match=f"teacher 'odd': .*({words})"):
        OnnxTeacher("odd", content)


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (
            model({"features": ("r", 4)}, [IDENTITY], ("r", 4)),
            InputError,
            "the model reads 4 columns, the slates have 3",
        ),
        (model({"features": ROWS}, [IDENTITY], ROWS), InputError, r"expected scores \[\d+\] of \d+ candidates, got"),
        (model({"features": ROWS}, [("ReduceSum", ["features"], ["scores"])], (1, 1)), InputError, r"got \[1, 1\]"),
        (
            model({"features": ("r", "d")}, [LINEAR], ("r", 1), weight=np.ones((4, 1), np.float32)),
            ModelError,
            "fails on",
        ),
        (pointwise(weight=WEIGHT * np.float32(np.nan)), GateError, "finite: teacher 'odd'.*slate 0"),
    ],
)
def test_what_a_model_gives_is_checked(made: Any, error: type[Exception], words: str) -> None:
    teacher = OnnxTeacher("odd", made.SerializeToString())
    with pytest.raises(error, match=words):
        teacher.scores(slates())


def test_a_file_is_read_under_its_name_and_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tower.onnx"
    path.write_bytes(pointwise().SerializeToString())
    assert OnnxTeacher.load(path).name == "tower"
    assert OnnxTeacher.load(path, "other").name == "other"
    monkeypatch.setattr(onnx_teachers, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(InputError, match="expected at most"):
        OnnxTeacher.load(path)
    with pytest.raises(InputError, match="expected at most"):
        OnnxTeacher("tower", path.read_bytes())


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_without_onnx_the_way_to_get_it_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pointwise().SerializeToString()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraMissingError, match=re.escape('pip install "pocketrank[export]"')):
        OnnxTeacher("x", content)


# ------------------------------------------------------------------------------------------------------ stored scores


def random_scores(made: Slates) -> Array:
    return np.random.default_rng(7).normal(size=made.mask.shape).astype(np.float32)


def test_stored_scores_come_back_for_the_slates_that_they_are_of(tmp_path: Path) -> None:
    made, path = slates(), tmp_path / "scores.npz"
    save_scores(path, random_scores(made), made)
    teacher = StoredScores("elsewhere", path)
    np.testing.assert_array_equal(teacher.scores(slates()), random_scores(made) * made.mask)
    assert (teacher.name, teacher.size_bytes) == ("elsewhere", None)
    relabelled = dataclasses.replace(made, labels=made.mask)
    np.testing.assert_array_equal(teacher.scores(relabelled), random_scores(made) * made.mask)


def shifted(made: Slates) -> Slates:
    changed = made.features.copy()
    changed[2, 0, 1] += 1e-3
    return dataclasses.replace(made, features=changed)


def masked(made: Slates) -> Slates:
    changed = made.mask.copy()
    changed[0, 5] = 0.0
    return dataclasses.replace(made, mask=changed)


@pytest.mark.parametrize(
    "other",
    [
        slates(1),
        slates().where(np.arange(4)),
        slates().where(np.array([1, 0, 2, 3, 4])),
        shifted(slates()),
        masked(slates()),
    ],
    ids=["others", "fewer", "another order", "another value", "another mask"],
)
def test_scores_of_other_slates_are_refused(other: Slates, tmp_path: Path) -> None:
    save_scores(tmp_path / "scores.npz", random_scores(slates()), slates())
    with pytest.raises(InputError, match="'elsewhere': these are scores of other slates"):
        StoredScores("elsewhere", tmp_path / "scores.npz").scores(other)


def test_scores_that_are_not_usable_are_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.npz"
    with pytest.raises(GateError, match="slate 0"):
        save_scores(path, np.full((5, 6), np.nan, np.float32), slates())
    with pytest.raises(InputError, match="expected scores"):
        save_scores(path, np.zeros((6, 5), np.float32), slates())
    monkeypatch.setattr(stored, "MAX_FILE_BYTES", 100)
    with pytest.raises(InputError, match="expected at most 100"):
        save_scores(path, random_scores(slates()), slates())
    assert list(tmp_path.iterdir()) == []


DIGEST = np.array("0" * 64)
SOME = np.zeros((5, 6), np.float32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an .npz"),
        (b"1.0\n2.0\n", "not an .npz"),
        (save_arrays({"scores": SOME}), "expected float32 scores and the slates' digest"),
        (save_arrays({"scores": SOME, "slates": DIGEST, "more": SOME}), "expected float32 scores"),
        (save_arrays({"scores": SOME.astype(np.float64), "slates": DIGEST}), "expected float32 scores"),
        (save_arrays({"scores": SOME, "slates": np.array(["0"])}), "expected float32 scores"),
        (save_arrays({"scores": SOME, "slates": np.array(5)}), "expected float32 scores"),
    ],
)
def test_files_that_save_scores_did_not_write_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{words}.*; write it with save_scores"):
        StoredScores("elsewhere", path)


def test_a_file_whose_scores_were_changed_in_shape_or_value_is_refused(tmp_path: Path) -> None:
    made, path = slates(), tmp_path / "scores.npz"
    digest = np.array(stored._digest(made))
    path.write_bytes(save_arrays({"scores": SOME[:4], "slates": digest}))
    with pytest.raises(InputError, match="expected scores"):
        StoredScores("elsewhere", path).scores(made)
    path.write_bytes(save_arrays({"scores": SOME * np.float32(np.nan), "slates": digest}))
    with pytest.raises(GateError, match="finite"):
        StoredScores("elsewhere", path).scores(made)


# ------------------------------------------------------------------------------------------------------ listed scores


@pytest.mark.parametrize("end", ["\n", ""])
def test_listed_scores_are_those_of_the_real_candidates_in_order(end: str, tmp_path: Path) -> None:
    made, path = slates(), tmp_path / "predictions.txt"
    values = random_scores(made)
    path.write_text("\n".join(repr(float(value)) for value in values[made.mask > 0]) + end)
    teacher = ListedScores("listed", path)
    np.testing.assert_array_equal(teacher.scores(made), values * made.mask)
    assert (teacher.name, teacher.size_bytes) == ("listed", None)


@pytest.mark.parametrize("more", [-1, 1])
def test_more_or_fewer_lines_than_real_candidates_are_refused(more: int, tmp_path: Path) -> None:
    made, path = slates(), tmp_path / "predictions.txt"
    path.write_text("0.5\n" * (int(made.mask.sum()) + more))
    with pytest.raises(InputError, match=rf"{int(made.mask.sum()) + more} scores of {int(made.mask.sum())} real"):
        ListedScores("listed", path).scores(made)


@pytest.mark.parametrize("line", ["", "x", "1 2", "1,5", "1_0", "0x10", "1" * 65, "\xff"])
def test_a_line_that_is_not_one_score_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.txt"
    path.write_text(f"0.5\n{line}\n0.5\n", encoding="latin-1")
    with pytest.raises(InputError, match="line 2: expected one score"):
        ListedScores("listed", path)


def test_a_listed_score_that_is_not_finite_names_its_slate(tmp_path: Path) -> None:
    made, path = slates(), tmp_path / "predictions.txt"
    count = int(made.mask.sum())
    path.write_text("0.5\n" * 6 + "nan\n" + "0.5\n" * (count - 7))
    with pytest.raises(GateError, match=r"'listed'.*candidate 0 of slate 1 "):
        ListedScores("listed", path).scores(made)


def test_a_listed_file_past_its_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.txt"
    path.write_text("0.5\n")
    monkeypatch.setattr(stored, "MAX_FILE_BYTES", 3)
    with pytest.raises(InputError, match="expected at most 3 bytes"):
        ListedScores("listed", path)
