"""Between Flower's records and plain numpy, reading as if the other end were hostile."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from pocketrank.bundle import Array
from pocketrank.errors import InputError
from pocketrank_federated.messages import CONFIG, PARAMS, UPDATE, RoundConfig, update_from_arrays, update_to_arrays

_NUMPY: Final = "numpy.ndarray"
_MAX_SIDE: Final = 1 << 31
_HEADER: Final = re.compile(
    rb"\x93NUMPY\x01\x00(..)"
    rb"\{'descr': '([<|][fiu][1248])', 'fortran_order': False, 'shape': \(([0-9, ]{0,99})\), \} *\n",
    re.DOTALL,
)
"""Format 1.0 of ``.npy`` as ``numpy.save`` writes it. Numpy's own reader evaluates the header as Python, by way of a
tokenizer that raises errors of its own kind."""


def to_array_record(arrays: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    """Arrays by name as Flower sends them."""
    return ArrayRecord({name: FlowerArray(np.asarray(value, order="C")) for name, value in arrays.items()})


def from_array_record(record: ArrayRecord) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name, read-only.

    An array is taken only if its bytes hold exactly the shape and type that its
    header states: a small message can't ask for much memory, and nothing is unpickled.

    Raises:
        InputError: An array is not of that form.
    """
    return {name: _decode(name, array) for name, array in record.items()}


def request_content(config: RoundConfig, params: Mapping[str, Array]) -> RecordDict:
    """What a device is sent."""
    return RecordDict({CONFIG: ConfigRecord(dict(config.to_scalars())), PARAMS: to_array_record(params)})


def read_request(content: RecordDict) -> tuple[RoundConfig, dict[str, npt.NDArray[Any]]]:
    """What a device was sent.

    Raises:
        InputError: It is not such a request.
    """
    config, params = content.get(CONFIG), content.get(PARAMS)
    if len(content) != 2 or not isinstance(config, ConfigRecord) or not isinstance(params, ArrayRecord):
        raise InputError(f"request: expected the records {CONFIG!r} and {PARAMS!r}, got {sorted(content)}")
    return RoundConfig.from_scalars(config), from_array_record(params)


def reply_content(update: Array) -> RecordDict:
    """What a device answers."""
    return RecordDict({UPDATE: to_array_record(update_to_arrays(update))})


def read_reply(content: RecordDict) -> npt.NDArray[Any]:
    """The array that a device answered; its type, shape and norm are still unchecked.

    Raises:
        InputError: It is not such a reply.
    """
    record = content.get(UPDATE)
    if len(content) != 1 or not isinstance(record, ArrayRecord):
        raise InputError(f"reply: expected the one record {UPDATE!r}, got {sorted(content)}")
    return update_from_arrays(from_array_record(record))


def _decode(name: str, array: FlowerArray) -> npt.NDArray[Any]:
    header = _HEADER.match(array.data)
    if array.stype != _NUMPY or header is None or header.end() != 10 + int.from_bytes(header[1], "little"):
        raise InputError(f"array {name!r}: expected the bytes of numpy.save, got others, serialized as {array.stype!r}")
    dtype = np.dtype(header[2].decode())
    shape = tuple(int(size) for size in re.findall(rb"[0-9]+", header[3]))
    body = array.data[header.end() :]
    if len(body) != math.prod(shape) * dtype.itemsize or max(shape, default=0) > _MAX_SIDE:
        raise InputError(f"array {name!r}: {len(body)} bytes can't be {dtype} {shape}")
    return np.frombuffer(body, dtype).reshape(shape)
