"""Each environment of a device holds the runtime that it stands for, and nothing that only a builder has.

``scripts/test`` names the runtime that it expects in ``POCKETRANK_RUNTIME``; without it these tests ask nothing.
"""

import importlib.util
import os
from importlib.metadata import version

import pytest

from pocketrank.bundle import RANK_MODEL
from pocketrank.runtime import RUNTIMES, Model
from tests import shop

EXPECTED = os.environ.get("POCKETRANK_RUNTIME")
NUMPY = {"tflite-runtime": "1", "ai-edge-litert": "2"}
"""Major version of numpy that stands beside each runtime."""
BUILDERS = (
    "torch", "litert_torch", "ai_edge_quantizer", "onnx", "onnxruntime", "jax", "flwr", "grpc", "dp_accounting", "scipy"
)  # fmt: skip

pytestmark = pytest.mark.skipif(EXPECTED is None, reason="POCKETRANK_RUNTIME is not set: no device's environment")


def test_models_run_on_the_runtime_of_this_environment() -> None:
    assert Model(shop.bundle().files[RANK_MODEL]).runtime == EXPECTED


def test_the_other_runtime_is_not_here() -> None:
    other = {module for name, module in RUNTIMES.items() if name != EXPECTED}
    assert not any(importlib.util.find_spec(module.partition(".")[0]) for module in other)


def test_numpy_is_the_one_that_the_runtime_is_met_with() -> None:
    assert EXPECTED is not None
    assert version("numpy").split(".")[0] == NUMPY[EXPECTED]


@pytest.mark.parametrize("name", BUILDERS)
def test_a_device_holds_nothing_of_a_builder(name: str) -> None:
    assert importlib.util.find_spec(name) is None
