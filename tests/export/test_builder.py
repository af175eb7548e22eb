"""A trained student becomes a bundle; ``tests/data/shop`` is one, and can be made again."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from pocketrank.bundle import GOLDEN, RANK_MODEL
from pocketrank.errors import GateError
from pocketrank.features.profile import Array
from pocketrank.runtime import Model
from pocketrank.schema import Categories, Number, Schema
from pocketrank.scorer import EXPLAIN, Scorer, variants_of
from pocketrank_export.builder import check_onnx, check_variants, params_of
from pocketrank_export.conversion.onnx import to_onnx
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import score
from pocketrank_export.ranker import trainables
from tests import make_test_bundle, shop


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


def test_an_onnx_model_of_another_student_is_stopped() -> None:
    slates = make_test_bundle.slates()
    student = make_test_bundle.student()
    onnx = to_onnx(student)
    check_onnx(onnx, student, slates)
    with torch.no_grad():
        next(iter(student.layers.parameters())).add_(0.5)
    with pytest.raises(GateError, match=r"onnx: scores differ from PyTorch's by"):
        check_onnx(onnx, student, slates)


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
