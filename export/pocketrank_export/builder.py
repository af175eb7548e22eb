"""A trained ranker becomes a bundle, in steps: converted, held against PyTorch, quantized, packed with golden vectors.

``build_bundle`` takes all of them. The same ranker and the same slates give the same bundle, byte for byte.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pocketrank.bundle import (
    GOLDEN,
    PARAMS,
    RANK_MODEL,
    RANK_MODELS,
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
from pocketrank.errors import GateError, InputError, ModelError
from pocketrank.features.profile import Array
from pocketrank.policy import Policy
from pocketrank.runtime import Model
from pocketrank.schema import Schema
from pocketrank.scorer import Scorer, input_name, variants_of
from pocketrank.verification import TOLERANCE, score_slates
from pocketrank_export.conversion.onnx import to_onnx
from pocketrank_export.conversion.ranking import SLATE_SIZES, to_tflite_rank
from pocketrank_export.conversion.training import to_tflite_train
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import score
from pocketrank_export.gates import Limits, Verdict, check
from pocketrank_export.gates import parity as held_against
from pocketrank_export.quantization.layers import Calibration
from pocketrank_export.quantization.recipes import CALIBRATED, quantize
from pocketrank_export.ranker import Ranker, trainables
from pocketrank_export.runtimes import score_on

GOLDEN_SLATES: Final = 5
PARITY_SLATES: Final = 8
"""Real slates on which conversions are held against PyTorch, and as many random ones."""

CALIBRATION_SLATES: Final = 64


@dataclass(frozen=True)
class Converted:
    """A ranker as files, all float32: two TFLite models (none to train where nothing is trainable) and an ONNX one."""

    rank: bytes
    train: bytes | None
    onnx: bytes
    slate_sizes: tuple[int, ...]


@dataclass(frozen=True)
class Built:
    """What came out: the bundle, for comparison the float TFLite model and the ONNX one as bytes, and their parity."""

    bundle: Bundle
    float_model: bytes
    onnx: bytes
    parity: tuple[Verdict, ...]


def params_of(ranker: Ranker) -> dict[str, Array]:
    """The trainable parameters' values, in the manifest's order."""
    state = ranker.state_dict()
    return {name: state[name].numpy().copy() for name, _ in trainables(ranker)}


def build_bundle(  # noqa: PLR0913  (each is a part of the bundle)
    ranker: Ranker,
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
    recipe: str = "weight_int8",
) -> Built:
    """Convert and quantize ``ranker``, and pack it with golden vectors.

    Args:
        ranker: Trained; its trainables are the bundle's parameters.
        schema: Whose columns ``ranker`` reads.
        slates: Real slates; the first few become the golden ones.
        name: Of the bundle.
        version: Of the bundle, >= 1.
        policy: What devices demand of rounds on it.
        data: What it was trained on, in words for a person.
        vectors: ``vectors.npz``, where the schema needs item vectors.
        slate_sizes: Candidates a signature.
        ranking: Rules for every slate, under those of the app.
        cascade: What chooses the candidates that the model sees.
        recipe: How the ranking model is quantized for all runtimes, one of ``quantization.recipes.RECIPES``.

    Raises:
        GateError: A conversion does not give the ranker's scores, or ``explain`` not those of ranking.
        InputError: The ranker and the schema differ in width, or there is no such recipe.
    """
    converted = convert(ranker, schema, slate_sizes)
    verdicts = parity(ranker, converted, slates)
    check(verdicts)
    manifest = Manifest(
        name=name,
        version=version,
        schema=schema,
        slate_sizes=converted.slate_sizes,
        trainable=tuple(Parameter(name, shape) for name, shape in trainables(ranker)),
        policy=policy,
        lineage=Lineage(data=data),
        ranking=Policy() if ranking is None else ranking,
        cascade=tuple(cascade),
        quantization={RANK_MODEL: recipe},
    )
    files = {RANK_MODEL: quantized(ranker, converted, slates, recipe)}
    bundle = pack(ranker, converted, files, manifest, slates, vectors=vectors)
    return Built(bundle, converted.rank, converted.onnx, tuple(verdicts))


def convert(ranker: Ranker, schema: Schema, slate_sizes: Sequence[int] = SLATE_SIZES) -> Converted:
    """Convert ``ranker``, which reads the columns of ``schema``; signatures for slates of ``slate_sizes`` candidates.

    Raises:
        InputError: The ranker and the schema differ in width.
    """
    if ranker.width != len(schema.columns):
        raise InputError(f"ranker: reads {ranker.width} columns, and the schema gives {len(schema.columns)}")
    rank = to_tflite_rank(ranker, slate_sizes, variants=variants_of(schema))
    train = to_tflite_train(ranker, slate=max(slate_sizes)) if ranker.trainable else None
    return Converted(rank, train, to_onnx(ranker), tuple(slate_sizes))


def parity(
    ranker: Ranker, converted: Converted, slates: Slates, bound: float | None = Limits.parity_error
) -> list[Verdict]:
    """Hold the ONNX model in onnxruntime and the TFLite one in the runtime here against PyTorch.

    Every ranking signature is tried, on real slates (cut or padded to its size) and on random ones of the same scales.

    Args:
        ranker: What was converted.
        converted: What came of it.
        slates: Real slates.
        bound: Largest error, as ``gates.parity`` measures it; None asks for nothing.
    """
    if bound is None:
        return []
    import onnxruntime

    session = onnxruntime.InferenceSession(converted.onnx, providers=["CPUExecutionProvider"])
    model = Model(converted.rank)
    params = {input_name(name): value for name, value in params_of(ranker).items()}
    expected, by_onnx, by_tflite = [], [], []
    for size in converted.slate_sizes:
        tried = slates.where(np.arange(min(PARITY_SLATES, len(slates)))).resized(size)
        tried = Slates.joined([tried, _random_like(tried)])
        expected.append(score(ranker, tried)[tried.mask > 0])
        for features, mask in zip(tried.features, tried.mask, strict=True):
            inputs = {"features": features, "mask": mask, **params}
            by_onnx.append(session.run(["scores"], inputs)[0][mask > 0])
            by_tflite.append(model.run(f"rank_{size}", **inputs)["scores"][mask > 0])
    wanted = np.concatenate(expected)
    return [
        held_against(name, np.concatenate(found), wanted, bound)
        for name, found in (("onnxruntime", by_onnx), (model.runtime, by_tflite))
    ]


def quantized(ranker: Ranker, converted: Converted, slates: Slates, recipe: str) -> bytes:
    """The ranking model of ``ranker`` by ``recipe``, calibrated on real ``slates`` where the recipe needs them.

    Raises:
        InputError: There is no such recipe, or it can't be made of this ranker.
    """
    given = calibration(ranker, slates, converted.slate_sizes) if recipe in CALIBRATED else None
    return quantize(converted.rank, recipe, given)


def calibration(ranker: Ranker, slates: Slates, slate_sizes: Sequence[int] = SLATE_SIZES) -> Calibration:
    """The first real slates as calls of the largest ranking signature, with the parameters as they are."""
    size = max(slate_sizes)
    params = {input_name(name): value for name, value in params_of(ranker).items()}
    chosen = slates.where(np.arange(min(CALIBRATION_SLATES, len(slates)))).resized(size)
    rows = zip(chosen.features, chosen.mask, strict=True)
    return {f"rank_{size}": [{"features": features, "mask": mask, **params} for features, mask in rows]}


def pack(
    ranker: Ranker,
    converted: Converted,
    rank_files: Mapping[str, bytes],
    manifest: Manifest,
    slates: Slates,
    *,
    vectors: bytes | None = None,
    pythons: Mapping[str, str | Path] | None = None,
) -> Bundle:
    """Make the bundle, with golden vectors that try every weight of its models.

    Args:
        ranker: Its trainables are the bundle's parameters.
        converted: What came of it.
        rank_files: Ranking models, ``rank.tflite`` and any of ``pocketrank.bundle.RANK_MODELS``, by the file's name.
        manifest: All but its table of files.
        slates: Real slates; the first few become the golden ones.
        vectors: ``vectors.npz``, where the schema needs item vectors.
        pythons: Interpreter of an environment by the runtime that it holds. The golden scores of a runtime's own file
            are made there; where there is none for it, here.

    Raises:
        GateError: ``explain`` does not give the scores of ranking, or a runtime can't use the file meant for it.
    """
    golden = golden_inputs(ranker, manifest.schema, slates)
    head = {name: golden[name] for name, _ in trainables(ranker)}
    files = {
        **({TRAIN_MODEL: converted.train} if converted.train is not None else {}),
        PARAMS: save_arrays(params_of(ranker)),
        GOLDEN: save_arrays(golden),
        **({VECTORS: vectors} if vectors is not None else {}),
    }
    plain = dataclasses.replace(manifest, quantization={})
    runtimes = {file: runtime for runtime, file in RANK_MODELS.items()}
    for file, content in rank_files.items():
        alone = build(plain, {**files, RANK_MODEL: content, PARAMS: save_arrays(head)})
        python = (pythons or {}).get(runtimes.get(file, ""))
        if python is None:
            scorer = Scorer(alone)
            check_variants(scorer, golden["features"], golden["mask"], head)
            scores = score_slates(scorer, golden["features"], golden["mask"])
        else:
            # Its self-test will compare the variants.
            scores = _scored_there(python, alone, golden)
        golden["scores" if file == RANK_MODEL else f"scores.{runtimes[file]}"] = scores
    return build(manifest, {**rank_files, **files, GOLDEN: save_arrays(golden)})


def golden_inputs(ranker: Ranker, schema: Schema, slates: Slates) -> dict[str, Array]:
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
    head = {name: rng.choice([-0.5, 0.5], size=shape).astype(np.float32) for name, shape in trainables(ranker)}
    return {"features": features, "mask": mask, **head}


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


def _scored_there(python: str | Path, bundle: Bundle, golden: Mapping[str, Array]) -> Array:
    """Scores ``[s, n]`` of the golden slates in the environment of ``python``."""
    mask = golden["mask"]
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(Path(folder) / "bundle")
        return score_on(python, Path(folder) / "bundle", Slates(golden["features"], mask, mask)).scores


def _random_like(slates: Slates) -> Slates:
    """As many full slates, each column drawn from a normal distribution of the mean and deviation that it has there."""
    rows = slates.features[slates.mask > 0].astype(np.float64)
    rng = np.random.default_rng(0)
    drawn = rng.normal(rows.mean(axis=0), rows.std(axis=0), slates.features.shape).astype(np.float32)
    return Slates(drawn, np.ones_like(slates.mask), np.ones_like(slates.mask))
