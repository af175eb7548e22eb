"""Losses by name, and a weighted sum of several."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from torch import Tensor

from pocketrank.errors import InputError
from pocketrank_export.losses.distillation import kl, margin_mse, top_k
from pocketrank_export.losses.listwise import approx_ndcg, listmle, softmax
from pocketrank_export.losses.pairwise import lambda_ndcg, ranknet

Loss = Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor | None], Tensor]
"""``(scores, labels, teacher | None, mask, weights, propensities | None) -> []``, shapes as the losses have them."""

LABEL_LOSSES: Final[Mapping[str, Callable[..., Tensor]]] = MappingProxyType(
    {function.__name__: function for function in (softmax, ranknet, lambda_ndcg, listmle, approx_ndcg)}
)
"""``loss(scores, labels, mask, weights, propensities=None) -> []`` by name."""
TEACHER_LOSSES: Final[Mapping[str, Callable[..., Tensor]]] = MappingProxyType(
    {function.__name__: function for function in (kl, margin_mse, top_k)}
)
"""``loss(student, teacher, mask, temperature=1.0, weights=None) -> []`` by name."""
_DEFAULTS: Final = MappingProxyType({"temperature": 1.0, "k": 10})


@dataclass(frozen=True)
class Term:
    """One loss of a mixture.

    Attributes:
        name: One of ``LABEL_LOSSES`` or ``TEACHER_LOSSES``.
        weight: What the loss is multiplied by, > 0, finite.
        temperature: > 0, finite; for ``approx_ndcg`` and the losses of a teacher.
        k: >= 1, for ``top_k``.

    Raises:
        InputError: There is no such loss, a number is out of range, or the loss doesn't take what was set.
    """

    name: str
    weight: float = 1.0
    temperature: float = 1.0
    k: int = 10

    def __post_init__(self) -> None:
        """Refuse what can't be computed."""
        known = {**LABEL_LOSSES, **TEACHER_LOSSES}
        if self.name not in known:
            raise InputError(f"losses: there is no loss {self.name!r}; choose from {', '.join(known)}")
        for field in ("weight", "temperature"):
            value = getattr(self, field)
            if not 0.0 < value < math.inf:
                raise InputError(
                    f"{self.name}: {field}: expected a finite number above 0, got {value}; "
                    + ("leave the loss out to switch it off" if field == "weight" else "1 leaves scores as they are")
                )
        if self.k < 1:
            raise InputError(f"{self.name}: k: expected 1 or more of the teacher's best, got {self.k}")
        for field, default in _DEFAULTS.items():
            if getattr(self, field) != default and field not in inspect.signature(known[self.name]).parameters:
                raise InputError(
                    f"{self.name}: {field}: this loss takes none, got {getattr(self, field)}; leave it out"
                )

    @property
    def settings(self) -> dict[str, float]:
        """The keyword arguments that this term's loss takes."""
        function = LABEL_LOSSES.get(self.name) or TEACHER_LOSSES[self.name]
        return {field: getattr(self, field) for field in _DEFAULTS if field in inspect.signature(function).parameters}


def mixture(terms: Sequence[Term]) -> Loss:
    """The sum of ``terms``, each times its weight.

    Returns:
        A ``Loss``. It raises InputError for a loss of a teacher without a teacher's scores, and what its losses raise.

    Raises:
        InputError: There are no terms.
    """
    if not terms:
        raise InputError('losses: expected one or more, got none; the usual one is Term("softmax")')
    kept = tuple((term, term.settings) for term in terms)

    def loss(
        scores: Tensor,
        labels: Tensor,
        teacher: Tensor | None,
        mask: Tensor,
        weights: Tensor,
        propensities: Tensor | None,
    ) -> Tensor:
        total = scores.new_zeros(())
        for term, settings in kept:
            if term.name in LABEL_LOSSES:
                found = LABEL_LOSSES[term.name](scores, labels, mask, weights, propensities, **settings)
            elif teacher is None:
                raise InputError(
                    f"{term.name}: needs a teacher's scores, and there are none; "
                    f"give a teacher, or keep to losses of labels: {', '.join(LABEL_LOSSES)}"
                )
            else:
                found = TEACHER_LOSSES[term.name](scores, teacher, mask, weights=weights, **settings)
            total = total + term.weight * found
        return total

    return loss
