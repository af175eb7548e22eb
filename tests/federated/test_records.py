import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pocketrank.errors import InputError
from pocketrank_federated.records import (
    from_array_record,
    read_reply,
    read_request,
    reply_content,
    request_content,
    to_array_record,
)
from tests.federated.toy import plan

CONFIG = plan().config(1, 3, "0" * 64)


def npy(value: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=value.dtype.hasobject)
    return buffer.getvalue()


def header(shape: str, descr: str = "<f4") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@given(arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=st.floats(width=32)))
def test_an_array_comes_back_bit_by_bit(value: npt.NDArray[np.float32]) -> None:
    found = from_array_record(to_array_record({"a": value}))["a"]
    assert found.shape == value.shape
    assert found.tobytes() == value.tobytes()


def test_an_array_in_another_memory_order_keeps_its_values() -> None:
    value = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(from_array_record(to_array_record({"a": value}))["a"], value)


def test_a_request_comes_back_as_it_was() -> None:
    config, params = read_request(request_content(CONFIG, {"w": np.ones(2, np.float32)}))
    assert config == CONFIG
    np.testing.assert_array_equal(params["w"], [1, 1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        npy(np.ones(3, np.float32))[:-1],
        npy(np.ones(3, np.float32)) + b"\0",
        npy(np.array([{}], dtype=object)),
        npy(np.asfortranarray(np.ones((2, 3), np.float32))),
        header("(1000000000000,)"),
        header("(0, 1000000000000)"),
        header("(-1,)"),
        header("(2,", "<f4"),
        header("(2,)", "no-type"),
        header("__import__('os').getpid()"),
        header("(" * 9000),
        b"\x93NUMPY\x03\x00" + npy(np.ones(3, np.float32))[8:],
    ],
    ids=[
        "empty", "garbage", "truncated", "surplus", "pickle", "fortran", "bomb", "empty bomb",
        "negative", "syntax", "dtype", "code", "deep", "version",
    ],
)  # fmt: skip
def test_bytes_that_are_no_plain_array_are_refused(data: bytes) -> None:
    record = ArrayRecord({"update": FlowerArray("float32", (3,), "numpy.ndarray", data)})
    with pytest.raises(InputError, match="update"):
        from_array_record(record)


def test_another_serialization_is_refused() -> None:
    record = ArrayRecord({"update": FlowerArray("float32", (3,), "pickle", npy(np.ones(3, np.float32)))})
    with pytest.raises(InputError, match="pickle"):
        from_array_record(record)


ARRAYS = to_array_record({"update": np.ones(3, np.float32)})


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"other": ARRAYS}),
        RecordDict({"update": MetricRecord({"loss": 1.0})}),
        RecordDict({"update": ARRAYS, "metrics": MetricRecord({"num-examples": 12})}),
        RecordDict({"update": to_array_record({"weights": np.ones(3, np.float32)})}),
    ],
    ids=["empty", "other key", "metrics", "metrics too", "other name"],
)
def test_a_reply_with_anything_but_the_update_is_refused(content: RecordDict) -> None:
    with pytest.raises(InputError):
        read_reply(content)


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"config": ConfigRecord(dict(CONFIG.to_scalars()))}),
        RecordDict({"config": ARRAYS, "params": ARRAYS}),
        RecordDict({"config": ConfigRecord({"server_round": 1}), "params": ARRAYS}),
        RecordDict({**request_content(CONFIG, {}), "code": ConfigRecord({"run": "import os"})}),
    ],
    ids=["empty", "no params", "arrays as config", "half a config", "surplus"],
)
def test_a_request_that_is_none_is_refused(content: RecordDict) -> None:
    with pytest.raises(InputError):
        read_request(content)


def test_a_reply_is_its_update() -> None:
    np.testing.assert_array_equal(read_reply(reply_content(np.arange(3, dtype=np.float32))), [0, 1, 2])
