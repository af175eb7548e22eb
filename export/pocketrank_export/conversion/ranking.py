"""``rank.tflite``: a ranking signature for each slate size, and one that explains."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pocketrank.errors import InputError
from pocketrank.scorer import EXPLAIN
from pocketrank_export.conversion.inputs import prepared, rank_inputs, score
from pocketrank_export.conversion.tflite import convert
from pocketrank_export.ranker import Ranker

SLATE_SIZES = (16, 64, 128)


class _Ranker(nn.Module):
    """A ranker whose trainables come in by input name; the converter names its outputs by the keys of the result."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker

    def forward(self, features: Tensor, mask: Tensor, **parameters: Tensor) -> dict[str, Tensor]:
        return {"scores": score(self.ranker, features, mask, parameters)}


def to_tflite_rank(ranker: Ranker, slate_sizes: Sequence[int] = SLATE_SIZES, *, variants: int | None = None) -> bytes:
    """Convert a ranker for ranking; float32.

    Args:
        ranker: Its trainables become inputs, the rest constants.
        slate_sizes: Candidates a signature, each >= 1, no two alike.
        variants: Slates that ``explain`` scores in one call, v >= 1 (``pocketrank.scorer.variants_of`` a schema); None
            leaves that signature out.

    Returns:
        A TFLite file with one signature ``rank_{n}`` a slate size: inputs ``features`` ``[n, d]``, ``mask`` ``[n]`` and
        the trainables; output ``scores`` ``[n]``, 0 where padded. With ``variants`` also ``explain``, the same with an
        axis ``v`` before the others, of the largest slate size. All float32.

    Guarantees:
        The weights are in the file once, however many signatures there are.

    Raises:
        InputError: No slate sizes, two alike, or one below 1; ``variants`` below 1; the ranker can't be converted, see
            ``inputs.prepared`` and ``operators``.
    """
    sizes = tuple(slate_sizes)
    if not sizes or min(sizes) < 1 or len(set(sizes)) != len(sizes):
        raise InputError(
            f"slate_sizes: expected different sizes, each >= 1, got {sizes}; {SLATE_SIZES} is the usual choice"
        )
    if variants is not None and variants < 1:
        raise InputError(
            f"variants: expected 1 or more, got {variants}; pocketrank.scorer.variants_of gives a schema's"
        )
    module = _Ranker(prepared(ranker)).eval()
    signatures = {f"rank_{size}": (module, rank_inputs(ranker, size)) for size in sizes}
    if variants is not None:
        signatures[EXPLAIN] = module, rank_inputs(ranker, variants, max(sizes))
    return convert(signatures)
