"""The configuration: what it takes, what it refuses, and in which words."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pocketrank.errors import InputError
from pocketrank.schema import Number
from pocketrank_export.config import (
    MAX_CONFIG_BYTES,
    PARAMETERS,
    AttentionTeacher,
    Impressions,
    Letor,
    TreesTeacher,
    parse,
    read,
)
from pocketrank_export.gates import Limits
from pocketrank_export.losses.mixture import Term
from pocketrank_export.student import SIZES, Student

LEAST = 'name = "shop"\n[data]\nkind = "letor"\ntrain = "rank.train"\n'


def parsed(text: str) -> Any:
    return parse(tomllib.loads(LEAST + text), Path("folder"))


def test_a_name_and_the_data_are_enough() -> None:
    config = parsed("")
    assert (config.name, config.version, config.student.size) == ("shop", 1, "small")
    assert config.quantization.recipes == ("weight_int8",)
    assert config.gates == Limits()
    assert [type(teacher) for teacher in config.teacher] == [AttentionTeacher]
    assert config.policy.policy.max_rounds == 0, "rounds are for those who ask for them"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(LEAST + 'test = "/elsewhere/rank.test"\n')
    data = read(tmp_path / "shop.toml").data
    assert isinstance(data, Letor)
    assert (data.train, data.test) == (tmp_path / "rank.train", Path("/elsewhere/rank.test"))


def test_losses_trees_and_limits_are_those_of_their_modules() -> None:
    config = parsed(
        '[student]\nlosses = [{ name = "margin_mse", weight = 0.5 }, { name = "top_k", k = 3 }]\n'
        '[[teacher]]\nkind = "lambdamart"\nsettings = { trees = 7, learning_rate = 0.5 }\n'
        "[gates]\nndcg_loss = 0.01\n"
    )
    assert config.student.losses == (Term("margin_mse", 0.5), Term("top_k", k=3))
    assert config.student.recipe(3).seed == 3
    (teacher,) = config.teacher
    assert isinstance(teacher, TreesTeacher)
    assert (teacher.settings.trees, teacher.settings.learning_rate, teacher.settings.leaves) == (7, 0.5, 31)
    assert config.gates == Limits(ndcg_loss=0.01)


def test_features_are_read_as_a_schema() -> None:
    features = [{"kind": "number", "name": "price", "transform": "log1p"}]
    config = parse({"name": "shop", "data": {"kind": "impressions", "path": "log.csv", "features": features}}, Path())
    assert isinstance(config.data, Impressions)
    assert config.data.schema_of_features.features == (Number(name="price", transform="log1p"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[student]\nsizes = 3", "student.sizes: Extra"),
        ('[student]\nsize = "huge"', "student.size: .*'tiny', 'small' or 'base'"),
        ("[student]\nsiez = 'tiny'", "student.siez: Extra inputs are not permitted"),
        ("[student]\nepochs = 0", "student.epochs: .*greater than or equal to 1"),
        ("[student]\nepochs = '3'", "student.epochs: .*valid integer"),
        ("[student]\nlosses = []", "student.losses: .*at least 1 item"),
        ("[student]\nlosses = [{ name = 'mse' }]", "student.losses.0.*there is no loss 'mse'; choose from softmax"),
        ("[student]\nlosses = [{ name = 'kl', temprature = 2 }]", r"student.losses.0.*no keys \['temprature'\]"),
        ("[quantization]\nrecipes = ['int4']", r"quantization: .*no recipes \['int4'\]; there are float32"),
        (
            "[quantization]\nrecipes = ['float16', 'float16']",
            "quantization.recipes: .*different names, got float16, float16",
        ),
        ("[quantization]\nrecipes = []", "quantization.recipes: .*at least 1 item"),
        ("[[teacher]]\nkind = 'oracle'", "teacher.0: .*'oracle'"),
        ("[[teacher]]\nkind = 'lambdamart'\nsettings = { trees = 0 }", "teacher.0.*trees: expected a whole number"),
        ("[[teacher]]\nkind = 'onnx'", "teacher.0.onnx.path: Field required"),
        ("[gates]\nkendal = 1", r"gates: .*no keys \['kendal'\]"),
        ("[split]\nvalidation = 1.0", "split.validation: .*less than 1"),
        ("[student]\nweight_decay = inf", "student.weight_decay: .*finite"),
        ("[student]\nbatch = 99999999999", "student.batch: .*less than or equal"),
        ("[student]\ntrainable = ['layers.0']", "student.trainable.*no parameter 'layers.0'; there are head.weight"),
        ("[student]\ntrainable = 'all'", "Value error, quantization.recipes: .*take float32"),
        ("[[teacher]]\nkind = 'attention'\nwidth = 30", "teacher.0.*width: expected a multiple of heads, 4, got 30"),
        ("[[teacher]]\nkind = 'attention'\nwidth = 8192", "teacher.0.attention.width: .*less than or equal to 4096"),
        ("[[teacher]]\nkind = 'mlp'\nlosses = [{ name = 'kl' }]", r"teacher.0.*losses: \['kl'\] need a teacher's"),
        (
            "[student]\nsynthetic = 5\n[[teacher]]\nkind = 'scores'\ntrain = 'a'\nvalidation = 'b'\ntest = 'c'",
            "Value error, student.synthetic: stored scores have none",
        ),
        ("[gates]\nndcg_loss = nan", "gates: .*expected finite numbers, got {'ndcg_loss': nan}"),
        ("[policy]\nmin_noise_multiplier = inf", "policy.min_noise_multiplier: .*finite"),
        ("[ranking]\nfoo = 1", r"ranking: .*policy: expected an object with keys among .*got \['foo'\]"),
        ("[policy]\nmin_cohort = 0", "policy.min_cohort: .*greater than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_named(text: str, words: str) -> None:
    with pytest.raises(InputError, match=f"configuration: {words}"):
        parsed(text)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parsed("[student]\nepochs = 0\n[split]\nby = 'row'\n")
    assert all(name in str(caught.value) for name in ("student.epochs", "split.by"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name = ", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        (b"#" * (MAX_CONFIG_BYTES + 1), f"expected at most {MAX_CONFIG_BYTES}"),
    ],
    ids=["broken", "not text", "too long"],
)
def test_a_file_that_is_no_configuration_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "shop.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: can't be read"):
        read(tmp_path / "none.toml")


def test_a_feature_that_is_none_is_named() -> None:
    features = [{"kind": "nmber", "name": "price"}]
    config = parse({"name": "shop", "data": {"kind": "impressions", "path": "log.csv", "features": features}}, Path())
    assert isinstance(config.data, Impressions)
    with pytest.raises(InputError, match=r"data\.features: schema: unknown kind"):
        _ = config.data.schema_of_features


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "../shop", "name: .*pattern"),
        ("name", "shop\n", "name: .*pattern"),
        ("seed", 2**31, "seed: .*less than or equal"),
        ("slate_sizes", [], "slate_sizes: .*at least 1 item"),
        ("slate_sizes", [64, 16], r"slate_sizes: .*rising order, each once, got \[64, 16\]"),
        ("slate_sizes", [16, 16], "slate_sizes: .*rising order, each once"),
        ("slate_sizes", [8192], "slate_sizes.0: .*less than or equal to 4096"),
    ],
)
def test_what_the_manifest_would_refuse_at_the_end_is_refused_at_the_start(key: str, value: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"configuration: {words}"):
        parse({**tomllib.loads(LEAST), key: value}, Path())


def test_synthetic_slates_want_a_teacher() -> None:
    with pytest.raises(InputError, match=r"configuration: Value error, student\.synthetic: only a teacher"):
        parse({**tomllib.loads(LEAST), "teacher": [], "student": {"synthetic": 5}}, Path())


@pytest.mark.parametrize("size", list(SIZES))
def test_parameters_are_those_of_a_student(size: str) -> None:
    student = Student([True, False], size)
    assert sorted(PARAMETERS) == sorted(name for name, _ in student.named_parameters())
