"""A trained student becomes a bundle: converted, quantized, checked against PyTorch on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pocketrank.bundle import (
    GOLDEN,
    PARAMS,
    RANK_MODEL,
    TRAIN_MODEL,
    VECTORS,
    Bundle,
    Lineage,
    Manifest,
    Parameter,
    PrivacyPolicy,
    build,
    save_arrays,
)
from pocketrank.cascade import Prune
from pocketrank.errors import GateError, ModelError
from pocketrank.features.profile import Array
from pocketrank.policy import Policy
from pocketrank.schema import Schema
from pocketrank.scorer import Scorer, input_name, variants_of
from pocketrank.verification import TOLERANCE, score_slates
from pocketrank_export.conversion.onnx import to_onnx
from pocketrank_export.conversion.ranking import SLATE_SIZES, to_tflite_rank
from pocketrank_export.conversion.training import to_tflite_train
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import score
from pocketrank_export.quantization.recipes import weight_int8
from pocketrank_export.ranker import trainables
from pocketrank_export.student import Student

GOLDEN_SLATES: Final = 5
MAX_ONNX_ERROR: Final = 1e-4


@dataclass(frozen=True)
class Built:
    """What came out: the bundle, and for comparison the float TFLite model and the ONNX one, as bytes."""

    bundle: Bundle
    float_model: bytes
    onnx: bytes


def params_of(student: Student) -> dict[str, Array]:
    """The trainable parameters' values, in the manifest's order."""
    state = student.state_dict()
    return {name: state[name].numpy().copy() for name, _ in trainables(student)}


def build_bundle(  # noqa: PLR0913  (each is a part of the bundle)
    student: Student,
    schema: Schema,
    slates: Slates,
    *,
    name: str,
    version: int,
    policy: PrivacyPolicy,
    data: str,
    vectors: bytes | None = None,
    slate_sizes: Sequence[int] = SLATE_SIZES,
    ranking: Policy | None = None,
    cascade: Sequence[Prune] = (),
) -> Built:
    """Convert and quantize ``student``, and pack it with golden vectors.

    Args:
        student: Trained; its trainables are the bundle's parameters.
        schema: Whose columns ``student`` reads.
        slates: Real slates; the first few become the golden ones.
        name: Of the bundle.
        version: Of the bundle, >= 1.
        policy: What devices demand of rounds on it.
        data: What it was trained on, in words for a person.
        vectors: ``vectors.npz``, where the schema needs item vectors.
        slate_sizes: Candidates a signature.
        ranking: Rules for every slate, under those of the app.
        cascade: What chooses the candidates that the model sees.

    Raises:
        GateError: ONNX does not give the student's scores, or ``explain`` not those of ranking.
    """
    float_model = to_tflite_rank(student, slate_sizes, variants=variants_of(schema))
    onnx = to_onnx(student)
    params = params_of(student)
    check_onnx(onnx, student, slates)
    golden = golden_inputs(student, schema, slates)
    files = {
        RANK_MODEL: weight_int8(float_model),
        TRAIN_MODEL: to_tflite_train(student, slate=max(slate_sizes)),
        PARAMS: save_arrays(params),
        GOLDEN: save_arrays(golden),
        **({VECTORS: vectors} if vectors is not None else {}),
    }
    manifest = Manifest(
        name=name,
        version=version,
        schema=schema,
        slate_sizes=tuple(slate_sizes),
        trainable=tuple(Parameter(name, shape) for name, shape in trainables(student)),
        policy=policy,
        lineage=Lineage(data=data),
        ranking=Policy() if ranking is None else ranking,
        cascade=tuple(cascade),
    )
    scorer = Scorer(build(manifest, files))
    head = {name: golden[name] for name in params}
    golden["scores"] = score_slates(scorer, golden["features"], golden["mask"], head)
    check_variants(scorer, golden["features"], golden["mask"], head)
    return Built(build(manifest, {**files, GOLDEN: save_arrays(golden)}), float_model, onnx)


def golden_inputs(student: Student, schema: Schema, slates: Slates) -> dict[str, Array]:
    """Slates and head parameters that try every weight of the model.

    The private columns and the head are drawn at random: nobody's own features
    ship in a bundle, and vectors that don't depend on the parameters stay the
    same when rounds improve these.

    Returns:
        ``features`` [s, n, d], ``mask`` [s, n], and each trainable parameter by name.
    """
    rng = np.random.default_rng(0)
    features, mask = slates.features[:GOLDEN_SLATES].copy(), slates.mask[:GOLDEN_SLATES]
    features[..., schema.private_columns] = rng.normal(size=(*mask.shape, int(schema.private_columns.sum())))
    features *= mask[..., None]
    head = {name: rng.choice([-0.5, 0.5], size=shape).astype(np.float32) for name, shape in trainables(student)}
    return {"features": features, "mask": mask, **head}


def check_onnx(onnx: bytes, student: Student, slates: Slates) -> None:
    """Run ``onnx`` in onnxruntime on the golden slates and compare with PyTorch.

    Raises:
        GateError: A score differs by more than ``MAX_ONNX_ERROR``.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    head = {input_name(name): value for name, value in params_of(student).items()}
    expected = score(student, slates)[:GOLDEN_SLATES]
    worst = 0.0
    for features, mask, wanted in zip(slates.features, slates.mask, expected, strict=False):
        (scores,) = session.run(["scores"], {"features": features, "mask": mask, **head})
        worst = max(worst, float(np.abs(scores - wanted).max()))
    if not worst <= MAX_ONNX_ERROR:
        raise GateError(f"onnx: scores differ from PyTorch's by {worst:.2g}, <= {MAX_ONNX_ERROR} wanted")


def check_variants(scorer: Scorer, features: Array, mask: Array, params: Mapping[str, Array]) -> None:
    """Score slates ``[s, n, d]`` in the signatures that rank and as variants, and compare.

    Raises:
        GateError: A score differs by more than ``TOLERANCE`` of their standard deviation, or the model can't score
            variants.
    """
    for slate, real in zip(features, mask > 0, strict=True):
        # Each variant is another slate: the same columns, begun with another one.
        variants = np.stack([np.roll(slate[real], turn, axis=1) for turn in range(scorer.most_variants)])
        expected = np.stack([scorer.scores(variant, params) for variant in variants])
        try:
            found = scorer.variants(variants, params)
        except ModelError as error:
            raise GateError(f"explain: {error}") from error
        worst = float(np.abs(found - expected).max()) / max(float(expected.std()), 1e-6)
        if not worst <= TOLERANCE:
            raise GateError(f"explain: scores differ from ranking's by {worst:.2g} of their spread, > {TOLERANCE}")
