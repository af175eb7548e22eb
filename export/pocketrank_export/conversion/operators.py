"""What can't be converted, as an error that a person can act on.

Converters give up in their own ways: an exception of jax, of torch.export or of MLIR, or a file whose operators a
runtime doesn't know. Here each becomes an ``InputError`` that names the operator, where it can be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pocketrank.errors import InputError, PocketRankError
from pocketrank_export.chatter import quiet

_OPERATOR = re.compile(r"Lowering not found: ([\w.]+)|torch\.ops\.([\w.]+)|OpOverload\(op='([\w.]+)'")
_DEPENDS_ON_VALUES: Final = (
    "data-dependent",
    "get value out of a tracing tensor",
    "must be concrete",
    "where concrete value is expected",
)
_LAST_KNOWN: Final = 161
"""The newest operator that tflite-runtime 2.14 has a kernel for, RIGHT_SHIFT; StableHLO's come after it."""
_REMEDIES: Final = {
    "STABLEHLO_SCATTER": "the gradient of a lookup: leave the weights of nn.Embedding out of the trainables, or write "
    "the lookup as one-hot times matrix",
    "STABLEHLO_SORT": "made by sort, topk, argsort and median: leave these out",
}
_REMEDY: Final = "write it with products of matrices, elementwise functions, sums and maxima"


@contextmanager
def converting(target: str) -> Iterator[None]:
    """Hold back what converters chat about, and raise what they raise as an ``InputError`` that says what to do."""
    failure: Exception | None = None
    with quiet():
        try:
            yield
        except (PocketRankError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  (jax, torch.export, MLIR and onnxscript share no base class)
            failure = error
    if failure is not None:
        raise InputError(f"ranker: can't be converted to {target}: {_reason(failure)}") from failure


def check_operators(content: bytes) -> None:
    """Refuse a TFLite file with operators that tflite-runtime 2.14 doesn't know.

    Raises:
        InputError: An operator is newer, one of StableHLO's, or custom.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    found = {max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes}
    unknown = sorted(names[code] for code in found if code > _LAST_KNOWN or code == schema.BuiltinOperator.CUSTOM)
    if unknown:
        remedy = next((_REMEDIES[name] for name in unknown if name in _REMEDIES), _REMEDY)
        raise InputError(
            f"ranker: can't be converted to TFLite: runtimes on devices don't know {', '.join(unknown)} ({remedy})"
        )


def _reason(error: BaseException) -> str:
    """The first operator that an exception or one of its causes names, and what to do."""
    said: list[str] = []
    causes: BaseException | None = error
    while causes is not None:
        said.append(str(causes))
        causes = causes.__cause__ or causes.__context__
    text = "\n".join(said)
    found = _OPERATOR.search(text)
    operator = next(filter(None, found.groups()), "") if found else ""
    if any(words in text for words in _DEPENDS_ON_VALUES):
        named = f" at {operator}" if operator else ""
        return (
            f"its shapes or its course depend on values{named}; write an `if` on a tensor, `.item()` and indexing by "
            "booleans with torch.where or a product with the mask"
        )
    if operator:
        return f"it uses {operator}, which the converter doesn't know; {_REMEDY}"
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}; {_REMEDY}"
