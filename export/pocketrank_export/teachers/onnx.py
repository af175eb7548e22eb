"""An ONNX model as a teacher, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketrank.errors import ExtraMissingError, InputError, ModelError
from pocketrank.features.profile import Array
from pocketrank_export.data.slates import Slates
from pocketrank_export.teachers.teacher import checked, read_bounded

MAX_BYTES: Final = 512 << 20
_ROWS: Final = 65_536  # scored at once by a pointwise model
_DTYPES: Final[dict[str, Any]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
    "tensor(int64)": np.int64,
}
_FORMS: Final = (
    "expected features [rows, d] (pointwise), features [n, d] and mask [n] (one slate), or features [b, n, d] with or "
    "without mask [b, n] (listwise), and one output of the scores, all but d dynamic"
)


class OnnxTeacher:
    """An ONNX model on the CPU, in one thread.

    What its inputs are decides how it is run: features ``[rows, d]`` alone score each candidate by itself; with a mask
    ``[n]``, or as ``[b, n, d]``, each slate is scored alone, cut to its real candidates, so that padding can't matter.

    Attributes:
        name: As in ``Teacher``, and ``size_bytes``.
    """

    def __init__(self, name: str, content: bytes) -> None:
        """Read the bytes of an ``.onnx`` file.

        Raises:
            InputError: It is no ONNX model, larger than 512 MiB, keeps tensors in other files (these are never
                followed), or its inputs and outputs have other shapes or types.
            ExtraMissingError: onnx or onnxruntime is not installed.
        """
        if len(content) > MAX_BYTES:
            raise InputError(f"teacher {name!r}: {len(content)} bytes; expected at most {MAX_BYTES}")
        self.name = name
        self.size_bytes: int | None = len(content)
        self._session = _session(name, content)
        self._features, self._mask = _inputs(name, self._session)

    @classmethod
    def load(cls, path: Path, name: str = "") -> OnnxTeacher:
        """The model of a file; its name is by default the file's.

        Raises:
            InputError: The file can't be read, or as in ``OnnxTeacher``.
            ExtraMissingError: onnx or onnxruntime is not installed.
        """
        return cls(name or path.stem, read_bounded(path, MAX_BYTES))

    def scores(self, slates: Slates) -> Array:
        """As ``Teacher.scores``.

        Raises:
            InputError: The model reads another number of columns, or gives another number of scores.
            ModelError: The model fails on these slates.
            GateError: A score is not finite.
        """
        width, wanted = slates.features.shape[-1], self._features.shape[-1]
        if isinstance(wanted, int) and wanted != width:
            raise InputError(
                f"teacher {self.name!r}: the model reads {wanted} columns, the slates have {width}; "
                "score with the columns that it was trained on, in their order"
            )
        found = np.zeros(slates.mask.shape, np.float64)
        real = slates.mask > 0
        if self._mask is None and len(self._features.shape) == 2:
            rows = slates.features[real]
            parts = [self._run(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]
            found[real] = np.concatenate(parts) if parts else 0.0
        else:
            for slate in np.flatnonzero(real.any(axis=1)):
                found[slate, real[slate]] = self._run(slates.features[slate, real[slate]])
        return checked(self.name, found, slates)

    def _run(self, rows: Array) -> npt.NDArray[np.float64]:
        """Scores ``[n]`` of ``rows`` [n, d], which are one slate where the model is not pointwise."""
        lead = (1,) * (len(self._features.shape) - 2)
        feed = {self._features.name: rows.reshape(*lead, *rows.shape).astype(_DTYPES[self._features.type])}
        if self._mask is not None:
            feed[self._mask.name] = np.ones((*lead, len(rows)), _DTYPES[self._mask.type])
        try:
            (scores,) = self._session.run(None, feed)
        except Exception as error:  # onnxruntime's errors share no other base
            raise ModelError(f"teacher {self.name!r}: fails on features {list(rows.shape)}: {error}") from error
        shape = (*lead, len(rows))
        if scores.shape not in {shape, (*shape, 1)}:
            raise InputError(
                f"teacher {self.name!r}: expected scores {list(shape)} of {len(rows)} candidates, got "
                f"{list(scores.shape)}; {_FORMS}"
            )
        return np.asarray(scores, np.float64).reshape(len(rows))


def _session(name: str, content: bytes) -> Any:
    """An onnxruntime session of a model that holds all of its tensors."""
    try:
        import onnx
        import onnxruntime
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ExtraMissingError(
            f'teacher {name!r}: onnx and onnxruntime are needed; pip install "pocketrank[export]"'
        ) from error
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise InputError(f"teacher {name!r}: not an ONNX model: {error}") from error
    if outside := next((t.name for t in _tensors(model, onnx.TensorProto) if t.external_data or t.data_location), None):
        raise InputError(
            f"teacher {name!r}: tensor {outside!r} lies in another file, which is never followed; "
            "save the model as one file: onnx.save(model, path, save_as_external_data=False)"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no other base
        raise InputError(f"teacher {name!r}: onnxruntime can't read the model: {error}") from error


def _tensors(message: Any, kind: type) -> Iterator[Any]:
    """All tensors in a model, in whatever graph, function or attribute."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _tensors(part, kind)


def _inputs(name: str, session: Any) -> tuple[Any, Any | None]:
    """The inputs of the features and of the mask, if there is one."""
    given, made = session.get_inputs(), session.get_outputs()
    features, *others = sorted(given, key=lambda each: -len(each.shape)) or [None]
    ranks = tuple(len(each.shape) for each in (features, *others)) if features else ()
    lead = max(len(features.shape) - 2, 0) if features else 0
    # The number of candidates is dynamic; a batch of one slate may be fixed.
    free = all(
        not any(isinstance(n, int) for n in each.shape[lead : lead + 1])
        and not any(isinstance(b, int) and b != 1 for b in each.shape[:lead])
        for each in given
    )
    typed = all(each.type in _DTYPES for each in given)
    floats = features is not None and _DTYPES.get(features.type) in {np.float32, np.float64, np.float16}
    if ranks not in {(2,), (2, 1), (3,), (3, 2)} or len(made) != 1 or not free or not typed or not floats:
        inputs, outputs = (
            ", ".join(f"{each.name} {each.type} {list(each.shape)}" for each in side) for side in (given, made)
        )
        raise InputError(f"teacher {name!r}: inputs: {inputs}; outputs: {outputs}; {_FORMS}")
    return features, others[0] if others else None
