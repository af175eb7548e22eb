"""A trained student becomes a bundle; ``tests/data/shop`` is one, and can be made again."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketrank.bundle import GOLDEN, RANK_MODEL, RANK_MODELS, TRAIN_MODEL, Manifest, Parameter
from pocketrank.errors import BundleError, GateError, InputError
from pocketrank.features.profile import Array
from pocketrank.learner import Learner
from pocketrank.runtime import Model
from pocketrank.schema import Categories, Number, Schema
from pocketrank.scorer import EXPLAIN, Scorer, variants_of
from pocketrank.verification import score_slates, self_test
from pocketrank_export.builder import Converted, calibration, check_variants, convert, pack, params_of, parity
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import score
from pocketrank_export.gates import Verdict, check
from pocketrank_export.quantization.recipes import quantize, weight_int8
from pocketrank_export.ranker import trainables
from pocketrank_export.runtimes import trials
from tests import make_test_bundle, shop
from tests.export import plain


@pytest.mark.slow
def test_the_bundle_of_the_tests_is_what_its_script_makes() -> None:
    """Byte for byte; but for the golden vectors, whose last bits depend on the processor."""
    made, kept = make_test_bundle.make(), shop.bundle()
    assert made.files.keys() == kept.files.keys()
    for name in made.files.keys() - {GOLDEN}:
        assert made.files[name] == kept.files[name], f"{name} differs: run `python -m tests.make_test_bundle`"
    golden, expected = made.golden(), kept.golden()
    assert golden.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(golden[name], values, atol=1e-4, err_msg=name)
    assert dataclasses.replace(made.manifest, files={}) == dataclasses.replace(kept.manifest, files={})


def test_the_bundle_of_the_tests_is_small() -> None:
    assert sum(path.stat().st_size for path in shop.FOLDER.iterdir()) < 150_000


def test_the_bundles_scores_are_the_students() -> None:
    golden = shop.bundle().golden()
    student = make_test_bundle.student()
    student.load_state_dict({name: torch.from_numpy(golden[name]) for name, _ in trainables(student)}, strict=False)
    ones = np.ones(len(golden["mask"]), np.int64)
    expected = score(student, Slates(golden["features"], golden["mask"], golden["mask"], ones))
    # Eight-bit weights in the backbone.
    np.testing.assert_allclose(golden["scores"], expected, atol=0.02)


def test_golden_vectors_hold_nobodys_private_features() -> None:
    golden, slates = shop.bundle().golden(), make_test_bundle.slates()
    private = shop.SCHEMA.private_columns
    real = golden["mask"] > 0
    shipped, theirs = golden["features"][real], slates.features[: len(real)][real]
    np.testing.assert_allclose(shipped[:, ~private], theirs[:, ~private], atol=1e-4)
    assert not np.isclose(shipped[:, private], theirs[:, private], atol=1e-4).any()


def test_the_parameters_are_the_students_trainables_in_order() -> None:
    student = make_test_bundle.student()
    params = params_of(student)
    assert {name: value.shape for name, value in params.items()} == {
        parameter.name: parameter.shape for parameter in shop.bundle().manifest.trainable
    }
    for name, value in shop.bundle().params().items():
        np.testing.assert_array_equal(value, params[name])
    params["head.weight"][:] = 0
    assert student.head.weight.abs().sum() > 0


@pytest.fixture(scope="module")
def converted() -> Converted:
    return convert(plain.ranker(), plain.SCHEMA, plain.SIZES)


def words(verdicts: list[Verdict]) -> list[str]:
    """What failed."""
    return [verdict.words.partition(":")[0] for verdict in verdicts if not verdict.passed]


def test_the_conversions_of_a_ranker_give_its_scores(converted: Converted) -> None:
    found = parity(plain.ranker(), converted, plain.slates())
    assert [verdict.runtime for verdict in found] == ["onnxruntime", "ai-edge-litert"]
    assert not words(found)
    assert all(verdict.value is not None and verdict.value < 1e-6 for verdict in found)
    assert parity(plain.ranker(), converted, plain.slates(), None) == []


def test_the_conversions_of_another_ranker_are_stopped(converted: Converted) -> None:
    other = plain.ranker()
    with torch.no_grad():
        other.get_parameter("module.first.bias").add_(0.001)
    verdicts = parity(other, converted, plain.slates())
    assert words(verdicts) == ["parity (onnxruntime)", "parity (ai-edge-litert)"]
    with pytest.raises(GateError, match=r"parity \(onnxruntime\): scores differ from PyTorch's by .*, <= 1e-05 wanted"):
        check(verdicts)


def test_each_conversion_is_held_against_pytorch_by_itself(converted: Converted) -> None:
    rounded = dataclasses.replace(converted, rank=weight_int8(converted.rank))
    assert words(parity(plain.ranker(), rounded, plain.slates())) == ["parity (ai-edge-litert)"]


def test_every_signature_is_tried_and_random_slates_beside_real_ones(
    converted: Converted, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: dict[str, list[Array]] = {}
    run = Model.run

    def noted(model: Model, signature: str, **inputs: Array) -> dict[str, Array]:
        tried.setdefault(signature, []).append(inputs["features"])
        return run(model, signature, **inputs)

    monkeypatch.setattr(Model, "run", noted)
    parity(plain.ranker(), converted, plain.slates())
    real = plain.slates().features
    assert list(tried) == ["rank_4", "rank_8"]
    for size, slates in zip((4, 8), tried.values(), strict=True):
        assert len(slates) == 2 * len(real)
        np.testing.assert_array_equal(slates[: len(real)], real[:, :size])
        assert not np.isin(slates[len(real) :], real).any()


def test_large_scores_may_differ_by_as_much_as_float32_rounds_them(converted: Converted) -> None:
    """Its last layer is an input, so that the same files serve."""
    large = plain.ranker(scale=1e5)
    found = parity(large, converted, plain.slates())
    assert np.abs(score(large, plain.slates())).max() > 1e4
    assert not words(found)


def test_a_schema_of_another_width_is_refused() -> None:
    narrow = Schema(plain.SCHEMA.features[:2])
    with pytest.raises(InputError, match="ranker: reads 3 columns, and the schema gives 2"):
        convert(plain.ranker(), narrow)


def test_calibration_is_real_slates_cut_or_padded_to_the_largest_signature(converted: Converted) -> None:
    given = calibration(plain.ranker(), plain.slates(), (4, 6))
    (calls,) = given.values()
    assert list(given) == ["rank_6"]
    assert len(calls) == 6
    for call, features, mask in zip(calls, plain.slates().features, plain.slates().mask, strict=True):
        np.testing.assert_array_equal(call["features"], features[:6])
        np.testing.assert_array_equal(call["mask"], mask[:6])
        np.testing.assert_array_equal(call["module_last_bias"], params_of(plain.ranker())["module.last.bias"])
    padded = calibration(plain.ranker(), plain.slates(), (16,))["rank_16"]
    assert all((call["features"][8:] == 0).all() and (call["mask"][8:] == 0).all() for call in padded)
    assert quantize(converted.rank, "static_int8", calibration(plain.ranker(), plain.slates(), plain.SIZES))


def manifest() -> Manifest:
    return Manifest(
        name="plain",
        version=1,
        schema=plain.SCHEMA,
        slate_sizes=plain.SIZES,
        trainable=tuple(Parameter(name, shape) for name, shape in trainables(plain.ranker())),
        policy=plain.POLICY,
        quantization={RANK_MODEL: "float32", OWN: "weight_int8"},
    )


OWN = RANK_MODELS["tflite-runtime"]


def test_golden_scores_of_a_runtimes_own_file_are_made_there(converted: Converted, devices: dict[str, Any]) -> None:
    """Each file's scores are its own, and each runtime passes the self-test with the file that it takes."""
    files = {RANK_MODEL: converted.rank, OWN: weight_int8(converted.rank)}
    pythons = {runtime: device.python for runtime, device in devices.items()}
    there, here = (
        pack(plain.ranker(), converted, files, manifest(), plain.slates(), pythons=given) for given in (pythons, None)
    )
    assert there.manifest.quantization == {RANK_MODEL: "float32", OWN: "weight_int8"}
    for bundle in (there, here):
        golden = bundle.golden()
        own, shared = golden["scores.tflite-runtime"], golden["scores"]
        assert 1e-3 < np.abs(own - shared).max() < 0.1
        assert not (set(golden) - {"features", "mask", "scores", "scores.tflite-runtime", *plain.LAST})
        for trial in trials(bundle, plain.slates(), list(pythons.values())):
            assert (trial.failure, trial.golden) == ("", "")
    np.testing.assert_allclose(
        there.golden()["scores.tflite-runtime"], here.golden()["scores.tflite-runtime"], atol=1e-5
    )


