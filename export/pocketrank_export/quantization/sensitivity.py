"""Which layers bear int8: each is quantized alone, and the scores on real slates are compared with the float ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketrank.features.profile import Array
from pocketrank.runtime import Model
from pocketrank_export.quantization.arithmetic import Arithmetic, apply
from pocketrank_export.quantization.layers import Calibration, Layer, check_calibration

SHARE: Final = 0.5
"""Of the damage of all layers together: what those that are quantized may cause."""


@dataclass(frozen=True)
class Damage:
    """What quantizing one layer alone does.

    Attributes:
        layer: Its name.
        size: How many weights it has.
        noise: Mean squared change of a score against the others of its slate, as a share of the float scores' variance
            within slates; infinite where scores are not finite. Small noise r^2 lowers Kendall's tau by about 2 r / pi.
    """

    layer: str
    size: int
    noise: float

    @property
    def per_weight(self) -> float:
        """Noise that a weight left in float would save."""
        return self.noise / self.size


def damages(content: bytes, measured: Sequence[Layer], calibration: Calibration) -> list[Damage]:
    """Measure layers one by one, quantized as ``Arithmetic.STORED`` does, in the runtime of this environment.

    Args:
        content: A float TFLite file.
        measured: Of its layers (``layers.layers``).
        calibration: Real slates: calls of signatures whose inputs hold ``mask`` and whose outputs hold ``scores``.

    Returns:
        Most noise a weight first; ties in the order of ``measured``.

    Raises:
        InputError: The slates don't fit.
    """
    slates = check_calibration(content, calibration, "sensitivity")
    exact, mask = _scores(content, slates)
    found = []
    for layer in measured:
        scores, _ = _scores(apply(content, [layer], Arithmetic.STORED), slates)
        found.append(Damage(layer.name, layer.size, noise(scores, exact, mask)))
    return sorted(found, key=lambda damage: -damage.per_weight)


def noise(scores: Array, exact: Array, mask: Array) -> float:
    """How far ``scores`` [s, n] are from ``exact`` [s, n], as ``Damage`` has it; moving a slate is no harm."""
    if not np.isfinite(scores).all():
        return float("inf")
    changed, spread = (_centred(values, mask) for values in (scores - exact, exact))
    power, variance = float(np.square(changed).sum()), float(np.square(spread).sum())
    if power == 0.0:
        return 0.0
    return power / variance if variance > 0 else float("inf")


def sensitive(found: Iterable[Damage]) -> tuple[str, ...]:
    """Layers to leave in float: those with most noise a weight, until the others cause at most ``SHARE`` of it all.

    The errors of layers are independent roundings, so that their noise adds up. It is counted by the weight, because
    that is what a layer in float costs. At least one layer is quantized, the one with least noise a weight.

    Args:
        found: Damage of each layer alone.

    Returns:
        Names, most noise a weight first; none where no layer does damage.
    """
    ranked = sorted(found, key=lambda damage: -damage.per_weight)
    allowed = SHARE * sum(damage.noise for damage in ranked if np.isfinite(damage.noise))
    left: list[str] = []
    for at, damage in enumerate(ranked[:-1]):
        if sum(other.noise for other in ranked[at:]) <= allowed:
            break
        left.append(damage.layer)
    return tuple(left)


def _scores(content: bytes, calibration: Calibration) -> tuple[Array, Array]:
    """Scores and masks of all slates, ``[s, n]``, padded to the largest signature."""
    model = Model(content)
    rows: list[tuple[Array, Array]] = []
    for signature, calls in calibration.items():
        for call in calls:
            n = call["mask"].shape[-1]
            rows.extend(
                zip(model.run(signature, **call)["scores"].reshape(-1, n), call["mask"].reshape(-1, n), strict=True)
            )
    width = max(len(mask) for _, mask in rows)
    scores, masks = (
        np.stack([np.pad(row[part], (0, width - len(row[part]))) for row in rows]).astype(np.float32) for part in (0, 1)
    )
    return scores, masks


def _centred(values: Array, mask: Array) -> npt.NDArray[np.float64]:
    """Values less the mean of their slate's real candidates; 0 where padded."""
    real = mask > 0
    kept = np.where(real, values, 0.0).astype(np.float64)
    mean = kept.sum(axis=1, keepdims=True) / np.maximum(real.sum(axis=1, keepdims=True), 1)
    return np.where(real, kept - mean, 0.0)
