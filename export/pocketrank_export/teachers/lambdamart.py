"""LightGBM's LambdaMART: the strongest teacher on tabular ranking data, and the adapter for one that exists."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from pocketrank.errors import ExtraMissingError, InputError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.evaluation import ndcg_each
from pocketrank_export.teachers.boosters import MAX_BYTES, columns_of
from pocketrank_export.teachers.teacher import checked, read_bounded

Floats = npt.NDArray[np.float64]

_MAX_GRADES: Final = 1024
_MAX_TREES: Final = 100_000
_MAX_LEAVES: Final = 131_072  # LightGBM's own bound


@dataclass(frozen=True)
class Trees:
    """How to boost.

    Attributes:
        trees: Boosting rounds at most.
        leaves: Leaves of a tree at most, >= 2.
        learning_rate: Shrinkage of each tree, in (0, 1].
        min_data: Rows in a leaf at least.
        column_share: Share of the columns that each tree sees, in (0, 1].
        slate_share: Share of the slates that each tree sees, in (0, 1].
        l2: Penalty of the leaves' squares, >= 0.
        truncation: Pairs are formed with the first so many places only; a little above the k of nDCG@k.
        patience: Trees without a better validation nDCG@10 before stopping; 0 never stops and keeps all trees.
        seed: Of the shares that are drawn.
        threads: Of LightGBM.
        objective: ``lambdarank``, or ``regression``: least squares on the grades. Beside lambdarank the latter makes a
            good ensemble where there are few slates.

    Raises:
        InputError: A value outside its range.
    """

    trees: int = 300
    leaves: int = 31
    learning_rate: float = 0.05
    min_data: int = 20
    column_share: float = 1.0
    slate_share: float = 1.0
    l2: float = 0.0
    truncation: int = 15
    patience: int = 0
    seed: int = 0
    threads: int = 1
    objective: Literal["lambdarank", "regression"] = "lambdarank"

    def __post_init__(self) -> None:
        if self.objective not in ("lambdarank", "regression"):
            raise InputError(f"objective: expected lambdarank or regression, got {self.objective!r}")
        whole = {
            "trees": (1, _MAX_TREES),
            "leaves": (2, _MAX_LEAVES),
            "min_data": (1, 2**31 - 1),
            "truncation": (1, 2**31 - 1),
            "patience": (0, _MAX_TREES),
            "seed": (0, 2**31 - 1),
            "threads": (1, 1024),
        }
        for name, (least, most) in whole.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise InputError(f"{name}: expected a whole number of {least} to {most}, got {value!r}")
        for name in ("learning_rate", "column_share", "slate_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InputError(f"{name}: expected a number above 0, 1 at most, got {getattr(self, name)!r}")
        if not 0.0 <= self.l2 < math.inf:
            raise InputError(f"l2: expected a finite number, 0 or more, got {self.l2!r}")


class Booster:
    """A LightGBM model as a teacher; scores are sums of leaves, before any link of its objective.

    Attributes:
        text: LightGBM's text format; ``name``, ``size_bytes`` as in ``Teacher``.
        width: Feature columns that it reads.
    """

    def __init__(self, name: str, text: str) -> None:
        """Read ``text``, as ``lightgbm.Booster.model_to_string`` gives it.

        Raises:
            InputError: It is not a whole model with one score a row, or larger than 256 MiB.
            ExtraMissingError: LightGBM is not installed.
        """
        self.name = name
        self.text = text
        self.size_bytes: int | None = len(text.encode())
        self.width = columns_of(text)
        lightgbm = _lightgbm()
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            raise InputError(f"teacher {name!r}: LightGBM can't read the model: {error}") from error

    @classmethod
    def load(cls, path: Path, name: str = "") -> Booster:
        """The model of a file; its name is by default the file's.

        Raises:
            InputError: The file can't be read, is larger than 256 MiB, or as in ``Booster``.
            ExtraMissingError: LightGBM is not installed.
        """
        content = read_bounded(path, MAX_BYTES)
        try:
            return cls(name or path.stem, content.decode())
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: expected LightGBM's text format; write it with Booster.save_model") from error

    def scores(self, slates: Slates) -> Array:
        """As ``Teacher.scores``; each candidate is scored by itself.

        Raises:
            InputError: The model reads another number of columns.
            GateError: A score is not finite.
        """
        found = np.zeros(slates.mask.shape, np.float64)
        width = slates.features.shape[-1]
        if width != self.width:
            raise InputError(
                f"teacher {self.name!r}: the model reads {self.width} columns, the slates have {width}; "
                "score with the columns that it was trained on, in their order"
            )
        real = slates.mask > 0
        if real.any():
            found[real] = self._booster.predict(slates.features[real], raw_score=True, num_threads=1)
        return checked(self.name, found, slates)


def fit_lambdamart(
    slates: Slates,
    validation: Slates,
    settings: Trees,
    progress: Callable[[float], None] = lambda _: None,
) -> Booster:
    """Train LambdaMART on ``slates``.

    Gains are handed over as they are: LightGBM wants small whole grades, so each distinct gain becomes a grade that is
    worth it. Beyond 1024 distinct gains they are first rounded to as many even steps.

    Where the slates have propensities ``p``, a pair of a relevant and another candidate is weighted by ``1 / p`` of the
    relevant one, the chance that it was looked at. LightGBM weights rows, not pairs: a relevant row gets its own
    ``1 / p``, another row the mean of its slate's relevant rows. Where one candidate of the slate is relevant that is
    exact, else it is near it.

    Args:
        slates: What to train on; those without a relevant candidate teach nothing and are left out.
        validation: Slates to stop early by, where ``settings.patience`` is above 0; never the test.
        settings: How.
        progress: Told the share of the work that is done.

    Returns:
        A teacher named ``lambdamart``, cut to its best round where it may stop early.

    Guarantees:
        The same slates, settings and version of LightGBM give the same text.

    Raises:
        InputError: No slate has a relevant candidate, columns differ, propensities outside (0, 1], or LightGBM refuses
            the data (more than 10,000 candidates a slate, say).
        ExtraMissingError: LightGBM is not installed.

    Source: Burges 2010, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82; Ke et al. 2017, LightGBM; pairs
        weighted by propensity: Wang et al. 2018, doi:10.1145/3159652.3159732.
    """
    lightgbm = _lightgbm()
    useful = slates.where(np.flatnonzero(slates.labels.any(axis=1)))
    if not len(useful):
        raise InputError("slates: expected one or more with a label above 0, got none; there is no order to learn")
    if settings.patience and (validation.features.shape[-1] != slates.features.shape[-1] or not len(validation)):
        raise InputError(
            f"validation: expected slates of {slates.features.shape[-1]} columns to stop early by, "
            f"got {list(validation.features.shape)}"
        )
    real = useful.mask > 0
    gains, grades = _graded(useful.labels[real])
    data = lightgbm.Dataset(
        useful.features[real], grades, group=useful.mask.sum(axis=1).astype(np.int64), weight=_weights(useful)
    )
    callbacks: list[Any] = [lambda state: progress((state.iteration + 1) / settings.trees)]
    watched: dict[str, Any] = {}
    if settings.patience:
        seen = validation.mask > 0
        groups = validation.mask.sum(axis=1).astype(np.int64)
        # LightGBM wants labels of them, too; what is measured comes from the slates.
        blank = np.zeros(int(seen.sum()))
        watched = {
            "valid_sets": [data.create_valid(validation.features[seen], blank, group=groups[groups > 0])],
            "feval": lambda scores, _: ("ndcg@10", _ndcg(scores, validation), True),
        }
        callbacks.append(lightgbm.early_stopping(settings.patience, verbose=False))
    try:
        trained = lightgbm.train(_parameters(settings, gains), data, settings.trees, callbacks=callbacks, **watched)
    except lightgbm.basic.LightGBMError as error:
        raise InputError(f"lambdamart: LightGBM refuses the slates: {error}") from error
    progress(1.0)
    return Booster("lambdamart", trained.model_to_string())


def _parameters(settings: Trees, gains: list[float]) -> dict[str, Any]:
    """LightGBM's parameters: the settings, and what makes two runs the same."""
    return {
        "objective": settings.objective,
        "metric": "None",
        "label_gain": gains,
        "lambdarank_truncation_level": settings.truncation,
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.min_data,
        "feature_fraction": settings.column_share,
        "bagging_fraction": settings.slate_share,
        "bagging_freq": int(settings.slate_share < 1.0),
        "bagging_by_query": True,
        "lambda_l2": settings.l2,
        "seed": settings.seed,
        "num_threads": settings.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _graded(labels: Array) -> tuple[list[float], npt.NDArray[np.int64]]:
    """Gains in ascending order, and each label's grade: its place among them."""
    levels, grades = np.unique(labels.astype(np.float64), return_inverse=True)
    if len(levels) > _MAX_GRADES:
        steps = np.round(labels.astype(np.float64) / levels[-1] * (_MAX_GRADES - 1))
        levels, grades = np.unique(steps, return_inverse=True)
        levels *= float(labels.max()) / (_MAX_GRADES - 1)
    return levels.tolist(), grades


def _weights(slates: Slates) -> Floats | None:
    """Weights of the real rows, as ``fit_lambdamart`` says; None without propensities."""
    if slates.propensities is None:
        return None
    real = slates.mask > 0
    chances = np.where(real, slates.propensities, 1.0).astype(np.float64)
    if not ((chances > 0) & (chances <= 1)).all():
        slate, place = np.argwhere(~((chances > 0) & (chances <= 1)))[0]
        raise InputError(
            f"propensities: expected chances above 0, 1 at most; candidate {place} of slate {slate} of those with a "
            f"label has {chances[slate, place]}"
        )
    relevant = real & (slates.labels > 0)
    own = np.where(relevant, 1.0 / chances, 0.0)
    others = own.sum(axis=1, keepdims=True) / np.maximum(relevant.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.where(relevant, own, others)[real])


def _ndcg(flat: Floats, slates: Slates) -> float:
    """Mean nDCG@10 of scores of the real rows, in their order."""
    scores = np.zeros(slates.mask.shape, np.float32)
    scores[slates.mask > 0] = flat
    return float(ndcg_each(scores, slates).mean())


def _lightgbm() -> ModuleType:
    """LightGBM, or the way to get it."""
    try:
        import lightgbm
    except ImportError as error:
        raise ExtraMissingError('lambdamart: lightgbm is missing; pip install "pocketrank[export]"') from error
    module: ModuleType = lightgbm
    return module