def test_a_file_that_its_runtime_can_not_use_is_stopped(converted: Converted, devices: dict[str, Any]) -> None:
    if "tflite-runtime" not in devices:
        pytest.skip("no environment with tflite-runtime")
    files = {RANK_MODEL: converted.rank, OWN: b"no model at all"}
    pythons = {"tflite-runtime": devices["tflite-runtime"].python}
    with pytest.raises(GateError, match=r"^finite \(tflite-runtime\): the runtime refuses the model"):
        pack(plain.ranker(), converted, files, manifest(), plain.slates(), pythons=pythons)


@pytest.mark.slow
def test_a_ranker_without_trainables_makes_a_bundle_that_ranks_and_does_not_learn() -> None:
    bundle = plain.make(trainable=()).bundle
    assert TRAIN_MODEL not in bundle.files
    assert bundle.params() == {}
    self_test(bundle)
    slates = plain.slates()
    found = score_slates(Scorer(bundle), slates.features, slates.mask)
    np.testing.assert_allclose(found, score(plain.ranker(), slates), atol=0.05)
    with pytest.raises(BundleError, match="this bundle can't learn"):
        Learner(bundle)


@pytest.mark.slow
@pytest.mark.usefixtures("converted")
def test_the_same_ranker_and_slates_give_the_same_bundle_byte_for_byte() -> None:
    """In this process, which converted the same before, and in a new one that hashes otherwise."""
    made = plain.make()
    assert made.bundle.manifest.quantization == {RANK_MODEL: "weight_int8"}
    there = subprocess.run(
        [sys.executable, "-m", "tests.export.plain"],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert there.stdout.split() == [made.bundle.digest]


def test_the_bundle_explains_every_feature_of_its_schema_in_its_largest_slate() -> None:
    scorer, schema = Scorer(shop.bundle()), shop.SCHEMA
    # A slate as it is, and one for each feature with columns.
    assert variants_of(schema) == 1 + len({f.name for f in schema.features for _ in schema.columns_of(f)})
    inputs, outputs = Model(shop.bundle().files[RANK_MODEL]).shapes(EXPLAIN)
    assert inputs["features"] == (variants_of(schema), scorer.largest, len(schema.columns))
    assert outputs["scores"] == (variants_of(schema), scorer.largest)


def test_a_feature_without_columns_takes_no_variant() -> None:
    field = Categories(name="genre", vocabulary=("a", "b"), model_input=False)
    assert variants_of(Schema((Number(name="price"), field))) == 2


def test_a_model_that_explains_other_scores_than_it_ranks_by_is_stopped() -> None:
    golden = shop.bundle().golden()
    head = {name: golden[name] for name, _ in trainables(make_test_bundle.student())}
    features, mask = golden["features"][:2], golden["mask"][:2]
    check_variants(Scorer(shop.bundle()), features, mask, head)

    class Other(Scorer):
        """Explains with the shared parameters, whichever it ranks with."""

        def variants(self, features: Array, params: Mapping[str, Array] | None = None) -> Array:
            del params
            return super().variants(features)

    with pytest.raises(GateError, match=r"explain: scores differ from ranking's by .* of their spread"):
        check_variants(Other(shop.bundle()), features, mask, head)


def test_a_model_that_can_not_explain_is_stopped() -> None:
    golden = shop.bundle().golden()
    content = shop.bundle().files[RANK_MODEL].replace(b"explain", b"exploit")
    scorer = Scorer(shop.with_files({RANK_MODEL: content}))
    with pytest.raises(GateError, match=r"explain: rank.tflite: no signature 'explain'"):
        check_variants(scorer, golden["features"], golden["mask"], scorer.params)
